//! Streams: TCP connections that carry a peer's datagrams where UDP does not get through.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{net::TcpStream, task::JoinSet};
use weft_handshake::{DEADLINE, Environment, HandshakeError, Stream, connect_stream, dial};
use weft_proto::{
    fallback::{Action, Opener},
    peer::State,
};
use weft_types::{EnvironmentId, HostId};

use super::{EventKind, Message, Node, NodeEvent};
use crate::worker::{Command, StreamKey};

/// A connection is given up when nothing of it was acknowledged for so long.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Bytes that the kernel takes and does not send yet. More would only be late.
const UNSENT_MAX: u32 = 128 << 10;

/// All streams that a host was to open, or why there are not all of them.
pub(super) type Opened = Result<Vec<Stream<TcpStream>>, HandshakeError>;

impl Node {
    /// Does what is to be done about the way of a peer's datagrams.
    pub(super) fn drive_fallback(&mut self, environment: &EnvironmentId, host: &HostId) {
        while let Some(entry) = self.peer_mut(environment, host) {
            let slot = entry.slot;
            match entry.fallback.poll_action() {
                None => break,
                Some(Action::Open(count)) => self.open_streams(environment, host, count),
                Some(Action::Close) => {
                    self.command_all(|_| Command::RemoveStreams(slot, Opener::Us));
                }
                Some(Action::Switch) => {
                    let message = match entry.fallback.is_streaming() {
                        true => "UDP does not get through: datagrams go over TCP",
                        false => "datagrams go by UDP again",
                    };
                    self.use_ways(environment, host);
                    let event = NodeEvent::new(EventKind::PeerTransport, message);
                    self.publish(event.of(environment).peer(host));
                }
                Some(Action::Probe) => self.probe_udp(environment, host),
            }
        }
    }

    /// Opens so many streams to a peer, all at once.
    fn open_streams(&self, environment: &EnvironmentId, host: &HostId, count: u8) {
        let Some(state) = self.environments.get(environment) else { return };
        let Some(entry) = state.peers.get(host) else { return };
        let (tls, endpoint) = (Arc::clone(&state.tls), entry.roaming.listens_at());
        let local = self.config.listen.ip();
        let (environment, host) = (environment.clone(), host.clone());
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let mut opening = JoinSet::new();
            for number in 0..count {
                opening.spawn(open(Arc::clone(&tls), host.clone(), endpoint, local, number));
            }
            let mut opened: Opened = Ok(Vec::new());
            while let Some(done) = opening.join_next().await {
                let done = done.unwrap_or_else(|e| Err(HandshakeError::Io(io::Error::other(e))));
                match (&mut opened, done) {
                    (Ok(streams), Ok(stream)) => streams.push(stream),
                    // The others are of no use without it.
                    (Ok(_), Err(error)) => {
                        opened = Err(error);
                        opening.abort_all();
                    }
                    (Err(_), _) => {}
                }
            }
            // The node is gone: so is everything that the streams were for.
            let _ = inbox.send(Message::Opened { environment, host, opened }).await;
        });
    }

    /// Streams that this host opened are there, or are not to be had.
    pub(super) fn handle_opened(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
        opened: Opened,
    ) {
        let result = opened.and_then(|streams| {
            streams.into_iter().try_for_each(|stream| {
                self.add_stream(stream, Opener::Us).map_err(HandshakeError::Io)
            })
        });
        if let Err(error) = &result {
            self.count_failure(environment, host, error);
        }
        if let Some(entry) = self.peer_mut(environment, host) {
            entry.fallback.handle_opening_over(Instant::now(), result.is_ok());
        }
        self.drive_fallback(environment, host);
    }

    /// A peer opened a stream.
    pub(super) fn handle_stream(&mut self, stream: Stream<TcpStream>) {
        if let Err(error) = self.add_stream(stream, Opener::Peer) {
            tracing::info!(%error, "a stream ended at once");
        }
    }

    fn add_stream(&mut self, stream: Stream<TcpStream>, opener: Opener) -> io::Result<()> {
        let Stream { environment, host, number, connection } = stream;
        let socket = prepare(connection)?;
        // A peer that was removed meanwhile has no use for it.
        let Some(entry) = self.peer_mut(&environment, &host) else { return Ok(()) };
        let key = StreamKey { link: entry.slot, number, opener };
        entry.fallback.handle_opened(Instant::now(), number, opener);
        // That which lanes of this number are received by.
        let worker = usize::from(number) % self.workers.len();
        self.workers[worker].send(Command::AddStream(key, socket));
        self.drive_peer(&environment, &host);
        Ok(())
    }

    /// A stream has ended by itself.
    pub(super) fn handle_stream_lost(&mut self, key: StreamKey) {
        let Some((environment, host)) = self.links_by_slot.get(&key.link).cloned() else { return };
        if let Some(entry) = self.peer_mut(&environment, &host) {
            entry.fallback.handle_lost(Instant::now(), key.number, key.opener);
        }
        self.drive_peer(&environment, &host);
    }

    /// Asks a peer by UDP, though its datagrams go by stream.
    fn probe_udp(&mut self, environment: &EnvironmentId, host: &HostId) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        let State::Active { id, .. } = entry.machine.state() else { return };
        // Without random numbers nothing is asked that could be answered.
        let Ok(number) = getrandom::u64() else { return };
        if let Some(challenge) = entry.roaming.probe(Instant::now(), number) {
            self.challenge(id, challenge);
        }
    }
}

async fn open(
    tls: Arc<Environment>,
    host: HostId,
    endpoint: SocketAddr,
    local: IpAddr,
    number: u8,
) -> Result<Stream<TcpStream>, HandshakeError> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let connection = dial(endpoint, Some(local), deadline).await.map_err(HandshakeError::Io)?;
    connect_stream(connection, &tls, &host, number, deadline).await
}

/// Takes a connection from the runtime, for a worker.
fn prepare(connection: TcpStream) -> io::Result<std::net::TcpStream> {
    let socket = connection.into_std()?;
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true)?;
    options.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    options.set_tcp_notsent_lowat(UNSENT_MAX)?;
    Ok(socket)
}
