//! Policies at both ends: who is refused, by whom, and what is told.

use proptest::prelude::*;

use super::*;
use crate::policy::{Guard, PortRange, Rule, Rules, Selector, Transport as Over, Verdict};

const SYN: u8 = 0x02;
const SYN_ACK: u8 = SYN | tcp::ACK;

fn rule(name: &str, from: &[&str], to: &[&str], verdict: Verdict) -> Rule {
    let these = |addresses: &[&str]| {
        Selector::Addresses(addresses.iter().map(|address| addr(address)).collect())
    };
    let (from, to) = (these(from), these(to));
    Rule { name: name.parse().unwrap(), from, to, protocol: None, ports: vec![], verdict }
}

/// `web` may ask `db` over TCP and UDP on port 443, and nobody anything else.
fn web_asks_db() -> Rules {
    let one = |name, protocol| Rule {
        protocol: Some(protocol),
        ports: vec![PortRange { first: 443, last: 443 }],
        ..rule(name, &["10.0.0.2", "fd00::2"], &["10.0.0.9", "fd00::9"], Verdict::Allow)
    };
    let rules = vec![one("web-tcp", Over::Tcp), one("web-udp", Over::Udp)];
    Rules { default: Verdict::Deny, rules }
}

/// From `db` on B to `web` on A, as an answer.
fn answers(version: u8) -> Flow {
    let ports = (443, 40_000);
    Flow { ports, ..back(version) }
}

fn all(verdict: Verdict) -> Rules {
    Rules { default: verdict, rules: vec![] }
}

fn guard(side: &Side, rules: &Rules) -> Arc<Guard> {
    Arc::new(Guard::new(side.now, rules.compile().unwrap(), 1, 7))
}

/// Gives a side a policy in environment 0.
fn set(side: &mut Side, rules: &Rules) -> Arc<Guard> {
    let guard = guard(side, rules);
    side.engine.set_policy(ENV, Some(Arc::clone(&guard)));
    guard
}

fn segment(flow: Flow, flags: u8) -> Vec<u8> {
    Packet::new(flow, Transport::Tcp { sequence: 1, flags, options: 0 }, vec![]).unfinished()
}

fn denials(side: &mut Side) -> Vec<Denial> {
    let denial = |event| match event {
        Event::Denied(denial) => Some(denial),
        _ => None,
    };
    side.events().into_iter().filter_map(denial).collect()
}

#[test]
fn each_end_alone_refuses() {
    for version in [4, 6] {
        let packets = [
            udp_packet(forth(version), 10).unfinished(),
            tcp_packet(forth(version), 300).superpacket(100),
            Packet::new(forth(version), Transport::Echo, bytes(9)).complete(),
        ];
        let mut pair = Pair::new();
        set(&mut pair.a, &all(Verdict::Deny));
        packets.iter().for_each(|packet| pair.a.send(WEB, packet));
        assert!(pair.a.io.datagrams.is_empty(), "nothing leaves");
        assert_eq!(pair.a.drops(DropReason::Policy), 3);

        let mut pair = Pair::new();
        set(&mut pair.b, &all(Verdict::Deny));
        packets.iter().for_each(|packet| pair.a.send(WEB, packet));
        assert_eq!(pair.a_to_b(), []);
        // Each chunk of a superpacket is judged when no run is open.
        assert_eq!(pair.b.drops(DropReason::Policy), 1 + 3 + 1);
        assert_eq!(pair.b_to_a(), [], "who is not asked says nothing");
        assert_eq!(pair.a.drops_of_all_kinds(), 0);
    }
}

#[test]
fn what_is_allowed_and_its_answers_pass_both_ends() {
    for version in [4, 6] {
        let mut pair = Pair::new();
        let guards = [set(&mut pair.a, &web_asks_db()), set(&mut pair.b, &web_asks_db())];
        let (there, here) = (forth(version), answers(version));
        for (asked, answered) in [
            (segment(there, SYN), segment(here, SYN_ACK)),
            (segment(there, tcp::ACK), segment(here, tcp::ACK)),
            (tcp_packet(there, 350).superpacket(100), tcp_packet(here, 350).superpacket(100)),
            (udp_packet(there, 350).superpacket(100), udp_packet(here, 70).unfinished()),
        ] {
            pair.a.send(WEB, &asked);
            assert_eq!(pair.a_to_b(), [(DB, asked)]);
            pair.b.send(DB, &answered);
            assert_eq!(pair.b_to_a(), [(WEB, answered)]);
        }
        let hits: Vec<_> = guards.iter().map(|guard| guard.hits()).collect();
        assert_eq!(hits[0], hits[1]);
        assert_eq!([hits[0][0].count, hits[0][1].count], [1, 1]);
        // What db asks is no answer, at either end.
        let asked = segment(here, SYN);
        pair.b.send(DB, &asked);
        assert_eq!(pair.b_to_a(), []);
        pair.b.engine.set_policy(ENV, None);
        pair.b.send(DB, &asked);
        assert_eq!(pair.b_to_a(), []);
        assert_eq!([&pair.a, &pair.b].map(|side| side.drops(DropReason::Policy)), [1, 1]);
    }
}

#[test]
fn neighbours_on_one_host_are_judged_too() {
    let mut pair = Pair::new();
    let to_app = rule("web-app", &["10.0.0.2"], &["10.0.0.3"], Verdict::Allow);
    set(&mut pair.a, &Rules { default: Verdict::Deny, rules: vec![to_app] });
    let ask = udp_packet(flow("10.0.0.2", "10.0.0.3"), 10).unfinished();
    let mut answer = flow("10.0.0.3", "10.0.0.2");
    answer.ports = (443, 40_000);
    let answer = udp_packet(answer, 10).unfinished();
    pair.a.send(APP, &answer);
    assert_eq!(pair.a.drops(DropReason::Policy), 1);
    pair.a.take_delivered();
    pair.a.send(WEB, &ask);
    pair.a.send(APP, &answer);
    assert_eq!(pair.a.take_delivered(), [(APP, ask), (WEB, answer)]);
}

#[test]
fn the_container_is_told_that_it_may_not_and_how_often() {
    for (version, kind, code, gateway) in [(4, 3, 13, "10.0.0.1"), (6, 1, 1, "fd00::1")] {
        let mut pair = Pair::new();
        set(&mut pair.a, &all(Verdict::Deny));
        let packet = udp_packet(forth(version), 30).unfinished();
        pair.a.send(WEB, &packet);
        let delivered = pair.a.take_delivered();
        let [(WEB, data)] = &delivered[..] else { panic!("{delivered:?}") };
        let error = weft_wire::Inner::parse(&data[10..]).unwrap();
        assert_eq!((error.source, error.destination), (addr(gateway), forth(version).source));
        let icmp = &data[10 + usize::from(error.transport)..];
        assert_eq!((icmp[0], icmp[1]), (kind, code));
        assert_eq!(icmp[8..], packet[10..], "quotes the packet");
        (0..50).for_each(|_| pair.a.send(WEB, &packet));
        assert_eq!(pair.a.take_delivered().len(), 9, "ten at once");
        assert_eq!(pair.a.drops(DropReason::Policy), 51);
    }
}

#[test]
fn few_of_many_denials_are_told_and_all_are_counted() {
    let mut pair = Pair::new();
    let rules = Rules {
        rules: vec![rule("no-db", &["10.0.0.2"], &["10.0.0.9"], Verdict::Deny)],
        ..all(Verdict::Allow)
    };
    let guard = set(&mut pair.b, &rules);
    for _ in 0..50 {
        pair.a.send(WEB, &segment(forth(4), SYN));
    }
    pair.a_to_b();
    let told = denials(&mut pair.b);
    assert_eq!(told.len(), 10);
    let denial = told[0];
    assert_eq!((denial.environment, denial.direction), (ENV, Direction::In));
    assert_eq!((denial.generation, guard.name(denial.ground)), (guard.generation(), "no-db"));
    assert_eq!((denial.tuple.source, denial.tuple.ports), (addr("10.0.0.2"), Some((40_000, 443))));
    assert_eq!(guard.hits()[0].count, 50);
    pair.advance(Duration::from_secs(2));
    for _ in 0..50 {
        pair.a.send(WEB, &segment(forth(4), SYN));
    }
    pair.a_to_b();
    assert_eq!(denials(&mut pair.b).len(), 2, "one a second");
    // Another environment has its own turn.
    let other = self::guard(&pair.a, &all(Verdict::Deny));
    pair.a.engine.set_policy(OTHER_ENV, Some(other));
    pair.a.send(OTHER, &segment(forth(4), SYN));
    let told = denials(&mut pair.a);
    assert_eq!(
        (told.len(), told[0].environment, told[0].direction),
        (1, OTHER_ENV, Direction::Out)
    );
}

#[test]
fn without_a_policy_nothing_is_judged() {
    let mut pair = Pair::new();
    let packet = udp_packet(forth(4), 10).unfinished();
    let guard = set(&mut pair.a, &all(Verdict::Deny));
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a_to_b(), []);
    // An open policy is none.
    let open = set(&mut pair.a, &all(Verdict::Allow));
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a_to_b().len(), 1);
    assert!(open.hits().iter().all(|hits| hits.count == 0));
    pair.a.engine.set_policy(ENV, Some(guard));
    pair.a.engine.set_policy(ENV, None);
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a_to_b().len(), 1);
    assert_eq!(pair.a.drops(DropReason::Policy), 1);
}

#[test]
fn a_slots_next_environment_has_no_policy_of_its_former_one() {
    let mut pair = Pair::new();
    set(&mut pair.a, &all(Verdict::Deny));
    pair.a.engine.remove_environment(ENV);
    let packet = udp_packet(forth(4), 10).unfinished();
    pair.a = Side { engine: pair.a.engine, ..Side::new(pair.a.now, 0) };
    let new = NewEnvironment {
        gateway: None,
        gateway6: None,
        share: Share::default(),
        counters: pair.a.counters[0].clone(),
    };
    pair.a.engine.add_environment(ENV, new);
    let routes = [(addr("10.0.0.9"), Target::Remote(LINK))];
    pair.a.engine.set_routes(ENV, Arc::new(routes.into_iter().collect()));
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a_to_b(), [(DB, packet)]);
}

#[test]
fn a_change_ends_what_it_forbids_and_nothing_else() {
    let mut pair = Pair::new();
    let guards = [set(&mut pair.a, &web_asks_db()), set(&mut pair.b, &web_asks_db())];
    let connection = [segment(forth(4), SYN), segment(forth(4), tcp::ACK)];
    let datagram = udp_packet(forth(4), 10).unfinished();
    for packet in [&connection[0], &connection[1], &datagram] {
        pair.a.send(WEB, packet);
    }
    assert_eq!(pair.a_to_b().len(), 3);
    let mut rules = web_asks_db();
    rules.rules.remove(0);
    for (side, guard) in [&mut pair.a, &mut pair.b].into_iter().zip(guards) {
        let next = Arc::new(guard.replaced_by(rules.compile().unwrap()));
        side.engine.set_policy(ENV, Some(next));
    }
    pair.a.send(WEB, &connection[1]);
    pair.b.send(DB, &segment(answers(4), tcp::ACK));
    assert!(pair.a.take_sent().is_empty() && pair.b.take_sent().is_empty());
    // What both were told.
    assert_eq!((pair.a.take_delivered().len(), pair.b.take_delivered().len()), (1, 1));
    let answer = udp_packet(answers(4), 10).unfinished();
    pair.b.send(DB, &answer);
    assert_eq!(pair.b_to_a(), [(WEB, answer)]);
    pair.a.send(WEB, &datagram);
    assert_eq!(pair.a_to_b().len(), 1);
}

#[test]
fn connections_survive_a_restart_of_either_end_or_both() {
    for restarted in [[true, false], [false, true], [true, true]] {
        let mut pair = Pair::new();
        let exchange = |pair: &mut Pair| {
            let (here, there) = (segment(answers(4), tcp::ACK), segment(forth(4), tcp::ACK));
            pair.b.send(DB, &here);
            assert_eq!(pair.b_to_a(), [(WEB, here)]);
            pair.a.send(WEB, &there);
            assert_eq!(pair.a_to_b(), [(DB, there)]);
        };
        set(&mut pair.a, &web_asks_db());
        set(&mut pair.b, &web_asks_db());
        pair.a.send(WEB, &segment(forth(4), SYN));
        assert_eq!(pair.a_to_b().len(), 1);
        exchange(&mut pair);
        // A daemon that begins anew knows the rules and no flow.
        if restarted[0] {
            set(&mut pair.a, &web_asks_db());
        }
        if restarted[1] {
            set(&mut pair.b, &web_asks_db());
        }
        exchange(&mut pair);
        // Nobody can begin so.
        pair.b.send(DB, &segment(answers(4), SYN));
        assert_eq!(pair.b_to_a(), []);
    }
}

#[test]
fn what_waits_for_a_session_is_judged_by_the_policy_that_holds_when_it_goes() {
    let mut pair = Pair::without_sessions();
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    set(&mut pair.a, &all(Verdict::Deny));
    pair.install(SESSION, LINK, Limits::default());
    pair.a.engine.activate(pair.a.now, SESSION, &mut pair.a.io);
    assert_eq!(pair.a_to_b(), []);
    assert_eq!(pair.a.drops(DropReason::Policy), 1);
}

#[test]
fn packets_that_come_in_pieces_or_are_joined_are_judged() {
    let mut pair = Pair::new();
    let mut long = udp_packet(forth(4), 2_000);
    long.dont_fragment = false;
    let joined = udp_packet(forth(4), 400).superpacket(100);
    for (rules, count) in [(web_asks_db(), 2), (all(Verdict::Deny), 0)] {
        set(&mut pair.b, &rules);
        pair.a.send(WEB, &long.complete());
        assert_eq!(pair.a_to_b().len(), count / 2);
        pair.a.send(WEB, &joined);
        assert_eq!(pair.a_to_b().len(), count / 2);
    }
    // One whole packet from its pieces, and four chunks.
    assert_eq!(pair.b.drops(DropReason::Policy), 5);
}

/// Something that happens in one of two environments.
#[derive(Debug, Clone)]
struct Step {
    other: bool,
    from_b: bool,
    part: u8,
    port: u16,
    pause: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![3 => Just(0), 1 => 1_u64..200];
    let one = (any::<bool>(), any::<bool>(), 0_u8..6, 443_u16..446, pause);
    let step = one.prop_map(|(other, from_b, part, port, pause)| Step {
        other,
        from_b,
        part,
        port,
        pause,
    });
    proptest::collection::vec(step, 1..60)
}

/// Carries out steps, those of one environment only if asked, and gives what arrived of each environment's.
fn arrivals(steps: &[Step], only: Option<bool>) -> [Vec<bool>; 2] {
    let mut pair = Pair::new();
    let mut other_rules = web_asks_db();
    other_rules.rules[0].ports[0].last = 444;
    other_rules.rules[1].verdict = Verdict::Deny;
    other_rules.default = Verdict::Allow;
    for side in [&mut pair.a, &mut pair.b] {
        set(side, &web_asks_db());
        let other = guard(side, &other_rules);
        side.engine.set_policy(OTHER_ENV, Some(other));
    }
    let mut arrived = [vec![], vec![]];
    for step in steps {
        pair.advance(Duration::from_secs(step.pause));
        if only.is_some_and(|only| only != step.other) {
            continue;
        }
        let mut flow = if step.from_b { back(4) } else { forth(4) };
        flow.ports = if step.from_b { (step.port, 40_000) } else { (40_000, step.port) };
        let packet = match step.part {
            0 => segment(flow, SYN),
            1 => segment(flow, tcp::ACK),
            2 => segment(flow, tcp::ACK | tcp::FIN),
            3 => segment(flow, 0x04),
            4 => udp_packet(flow, 10).unfinished(),
            _ => Packet::new(flow, Transport::Echo, bytes(9)).complete(),
        };
        let from = if step.other { OTHER } else { WEB };
        let delivered = if step.from_b {
            pair.b.send(from, &packet);
            // What the sender itself was told.
            pair.b.take_delivered();
            pair.b_to_a()
        } else {
            pair.a.send(from, &packet);
            pair.a.take_delivered();
            pair.a_to_b()
        };
        assert!(delivered.iter().all(|(to, data)| *to == from && *data == packet));
        arrived[usize::from(step.other)].push(!delivered.is_empty());
    }
    arrived
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_environments_flows_change_what_another_may(steps in steps()) {
        let [one, other] = arrivals(&steps, None);
        prop_assert_eq!(one, arrivals(&steps, Some(false))[0].clone());
        prop_assert_eq!(other, arrivals(&steps, Some(true))[1].clone());
    }
}

#[test]
fn an_environment_that_floods_pushes_out_nobody_elses_flows() {
    let mut pair = Pair::new();
    set(&mut pair.a, &web_asks_db());
    let crowd = guard(&pair.a, &Rules { default: Verdict::Allow, ..web_asks_db() });
    pair.a.engine.set_policy(OTHER_ENV, Some(crowd));
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    for port in 0..=u16::MAX {
        for to in [443, 53] {
            let mut flow = forth(4);
            flow.ports = (port, to);
            pair.a.send(OTHER, &udp_packet(flow, 0).unfinished());
            pair.a.io.datagrams.truncate(1);
        }
    }
    pair.a.take_sent();
    let answer = udp_packet(answers(4), 10).unfinished();
    pair.b.send(DB, &answer);
    assert_eq!(pair.b_to_a(), [(WEB, answer)]);
}
