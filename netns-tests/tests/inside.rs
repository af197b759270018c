//! What containers run inside: tunnels of their own, protocols without ports, odd packets.

use std::collections::HashSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_tests::packets::{DESTINATION_OPTIONS, ESP, UDP, ip, udp_segment};
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::OVERLAY_INTERFACE;
use netns_tests::traffic::datagrams::{Flow, send, socket};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::traffic::transfer::transfer;
use netns_tests::vnet::{RawPort, Virtio};
use netns_tests::{ACME, Container, Family, Load, Plan, Result, Site, ensure, scenario};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const LIMIT: Duration = Duration::from_millis(500);
/// IP protocols without ports: GRE, ESP, SCTP, and one that is kept for experiments.
const PROTOCOLS: [u8; 4] = [47, ESP, 132, 253];
const PACKETS: usize = 500;

/// Both containers of a site on both hosts, and on one host.
const PAIRS: [(&str, &str); 2] = [("a1", "b1"), ("a1", "a2")];

#[test]
fn a_vxlan_inside_keeps_working() {
    for family in [Family::V4, Family::V6] {
        scenario(Load::Heavy, |world| {
            let site = Site::up(world, &Plan::pair().two_each())?;
            for (number, (a, b)) in (1..).zip(PAIRS) {
                let ends = [site.container(ACME, a)?, site.container(ACME, b)?];
                for (end, other, last) in [(ends[0], ends[1], 1), (ends[1], ends[0], 2)] {
                    let (local, remote) = (end.address(family), other.address(family));
                    end.ns.ip(&format!(
                        "link add vx{number} type vxlan id {number} local {local} remote {remote} \
                         dstport 4789 dev {OVERLAY_INTERFACE}"
                    ))?;
                    let address = format!("172.31.{number}.{last}/24");
                    end.ns.ip(&format!("address add {address} dev vx{number}"))?;
                    end.ns.ip(&format!("link set vx{number} up"))?;
                }
                let [near, far]: [IpAddr; 2] =
                    [1, 2].map(|last| IpAddr::from([172, 31, number, last]));
                let pinged = ping(&ends[0].ns, far, &Ping { size: 1_200, ..Ping::default() })?;
                ensure!(pinged.complete(), "{}", pinged.text);
                let arrived = send(&ends[0].ns, &ends[1].ns, &Flow::between(near, far))?;
                ensure!(arrived.complete(), "{arrived:?}");
                let batched = Flow { segments: 20, ..Flow::between(far, near) };
                let arrived = send(&ends[1].ns, &ends[0].ns, &batched)?;
                ensure!(arrived.complete(), "{arrived:?}");
                let bytes = 48 << 20;
                let run = transfer(&ends[0].ns, &ends[1].ns, (far, 0).into(), bytes, seed())?;
                run.assert_equal(bytes)?;
            }
            Ok(())
        });
    }
}

fn raw(of: &Container, family: Family, protocol: u8) -> Result<Socket> {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = of.ns.enter(|| {
        let protocol = Protocol::from(i32::from(protocol));
        Ok(Socket::new(domain, Type::RAW, Some(protocol))?)
    })?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_recv_buffer_size(1 << 20)?;
    Ok(socket)
}

#[test]
fn protocols_without_ports_pass_unchanged() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair().two_each())?;
        let mut random = Seeded::new(seed());
        for (a, b) in PAIRS {
            let (a, b) = (site.container(ACME, a)?, site.container(ACME, b)?);
            for (protocol, family) in
                PROTOCOLS.into_iter().flat_map(|p| [(p, Family::V4), (p, Family::V6)])
            {
                let (from, mut to) = (raw(a, family, protocol)?, raw(b, family, protocol)?);
                let target = SockAddr::from(SocketAddr::new(b.address(family), 0));
                let mut missing = HashSet::new();
                for number in 0..PACKETS {
                    let mut payload = vec![0; 16 + random.below(1_200)];
                    random.fill(&mut payload);
                    from.send_to(&payload, &target)?;
                    missing.insert(payload);
                    if number % 16 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                // A raw IPv4 socket shows the header, a raw IPv6 socket does not.
                let header = if family == Family::V4 { 20 } else { 0 };
                let mut buffer = [0; 2_048];
                while let Ok(len) = to.read(&mut buffer) {
                    ensure!(missing.remove(&buffer[header..len]), "protocol {protocol}: changed");
                    if missing.is_empty() {
                        break;
                    }
                }
                let missing = missing.len();
                ensure!(missing == 0, "protocol {protocol} {family:?}: {missing} are missing");
            }
        }
        Ok(())
    });
}

#[test]
fn odd_but_right_packets_arrive() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair().two_each())?;
        for (a, b) in PAIRS {
            let (a, b) = (site.container(ACME, a)?, site.container(ACME, b)?);
            let port = RawPort::open(&a.ns, OVERLAY_INTERFACE)?;
            // UDP without a checksum, which IPv4 allows.
            let [from, to] = [a, b].map(|c| SocketAddr::new(c.address(Family::V4), 5_000));
            let receiver = socket(&b.ns, to)?;
            receiver.set_read_timeout(Some(LIMIT))?;
            let segment = udp_segment(from, to, b"no checksum");
            port.send(Virtio::default(), &ip(from.ip(), to.ip(), UDP, &segment))?;
            let mut buffer = [0; 64];
            let len = receiver.recv(&mut buffer)?;
            ensure!(&buffer[..len] == b"no checksum");
            // UDP behind an IPv6 extension header.
            let [from, to] = [a, b].map(|c| SocketAddr::new(c.address(Family::V6), 5_000));
            let receiver = socket(&b.ns, to)?;
            receiver.set_read_timeout(Some(LIMIT))?;
            let mut segment = udp_segment(from, to, b"behind options");
            let sum = netns_tests::packets::checksum(from.ip(), to.ip(), UDP, &segment);
            segment[6..8].copy_from_slice(&sum.to_be_bytes());
            // One padding option of six bytes in an options header of eight.
            let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat();
            let packet = ip(from.ip(), to.ip(), DESTINATION_OPTIONS, &options);
            port.send(Virtio::default(), &packet)?;
            let len = receiver.recv(&mut buffer)?;
            ensure!(&buffer[..len] == b"behind options");
            // Fragments, reassembled by the receiving container.
            for family in [Family::V4, Family::V6] {
                let large = Ping { size: 30_000, count: 5, ..Ping::default() };
                let pinged = ping(&a.ns, b.address(family), &large)?;
                ensure!(pinged.complete(), "{}", pinged.text);
            }
        }
        Ok(())
    });
}
