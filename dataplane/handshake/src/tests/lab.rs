//! Environments in memory, hosts in them, and programs that speak TLS but not by our rules.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    time::Instant,
};
use weft_pki::{Credentials, TrustAnchor};
use weft_types::{HostId, ReceiverIndex, WorkerId};

use crate::{
    ALPN, DEADLINE, Environment, Established, Exhausted, HandshakeError, IndexAllocator,
    KeyExchange, LocalParams, LocalSide, ServerEnvironments, accept, connect,
};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Deep enough for every flight of a handshake.
pub(super) fn pipe() -> (DuplexStream, DuplexStream) {
    duplex(64 * 1024)
}

pub(super) fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

pub(super) fn host(name: &str) -> HostId {
    HostId::new(name).unwrap()
}

/// An environment's authority.
pub(super) struct Lab {
    name: String,
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

/// A certificate with its key, good or bad.
pub(super) struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Lab {
    pub(super) fn new(name: &str) -> Self {
        Self::ending(name, SystemTime::now() + DAY)
    }

    /// One whose own certificate ends then.
    pub(super) fn ending(name: &str, not_after: SystemTime) -> Self {
        let mut params = base(&format!("spiffe://weft/env/{name}"));
        params.not_after = not_after.into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { name: name.to_owned(), pem, key, params }
    }

    /// The same authority with a certificate that ends then.
    pub(super) fn renewed(&self, not_after: SystemTime) -> Self {
        let mut params = self.params.clone();
        params.not_after = not_after.into();
        let key = KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { name: self.name.clone(), pem, key, params }
    }

    pub(super) fn anchor(&self) -> TrustAnchor {
        TrustAnchor::from_pem(self.pem.as_bytes()).unwrap()
    }

    /// While authorities rotate, this one first.
    pub(super) fn anchor_with(&self, other: &Self) -> TrustAnchor {
        TrustAnchor::from_pem(format!("{}{}", self.pem, other.pem).as_bytes()).unwrap()
    }

    /// What a good certificate of `host` is made of, to be spoilt.
    pub(super) fn params(&self, host: &str) -> CertificateParams {
        base(&format!("spiffe://weft/env/{}/host/{host}", self.name))
    }

    pub(super) fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Pair { pem: certificate.pem(), certificate: certificate.into(), key }
    }

    /// A good host.
    pub(super) fn host(&self, host: &str) -> Arc<Environment> {
        self.join(&self.issue(&self.params(host)), KeyExchange::default())
    }

    pub(super) fn join(&self, pair: &Pair, key_exchange: KeyExchange) -> Arc<Environment> {
        let key = pair.key.serialize_pem();
        let credentials = Credentials::from_pem(pair.pem.as_bytes(), key.as_bytes()).unwrap();
        Arc::new(Environment::new(self.anchor(), credentials, key_exchange).unwrap())
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.anchor().tag().server_name()
    }
}

fn base(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + DAY).into());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// Gives indices, and remembers which were not given back.
pub(super) struct Indices {
    given: Mutex<(u32, HashSet<ReceiverIndex>)>,
    limit: usize,
}

impl Indices {
    pub(super) fn new() -> Arc<Self> {
        Self::limited(1000)
    }

    pub(super) fn limited(limit: usize) -> Arc<Self> {
        Arc::new(Self { given: Mutex::default(), limit })
    }

    pub(super) fn outstanding(&self) -> usize {
        self.given.lock().unwrap().1.len()
    }

    pub(super) fn ever_given(&self) -> u32 {
        self.given.lock().unwrap().0
    }
}

impl IndexAllocator for Indices {
    fn allocate(&self, lanes: u8) -> Result<Vec<ReceiverIndex>, Exhausted> {
        let mut given = self.given.lock().unwrap();
        if given.1.len() + usize::from(lanes) > self.limit {
            return Err(Exhausted);
        }
        let indices: Vec<_> = (0..lanes)
            .map(|lane| {
                given.0 += 1;
                ReceiverIndex::new(WorkerId::new(usize::from(lane % 2)).unwrap(), given.0)
            })
            .collect();
        given.1.extend(indices.iter().copied());
        Ok(indices)
    }

    fn release(&self, indices: &[ReceiverIndex]) {
        let mut given = self.given.lock().unwrap();
        for index in indices {
            assert!(given.1.remove(index), "{index:?} released twice");
        }
    }
}

pub(super) fn params(lanes: u8) -> LocalParams {
    LocalParams {
        lanes,
        uso: lanes.is_multiple_of(2),
        datagram_max: 1400 + u16::from(lanes),
        instance: [lanes; 16],
        generation: 100 + u32::from(lanes),
        no_aes: lanes == 3,
    }
}

pub(super) fn side(lanes: u8, indices: &Arc<Indices>) -> LocalSide {
    LocalSide { params: params(lanes), indices: Arc::clone(indices) as Arc<dyn IndexAllocator> }
}

pub(super) type Outcome = Result<Established, HandshakeError>;

/// Accepts as a good server with environments `environments`, admitting every verified host.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    environments: impl IntoIterator<Item = Arc<Environment>>,
    local: LocalSide,
) -> Outcome {
    let environments = ServerEnvironments::new(environments).unwrap();
    let accepted = accept(stream, &environments, || true, |_, _| Some(local), deadline()).await;
    accepted.map(|accepted| accepted.into_session().expect("a session was asked for"))
}

/// A handshake between two good programs: client outcome, server outcome.
pub(super) async fn shake(
    client: &Arc<Environment>,
    expected: &str,
    server: &[Arc<Environment>],
) -> (Outcome, Outcome) {
    let (a, b) = pipe();
    let (ours, theirs) = (Indices::new(), Indices::new());
    let (ours, theirs) = (side(2, &ours), side(3, &theirs));
    let expected = host(expected);
    tokio::join!(
        connect(a, client, &expected, &ours, deadline()),
        serve(b, server.iter().cloned(), theirs)
    )
}

pub(super) fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() })
}

/// Accepts every certificate: TLS peers that want to get as far as they can.
#[derive(Debug)]
pub(super) struct Anyone;

/// A TLS client with any certificate, or none.
pub(super) fn stranger(pair: Option<&Pair>) -> ClientConfig {
    stranger_with(pair, aws_lc_rs::DEFAULT_KX_GROUPS)
}

pub(super) fn stranger_with(
    pair: Option<&Pair>,
    groups: &[&'static dyn SupportedKxGroup],
) -> ClientConfig {
    stranger_of(pair, provider(groups))
}

pub(super) fn stranger_of(pair: Option<&Pair>, provider: Arc<CryptoProvider>) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match pair {
        Some(pair) => {
            config.with_client_auth_cert(vec![pair.certificate.clone()], pair.key_der()).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// A TLS server with any certificate.
pub(super) fn strange_server(pair: &Pair) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider(aws_lc_rs::DEFAULT_KX_GROUPS))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_single_cert(vec![pair.certificate.clone()], pair.key_der())
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

impl Pair {
    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::verifier::SIGNATURES.supported_schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::verifier::SIGNATURES.supported_schemes()
    }
}
