//! Connections to the control plane: TLS 1.3 under the installation's authority, nothing else.

mod ways;

use std::{error::Error, fmt, future::ready, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use weft_config::ControlUrl;
use weft_pki::installation;

pub use self::ways::Lookup;
pub(crate) use self::ways::Ways;
use self::ways::within;

/// How long connecting may take, with the name and all of its addresses.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(8);
/// How often a quiet connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long the answer to that may take.
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(10);
/// A process that falls silent is noticed so soon: with all that follows, before the control plane takes its host for
/// lost.
pub(crate) const SILENCE_MAX: Duration = KEEPALIVE.saturating_add(KEEPALIVE_ANSWER_MAX);

/// Why a connection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Certificates that cannot be used.
    #[error("certificates: {0}")]
    Certificates(String),
    /// The network or TLS says no.
    #[error("cannot connect to {url}: {cause}")]
    Refused {
        /// Where to.
        url: ControlUrl,
        /// The deepest cause.
        cause: String,
    },
}

/// TLS of a host with its certificate of the installation.
pub(crate) fn as_host(
    anchors: &[String],
    certificate: &str,
    key: &str,
) -> Result<ClientConfig, ConnectError> {
    let wrong = |error: &dyn fmt::Display| ConnectError::Certificates(error.to_string());
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        let anchor = installation::anchor(anchor.as_bytes()).map_err(|e| wrong(&e))?;
        roots.add(anchor).map_err(|e| wrong(&e))?;
    }
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, pem::Error>>().map_err(|e| wrong(&e))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong(&e))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| wrong(&e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| wrong(&e))?;
    Ok(finish(config))
}

/// TLS of a machine that knows the installation by the hash of its authority's certificate only.
pub(crate) fn as_stranger(authority: &[u8; 32]) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Pinned { authority: *authority, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ConnectError::Certificates(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every connection shows its certificate anew.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// Connects, now, to whichever of its processes answers.
pub(crate) async fn connect(
    url: &ControlUrl,
    ways: &Ways,
    tls: ClientConfig,
) -> Result<Channel, ConnectError> {
    let connector = TlsConnector::from(Arc::new(tls));
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|error| ConnectError::Certificates(error.to_string()))?;
    let refused = |error: &dyn Error| ConnectError::Refused {
        url: url.clone(),
        cause: deepest(error).to_string(),
    };
    let reached = ways.reach(url, |address| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connector.connect(name, stream).await
        }
    });
    let stream = within(CONNECT_MAX, reached).await.map_err(|error| refused(&error))?;
    // When it ends, another process has its turn: it is not made again behind our back.
    let mut once = Some(TokioIo::new(stream));
    let to = tower::service_fn(move |_: tonic::transport::Uri| {
        ready(once.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    // The connector does TLS whatever the scheme says: with another one the library would do it again.
    let endpoint = Endpoint::from_shared(format!("http://{}", url.address()));
    let endpoint = endpoint.map_err(|error| refused(&error))?;
    endpoint
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER_MAX)
        .keep_alive_while_idle(true)
        .connect_with_connector(to)
        .await
        .map_err(|error| refused(&error))
}

fn deepest<'a>(error: &'a (dyn Error + 'a)) -> &'a (dyn Error + 'a) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// Judges a server's chain by the authority that it shows, if that has the hash that is known.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn judge(
        &self,
        shown: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let known = |c: &&CertificateDer<'_>| installation::fingerprint(c) == self.authority;
        let authority = shown.iter().find(known).ok_or_else(|| {
            rustls::Error::General("the server is of another installation than the token".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        built.map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = self.judge(intermediates)?;
        judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
