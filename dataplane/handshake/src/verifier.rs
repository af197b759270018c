//! Certificate checks inside TLS: both sides ask [`verify_peer`] and remember what it said.
//!
//! A verifier serves one connection. What it found is kept here, because the TLS library would
//! reduce it to a word.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_pki::{ErrorClass, PkiError, Subject, TrustAnchor, VerifiedPeer, verify_peer};
use weft_types::HostId;

/// Signatures of certificates and handshakes: the key kinds that `weft-pki` accepts, no others.
pub(crate) static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: weft_pki::SIGNATURE_ALGORITHMS,
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::aws_lc_rs::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[webpki::aws_lc_rs::ECDSA_P384_SHA384]),
        (SignatureScheme::ED25519, &[webpki::aws_lc_rs::ED25519]),
    ],
};

/// What one connection's certificate check found.
#[derive(Debug, Default)]
struct Verdict(Mutex<Option<Result<VerifiedPeer, PkiError>>>);

impl Verdict {
    fn judge(&self, judge: impl FnOnce() -> Result<VerifiedPeer, PkiError>) -> Result<(), Error> {
        let result = judge();
        let answer = match &result {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::InvalidCertificate(alert_for(e.class()))),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        answer
    }

    fn take(&self) -> Option<Result<VerifiedPeer, PkiError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The error that makes the TLS library send the nearest alert. Alerts tell a host what is wrong
/// with its own certificate, and nothing that depends on which environments exist here.
fn alert_for(class: ErrorClass) -> CertificateError {
    match class {
        ErrorClass::Expired => CertificateError::Expired,
        ErrorClass::NotYetValid => CertificateError::NotValidYet,
        ErrorClass::Untrusted => CertificateError::UnknownIssuer,
        ErrorClass::Identity => CertificateError::ApplicationVerificationFailure,
        ErrorClass::Usage => CertificateError::InvalidPurpose,
        ErrorClass::Malformed => CertificateError::BadEncoding,
    }
}

/// Judges the client of one connection.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    anchor: TrustAnchor,
    verdict: Verdict,
}

impl ClientVerifier {
    pub(crate) fn new(anchor: TrustAnchor) -> Arc<Self> {
        Arc::new(Self { anchor, verdict: Verdict::default() })
    }

    /// What was found; `None` when no certificate was judged.
    pub(crate) fn take(&self) -> Option<Result<VerifiedPeer, PkiError>> {
        self.verdict.take()
    }
}

/// Judges the server of one connection, which must be one particular host.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    anchor: TrustAnchor,
    expected: HostId,
    verdict: Verdict,
}

impl ServerVerifier {
    pub(crate) fn new(anchor: TrustAnchor, expected: HostId) -> Arc<Self> {
        Arc::new(Self { anchor, expected, verdict: Verdict::default() })
    }

    /// What was found; `None` when no certificate was judged.
    pub(crate) fn take(&self) -> Option<Result<VerifiedPeer, PkiError>> {
        self.verdict.take()
    }
}

fn chain<'a>(
    end_entity: &CertificateDer<'a>,
    intermediates: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    let mut chain = Vec::with_capacity(1 + intermediates.len());
    chain.push(end_entity.clone());
    chain.extend_from_slice(intermediates);
    chain
}

impl ClientCertVerifier for ClientVerifier {
    /// None: names of authorities would tell which environment this is.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = chain(end_entity, intermediates);
        self.verdict
            .judge(|| verify_peer(&self.anchor, &chain, now))
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    /// The name is a tag that no certificate carries; who the server is says its URI.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = chain(end_entity, intermediates);
        let judge = || {
            let peer = verify_peer(&self.anchor, &chain, now)?;
            if peer.identity.host == self.expected {
                return Ok(peer);
            }
            Err(PkiError::WrongIdentity {
                subject: Subject::Host,
                found: peer.identity.to_string(),
                expected: format!("host {}", self.expected),
            })
        };
        self.verdict.judge(judge).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

fn no_tls12() -> Error {
    Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)
}
