//! Both sides of a handshake, from a connected stream to a secret.

use std::time::{Duration, SystemTime};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use weft_pki::VerifiedPeer;
use weft_types::{EnvironmentId, HostId, ReceiverIndex};
use weft_wire::hello::Hello;

use crate::{
    environment::{Environment, ServerEnvironments},
    error::{HandshakeError, Step},
    exchange::{Agreed, Frames},
    exporter::SessionSecret,
    indices::IndexGuard,
    local::{LocalSide, Role},
    scrub::scrubbed,
    stream::{accept_tls, check_application, connect_tls, end_tls, export},
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
) -> Result<Established, HandshakeError>
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

async fn accept_unscrubbed<S, A>(
    stream: S,
    environments: &ServerEnvironments,
    answer: impl FnOnce() -> bool,
    admit: A,
    deadline: Instant,
) -> Result<Established, HandshakeError>
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
        let agreed = Frames::new(&mut stream).agree(&local).await?;
        let secret = export(&stream, &environment, &peer, Role::Server)?;
        let own_end = own_chain_end(&environment)?;
        Frames::new(&mut stream).send_ready().await?;
        Ok((agreed, secret, own_end))
    };
    let result = within(deadline, Step::Frames, frames).await;
    end_tls(stream, result.as_ref().err(), deadline).await;
    let (agreed, secret, own_end) = result?;
    let not_after = peer.not_after.min(own_end);
    Ok(Established::new(agreed, secret, &environment, peer, not_after, Role::Server, begun))
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
