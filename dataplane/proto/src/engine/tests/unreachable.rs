//! ICMP errors to containers: about their own packets, rate limited, never about errors.

use super::*;

fn to_nowhere(version: u8) -> Packet {
    let mut flow = forth(version);
    flow.destination = addr(if version == 4 { "10.0.0.77" } else { "fd00::77" });
    udp_packet(flow, 100)
}

#[test]
fn the_container_is_told_that_nobody_is_there() {
    for (version, kind, code, gateway) in [(4, 3, 1, "10.0.0.1"), (6, 1, 3, "fd00::1")] {
        let mut pair = Pair::new();
        let packet = to_nowhere(version).unfinished();
        pair.a.send(WEB, &packet);
        let delivered = pair.a.take_delivered();
        assert_eq!(delivered.len(), 1);
        let (slot, data) = &delivered[0];
        assert_eq!((*slot, &data[..10]), (WEB, &[0; 10][..]));
        let error = weft_wire::Inner::parse(&data[10..]).unwrap();
        assert_eq!(error.source, addr(gateway));
        assert_eq!(error.destination, to_nowhere(version).flow.source);
        let icmp = &data[10 + usize::from(error.transport)..];
        assert_eq!((icmp[0], icmp[1]), (kind, code));
        assert_eq!(icmp[8..], packet[10..], "quotes the packet");
        assert_eq!(pair.a.drops(DropReason::NoRoute), 1);
        assert!(pair.a.io.datagrams.is_empty());
    }
}

#[test]
fn the_container_is_told_how_much_the_way_carries() {
    // 1472 − 44 bytes of overhead are left for a packet.
    for (version, headers) in [(4, 28), (6, 48)] {
        let mut pair = Pair::new();
        let fits = 1_428 - headers;
        pair.a.send(WEB, &udp_packet(forth(version), fits).complete());
        assert_eq!(pair.a.take_delivered(), []);
        let kinds = if version == 4 { [3, 4] } else { [2, 0] };
        let whole = udp_packet(forth(version), fits + 1).complete();
        let cut = udp_packet(forth(version), 5_000).superpacket(1_428);
        for packet in [whole, cut] {
            pair.a.send(WEB, &packet);
            let delivered = pair.a.take_delivered();
            assert_eq!(delivered.len(), 1);
            let error = &delivered[0].1[10..];
            let inner = weft_wire::Inner::parse(error).unwrap();
            let icmp = &error[usize::from(inner.transport)..];
            assert_eq!(icmp[..2], kinds);
            assert_eq!(icmp[6..8], 1_428_u16.to_be_bytes());
            assert_eq!(icmp[8..40], packet[10..42], "quotes the packet");
        }
        assert_eq!(pair.a.drops(DropReason::TooBig), 2);
    }
}

#[test]
fn ten_at_once_and_ten_a_second() {
    let mut pair = Pair::new();
    let packet = to_nowhere(4).unfinished();
    let mut told = |after: Duration| {
        pair.advance(after);
        for _ in 0..50 {
            pair.a.send(WEB, &packet);
        }
        pair.a.take_delivered().len()
    };
    assert_eq!(told(Duration::ZERO), 10);
    assert_eq!(told(Duration::from_millis(99)), 0);
    assert_eq!(told(Duration::from_millis(301)), 4);
    assert_eq!(told(Duration::from_secs(60)), 10);
    // One attachment's noise does not silence another.
    let mut other = to_nowhere(4);
    other.flow.source = addr("10.0.0.3");
    pair.a.send(APP, &other.unfinished());
    assert_eq!(pair.a.take_delivered().len(), 1);
    assert_eq!(pair.a.drops(DropReason::NoRoute), 201);
}

#[test]
fn errors_fragments_and_groups_are_not_answered() {
    let mut pair = Pair::new();
    let mut error = Packet::new(to_nowhere(4).flow, Transport::Other(1), bytes(30));
    error.payload[0] = 3;
    pair.a.send(WEB, &error.complete());
    let mut error = Packet::new(to_nowhere(6).flow, Transport::Other(58), bytes(30));
    error.payload[0] = 1;
    pair.a.send(WEB, &error.complete());
    let mut fragment = to_nowhere(4).complete();
    fragment[17] = 9;
    pair.a.send(WEB, &fragment);
    let mut group = to_nowhere(4);
    group.flow.destination = addr("224.0.0.5");
    pair.a.send(WEB, &group.unfinished());
    assert_eq!(pair.a.take_delivered(), []);
    assert_eq!(pair.a.drops(DropReason::NoRoute), 3);
}

#[test]
fn without_a_gateway_nobody_speaks() {
    let mut pair = Pair::new();
    let new = NewEnvironment {
        gateway: None,
        gateway6: None,
        share: Share::default(),
        counters: pair.a.counters[0].clone(),
    };
    pair.a.engine.add_environment(ENV, new);
    pair.a.send(WEB, &to_nowhere(4).unfinished());
    pair.a.send(WEB, &to_nowhere(6).unfinished());
    assert_eq!(pair.a.take_delivered(), []);
    assert_eq!(pair.a.drops(DropReason::NoRoute), 2);
}

#[test]
fn a_foreign_address_looks_as_an_absent_one() {
    // 10.0.0.3 lives in environment 0 only; from environment 1 it is as nobody's.
    let mut pair = Pair::new();
    pair.a.send(OTHER, &udp_packet(flow("10.0.0.2", "10.0.0.3"), 10).unfinished());
    let foreign = pair.a.take_delivered();
    pair.a.send(OTHER, &udp_packet(flow("10.0.0.2", "10.0.0.4"), 10).unfinished());
    let absent = pair.a.take_delivered();
    assert_eq!((foreign.len(), absent.len()), (1, 1));
    // The same up to the checksum and what they quote.
    let shape = |data: &[u8]| (data[..32].to_vec(), data[34..38].to_vec(), data.len());
    assert_eq!(shape(&foreign[0].1), shape(&absent[0].1));
}
