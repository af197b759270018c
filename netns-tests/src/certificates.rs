//! Certificates that `weft pki` would never issue, signed by a CA that it made.

pub mod bad;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::pki::{HostFiles, Pki};

/// What `weft pki init` takes without `--installation`.
const INSTALLATION: &str = "weft";

/// A certificate to make. Begin with [`Leaf::proper`] and spoil it.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// URIs of the subject alternative name.
    pub uris: Vec<String>,
    /// DNS names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// Extended key usages.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Start of validity, counted from now; negative is the past. Seconds.
    pub valid_from: i64,
    /// End of validity, counted from now. Seconds.
    pub valid_until: i64,
    /// Marked as a CA.
    pub authority: bool,
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Leaf {
    /// As `weft pki issue` makes it.
    #[must_use]
    pub fn proper(environment: &str, host: &str) -> Self {
        Self {
            uris: vec![uri(environment, host)],
            dns_names: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            valid_from: -300,
            valid_until: 3_600,
            authority: false,
        }
    }

    /// Signs it with the CA of an environment.
    ///
    /// # Errors
    /// When the CA's files cannot be read.
    pub fn signed_by(&self, pki: &Pki) -> Result<Identity> {
        let ca_key = KeyPair::from_pem(&std::fs::read_to_string(pki.ca_key())?)?;
        let ca_pem = std::fs::read_to_string(pki.ca_cert())?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)?;
        let key = KeyPair::generate()?;
        let certificate = self.params()?.signed_by(&key, &issuer)?;
        Ok(identity(certificate.der().clone(), &key))
    }

    /// Signs it with its own key.
    ///
    /// # Errors
    /// Never for these fields.
    pub fn self_signed(&self) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = self.params()?.self_signed(&key)?;
        Ok(identity(certificate.der().clone(), &key))
    }

    fn params(&self) -> Result<CertificateParams> {
        let now = OffsetDateTime::now_utc();
        let seconds = |offset: i64| {
            let magnitude = Duration::from_secs(offset.unsigned_abs());
            if offset < 0 { now - magnitude } else { now + magnitude }
        };
        let mut params = CertificateParams::new(self.dns_names.clone())?;
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        params.not_before = seconds(self.valid_from);
        params.not_after = seconds(self.valid_until);
        params.distinguished_name.push(DnType::CommonName, "spoiled");
        params.extended_key_usages.clone_from(&self.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.authority {
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
        }
        Ok(params)
    }
}

impl Identity {
    /// Reads what `weft pki issue` wrote.
    ///
    /// # Errors
    /// When a file is missing or no PEM.
    pub fn read(files: &HostFiles) -> Result<Self> {
        use rustls::pki_types::pem::PemObject;
        let chain = CertificateDer::pem_file_iter(&files.cert)?.collect::<Result<_, _>>()?;
        Ok(Self { chain, key: PrivateKeyDer::from_pem_file(&files.key)? })
    }

    /// Writes `cert.pem` and `key.pem` into a new directory.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(&self, dir: &Path) -> Result<HostFiles> {
        std::fs::create_dir_all(dir)?;
        let files = HostFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        let certificates = self.chain.iter().map(|der| armour("CERTIFICATE", der));
        std::fs::write(&files.cert, certificates.collect::<String>())?;
        std::fs::write(&files.key, armour("PRIVATE KEY", self.key.secret_der()))?;
        Ok(files)
    }

    /// SHA-256 of the leaf.
    #[must_use]
    pub fn leaf_hash(&self) -> Vec<u8> {
        self.chain.first().map_or_else(Vec::new, |leaf| sha256(leaf))
    }
}

/// The identity of a host in an environment.
#[must_use]
pub fn uri(environment: &str, host: &str) -> String {
    format!("spiffe://{INSTALLATION}/env/{environment}/host/{host}")
}

/// The server name that stands for an environment.
///
/// # Errors
/// When the CA's key cannot be read.
pub fn server_name(pki: &Pki) -> Result<String> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(pki.ca_key())?).context("CA key")?;
    let mut text = b"weft sni v1".to_vec();
    text.extend(key.subject_public_key_info());
    let hex: String = sha256(&text)[..20].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("w{hex}.weft.invalid"))
}

fn armour(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn identity(leaf: CertificateDer<'static>, key: &KeyPair) -> Identity {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Identity { chain: vec![leaf], key: key.into() }
}
