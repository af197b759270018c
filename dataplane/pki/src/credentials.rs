//! A host's own chain and private key for one environment.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::{
    anchor::TrustAnchor,
    certificate::Facts,
    error::{PkiError, Subject},
    identity::HostIdentity,
    pem,
    verify::{CHAIN_LEN_MAX, VerifiedPeer, verify_peer},
};

/// A host's certificate chain with its private key, which never leaves it except as signatures.
/// Cheap to clone. The key is kept by the cryptography library, which wipes it when the last
/// clone goes; the text forms hold no key.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    certified: Arc<CertifiedKey>,
    identity: HostIdentity,
    facts: Facts,
}

impl Credentials {
    /// Reads `HOST.pem` (the host's certificate first, then intermediates if there are any) and
    /// `HOST.key` (one private key, PKCS #8 or SEC 1, not encrypted).
    ///
    /// This checks the form, the usages and that key and certificate belong together; whether the
    /// certificate is valid now and signed by the environment's authority says
    /// [`Credentials::check`].
    ///
    /// # Errors
    /// [`PkiError`] says what was found and what was expected.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, PkiError> {
        let chain = pem::certificates(certificate)?;
        if chain.len() > CHAIN_LEN_MAX {
            return Err(PkiError::TooLarge {
                what: "the number of certificates in the chain",
                found: chain.len(),
                max: CHAIN_LEN_MAX,
            });
        }
        let facts = Facts::parse(&chain[0], Subject::Host)?;
        facts.check_host_usage()?;
        facts.check_key(Subject::Host)?;
        let identity = facts.host_identity()?;
        let certified = certify(chain, pem::private_key(key)?)?;
        Ok(Self(Arc::new(Inner { certified: Arc::new(certified), identity, facts })))
    }

    /// Judges this host's own chain as a peer would.
    ///
    /// # Errors
    /// Those of [`verify_peer`].
    pub fn check(&self, anchor: &TrustAnchor, now: UnixTime) -> Result<VerifiedPeer, PkiError> {
        verify_peer(anchor, self.chain(), now)
    }

    /// Who this host is in the environment.
    #[must_use]
    pub fn identity(&self) -> &HostIdentity {
        &self.0.identity
    }

    /// First moment at which the certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.0.facts.not_before
    }

    /// Last moment at which the certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.facts.not_after
    }

    /// SHA-256 of the host's certificate in DER; part of the exporter context.
    #[must_use]
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.0.facts.fingerprint
    }

    /// The chain that is sent, the host's own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.certified.cert
    }

    /// Chain and signing key in the form that the TLS library takes.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.certified)
    }
}

fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
) -> Result<CertifiedKey, PkiError> {
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    // The library takes the DER by value; it drops it unwiped, `key` itself is wiped here.
    let signing_key = provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|e| PkiError::Key(e.to_string()))?;
    if signing_key.algorithm() == rustls::SignatureAlgorithm::RSA {
        return Err(PkiError::Key("it is an RSA key".to_owned()));
    }
    let certified = CertifiedKey::new(chain, signing_key);
    certified.keys_match().map_err(|_| PkiError::KeyMismatch)?;
    Ok(certified)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.identity())
    }
}
