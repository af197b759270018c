use std::net::TcpListener;

use super::*;

const LINK: LinkSlot = LinkSlot(3);

fn key(number: u8, opener: Opener) -> StreamKey {
    StreamKey { link: LINK, number, opener }
}

/// A stream of worker 0, and the other end.
fn with_stream(opener: Opener) -> (Streams, TcpStream) {
    let mut streams = Streams::new(0).unwrap();
    let far = add(&mut streams, key(0, opener));
    (streams, far)
}

fn add(streams: &mut Streams, key: StreamKey) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    streams.add(key, near);
    far
}

fn datagram(len: usize, byte: u8) -> Vec<u8> {
    let mut bytes = vec![byte; len];
    bytes[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    bytes
}

/// Waits until something is ready and hands over all datagrams of what is read.
fn receive(streams: &mut Streams) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    for _ in 0..1000 {
        let ready = streams.ready().unwrap();
        for at in &ready {
            if let Some(mut reading) = streams.read(*at) {
                let result = reading.each(|segment, run| {
                    got.extend(run.chunks(segment).map(<[u8]>::to_vec));
                });
                streams.end_reading(reading, result.err());
            }
        }
        if !ready.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    got
}

#[test]
fn datagrams_arrive_whole_however_the_bytes_come() {
    let (mut streams, mut far) = with_stream(Opener::Us);
    let sent: Vec<_> = (0..20).map(|i| datagram(44 + 31 * usize::from(i), i)).collect();
    let mut bytes = Vec::new();
    for datagram in &sent {
        write_records(datagram.len(), datagram, &mut bytes);
    }
    let mut got = Vec::new();
    for part in bytes.chunks(97) {
        far.write_all(part).unwrap();
        got.extend(receive(&mut streams));
    }
    assert_eq!(got, sent);
    assert_eq!(streams.poll_lost(), None);
}

#[test]
fn what_is_sent_is_records() {
    let (mut streams, mut far) = with_stream(Opener::Us);
    let data = [datagram(1000, 1), datagram(1000, 2), datagram(300, 3)].concat();
    streams.send(LINK, 1000, &data).unwrap();
    let mut bytes = vec![0; RECORD_HEADER_LEN + data.len()];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(split_record(&bytes), Ok(Some(Record { body: &data, rest: &[] })));
    let other = streams.send(LinkSlot(4), 1000, &data).unwrap_err();
    assert_eq!(other.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_stream_that_takes_no_more_loses_whole_datagrams_and_keeps_its_order() {
    let (mut streams, mut far) = with_stream(Opener::Us);
    let mut taken = Vec::new();
    let mut refused = 0;
    for i in 0..4000_u32 {
        let mut data = datagram(16_000, 0);
        data[4..8].copy_from_slice(&i.to_be_bytes());
        match streams.send(LINK, 16_000, &data) {
            Ok(()) => taken.push(i),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "it waits for nobody");
    let waiting = streams.all[0].as_ref().unwrap();
    assert!(waiting.queue.len() - waiting.sent <= QUEUE_MAX + 64 * RECORD_HEADER_LEN);
    for i in taken {
        let mut bytes = vec![0; RECORD_HEADER_LEN + 16_000];
        // Room again is a reason to write.
        let mut at = 0;
        while at < bytes.len() {
            streams.ready().unwrap();
            at += far.read(&mut bytes[at..]).unwrap();
        }
        assert_eq!(bytes[RECORD_HEADER_LEN + 4..][..4], i.to_be_bytes());
    }
}

#[test]
fn an_end_is_said_once() {
    let (mut streams, far) = with_stream(Opener::Peer);
    drop(far);
    assert_eq!(receive(&mut streams), Vec::<Vec<u8>>::new());
    assert_eq!(streams.poll_lost(), Some(key(0, Opener::Peer)));
    assert_eq!(streams.poll_lost(), None);
    assert!(streams.send(LINK, 44, &datagram(44, 0)).is_err());
}

#[test]
fn nonsense_ends_it() {
    for nonsense in [&b"GET / HTTP/1.1\r\n"[..], &[0x17, 3, 3, 0, 1], &[0x17, 3, 3, 0, 44, 0x11]] {
        let (mut streams, mut far) = with_stream(Opener::Peer);
        let good = datagram(50, 7);
        let mut bytes = Vec::new();
        write_records(50, &good, &mut bytes);
        bytes.extend_from_slice(nonsense);
        bytes.resize(bytes.len() + 50, 0);
        far.write_all(&bytes).unwrap();
        assert_eq!(receive(&mut streams), [good], "what came before is good");
        assert_eq!(streams.poll_lost(), Some(key(0, Opener::Peer)));
        let mut rest = Vec::new();
        // Closed with what was not read: reset.
        assert!(!matches!(far.read_to_end(&mut rest), Ok(1..)));
    }
}

#[test]
fn a_worker_sends_on_its_own_number_whoever_opened_it() {
    let mut streams = Streams::new(1).unwrap();
    let _zero = add(&mut streams, key(0, Opener::Us));
    assert!(streams.send(LINK, 44, &datagram(44, 0)).is_err(), "that is another worker's");
    let mut ours = add(&mut streams, key(1, Opener::Us));
    let mut theirs = add(&mut streams, key(1, Opener::Peer));
    let arrives = |streams: &mut Streams, far: &mut TcpStream| {
        streams.send(LINK, 44, &datagram(44, 0)).unwrap();
        far.read_exact(&mut [0; RECORD_HEADER_LEN + 44]).unwrap();
    };
    arrives(&mut streams, &mut theirs);
    streams.remove(LINK, Some(Opener::Peer));
    arrives(&mut streams, &mut ours);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "closed");
    streams.remove(LINK, None);
    assert!(streams.send(LINK, 44, &datagram(44, 0)).is_err());
    assert_eq!(streams.poll_lost(), None, "nobody has to be told");
}

#[test]
fn one_with_the_same_key_takes_the_place() {
    let (mut streams, mut old) = with_stream(Opener::Us);
    let mut new = add(&mut streams, key(0, Opener::Us));
    assert_eq!(old.read(&mut [0]).unwrap(), 0, "closed");
    streams.send(LINK, 44, &datagram(44, 0)).unwrap();
    new.read_exact(&mut [0; RECORD_HEADER_LEN + 44]).unwrap();
}
