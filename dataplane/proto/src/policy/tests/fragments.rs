//! Fragments have no ports but the first.

use super::*;

/// A fragment of an IPv4 packet, at so many bytes.
fn fragment(from: &str, to: &str, header: Header, at: u16) -> Seen {
    let flow = Flow { source: addr(from), destination: addr(to), ports: (40_000, 443) };
    let mut packet = Packet::new(flow, header, vec![7; 64]).complete()[10..].to_vec();
    let more = 0x2000;
    packet[6..8].copy_from_slice(&((at / 8) | more).to_be_bytes());
    look(&packet)
}

const UDP: Header = Header::Udp;
const TCP: Header = Header::Tcp { sequence: 1, flags: ACK, options: 0 };

#[test]
fn later_fragments_are_denied_where_ports_are_named() {
    let world = World::new(&web_asks_db());
    assert!(world.passes(&fragment(WEB, DB, UDP, 0)), "the first has ports");
    assert_eq!(world.judge(&fragment(WEB, DB, UDP, 64)), Err("(no ports)"));
    assert_eq!(world.judge(&fragment(WEB, DB, TCP, 64)), Err("(no ports)"));
    assert_eq!(world.judge(&fragment(WEB, "10.0.0.8", UDP, 64)), Err("(default)"));
    assert_eq!(world.hits("(no ports)"), 2);
    // A rule with ports behind the one that decides does not matter.
    let mut rules = web_asks_db();
    rules.rules.insert(0, Rule { from: both('2'), ..rule("all", Verdict::Allow) });
    let world = World::new(&rules);
    assert!(world.passes(&fragment(WEB, DB, UDP, 64)) && world.passes(&fragment(WEB, DB, TCP, 64)));
}

#[test]
fn later_fragments_of_an_answer_pass_where_all_ports_may_be_asked() {
    let all = Rule { from: both('2'), to: both('9'), ..rule("all", Verdict::Allow) };
    let world = World::new(&Rules { default: Verdict::Deny, rules: vec![all] });
    assert!(world.passes(&fragment(DB, WEB, UDP, 64)));
    assert!(world.passes(&fragment(DB, WEB, Header::Echo, 64)));
    assert!(!world.passes(&fragment(DB, WEB, TCP, 64)), "it might write over flags");
    assert!(!world.passes(&fragment(DB, "10.0.0.8", UDP, 64)));
}

#[test]
fn a_fragment_of_tcp_is_judged_as_the_first_segment() {
    let all = Rule { from: both('2'), to: both('9'), ..rule("all", Verdict::Allow) };
    let world = World::new(&Rules { default: Verdict::Deny, rules: vec![all] });
    assert!(world.passes(&ask(SYN)) && world.passes(&answer(ACK)));
    assert!(!world.passes(&fragment(DB, WEB, TCP, 0)));
    assert!(world.passes(&fragment(WEB, DB, TCP, 0)));
}

#[test]
fn a_packet_that_ends_before_its_ports_has_none() {
    let world = World::new(&web_asks_db());
    for number in [protocol::TCP, protocol::UDP] {
        let short = seen(WEB, DB, (0, 0), Header::Other(number), &[0, 1, 1]);
        assert_eq!(world.judge(&short), Err("(no ports)"));
    }
    // Ports, but no flags: it counts as a first segment.
    let short = seen(DB, WEB, (0, 0), Header::Other(protocol::TCP), &[1, 187, 156, 64, 0, 0]);
    assert!(!world.passes(&short));
}
