//! What is answered at an environment's gateway address: fuzz targets and the environment that they ask.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_dns::{
    Asker, ForwardQuery, Gateway, Handled, Health, Limits, Outside, PortRecord, Protocol, Server,
    ServiceRecord, SlotRecord, TCP_ANSWER_LEN_MAX, Transport, UDP_ANSWER_LEN_MAX, Zone,
    ZoneRecords,
};
use weft_wire::Inner;

/// The container that asks, and the gateway, of each family.
pub const ASKERS: [&str; 2] = ["10.40.0.2", "fd40::2"];
/// See there.
pub const GATEWAYS: [&str; 2] = ["10.40.0.1", "fd40::1"];
/// Whom the gateway asks.
const SERVER: &str = "192.0.2.1:53";
/// Set in the length of a packet that is none: the other bits are milliseconds that pass.
pub const PAUSE: u16 = 0x8000;

/// Bytes before the question (RFC 1035 section 4.1.1).
const HEADER_LEN: usize = 12;

fn zone() -> Arc<Zone> {
    let slot = |index: u32| SlotRecord {
        index,
        name: (index == 0).then(|| "blue".to_owned()),
        addresses: vec![
            format!("10.40.1.{}", index + 2).parse().expect("an address"),
            format!("fd40::1:{index:x}").parse().expect("an address"),
        ],
        health: if index == 1 { Health::Unhealthy } else { Health::Healthy },
        roles: vec![if index == 2 { "primary" } else { "replica" }.to_owned()],
    };
    let port = |protocol| PortRecord { name: "sql".to_owned(), protocol, port: 5_432 };
    let service = ServiceRecord {
        name: "db".to_owned(),
        ports: vec![port(Protocol::Tcp)],
        slots: (0..20).map(slot).collect(),
    };
    let subnets = ["10.40.0.0/16", "fd40::/64"].map(|s| s.parse().expect("a subnet")).to_vec();
    let records =
        ZoneRecords { serial: 1, subnets, services: vec![service], ..ZoneRecords::default() };
    Arc::new(Zone::new(records).expect("a zone"))
}

fn outside() -> Outside {
    Outside::Forward(vec![SERVER.parse().expect("an address")])
}

/// The same numbers every time.
fn counting() -> Box<dyn FnMut() -> u64 + Send> {
    let mut next = 0u64;
    Box::new(move || {
        next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        next
    })
}

/// A gateway as the target has it.
pub fn gateway(now: Instant) -> Gateway {
    Gateway::new(zone(), outside(), Limits::default(), counting(), now).expect("good settings")
}

/// What a container can ask, and what a server outside can answer: byte 0 is 0 for UDP, 1 for TCP, more for an
/// answer to the question `example.com`, whose id is put into it.
pub fn dns_message(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let now = Instant::now();
    let mut server =
        Server::new(zone(), outside(), Limits::default(), counting()).expect("good settings");
    let transport = if kind % 3 == 1 { Transport::Tcp } else { Transport::Udp };
    let asker = Asker {
        address: SocketAddr::new(ASKERS[0].parse().expect("an address"), 4_000),
        asked: GATEWAYS[0].parse().expect("an address"),
        transport,
        connection: 1,
    };
    let len_max = match transport {
        Transport::Udp => UDP_ANSWER_LEN_MAX,
        Transport::Tcp => TCP_ANSWER_LEN_MAX,
    };
    if kind % 3 == 2 {
        let asked =
            [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x07example\x03com\0\0\x01\0\x01"];
        assert_eq!(server.handle_query(asker, &asked.concat(), now), Handled::Later);
        let forward = server.poll_forward().expect("it is asked outside");
        let mut answer = data.to_vec();
        answer.iter_mut().zip(&forward.message[..2]).for_each(|(to, from)| *to = *from);
        if server.handle_forward_answer(forward.token, forward.server, &answer).is_ok() {
            let (to, told) = server.poll_answer().expect("who asked is told");
            assert_eq!((to, &told[..2]), (asker, &[7, 7][..]));
            assert!(told.len() <= len_max);
        }
        return;
    }
    match server.handle_query(asker, data, now) {
        Handled::Answer(answer) => {
            assert!(answer.len() <= len_max);
            assert_eq!(answer[..2], data[..2]);
            assert_eq!(answer[2] & 0x80, 0x80, "it is an answer");
        }
        Handled::Later => {
            let forward = server.poll_forward().expect("it is asked outside");
            let last = last_label(&forward.message[HEADER_LEN..]).to_ascii_lowercase();
            assert_ne!(last, b"internal", "ours goes nowhere");
        }
        Handled::Silence => {}
    }
}

/// The last label of a name that is written out in full. Bytes of a label can be any, also those of other labels.
fn last_label(mut name: &[u8]) -> &[u8] {
    let mut last = &name[..0];
    while let Some((length, rest)) = name.split_first().filter(|(length, _)| **length > 0) {
        (last, name) = rest.split_at(usize::from(*length));
    }
    last
}

/// What a container can send to the gateway: packets and pauses, each with its length in two bytes before it.
/// What comes out are packets from the gateway, and no more bytes to anybody than the rate allows.
pub fn gateway_packet(mut data: &[u8]) {
    let begun = Instant::now();
    let mut now = begun;
    let mut gateway = gateway(begun);
    let mut sent = Sent { to: std::collections::HashMap::new() };
    while let Some(([high, low], rest)) = data.split_first_chunk::<2>() {
        let length = u16::from_be_bytes([*high, *low]);
        data = rest;
        if length & PAUSE == 0 {
            let (packet, rest) = rest.split_at(usize::from(length).min(rest.len()));
            data = rest;
            let _ = gateway.handle_packet(packet, now);
        } else {
            now += Duration::from_millis(u64::from(length & !PAUSE));
            gateway.handle_timeout(now);
        }
        while let Some(asked) = gateway.poll_forward() {
            answer(&mut gateway, &asked, now);
        }
        sent.take(&mut gateway, now - begun);
        if let Some(due) = gateway.next_timeout(now) {
            assert!(due <= now + Duration::from_secs(60), "nothing is kept for long");
        }
    }
}

/// The server outside repeats what it is asked, if its id is even.
fn answer(gateway: &mut Gateway, asked: &ForwardQuery, now: Instant) {
    let mut answer = asked.message.clone();
    answer[2] |= 0x80;
    if answer[1] & 1 == 0 {
        let taken = gateway.handle_forward_answer(asked.token, asked.server, &answer, now);
        assert_eq!(taken, Ok(()));
    }
}

struct Sent {
    to: std::collections::HashMap<IpAddr, usize>,
}

impl Sent {
    fn take(&mut self, gateway: &mut Gateway, passed: Duration) {
        let rate = Limits::default().bytes;
        let allowed = f64::from(rate.burst) + f64::from(rate.per_second) * passed.as_secs_f64();
        let mut packet = Vec::new();
        while gateway.poll_packet(&mut packet) {
            let inner = Inner::parse(&packet).expect("a packet");
            assert_eq!(usize::from(inner.length), packet.len());
            assert!(GATEWAYS.contains(&inner.source.to_string().as_str()));
            let sent = self.to.entry(inner.destination).or_default();
            *sent += packet.len();
            assert!(*sent as f64 <= allowed + 1.0, "{sent} to {}", inner.destination);
        }
    }
}
