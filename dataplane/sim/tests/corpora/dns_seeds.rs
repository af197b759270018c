//! The first inputs of targets about names and the gateway address.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use etherparse::PacketBuilder;

use crate::names::{ASKERS, GATEWAYS, PAUSE, gateway};

const QUESTIONS: [(&str, u16); 11] = [
    ("db.internal", 1),
    ("0.db.internal", 28),
    ("BLUE.db.InTernal", 1),
    ("primary.db.internal", 1),
    ("_sql._tcp.db.internal", 33),
    ("internal", 6),
    ("internal", 255),
    ("3.1.40.10.in-addr.arpa", 12),
    ("absent.internal", 1),
    ("example.com", 1),
    // Its first label holds what looks like the end of a name of ours.
    ("x\u{8}internal\0.com", 1),
];

/// A query with one question and, if so, an OPT record of 4,096 B.
fn query(name: &str, kind: u16, edns: bool) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if edns {
        message.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    }
    message
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let (from, to) = v4();
    let step = PacketBuilder::ipv4(from.octets(), to.octets(), 64).udp(4_000, port);
    step.write(&mut packet, payload).expect("short");
    packet
}

fn v4() -> (Ipv4Addr, Ipv4Addr) {
    (ASKERS[0].parse().expect("an address"), GATEWAYS[0].parse().expect("an address"))
}

fn tcp(sequence: u32, acknowledged: u32, flags: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to) = v4();
    let mut step =
        PacketBuilder::ipv4(from.octets(), to.octets(), 64).tcp(4_000, 53, sequence, 9_000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'F' => step.fin(),
            _ => step.ack(acknowledged),
        };
    }
    let mut packet = Vec::new();
    step.write(&mut packet, payload).expect("short");
    packet
}

/// A connection with a query whose answer is long, closed by the client.
fn connection() -> Vec<Vec<u8>> {
    let now = Instant::now();
    let mut gateway = gateway(now);
    let open = tcp(1_000, 0, "S", &[]);
    gateway.handle_packet(&open, now).expect("taken");
    let mut answer = Vec::new();
    assert!(gateway.poll_packet(&mut answer));
    let first = u32::from_be_bytes([answer[24], answer[25], answer[26], answer[27]]);
    let mut asked = query("_sql._tcp.db.internal", 33, false);
    let len = u16::try_from(asked.len()).expect("short");
    asked.splice(0..0, len.to_be_bytes());
    let next = 1_001 + u32::try_from(asked.len()).expect("short");
    let seen = first.wrapping_add(1);
    vec![
        open,
        tcp(1_001, seen, "A", &[]),
        tcp(1_001, seen, "A", &asked),
        tcp(next, seen.wrapping_add(1_240), "A", &[]),
        tcp(next, seen.wrapping_add(1_240), "FA", &[]),
    ]
}

fn listed(packets: &[Vec<u8>], pause_ms: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets {
        out.extend(u16::try_from(packet.len()).expect("short").to_be_bytes());
        out.extend_from_slice(packet);
        if pause_ms > 0 {
            out.extend((PAUSE | pause_ms).to_be_bytes());
        }
    }
    out
}

pub(crate) fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, data: Vec<u8>| all.insert(name, data);
    match target {
        "dns_message" => {
            for (at, (name, kind)) in QUESTIONS.into_iter().enumerate() {
                add(format!("udp-{at}"), [vec![0], query(name, kind, at % 2 == 0)].concat());
            }
            let long = query("_sql._tcp.db.internal", 33, true);
            add("tcp".into(), [vec![1], long].concat());
            let mut answer = query("example.com", 1, true);
            answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            let at = answer.len() - 11;
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 80];
            answer.splice(at..at, record);
            add("answer".into(), [vec![2], answer].concat());
        }
        "gateway_packet" => {
            for (at, (name, kind)) in QUESTIONS.into_iter().enumerate() {
                add(format!("udp-{at}"), listed(&[udp(53, &query(name, kind, true))], 0));
            }
            add("closed".into(), listed(&[udp(54, b"hello")], 0));
            let (from, to) = v4();
            let mut ping = Vec::new();
            let step =
                PacketBuilder::ipv4(from.octets(), to.octets(), 64).icmpv4_echo_request(1, 2);
            step.write(&mut ping, b"hello").expect("short");
            add("ping".into(), listed(&[ping], 0));
            let [from, to] = [ASKERS[1], GATEWAYS[1]]
                .map(|a| a.parse::<std::net::Ipv6Addr>().expect("an address").octets());
            let mut six = Vec::new();
            let step = PacketBuilder::ipv6(from, to, 64).udp(4_000, 53);
            step.write(&mut six, &query("db.internal", 28, false)).expect("short");
            add("udp6".into(), listed(&[six], 0));
            let outside = udp(53, &query("example.com", 1, true));
            add("forwarded".into(), listed(&[outside.clone(), outside], 2_000));
            add("connection".into(), listed(&connection(), 0));
            add("slow".into(), listed(&connection(), 9_000));
        }
        _ => {}
    }
    all
}
