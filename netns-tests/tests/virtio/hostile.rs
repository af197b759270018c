//! The packets: each claims something about itself that is not true.

use std::net::SocketAddr;

use netns_tests::packets::{
    DESTINATION_OPTIONS, TCP, UDP, fix_ipv4_checksum, ip, pseudo_checksum, tcp_segment, udp,
    udp_segment,
};
use netns_tests::rogue::Metadata;
use netns_tests::vnet::{GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, Virtio};

/// Payload of a superpacket that is as large as one can be.
const LARGE: usize = 60_000;

/// A name, a claim and a packet.
pub(crate) type Claimed = (&'static str, Virtio, Vec<u8>);

struct Packets {
    /// Bytes of the IP header.
    l4: u16,
    v4: bool,
    udp: Vec<u8>,
    /// Checksum fields hold the pseudo header's sum, as an honest kernel leaves them.
    udp_open: Vec<u8>,
    tcp_open: Vec<u8>,
    /// 60 KB of TCP.
    large: Vec<u8>,
    /// UDP behind an IPv6 options header; empty for IPv4.
    behind_options: Vec<u8>,
}

fn open(from: SocketAddr, to: SocketAddr, protocol: u8, mut segment: Vec<u8>) -> Vec<u8> {
    let sum = pseudo_checksum(from.ip(), to.ip(), protocol, segment.len());
    let place = if protocol == TCP { 16 } else { 6 };
    segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), protocol, &segment)
}

impl Packets {
    fn new(from: SocketAddr, to: SocketAddr) -> Self {
        let v4 = from.is_ipv4();
        let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &udp_segment(from, to, &[7; 64])].concat();
        Self {
            l4: if v4 { 20 } else { 40 },
            v4,
            udp: udp(from, to, &[7; 200]),
            udp_open: open(from, to, UDP, udp_segment(from, to, &[7; 200])),
            tcp_open: open(from, to, TCP, tcp_segment(from, to, &[7; 200])),
            large: open(from, to, TCP, tcp_segment(from, to, &vec![7; LARGE])),
            behind_options: match v4 {
                true => Vec::new(),
                false => ip(from.ip(), to.ip(), DESTINATION_OPTIONS, &options),
            },
        }
    }

    fn gso(&self) -> u8 {
        if self.v4 { GSO_TCPV4 } else { GSO_TCPV6 }
    }

    /// An honest claim about `large`, to be spoilt.
    fn segmented(&self, gso_size: u16) -> Virtio {
        Virtio {
            flags: NEEDS_CSUM,
            gso_type: self.gso(),
            header_len: self.l4 + 20,
            gso_size,
            csum_start: self.l4,
            csum_offset: 16,
        }
    }
}

fn checksum_at(csum_start: u16, csum_offset: u16) -> Virtio {
    Virtio { flags: NEEDS_CSUM, csum_start, csum_offset, ..Virtio::default() }
}

/// What a container sends through a raw socket with virtio headers.
pub(crate) fn from_container(from: SocketAddr, to: SocketAddr) -> Vec<Claimed> {
    let p = Packets::new(from, to);
    let mut cases = wrong_checksums(&p);
    cases.extend(wrong_segments(&p));
    cases.extend(wrong_lengths(&p));
    cases.extend((0..48).map(|len| ("cut short", Virtio::default(), p.udp[..len].to_vec())));
    cases
}

fn wrong_checksums(p: &Packets) -> Vec<Claimed> {
    let (source, destination) = if p.v4 { (12, 16) } else { (8, 24) };
    let end = u16::try_from(p.udp.len()).unwrap_or(u16::MAX);
    let mut cases = vec![
        ("checksum over the destination port", checksum_at(p.l4, 2), p.udp.clone()),
        ("checksum over the source port", checksum_at(p.l4, 0), p.udp.clone()),
        ("checksum over the source address", checksum_at(0, source), p.udp.clone()),
        ("checksum over the destination address", checksum_at(0, destination), p.udp.clone()),
        (
            "checksum over the rest of the destination",
            checksum_at(0, destination + 2),
            p.udp.clone(),
        ),
        ("checksum over the version", checksum_at(0, 0), p.udp.clone()),
        ("checksum over the length", checksum_at(0, if p.v4 { 2 } else { 4 }), p.udp.clone()),
        ("checksum over the protocol", checksum_at(0, if p.v4 { 8 } else { 6 }), p.udp.clone()),
        ("checksum in the payload", checksum_at(p.l4, 100), p.udp.clone()),
        ("checksum of TCP in UDP", checksum_at(p.l4, 16), p.udp.clone()),
        ("checksum of UDP in TCP", checksum_at(p.l4, 6), p.tcp_open.clone()),
        ("checksum on the last byte", checksum_at(p.l4, end - p.l4 - 1), p.udp.clone()),
        ("checksum behind the end", checksum_at(end, 0), p.udp.clone()),
        ("checksum far behind the end", checksum_at(60_000, 60_000), p.udp.clone()),
        (
            "checksum fields without the flag",
            Virtio { flags: 0, ..checksum_at(p.l4, 2) },
            p.udp.clone(),
        ),
        ("unknown flags", Virtio { flags: 0xff, ..checksum_at(p.l4, 2) }, p.udp.clone()),
    ];
    if !p.behind_options.is_empty() {
        let packet = || p.behind_options.clone();
        cases.push(("checksum in the options", checksum_at(40, 6), packet()));
        cases.push(("checksum over the next header", checksum_at(40, 0), packet()));
        let mut endless = packet();
        endless[41] = 255;
        cases.push(("options longer than the packet", checksum_at(48, 6), endless));
        let mut circle = packet();
        circle[40] = DESTINATION_OPTIONS;
        cases.push(("options without an end", checksum_at(48, 6), circle));
    }
    cases
}

fn wrong_segments(p: &Packets) -> Vec<Claimed> {
    let large = || p.large.clone();
    let mut fragment = large();
    if p.v4 {
        fragment[6] = 0x20;
        fix_ipv4_checksum(&mut fragment);
    }
    let base = p.segmented(1_340);
    let other = if p.v4 { GSO_TCPV6 } else { GSO_TCPV4 };
    vec![
        ("segments of one byte", p.segmented(1), large()),
        ("segments of eight bytes", p.segmented(8), large()),
        ("segments of no bytes", p.segmented(0), large()),
        ("segments larger than the packet", p.segmented(u16::MAX), large()),
        ("segments without a checksum", Virtio { flags: 0, ..base }, large()),
        ("segments of the other version", Virtio { gso_type: other, ..base }, large()),
        ("UDP segments of a TCP packet", Virtio { gso_type: GSO_UDP_L4, ..base }, large()),
        ("TCP segments of a UDP packet", Virtio { csum_offset: 6, ..base }, p.udp_open.clone()),
        ("UDP fragmentation", Virtio { gso_type: 3, ..base }, large()),
        ("unknown segments", Virtio { gso_type: 0x7f, ..base }, large()),
        ("congestion marks of nothing", Virtio { gso_type: GSO_ECN, ..base }, large()),
        ("segments with a shifted checksum", Virtio { csum_start: p.l4 + 2, ..base }, large()),
        ("segments, checksum over the port", Virtio { csum_offset: 2, ..base }, large()),
        ("no header at all", Virtio { header_len: 0, ..p.segmented(8) }, large()),
        (
            "a header longer than the packet",
            Virtio { header_len: u16::MAX, ..p.segmented(8) },
            large(),
        ),
        ("segments of a fragment", base, fragment),
    ]
}

fn wrong_lengths(p: &Packets) -> Vec<Claimed> {
    let at = if p.v4 { 2 } else { 4 };
    let spoilt = |what, at: usize, value: u16| -> Claimed {
        let mut packet = p.udp.clone();
        packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
        if p.v4 {
            fix_ipv4_checksum(&mut packet);
        }
        (what, Virtio::default(), packet)
    };
    let udp_length = usize::from(p.l4) + 4;
    let mut cases = vec![
        spoilt("IP length of nothing", at, 0),
        spoilt("IP length of less", at, 60),
        spoilt("IP length of more", at, 2_000),
        spoilt("IP length of everything", at, u16::MAX),
        spoilt("UDP length of nothing", udp_length, 0),
        spoilt("UDP length of less", udp_length, 20),
        spoilt("UDP length of more", udp_length, 2_000),
    ];
    for (what, first) in [
        ("a version that is none", 0x55),
        ("a header of no length", 0x40),
        ("a header of 60 bytes in none", 0x4f),
        ("IPv6 that is IPv4", 0x65),
    ] {
        let mut packet = p.udp.clone();
        packet[0] = first;
        packet.truncate(50);
        cases.push((what, Virtio::default(), packet));
    }
    cases
}

/// What a peer seals.
pub(crate) struct Sealed {
    pub(crate) what: &'static str,
    pub(crate) payload: Vec<u8>,
    pub(crate) inner_header: Vec<u8>,
    pub(crate) metadata: Metadata,
}

fn whole(what: &'static str, packet: &[u8], metadata: Metadata) -> Sealed {
    Sealed { what, payload: packet.to_vec(), inner_header: Vec::new(), metadata }
}

/// Datagrams of a hostile peer, none of which may be delivered.
pub(crate) fn from_peer(from: SocketAddr, to: SocketAddr) -> Vec<Sealed> {
    let p = Packets::new(from, to);
    let plain = Metadata::PLAIN;
    let mut cases = Vec::new();
    // Everything that a container could not do, a peer cannot either; and what is completed for a
    // container is refused to a peer.
    let claims = wrong_checksums(&p).into_iter().chain(wrong_segments(&p));
    for (what, virtio, packet) in claims.filter(|c| c.2.len() < 1_400 && c.1.flags != 0) {
        let metadata = Metadata {
            flags: virtio.flags,
            gso_type: virtio.gso_type,
            gso_size: virtio.gso_size,
            csum_start: virtio.csum_start,
            csum_offset: virtio.csum_offset,
            ..plain
        };
        cases.push(whole(what, &packet, metadata));
    }
    // A wrong UDP length alone hurts nobody: any router would pass it on, and the receiving kernel
    // looks. With a checksum to be made over that length it is another matter.
    let whole_sum = Metadata { flags: NEEDS_CSUM, csum_start: p.l4, csum_offset: 6, ..plain };
    for (what, _, packet) in wrong_lengths(&p) {
        let metadata = if what.starts_with("UDP") { whole_sum } else { plain };
        cases.push(whole(what, &packet, metadata));
    }
    for (what, metadata) in [
        ("checked already", Metadata { flags: 2, ..plain }),
        ("chunk of none", Metadata { count: 0, ..plain }),
        ("chunk beyond the count", Metadata { chunk: 1, ..plain }),
        ("too many chunks", Metadata { count: 65, ..plain }),
        ("chunks without a header", Metadata { count: 2, ..plain }),
        ("a header behind a whole packet", Metadata { header_len: 28, ..plain }),
        ("a header longer than everything", Metadata { header_len: u16::MAX, ..plain }),
    ] {
        cases.push(whole(what, &p.udp, metadata));
    }
    cases.extend(chunks(&p));
    for (what, source) in [
        ("the source of a container here", to),
        ("a source that lives nowhere", renumbered(from, 99)),
    ] {
        cases.push(whole(what, &udp(source, to, b"forged"), plain));
    }
    for (what, goal) in [
        ("a destination at the peer itself", from),
        ("a destination that lives nowhere", renumbered(to, 99)),
    ] {
        cases.push(whole(what, &udp(from, goal, b"lost"), plain));
    }
    cases
}

/// A chunk of a TCP superpacket with its header.
fn chunk(header: &[u8], payload: usize, metadata: Metadata) -> Sealed {
    let header_len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let metadata = Metadata { header_len, ..metadata };
    Sealed { what: "a chunk", payload: vec![7; payload], inner_header: header.to_vec(), metadata }
}

fn chunks(p: &Packets) -> Vec<Sealed> {
    let header = &p.large[..usize::from(p.l4) + 20];
    let honest = Metadata {
        flags: NEEDS_CSUM,
        gso_type: p.gso(),
        gso_size: 500,
        csum_start: p.l4,
        csum_offset: 16,
        chunk: 0,
        count: 3,
        header_len: 0,
    };
    let named = |what, sealed: Sealed| Sealed { what, ..sealed };
    let not_segmented = Metadata { gso_type: 0, ..honest };
    let other_size = Metadata { gso_size: 400, ..honest };
    let last = Metadata { chunk: 2, ..honest };
    let over_port = Metadata { csum_offset: 2, ..honest };
    let no_sum = Metadata { flags: 0, ..honest };
    let other = if p.v4 { GSO_TCPV6 } else { GSO_TCPV4 };
    let wrong_version = Metadata { gso_type: other, ..honest };
    vec![
        named("a chunk of nothing", chunk(header, 0, last)),
        named("a chunk of another size", chunk(header, 500, other_size)),
        named("a last chunk that is too long", chunk(header, 501, last)),
        named("segments of no bytes", chunk(header, 500, Metadata { gso_size: 0, ..honest })),
        named("chunks that are not segments", chunk(header, 500, not_segmented)),
        named("chunks without a checksum", chunk(header, 500, no_sum)),
        named("chunks with a checksum over the port", chunk(header, 500, over_port)),
        named("chunks of the other version", chunk(header, 500, wrong_version)),
        named("a header that is cut", chunk(&header[..header.len() - 1], 500, honest)),
        named("half a header", chunk(&header[..usize::from(p.l4)], 500, honest)),
        named("a header of one byte", chunk(&header[..1], 500, honest)),
    ]
}

/// Two chunks of one superpacket whose headers differ in what was checked on the first.
pub(crate) fn mixed_chunks(from: SocketAddr, to: SocketAddr) -> Vec<Sealed> {
    let p = Packets::new(from, to);
    let foreign = Packets::new(renumbered(from, 99), to);
    let len = usize::from(p.l4) + 20;
    let metadata = |chunk| Metadata {
        flags: NEEDS_CSUM,
        gso_type: p.gso(),
        gso_size: 500,
        csum_start: p.l4,
        csum_offset: 16,
        chunk,
        count: 3,
        header_len: 0,
    };
    vec![
        chunk(&p.large[..len], 500, metadata(0)),
        chunk(&foreign.large[..len], 500, metadata(1)),
        chunk(&p.large[..len], 500, metadata(2)),
        chunk(&foreign.large[..len], 500, metadata(0)),
        chunk(&p.large[..len], 500, metadata(1)),
    ]
}

/// The same address with another last byte.
fn renumbered(address: SocketAddr, last: u8) -> SocketAddr {
    let ip = match address.ip() {
        std::net::IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, last].into()
        }
        std::net::IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = last;
            octets.into()
        }
    };
    SocketAddr::new(ip, address.port())
}
