//! Datagrams that come from another address than the peer's.

use super::*;
use crate::{
    roam::SEEN_EVERY,
    way::{Source, Via},
};

const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 40_000);
const NUMBER: u64 = 0x0123_4567_89ab_cdef;

fn elsewhere() -> Event {
    Event::Elsewhere { session: SESSION, from: ELSEWHERE, is_home: true }
}

impl Side {
    fn receive_from(&mut self, from: SocketAddr, datagrams: &[Sent]) {
        for Sent { ecn, bytes, .. } in datagrams {
            let io = &mut self.io;
            self.engine.handle_datagrams(self.now, from, *ecn, bytes.len(), bytes, io);
        }
        self.engine.finish_receive(&mut self.io);
    }
}

fn a_datagram(pair: &mut Pair) -> Vec<Sent> {
    pair.a.send(WEB, &udp_packet(forth(4), 100).complete());
    pair.a.take_sent()
}

/// What B says of one more datagram that comes from there.
fn said_of(pair: &mut Pair, from: SocketAddr) -> Vec<Event> {
    let sent = a_datagram(pair);
    pair.b.receive_from(from, &sent);
    pair.b.events()
}

/// Where B sends.
fn way_of_b(pair: &mut Pair) -> Way {
    pair.b.send(WEB, &udp_packet(flow("10.0.0.9", "10.0.0.2"), 100).complete());
    pair.b.take_sent()[0].way
}

#[test]
fn a_datagram_from_elsewhere_is_said_and_moves_nothing() {
    let mut pair = Pair::new();
    let usual = way_of_b(&mut pair);
    assert_eq!(usual, Way::direct(endpoint(0, 0)));
    let sent = a_datagram(&mut pair);
    pair.b.receive_from(ELSEWHERE, &sent);
    assert_eq!(pair.b.take_delivered().len(), 1, "it is good all the same");
    assert_eq!(pair.b.events(), [Event::Alive(SESSION), elsewhere()]);
    assert_eq!(way_of_b(&mut pair), usual);
    // Not at every datagram.
    assert_eq!(said_of(&mut pair, ELSEWHERE), []);
    pair.advance(SEEN_EVERY);
    assert_eq!(said_of(&mut pair, ELSEWHERE), [elsewhere()]);
    // Where nobody answers, ever more rarely.
    pair.advance(SEEN_EVERY);
    assert_eq!(said_of(&mut pair, ELSEWHERE), []);
    pair.advance(SEEN_EVERY);
    assert_eq!(said_of(&mut pair, ELSEWHERE), [elsewhere()]);
    // A third place is another matter.
    pair.advance(SEEN_EVERY);
    let third = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 40_000);
    assert_eq!(said_of(&mut pair, third).len(), 1);
    // From another port of the same host it is nothing new.
    pair.advance(SEEN_EVERY);
    let sent = a_datagram(&mut pair);
    pair.b.receive_from(SocketAddr::new(UNDERLAY.ip(), 50_000), &sent);
    assert_eq!(pair.b.events(), []);
}

#[test]
fn what_is_not_authentic_says_nothing() {
    let mut pair = Pair::new();
    let sent = a_datagram(&mut pair);
    pair.b.receive(&sent);
    assert_eq!(pair.b.events(), [Event::Alive(SESSION)]);
    // Replayed.
    pair.b.receive_from(ELSEWHERE, &sent);
    // Forged, in every byte.
    for at in 0..sent[0].bytes.len() {
        let mut forged = a_datagram(&mut pair);
        forged[0].bytes[at] ^= 1;
        pair.b.receive_from(ELSEWHERE, &forged);
    }
    let said = pair.b.events();
    assert!(!said.iter().any(|event| matches!(event, Event::Elsewhere { .. })), "{said:?}");
}

#[test]
fn a_challenge_goes_where_it_is_told_and_its_answer_where_the_peer_was() {
    let mut pair = Pair::new();
    let way = Way { to: ELSEWHERE, via: Via::Listen };
    pair.b.engine.challenge(pair.b.now, SESSION, way, NUMBER, &mut pair.b.io);
    let challenge = pair.b.take_sent();
    assert_eq!((challenge.len(), challenge[0].way), (1, way));
    assert_eq!(challenge[0].bytes.len(), 44, "no longer than what caused it");
    pair.a.receive(&challenge);
    assert!(pair.a.events().contains(&Event::Challenged(SESSION)));
    let answer = pair.a.take_sent();
    assert_eq!((answer.len(), answer[0].way), (1, Way::direct(endpoint(1, 0))));
    pair.b.events();
    pair.b.receive_from(ELSEWHERE, &answer);
    let said = pair.b.events();
    assert!(said.contains(&Event::Answered(SESSION, NUMBER)), "{said:?}");
    pair.b.engine.set_way(pair.b.now, LINK, way);
    assert_eq!(way_of_b(&mut pair), way);
    // The other environment's link has its own way.
    pair.b.send(OTHER, &udp_packet(flow("10.0.0.9", "10.0.0.2"), 100).complete());
    assert_eq!(pair.b.take_sent()[0].way, Way::direct(endpoint(0, 1)));
}

/// The peer asks because its usual way may be no good, and so may be ours.
#[test]
fn an_answer_goes_where_the_question_came_from_as_well() {
    let mut pair = Pair::new();
    let usual = Way::direct(endpoint(1, 0));
    let asked_from = |pair: &mut Pair, source: Source| {
        let way = Way::direct(endpoint(0, 0));
        pair.b.engine.challenge(pair.b.now, SESSION, way, NUMBER, &mut pair.b.io);
        let Sent { bytes, .. } = &pair.b.take_sent()[0];
        let (now, io) = (pair.a.now, &mut pair.a.io);
        pair.a.engine.handle_datagrams(now, source, Ecn::NotEct, bytes.len(), bytes, io);
        pair.a.take_sent().into_iter().map(|sent| sent.way).collect::<Vec<_>>()
    };
    let back = Way { to: ELSEWHERE, via: Via::Listen };
    assert_eq!(asked_from(&mut pair, Source::Udp(back)), [usual, back]);
    assert_eq!(asked_from(&mut pair, usual.to.into()), [usual]);
    assert_eq!(asked_from(&mut pair, Source::Stream), [usual]);
    // By stream, where UDP may not get through: what came by UDP is answered by both.
    let stream = Way { to: usual.to, via: Via::Stream(LINK) };
    pair.a.engine.set_way(pair.a.now, LINK, stream);
    assert_eq!(asked_from(&mut pair, usual.to.into()), [stream, usual]);
}

#[test]
fn what_comes_on_a_stream_says_nothing_of_a_place_and_by_udp_it_does_meanwhile() {
    let mut pair = Pair::new();
    let sent = a_datagram(&mut pair);
    let (now, bytes) = (pair.b.now, &sent[0].bytes);
    let io = &mut pair.b.io;
    pair.b.engine.handle_datagrams(now, Source::Stream, Ecn::NotEct, bytes.len(), bytes, io);
    assert_eq!(pair.b.events(), [Event::Alive(SESSION)]);
    let way = Way { to: endpoint(0, 0), via: Via::Stream(LINK) };
    pair.b.engine.set_way(pair.b.now, LINK, way);
    assert_eq!(way_of_b(&mut pair), way);
    let from = endpoint(0, 0);
    let said = said_of(&mut pair, from);
    assert_eq!(said, [Event::Elsewhere { session: SESSION, from, is_home: true }]);
}
