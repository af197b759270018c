//! Real devices in private namespaces: a "host" where they are made, a "container" that gets them.

use std::net::UdpSocket;
use std::time::Duration;

use super::test_container::{INNER, OPTIONS, container};
use super::*;
use crate::netns::Netns;
use crate::packet::PacketSocket;
use crate::poll::{Epoll, Events};

/// The next packet whose IP version and protocol are IPv4 and `protocol` (the kernel sends
/// multicast reports of its own), or `None` after a second.
fn read_ipv4(queue: &TunQueue, protocol: u8, buf: &mut [u8]) -> Option<usize> {
    let epoll = Epoll::new().unwrap();
    epoll.add(queue.as_fd(), 0, false).unwrap();
    let mut events = Events::with_capacity(1);
    while epoll.wait(&mut events, Some(Duration::from_secs(1))).unwrap() > 0 {
        let len = queue.read(buf).unwrap();
        if buf[VNET_HEADER_LEN] >> 4 == 4 && buf[VNET_HEADER_LEN + 9] == protocol {
            return Some(len);
        }
    }
    None
}

#[test]
fn packets_leave_and_enter_the_container() {
    let (container, queues) = container(1);
    let socket = container.run(|| UdpSocket::bind((INNER, 4000)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.send_to(b"ping", "10.7.0.2:5000").unwrap();
    let mut buf = [0; 2048];
    let len = read_ipv4(&queues[0], 17, &mut buf).unwrap();
    assert_eq!(len, VNET_HEADER_LEN + 28 + 4);
    assert_eq!(&buf[len - 4..len], b"ping");
    // NEEDS_CSUM, no segmentation, checksum from the UDP header at the checksum field.
    assert_eq!(buf[..VNET_HEADER_LEN], [1, 0, 0, 0, 0, 0, 20, 0, 6, 0]);

    // Turn it around and send it back in two parts; the zero UDP checksum says "none".
    let packet = &mut buf[VNET_HEADER_LEN..len];
    let (source, destination) = packet[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    let (source, destination) = packet[20..24].split_at_mut(2);
    source.swap_with_slice(destination);
    packet[26..28].fill(0);
    packet[28..].copy_from_slice(b"pong");
    buf[..VNET_HEADER_LEN].fill(0);
    let (head, payload) = buf[..len].split_at(VNET_HEADER_LEN + 28);
    assert_eq!(queues[0].write(head, payload).unwrap(), len);
    let mut answer = [0; 16];
    let (len, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..len], from), (&b"pong"[..], "10.7.0.2:5000".parse().unwrap()));
}

#[test]
fn superpackets_come_out_whole_and_long_packets_are_cut() {
    let (container, queues) = container(1);
    let socket = container.run(|| UdpSocket::bind((INNER, 4000)).unwrap()).unwrap();
    crate::syscall::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 1000).unwrap();
    socket.send_to(&[7; 10_500], "10.7.0.2:5000").unwrap();
    let mut buf = vec![0; 65_536];
    let len = read_ipv4(&queues[0], 17, &mut buf).unwrap();
    assert_eq!(len, VNET_HEADER_LEN + 28 + 10_500);
    assert_eq!(buf[1], 5, "VIRTIO_NET_HDR_GSO_UDP_L4");
    assert_eq!(u16::from_le_bytes([buf[4], buf[5]]), 1000);

    socket.send_to(&[7; 900], "10.7.0.2:5000").unwrap();
    assert_eq!(read_ipv4(&queues[0], 17, &mut buf[..100]).unwrap(), 100);
}

#[test]
fn hostile_header_fields_reach_us_unchanged() {
    let (container, queues) = container(1);
    let raw = container
        .run(|| PacketSocket::open(interface_index("weft0").unwrap(), true).unwrap())
        .unwrap();
    // A checksum over the ports, written to the destination port.
    let mut packet = vec![1, 0, 0, 0, 0, 0, 20, 0, 2, 0];
    packet.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2]);
    packet.extend([1, 2, 3, 4, 0, 12, 0, 0, 9, 9, 9, 9]);
    raw.send(&packet).unwrap();
    let mut buf = [0; 2048];
    let len = read_ipv4(&queues[0], 17, &mut buf).unwrap();
    assert_eq!(buf[..len], packet);

    // And the other way: what we write is captured with its header.
    buf[..VNET_HEADER_LEN].fill(0);
    queues[0].write(&buf[..VNET_HEADER_LEN], &buf[VNET_HEADER_LEN..len]).unwrap();
    let mut seen = [0; 2048];
    loop {
        let len = raw.recv(&mut seen, Duration::from_secs(1)).unwrap();
        if seen[..len] == buf[..len] {
            break;
        }
    }
}

#[test]
fn a_device_that_is_down_or_gone_says_so() {
    let host = Netns::create().unwrap();
    let tun = host.run(|| Tun::create(&OPTIONS).unwrap()).unwrap();
    let queues = tun.into_queues();
    let mut buf = [0; 64];
    buf[VNET_HEADER_LEN] = 0x45;
    let down = queues[0].write(&buf, &[]).unwrap_err();
    assert_eq!(down.raw_os_error(), Some(libc::EIO));
    assert_eq!(queues[0].read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    queues[0].reassert().unwrap();

    // The queues were opened in `host` and do not keep the container's namespace alive.
    let (container, queues) = container(2);
    drop(container);
    let gone = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        queues[1].read(&mut buf).err().filter(|e| e.kind() != io::ErrorKind::WouldBlock)
    });
    assert_eq!(gone.unwrap().raw_os_error(), Some(libc::EBADFD));
    assert_eq!(queues[1].reassert().unwrap_err().raw_os_error(), Some(libc::EBADFD));
}

#[test]
fn bad_options_and_taken_names_are_refused() {
    let host = Netns::create().unwrap();
    host.run(|| {
        for options in [
            TunOptions { name: "", ..OPTIONS },
            TunOptions { name: "sixteen-letters-", ..OPTIONS },
            TunOptions { queues: 0, ..OPTIONS },
            TunOptions { queues: QUEUES_MAX + 1, ..OPTIONS },
            TunOptions { gso_max_size: 1 << 24, ..OPTIONS },
        ] {
            let error = Tun::create(&options).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{options:?}: {error}");
        }
        let _first = Tun::create(&OPTIONS).unwrap();
        let taken = Tun::create(&OPTIONS).unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(libc::EBUSY));
    })
    .unwrap();
}
