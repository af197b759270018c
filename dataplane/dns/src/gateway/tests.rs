//! Real packets, made by etherparse and read back with it.

use std::{net::IpAddr, time::Duration};

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
    icmpv4, icmpv6,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
    serialize::binary::BinEncodable,
};

use super::*;
use crate::zone::{Health, PortRecord, Protocol, ServiceRecord, SlotRecord, ZoneRecords};

mod bounds;
mod connections;

const SOURCES: [&str; 2] = ["10.40.0.2", "fd40::2"];
const GATEWAYS: [&str; 2] = ["10.40.0.1", "fd40::1"];

pub(super) fn zone() -> Arc<Zone> {
    let slot = |index: u32| SlotRecord {
        index,
        name: None,
        addresses: vec![[10, 40, 1, u8::try_from(index).unwrap() + 2].into()],
        health: Health::Healthy,
        roles: Vec::new(),
    };
    let services = vec![ServiceRecord {
        name: "web".to_owned(),
        ports: vec![PortRecord { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 }],
        slots: (0..60).map(slot).collect(),
    }];
    let subnets = ["10.40.0.0/16", "fd40::/64"].map(|s| s.parse().unwrap()).to_vec();
    Arc::new(
        Zone::new(ZoneRecords { serial: 7, subnets, services, ..ZoneRecords::default() }).unwrap(),
    )
}

pub(super) fn gateway_with(outside: Outside, now: Instant) -> Gateway {
    let mut next = 0;
    let random = Box::new(move || {
        next += 1;
        next
    });
    Gateway::new(zone(), outside, Limits::default(), random, now).unwrap()
}

fn gateway() -> (Gateway, Instant) {
    let now = Instant::now();
    (gateway_with(Outside::Refuse, now), now)
}

/// From a container to the gateway, of one family or the other.
fn ip(family: usize) -> (IpAddr, IpAddr) {
    (SOURCES[family].parse().unwrap(), GATEWAYS[family].parse().unwrap())
}

macro_rules! builder {
    ($from:expr, $to:expr) => {
        match ($from, $to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            _ => panic!("of one family"),
        }
    };
}
pub(super) use builder;

fn udp_packet(family: usize, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let (from, to) = ip(family);
    let mut packet = Vec::new();
    builder!(from, to).udp(ports.0, ports.1).write(&mut packet, payload).unwrap();
    packet
}

pub(super) fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_bytes().unwrap()
}

/// Everything that comes out, with every checksum verified.
pub(super) fn polled(gateway: &mut Gateway) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while gateway.poll_packet(&mut packet) {
        check(&packet);
        packets.push(packet.clone());
    }
    packets
}

fn check(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).expect("a packet");
    let Some(transport) = sliced.transport else { panic!("no transport") };
    match sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), packet.len());
            match transport {
                TransportSlice::Udp(udp) => {
                    let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
                    assert_eq!(udp.checksum(), sum.unwrap());
                }
                TransportSlice::Tcp(tcp) => {
                    let sum = tcp.calc_checksum_ipv4(header.source, header.destination);
                    assert_eq!(tcp.checksum(), sum.unwrap());
                }
                TransportSlice::Icmpv4(icmp) => {
                    assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
                }
                _ => panic!("of the other family"),
            }
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            match transport {
                TransportSlice::Udp(udp) => {
                    let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload());
                    assert_eq!(udp.checksum(), sum.unwrap());
                }
                TransportSlice::Tcp(tcp) => {
                    let sum = tcp.calc_checksum_ipv6(header.source, header.destination);
                    assert_eq!(tcp.checksum(), sum.unwrap());
                }
                TransportSlice::Icmpv6(icmp) => {
                    assert!(icmp.is_checksum_valid(header.source, header.destination));
                }
                _ => panic!("of the other family"),
            }
        }
        _ => panic!("no IP packet"),
    }
}

/// The one packet that comes out, from the gateway to who sent.
fn only(gateway: &mut Gateway, family: usize) -> Vec<u8> {
    let mut packets = polled(gateway);
    assert_eq!(packets.len(), 1);
    let packet = packets.remove(0);
    let inner = weft_wire::Inner::parse(&packet).unwrap();
    assert_eq!((inner.destination, inner.source), ip(family));
    packet
}

#[test]
fn a_name_over_udp() {
    for family in [0, 1] {
        let (mut gateway, now) = gateway();
        let packet = udp_packet(family, (4_000, 53), &query("3.web.internal.", RecordType::A));
        gateway.handle_packet(&packet, now).unwrap();
        let answer = only(&mut gateway, family);
        let sliced = SlicedPacket::from_ip(&answer).unwrap();
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("no UDP") };
        assert_eq!((udp.source_port(), udp.destination_port()), (53, 4_000));
        let message = Message::from_vec(udp.payload()).unwrap();
        assert_eq!(message.metadata.id, 0x1234);
        assert_eq!(message.answers[0].data.to_string(), "10.40.1.5");
    }
}

#[test]
fn what_need_not_be_summed_need_not_in_ipv4_only() {
    for family in [0, 1] {
        let (mut gateway, now) = gateway();
        let mut packet = udp_packet(family, (4_000, 53), &query("web.internal.", RecordType::A));
        let at = if family == 0 { 26 } else { 46 };
        packet[at..at + 2].fill(0);
        let expected = if family == 0 { Ok(()) } else { Err(DropReason::Checksum) };
        assert_eq!(gateway.handle_packet(&packet, now), expected);
    }
}

#[test]
fn pings_are_answered() {
    for family in [0, 1] {
        let (mut gateway, now) = gateway();
        let (from, to) = ip(family);
        let builder = builder!(from, to);
        let mut packet = Vec::new();
        match family {
            0 => builder.icmpv4_echo_request(7, 9).write(&mut packet, b"hello").unwrap(),
            _ => builder.icmpv6_echo_request(7, 9).write(&mut packet, b"hello").unwrap(),
        }
        gateway.handle_packet(&packet, now).unwrap();
        let reply = only(&mut gateway, family);
        assert_eq!(reply.len(), packet.len());
        match SlicedPacket::from_ip(&reply).unwrap().transport {
            Some(TransportSlice::Icmpv4(icmp)) => {
                let Icmpv4Type::EchoReply(header) = icmp.icmp_type() else { panic!("no reply") };
                assert_eq!((header.id, header.seq, icmp.payload()), (7, 9, &b"hello"[..]));
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                let Icmpv6Type::EchoReply(header) = icmp.icmp_type() else { panic!("no reply") };
                assert_eq!((header.id, header.seq, icmp.payload()), (7, 9, &b"hello"[..]));
            }
            _ => panic!("no ICMP"),
        }
    }
}

#[test]
fn closed_ports_refuse() {
    for family in [0, 1] {
        let (mut gateway, now) = gateway();
        let (from, to) = ip(family);
        let packet = udp_packet(family, (4_000, 54), b"anybody there?");
        gateway.handle_packet(&packet, now).unwrap();
        let error = only(&mut gateway, family);
        match SlicedPacket::from_ip(&error).unwrap().transport {
            Some(TransportSlice::Icmpv4(icmp)) => {
                let port = icmpv4::DestUnreachableHeader::Port;
                assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(port));
                assert_eq!(icmp.payload(), packet);
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                let port = icmpv6::DestUnreachableCode::Port;
                assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(port));
                assert_eq!(icmp.payload(), packet);
            }
            _ => panic!("no ICMP"),
        }

        let mut packet = Vec::new();
        builder!(from, to).tcp(4_000, 80, 1_000, 512).syn().write(&mut packet, &[]).unwrap();
        gateway.handle_packet(&packet, now).unwrap();
        let reset = only(&mut gateway, family);
        let sliced = SlicedPacket::from_ip(&reset).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        assert!(tcp.rst() && tcp.ack());
        assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (0, 1_001));
        assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 4_000));

        // Of no connection: also on the port that is open.
        for port in [80, 53] {
            let mut packet = Vec::new();
            let step = builder!(from, to).tcp(4_000, port, 1_000, 512).ack(77);
            step.write(&mut packet, b"data").unwrap();
            gateway.handle_packet(&packet, now).unwrap();
            let reset = only(&mut gateway, family);
            let sliced = SlicedPacket::from_ip(&reset).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
            assert!(tcp.rst() && !tcp.ack());
            assert_eq!(tcp.sequence_number(), 77);
        }
    }
}

#[test]
fn other_protocols_are_refused_too() {
    for (family, expected) in [(0, [3, 2]), (1, [4, 1])] {
        let (mut gateway, now) = gateway();
        let (from, to) = ip(family);
        let mut packet = Vec::new();
        let sctp = IpNumber::SCTP;
        builder!(from, to).write(&mut packet, sctp, &[0; 12]).unwrap();
        gateway.handle_packet(&packet, now).unwrap();
        let error = only(&mut gateway, family);
        let at = if family == 0 { 20 } else { 40 };
        assert_eq!(error[at..at + 2], expected);
    }
}

#[test]
fn what_is_never_answered() {
    use DropReason::{Checksum, Elsewhere, Malformed, Query, Silent, Source, Unusual};
    let good = udp_packet(0, (4_000, 53), &query("web.internal.", RecordType::A));
    let good6 = udp_packet(1, (4_000, 53), &query("web.internal.", RecordType::A));
    let (from, to) = ip(0);
    let changed = |packet: &[u8], at: usize, to: u8| {
        let mut packet = packet.to_vec();
        packet[at] = to;
        packet
    };
    let fixed = |mut packet: Vec<u8>| {
        packet[10..12].fill(0);
        let sum = weft_wire::checksum::internet(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let between = |from: IpAddr, to: IpAddr| {
        let mut packet = Vec::new();
        builder!(from, to).udp(4_000, 53).write(&mut packet, b"x").unwrap();
        packet
    };
    let mut reset = Vec::new();
    builder!(from, to).tcp(4_000, 80, 1_000, 512).rst().write(&mut reset, &[]).unwrap();
    let mut reply = Vec::new();
    builder!(from, to).icmpv4_echo_reply(7, 9).write(&mut reply, b"hello").unwrap();
    let mut options = good.clone();
    options[0] = 0x46;
    options.splice(20..20, [1; 4]);
    let mut extension = good6.clone();
    extension[6] = 60;
    extension.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
    let len = u16::try_from(extension.len() - 40).unwrap();
    extension[4..6].copy_from_slice(&len.to_be_bytes());
    for (packet, reason) in [
        (vec![], Malformed),
        (good[..30].to_vec(), Malformed),
        (changed(&good, 0, 0x55), Malformed),
        (changed(&good, 25, 9), Malformed),
        (changed(&good, 8, 1), Checksum),
        (changed(&good, 40, 0xee), Checksum),
        (changed(&good6, 60, 0xee), Checksum),
        (changed(&reply, 30, 0xee), Checksum),
        (changed(&reset, 30, 0xee), Checksum),
        (fixed(changed(&good, 6, 0x20)), Unusual),
        (fixed(changed(&good, 7, 1)), Unusual),
        (options, Unusual),
        (extension, Unusual),
        (between(from, "10.40.0.9".parse().unwrap()), Elsewhere),
        (between(to, to), Source),
        (between("127.0.0.1".parse().unwrap(), to), Source),
        (between("224.0.0.5".parse().unwrap(), to), Source),
        (between("0.0.0.0".parse().unwrap(), to), Source),
        (between("::".parse().unwrap(), ip(1).1), Source),
        (between("fd40::1".parse().unwrap(), ip(1).1), Source),
        (udp_packet(0, (0, 53), b"x"), Source),
        (udp_packet(0, (4_000, 53), b"short"), Query),
        (reset, Silent),
        (reply, Silent),
    ] {
        let (mut gateway, now) = gateway();
        assert_eq!(gateway.handle_packet(&packet, now), Err(reason), "{packet:02x?}");
        assert_eq!(polled(&mut gateway), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn what_is_behind_the_packet_is_not_of_it() {
    let (mut gateway, now) = gateway();
    let mut packet = udp_packet(0, (4_000, 53), &query("web.internal.", RecordType::A));
    packet.extend([0xee; 9]);
    gateway.handle_packet(&packet, now).unwrap();
    only(&mut gateway, 0);
}

#[test]
fn answers_from_outside_go_to_who_asked() {
    let now = Instant::now();
    let server: SocketAddr = "192.0.2.1:53".parse().unwrap();
    let mut gateway = gateway_with(Outside::Forward(vec![server]), now);
    let packet = udp_packet(1, (4_000, 53), &query("example.com.", RecordType::A));
    gateway.handle_packet(&packet, now).unwrap();
    assert!(polled(&mut gateway).is_empty());
    let asked = gateway.poll_forward().unwrap();
    let mut answer = asked.message.clone();
    answer[2] |= 0x80;
    assert_eq!(
        gateway.handle_forward_answer(asked.token, "192.0.2.9:53".parse().unwrap(), &answer, now),
        Err(ForwardAnswerError::Source)
    );
    gateway.handle_forward_answer(asked.token, server, &answer, now).unwrap();
    only(&mut gateway, 1);

    // And if nobody answers, that is told, at the time that is named.
    gateway.handle_packet(&packet, now).unwrap();
    let due = gateway.next_timeout(now).unwrap();
    gateway.handle_timeout(due);
    let told = only(&mut gateway, 1);
    let message = Message::from_vec(&told[48..]).unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(gateway.next_timeout(due), None);
}

#[test]
fn every_reason_is_explained() {
    let page = include_str!("../../../../docs/dns.md");
    for reason in DropReason::ALL {
        assert!(page.contains(&format!("`{}`", reason.label())), "{}", reason.label());
    }
}
