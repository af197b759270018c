//! IP packets to an environment's gateway address in, IP packets out.
//!
//! Packets come whole: checksums complete, superpackets of UDP cut, sources checked against the attachment that
//! sent them. Of fragments and of packets with IP options or IPv6 extension headers nothing is answered: resolvers
//! send none, and whoever sends them on purpose wants something else.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use weft_wire::{
    icmp::{self, Cause, ICMP_ERROR_MAX},
    protocol,
};

use self::{
    packet::{Packet, echo_reply, reset, udp},
    streams::Streams,
};
use crate::{
    forward::{ForwardAnswerError, ForwardQuery, ForwardToken},
    limits::PACKETS_QUEUED_MAX,
    message::Transport,
    rate::Limits,
    server::{Asker, Handled, Outside, Server, SettingsError},
    zone::Zone,
};

mod packet;
mod streams;

/// Longest packet that comes out, bytes: a reply to the longest ping.
pub const PACKET_LEN_MAX: usize = 65_535;
/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// Why a packet came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// No IP packet, or its lengths contradict each other.
    Malformed,
    /// Not for this environment's gateway.
    Elsewhere,
    /// From an address that nobody can be answered at, or the gateway's own.
    Source,
    /// A fragment, IP options, or IPv6 extension headers.
    Unusual,
    /// A checksum is wrong.
    Checksum,
    /// More than the source may have of this.
    Rate,
    /// Nothing is ever answered to such packets: ICMP other than echo, or resets.
    Silent,
    /// A message that must not be answered, or a query above the rates.
    Query,
    /// All places for connections, or the source's, are taken.
    Connections,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Elsewhere,
        Self::Source,
        Self::Unusual,
        Self::Checksum,
        Self::Rate,
        Self::Silent,
        Self::Query,
        Self::Connections,
    ];

    /// A word for a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "gateway_malformed",
            Self::Elsewhere => "gateway_elsewhere",
            Self::Source => "gateway_source",
            Self::Unusual => "gateway_unusual",
            Self::Checksum => "gateway_checksum",
            Self::Rate => "gateway_rate",
            Self::Silent => "gateway_silent",
            Self::Query => "gateway_query",
            Self::Connections => "gateway_connections",
        }
    }
}

/// One environment's gateway address; see the crate's text.
///
/// After each `handle_*` call [`Gateway::poll_packet`] and [`Gateway::poll_forward`] are called until they give
/// nothing more, and [`Gateway::handle_timeout`] at [`Gateway::next_timeout`]. Time never goes back.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
    streams: Streams,
    out: VecDeque<Vec<u8>>,
}

impl Gateway {
    /// Answers at the addresses of `zone`. `random` gives numbers that nobody can guess.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(
        zone: Arc<Zone>,
        outside: Outside,
        limits: Limits,
        random: Box<dyn FnMut() -> u64 + Send>,
        now: Instant,
    ) -> Result<Self, SettingsError> {
        let mut server = Server::new(zone, outside, limits, random)?;
        let seed = server.random();
        let streams = Streams::new(server.zone().gateways(), seed, now);
        Ok(Self { server, streams, out: VecDeque::new() })
    }

    /// See [`Server::set_zone`].
    ///
    /// # Errors
    /// [`SettingsError::Subnets`]; the old one stays.
    pub fn set_zone(&mut self, zone: Arc<Zone>) -> Result<(), SettingsError> {
        self.server.set_zone(zone)
    }

    /// See [`Server::set_outside`].
    ///
    /// # Errors
    /// [`SettingsError`]; the old one stays.
    pub fn set_outside(&mut self, outside: Outside, now: Instant) -> Result<(), SettingsError> {
        self.server.set_outside(outside, now)?;
        self.tell(now);
        Ok(())
    }

    /// A packet came from an attachment.
    ///
    /// # Errors
    /// [`DropReason`]: nothing comes of it.
    pub fn handle_packet(&mut self, bytes: &[u8], now: Instant) -> Result<(), DropReason> {
        let packet = Packet::read(bytes)?;
        if !self.server.zone().gateways().any(|gateway| gateway == packet.destination()) {
            return Err(DropReason::Elsewhere);
        }
        let source = packet.source();
        if !icmp::is_unicast(source)
            || source.is_loopback()
            || self.server.zone().gateways().any(|gateway| gateway == source)
        {
            return Err(DropReason::Source);
        }
        match packet.protocol() {
            protocol::UDP => self.datagram(&packet, now),
            protocol::TCP => self.segment(&packet, now),
            protocol::ICMP | protocol::ICMPV6 => {
                let reply = echo_reply(&packet)?.ok_or(DropReason::Silent)?;
                self.courtesy(&packet, reply, now)
            }
            _ => self.refuse(&packet, Cause::NoProtocol, now),
        }
    }

    /// The next packet to an attachment, into `packet`; `false` when there is none.
    pub fn poll_packet(&mut self, packet: &mut Vec<u8>) -> bool {
        packet.clear();
        let Some(next) = self.out.pop_front() else { return false };
        packet.extend_from_slice(&next);
        true
    }

    /// Queries so far, within the rates, over UDP and TCP.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.server.queries()
    }

    /// The next query to send outside; see [`ForwardQuery`].
    pub fn poll_forward(&mut self) -> Option<ForwardQuery> {
        self.server.poll_forward()
    }

    /// Something came on a token's socket.
    ///
    /// # Errors
    /// [`ForwardAnswerError`]: it is not the answer.
    pub fn handle_forward_answer(
        &mut self,
        token: ForwardToken,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), ForwardAnswerError> {
        self.server.handle_forward_answer(token, from, bytes)?;
        self.tell(now);
        Ok(())
    }

    /// A token's socket failed, was refused or closed without an answer.
    pub fn handle_forward_failed(&mut self, token: ForwardToken, now: Instant) {
        self.server.handle_forward_failed(token, now);
        self.tell(now);
    }

    /// What is due is done: connections are closed, segments sent again, queries outside given up.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
        self.tell(now);
        self.streams.handle_timeout(&mut self.server, now);
        self.send_segments(now);
    }

    /// When [`Gateway::handle_timeout`] has something to do. `None`: never, as things are.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.server.next_timeout().into_iter().chain(self.streams.next_timeout(now)).min()
    }

    fn datagram(&mut self, packet: &Packet<'_>, now: Instant) -> Result<(), DropReason> {
        let (from, to, payload) = packet.udp()?;
        if to != DNS_PORT {
            return self.refuse(packet, Cause::NoPort, now);
        }
        let asker = Asker {
            address: SocketAddr::new(packet.source(), from),
            asked: packet.destination(),
            transport: Transport::Udp,
            connection: 0,
        };
        match self.server.handle_query(asker, payload, now) {
            Handled::Answer(answer) => self.send(udp(&asker, DNS_PORT, &answer), now),
            Handled::Later => Ok(()),
            Handled::Silence => Err(DropReason::Query),
        }
    }

    fn segment(&mut self, packet: &Packet<'_>, now: Instant) -> Result<(), DropReason> {
        let segment = packet.tcp()?;
        let is_connection = segment.opens() || self.streams.knows(packet, &segment);
        if segment.to == DNS_PORT && is_connection {
            let taken = self.streams.handle_segment(packet, &segment, &mut self.server, now);
            self.send_segments(now);
            return taken;
        }
        let reply = reset(packet, &segment).ok_or(DropReason::Silent)?;
        self.courtesy(packet, reply, now)
    }

    /// A packet that nothing here takes is refused as a host refuses it whose port is closed.
    fn refuse(
        &mut self,
        packet: &Packet<'_>,
        cause: Cause,
        now: Instant,
    ) -> Result<(), DropReason> {
        let mut error = [0; ICMP_ERROR_MAX];
        let len = icmp::unreachable(
            cause,
            packet.inner(),
            packet.bytes(),
            packet.destination(),
            &mut error,
        );
        let len = len.ok_or(DropReason::Malformed)?;
        self.courtesy(packet, error[..len].to_vec(), now)
    }

    fn courtesy(
        &mut self,
        packet: &Packet<'_>,
        reply: Vec<u8>,
        now: Instant,
    ) -> Result<(), DropReason> {
        if !self.server.rates().courtesy(packet.source(), now) {
            return Err(DropReason::Rate);
        }
        self.send(reply, now)
    }

    /// Answers that were waited for.
    fn tell(&mut self, now: Instant) {
        while let Some((asker, answer)) = self.server.poll_answer() {
            match asker.transport {
                // One that finds no room is as lost as on any network: its asker asks again.
                Transport::Udp => {
                    let _ = self.send(udp(&asker, DNS_PORT, &answer), now);
                }
                Transport::Tcp => {
                    self.streams.handle_answer(&asker, answer, &mut self.server, now);
                }
            }
        }
        self.send_segments(now);
    }

    fn send_segments(&mut self, now: Instant) {
        while let Some(segment) = self.streams.poll_segment() {
            let _ = self.send(segment, now);
        }
    }

    /// Every packet goes this way: so what one source gets has a bound, whatever it sent.
    fn send(&mut self, packet: Vec<u8>, now: Instant) -> Result<(), DropReason> {
        let destination = Packet::read(&packet)?.destination();
        if self.out.len() >= PACKETS_QUEUED_MAX
            || !self.server.rates().bytes(destination, packet.len(), now)
        {
            return Err(DropReason::Rate);
        }
        self.out.push_back(packet);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
