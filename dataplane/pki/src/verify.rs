//! The one function that judges a peer's certificate chain.

use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    aws_lc_rs::{
        ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519,
    },
};

use crate::{
    anchor::{Authority, TrustAnchor},
    certificate::{BOTH_USAGES, CERTIFICATE_LEN_MAX, Facts},
    error::{PkiError, Subject},
    identity::HostIdentity,
};

/// Most certificates in a chain: the host's own, intermediates, perhaps the authority's.
pub const CHAIN_LEN_MAX: usize = 4;
/// The signatures that are accepted on certificates.
pub const SIGNATURE_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] =
    &[ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519];

/// A peer whose chain was judged good for one environment. Only [`verify_peer`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedPeer {
    /// Who the peer is.
    pub identity: HostIdentity,
    /// The last moment at which its whole chain is valid: the earliest end of the host's, the
    /// intermediates' and the authority's certificate.
    pub not_after: SystemTime,
    /// When the host's certificate was made, or later: the authority has signed that this time has come.
    pub not_before: SystemTime,
    /// SHA-256 of the host's certificate in DER.
    pub certificate_hash: [u8; 32],
}

/// Judges a chain, the peer's own certificate first, by one environment's authority at `now`.
///
/// Good is: a path to an authority of `anchor` that is valid at `now`; exactly one subject
/// alternative name, the URI of a host of the anchor's installation and environment; both
/// `serverAuth` and `clientAuth`, whichever side the peer is on; not an authority; ECDSA P-256,
/// P-384 or Ed25519 keys and signatures; sizes within [`CHAIN_LEN_MAX`] and
/// [`CERTIFICATE_LEN_MAX`].
///
/// The signature is checked before anything that the certificate says of itself, except its
/// dates, so that a chain of another authority is just [`PkiError::Untrusted`].
///
/// # Errors
/// [`PkiError`] says what was found and what was expected.
pub fn verify_peer(
    anchor: &TrustAnchor,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<VerifiedPeer, PkiError> {
    let Some((host, intermediates)) = chain.split_first() else {
        return Err(PkiError::Pem(
            "no certificate was presented; expected a host certificate".to_owned(),
        ));
    };
    check_sizes(chain)?;
    let facts = Facts::parse(host, Subject::Host)?;
    let path_not_after = verify_path(anchor, host, intermediates, now)?;

    facts.check_validity(system_time(now), Subject::Host)?;
    facts.check_host_usage()?;
    facts.check_key(Subject::Host)?;
    let identity = facts.host_identity()?;
    if identity.environment_identity() != *anchor.environment() {
        return Err(PkiError::WrongIdentity {
            subject: Subject::Host,
            found: identity.to_string(),
            expected: format!("a host of {}", anchor.environment()),
        });
    }
    Ok(VerifiedPeer {
        identity,
        not_after: facts.not_after.min(path_not_after),
        not_before: facts.not_before,
        certificate_hash: facts.fingerprint,
    })
}

fn check_sizes(chain: &[CertificateDer<'_>]) -> Result<(), PkiError> {
    let too_large = |what, found, max| Err(PkiError::TooLarge { what, found, max });
    if chain.len() > CHAIN_LEN_MAX {
        let what = "the number of certificates in the chain";
        return too_large(what, chain.len(), CHAIN_LEN_MAX);
    }
    match chain.iter().map(|c| c.len()).max() {
        Some(len) if len > CERTIFICATE_LEN_MAX => {
            let what = "the length of a certificate in bytes";
            too_large(what, len, CERTIFICATE_LEN_MAX)
        }
        _ => Ok(()),
    }
}

/// Builds a path from the host's certificate to an authority that is valid at `now`; returns the
/// earliest end of the certificates above the host's.
fn verify_path(
    anchor: &TrustAnchor,
    host: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<SystemTime, PkiError> {
    let valid = valid_authorities(anchor, now)?;
    // The library does not look at the dates of trust anchors: only valid ones are handed over.
    let anchors: Vec<_> = valid.iter().map(|a| a.anchor.clone()).collect();
    let end_entity = EndEntityCert::try_from(host).map_err(|e| judge(e, Subject::Host))?;
    let path = end_entity
        .verify_for_usage(
            SIGNATURE_ALGORITHMS,
            &anchors,
            intermediates,
            now,
            UsagesLater,
            None,
            None,
        )
        .map_err(|e| judge(e, Subject::Host))?;

    let authority = valid
        .iter()
        .find(|a| a.anchor == *path.anchor())
        .ok_or_else(|| PkiError::Untrusted("no authority at the end of the path".to_owned()))?;
    // Nor does it look at the path length that the authority itself allows.
    let between = path.intermediate_certificates().count();
    let allowed = authority.facts.path_len.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    if allowed.is_some_and(|most| between > most) {
        return Err(PkiError::Usage {
            subject: Subject::Authority,
            found: format!("does not allow {between} intermediates below it"),
            expected: "a chain within its path length",
        });
    }
    let mut not_after = authority.facts.not_after;
    for intermediate in path.intermediate_certificates() {
        let facts = Facts::parse(&intermediate.der(), Subject::Intermediate)?;
        facts.check_key(Subject::Intermediate)?;
        facts.check_intermediate_usage()?;
        not_after = not_after.min(facts.not_after);
    }
    Ok(not_after)
}

/// The authorities whose own dates include `now`; an error when there is none.
fn valid_authorities(anchor: &TrustAnchor, now: UnixTime) -> Result<Vec<&Authority>, PkiError> {
    let now = system_time(now);
    let mut valid = Vec::with_capacity(anchor.authorities().len());
    let mut problem = None;
    for authority in anchor.authorities() {
        match authority.facts.check_validity(now, Subject::Authority) {
            Ok(()) => valid.push(authority),
            Err(e) => problem = Some(e),
        }
    }
    match problem {
        Some(problem) if valid.is_empty() => Err(problem),
        _ => Ok(valid),
    }
}

/// Leaves extended usages to the checks after the path is known to be good, so that a chain of
/// another authority is untrusted, whatever else is wrong with it.
struct UsagesLater;

impl ExtendedKeyUsageValidator for UsagesLater {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn judge(error: webpki::Error, subject: Subject) -> PkiError {
    use webpki::Error as E;
    match error {
        E::CertExpired { not_after, .. } => {
            PkiError::Expired { subject, not_after: system_time(not_after) }
        }
        E::CertNotValidYet { not_before, .. } => {
            PkiError::NotYetValid { subject, not_before: system_time(not_before) }
        }
        E::BadDer
        | E::BadDerTime
        | E::MalformedExtensions
        | E::ExtensionValueInvalid
        | E::TrailingData(_)
        | E::InvalidSerialNumber
        | E::InvalidCertValidity
        | E::UnsupportedCertVersion
        | E::UnsupportedCriticalExtension => {
            PkiError::Malformed { subject, reason: error.to_string() }
        }
        E::CaUsedAsEndEntity => PkiError::Usage {
            subject,
            found: "is an authority's".to_owned(),
            expected: "a certificate with CA:FALSE, which cannot issue others",
        },
        E::EmptyEkuExtension => {
            PkiError::Usage { subject, found: "is for nothing".to_owned(), expected: BOTH_USAGES }
        }
        other => PkiError::Untrusted(other.to_string()),
    }
}

fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

#[cfg(test)]
mod tests;
