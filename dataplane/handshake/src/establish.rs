//! Both sides of a handshake, from a connected stream to a secret.

use std::time::{Duration, SystemTime};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use weft_pki::{SniTag, VerifiedPeer};
use weft_types::{EnvironmentId, HostId, ReceiverIndex};
use weft_wire::hello::Hello;

use crate::{
    environment::{Environment, ServerEnvironments},
    error::{HandshakeError, Step},
    exchange::{Agreed, Frames, Wish},
    exporter::SessionSecret,
    indices::IndexGuard,
    local::{LocalSide, Role},
    scrub::scrubbed,
    stream::{accept_tls, check_application, connect_tls, drop_tls, end_tls, export},
    time::unix,
};

/// How long a handshake may take from the first SYN to the last frame.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A finished handshake. TLS and its connection are gone.
#[derive(Debug)]
pub struct Established {
    /// The environment.
    pub environment: EnvironmentId,
    /// Who the peer is.
    pub peer: VerifiedPeer,
    /// The authorities that were trusted when the peer was judged.
    pub trusted: Vec<SniTag>,
    /// Which side this host was on.
    pub role: Role,
    /// The exported secret, equal on both sides.
    pub secret: SessionSecret,
    /// This host's receiver indices, by lane of the peer. Released on drop unless kept.
    pub local_indices: IndexGuard,
    /// The peer's receiver indices, by lane of this host.
    pub peer_indices: Vec<ReceiverIndex>,
    /// What the peer told of itself.
    pub peer_params: Hello,
    /// The session's generation: the one that the client sent.
    pub generation: u32,
    /// Whether either processor has no AES instructions.
    pub no_aes: bool,
    /// The last moment at which both sides' certificates are valid.
    pub not_after: SystemTime,
    /// How long it took.
    pub elapsed: Duration,
}

/// A connection that carries datagrams from now on, as [`weft_wire::record`]s. It began with TLS, which
/// is over, and its keys are gone: datagrams are sealed with those of their sessions.
#[derive(Debug)]
pub struct Stream<S> {
    /// The environment.
    pub environment: EnvironmentId,
    /// Who the peer is.
    pub host: HostId,
    /// Of which lanes, 0 to 63: those of this number, of either host.
    pub number: u8,
    /// The connection, with nothing read from it that belongs to a record.
    pub connection: S,
}

/// What a peer's connection became.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A session.
    Session(Box<Established>),
    /// A stream for datagrams.
    Stream(Stream<S>),
}

impl<S> Accepted<S> {
    /// The session, if it became one.
    #[must_use]
    pub fn into_session(self) -> Option<Established> {
        match self {
            Self::Session(session) => Some(*session),
            Self::Stream(_) => None,
        }
    }
}

/// Takes part in a handshake that a peer began, until `deadline` (at most [`DEADLINE`] from the
/// accepted connection).
///
/// `answer` is asked once the client's first message is there, before any work for it. `admit` is
/// asked once the client has proven who it is, and gives this host's part for that peer; `None` when
/// the host is not a configured peer.
///
/// # Errors
/// [`HandshakeError`]. The peer was told no more than a TLS alert; indices were given back.
pub async fn accept<S, A>(
    stream: S,
    environments: &ServerEnvironments,
    answer: impl FnOnce() -> bool,
    admit: A,
    deadline: Instant,
) -> Result<Accepted<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnOnce(&EnvironmentId, &VerifiedPeer) -> Option<LocalSide>,
{
    scrubbed(accept_unscrubbed(stream, environments, answer, admit, deadline)).await
}

/// Begins a handshake with the host `expected` on a connected stream, until `deadline` (at most
/// [`DEADLINE`] from the first SYN).
///
/// # Errors
/// [`HandshakeError`]. Indices were given back.
pub async fn connect<S>(
    stream: S,
    environment: &Environment,
    expected: &HostId,
    local: &LocalSide,
    deadline: Instant,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    scrubbed(connect_unscrubbed(stream, environment, expected, local, deadline)).await
}

/// Asks the host `expected` that a connection carry datagrams, until `deadline`.
///
/// # Errors
/// [`HandshakeError`].
pub async fn connect_stream<S>(
    stream: S,
    environment: &Environment,
    expected: &HostId,
    number: u8,
    deadline: Instant,
) -> Result<Stream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    scrubbed(connect_stream_unscrubbed(stream, environment, expected, number, deadline)).await
}

async fn connect_stream_unscrubbed<S>(
    stream: S,
    environment: &Environment,
    expected: &HostId,
    number: u8,
    deadline: Instant,
) -> Result<Stream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    own_chain_end(environment)?;
    let (peer, mut stream) = connect_tls(stream, environment, expected, deadline).await?;
    let frames = async {
        check_application(&stream)?;
        Frames::new(&mut stream).ask_for_stream(number).await
    };
    let result = within(deadline, Step::Frames, frames).await;
    if let Err(error) = result {
        end_tls(stream, Some(&error), deadline).await;
        return Err(error);
    }
    Ok(Stream {
        environment: environment.id().clone(),
        host: peer.identity.host,
        number,
        // The server has sent nothing behind its last frame, as it waits for a datagram.
        connection: drop_tls(stream),
    })
}

async fn accept_unscrubbed<S, A>(
    stream: S,
    environments: &ServerEnvironments,
    answer: impl FnOnce() -> bool,
    admit: A,
    deadline: Instant,
) -> Result<Accepted<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnOnce(&EnvironmentId, &VerifiedPeer) -> Option<LocalSide>,
{
    let begun = Instant::now();
    let (environment, peer, mut stream) =
        accept_tls(stream, environments, answer, deadline).await?;
    let frames = async {
        check_application(&stream)?;
        let local = (peer.identity.host != *environment.host())
            .then(|| admit(environment.id(), &peer))
            .flatten()
            .ok_or_else(|| HandshakeError::UnknownPeer(peer.identity.to_string()))?;
        let mut frames = Frames::new(&mut stream);
        let params = match frames.receive_wish().await? {
            Wish::Session(params) => params,
            Wish::Stream(number) => {
                // The client sends no datagram before it has read this.
                frames.send_ready().await?;
                return Ok(Agreement::Stream(number));
            }
        };
        let agreed = frames.answer(&local, params).await?;
        let secret = export(&stream, &environment, &peer, Role::Server)?;
        let own_end = own_chain_end(&environment)?;
        Frames::new(&mut stream).send_ready().await?;
        Ok(Agreement::Session(agreed, secret, own_end))
    };
    let result = within(deadline, Step::Frames, frames).await;
    if let Ok(Agreement::Stream(number)) = result {
        let (environment, host) = (environment.id().clone(), peer.identity.host);
        let connection = drop_tls(stream);
        return Ok(Accepted::Stream(Stream { environment, host, number, connection }));
    }
    end_tls(stream, result.as_ref().err(), deadline).await;
    let Agreement::Session(agreed, secret, own_end) = result? else {
        return Err(HandshakeError::Closed(Step::Frames));
    };
    let not_after = peer.not_after.min(own_end);
    let role = Role::Server;
    let session = Established::new(agreed, secret, &environment, peer, not_after, role, begun);
    Ok(Accepted::Session(Box::new(session)))
}

/// What a server agreed to.
enum Agreement {
    Session(Agreed, SessionSecret, SystemTime),
    Stream(u8),
}

async fn connect_unscrubbed<S>(
    stream: S,
    environment: &Environment,
    expected: &HostId,
    local: &LocalSide,
    deadline: Instant,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Says better what is wrong than the peer's alert would.
    let own_end = own_chain_end(environment)?;
    let begun = Instant::now();
    let (peer, mut stream) = connect_tls(stream, environment, expected, deadline).await?;
    let frames = async {
        check_application(&stream)?;
        let mut frames = Frames::new(&mut stream);
        let agreed = frames.agree(local).await?;
        frames.receive_ready().await?;
        let secret = export(&stream, environment, &peer, Role::Client)?;
        Ok((agreed, secret))
    };
    let result = within(deadline, Step::Frames, frames).await;
    end_tls(stream, result.as_ref().err(), deadline).await;
    let (agreed, secret) = result?;
    let not_after = peer.not_after.min(own_end);
    Ok(Established::new(agreed, secret, environment, peer, not_after, Role::Client, begun))
}

fn own_chain_end(environment: &Environment) -> Result<SystemTime, HandshakeError> {
    environment
        .own_chain_end(unix(environment.time().now()))
        .map_err(HandshakeError::OwnCertificate)
}

async fn within<T>(
    deadline: Instant,
    step: Step,
    work: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    match timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Timeout(step)),
    }
}

impl Established {
    fn new(
        agreed: Agreed,
        secret: SessionSecret,
        environment: &Environment,
        peer: VerifiedPeer,
        not_after: SystemTime,
        role: Role,
        begun: Instant,
    ) -> Self {
        environment.time().learn(peer.not_before);
        let (local, other) = (agreed.local_params, agreed.peer_params);
        Self {
            environment: environment.id().clone(),
            not_after,
            peer,
            trusted: environment.anchor().tags().collect(),
            role,
            secret,
            local_indices: agreed.local_indices,
            peer_indices: agreed.peer_indices,
            peer_params: other,
            generation: match role {
                Role::Client => local.generation,
                Role::Server => other.generation,
            },
            no_aes: local.no_aes || other.no_aes,
            elapsed: begun.elapsed(),
        }
    }
}
