//! What `weft pki show` tells about a file.

use std::time::SystemTime;

use crate::{
    anchor::TrustAnchor,
    certificate::{Facts, Text},
    error::{PkiError, Subject},
    identity::{EnvironmentIdentity, HostIdentity},
    pem,
};

/// What a certificate is to Weft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The authority of an environment.
    Authority(EnvironmentIdentity),
    /// A host in an environment.
    Host(HostIdentity),
    /// Readable, but nothing that Weft would accept; the text says why.
    Other(String),
}

/// One certificate, for a person to read. Free text in it has no control characters.
#[derive(Debug, Clone)]
pub struct Description {
    /// What it is to Weft.
    pub role: Role,
    /// Subject's distinguished name.
    pub subject: String,
    /// Issuer's distinguished name.
    pub issuer: String,
    /// Serial number, hex bytes joined by colons.
    pub serial: String,
    /// First valid second.
    pub not_before: SystemTime,
    /// Last valid second.
    pub not_after: SystemTime,
    /// Kind of public key.
    pub key: String,
    /// What it may be used for.
    pub usages: Vec<String>,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
    /// Tag that stands for the environment on the wire; authorities only.
    pub sni_tag: Option<String>,
}

/// Describes every certificate of a PEM file, in order.
///
/// # Errors
/// [`PkiError`] when the file holds no certificates, other things than certificates, or one that
/// cannot be read as X.509. A certificate that Weft would refuse is described, with the reason.
pub fn describe(text: &[u8]) -> Result<Vec<Description>, PkiError> {
    let certificates = pem::certificates(text)?;
    certificates.iter().map(|der| one(der)).collect()
}

fn one(der: &[u8]) -> Result<Description, PkiError> {
    let facts = Facts::parse(der, Subject::Host)?;
    let text = Text::parse(der, Subject::Host)?;
    let role = role(&facts).unwrap_or_else(|e| Role::Other(e.to_string()));
    let sni_tag = match role {
        Role::Authority(_) => Some(TrustAnchor::tag_of(&facts).to_string()),
        _ => None,
    };
    Ok(Description {
        role,
        usages: usages(&facts),
        key: facts.key_kind.map_or_else(|other| other, |kind| kind.to_string()),
        subject: text.subject,
        issuer: text.issuer,
        serial: text.serial,
        not_before: facts.not_before,
        not_after: facts.not_after,
        fingerprint: facts.fingerprint,
        sni_tag,
    })
}

fn role(facts: &Facts) -> Result<Role, PkiError> {
    let about = if facts.is_authority { Subject::Authority } else { Subject::Host };
    facts.check_key(about)?;
    let uri = facts.only_uri(about)?;
    let identity = |cause| PkiError::Identity { subject: about, cause };
    if facts.is_authority {
        return Ok(Role::Authority(uri.parse().map_err(identity)?));
    }
    facts.check_host_usage()?;
    Ok(Role::Host(uri.parse().map_err(identity)?))
}

fn usages(facts: &Facts) -> Vec<String> {
    let mut usages = Vec::new();
    let signs = facts.key_usage.is_some_and(|u| u.digital_signature);
    let issues = facts.is_authority || facts.key_usage.is_some_and(|u| u.certificate_sign);
    for (set, name) in [
        (signs, "digital signature"),
        (issues, "certificate authority"),
        (facts.server_auth, "server"),
        (facts.client_auth, "client"),
    ] {
        if set {
            usages.push(name.to_owned());
        }
    }
    usages.extend(facts.other_usages.iter().cloned());
    usages
}
