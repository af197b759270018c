//! What each fuzz target does with its bytes. A target must not panic, whatever they are.

use weft_sim::packet::kernel_output;
use weft_wire::{
    Ecn, Header, Inner, Kind, METADATA_LEN, Metadata,
    hello::Frame,
    icmp::{self, Cause, ICMP_ERROR_MAX},
};

use super::pair::{DATAGRAM_MAX, Memory, Pair, addresses};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const ALL: [(&str, Target); 7] = [
    ("datagram", datagram),
    ("frame_metadata", frame_metadata),
    ("container_frame", container_frame),
    ("inner_packet", inner_packet),
    ("hello", hello),
    ("config", config),
    ("helper", helper),
];

/// What an unauthenticated sender can do: bytes as one receive gives them. Bytes 0 and 1 are the
/// segment size, the lower bits of byte 2 the ECN bits.
pub fn datagram(data: &[u8]) {
    let Some(([high, low, ecn], data)) = data.split_first_chunk::<3>() else { return };
    let segment = usize::from(u16::from_be_bytes([*high, *low]));
    for part in data.chunks(segment.max(1)) {
        if let Ok(header) = Header::decode(part) {
            assert_eq!(header.encode(), part[..16]);
        }
    }
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    pair.server.handle_datagrams(
        pair.now,
        Pair::UNDERLAY,
        Ecn::from_bits(*ecn),
        segment,
        data,
        &mut io,
    );
    pair.server.finish_receive(&mut io);
    check_delivered(&io, 1);
}

/// What an authentic peer can do: plaintexts that it seals, each with its length in two bytes
/// before it. The upper bit of the length makes it a control message.
pub fn frame_metadata(mut data: &[u8]) {
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    while let Some(([high, low], rest)) = data.split_first_chunk::<2>() {
        let kind = if high & 0x80 == 0 { Kind::Data } else { Kind::Control };
        let len = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(rest.len());
        let (plain, rest) = rest.split_at(len);
        data = rest;
        if let Some(metadata) = plain.last_chunk::<METADATA_LEN>()
            && let Ok(decoded) = Metadata::decode(metadata)
        {
            assert_eq!(decoded.encode(), *metadata);
        }
        let datagram = pair.seal(kind, plain);
        let len = datagram.len();
        pair.server.handle_datagrams(
            pair.now,
            Pair::UNDERLAY,
            Ecn::NotEct,
            len,
            &datagram,
            &mut io,
        );
    }
    pair.server.finish_receive(&mut io);
    check_delivered(&io, 1);
}

/// What a container can do: a virtio header and a packet. What is sealed must open at the peer
/// and be a packet between the addresses that it may be between.
pub fn container_frame(data: &[u8]) {
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data.to_vec(), &mut io);
    check_delivered(&io, 0);
    assert!(io.datagrams.iter().all(|d| d.len() <= DATAGRAM_MAX), "fits the path");
    let mut there = Memory::default();
    for datagram in &io.datagrams {
        let len = datagram.len();
        pair.server.handle_datagrams(
            pair.now,
            Pair::UNDERLAY,
            Ecn::NotEct,
            len,
            datagram,
            &mut there,
        );
    }
    pair.server.finish_receive(&mut there);
    check_delivered(&there, 1);
    let count: usize = there.delivered.iter().map(|data| kernel_output(data).len()).sum();
    assert_eq!(count, io.datagrams.len(), "everything that was sealed is delivered");
}

/// Reading IP headers, and ICMP errors about them.
pub fn inner_packet(data: &[u8]) {
    let Ok(inner) = Inner::parse(data) else { return };
    assert!(usize::from(inner.transport) <= data.len());
    assert!(inner.transport <= inner.length);
    if icmp::may_answer(&inner, data) {
        let mut out = [0; ICMP_ERROR_MAX];
        let causes = [Cause::NoHost, Cause::TooBig(1_280)];
        for (gateway, cause) in addresses(1).into_iter().flat_map(|a| causes.map(|c| (a, c))) {
            if let Some(len) = icmp::unreachable(cause, &inner, data, gateway, &mut out) {
                let error = Inner::parse(&out[..len]).expect("an ICMP error is a packet");
                assert_eq!((error.source, error.destination), (gateway, inner.source));
            }
        }
    }
}

/// Frames inside TLS.
pub fn hello(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, used))) = Frame::decode(rest) {
        let mut again = Vec::new();
        frame.encode(&mut again).expect("what was read can be written");
        assert_eq!(Frame::decode(&again), Ok(Some((frame, used))));
        rest = &rest[used..];
    }
}

/// Configuration files.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        for problem in weft_config::check_text(text) {
            assert!(!problem.to_string().is_empty());
        }
    }
}

/// What a daemon that somebody has taken over can ask its helper.
pub fn helper(data: &[u8]) {
    if let Ok(request) = weft_helper::Request::parse(data) {
        let again = request.encode().expect("what was read can be written");
        assert_eq!(weft_helper::Request::parse(&again).expect("and read again"), request);
    }
}

/// Whatever reaches an interface is a packet that a kernel can take, from where it may come to
/// where it may go: from the peer, or an ICMP error of the environment itself.
fn check_delivered(io: &Memory, side: usize) {
    for data in &io.delivered {
        for packet in kernel_output(data) {
            let inner = Inner::parse(&packet).expect("a packet");
            assert_eq!(usize::from(inner.length), packet.len());
            assert!(addresses(side).contains(&inner.destination));
            let from = if side == 1 { addresses(0) } else { Pair::GATEWAYS };
            let relayed_to_itself = side == 0 && addresses(0).contains(&inner.source);
            assert!(from.contains(&inner.source) || relayed_to_itself);
        }
    }
}
