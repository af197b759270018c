//! A guard without an engine: packets of `web` (10.0.0.2, fd00::2) and `db` (10.0.0.9, fd00::9).

mod bounds;
mod change;
mod errors;
mod flows;
mod fragments;
mod lookup;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use weft_sim::packet::{Flow, Packet, Transport as Header};
use weft_types::WorkerId;
use weft_wire::{Inner, protocol};

use super::*;

const WEB: &str = "10.0.0.2";
const DB: &str = "10.0.0.9";
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
const FIN: u8 = 0x11;
const RST: u8 = 0x04;
const SYN_ACK: u8 = SYN | ACK;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn these(addresses: &[&str]) -> Selector {
    Selector::Addresses(addresses.iter().map(|a| addr(a)).collect())
}

/// The addresses of both families that `web` or `db` has.
fn both(last: char) -> Selector {
    these(&[&format!("10.0.0.{last}"), &format!("fd00::{last}")])
}

fn port(port: u16) -> PortRange {
    PortRange { first: port, last: port }
}

fn rule(name: &str, verdict: Verdict) -> Rule {
    let (from, to) = (Selector::Any, Selector::Any);
    Rule { name: name.parse().unwrap(), from, to, protocol: None, ports: vec![], verdict }
}

/// `web` may ask `db` on port 443 and, over ICMP and protocol 50, anything.
fn web_asks_db() -> Rules {
    let allow = |name, protocol, ports: &[u16]| Rule {
        from: both('2'),
        to: both('9'),
        protocol,
        ports: ports.iter().map(|p| port(*p)).collect(),
        ..rule(name, Verdict::Allow)
    };
    let rules = vec![
        allow("web-tcp", Some(Transport::Tcp), &[443]),
        allow("web-udp", Some(Transport::Udp), &[443]),
        allow("web-icmp", Some(Transport::Icmp), &[]),
    ];
    Rules { default: Verdict::Deny, rules }
}

fn closed() -> Rules {
    Rules { default: Verdict::Deny, rules: vec![] }
}

fn seen(from: &str, to: &str, ports: (u16, u16), header: Header, payload: &[u8]) -> Seen {
    let flow = Flow { source: addr(from), destination: addr(to), ports };
    let bytes = Packet::new(flow, header, payload.to_vec()).complete();
    look(&bytes[10..])
}

fn look(packet: &[u8]) -> Seen {
    Seen::of(&Inner::parse(packet).unwrap(), packet)
}

fn tcp(from: &str, to: &str, ports: (u16, u16), flags: u8) -> Seen {
    seen(from, to, ports, Header::Tcp { sequence: 1, flags, options: 0 }, b"x")
}

/// From `web` to `db`'s port 443.
fn ask(flags: u8) -> Seen {
    tcp(WEB, DB, (40_000, 443), flags)
}

/// From `db` back.
fn answer(flags: u8) -> Seen {
    tcp(DB, WEB, (443, 40_000), flags)
}

fn udp(from: &str, to: &str, ports: (u16, u16)) -> Seen {
    seen(from, to, ports, Header::Udp, b"x")
}

fn icmp(from: &str, to: &str, message: &[u8]) -> Seen {
    let number = if from.contains(':') { protocol::ICMPV6 } else { protocol::ICMP };
    seen(from, to, (0, 0), Header::Other(number), message)
}

struct World {
    guard: Guard,
    now: Instant,
}

impl World {
    fn new(rules: &Rules) -> Self {
        let now = Instant::now();
        Self { guard: Guard::new(now, rules.compile().unwrap(), 2, 7), now }
    }

    fn judge(&self, seen: &Seen) -> Result<(), &str> {
        let judged = self.guard.judge(self.now, WorkerId::new(0).unwrap(), seen);
        judged.map_err(|denied| self.guard.name(denied.0))
    }

    fn passes(&self, seen: &Seen) -> bool {
        self.judge(seen).is_ok()
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn change(&mut self, rules: &Rules) {
        self.guard = self.guard.replaced_by(rules.compile().unwrap());
    }

    fn hits(&self, rule: &str) -> u64 {
        self.guard.hits().into_iter().find(|hits| hits.rule == rule).unwrap().count
    }
}
