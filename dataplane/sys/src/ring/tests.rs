//! A ring with real sockets and devices in private namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Instant;

use super::*;
use crate::link::{LinkConfig, configure};
use crate::netns::Netns;
use crate::poll::Waker;
use crate::process::forbid_io_uring;
use crate::tun::{TunQueue, test_container};
use crate::udp::{UdpSocket, bind_group, bind_lane};

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn this_kernel_has_what_is_needed() {
    Ring::probe().unwrap();
}

fn started() -> Ring {
    let mut ring = Ring::new().unwrap();
    ring.start().unwrap();
    ring
}

/// The next completion of `token`; what others there are is given back and forgotten.
fn next(ring: &mut Ring, token: u64) -> Option<Completion> {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        while let Some(completion) = ring.poll_completion() {
            if completion.token == token {
                return Some(completion);
            }
            if let Some(loan) = completion.loan {
                ring.give_back(loan);
            }
        }
        ring.wait(Some(Duration::from_millis(100))).unwrap();
    }
    None
}

/// The next `count` messages of a receive, armed again when it ends.
fn receive(
    ring: &mut Ring,
    socket: &UdpSocket,
    token: u64,
    count: usize,
) -> Vec<(u8, usize, Vec<u8>)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let completion = next(ring, token).expect("a message");
        if let Some(mut loan) = completion.loan {
            let message = ring.message_mut(&mut loan);
            assert!(!message.truncated);
            messages.push((message.ecn, message.segment, message.data.to_vec()));
            ring.give_back(loan);
        }
        if !completion.more {
            ring.receive(socket.as_fd(), token).unwrap();
        }
    }
    messages
}

fn in_namespace(test: impl FnOnce() + Send) {
    let namespace = Netns::create().unwrap();
    let loopback = LinkConfig { name: "lo", addresses: &[], routes: &[] };
    configure(&namespace, &loopback).unwrap();
    namespace.run(test).unwrap();
}

#[test]
fn every_datagram_arrives_in_order_with_segment_and_ecn() {
    in_namespace(|| {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let socket = bind_group(SocketAddr::new(ip, 4000), 1).unwrap().remove(0);
            let lane = bind_lane(ip, 20_000..=20_000).unwrap();
            let mut ring = started();
            ring.receive(socket.as_fd(), 7).unwrap();
            // Before anything is armed, and more than there are buffers.
            for number in 0..100_u8 {
                let to = socket.local_addr().unwrap();
                lane.send(&to, number % 4, 500, &vec![number; 500 + usize::from(number)]).unwrap();
            }
            let messages = receive(&mut ring, &socket, 7, 100);
            for (number, (ecn, segment, data)) in (0..100_u8).zip(&messages) {
                assert_eq!(*ecn, number % 4);
                assert_eq!(*segment, 500);
                assert_eq!(*data, vec![number; 500 + usize::from(number)]);
            }
            // What did not fit one batch of buffers did not get lost, what comes later neither.
            lane.send(&socket.local_addr().unwrap(), 1, 1000, &vec![3; 60_000]).unwrap();
            let messages = receive(&mut ring, &socket, 7, 1);
            assert_eq!(messages, [(1, 1000, vec![3; 60_000])]);
        }
    });
}

#[test]
fn the_sender_is_known() {
    in_namespace(|| {
        let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let socket = bind_group(SocketAddr::new(ip, 4000), 1).unwrap().remove(0);
        let lane = bind_lane(ip, 20_000..=20_000).unwrap();
        let mut ring = started();
        ring.receive(socket.as_fd(), 1).unwrap();
        lane.send(&socket.local_addr().unwrap(), 0, 10, b"").unwrap();
        let mut loan = next(&mut ring, 1).unwrap().loan.unwrap();
        let message = ring.message_mut(&mut loan);
        assert_eq!((message.from, message.segment), (lane.local_addr().unwrap(), 1));
        assert!(message.data.is_empty() && !message.truncated);
    });
}

/// Sends `count` packets out of a container, numbered in their last byte.
fn send_out(container: &Netns, count: u8) {
    container
        .run(|| {
            let socket = std::net::UdpSocket::bind((test_container::INNER, 0)).unwrap();
            for number in 0..count {
                socket.send_to(&[number; 20], "10.7.0.2:5000").unwrap();
            }
        })
        .unwrap();
}

/// The numbers of the next `count` UDP packets of a queue, armed again when its read ends.
fn read(ring: &mut Ring, queue: &TunQueue, token: u64, count: usize) -> Vec<u8> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let completion = next(ring, token).expect("a packet");
        if let Some(mut loan) = completion.loan {
            numbers.extend(number(ring.packet_mut(&mut loan)));
            ring.give_back(loan);
        }
        if !completion.more {
            ring.read(queue.as_fd(), token).unwrap();
        }
    }
    numbers
}

/// The kernel sends reports of its own too.
fn number(packet: &[u8]) -> Option<u8> {
    let is_udp = packet[VNET_HEADER_LEN] >> 4 == 4 && packet[VNET_HEADER_LEN + 9] == 17;
    is_udp.then(|| packet[packet.len() - 1])
}

#[test]
fn packets_of_all_queues_share_the_buffers_and_keep_their_order() {
    let containers = [test_container::container(1), test_container::container(1)];
    let mut ring = started();
    for ((_, queues), token) in containers.iter().zip([10, 11]) {
        ring.read(queues[0].as_fd(), token).unwrap();
    }
    ring.wait(Some(Duration::ZERO)).unwrap();
    for ((container, queues), token) in containers.iter().zip([10, 11]) {
        send_out(container, 90);
        let expected: Vec<_> = (0..90).collect();
        assert_eq!(read(&mut ring, &queues[0], token, 90), expected);
    }
}

#[test]
fn a_queue_that_is_not_read_any_more_is_free() {
    for armed_only in [false, true] {
        let (container, mut queues) = test_container::container(1);
        let mut ring = started();
        ring.read(queues[0].as_fd(), 3).unwrap();
        if !armed_only {
            ring.wait(Some(Duration::ZERO)).unwrap();
            send_out(&container, 5);
        }
        ring.stop_reading(3).unwrap();
        // What was read before is still handed out, and the last completion is the end.
        let mut last = None;
        while let Some(completion) = ring.poll_completion() {
            last = Some(completion.more);
        }
        assert_eq!(last, Some(false));
        assert!(container.run(|| crate::syscall::interface_index("weft0")).unwrap().is_ok());
        drop(queues.pop());
        let gone = container.run(|| crate::syscall::interface_index("weft0")).unwrap();
        assert!(gone.is_err(), "the ring holds the queue");
    }
}

#[test]
fn an_end_that_another_wait_took_is_an_end() {
    let containers = [test_container::container(1), test_container::container(1)];
    let mut ring = started();
    for ((_, queues), token) in containers.iter().zip([1, 2]) {
        ring.read(queues[0].as_fd(), token).unwrap();
    }
    ring.wait(Some(Duration::ZERO)).unwrap();
    let (spaces, _queues): (Vec<_>, Vec<_>) = containers.into_iter().unzip();
    drop(spaces);
    // The kernel takes devices away some time after their namespaces.
    std::thread::sleep(Duration::from_millis(300));
    ring.wait(Some(Duration::ZERO)).unwrap();
    let start = Instant::now();
    for token in [1, 2] {
        ring.stop_reading(token).unwrap();
    }
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_device_that_disappears_ends_its_read() {
    let (container, queues) = test_container::container(1);
    let mut ring = started();
    ring.read(queues[0].as_fd(), 3).unwrap();
    ring.wait(Some(Duration::ZERO)).unwrap();
    drop(container);
    let end = loop {
        let completion = next(&mut ring, 3).expect("an end");
        if !completion.more {
            break completion;
        }
    };
    assert_eq!(end.result.unwrap_err().raw_os_error(), Some(libc::EBADFD));
}

#[test]
fn a_ring_that_is_dropped_lets_go_of_everything() {
    let (container, queues) = test_container::container(2);
    let mut ring = started();
    for (queue, token) in queues.iter().zip([1, 2]) {
        ring.read(queue.as_fd(), token).unwrap();
    }
    ring.wait(Some(Duration::ZERO)).unwrap();
    assert_eq!(ring.running, 2);
    let start = Instant::now();
    drop(ring);
    assert!(start.elapsed() < Duration::from_millis(500));
    drop(queues);
    assert!(container.run(|| crate::syscall::interface_index("weft0")).unwrap().is_err());
}

#[test]
fn wakes_from_other_threads_end_the_wait_each_time() {
    let waker = Waker::new().unwrap();
    let mut ring = started();
    ring.watch(waker.as_fd(), 5).unwrap();
    for _ in 0..3 {
        let other = waker.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.wake();
        });
        ring.wait(Some(LIMIT)).unwrap();
        let completion = ring.poll_completion().expect("a wake");
        assert!(completion.token == 5 && completion.more && completion.result.is_ok());
        waker.drain();
        thread.join().unwrap();
    }
    let start = Instant::now();
    ring.wait(Some(Duration::from_millis(30))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30) && ring.poll_completion().is_none());
}

#[test]
fn few_buffers_are_offered_while_messages_are_large() {
    in_namespace(|| {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let socket = bind_group(SocketAddr::new(ip, 4000), 1).unwrap().remove(0);
        let lane = bind_lane(ip, 20_000..=20_000).unwrap();
        let to = socket.local_addr().unwrap();
        let mut ring = started();
        ring.receive(socket.as_fd(), 7).unwrap();
        let mut offered = |bytes: usize| {
            for _ in 0..2 * usize::from(DATAGRAM_BUFFERS) {
                lane.send(&to, 0, 1400, &vec![1; bytes]).unwrap();
            }
            receive(&mut ring, &socket, 7, 2 * usize::from(DATAGRAM_BUFFERS));
            ring.wait(Some(Duration::ZERO)).unwrap();
            ring.datagrams.offered()
        };
        assert_eq!(offered(100), DATAGRAM_BUFFERS);
        assert_eq!(offered(60_000), pool::OFFERED_MIN);
        assert_eq!(offered(100), DATAGRAM_BUFFERS);
    });
}

#[test]
fn where_it_is_forbidden_the_error_says_so() {
    for (errno, words) in [(libc::EPERM, "forbidden"), (libc::ENOSYS, "not in this kernel")] {
        let error = std::thread::spawn(move || {
            forbid_io_uring(errno).unwrap();
            assert!(Ring::probe().is_err());
            Ring::new().err().unwrap()
        });
        let error = error.join().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_ring_does_nothing_else() {
    let mut ring = started();
    let path = c"/etc/hostname";
    let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build();
    let accept = opcode::Accept::new(Fd(0), std::ptr::null_mut(), std::ptr::null_mut()).build();
    for entry in [open, accept, opcode::Nop::new().build()] {
        ring.push(entry, NONE, 3).unwrap();
        let refused = next(&mut ring, 3).unwrap().result.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
    let mut probe = Probe::new();
    let refused = ring.uring.submitter().register_probe(&mut probe).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
}
