//! What tells of errors goes with what it is about.

use super::*;

/// An error about a packet, which it quotes up to eight bytes behind the IP header.
fn error(from: &str, to: &str, kind: u8, about: (&str, &str, (u16, u16))) -> Seen {
    let (source, destination, ports) = about;
    let flow = Flow { source: addr(source), destination: addr(destination), ports };
    let packet = Packet::new(flow, Header::Udp, b"x".to_vec()).complete();
    let header_len = if source.contains(':') { 40 } else { 20 };
    icmp(from, to, &[&[kind, 0, 0, 0, 0, 0, 0, 0], &packet[10..][..header_len + 8]].concat())
}

#[test]
fn an_error_passes_with_what_it_is_about() {
    for (web, db, kinds) in [(WEB, DB, [3, 11, 12]), ("fd00::2", "fd00::9", [1, 2, 3])] {
        let mut rules = web_asks_db();
        rules.rules.retain(|rule| rule.name.as_str() != "web-icmp");
        let world = World::new(&rules);
        for kind in kinds {
            assert!(
                world.passes(&error(db, web, kind, (web, db, (40_000, 443)))),
                "it may be sent"
            );
            assert!(!world.passes(&error(db, web, kind, (web, db, (40_000, 444)))));
            assert!(!world.passes(&error(web, db, kind, (db, web, (443, 40_002)))), "nobody asked");
        }
        // About an answer, once it is one.
        assert!(world.passes(&udp(web, db, (40_002, 443))));
        assert!(world.passes(&error(web, db, kinds[0], (db, web, (443, 40_002)))));
    }
}

#[test]
fn an_error_about_others_packets_is_none() {
    let world = World::new(&web_asks_db());
    assert!(world.passes(&udp(WEB, DB, (40_000, 443))));
    let about = (WEB, DB, (40_000, 443));
    assert!(!world.passes(&error("10.0.0.8", WEB, 3, about)), "not from whom it was sent to");
    assert!(!world.passes(&error(DB, "10.0.0.8", 3, about)), "not to who sent it");
    assert!(!world.passes(&error(DB, WEB, 5, about)), "a redirect");
    assert!(!world.passes(&icmp(DB, WEB, &[3, 0, 0, 0, 0, 0, 0, 0])), "about nothing");
    assert!(!world.passes(&icmp(DB, WEB, &[])));
    // ICMP that a rule allows needs no flow.
    assert!(world.passes(&error(WEB, DB, 3, (DB, WEB, (1, 2)))));
    assert!(world.passes(&icmp(WEB, DB, &[13, 0, 0, 0, 0, 0, 0, 0])));
}

#[test]
fn an_error_does_not_keep_a_flow() {
    let mut rules = web_asks_db();
    rules.rules.truncate(2);
    let mut world = World::new(&rules);
    assert!(world.passes(&udp(WEB, DB, (40_000, 443))));
    let about = (DB, WEB, (443, 40_000));
    world.wait(20);
    assert!(world.passes(&error(WEB, DB, 3, about)));
    world.wait(20);
    assert!(!world.passes(&error(WEB, DB, 3, about)));
}
