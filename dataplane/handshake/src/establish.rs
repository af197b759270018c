//! Both sides of a handshake, from a connected stream to a secret.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::server::Acceptor;
use rustls_pki_types::UnixTime;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};
use weft_pki::VerifiedPeer;
use weft_types::{EnvironmentId, HostId, ReceiverIndex};
use weft_wire::hello::Hello;

use crate::{
    close::linger,
    environment::{Environment, Selected, ServerEnvironments},
    error::{HandshakeError, ProtocolError, Step},
    exchange::{Agreed, Frames},
    exporter::{EXPORTER_LABEL, ExporterContext, SessionSecret},
    indices::{IndexAllocator, IndexGuard},
    scrub::scrub_stack,
    tls::{self, ALPN},
    verifier::{ClientVerifier, ServerVerifier},
};

/// How long a handshake may take from the first SYN to the last frame.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What this host tells a peer of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalParams {
    /// Lanes on which this host will send, 1 to 64.
    pub lanes: u8,
    /// Whether this host can write UDP superpackets to its interfaces.
    pub uso: bool,
    /// Largest UDP payload that this host accepts, in bytes, at least 1232.
    pub datagram_max: u16,
    /// Random for each process and peer.
    pub instance: [u8; 16],
    /// For a client: one more than the greatest generation that it knows of this peer.
    pub generation: u32,
    /// Whether this host's processor has no AES instructions.
    pub no_aes: bool,
}

/// This host's part in one handshake.
#[derive(Clone)]
pub struct LocalSide {
    /// What it tells of itself.
    pub params: LocalParams,
    /// Where its receiver indices come from.
    pub indices: Arc<dyn IndexAllocator>,
}

/// Which side of TLS this host was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It connected.
    Client,
    /// It accepted.
    Server,
}

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
/// `admit` is asked once the client has proven who it is, and gives this host's part for that
/// peer; `None` when the host is not a configured peer.
///
/// # Errors
/// [`HandshakeError`]. The peer was told no more than a TLS alert; indices were given back.
pub async fn accept<S, A>(
    stream: S,
    environments: &ServerEnvironments,
    admit: A,
    deadline: Instant,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnOnce(&EnvironmentId, &VerifiedPeer) -> Option<LocalSide>,
{
    let begun = Instant::now();
    let (environment, peer, mut stream) = accept_tls(stream, environments, deadline).await?;
    let frames = async {
        check_application(&stream)?;
        let local = (peer.identity.host != *environment.host())
            .then(|| admit(environment.id(), &peer))
            .flatten()
            .ok_or_else(|| HandshakeError::UnknownPeer(peer.identity.to_string()))?;
        let agreed = Frames::new(&mut stream).agree(&local).await?;
        let secret = export(&stream, &environment, &peer, Role::Server)?;
        Frames::new(&mut stream).send_ready().await?;
        Ok((agreed, secret))
    };
    let result = within(deadline, Step::Frames, frames).await;
    end_tls(stream, result.as_ref().err(), deadline).await;
    let (agreed, secret) = result?;
    Ok(Established::new(agreed, secret, &environment, peer, Role::Server, begun))
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
    // Says better what is wrong than the peer's alert would.
    environment
        .credentials()
        .check(environment.anchor(), UnixTime::now())
        .map_err(HandshakeError::OwnCertificate)?;
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
    Ok(Established::new(agreed, secret, environment, peer, Role::Client, begun))
}

/// TLS of the server: choose the environment by tag, prove who this host is, judge the client.
pub(crate) async fn accept_tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    environments: &ServerEnvironments,
    deadline: Instant,
) -> Result<(Arc<Environment>, VerifiedPeer, TlsStream<S>), HandshakeError> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let first = timeout_at(deadline, &mut acceptor).await;
    let start = match first.map_err(|_| HandshakeError::Timeout(Step::Start))? {
        Ok(start) => start,
        Err(error) => {
            if let Some(stream) = acceptor.take_io() {
                linger(stream, deadline).await;
            }
            return Err(HandshakeError::from_stream(error, Step::Start, None));
        }
    };
    let Selected { environment, decoy } = environments.select(start.client_hello().server_name());
    let verifier = ClientVerifier::new(environment.anchor().clone());
    let config =
        tls::server_config(&environment, Arc::clone(&verifier)).map_err(HandshakeError::Tls)?;
    let handshake = start.into_stream(config).into_fallible();
    let done = timeout_at(deadline, handshake).await;
    let judged = verifier.take();
    match (done, judged) {
        (Ok(Ok(stream)), Some(Ok(peer))) if !decoy => Ok((environment, peer, stream.into())),
        (Ok(Err((error, stream))), judged) => {
            linger(stream, deadline).await;
            if decoy {
                return Err(HandshakeError::UnknownEnvironment);
            }
            let judged = judged.and_then(Result::err);
            Err(HandshakeError::from_stream(error, Step::Tls, judged))
        }
        (Err(_), _) => Err(HandshakeError::Timeout(Step::Tls)),
        // Nobody has a certificate of the decoy's authority, and TLS does not end well without a
        // verdict; if it ever did, this is where it stops.
        (Ok(Ok(_)), _) => Err(HandshakeError::UnknownEnvironment),
    }
}

/// TLS of the client: name the environment by its tag, judge the server, prove who this host is.
pub(crate) async fn connect_tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    environment: &Environment,
    expected: &HostId,
    deadline: Instant,
) -> Result<(VerifiedPeer, TlsStream<S>), HandshakeError> {
    let verifier = ServerVerifier::new(environment.anchor().clone(), expected.clone());
    let config =
        tls::client_config(environment, Arc::clone(&verifier)).map_err(HandshakeError::Tls)?;
    let handshake = TlsConnector::from(config)
        .connect(environment.anchor().tag().server_name(), stream)
        .into_fallible();
    let done = timeout_at(deadline, handshake).await;
    match (done, verifier.take()) {
        (Ok(Ok(stream)), Some(Ok(peer))) => Ok((peer, stream.into())),
        (Ok(Err((error, stream))), judged) => {
            linger(stream, deadline).await;
            let judged = judged.and_then(Result::err);
            Err(HandshakeError::from_stream(error, Step::Tls, judged))
        }
        (Err(_), _) => Err(HandshakeError::Timeout(Step::Tls)),
        (Ok(Ok(_)), _) => Err(HandshakeError::Tls(rustls::Error::General(
            "the server's certificate was not judged".to_owned(),
        ))),
    }
}

/// Ends TLS and with it every secret that it held. A peer that does not read its close alert
/// cannot keep it alive: what does not fit the socket's buffer at once is not sent.
async fn end_tls<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: TlsStream<S>,
    error: Option<&HandshakeError>,
    deadline: Instant,
) {
    // Polls once: sends the alert, if there is room.
    let _ = timeout_at(Instant::now(), stream.shutdown()).await;
    let socket = match stream {
        TlsStream::Client(stream) => stream.into_inner().0,
        TlsStream::Server(stream) => stream.into_inner().0,
    };
    scrub_stack();
    match error {
        None | Some(HandshakeError::Timeout(_)) => {}
        Some(_) => linger(socket, deadline).await,
    }
}

fn check_application<S>(stream: &TlsStream<S>) -> Result<(), HandshakeError> {
    if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
        Ok(())
    } else {
        Err(ProtocolError::Application.into())
    }
}

/// The one use of the exporter.
fn export<S>(
    stream: &TlsStream<S>,
    environment: &Environment,
    peer: &VerifiedPeer,
    role: Role,
) -> Result<SessionSecret, HandshakeError> {
    let own = (environment.host(), &environment.credentials().certificate_hash());
    let other = (&peer.identity.host, &peer.certificate_hash);
    let (client, server) = match role {
        Role::Client => (own, other),
        Role::Server => (other, own),
    };
    let context = ExporterContext {
        environment: environment.id(),
        client: client.0,
        server: server.0,
        client_certificate: client.1,
        server_certificate: server.1,
    }
    .encode();
    let mut secret = SessionSecret::empty();
    let out = secret.as_mut();
    match stream {
        TlsStream::Client(s) => {
            s.get_ref().1.export_keying_material(out, EXPORTER_LABEL, Some(&context))
        }
        TlsStream::Server(s) => {
            s.get_ref().1.export_keying_material(out, EXPORTER_LABEL, Some(&context))
        }
    }
    .map_err(HandshakeError::Tls)?;
    Ok(secret)
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
        role: Role,
        begun: Instant,
    ) -> Self {
        let (local, other) = (agreed.local_params, agreed.peer_params);
        Self {
            environment: environment.id().clone(),
            not_after: peer.not_after.min(environment.not_after()),
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
