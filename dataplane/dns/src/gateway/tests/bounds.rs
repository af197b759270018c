//! What one source can make the gateway say, whatever it sends.

use proptest::prelude::*;

use super::*;

/// What a packet may become before it is sent.
#[derive(Debug, Clone)]
enum Step {
    Udp { port: u16, name: &'static str, kind: u16 },
    Ping(usize),
    Tcp { port: u16, flags: u8, sequence: u32, acknowledged: u32, data: Vec<u8> },
    Bytes(Vec<u8>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let names = ["web.internal.", "_http._tcp.web.internal.", "nope.internal.", "example.com."];
    let port = prop_oneof![Just(53u16), Just(54), any::<u16>()];
    prop_oneof![
        (port.clone(), 0usize..4, prop_oneof![Just(1u16), Just(28), Just(33), Just(255)])
            .prop_map(move |(port, name, kind)| Step::Udp { port, name: names[name], kind }),
        (0usize..20_000).prop_map(Step::Ping),
        (
            port,
            any::<u8>(),
            990u32..1_010,
            prop_oneof![Just(0u32), any::<u32>()],
            proptest::collection::vec(any::<u8>(), 0..60)
        )
            .prop_map(|(port, flags, sequence, acknowledged, data)| Step::Tcp {
                port,
                flags,
                sequence,
                acknowledged,
                data
            }),
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(Step::Bytes),
        (0u64..3_000).prop_map(Step::Wait),
    ]
}

fn packet(step: &Step) -> Vec<u8> {
    let (from, to) = ip(0);
    let mut packet = Vec::new();
    match step {
        Step::Udp { port, name, kind } => {
            return udp_packet(0, (4_000, *port), &query(name, (*kind).into()));
        }
        Step::Ping(len) => {
            let ping = builder!(from, to).icmpv4_echo_request(1, 1);
            ping.write(&mut packet, &vec![1; *len]).unwrap();
        }
        Step::Tcp { port, flags, sequence, acknowledged, data } => {
            let mut tcp = builder!(from, to).tcp(4_000, *port, *sequence, 60_000);
            if flags & 1 != 0 {
                tcp = tcp.fin();
            }
            if flags & 2 != 0 {
                tcp = tcp.syn();
            }
            if flags & 4 != 0 {
                tcp = tcp.rst();
            }
            if flags & 16 != 0 {
                tcp = tcp.ack(*acknowledged);
            }
            tcp.write(&mut packet, data).unwrap();
        }
        Step::Bytes(bytes) => packet.clone_from(bytes),
        Step::Wait(_) => {}
    }
    packet
}

proptest! {
    /// Nothing panics, and to one source goes, in every stretch of time, no more than its burst and rate of bytes
    /// allow. Only whole packets with right checksums leave, and only to who sent.
    #[test]
    fn one_source_gets_so_much_and_no_more(steps in proptest::collection::vec(step(), 0..200)) {
        let begun = Instant::now();
        let mut gateway = gateway_with(Outside::Refuse, begun);
        let limits = Limits::default();
        let mut now = begun;
        let mut sent: Vec<(Instant, usize)> = Vec::new();
        for step in &steps {
            if let Step::Wait(ms) = step {
                let until = now + Duration::from_millis(*ms);
                for _ in 0..100 {
                    let Some(due) = gateway.next_timeout(now).filter(|due| *due <= until) else { break };
                    now = now.max(due);
                    gateway.handle_timeout(now);
                    sent.push((now, polled(&mut gateway).iter().map(Vec::len).sum()));
                }
                now = until;
            }
            for _ in 0..5 {
                let _ = gateway.handle_packet(&packet(step), now);
                let out = polled(&mut gateway);
                for packet in &out {
                    let inner = weft_wire::Inner::parse(packet).unwrap();
                    prop_assert!(step_source(step).is_none_or(|from| from == inner.destination));
                }
                sent.push((now, out.iter().map(Vec::len).sum()));
            }
        }
        let (per_second, burst) = (f64::from(limits.bytes.per_second), f64::from(limits.bytes.burst));
        for first in 0..sent.len() {
            let mut sum = 0;
            for (at, len) in &sent[first..] {
                sum += len;
                let stretch = at.saturating_duration_since(sent[first].0).as_secs_f64();
                prop_assert!(sum as f64 <= burst + per_second * stretch + 1.0);
            }
        }
    }
}

/// Who sent, if it is one of ours: `Bytes` may be from anybody.
fn step_source(step: &Step) -> Option<IpAddr> {
    match step {
        Step::Bytes(_) => None,
        _ => Some(ip(0).0),
    }
}

#[test]
fn a_flood_is_answered_at_its_rates() {
    let (mut gateway, begun) = gateway();
    let asked = udp_packet(0, (4_000, 53), &query("1.web.internal.", RecordType::A));
    let refused = udp_packet(0, (4_000, 54), b"x");
    let mut answered = |packet: &[u8], ms: u64| {
        let now = begun + Duration::from_millis(ms);
        (0..500)
            .filter(|_| {
                gateway.handle_packet(packet, now).is_ok() && !polled(&mut gateway).is_empty()
            })
            .count()
    };
    assert_eq!(answered(&asked, 0), 100);
    assert_eq!(answered(&refused, 0), 50, "refusals have a rate of their own");
    assert_eq!(answered(&asked, 100), 20);
    assert_eq!(answered(&refused, 100), 10);
}

#[test]
fn bytes_have_a_rate_of_their_own() {
    let (mut gateway, begun) = gateway();
    let ping = packet(&Step::Ping(9_000));
    let mut answered = |ms: u64| {
        let now = begun + Duration::from_millis(ms);
        let mut sent = 0;
        for _ in 0..50 {
            let _ = gateway.handle_packet(&ping, now);
            sent += polled(&mut gateway).iter().map(Vec::len).sum::<usize>();
        }
        sent / ping.len()
    };
    assert_eq!(answered(0), 128_000 / ping.len());
    assert_eq!(answered(1_000), 128_000 / ping.len());
    assert_eq!(answered(1_200), 256_000 / 5 / ping.len());
}

/// The answer to one packet is never longer than so many times the packet.
#[test]
fn one_packet_is_answered_with_a_bounded_one() {
    const TIMES_MAX: usize = 25;
    for kind in [1, 28, 33, 255] {
        for name in ["web.internal.", "_http._tcp.web.internal.", "internal.", "x.internal."] {
            let (mut gateway, now) = gateway();
            let mut message = Message::from_vec(&query(name, RecordType::A)).unwrap();
            message.queries[0].set_query_type(RecordType::from(kind));
            let mut edns = hickory_proto::op::Edns::new();
            edns.set_max_payload(65_535);
            message.edns = Some(edns);
            let packet = udp_packet(0, (4_000, 53), &message.to_bytes().unwrap());
            gateway.handle_packet(&packet, now).unwrap();
            let out: usize = polled(&mut gateway).iter().map(Vec::len).sum();
            assert!(out > 0 && out <= packet.len() * TIMES_MAX, "{} to {out}", packet.len());
        }
    }
}
