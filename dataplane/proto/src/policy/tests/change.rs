//! Another policy while everything runs, and what counters say.

use super::*;

#[test]
fn what_is_forbidden_ends_and_what_is_allowed_goes_on() {
    let mut world = World::new(&web_asks_db());
    let (asked, answered) = (udp(WEB, DB, (40_000, 443)), udp(DB, WEB, (443, 40_000)));
    assert!(world.passes(&ask(SYN)) && world.passes(&answer(SYN_ACK)) && world.passes(&ask(ACK)));
    assert!(world.passes(&asked) && world.passes(&answered));
    // TCP is forbidden, UDP stays.
    let mut rules = web_asks_db();
    rules.rules.remove(0);
    world.change(&rules);
    assert_eq!(world.judge(&ask(ACK)), Err("(default)"));
    assert_eq!(world.judge(&answer(ACK)), Err("(default)"));
    assert!(world.passes(&answered), "the answer comes first, and its question was allowed");
    assert!(world.passes(&asked));
    assert_eq!(world.hits("web-udp"), 1, "the same flow");
    world.change(&closed());
    assert!(!world.passes(&answered) && !world.passes(&asked) && !world.passes(&answered));
}

#[test]
fn a_flow_of_a_worker_that_is_behind_is_judged_by_each_for_itself() {
    let world = World::new(&web_asks_db());
    let next = world.guard.replaced_by(closed().compile().unwrap());
    let (now, worker) = (world.now, WorkerId::new(1).unwrap());
    for _ in 0..3 {
        assert!(world.passes(&udp(WEB, DB, (40_000, 443))));
        assert!(next.judge(now, worker, &udp(WEB, DB, (40_000, 443))).is_err());
        assert!(next.judge(now, worker, &udp(DB, WEB, (443, 40_000))).is_err());
    }
}

#[test]
fn a_connection_that_was_there_before_the_policy_goes_on() {
    // Without a policy nothing was known of it.
    let world = World::new(&web_asks_db());
    assert!(world.passes(&answer(ACK)) && world.passes(&ask(ACK)));
    let world = World::new(&closed());
    assert!(!world.passes(&answer(ACK)) && !world.passes(&ask(ACK)));
}

/// Everything is allowed but that `web` asks `db`: on its port, or at all.
fn forbidding() -> [Rules; 2] {
    let at_all = Rule { from: both('2'), to: both('9'), ..rule("no-db", Verdict::Deny) };
    let protocol = Some(Transport::Tcp);
    let on_its_port = Rule { protocol, ports: vec![port(443)], ..at_all.clone() };
    [on_its_port, at_all].map(|rule| Rules { default: Verdict::Allow, rules: vec![rule] })
}

#[test]
fn what_one_rule_forbids_ends_where_everything_else_is_allowed() {
    for rules in forbidding() {
        let mut world = World::new(&Rules { default: Verdict::Allow, rules: vec![] });
        let opened = [ask(SYN), answer(SYN_ACK), ask(ACK)];
        assert!(opened.iter().all(|segment| world.passes(segment)));
        assert!(world.passes(&udp(WEB, DB, (40_000, 53))));
        world.change(&rules);
        // Though db may ask web, and web answer.
        for segment in [answer(ACK), ask(ACK), answer(FIN), ask(RST), answer(ACK)] {
            assert_eq!(world.judge(&segment), Err("no-db"));
        }
        let may_ask = rules.rules[0].protocol.is_some();
        for datagram in [udp(DB, WEB, (53, 40_000)), udp(WEB, DB, (40_000, 53))] {
            assert_eq!(world.passes(&datagram), may_ask);
        }
        assert!(world.passes(&tcp(DB, WEB, (40_000, 80), SYN)));
        assert!(world.passes(&tcp(WEB, DB, (80, 40_000), SYN_ACK)));
    }
}

#[test]
fn what_one_rule_forbids_ends_also_if_it_was_there_before_the_policy() {
    for rules in forbidding() {
        for first in [answer(ACK), ask(ACK)] {
            let world = World::new(&rules);
            for segment in [first, answer(ACK), ask(ACK), answer(FIN), ask(RST)] {
                assert_eq!(world.judge(&segment), Err("no-db"));
            }
        }
    }
}

#[test]
fn counters_go_on_under_the_same_name() {
    let mut world = World::new(&web_asks_db());
    assert!(world.passes(&ask(SYN)) && world.passes(&ask(SYN)));
    (0..3).for_each(|_| assert!(!world.passes(&answer(SYN))));
    let all = |world: &World| -> Vec<_> {
        let of = |h: Hits| (h.rule, h.verdict.label(), h.count);
        world.guard.hits().into_iter().map(of).collect()
    };
    let expected = [
        ("web-tcp".to_owned(), "allow", 1),
        ("web-udp".to_owned(), "allow", 0),
        ("web-icmp".to_owned(), "allow", 0),
        ("(default)".to_owned(), "deny", 3),
        ("(no ports)".to_owned(), "deny", 0),
    ];
    assert_eq!(all(&world), expected);
    // One goes, one comes, one says the opposite.
    let mut rules = web_asks_db();
    rules.rules.remove(1);
    rules.rules[1].verdict = Verdict::Deny;
    rules.rules.push(rule("new", Verdict::Deny));
    world.change(&rules);
    assert!(world.passes(&tcp(WEB, DB, (40_001, 443), SYN)));
    assert!(!world.passes(&answer(SYN)));
    let expected = [
        ("web-tcp".to_owned(), "allow", 2),
        ("web-icmp".to_owned(), "deny", 0),
        ("new".to_owned(), "deny", 1),
        ("(default)".to_owned(), "deny", 3),
        ("(no ports)".to_owned(), "deny", 0),
    ];
    assert_eq!(all(&world), expected);
}
