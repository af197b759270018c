//! What a policy looks at in a packet.

use std::{fmt, net::IpAddr};

use weft_wire::{Fragment, Inner, Version, protocol};

/// Bits of TCP's flags (RFC 9293 section 3.1).
mod flag {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const ACK: u8 = 0x10;
}
/// Where they stand in TCP's header.
const FLAGS_AT: usize = 13;
/// Bytes of ICMP's header, behind which an error quotes a packet.
const ICMP_HEADER_LEN: usize = 8;

/// What rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// ICMP with IPv4, ICMPv6 with IPv6.
    Icmp,
    /// Any other, by its number.
    Other(u8),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

/// Who talks to whom over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who sends.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Source and destination port, where there are ports and the packet has them.
    pub ports: Option<(u16, u16)>,
}

impl Tuple {
    /// As the other end's packets have it.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            ports: self.ports.map(|(source, destination)| (destination, source)),
        }
    }
}

/// What a packet is in its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The first segment of a TCP connection, and what cannot be told from one.
    Opening,
    /// Another segment.
    Middle,
    /// A segment with FIN.
    Finishing,
    /// A segment with RST.
    Reset,
    /// UDP and other protocols: from either end.
    Talk,
    /// An echo request with its identifier.
    Request(u16),
    /// An echo reply with its identifier.
    Reply(u16),
    /// A later fragment, or a packet that ends before its ports.
    Portless,
    /// An ICMP error about a packet.
    Error,
    /// Of no flow: other ICMP.
    Alone,
}

/// A packet as a policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) tuple: Tuple,
    pub(super) part: Part,
}

/// A packet as a policy sees it, with what it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub(super) packet: Packet,
    /// What an ICMP error is about.
    pub(super) quoted: Option<Packet>,
}

impl Seen {
    /// Looks at a packet, of which `bytes` holds at least the headers.
    #[must_use]
    pub fn of(inner: &Inner, bytes: &[u8]) -> Self {
        let packet = read(inner, bytes);
        let quoted = match packet.part {
            Part::Error => quoted(inner, bytes),
            _ => None,
        };
        Self { packet, quoted }
    }

    /// Who talks to whom.
    #[must_use]
    pub const fn tuple(&self) -> &Tuple {
        &self.packet.tuple
    }
}

#[inline]
fn read(inner: &Inner, bytes: &[u8]) -> Packet {
    let transport = bytes.get(usize::from(inner.transport)..).unwrap_or(&[]);
    let is_later = inner.fragment == Fragment::Later;
    let with_ports = |part: fn(Fragment, &[u8]) -> Part| match transport {
        [a, b, c, d, ..] if !is_later => {
            let ports = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            (Some(ports), part(inner.fragment, transport))
        }
        _ => (None, Part::Portless),
    };
    let (protocol, (ports, part)) = match (inner.protocol, inner.version) {
        (protocol::TCP, _) => (Protocol::Tcp, with_ports(tcp_part)),
        (protocol::UDP, _) => (Protocol::Udp, with_ports(|_, _| Part::Talk)),
        (protocol::ICMP, Version::V4) | (protocol::ICMPV6, Version::V6) if is_later => {
            (Protocol::Icmp, (None, Part::Portless))
        }
        (protocol::ICMP, Version::V4) => (Protocol::Icmp, (None, icmp_part(transport))),
        (protocol::ICMPV6, Version::V6) => (Protocol::Icmp, (None, icmp6_part(transport))),
        (other, _) => (Protocol::Other(other), (None, Part::Talk)),
    };
    let (source, destination) = (inner.source, inner.destination);
    Packet { tuple: Tuple { source, destination, protocol, ports }, part }
}

/// A fragment is judged as if it opened a connection, since a later one may write over its flags (RFC 3128).
fn tcp_part(fragment: Fragment, segment: &[u8]) -> Part {
    let Some(flags) = segment.get(FLAGS_AT).filter(|_| fragment == Fragment::Whole) else {
        return Part::Opening;
    };
    match flags & (flag::SYN | flag::ACK) {
        flag::SYN => Part::Opening,
        _ if flags & flag::RST != 0 => Part::Reset,
        _ if flags & flag::FIN != 0 => Part::Finishing,
        _ => Part::Middle,
    }
}

/// RFC 792. Redirects change routes, so they are no errors that go with a flow.
fn icmp_part(message: &[u8]) -> Part {
    match message {
        [8, 0, _, _, a, b, ..] => Part::Request(u16::from_be_bytes([*a, *b])),
        [0, 0, _, _, a, b, ..] => Part::Reply(u16::from_be_bytes([*a, *b])),
        [3 | 11 | 12, ..] => Part::Error,
        _ => Part::Alone,
    }
}

/// RFC 4443.
fn icmp6_part(message: &[u8]) -> Part {
    match message {
        [128, 0, _, _, a, b, ..] => Part::Request(u16::from_be_bytes([*a, *b])),
        [129, 0, _, _, a, b, ..] => Part::Reply(u16::from_be_bytes([*a, *b])),
        [1..=4, ..] => Part::Error,
        _ => Part::Alone,
    }
}

/// What an error quotes, if its receiver sent it to its sender.
fn quoted(error: &Inner, bytes: &[u8]) -> Option<Packet> {
    let bytes = bytes.get(usize::from(error.transport) + ICMP_HEADER_LEN..)?;
    let inner = Inner::parse(bytes).ok()?;
    let is_theirs = (inner.source, inner.destination) == (error.destination, error.source);
    is_theirs.then(|| read(&inner, bytes))
}
