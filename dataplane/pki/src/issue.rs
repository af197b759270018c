//! Makes authorities and host certificates. Returns text; writes no files.
//!
//! Start and end are explicit, so that the same functions make the expired, foreign or one-sided
//! certificates that tests need.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SanType,
};
use time::OffsetDateTime;
use weft_types::HostId;
use zeroize::Zeroizing;

use crate::{
    anchor::TrustAnchor, certificate::KeyKind, clock::format_utc, error::PkiError,
    identity::EnvironmentIdentity, pem, request::SigningRequest,
};

/// How long an authority is valid unless told otherwise, in days.
pub const AUTHORITY_DAYS: u32 = 3650;
/// How long a host's certificate is valid unless told otherwise, in days.
pub const HOST_DAYS: u32 = 90;
/// Longest validity that may be asked for, in days (about a century).
pub const DAYS_MAX: u32 = 36_500;
/// How far an authority's start lies in the past, for hosts whose clocks are behind.
pub const AUTHORITY_BACKDATE: Duration = Duration::from_secs(60 * 60);
/// How far a host certificate's start lies in the past, for the same reason.
pub const HOST_BACKDATE: Duration = Duration::from_secs(5 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The authority's files are not usable.
    #[error("the authority's {file} {cause}")]
    Authority {
        /// `certificate` or `key`.
        file: &'static str,
        /// What is wrong with it.
        #[source]
        cause: PkiError,
    },
    /// The authority's key belongs to another certificate.
    #[error("the authority's key does not belong to its certificate")]
    AuthorityKey,
    /// The validity is empty or beyond what can be written.
    #[error("the validity from {} to {} is not possible; expected a start before the end and less than {DAYS_MAX} days", format_utc(*.0), format_utc(*.1))]
    Validity(SystemTime, SystemTime),
    /// The certificate would be valid beyond its authority.
    #[error("the certificate would be valid until {}, its authority only until {}", format_utc(*.leaf), format_utc(*.authority))]
    OutlivesAuthority {
        /// The end that was asked for.
        leaf: SystemTime,
        /// The authority's end.
        authority: SystemTime,
    },
    /// Not what a server can be called.
    #[error("{0:?} is no name of a server; expected a DNS name or an address")]
    ServerName(String),
    /// The certificate library refused.
    #[error("the certificate could not be made: {0}")]
    Library(#[from] rcgen::Error),
}

/// From when to when a certificate is valid. Certificates count whole seconds; fractions are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First valid second.
    pub not_before: SystemTime,
    /// Last valid second.
    pub not_after: SystemTime,
}

impl Validity {
    /// `days` from `now` on, started `backdate` earlier.
    #[must_use]
    pub fn days(now: SystemTime, backdate: Duration, days: u32) -> Self {
        Self {
            not_before: now.checked_sub(backdate).unwrap_or(SystemTime::UNIX_EPOCH),
            not_after: now + DAY * days.min(DAYS_MAX),
        }
    }

    fn check(self) -> Result<(OffsetDateTime, OffsetDateTime), IssueError> {
        let error = IssueError::Validity(self.not_before, self.not_after);
        match self.not_after.duration_since(self.not_before) {
            Ok(length) if length > Duration::ZERO && length <= DAY * (DAYS_MAX + 1) => {
                Ok((whole_seconds(self.not_before).into(), whole_seconds(self.not_after).into()))
            }
            _ => Err(error),
        }
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

/// A certificate and its private key, both as PEM text. The key's text is wiped on drop.
pub struct Issued {
    /// `BEGIN CERTIFICATE`.
    pub certificate_pem: String,
    /// `BEGIN PRIVATE KEY` (PKCS #8).
    pub key_pem: Zeroizing<String>,
}

/// Makes the authority of an environment: self-signed, may issue hosts' certificates but no
/// further authorities.
///
/// # Errors
/// [`IssueError::Validity`] or [`IssueError::Library`].
pub fn new_authority(
    environment: &EnvironmentIdentity,
    validity: Validity,
    key_kind: KeyKind,
) -> Result<Issued, IssueError> {
    let key = generate(key_kind)?;
    let mut params = params(&environment.to_string(), validity)?;
    params.distinguished_name =
        distinguished_name(environment, &format!("weft authority of {}", environment.environment));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&*key)?;
    Ok(issued(&certificate, &key))
}

/// What a host's certificate is to be.
#[derive(Debug, Clone)]
pub struct HostRequest {
    /// The host it speaks for.
    pub host: HostId,
    /// Its dates.
    pub validity: Validity,
    /// The kind of its key.
    pub key_kind: KeyKind,
    /// What it may be used for.
    pub usages: HostUsages,
}

/// What a host's certificate may be used for. Only [`HostUsages::Both`] is accepted by a peer; the
/// others exist so that tests can show that they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostUsages {
    /// `serverAuth` and `clientAuth`.
    #[default]
    Both,
    /// `clientAuth` alone.
    ClientOnly,
    /// `serverAuth` alone.
    ServerOnly,
}

/// An environment's authority with its private key, able to issue.
pub struct Authority {
    issuer: Issuer<'static, ZeroizingKey>,
    anchor: TrustAnchor,
}

impl Authority {
    /// Reads `ca.pem` (the issuing authority first) and `ca.key`.
    ///
    /// # Errors
    /// [`IssueError`] names the file and what was expected in it.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IssueError> {
        let error = |file| move |cause| IssueError::Authority { file, cause };
        let anchor = TrustAnchor::from_pem(certificate).map_err(error("certificate"))?;
        let key_der = pem::private_key(key).map_err(error("key"))?;
        let key = KeyPair::try_from(&*key_der)
            .map_err(|e| error("key")(PkiError::Key(e.to_string())))
            .map(ZeroizingKey)?;
        let authority = &anchor.authorities()[0];
        let key_info = rcgen::PublicKeyData::subject_public_key_info(&key);
        if key_info != authority.facts.public_key_info {
            return Err(IssueError::AuthorityKey);
        }
        let issuer = Issuer::from_ca_cert_der(&authority.certificate, key)?;
        Ok(Self { issuer, anchor })
    }

    /// The authority as those who verify see it.
    #[must_use]
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// The last moment at which the issuing authority is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.anchor.authorities()[0].facts.not_after
    }

    /// Issues a host's certificate with a new key.
    ///
    /// # Errors
    /// [`IssueError::OutlivesAuthority`] when it would be valid longer than the authority.
    pub fn issue_host(&self, request: &HostRequest) -> Result<Issued, IssueError> {
        self.check_end(request.validity)?;
        self.issue_host_unchecked(request)
    }

    /// Issues a host's certificate, PEM, for a key that the host has made and keeps.
    ///
    /// # Errors
    /// [`IssueError::OutlivesAuthority`] when it would be valid longer than the authority.
    pub fn issue_host_for(
        &self,
        host: &HostId,
        key: &SigningRequest,
        validity: Validity,
    ) -> Result<String, IssueError> {
        self.check_end(validity)?;
        let params = self.host_params(host, validity, HostUsages::Both)?;
        Ok(params.signed_by(key.public_key(), &self.issuer)?.pem())
    }

    fn check_end(&self, validity: Validity) -> Result<(), IssueError> {
        let authority = self.not_after();
        let leaf = whole_seconds(validity.not_after);
        if leaf > authority {
            return Err(IssueError::OutlivesAuthority { leaf, authority });
        }
        Ok(())
    }

    /// [`Authority::issue_host`] without the check that the certificate ends before its authority,
    /// for tests of those who verify.
    ///
    /// # Errors
    /// [`IssueError::Validity`] or [`IssueError::Library`].
    pub fn issue_host_unchecked(&self, request: &HostRequest) -> Result<Issued, IssueError> {
        let key = generate(request.key_kind)?;
        let params = self.host_params(&request.host, request.validity, request.usages)?;
        let certificate = params.signed_by(&*key, &self.issuer)?;
        Ok(issued(&certificate, &key))
    }

    fn host_params(
        &self,
        host: &HostId,
        validity: Validity,
        usages: HostUsages,
    ) -> Result<CertificateParams, IssueError> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let environment = self.anchor.environment();
        let mut params = leaf_params(&environment.host(host).to_string(), validity)?;
        params.distinguished_name = distinguished_name(environment, host.as_str());
        params.extended_key_usages = match usages {
            HostUsages::Both => vec![ServerAuth, ClientAuth],
            HostUsages::ClientOnly => vec![ClientAuth],
            HostUsages::ServerOnly => vec![ServerAuth],
        };
        Ok(params)
    }
}

/// A key pair whose stored DER is wiped on drop.
pub(crate) struct ZeroizingKey(pub(crate) KeyPair);

impl Drop for ZeroizingKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::ops::Deref for ZeroizingKey {
    type Target = KeyPair;

    fn deref(&self) -> &KeyPair {
        &self.0
    }
}

impl rcgen::PublicKeyData for ZeroizingKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(&self.0)
    }
}

impl rcgen::SigningKey for ZeroizingKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

pub(crate) fn generate(kind: KeyKind) -> Result<ZeroizingKey, IssueError> {
    let algorithm = match kind {
        KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
        KeyKind::EcdsaP384 => &PKCS_ECDSA_P384_SHA384,
        KeyKind::Ed25519 => &PKCS_ED25519,
    };
    Ok(ZeroizingKey(KeyPair::generate_for(algorithm)?))
}

pub(crate) fn params(uri: &str, validity: Validity) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity.check()?;
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    Ok(params)
}

/// Of a certificate that issues no others.
pub(crate) fn leaf_params(uri: &str, validity: Validity) -> Result<CertificateParams, IssueError> {
    let mut params = params(uri, validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// For people only: nothing reads names back from here.
fn distinguished_name(environment: &EnvironmentIdentity, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, environment.installation.to_string());
    name.push(DnType::OrganizationalUnitName, environment.environment.to_string());
    name.push(DnType::CommonName, common_name);
    name
}

pub(crate) fn issued(certificate: &rcgen::Certificate, key: &KeyPair) -> Issued {
    Issued { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) }
}

#[cfg(test)]
mod tests;
