//! TLS itself on both sides: from a connected stream to an authenticated one, to one secret, to
//! its end.

use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};
use weft_pki::VerifiedPeer;
use weft_types::HostId;

use crate::{
    close::linger,
    environment::{Environment, Selected, ServerEnvironments},
    error::{HandshakeError, ProtocolError, Step},
    exporter::{EXPORTER_LABEL, ExporterContext, SessionSecret},
    local::Role,
    tls::{self, ALPN},
    verifier::{ClientVerifier, ServerVerifier},
};

/// TLS of the server: choose the environment by tag, prove who this host is, judge the client.
pub(crate) async fn accept_tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    environments: &ServerEnvironments,
    answer: impl FnOnce() -> bool,
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
    if !answer() {
        return Err(HandshakeError::Crowded);
    }
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
pub(crate) async fn end_tls<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: TlsStream<S>,
    error: Option<&HandshakeError>,
    deadline: Instant,
) {
    // Polls once: sends the alert, if there is room.
    let _ = timeout_at(Instant::now(), stream.shutdown()).await;
    let socket = drop_tls(stream);
    match error {
        None | Some(HandshakeError::Timeout(_)) => {}
        Some(_) => linger(socket, deadline).await,
    }
}

/// Ends TLS without a word: what follows on the connection is something else.
pub(crate) fn drop_tls<S>(stream: TlsStream<S>) -> S {
    match stream {
        TlsStream::Client(stream) => stream.into_inner().0,
        TlsStream::Server(stream) => stream.into_inner().0,
    }
}

pub(crate) fn check_application<S>(stream: &TlsStream<S>) -> Result<(), HandshakeError> {
    if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
        Ok(())
    } else {
        Err(ProtocolError::Application.into())
    }
}

/// The one use of the exporter.
pub(crate) fn export<S>(
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
