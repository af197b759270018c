//! Certificates of any form, good or bad.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{anchor::TrustAnchor, error::PkiError, verify::verify_peer};

pub(super) const HOST: &str = "spiffe://weft/env/acme/host/host-a";
pub(super) const ENVIRONMENT: &str = "spiffe://weft/env/acme";
const DAY: Duration = Duration::from_secs(86_400);

/// The moment of every judgement, so that dates can be exact.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(super) fn judged_at(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(super) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// What `weft pki issue` would make.
pub(super) fn host() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "host-a");
    params.subject_alt_names = vec![uri(HOST)];
    (params.not_before, params.not_after) = ((now() - DAY).into(), (now() + DAY).into());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// An authority that may have others below it.
pub(super) fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.subject_alt_names = vec![uri(ENVIRONMENT)];
    (params.not_before, params.not_after) = ((now() - 9 * DAY).into(), (now() + 9 * DAY).into());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// An authority with its key.
pub(super) struct Lab {
    pub(super) pem: String,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    params: CertificateParams,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(authority())
    }

    pub(super) fn with(params: CertificateParams) -> Self {
        Self::with_key(params, &PKCS_ECDSA_P256_SHA256)
    }

    pub(super) fn with_key(
        params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.into(), key, params }
    }

    /// An authority below this one.
    pub(super) fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.into(), key, params }
    }

    pub(super) fn anchor(&self) -> TrustAnchor {
        TrustAnchor::from_pem(self.pem.as_bytes()).unwrap()
    }

    pub(super) fn issue(&self, params: &CertificateParams) -> CertificateDer<'static> {
        self.issue_to(params, &KeyPair::generate().unwrap())
    }

    pub(super) fn issue_to(
        &self,
        params: &CertificateParams,
        key: &KeyPair,
    ) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer()).unwrap().into()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Judges a host's certificate of this authority at [`now`].
    pub(super) fn judge(&self, params: &CertificateParams) -> Result<(), PkiError> {
        self.judge_at(params, now())
    }

    pub(super) fn judge_at(
        &self,
        params: &CertificateParams,
        time: SystemTime,
    ) -> Result<(), PkiError> {
        verify_peer(&self.anchor(), &[self.issue(params)], judged_at(time)).map(drop)
    }
}
