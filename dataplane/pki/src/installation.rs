//! The installation's own certificates: who may ask the control plane for what.
//!
//! ```text
//!   spiffe://INSTALLATION                      the authority
//!   spiffe://INSTALLATION/host/HOST            a host: client only
//!   spiffe://INSTALLATION/component/COMPONENT  a part of the platform: client, and server under its names
//! ```
//!
//! They say nothing of any environment, and an environment's authority says nothing here.

use std::{fmt, net::IpAddr, str::FromStr, time::SystemTime};

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use weft_types::{ComponentId, HostId, InstallationId, NameError};

use crate::{
    certificate::{Facts, KeyKind, sha256},
    error::{PkiError, Subject},
    identity::IdentityError,
    issue::{self, IssueError, Issued, Validity, ZeroizingKey},
    pem,
    request::SigningRequest,
};

/// How long a host's certificate of the installation is valid, days. It is renewed at half of it.
pub const HOST_DAYS: u32 = 30;
/// How long a component's certificate is valid, days.
pub const COMPONENT_DAYS: u32 = 90;

/// Who a certificate of the installation is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// A host.
    Host(HostId),
    /// A part of the platform.
    Component(ComponentId),
}

/// A member with the installation that it belongs to. Text form as above, nothing else is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberIdentity {
    /// The trust domain.
    pub installation: InstallationId,
    /// Who.
    pub member: Member,
}

const FORM: &str = "spiffe://INSTALLATION/host/HOST or spiffe://INSTALLATION/component/COMPONENT";
const SCHEME: &str = "spiffe://";

impl fmt::Display for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Member::Host(host) => write!(f, "{SCHEME}{}/host/{host}", self.installation),
            Member::Component(component) => {
                write!(f, "{SCHEME}{}/component/{component}", self.installation)
            }
        }
    }
}

impl FromStr for MemberIdentity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let name = |part| move |cause: NameError| IdentityError::Name { part, cause };
        let form =
            || IdentityError::Form { found: uri.chars().take(300).collect(), expected: FORM };
        let parts: Vec<&str> = uri.strip_prefix(SCHEME).ok_or_else(form)?.split('/').collect();
        let [installation, kind, member] = parts[..] else { return Err(form()) };
        let member = match kind {
            "host" => Member::Host(member.parse().map_err(name("host"))?),
            "component" => Member::Component(member.parse().map_err(name("component"))?),
            _ => return Err(form()),
        };
        let installation = installation.parse().map_err(name("installation"))?;
        Ok(Self { installation, member })
    }
}

/// Makes the authority of an installation.
///
/// # Errors
/// [`IssueError::Validity`] or [`IssueError::Library`].
pub fn new_authority(
    installation: &InstallationId,
    validity: Validity,
    key_kind: KeyKind,
) -> Result<Issued, IssueError> {
    let key = issue::generate(key_kind)?;
    let mut params = issue::params(&format!("{SCHEME}{installation}"), validity)?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("weft authority of {installation}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&*key)?;
    Ok(issue::issued(&certificate, &key))
}

/// What a component is called by those who connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

impl FromStr for ServerName {
    type Err = IssueError;

    fn from_str(text: &str) -> Result<Self, IssueError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = rustls_pki_types::DnsName::try_from(text);
        name.map(|name| Self::Dns(name.as_ref().to_owned()))
            .map_err(|_| IssueError::ServerName(text.chars().take(300).collect()))
    }
}

/// An installation's authority with its private key, able to issue.
pub struct InstallationAuthority {
    installation: InstallationId,
    issuer: Issuer<'static, ZeroizingKey>,
    not_after: SystemTime,
}

impl InstallationAuthority {
    /// Reads the authority's certificate and key.
    ///
    /// # Errors
    /// [`IssueError`] names the part and what was expected in it.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IssueError> {
        let error = |file| move |cause| IssueError::Authority { file, cause };
        let der = anchor(certificate).map_err(error("certificate"))?;
        let facts = Facts::parse(&der, Subject::Authority).map_err(error("certificate"))?;
        let uri = facts.only_uri(Subject::Authority).map_err(error("certificate"))?;
        let installation = installation_of(uri).map_err(error("certificate"))?;
        let key_der = pem::private_key(key).map_err(error("key"))?;
        let key = KeyPair::try_from(&*key_der)
            .map_err(|e| error("key")(PkiError::Key(e.to_string())))
            .map(ZeroizingKey)?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != facts.public_key_info {
            return Err(IssueError::AuthorityKey);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { installation, issuer, not_after: facts.not_after })
    }

    /// Whose it is.
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    /// Issues a member's certificate, PEM, for a key that the member has made and keeps. Only components have
    /// `names`.
    ///
    /// # Errors
    /// [`IssueError::OutlivesAuthority`] when it would be valid longer than the authority.
    pub fn issue(
        &self,
        member: &Member,
        key: &SigningRequest,
        validity: Validity,
        names: &[ServerName],
    ) -> Result<String, IssueError> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        if validity.not_after > self.not_after {
            let (leaf, authority) = (validity.not_after, self.not_after);
            return Err(IssueError::OutlivesAuthority { leaf, authority });
        }
        let identity =
            MemberIdentity { installation: self.installation.clone(), member: member.clone() };
        let mut params = issue::leaf_params(&identity.to_string(), validity)?;
        params.distinguished_name.push(rcgen::DnType::CommonName, identity.to_string());
        params.extended_key_usages = vec![ClientAuth];
        if matches!(member, Member::Component(_)) {
            params.extended_key_usages.push(ServerAuth);
            for name in names {
                params.subject_alt_names.push(match name {
                    ServerName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                    ServerName::Address(address) => SanType::IpAddress(*address),
                });
            }
        }
        Ok(params.signed_by(key.public_key(), &self.issuer)?.pem())
    }
}

fn installation_of(uri: &str) -> Result<InstallationId, PkiError> {
    let subject = Subject::Authority;
    let name = uri.strip_prefix(SCHEME).ok_or_else(|| PkiError::Identity {
        subject,
        cause: IdentityError::Form {
            found: uri.chars().take(300).collect(),
            expected: "spiffe://INSTALLATION",
        },
    })?;
    name.parse().map_err(|cause| PkiError::Identity {
        subject,
        cause: IdentityError::Name { part: "installation", cause },
    })
}

/// The certificate of an authority, as those who verify need it.
///
/// # Errors
/// [`PkiError::Pem`] when it is not exactly one certificate.
pub fn anchor(pem: &[u8]) -> Result<CertificateDer<'static>, PkiError> {
    let mut certificates = pem::certificates(pem)?;
    match (certificates.pop(), certificates.len()) {
        (Some(certificate), 0) => Ok(certificate),
        (_, others) => Err(PkiError::Pem(format!(
            "holds {} certificates; expected the authority's alone",
            others + 1
        ))),
    }
}

/// SHA-256 of a certificate in DER.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256(certificate)
}

/// Somebody whose chain was judged good by the TLS library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedMember {
    /// Who.
    pub identity: MemberIdentity,
    /// SHA-256 of the public key (SubjectPublicKeyInfo in DER).
    pub key_hash: [u8; 32],
    /// When the certificate ends.
    pub not_after: SystemTime,
}

/// Who a certificate is for that the TLS library has accepted under the installation's authority.
///
/// # Errors
/// [`PkiError`] when it is not a member's.
pub fn member(certificate: &CertificateDer<'_>) -> Result<VerifiedMember, PkiError> {
    let about = Subject::Host;
    let facts = Facts::parse(certificate, about)?;
    if facts.is_authority {
        return Err(PkiError::Usage {
            subject: about,
            found: "is an authority's".to_owned(),
            expected: "a member's certificate",
        });
    }
    let [uri] = facts.uris.as_slice() else {
        let (uris, others) = (facts.uris.len(), facts.other_names);
        return Err(PkiError::Names { subject: about, uris, others });
    };
    let identity: MemberIdentity =
        uri.parse().map_err(|cause| PkiError::Identity { subject: about, cause })?;
    if matches!(identity.member, Member::Host(_)) && facts.other_names > 0 {
        return Err(PkiError::Names { subject: about, uris: 1, others: facts.other_names });
    }
    let (key_hash, not_after) = (sha256(&facts.public_key_info), facts.not_after);
    Ok(VerifiedMember { identity, key_hash, not_after })
}

#[cfg(test)]
mod tests;
