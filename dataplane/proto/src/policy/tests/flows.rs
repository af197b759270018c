//! Answers pass, and for how long.

use super::*;

#[test]
fn whoever_may_be_asked_may_answer_and_not_before() {
    let echo = |kind: u8, id: u8| [kind, 0, 0, 0, 0, id, 0, 1];
    for (web, db, request, reply) in [(WEB, DB, 8, 0), ("fd00::2", "fd00::9", 128, 129)] {
        let world = World::new(&web_asks_db());
        for (asked, answered) in [
            (tcp(web, db, (40_000, 443), SYN), tcp(db, web, (443, 40_000), SYN_ACK)),
            (udp(web, db, (40_000, 443)), udp(db, web, (443, 40_000))),
            (icmp(web, db, &echo(request, 5)), icmp(db, web, &echo(reply, 5))),
        ] {
            // A segment from the middle of a connection is another matter.
            if asked.tuple().protocol != Protocol::Tcp {
                assert_eq!(world.judge(&answered), Err("(default)"));
            }
            assert_eq!(world.judge(&asked), Ok(()));
            assert_eq!(world.judge(&answered), Ok(()));
            assert_eq!(world.judge(&asked), Ok(()));
        }
        // Others' answers are none, nor those to other questions.
        assert!(!world.passes(&udp(db, web, (443, 40_001))));
        assert!(!world.passes(&udp(db, web, (444, 40_000))));
        assert!(!world.passes(&icmp(db, web, &echo(reply, 6))));
        assert!(!world.passes(&icmp(db, web, &echo(request, 5))), "a question is no answer");
    }
    let world = World::new(&web_asks_db());
    assert!(world.passes(&udp(WEB, DB, (40_000, 443))));
    assert!(!world.passes(&udp("10.0.0.8", WEB, (443, 40_000))));
    assert!(!world.passes(&udp("fd00::9", "fd00::2", (443, 40_000))));
    assert!(!world.passes(&tcp(DB, WEB, (443, 40_001), SYN)));
}

#[test]
fn protocols_without_ports_are_answered_too() {
    let any = Rule { from: both('2'), to: both('9'), ..rule("any", Verdict::Allow) };
    let mut world = World::new(&Rules { default: Verdict::Deny, rules: vec![any] });
    let tunnel = |from, to| seen(from, to, (0, 0), Header::Other(50), b"esp");
    assert!(!world.passes(&tunnel(DB, WEB)));
    assert!(world.passes(&tunnel(WEB, DB)) && world.passes(&tunnel(DB, WEB)));
    assert!(!world.passes(&seen(DB, WEB, (0, 0), Header::Other(51), &[0; 12])));
    world.wait(601);
    assert!(!world.passes(&tunnel(DB, WEB)));
}

#[test]
fn whoever_opens_a_connection_is_judged_also_where_there_is_one() {
    let world = World::new(&web_asks_db());
    assert!(world.passes(&ask(SYN)) && world.passes(&answer(SYN_ACK)) && world.passes(&ask(ACK)));
    assert_eq!(world.judge(&answer(SYN)), Err("(default)"));
    assert_eq!(world.judge(&answer(SYN | FIN & !ACK)), Err("(default)"));
    assert!(world.passes(&answer(ACK)), "the connection goes on");
    // Said again it is no other connection.
    assert!(world.passes(&ask(SYN)));
    assert_eq!(world.hits("web-tcp"), 1);
}

#[test]
fn the_middle_of_a_connection_is_judged_as_its_question_too() {
    // As after a restart: nothing is known.
    for flags in [ACK, FIN, SYN_ACK, RST] {
        let world = World::new(&web_asks_db());
        assert!(world.passes(&answer(flags)), "web may ask db, so this may be an answer");
        let world = World::new(&web_asks_db());
        assert!(world.passes(&ask(flags)));
    }
    let world = World::new(&web_asks_db());
    assert!(!world.passes(&answer(SYN)), "a first segment is no answer");
    assert!(!world.passes(&tcp(DB, WEB, (444, 40_000), ACK)), "nobody may ask there");
    assert!(!world.passes(&tcp(DB, WEB, (40_000, 443), ACK)));
    // What was found in the middle is a flow from then on, of the one who may ask.
    assert!(world.passes(&answer(ACK)) && world.passes(&answer(ACK)) && world.passes(&ask(ACK)));
    assert_eq!(world.hits("web-tcp"), 1);
}

#[test]
fn in_the_middle_the_lower_port_is_taken_for_the_one_that_was_asked() {
    // Everything but that db asks web: what db answers is not meant.
    let none = Rule { from: both('9'), to: both('2'), ..rule("no-web", Verdict::Deny) };
    let world = World::new(&Rules { default: Verdict::Allow, rules: vec![none] });
    assert!(world.passes(&answer(ACK)) && world.passes(&ask(ACK)));
    assert_eq!(world.judge(&answer(SYN)), Err("no-web"));
    assert_eq!(world.judge(&tcp(DB, WEB, (40_000, 80), ACK)), Err("no-web"));
    // A service whose port is higher than its client's: only rules can tell.
    let (high_ask, high_answer) =
        (tcp(WEB, DB, (40_000, 50_000), ACK), tcp(DB, WEB, (50_000, 40_000), ACK));
    let mut rules = web_asks_db();
    rules.rules[0].ports = vec![port(50_000)];
    for first in [high_ask, high_answer] {
        let world = World::new(&rules);
        assert!(world.passes(&first) && world.passes(&high_answer) && world.passes(&high_ask));
        assert_eq!(world.hits("web-tcp"), 1);
    }
    // A rule that is about the likely question decides.
    rules.rules.push(rule("nothing", Verdict::Deny));
    for first in [high_ask, high_answer] {
        assert_eq!(World::new(&rules).judge(&first), Err("nothing"));
    }
}

#[test]
fn udp_is_known_for_thirty_seconds_and_with_an_answer_for_three_minutes() {
    let (asked, answered) = (udp(WEB, DB, (40_000, 443)), udp(DB, WEB, (443, 40_000)));
    let mut world = World::new(&web_asks_db());
    assert!(world.passes(&asked));
    world.wait(30);
    assert!(world.passes(&answered));
    world.wait(180);
    assert!(world.passes(&answered), "each packet counts");
    world.wait(181);
    assert!(!world.passes(&answered));
    assert!(world.passes(&asked));
    world.wait(31);
    assert!(!world.passes(&answered), "a question that was not answered");
    assert_eq!(world.hits("web-udp"), 2);
}

#[test]
fn echoes_are_known_for_thirty_seconds() {
    let mut world = World::new(&web_asks_db());
    let (request, reply) =
        (icmp(WEB, DB, &[8, 0, 0, 0, 1, 2, 0, 0]), icmp(DB, WEB, &[0, 0, 0, 0, 1, 2, 0, 0]));
    assert!(world.passes(&request));
    world.wait(30);
    assert!(world.passes(&reply));
    world.wait(31);
    assert!(!world.passes(&reply));
}

/// How long a connection is known after these segments: until it counts as another.
fn known_for(segments: &[Seen]) -> u64 {
    let is_known_after = |seconds| {
        let mut world = World::new(&web_asks_db());
        assert!(segments.iter().all(|segment| world.passes(segment)));
        world.wait(seconds);
        // A policy with which only what is known passes.
        let before = world.hits("web-tcp");
        assert!(world.passes(&ask(ACK)));
        world.hits("web-tcp") == before
    };
    let (mut known, mut unknown) = (0, 1 << 20);
    while unknown - known > 1 {
        let middle = (known + unknown) / 2;
        if is_known_after(middle) { known = middle } else { unknown = middle }
    }
    known
}

#[test]
fn connections_are_known_as_long_as_they_live() {
    let opened = vec![ask(SYN), answer(SYN_ACK), ask(ACK)];
    let with = |more: &[Seen]| [opened.clone(), more.to_vec()].concat();
    assert_eq!(known_for(&opened[..1]), 120);
    assert_eq!(known_for(&opened), 7_440);
    assert_eq!(known_for(&with(&[ask(FIN)])), 120);
    assert_eq!(known_for(&with(&[ask(FIN), ask(FIN), answer(ACK)])), 120, "one end has ended");
    assert_eq!(known_for(&with(&[ask(FIN), answer(FIN), ask(ACK)])), 30);
    assert_eq!(known_for(&with(&[answer(RST)])), 10);
    assert_eq!(known_for(&with(&[answer(RST), ask(ACK), ask(FIN)])), 10, "nothing keeps it");
}

#[test]
fn ports_that_are_used_again_are_another_connection() {
    let world = World::new(&web_asks_db());
    for end in [vec![ask(RST)], vec![ask(FIN)], vec![ask(FIN), answer(FIN), ask(ACK)]] {
        let before = world.hits("web-tcp");
        assert!(world.passes(&ask(SYN)) && world.passes(&answer(SYN_ACK)));
        assert_eq!(world.hits("web-tcp"), before + 1);
        assert!(end.iter().all(|segment| world.passes(segment)));
    }
}

#[test]
fn directions_may_be_of_different_workers() {
    let world = World::new(&web_asks_db());
    let by = |worker, seen| world.guard.judge(world.now, WorkerId::new(worker).unwrap(), &seen);
    assert_eq!(by(0, udp(WEB, DB, (40_000, 443))), Ok(()));
    assert_eq!(by(1, udp(DB, WEB, (443, 40_000))), Ok(()));
    assert_eq!(by(1, udp(WEB, DB, (40_001, 443))), Ok(()));
    assert_eq!(world.hits("web-udp"), 2, "both workers' counters");
}
