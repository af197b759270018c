//! Sockets on the loopback interface of a private namespace.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::link::{LinkConfig, configure, set_mtu};
use crate::netns::Netns;
use crate::poll::{Epoll, Events};
use crate::syscall::interface_index;

const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

const UDP_NO_CHECK6_TX: c_int = 101;
const UDP_NO_CHECK6_RX: c_int = 102;

/// Runs `test` where every port is free and loopback is up.
fn in_namespace(test: impl FnOnce() + Send) {
    let namespace = Netns::create().unwrap();
    let loopback = LinkConfig { name: "lo", addresses: &[], routes: &[] };
    configure(&namespace, &loopback).unwrap();
    namespace.run(test).unwrap();
}

/// A datagram or several, as the tests compare them.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    from: SocketAddr,
    ecn: u8,
    segment: usize,
    data: Vec<u8>,
}

/// The next `count` datagrams, which may take a while on a busy machine, and nothing after them.
fn receive_all(socket: &UdpSocket, batch: &mut ReceiveBatch, count: usize) -> Vec<Message> {
    let epoll = Epoll::new().unwrap();
    epoll.add(socket.as_fd(), 0, false).unwrap();
    let mut events = Events::with_capacity(1);
    let mut messages = Vec::new();
    while datagrams(&messages).len() < count {
        assert_eq!(epoll.wait(&mut events, Some(Duration::from_secs(5))).unwrap(), 1);
        for index in 0..socket.receive(batch).unwrap() {
            let Received { from, ecn, segment, truncated, data } = batch.message_mut(index);
            assert!(!truncated);
            messages.push(Message { from, ecn, segment, data: data.to_vec() });
        }
    }
    assert_eq!(socket.receive(batch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    messages
}

/// Lets the kernel deliver what was sent, where a test counts the messages of a batch.
fn settle() {
    std::thread::sleep(Duration::from_millis(200));
}

fn datagrams(messages: &[Message]) -> Vec<Vec<u8>> {
    messages.iter().flat_map(|message| split(&message.data, message.segment)).collect()
}

/// The datagrams of `segment` bytes in `data`; an empty one too.
fn split(data: &[u8], segment: usize) -> Vec<Vec<u8>> {
    let empty = data.is_empty().then(Vec::new);
    data.chunks(segment).map(<[u8]>::to_vec).chain(empty).collect()
}

/// `len` bytes, different in each datagram and place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn byte_four_picks_the_socket() {
    in_namespace(|| {
        for ip in ADDRESSES {
            let group = bind_group(SocketAddr::new(ip, 0), 4).unwrap();
            let to = group[0].local_addr().unwrap();
            assert!(group.iter().all(|socket| socket.local_addr().unwrap() == to));
            let mut batch = ReceiveBatch::new().unwrap();
            for sender in 0..8_u8 {
                let lane = bind_lane(ip, 20_000..=20_100).unwrap();
                let worker = sender % 4;
                lane.send(&to, 0, 100, &[0, 1, 2, 3, worker, 5]).unwrap();
                lane.send(&to, 0, 6, &[9, 9, 9, 9, worker, 5].repeat(3)).unwrap();
                receive_all(&group[usize::from(worker)], &mut batch, 4);
                for other in &group {
                    receive_all(other, &mut batch, 0);
                }
            }
            let lane = bind_lane(ip, 20_000..=20_100).unwrap();
            lane.send(&to, 0, 100, b"four").unwrap();
            receive_all(&group[0], &mut batch, 1);
        }
    });
}

#[test]
fn batches_are_segmented_and_joined_with_their_ecn() {
    in_namespace(|| {
        for ip in ADDRESSES {
            let lane = bind_lane(ip, 20_000..=20_000).unwrap();
            let receiver = bind_group(SocketAddr::new(ip, 4000), 1).unwrap().remove(0);
            let (from, to) = (lane.local_addr().unwrap(), receiver.local_addr().unwrap());
            let mut batch = ReceiveBatch::new().unwrap();
            for ecn in 0..4 {
                let data = pattern(63 * 1024 + 900);
                lane.send(&to, ecn, 1024, &data).unwrap();
                let messages = receive_all(&receiver, &mut batch, 64);
                assert_eq!(messages, [Message { from, ecn, segment: 1024, data }]);
            }
            // More than two ECN bits never get out.
            lane.send(&to, 0xff, 1024, b"x").unwrap();
            lane.send(&to, 0, 1024, b"").unwrap();
            let (x, empty) = (b"x".to_vec(), Vec::new());
            assert_eq!(
                receive_all(&receiver, &mut batch, 2),
                [
                    Message { from, ecn: 3, segment: 1, data: x },
                    Message { from, ecn: 0, segment: 1, data: empty },
                ]
            );
            assert!(lane.gso_enabled());
        }
    });
}

#[test]
fn single_and_joined_messages_mix_in_a_batch() {
    in_namespace(|| {
        let lane = bind_lane(ADDRESSES[0], 20_000..=20_000).unwrap();
        let receiver = bind_group(SocketAddr::new(ADDRESSES[0], 0), 1).unwrap().remove(0);
        let to = receiver.local_addr().unwrap();
        let mut batch = ReceiveBatch::new().unwrap();
        let mut expected = Vec::new();
        for (segment, len) in
            [(100, 100), (1000, 3500), (1400, 1), (700, 64 * 700), (1200, 1200), (8, 24)]
        {
            let data = pattern(len);
            lane.send(&to, 0, segment, &data).unwrap();
            expected.extend(split(&data, segment));
        }
        settle();
        assert_eq!(receiver.receive(&mut batch).unwrap(), 6);
        assert!(batch.drained() && batch.len() == 6);
        let segments: Vec<_> = (0..6).map(|index| batch.message_mut(index).segment).collect();
        assert_eq!(segments, [100, 1000, 1, 700, 1200, 8]);
        let received: Vec<_> = (0..6)
            .flat_map(|index| {
                let message = batch.message_mut(index);
                split(message.data, message.segment)
            })
            .collect();
        assert_eq!(received, expected);
        assert_eq!(receiver.receive(&mut batch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(batch.is_empty() && batch.drained());
    });
}

#[test]
fn the_batch_shrinks_for_large_messages_and_grows_again() {
    in_namespace(|| {
        let lane = bind_lane(ADDRESSES[0], 20_000..=20_000).unwrap();
        let receiver = bind_group(SocketAddr::new(ADDRESSES[0], 0), 1).unwrap().remove(0);
        let to = receiver.local_addr().unwrap();
        let mut batch = ReceiveBatch::new().unwrap();
        let large = pattern(64 * 1000);
        for _ in 0..5 {
            lane.send(&to, 0, 1000, &large).unwrap();
        }
        for _ in 0..60 {
            lane.send(&to, 0, 1000, b"small").unwrap();
        }
        let mut counts = Vec::new();
        settle();
        while let Ok(count) = receiver.receive(&mut batch) {
            counts.push(count);
        }
        assert_eq!(counts, [32, 2, 31], "large ones seen, then only small ones");
        for _ in 0..15 {
            lane.send(&to, 0, 1000, &large).unwrap();
        }
        counts.clear();
        settle();
        while let Ok(count) = receiver.receive(&mut batch) {
            counts.push(count);
        }
        assert_eq!(counts, [15]);
        for _ in 0..3 {
            lane.send(&to, 0, 1000, &large).unwrap();
        }
        settle();
        assert_eq!(receiver.receive(&mut batch).unwrap(), 2);
        assert!(!batch.drained());
    });
}

#[test]
fn a_refused_segmented_send_goes_out_singly() {
    in_namespace(|| {
        for ip in ADDRESSES {
            let lane = bind_lane(ip, 20_000..=20_000).unwrap();
            let receiver = bind_group(SocketAddr::new(ip, 0), 1).unwrap().remove(0);
            let (from, to) = (lane.local_addr().unwrap(), receiver.local_addr().unwrap());
            // The kernel refuses to segment (EINVAL) for a socket that sends without checksums;
            // IPv6 has options of its own for that, on both ends.
            if ip.is_ipv4() {
                set_option(lane.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
            } else {
                set_option(lane.as_fd(), libc::SOL_UDP, UDP_NO_CHECK6_TX, 1).unwrap();
                set_option(receiver.as_fd(), libc::SOL_UDP, UDP_NO_CHECK6_RX, 1).unwrap();
            }
            let data = pattern(20 * 500 + 17);
            lane.send(&to, 2, 500, &data).unwrap();
            assert!(!lane.gso_enabled());
            let mut batch = ReceiveBatch::new().unwrap();
            let messages = receive_all(&receiver, &mut batch, 21);
            let expected = split(&data, 500);
            assert_eq!(datagrams(&messages), expected);
            assert!(messages.iter().all(|message| (message.from, message.ecn) == (from, 2)));
            lane.send(&to, 0, 500, &data).unwrap();
            assert_eq!(datagrams(&receive_all(&receiver, &mut batch, 21)), expected);
        }
    });
}

#[test]
fn a_datagram_over_the_mtu_is_not_blamed_on_segmentation() {
    in_namespace(|| {
        set_mtu(interface_index("lo").unwrap(), 1500).unwrap();
        let lane = bind_lane(ADDRESSES[0], 20_000..=20_000).unwrap();
        let to = SocketAddr::new(ADDRESSES[0], 4000);
        for len in [2000, 10_000] {
            let error = lane.send(&to, 0, 2000, &pattern(len)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "{len}");
        }
        assert!(lane.gso_enabled());
        lane.send(&to, 0, 1472, &pattern(10_000)).unwrap();
        let error = lane.send(&to, 0, 100, &pattern(6401)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(lane.gso_enabled());
    });
}

#[test]
fn ports_are_not_shared_by_accident() {
    in_namespace(|| {
        let addr = SocketAddr::new(ADDRESSES[0], 4000);
        let group = bind_group(addr, 2).unwrap();
        let error = bind_group(addr, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(bind_lane(ADDRESSES[0], 4000..=4000).is_err());
        // IPv6 sockets leave IPv4 alone.
        bind_group(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4000), 2).unwrap();
        let lane = bind_lane(ADDRESSES[0], 4000..=4001).unwrap();
        assert_eq!(lane.local_addr().unwrap().port(), 4001);
        let error = bind_lane(ADDRESSES[0], 4000..=4001).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("4000 to 4001"), "{error}");
        drop(group);
        bind_group(addr, GROUP_MAX).unwrap();
        for count in [0, GROUP_MAX + 1] {
            let error = bind_group(addr, count).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_full_send_buffer_says_so_and_has_room_again_later() {
    const SENDS_MAX: usize = 10_000;
    in_namespace(|| {
        // One datagram after the other, and a queue that is longer than the send buffer.
        let tc = "qdisc replace dev lo root tbf rate 400mbit burst 65535 limit 64mb";
        let slow = std::process::Command::new("tc").args(tc.split(' ')).status().unwrap();
        assert!(slow.success());
        let sender = bind_lane(ADDRESSES[0], 4000..=4000).unwrap();
        let to = (Ipv4Addr::LOCALHOST, 5000).into();
        let send = || sender.send(&to, 0, 1380, &[7; 44 * 1380]);
        let refused = (0..SENDS_MAX).find_map(|_| send().err()).expect("a bounded send buffer");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let waited = sender.wait_writable(Duration::from_millis(5));
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Some 200 KB have left: too little to be reported as writable, enough for a send.
        send().unwrap();
        sender.wait_writable(Duration::from_secs(5)).unwrap();
        assert!(sender.gso_enabled(), "a full buffer is no reason to send singly");
    });
}
