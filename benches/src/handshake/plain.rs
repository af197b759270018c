//! Two hosts of one environment, and the same two as plain rustls: the same certificates, the same
//! key exchange, no resumption, and rustls' own certificate check. Only the name of the server is
//! not checked, because the certificates carry none.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use weft_handshake::{ALPN, Environment, KeyExchange};
use weft_pki::issue::{Authority, HostRequest, HostUsages, Validity, new_authority};
use weft_pki::{Credentials, EnvironmentIdentity, KeyKind};
use weft_types::{EnvironmentId, HostId, InstallationId};

use super::Group;

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 100;
const HOST_DAYS: u32 = 10;

/// Two hosts.
pub(super) struct Hosts {
    pub(super) client: Arc<Environment>,
    pub(super) server: Arc<Environment>,
    roots: Arc<RootCertStore>,
}

impl Hosts {
    pub(super) fn new() -> Self {
        let identity = EnvironmentIdentity {
            installation: InstallationId::new("weft").expect("a label"),
            environment: EnvironmentId::new("acme").expect("a label"),
        };
        let validity = |days| Validity::days(SystemTime::now(), DAY, days);
        let issued = new_authority(&identity, validity(AUTHORITY_DAYS), KeyKind::EcdsaP256)
            .expect("a new authority");
        let certificate = issued.certificate_pem.as_bytes();
        let authority =
            Authority::from_pem(certificate, issued.key_pem.as_bytes()).expect("just issued");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(certificate).expect("just issued"))
            .expect("an authority");
        let host = |name| {
            let request = HostRequest {
                host: HostId::new(name).expect("a label"),
                validity: validity(HOST_DAYS),
                key_kind: KeyKind::EcdsaP256,
                usages: HostUsages::Both,
            };
            let issued = authority.issue_host(&request).expect("a good request");
            let (chain, key) = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
            let credentials = Credentials::from_pem(chain, key).expect("just issued");
            let anchor = authority.anchor().clone();
            let environment = Environment::new(anchor, credentials, KeyExchange::default());
            Arc::new(environment.expect("of one environment"))
        };
        Self { client: host("host-a"), server: host("host-b"), roots: Arc::new(roots) }
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.server.anchor().tag().server_name()
    }

    pub(super) fn client_config(&self, group: Group) -> Arc<ClientConfig> {
        let provider = provider(group);
        let verifier = AnyName { roots: Arc::clone(&self.roots), provider: Arc::clone(&provider) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(certificate(&self.client));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    pub(super) fn server_config(&self, group: Group) -> Arc<ServerConfig> {
        let provider = provider(group);
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&provider),
        );
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("there is a root"))
            .with_cert_resolver(certificate(&self.server));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}

fn provider(group: Group) -> Arc<CryptoProvider> {
    let kx: &'static dyn SupportedKxGroup = match group {
        Group::Hybrid => kx_group::X25519MLKEM768,
        Group::Classical => kx_group::X25519,
    };
    Arc::new(CryptoProvider { kx_groups: vec![kx], ..default_provider() })
}

fn certificate(environment: &Environment) -> Arc<SingleCertAndKey> {
    let key = environment.credentials().certified_key();
    Arc::new(SingleCertAndKey::from(rustls::sign::CertifiedKey::clone(&key)))
}

/// Rustls' check of a server's certificate, but for its name.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
