//! Every fuzz target over its committed corpus and over seeded changes of it, with a stable
//! compiler. `WEFT_CORPUS_WRITE=1` writes the seeds of the corpora anew, `WEFT_FUZZ_ROUNDS=n`
//! changes every file so often.

#[expect(unreachable_pub, reason = "public in the fuzz crate, whose file it is")]
#[path = "../../fuzz/src/pair.rs"]
mod pair;
#[expect(unreachable_pub, reason = "public in the fuzz crate, whose file it is")]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use pair::{Memory, Pair, addresses};
use weft_sim::{
    packet::{Flow, Packet, Sum, Transport, tcp},
    rng::Rng,
};
use weft_types::ReceiverIndex;
use weft_wire::{
    Control, Kind, Metadata, VirtioHeader,
    hello::{Frame, Hello},
};

const ROUNDS: usize = 400;
/// Longest input that is made.
const INPUT_LEN_MAX: usize = 70_000;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn flow(side: usize, six: bool) -> Flow {
    let family = usize::from(six);
    Flow {
        source: addresses(side)[family],
        destination: addresses(1 - side)[family],
        ports: (40_000, 443),
    }
}

fn packets() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (family, six) in [("4", false), ("6", true)] {
        let stream = Transport::Tcp { sequence: 9, flags: tcp::ACK | tcp::PSH, options: 12 };
        let with = |transport, len| Packet::new(flow(0, six), transport, vec![7; len]);
        let mut add = |name: &str, data| all.insert(format!("{name}{family}"), data);
        add("tcp-superpacket", with(stream, 250).superpacket(100));
        add("tcp", with(stream, 20).unfinished());
        add("udp-superpacket", with(Transport::Udp, 70).superpacket(40));
        add("udp-65-segments", with(Transport::Udp, 65 * 3).superpacket(3));
        add("udp", with(Transport::Udp, 20).unfinished());
        add("echo", with(Transport::Echo, 20).complete());
        add("esp", with(Transport::Other(50), 20).complete());
        let mut nowhere = with(Transport::Udp, 20);
        nowhere.flow.destination = Pair::GATEWAYS[usize::from(six)];
        add("nowhere", nowhere.unfinished());
        // A tunnel in the container: the checksum to make is not the outer one.
        let mut elsewhere = with(Transport::Udp, 60).unfinished();
        elsewhere[6..8].copy_from_slice(&60u16.to_ne_bytes());
        add("checksum-elsewhere", elsewhere);
    }
    all
}

fn extensions() -> Vec<u8> {
    let inner = Packet::new(flow(0, true), Transport::Udp, vec![7; 20]).bytes(Sum::Full);
    let mut packet = inner[..40].to_vec();
    packet[4..6].copy_from_slice(&52u16.to_be_bytes());
    packet[6] = 0;
    packet.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend([44, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend([17, 0, 0, 1, 0, 0, 0, 9]);
    packet.extend_from_slice(&inner[40..]);
    packet
}

/// Plaintexts of three chunks of a TCP superpacket.
fn chunks() -> Vec<Vec<u8>> {
    let stream = Transport::Tcp { sequence: 9, flags: tcp::ACK, options: 0 };
    let bytes = Packet::new(flow(0, false), stream, vec![7; 250]).bytes(Sum::Pseudo);
    let (header, payload) = bytes.split_at(40);
    let virtio = VirtioHeader {
        flags: 1,
        gso_type: 1,
        hdr_len: 40,
        gso_size: 100,
        csum_start: 20,
        csum_offset: 16,
    };
    let plain = |(chunk, part): (u8, &[u8])| {
        [part, header, &Metadata { virtio, chunk, count: 3 }.encode()].concat()
    };
    (0..).zip(payload.chunks(100)).map(plain).collect()
}

fn listed(plains: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, plain) in plains {
        let flag = if *kind == Kind::Control { 0x8000 } else { 0 };
        let len = u16::try_from(plain.len()).expect("short") | flag;
        out.extend(len.to_be_bytes());
        out.extend_from_slice(plain);
    }
    out
}

fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    match target {
        "container_frame" => all = packets(),
        "inner_packet" => {
            all = packets().into_iter().map(|(name, data)| (name, data[10..].to_vec())).collect();
            all.insert("extensions".into(), extensions());
        }
        "datagram" => {
            let mut pair = Pair::fresh();
            for (name, mut data) in packets() {
                let mut io = Memory::default();
                pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data, &mut io);
                let Some(first) = io.datagrams.first() else { continue };
                let segment = u16::try_from(first.len()).expect("short");
                let mut input = segment.to_be_bytes().to_vec();
                input.push(2);
                input.extend(io.datagrams.iter().take(4).flatten());
                all.insert(name, input);
            }
        }
        "frame_metadata" => {
            let data = |plain: &Vec<u8>| (Kind::Data, plain.clone());
            let chunks: Vec<_> = chunks().iter().map(data).collect();
            all.insert("chunks".into(), listed(&chunks));
            all.insert("gap".into(), listed(&[chunks[0].clone(), chunks[2].clone()]));
            let mut mixed = chunks;
            mixed.insert(1, (Kind::Control, Control::Confirm.encode().to_vec()));
            let udp = Packet::new(flow(0, true), Transport::Udp, vec![7; 20]).bytes(Sum::Pseudo);
            let virtio =
                VirtioHeader { flags: 1, csum_start: 40, csum_offset: 6, ..Default::default() };
            let metadata = Metadata { virtio, chunk: 0, count: 1 }.encode();
            let whole = (Kind::Data, [&udp[..], &metadata].concat());
            mixed.extend([whole.clone(), whole.clone()]);
            all.insert("mixed".into(), listed(&mixed));
            all.insert("whole".into(), listed(&[whole]));
        }
        "hello" => {
            let hello = Hello {
                lanes: 2,
                uso: true,
                datagram_max: 1472,
                instance: [7; 16],
                generation: 3,
                no_aes: false,
            };
            let indices = (0..64).map(|i| ReceiverIndex(i << 24 | 77)).collect();
            let frames = [
                ("hello", Frame::Hello(hello)),
                ("indices", Frame::Indices(indices)),
                ("ready", Frame::Ready),
            ];
            let mut together = Vec::new();
            for (name, frame) in frames {
                let mut bytes = Vec::new();
                frame.encode(&mut bytes).expect("valid");
                together.extend_from_slice(&bytes);
                all.insert(name.into(), bytes);
            }
            all.insert("all".into(), together);
        }
        "helper" => {
            for (name, text) in REQUESTS {
                all.insert(name.into(), text.into());
            }
        }
        _ => {
            all.insert("full.toml".into(), FULL.into());
            all.insert("wrong.toml".into(), WRONG.into());
            all.insert(
                "minimal.toml".into(),
                "host = \"a\"\nlisten = \"[::1]:1\"\napi = \"x\"\n".into(),
            );
        }
    }
    all
}

const REQUESTS: [(&str, &str); 7] = [
    ("hello", r#"{"hello":{"version":1}}"#),
    (
        "open",
        r#"{"open":{"name":["acme","web-1"],"netns":"/run/netns/web1","interface":"weft0",
        "addresses":[["10.40.0.2",16],["fd40::2",64]],"queues":2,"mtu":1408,"gso_max_size":60500,
        "gso_max_segs":64,"queue_len":1000}}"#,
    ),
    ("close", r#"{"close":["acme","web-1"]}"#),
    ("settle", r#""settle""#),
    ("ended", r#""ended""#),
    ("end", r#""end""#),
    ("retire", r#""retire""#),
];

const FULL: &str = r#"
host = "host-a"
listen = "192.0.2.1:5820"
api = "/run/weft/weftd.sock"
metrics = "127.0.0.1:9820"
workers = 2
engine = "uring"

[log]
level = "info"
format = "json"

[keys]
epoch_datagrams_max = 64
epoch_seconds_max = 1
rehandshake_seconds = 5

[[environment]]
id = "acme"
subnet = "10.40.0.0/16"
subnet6 = "fd40::/64"
ca = "acme/ca.pem"
cert = "acme/host-a.pem"
key = "acme/host-a.key"

  [[environment.attachment]]
  name = "web-1"
  netns = "/run/netns/web1"
  interface = "weft0"
  address = "10.40.0.2"
  address6 = "fd40::2"

  [[environment.peer]]
  host = "host-b"
  endpoint = "192.0.2.2:5820"
  addresses = ["10.40.0.3", "10.40.0.4", "fd40::3"]
"#;

const WRONG: &str = r#"
host = 7
listen = "nowhere"
colour = "green"
workers = 65
engine = "io_uring"
[[environment]]
id = "acme"
subnet = "10.40.0.0/33"
[[environment]]
id = "acme"
  [[environment.attachment]]
  name = "web_1"
  address = ["10.40.0.2"]
  [[environment.peer]]
  host = "host-a"
  addresses = ["10.40.0.0", "10.40.0.0", "224.0.0.1"]
"#;

fn changed(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[rng.below(corpus.len())].clone();
    for _ in 0..rng.between(1, 4) {
        let at = rng.below(data.len() + 1);
        let byte = rng.bits().to_ne_bytes()[0];
        match rng.below(8) {
            0..=2 if at < data.len() => data[at] ^= 1 << rng.below(8),
            3 if at < data.len() => data[at] = byte,
            4 if at < data.len() => data[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            5 => data.truncate(at),
            6 => data.insert(at, byte),
            _ => {
                let other = &corpus[rng.below(corpus.len())];
                let from = rng.below(other.len() + 1);
                let piece = other[from..(from + rng.below(80)).min(other.len())].to_vec();
                let end = (at + rng.below(piece.len() + 1)).min(data.len());
                data.splice(at..end, piece);
            }
        }
    }
    data.truncate(INPUT_LEN_MAX);
    data
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(folder(target))
        .expect("a corpus is committed for every target")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("readable")).collect()
}

#[test]
fn every_target_survives_its_corpus_and_changes_of_it() {
    let rounds = std::env::var("WEFT_FUZZ_ROUNDS").map_or(ROUNDS, |n| n.parse().expect("a number"));
    for (name, target) in targets::ALL {
        if std::env::var_os("WEFT_CORPUS_WRITE").is_some() {
            fs::create_dir_all(folder(name)).unwrap();
            for (file, data) in seeds(name) {
                fs::write(folder(name).join(file), data).unwrap();
            }
        }
        let corpus = corpus(name);
        assert!(corpus.len() >= 3, "{name} has a corpus");
        for data in &corpus {
            target(data);
        }
        for seed in 0..(rounds * corpus.len()) as u64 {
            let data = changed(&mut Rng::new(seed), &corpus);
            let run = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(run.is_ok(), "target {name}, change {seed}: {data:02x?}");
        }
    }
}

/// A corpus that the targets refuse at the door tests nothing.
#[test]
fn corpora_reach_the_depths() {
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    for input in corpus("datagram") {
        let segment = usize::from(u16::from_be_bytes([input[0], input[1]]));
        let now = pair.now;
        pair.server.handle_datagrams(
            now,
            Pair::UNDERLAY,
            weft_wire::Ecn::Ect0,
            segment,
            &input[3..],
            &mut io,
        );
        pair.server.finish_receive(&mut io);
    }
    assert!(io.delivered.len() >= corpus("datagram").len() / 2);
    let sealed = corpus("container_frame").into_iter().filter(|data| {
        let mut io = Memory::default();
        let mut pair = Pair::fresh();
        pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data.clone(), &mut io);
        !io.datagrams.is_empty()
    });
    assert!(sealed.count() >= 12);
}
