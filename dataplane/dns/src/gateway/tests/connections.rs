//! A client that speaks TCP as plainly as it can.

use super::*;
use crate::limits::{CONNECTION_IDLE_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX};

struct Client {
    from: IpAddr,
    to: IpAddr,
    port: u16,
    next: u32,
    seen: u32,
    received: Vec<u8>,
    finished: bool,
    reset: bool,
}

impl Client {
    fn new(family: usize, port: u16) -> Self {
        let (from, to) = ip(family);
        Self {
            from,
            to,
            port,
            next: 1_000,
            seen: 0,
            received: Vec::new(),
            finished: false,
            reset: false,
        }
    }

    fn packet(&self, flags: &str, data: &[u8]) -> Vec<u8> {
        let mut step = builder!(self.from, self.to).tcp(self.port, 53, self.next, 60_000);
        for flag in flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'F' => step.fin(),
                'R' => step.rst(),
                _ => step.ack(self.seen),
            };
        }
        let mut packet = Vec::new();
        step.write(&mut packet, data).unwrap();
        packet
    }

    fn send(&mut self, gateway: &mut Gateway, flags: &str, data: &[u8], now: Instant) {
        let packet = self.packet(flags, data);
        let flags = flags.chars().filter(|flag| "SF".contains(*flag)).count();
        self.next += u32::try_from(data.len() + flags).unwrap();
        gateway.handle_packet(&packet, now).unwrap();
        self.take(gateway, now);
    }

    /// Takes what came in order and acknowledges it, until nothing more comes.
    fn take(&mut self, gateway: &mut Gateway, now: Instant) {
        loop {
            let mut news = false;
            for packet in polled(gateway) {
                let sliced = SlicedPacket::from_ip(&packet).unwrap();
                let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { continue };
                if tcp.destination_port() != self.port {
                    continue;
                }
                self.reset |= tcp.rst();
                if tcp.syn() {
                    self.seen = tcp.sequence_number();
                }
                let len = u32::try_from(tcp.payload().len()).unwrap();
                let len = len + u32::from(tcp.syn()) + u32::from(tcp.fin());
                if tcp.sequence_number() == self.seen && len > 0 {
                    self.seen = self.seen.wrapping_add(len);
                    self.received.extend(tcp.payload());
                    self.finished |= tcp.fin();
                    news = true;
                }
            }
            if !news {
                return;
            }
            gateway.handle_packet(&self.packet("A", &[]), now).unwrap();
        }
    }

    fn open(gateway: &mut Gateway, family: usize, port: u16, now: Instant) -> Self {
        let mut client = Self::new(family, port);
        client.send(gateway, "S", &[], now);
        assert!(!client.reset && client.seen != 0);
        client
    }

    fn messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut rest = std::mem::take(&mut self.received);
        while let Some([high, low]) = rest.first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            messages.push(Message::from_vec(&rest[2..2 + len]).unwrap());
            rest.drain(..2 + len);
        }
        messages
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).unwrap();
    [&len.to_be_bytes()[..], message].concat()
}

fn open_connections(gateway: &Gateway) -> usize {
    gateway.streams.len()
}

#[test]
fn a_long_answer_comes_whole_and_the_connection_closes() {
    for family in [0, 1] {
        let (mut gateway, now) = gateway();
        let mut client = Client::open(&mut gateway, family, 4_000, now);
        let asked = query("_http._tcp.web.internal.", RecordType::SRV);
        client.send(&mut gateway, "A", &framed(&asked), now);
        let messages = client.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].answers.len(), 60);
        assert!(!messages[0].metadata.truncation);
        client.send(&mut gateway, "FA", &[], now);
        assert!(client.finished && !client.reset);
        client.take(&mut gateway, now);
        assert_eq!(open_connections(&gateway), 0);
        assert_eq!(gateway.next_timeout(now), None);
    }
}

#[test]
fn queries_come_in_pieces_and_several_at_once() {
    let (mut gateway, now) = gateway();
    let mut client = Client::open(&mut gateway, 0, 4_000, now);
    let one = framed(&query("1.web.internal.", RecordType::A));
    let three =
        [one.clone(), framed(&query("2.web.internal.", RecordType::A)), one.clone()].concat();
    for byte in &one {
        client.send(&mut gateway, "A", &[*byte], now);
    }
    assert_eq!(client.messages().len(), 1);
    client.send(&mut gateway, "A", &three, now);
    let found: Vec<_> = client.messages().iter().map(|m| m.answers[0].data.to_string()).collect();
    assert_eq!(found, ["10.40.1.3", "10.40.1.4", "10.40.1.3"]);
}

#[test]
fn whatever_is_no_query_ends_a_connection() {
    for length in [[0xff, 0xff], [0, 11], [4, 1]] {
        let (mut gateway, now) = gateway();
        let mut client = Client::open(&mut gateway, 0, 4_000, now);
        client.send(&mut gateway, "A", &length, now);
        assert!(client.reset, "{length:?}");
        assert_eq!(open_connections(&gateway), 0);
    }
    let (mut gateway, now) = gateway();
    let mut client = Client::open(&mut gateway, 0, 4_000, now);
    let mut answer = query("web.internal.", RecordType::A);
    answer[2] |= 0x80;
    client.send(&mut gateway, "A", &framed(&answer), now);
    assert!(client.finished && client.received.is_empty());
}

#[test]
fn idle_connections_are_closed_and_silent_ones_cut_off() {
    let (mut gateway, begun) = gateway();
    let mut client = Client::open(&mut gateway, 0, 4_000, begun);
    let mut half_open = Client::new(1, 4_001);
    gateway.handle_packet(&half_open.packet("S", &[]), begun).unwrap();
    polled(&mut gateway);
    let later = begun + Duration::from_secs(6);
    client.send(&mut gateway, "A", &framed(&query("1.web.internal.", RecordType::A)), later);
    // A byte now and then is not a query.
    client.send(&mut gateway, "A", &[0], later + Duration::from_secs(5));
    assert!(!client.finished);
    let mut now = later + Duration::from_secs(5);
    let mut steps = 0;
    while let Some(due) = gateway.next_timeout(now) {
        assert!(due <= later + CONNECTION_IDLE_MAX * 2 + Duration::from_secs(1));
        now = due.max(now);
        gateway.handle_timeout(now);
        client.take(&mut gateway, now);
        half_open.take(&mut gateway, now);
        steps += 1;
        assert!(steps < 50, "it ends");
    }
    assert!(client.finished);
    assert_eq!(open_connections(&gateway), 0);
}

#[test]
fn connections_are_counted() {
    let (mut gateway, now) = gateway();
    let mut opened = 0;
    for source in 2..40u8 {
        for port in 0..6u16 {
            let mut client = Client::new(0, 4_000 + port);
            client.from = [10, 40, 0, source].into();
            let taken = gateway.handle_packet(&client.packet("S", &[]), now);
            let full = opened == CONNECTIONS_MAX || usize::from(port) >= CONNECTIONS_PER_SOURCE_MAX;
            assert_eq!(taken, if full { Err(DropReason::Connections) } else { Ok(()) });
            opened += usize::from(!full);
            polled(&mut gateway);
        }
    }
    assert_eq!(open_connections(&gateway), CONNECTIONS_MAX);
    // The same again is no new one, and who resets makes room.
    let mut client = Client::new(0, 4_000);
    gateway.handle_packet(&client.packet("S", &[]), now).unwrap();
    client.next += 1;
    gateway.handle_packet(&client.packet("R", &[]), now).unwrap();
    assert_eq!(open_connections(&gateway), CONNECTIONS_MAX - 1);
}

#[test]
fn answers_from_outside_go_to_their_connection_and_in_order() {
    let now = Instant::now();
    let server: SocketAddr = "192.0.2.1:53".parse().unwrap();
    let mut gateway = gateway_with(Outside::Forward(vec![server]), now);
    let mut client = Client::open(&mut gateway, 0, 4_000, now);
    let outside = framed(&query("example.com.", RecordType::A));
    let ours = framed(&query("1.web.internal.", RecordType::A));
    client.send(&mut gateway, "A", &[outside.clone(), ours].concat(), now);
    assert!(client.received.is_empty());
    let asked = gateway.poll_forward().unwrap();
    assert_eq!(asked.transport, Transport::Tcp);
    assert_eq!(gateway.poll_forward(), None);
    let mut answer = asked.message.clone();
    answer[2] |= 0x80;
    gateway.handle_forward_answer(asked.token, server, &answer, now).unwrap();
    client.take(&mut gateway, now);
    let found: Vec<_> = client.messages().iter().map(|m| m.queries[0].name().to_ascii()).collect();
    assert_eq!(found, ["example.com.", "1.web.internal."]);

    // A connection that is gone gets none, nor does the next one with the same ports.
    client.send(&mut gateway, "A", &outside, now);
    let asked = gateway.poll_forward().unwrap();
    client.send(&mut gateway, "RA", &[], now);
    let mut next = Client::open(&mut gateway, 0, 4_000, now);
    next.send(&mut gateway, "A", &outside, now);
    let asked_next = gateway.poll_forward().unwrap();
    for (asked, answers) in [(asked, 0), (asked_next, 1)] {
        let mut answer = asked.message.clone();
        answer[2] |= 0x80;
        gateway.handle_forward_answer(asked.token, server, &answer, now).unwrap();
        next.take(&mut gateway, now);
        assert_eq!(next.messages().len(), answers);
    }
}

#[test]
fn what_is_lost_is_sent_again() {
    let (mut gateway, begun) = gateway();
    let mut client = Client::open(&mut gateway, 0, 4_000, begun);
    let asked = framed(&query("1.web.internal.", RecordType::A));
    let packet = client.packet("A", &asked);
    client.next += u32::try_from(asked.len()).unwrap();
    gateway.handle_packet(&packet, begun).unwrap();
    assert!(!polled(&mut gateway).is_empty(), "and all of it is lost");
    let due = gateway.next_timeout(begun).unwrap();
    gateway.handle_timeout(due);
    client.take(&mut gateway, due);
    assert_eq!(client.messages().len(), 1);
}
