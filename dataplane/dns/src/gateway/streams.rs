//! TCP connections to port 53, on a TCP of their own: smoltcp's.
//!
//! A socket is made when a connection is asked for and dropped when it is over, so an environment that nobody asks
//! over TCP has none. Each answers one query after the other (RFC 7766 section 6.2.1 allows it), and reads the next
//! only when the last answer is under way: what a client can make it hold is one query and one answer.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp::{Socket, SocketBuffer, State},
    wire::{HardwareAddress, IpCidr},
};

use super::{
    DNS_PORT, DropReason,
    packet::{Packet, Segment},
};
use crate::{
    limits::{
        CONNECTION_IDLE_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX, PACKETS_QUEUED_MAX,
        QUERY_LEN_MAX,
    },
    message::{HEADER_LEN, Transport},
    server::{Asker, Handled, Server},
};

/// Longest packet that a connection sends, bytes: what every path of IPv6 carries (RFC 8200 section 5).
const MTU: usize = 1_280;
/// What a connection has received and nobody has read yet, bytes: a whole query and more.
const RECEIVE_BUFFER_LEN: usize = 2_048;
/// What a connection has sent and nobody has acknowledged yet, bytes; the rest of an answer waits.
const SEND_BUFFER_LEN: usize = 4_096;
/// The length before each message (RFC 1035 section 4.2.2).
const PREFIX_LEN: usize = 2;

/// One connection.
#[derive(Debug)]
struct Stream {
    handle: SocketHandle,
    asker: Asker,
    /// When it is closed, or, if it is being closed, cut off.
    deadline: Instant,
    is_closing: bool,
    /// Its last query is being asked outside.
    is_waiting: bool,
    /// What is left of the last answer.
    answer: VecDeque<u8>,
}

/// All connections of one environment.
pub(super) struct Streams {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    streams: Vec<Stream>,
    next: u64,
    begun: Instant,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.streams).finish_non_exhaustive()
    }
}

impl Streams {
    /// `seed` decides the first sequence numbers.
    pub(super) fn new(gateways: impl Iterator<Item = IpAddr>, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut wire = Wire::default();
        let mut interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for gateway in gateways {
                // Everybody who can reach the gateway is on its link. A zone has two gateways at most, as many as
                // fit.
                let _ = addresses.push(IpCidr::new(gateway.into(), 0));
            }
        });
        let sockets = SocketSet::new(Vec::new());
        Self { interface, sockets, wire, streams: Vec::new(), next: 1, begun: now }
    }

    /// Whether a segment is of an open connection.
    pub(super) fn knows(&self, packet: &Packet<'_>, segment: &Segment) -> bool {
        let address = SocketAddr::new(packet.source(), segment.from);
        let asked = packet.destination();
        self.streams.iter().any(|s| s.asker.address == address && s.asker.asked == asked)
    }

    /// A segment came, of a connection or to open one.
    pub(super) fn handle_segment(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment,
        server: &mut Server,
        now: Instant,
    ) -> Result<(), DropReason> {
        if !self.knows(packet, segment) {
            let address = SocketAddr::new(packet.source(), segment.from);
            self.listen(address, packet.destination(), now)?;
        }
        self.wire.arrived = Some(packet.bytes().to_vec());
        self.poll(server, now);
        Ok(())
    }

    /// An answer from outside came.
    pub(super) fn handle_answer(
        &mut self,
        asker: &Asker,
        answer: Vec<u8>,
        server: &mut Server,
        now: Instant,
    ) {
        let waiting = self.streams.iter_mut().find(|stream| stream.asker == *asker);
        let Some(stream) = waiting.filter(|stream| stream.is_waiting) else { return };
        stream.is_waiting = false;
        stream.deadline = now + CONNECTION_IDLE_MAX;
        stream.answer(&answer);
        self.poll(server, now);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// What is due is done.
    pub(super) fn handle_timeout(&mut self, server: &mut Server, now: Instant) {
        if !self.streams.is_empty() {
            self.poll(server, now);
        }
    }

    /// When something is due.
    pub(super) fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.streams.is_empty() {
            return None;
        }
        let at = self.at(now);
        let due = self.interface.poll_at(at, &self.sockets);
        let due =
            due.map(|due| self.begun + Duration::from_micros(due.total_micros().unsigned_abs()));
        self.streams.iter().map(|stream| stream.deadline).chain(due).min()
    }

    /// The next segment to send.
    pub(super) fn poll_segment(&mut self) -> Option<Vec<u8>> {
        self.wire.sent.pop_front()
    }

    /// A socket that takes the segment that is about to come, and no other.
    fn listen(&mut self, from: SocketAddr, asked: IpAddr, now: Instant) -> Result<(), DropReason> {
        let same = self.streams.iter().filter(|s| s.asker.address.ip() == from.ip()).count();
        if self.streams.len() >= CONNECTIONS_MAX || same >= CONNECTIONS_PER_SOURCE_MAX {
            return Err(DropReason::Connections);
        }
        let buffer = |len: usize| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(RECEIVE_BUFFER_LEN), buffer(SEND_BUFFER_LEN));
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(CONNECTION_IDLE_MAX.as_secs())));
        // Answers are whole, and whoever asked waits for them.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let listening = socket.listen((smoltcp::wire::IpAddress::from(asked), DNS_PORT));
        listening.map_err(|_| DropReason::Connections)?;
        let asker =
            Asker { address: from, asked, transport: Transport::Tcp, connection: self.next };
        self.next += 1;
        self.streams.push(Stream {
            handle: self.sockets.add(socket),
            asker,
            deadline: now + CONNECTION_IDLE_MAX,
            is_closing: false,
            is_waiting: false,
            answer: VecDeque::new(),
        });
        Ok(())
    }

    fn poll(&mut self, server: &mut Server, now: Instant) {
        let at = self.at(now);
        self.interface.poll(at, &mut self.wire, &mut self.sockets);
        for stream in &mut self.streams {
            let socket = self.sockets.get_mut::<Socket<'_>>(stream.handle);
            stream.serve(socket, server, now);
        }
        self.interface.poll(at, &mut self.wire, &mut self.sockets);
        let sockets = &mut self.sockets;
        self.streams.retain(|stream| {
            let socket = sockets.get::<Socket<'_>>(stream.handle);
            // One that still listens was not what its segment asked for. Nobody has to wait for stray segments of
            // a connection that was closed: its client is gone.
            let is_over = matches!(socket.state(), State::Closed | State::TimeWait | State::Listen);
            if is_over {
                sockets.remove(stream.handle);
            }
            !is_over
        });
    }

    fn at(&self, now: Instant) -> smoltcp::time::Instant {
        let since = now.saturating_duration_since(self.begun).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

impl Stream {
    /// Reads queries as long as there are any and answers fit.
    fn serve(&mut self, socket: &mut Socket<'_>, server: &mut Server, now: Instant) {
        self.write(socket);
        while self.answer.is_empty() && !self.is_waiting && !self.is_closing {
            let Some(query) = self.read(socket) else { break };
            self.deadline = now + CONNECTION_IDLE_MAX;
            match server.handle_query(self.asker, &query, now) {
                Handled::Answer(answer) => self.answer(&answer),
                Handled::Later => self.is_waiting = true,
                // Nothing more is answered here. The client may come again later.
                Handled::Silence => self.close(socket, now),
            }
            self.write(socket);
        }
        let is_idle = self.answer.is_empty() && !self.is_waiting;
        if is_idle && socket.state() == State::CloseWait && !self.is_closing {
            self.close(socket, now);
        }
        if now >= self.deadline {
            if self.is_closing || socket.state() != State::Established {
                socket.abort();
            } else {
                self.close(socket, now);
            }
        }
    }

    /// The next whole query.
    fn read(&mut self, socket: &mut Socket<'_>) -> Option<Vec<u8>> {
        let mut prefix = [0; PREFIX_LEN];
        if socket.peek_slice(&mut prefix).ok()? < PREFIX_LEN {
            return None;
        }
        let len = usize::from(u16::from_be_bytes(prefix));
        if !(HEADER_LEN..=QUERY_LEN_MAX).contains(&len) {
            // Whatever speaks like this does not speak DNS.
            socket.abort();
            return None;
        }
        if socket.recv_queue() < PREFIX_LEN + len {
            return None;
        }
        let mut message = vec![0; PREFIX_LEN + len];
        let read = socket.recv_slice(&mut message).ok()?;
        message.truncate(read);
        Some(message.split_off(PREFIX_LEN))
    }

    fn answer(&mut self, answer: &[u8]) {
        let len = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        self.answer.extend(len.to_be_bytes());
        self.answer.extend(answer);
    }

    fn write(&mut self, socket: &mut Socket<'_>) {
        while !self.answer.is_empty() {
            match socket.send_slice(self.answer.as_slices().0) {
                Ok(sent) if sent > 0 => drop(self.answer.drain(..sent)),
                Ok(_) => break,
                // Nobody reads it any more.
                Err(_) => self.answer.clear(),
            }
        }
    }

    fn close(&mut self, socket: &mut Socket<'_>, now: Instant) {
        socket.close();
        self.is_closing = true;
        self.deadline = now + CONNECTION_IDLE_MAX;
    }
}

/// The link between the connections and the gateway.
#[derive(Debug, Default)]
struct Wire {
    arrived: Option<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Arrived(Vec<u8>);

struct Sent<'w>(&'w mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Arrived, Sent<'_>)> {
        let arrived = self.arrived.take()?;
        Some((Arrived(arrived), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sent<'_>> {
        (self.sent.len() < PACKETS_QUEUED_MAX).then_some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
