//! What Weft looks at in one certificate. Parses only: nothing here says whether the certificate
//! may be trusted.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ED25519, Oid,
    },
    prelude::FromDer,
    x509::SubjectPublicKeyInfo,
};

use crate::{
    error::{PkiError, Subject},
    identity::HostIdentity,
};

/// Largest certificate in bytes of DER. Ours have 500 to 700.
pub const CERTIFICATE_LEN_MAX: usize = 4096;

/// The kinds of key that Weft accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on NIST P-384; accepted, not issued.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
        })
    }
}

pub(crate) const BOTH_USAGES: &str = "the extended key usages serverAuth and clientAuth";

/// Free text of a certificate, which decides nothing: only for a person to read, and so not a part
/// of [`Facts`], which are taken from a peer's certificate in every handshake.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: String,
}

impl Text {
    /// Reads one certificate; `about` names it in errors.
    pub(crate) fn parse(der: &[u8], about: Subject) -> Result<Self, PkiError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|e| PkiError::Malformed { subject: about, reason: e.to_string() })?;
        Ok(Self {
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            serial: certificate.raw_serial_as_string(),
        })
    }
}

/// The parts of a certificate that decide something.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// DER of the whole SubjectPublicKeyInfo.
    pub(crate) public_key_info: Vec<u8>,
    pub(crate) key_kind: Result<KeyKind, String>,
    /// Subject alternative names that are URIs.
    pub(crate) uris: Vec<String>,
    /// How many subject alternative names are of another kind.
    pub(crate) other_names: usize,
    pub(crate) is_authority: bool,
    /// Most intermediates that an authority allows below itself, if it says so.
    pub(crate) path_len: Option<u32>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
    /// Extended usages besides the two, for a person to read.
    pub(crate) other_usages: Vec<String>,
    pub(crate) fingerprint: [u8; 32],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyUsage {
    pub(crate) digital_signature: bool,
    pub(crate) certificate_sign: bool,
}

impl Facts {
    /// Reads one certificate; `about` names it in errors.
    pub(crate) fn parse(der: &[u8], about: Subject) -> Result<Self, PkiError> {
        let malformed = |reason: String| PkiError::Malformed { subject: about, reason };
        if der.len() > CERTIFICATE_LEN_MAX {
            return Err(PkiError::TooLarge {
                what: "the length of a certificate in bytes",
                found: der.len(),
                max: CERTIFICATE_LEN_MAX,
            });
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|e| malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow the certificate".to_owned()));
        }
        let mut facts = Self {
            not_before: system_time(certificate.validity().not_before.timestamp()),
            not_after: system_time(certificate.validity().not_after.timestamp()),
            public_key_info: certificate.public_key().raw.to_vec(),
            key_kind: key_kind(certificate.public_key()),
            uris: Vec::new(),
            other_names: 0,
            is_authority: false,
            path_len: None,
            key_usage: None,
            server_auth: false,
            client_auth: false,
            other_usages: Vec::new(),
            fingerprint: sha256(der),
        };
        // Fails on a repeated extension, which could otherwise show each parser another face.
        let extensions = certificate.extensions_map().map_err(|e| malformed(e.to_string()))?;
        for (oid, extension) in extensions {
            facts
                .take_extension(extension.parsed_extension())
                .map_err(|reason| malformed(format!("extension {oid}: {reason}")))?;
        }
        Ok(facts)
    }

    fn take_extension(&mut self, extension: &ParsedExtension<'_>) -> Result<(), String> {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
                        _ => self.other_names += 1,
                    }
                }
            }
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_authority = constraints.ca;
                self.path_len = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    digital_signature: usage.digital_signature(),
                    certificate_sign: usage.key_cert_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.server_auth = usage.server_auth;
                self.client_auth = usage.client_auth;
                for (set, name) in [
                    (usage.any, "any"),
                    (usage.code_signing, "code signing"),
                    (usage.email_protection, "e-mail"),
                    (usage.time_stamping, "time stamping"),
                    (usage.ocsp_signing, "OCSP signing"),
                ] {
                    if set {
                        self.other_usages.push(name.to_owned());
                    }
                }
                self.other_usages.extend(usage.other.iter().map(ToString::to_string));
            }
            ParsedExtension::ParseError { error } => return Err(error.to_string()),
            _ => {}
        }
        Ok(())
    }

    /// The host that the certificate is for, as its only alternative name says.
    pub(crate) fn host_identity(&self) -> Result<HostIdentity, PkiError> {
        let about = Subject::Host;
        let uri = self.only_uri(about)?;
        uri.parse().map_err(|cause| PkiError::Identity { subject: about, cause })
    }

    /// The one URI name, if there is exactly one name and it is a URI.
    pub(crate) fn only_uri(&self, about: Subject) -> Result<&str, PkiError> {
        match (self.uris.as_slice(), self.other_names) {
            ([uri], 0) => Ok(uri),
            (uris, others) => Err(PkiError::Names { subject: about, uris: uris.len(), others }),
        }
    }

    /// Whether `now` is inside the validity period, both ends included (RFC 5280, 4.1.2.5).
    pub(crate) fn check_validity(&self, now: SystemTime, about: Subject) -> Result<(), PkiError> {
        if now < self.not_before {
            return Err(PkiError::NotYetValid { subject: about, not_before: self.not_before });
        }
        if now > self.not_after {
            return Err(PkiError::Expired { subject: about, not_after: self.not_after });
        }
        Ok(())
    }

    /// Whether the key is of an accepted kind.
    pub(crate) fn check_key(&self, about: Subject) -> Result<KeyKind, PkiError> {
        self.key_kind.clone().map_err(|found| PkiError::Usage {
            subject: about,
            found: format!("has a {found} key"),
            expected: "ECDSA P-256, P-384 or Ed25519",
        })
    }

    /// What a host's certificate must be for: both ends of a handshake, and nothing that issues.
    pub(crate) fn check_host_usage(&self) -> Result<(), PkiError> {
        let wrong = |found: &str, expected| PkiError::Usage {
            subject: Subject::Host,
            found: found.to_owned(),
            expected,
        };
        if self.is_authority {
            return Err(wrong(
                "is an authority's",
                "a certificate with CA:FALSE, which cannot issue others",
            ));
        }
        if self.key_usage.is_some_and(|usage| usage.certificate_sign) {
            return Err(wrong("may sign certificates", "no keyCertSign"));
        }
        if self.key_usage.is_some_and(|usage| !usage.digital_signature) {
            return Err(wrong("may not sign handshakes", "key usage digitalSignature"));
        }
        match (self.server_auth, self.client_auth) {
            (true, true) => Ok(()),
            (true, false) => Err(wrong("is for servers only", BOTH_USAGES)),
            (false, true) => Err(wrong("is for clients only", BOTH_USAGES)),
            (false, false) => Err(wrong("is for neither servers nor clients", BOTH_USAGES)),
        }
    }

    /// An intermediate may leave its extended usages open; if it names any, both must be there.
    pub(crate) fn check_intermediate_usage(&self) -> Result<(), PkiError> {
        let names_any = self.server_auth || self.client_auth || !self.other_usages.is_empty();
        if names_any && !(self.server_auth && self.client_auth) {
            return Err(PkiError::Usage {
                subject: Subject::Intermediate,
                found: "is limited to other usages".to_owned(),
                expected: BOTH_USAGES,
            });
        }
        if self.key_usage.is_some_and(|usage| !usage.certificate_sign) {
            return Err(PkiError::Usage {
                subject: Subject::Intermediate,
                found: "may not sign certificates".to_owned(),
                expected: "key usage keyCertSign",
            });
        }
        Ok(())
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Seconds since 1970 as a time; times before 1970 become 1970, which is as far past.
fn system_time(timestamp: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

/// Replaces what could steer a terminal; names in a certificate are its issuer's free text.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> Result<KeyKind, String> {
    let algorithm = &key.algorithm.algorithm;
    let curve: Option<Oid<'_>> =
        key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if *algorithm == OID_SIG_ED25519 {
        return Ok(KeyKind::Ed25519);
    }
    if *algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(format!("{algorithm}"));
    }
    match curve {
        Some(curve) if curve == OID_EC_P256 => Ok(KeyKind::EcdsaP256),
        Some(curve) if curve == OID_NIST_EC_P384 => Ok(KeyKind::EcdsaP384),
        Some(curve) => Err(format!("ECDSA {curve}")),
        None => Err("ECDSA without a named curve".to_owned()),
    }
}
