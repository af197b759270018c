//! One environment's certificate authority, as those who verify see it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, ServerName};

use crate::{
    certificate::{Facts, sha256},
    error::{PkiError, Subject},
    identity::EnvironmentIdentity,
    pem,
};

/// Most authorities of one environment; more than one only while they rotate.
pub const AUTHORITIES_MAX: usize = 8;
/// The domain under which tags are sent as server names; `.invalid` never resolves (RFC 6761).
pub const SNI_SUFFIX: &str = ".weft.invalid";

const TAG_CONTEXT: &[u8] = b"weft sni v1";
const TAG_LEN: usize = 41;

/// The server name that a TLS client sends instead of an environment's name: `w` and the first
/// 20 bytes of `SHA-256("weft sni v1" ‖ SubjectPublicKeyInfo of the authority)` in hex.
///
/// It tells an observer that two handshakes belong to one environment, not to which.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SniTag([u8; TAG_LEN]);

impl SniTag {
    fn of_public_key_info(der: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let hash = sha256(&[TAG_CONTEXT, der].concat());
        let mut tag = [b'w'; TAG_LEN];
        for (digits, byte) in tag[1..].chunks_exact_mut(2).zip(hash) {
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        Self(tag)
    }

    /// The tag in a server name that a client sent, if it has the form of one.
    #[must_use]
    pub fn from_server_name(name: &str) -> Option<Self> {
        let tag: [u8; TAG_LEN] = name.strip_suffix(SNI_SUFFIX)?.as_bytes().try_into().ok()?;
        let well_formed =
            tag[0] == b'w' && tag[1..].iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        well_formed.then_some(Self(tag))
    }

    /// The tag as text, 41 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The name to send as SNI: `<tag>.weft.invalid`.
    ///
    /// # Panics
    /// Never: a tag is 41 letters and digits, so the name is a DNS name.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(format!("{self}{SNI_SUFFIX}")).expect("a tag is a DNS label")
    }
}

impl fmt::Display for SniTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SniTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One certificate of an environment's authority.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) anchor: rustls_pki_types::TrustAnchor<'static>,
    pub(crate) facts: Facts,
    pub(crate) tag: SniTag,
}

/// The root store of one environment: its authority, or several while they rotate. Cheap to
/// clone.
#[derive(Clone)]
pub struct TrustAnchor(Arc<Inner>);

struct Inner {
    environment: EnvironmentIdentity,
    authorities: Vec<Authority>,
}

impl TrustAnchor {
    /// Reads `ca.pem`: 1 to [`AUTHORITIES_MAX`] authority certificates of one environment. While
    /// authorities rotate, hosts are known by the tags of all of them; the first is the one that
    /// is sent.
    ///
    /// # Errors
    /// [`PkiError`] when the text is not PEM, holds anything but certificates, or when one is not
    /// an authority's, names no environment or another than the first.
    pub fn from_pem(text: &[u8]) -> Result<Self, PkiError> {
        let certificates = pem::certificates(text)?;
        if certificates.len() > AUTHORITIES_MAX {
            return Err(PkiError::TooLarge {
                what: "the number of authority certificates",
                found: certificates.len(),
                max: AUTHORITIES_MAX,
            });
        }
        let mut environment: Option<EnvironmentIdentity> = None;
        let mut authorities = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            let (authority, of) = Authority::parse(certificate)?;
            match &environment {
                Some(first) if *first != of => {
                    return Err(PkiError::WrongIdentity {
                        subject: Subject::Authority,
                        found: of.to_string(),
                        expected: format!("{first}, like the first one in the file"),
                    });
                }
                _ => environment = Some(of),
            }
            authorities.push(authority);
        }
        let environment =
            environment.ok_or_else(|| PkiError::Pem("holds no certificate".to_owned()))?;
        Ok(Self(Arc::new(Inner { environment, authorities })))
    }

    /// The environment that this authority stands for.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentIdentity {
        &self.0.environment
    }

    /// The tag that this host sends.
    ///
    /// # Panics
    /// Never: there is at least one authority.
    #[must_use]
    pub fn tag(&self) -> SniTag {
        self.0.authorities[0].tag
    }

    /// Every tag by which this environment is known, the sent one first.
    pub fn tags(&self) -> impl Iterator<Item = SniTag> + '_ {
        self.0.authorities.iter().map(|authority| authority.tag)
    }

    /// The last moment at which any of the authorities is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        let ends = self.authorities().iter().map(|a| a.facts.not_after);
        ends.max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The last moment until which the authorities that are valid at `now` stay the same: none of
    /// them ends before, and none begins.
    #[must_use]
    pub fn unchanged_until(&self, now: SystemTime) -> SystemTime {
        // Certificates are dated in whole seconds, both ends included.
        let second = Duration::from_secs(1);
        let changes = self.authorities().iter().map(|authority| {
            let Facts { not_before, not_after, .. } = authority.facts;
            if not_before > now { not_before - second } else { not_after }
        });
        changes.filter(|last| *last >= now).min().unwrap_or(now)
    }

    pub(crate) fn tag_of(authority: &Facts) -> SniTag {
        SniTag::of_public_key_info(&authority.public_key_info)
    }

    pub(crate) fn authorities(&self) -> &[Authority] {
        &self.0.authorities
    }
}

impl Authority {
    fn parse(
        certificate: CertificateDer<'static>,
    ) -> Result<(Self, EnvironmentIdentity), PkiError> {
        let about = Subject::Authority;
        let facts = Facts::parse(&certificate, about)?;
        if !facts.is_authority || facts.key_usage.is_some_and(|u| !u.certificate_sign) {
            return Err(PkiError::Usage {
                subject: about,
                found: "may not issue certificates".to_owned(),
                expected: "a certificate with CA:TRUE and key usage keyCertSign, as `weft pki init` makes",
            });
        }
        facts.check_key(about)?;
        let environment = facts
            .only_uri(about)?
            .parse()
            .map_err(|cause| PkiError::Identity { subject: about, cause })?;
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|e| PkiError::Malformed { subject: about, reason: e.to_string() })?
            .to_owned();
        let tag = TrustAnchor::tag_of(&facts);
        let authority = Self { certificate, anchor, facts, tag };
        Ok((authority, environment))
    }
}

impl fmt::Debug for TrustAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustAnchor({})", self.environment())
    }
}
