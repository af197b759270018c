//! Why a handshake failed, for the log, for metrics, and for whoever decides on a retry.

use std::{fmt, io};

use weft_pki::{ErrorClass, PkiError};
use weft_wire::hello::FrameError;

use crate::indices::Exhausted;

/// How far a handshake had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Connecting, or waiting for the first TLS message.
    Start,
    /// Inside the TLS handshake.
    Tls,
    /// Exchanging frames inside TLS.
    Frames,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "before the first TLS message",
            Self::Tls => "during the TLS handshake",
            Self::Frames => "while exchanging frames",
        })
    }
}

/// Who has to change something before a retry can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other host.
    Peer,
    /// This host.
    Own,
    /// The way between them, or nobody: try again.
    Network,
}

/// Frames that are well formed but not the right ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Bytes that are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame out of turn.
    #[error("received a {found} frame; expected {expected}")]
    Unexpected {
        /// Name of the frame.
        found: &'static str,
        /// Name of the frame that was due.
        expected: &'static str,
    },
    /// As many indices as lanes are needed.
    #[error("received {found} indices; expected {expected}, one for each lane")]
    IndexCount {
        /// Indices received.
        found: usize,
        /// Lanes announced.
        expected: u8,
    },
    /// TLS was negotiated for another application.
    #[error("the peer did not agree on the application protocol weft/1")]
    Application,
}

/// Why a handshake failed. Holds nothing secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It took too long.
    #[error("the deadline passed {0}")]
    Timeout(Step),
    /// The peer closed the connection.
    #[error("the peer closed the connection {0}")]
    Closed(Step),
    /// The connection broke or could not be made.
    #[error("connection: {0}")]
    Io(#[source] io::Error),
    /// The peer's certificate is not good.
    #[error("the peer's {0}")]
    Certificate(#[source] PkiError),
    /// The peer has a good certificate but is not a configured peer.
    #[error("{0} is not a configured peer")]
    UnknownPeer(String),
    /// A client asked for an environment that is not here.
    #[error("the client asked for an environment that is not on this host")]
    UnknownEnvironment,
    /// The peer ended TLS with an alert; most often it did not accept this host's certificate.
    #[error("the peer refused with the TLS alert {0}")]
    Refused(String),
    /// TLS failed otherwise.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The handshake ended well, and no datagram came on the session that it made.
    #[error("no datagram came on the new session; expected UDP to reach the port as TCP does")]
    Unproven,
    /// The peer broke the rules inside TLS.
    #[error("protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// More strangers called than are answered.
    #[error("too many handshakes of unknown sources")]
    Crowded,
    /// This host's own certificate cannot be used now.
    #[error("this host's own {0}")]
    OwnCertificate(#[source] PkiError),
    /// This host has no receiver indices left.
    #[error(transparent)]
    Indices(#[from] Exhausted),
    /// This host's own parameters cannot be sent.
    #[error("own parameters: {0}")]
    OwnParams(#[source] FrameError),
}

impl HandshakeError {
    /// A small set of words for a metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Closed(_) => "closed",
            Self::Io(_) => "io",
            Self::Certificate(e) => match e.class() {
                ErrorClass::Expired => "certificate_expired",
                ErrorClass::NotYetValid => "certificate_not_yet_valid",
                ErrorClass::Untrusted => "certificate_untrusted",
                ErrorClass::Identity => "certificate_identity",
                ErrorClass::Usage => "certificate_usage",
                ErrorClass::Malformed => "certificate_malformed",
            },
            Self::UnknownPeer(_) => "unknown_peer",
            Self::UnknownEnvironment => "unknown_environment",
            Self::Refused(_) => "refused",
            Self::Tls(_) => "tls",
            Self::Unproven => "unproven",
            Self::Protocol(_) => "protocol",
            Self::Crowded => "crowded",
            Self::OwnCertificate(_) => "own_certificate",
            Self::Indices(_) | Self::OwnParams(_) => "own_limits",
        }
    }

    /// Every value of [`HandshakeError::label`], so that counters can exist before they count.
    pub const LABELS: &[&str] = &[
        "timeout",
        "closed",
        "io",
        "certificate_expired",
        "certificate_not_yet_valid",
        "certificate_untrusted",
        "certificate_identity",
        "certificate_usage",
        "certificate_malformed",
        "unknown_peer",
        "unknown_environment",
        "refused",
        "tls",
        "unproven",
        "protocol",
        "crowded",
        "own_certificate",
        "own_limits",
    ];

    /// Who has to change something.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Timeout(_) | Self::Closed(_) | Self::Io(_) | Self::Unproven | Self::Crowded => {
                Fault::Network
            }
            Self::Certificate(_)
            | Self::UnknownPeer(_)
            | Self::UnknownEnvironment
            | Self::Refused(_)
            | Self::Tls(_)
            | Self::Protocol(_) => Fault::Peer,
            Self::OwnCertificate(_) | Self::Indices(_) | Self::OwnParams(_) => Fault::Own,
        }
    }

    /// Reads an error of the TLS stream. `judged` is what the certificate check found, if it did.
    pub(crate) fn from_stream(error: io::Error, step: Step, judged: Option<PkiError>) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(format!("{alert:?}")),
            Some(tls) => match judged {
                Some(judged) => Self::Certificate(judged),
                None => Self::Tls(tls.clone()),
            },
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed(step),
            None => Self::Io(error),
        }
    }
}
