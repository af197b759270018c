//! Datagrams that something on the way damages, and forgeries, which are something else.

use super::*;

/// So many datagrams go from A to B, of which some arrive damaged, some do not, and some are forged besides.
fn pass(pair: &mut Pair, count: usize, fate: impl Fn(usize) -> Fate) {
    for i in 0..count {
        pair.a.send(WEB, &udp_packet(forth(4), 100).complete());
        let mut sent = pair.a.take_sent();
        match fate(i) {
            Fate::Arrives => pair.b.receive(&sent),
            Fate::IsLost => {}
            Fate::IsDamaged => {
                sent[0].bytes[60] ^= 1;
                pair.b.receive(&sent);
            }
            Fate::IsForgedToo => {
                pair.b.receive(&sent);
                let at = sent[0].bytes.len() - 1;
                sent[0].bytes[8..16].copy_from_slice(&(1_000_000 + i as u64).to_be_bytes());
                sent[0].bytes[at] ^= 1;
                pair.b.receive(&sent);
            }
        }
    }
    pair.b.take_delivered();
}

#[derive(Clone, Copy)]
enum Fate {
    Arrives,
    IsLost,
    IsDamaged,
    IsForgedToo,
}

/// What A hears of it a second later.
fn said(pair: &mut Pair) -> Vec<Event> {
    pair.b.tick(Duration::from_secs(1));
    let said = pair.b.take_sent();
    pair.a.receive(&said);
    let events = pair.a.events().into_iter();
    events.filter(|event| matches!(event, Event::Damaged { .. })).collect()
}

fn running() -> Pair {
    let mut pair = Pair::new();
    pass(&mut pair, 1, |_| Fate::Arrives);
    assert_eq!(said(&mut pair), []);
    pair
}

#[test]
fn a_sender_is_told_that_its_datagrams_are_damaged() {
    let mut pair = running();
    pass(&mut pair, 1000, |i| if i % 20 == 0 { Fate::IsDamaged } else { Fate::Arrives });
    let damaged = Event::Damaged { session: SESSION, refused: 50, sent: 1000 };
    assert_eq!(said(&mut pair), [damaged]);
    // It is over.
    pass(&mut pair, 1000, |_| Fate::Arrives);
    assert_eq!(said(&mut pair), []);
}

#[test]
fn forgeries_and_losses_and_single_accidents_are_no_damage() {
    let mut pair = running();
    pass(&mut pair, 1000, |i| if i % 2 == 0 { Fate::IsForgedToo } else { Fate::Arrives });
    assert_eq!(said(&mut pair), [], "nothing is missing");
    pass(&mut pair, 1000, |i| if i % 3 == 0 { Fate::IsLost } else { Fate::Arrives });
    assert_eq!(said(&mut pair), [], "nothing is refused");
    pass(&mut pair, 1000, |i| if i % 100 == 0 { Fate::IsDamaged } else { Fate::Arrives });
    assert_eq!(said(&mut pair), [], "ten of a thousand");
    pass(&mut pair, 6000, |i| if i % 150 == 0 { Fate::IsDamaged } else { Fate::Arrives });
    assert_eq!(said(&mut pair), [], "forty of six thousand");
}

#[test]
fn it_is_looked_at_once_a_second() {
    let mut pair = running();
    for _ in 0..10 {
        pass(&mut pair, 100, |i| if i % 10 == 0 { Fate::IsDamaged } else { Fate::Arrives });
        pair.b.tick(Duration::from_millis(50));
        assert!(pair.b.take_sent().is_empty());
    }
    let damaged = Event::Damaged { session: SESSION, refused: 100, sent: 1000 };
    assert_eq!(said(&mut pair), [damaged]);
}

#[test]
fn datagrams_leave_by_themselves_where_they_are_told_to() {
    let mut pair = running();
    let parts = |pair: &mut Pair| {
        pair.a.send(WEB, &udp_packet(forth(4), 100).complete());
        pair.a.send(WEB, &udp_packet(forth(4), 100).complete());
        pair.a.take_sent();
        std::mem::take(&mut pair.a.io.parts)
    };
    assert_eq!(parts(&mut pair), 0);
    pair.a.engine.set_segmented(LINK, false);
    assert_eq!(parts(&mut pair), 2);
    pair.a.engine.set_segmented(LINK, true);
    assert_eq!(parts(&mut pair), 0);
}
