//! The door: TCP connections in, who is at their other end, and how many there may be.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;
use weft_pki::installation::{self, Member};

use crate::{
    api::{Peer, Whose},
    crowd::{Comer, Crowd, Ousted, Place, Source},
};

impl Comer for Whose {
    type Owner = Self;

    fn owner(&self) -> &Self {
        self
    }
}

/// TLS handshakes at once, by source.
const HANDSHAKES_MAX: usize = 1_024;
/// Connections at once that show no certificate, by source.
const STRANGERS_MAX: usize = 4_096;
/// The same of one source: of all who share an address.
const SOURCE_STRANGERS_MAX: usize = 128;
/// Connections at once that show one, by whose it is.
const MEMBERS_MAX: usize = 8_192;
/// The same of one host: its daemon has one, and another one while it does not know yet that the first has ended.
const HOST_CONNECTIONS_MAX: usize = 8;
/// The same of one part of the platform, of which there are several, that watch many environments.
const PART_CONNECTIONS_MAX: usize = 256;
/// Connections at once, with those whose end is not noticed yet.
pub const CONNECTIONS_MAX: usize = HANDSHAKES_MAX + STRANGERS_MAX + MEMBERS_MAX;
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// After a connection could not be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections go.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    /// Those that show no certificate.
    pub(super) strangers: mpsc::Sender<io::Result<Connection>>,
    /// Those that show one.
    pub(super) members: mpsc::Sender<io::Result<Connection>>,
}

pub(super) async fn accept(listener: TcpListener, acceptor: TlsAcceptor, inside: Inside) {
    let handshakes = Crowd::new(HANDSHAKES_MAX);
    let (strangers, members) = (Crowd::new(STRANGERS_MAX), Crowd::new(MEMBERS_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let source = Source::from(from.ip());
        let (place, ousted) = handshakes.enter(source);
        let (acceptor, inside) = (acceptor.clone(), inside.clone());
        let (strangers, members) = (strangers.clone(), members.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let shaken = tokio::select! {
                shaken = timeout(HANDSHAKE_MAX, acceptor.accept(stream)) => shaken,
                _ = ousted => {
                    tracing::debug!(from = %from.ip(), "a TLS handshake has lost its place");
                    return;
                }
            };
            match shaken {
                Ok(Ok(stream)) => {
                    let peer = peer(&stream, from.ip());
                    let whose = peer.whose();
                    let member = peer.member.as_ref().map(|member| &member.identity.member);
                    let ((place, ousted), to) = match member {
                        Some(Member::Host(_)) => {
                            (members.enter_own(whose, HOST_CONNECTIONS_MAX), inside.members)
                        }
                        Some(Member::Component(_)) => {
                            (members.enter_own(whose, PART_CONNECTIONS_MAX), inside.members)
                        }
                        None => {
                            (strangers.enter_own(whose, SOURCE_STRANGERS_MAX), inside.strangers)
                        }
                    };
                    let connection =
                        Connection { peer, stream, ousted: Some(ousted), _place: place };
                    // The server is gone: so is the connection.
                    let _ = to.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

fn peer(stream: &TlsStream<TcpStream>, address: IpAddr) -> Peer {
    let chain = stream.get_ref().1.peer_certificates();
    let shown = chain.and_then(|chain| chain.first());
    // The library has judged the chain; a certificate that says nothing of a member makes nobody one.
    let member = shown.and_then(|certificate| installation::member(certificate).ok());
    Peer { address: address.to_canonical(), member }
}

/// A connection with who is at its other end.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// `None` when it was.
    ousted: Option<Ousted>,
    _place: Place<Whose>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_ousted = |ousted: &mut Ousted| Pin::new(ousted).poll(context).is_ready();
        if self.ousted.as_mut().is_none_or(is_ousted) {
            self.ousted = None;
            let why = "others need its place, and its source has the most";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
