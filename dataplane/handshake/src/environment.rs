//! What the handshake needs of an environment, and the table in which a server finds it by tag.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use crate::time::TrustedTime;
use aws_lc_rs::rand;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::UnixTime;
use weft_pki::{
    Credentials, EnvironmentIdentity, KeyKind, PkiError, SniTag, Subject, TrustAnchor,
    issue::{self, Authority, HostRequest, HostUsages, IssueError, Validity},
};
use weft_types::{EnvironmentId, HostId, InstallationId};

/// Which key exchanges are offered and accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyExchange {
    /// X25519MLKEM768 where both sides have it, X25519 otherwise.
    #[default]
    HybridOrClassical,
    /// X25519MLKEM768 only, so that recorded traffic stays secret from a quantum computer.
    HybridOnly,
}

/// Why an environment cannot take part in handshakes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// Authority and host certificate are of different environments.
    #[error(transparent)]
    Mismatch(PkiError),
    /// Two environments have an authority with the same key.
    #[error(
        "environments {0} and {1} share an authority key; expected an authority of its own for each"
    )]
    SharedAuthority(EnvironmentId, EnvironmentId),
    /// The decoy certificate could not be made.
    #[error("the decoy certificate could not be made: {0}")]
    Decoy(String),
}

/// One environment on this host: who judges, and who this host is. Immutable; a renewed
/// certificate makes a new one.
#[derive(Debug)]
pub struct Environment {
    anchor: TrustAnchor,
    credentials: Credentials,
    key_exchange: KeyExchange,
    time: Arc<TrustedTime>,
    /// Chain and key as TLS wants them.
    certificate: Arc<SingleCertAndKey>,
    own: Mutex<Option<OwnChain>>,
}

/// This host's own chain, judged as a peer judges it. Peers' chains are judged at every handshake;
/// for this one a judgement serves as long as nothing that it rests on changes with time.
#[derive(Debug, Clone)]
struct OwnChain {
    /// When it would be judged alike: the same authorities are valid, and so is the whole path.
    holds: RangeInclusive<SystemTime>,
    /// The last moment at which the whole path is valid.
    not_after: SystemTime,
}

impl Environment {
    /// Joins an authority with this host's credentials under it. Whether the credentials are
    /// valid now is checked at each handshake.
    ///
    /// # Errors
    /// [`EnvironmentError::Mismatch`] when they are of different environments.
    pub fn new(
        anchor: TrustAnchor,
        credentials: Credentials,
        key_exchange: KeyExchange,
    ) -> Result<Self, EnvironmentError> {
        let own = credentials.identity();
        if own.environment_identity() != *anchor.environment() {
            return Err(EnvironmentError::Mismatch(PkiError::WrongIdentity {
                subject: Subject::Host,
                found: own.to_string(),
                expected: format!("a host of {}", anchor.environment()),
            }));
        }
        let time = Arc::<TrustedTime>::default();
        time.learn(credentials.not_before());
        let key = CertifiedKey::clone(&credentials.certified_key());
        let certificate = Arc::new(SingleCertAndKey::from(key));
        Ok(Self { anchor, credentials, key_exchange, time, certificate, own: Mutex::default() })
    }

    /// With what is known of the time in this environment.
    #[must_use]
    pub fn with_time(self, time: Arc<TrustedTime>) -> Self {
        time.learn(self.credentials.not_before());
        Self { time, ..self }
    }

    /// The time by which certificates are judged.
    #[must_use]
    pub fn time(&self) -> &Arc<TrustedTime> {
        &self.time
    }

    /// The environment's id.
    #[must_use]
    pub fn id(&self) -> &EnvironmentId {
        &self.anchor.environment().environment
    }

    /// This host.
    #[must_use]
    pub fn host(&self) -> &HostId {
        &self.credentials.identity().host
    }

    /// Who judges peers.
    #[must_use]
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// This host's chain and key.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The same for TLS.
    pub(crate) fn certificate(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.certificate)
    }

    /// Which key exchanges are allowed.
    #[must_use]
    pub fn key_exchange(&self) -> KeyExchange {
        self.key_exchange
    }

    /// The last moment at which this host's own certificate is good for anything.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.credentials.not_after().min(self.anchor.not_after())
    }

    /// When this host's own chain ends, as a peer judges it at `now`: with intermediates, and the
    /// one authority that signed it.
    pub(crate) fn own_chain_end(&self, now: UnixTime) -> Result<SystemTime, PkiError> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let mut known = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = known.as_ref().filter(|own| own.holds.contains(&at)) {
            return Ok(own.not_after);
        }
        let not_after = self.credentials.check(&self.anchor, now)?.not_after;
        let holds = at..=not_after.min(self.anchor.unchanged_until(at));
        *known = Some(OwnChain { holds, not_after });
        Ok(not_after)
    }
}

/// The environments for which this host accepts handshakes, by tag. Replaced as a whole; a
/// handshake that has begun goes on with what it found.
#[derive(Debug)]
pub struct ServerEnvironments {
    table: RwLock<Arc<HashMap<SniTag, Arc<Environment>>>>,
    /// What a client meets that names no environment of this host: a real environment in every
    /// respect, with an authority whose key is gone, so that every step up to the certificate
    /// check is the same code and the check always fails.
    decoy: Arc<Environment>,
}

impl ServerEnvironments {
    /// Makes the table, and a decoy certificate for whoever is not in it.
    ///
    /// # Errors
    /// [`EnvironmentError`]
    pub fn new(
        environments: impl IntoIterator<Item = Arc<Environment>>,
    ) -> Result<Self, EnvironmentError> {
        Ok(Self { table: RwLock::new(Arc::new(by_tag(environments)?)), decoy: Arc::new(decoy()?) })
    }

    /// Replaces all environments at once; the decoy stays.
    ///
    /// # Errors
    /// [`EnvironmentError::SharedAuthority`]; nothing was replaced then.
    pub fn replace(
        &self,
        environments: impl IntoIterator<Item = Arc<Environment>>,
    ) -> Result<(), EnvironmentError> {
        let table = Arc::new(by_tag(environments)?);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// The environment that a client named, or the decoy.
    pub(crate) fn select(&self, server_name: Option<&str>) -> Selected {
        let table = Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner));
        let known = server_name.and_then(SniTag::from_server_name).and_then(|tag| table.get(&tag));
        Selected { environment: Arc::clone(known.unwrap_or(&self.decoy)), decoy: known.is_none() }
    }
}

pub(crate) struct Selected {
    pub(crate) environment: Arc<Environment>,
    pub(crate) decoy: bool,
}

fn by_tag(
    environments: impl IntoIterator<Item = Arc<Environment>>,
) -> Result<HashMap<SniTag, Arc<Environment>>, EnvironmentError> {
    let mut table: HashMap<SniTag, Arc<Environment>> = HashMap::new();
    for environment in environments {
        for tag in environment.anchor.tags() {
            let before = table.insert(tag, Arc::clone(&environment));
            if let Some(before) = before.filter(|b| !Arc::ptr_eq(b, &environment)) {
                return Err(EnvironmentError::SharedAuthority(
                    before.id().clone(),
                    environment.id().clone(),
                ));
            }
        }
    }
    Ok(table)
}

/// An environment of random name whose authority's key is dropped at once. Its certificate is
/// dated back by a random part of its life, so that it does not tell when this process began.
fn decoy() -> Result<Environment, EnvironmentError> {
    let identity = EnvironmentIdentity {
        installation: random_name(InstallationId::new)?,
        environment: random_name(EnvironmentId::new)?,
    };
    let age = DAY * u32::from(random_byte()?) / 8;
    let validity = Validity::days(SystemTime::now(), age, issue::AUTHORITY_DAYS);
    let authority = issue::new_authority(&identity, validity, KeyKind::EcdsaP256)
        .and_then(|ca| Authority::from_pem(ca.certificate_pem.as_bytes(), ca.key_pem.as_bytes()))
        .map_err(issue_error)?;
    let host = authority
        .issue_host(&HostRequest {
            host: random_name(HostId::new)?,
            validity,
            key_kind: KeyKind::EcdsaP256,
            usages: HostUsages::Both,
        })
        .map_err(issue_error)?;
    let credentials =
        Credentials::from_pem(host.certificate_pem.as_bytes(), host.key_pem.as_bytes())
            .map_err(|e| EnvironmentError::Decoy(e.to_string()))?;
    Environment::new(authority.anchor().clone(), credentials, KeyExchange::default())
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn issue_error(error: IssueError) -> EnvironmentError {
    EnvironmentError::Decoy(error.to_string())
}

fn random_byte() -> Result<u8, EnvironmentError> {
    let mut byte = [0];
    rand::fill(&mut byte).map_err(|e| EnvironmentError::Decoy(e.to_string()))?;
    Ok(byte[0])
}

fn random_name<T, E: std::fmt::Display>(
    new: impl Fn(&str) -> Result<T, E>,
) -> Result<T, EnvironmentError> {
    let mut name = String::new();
    for _ in 0..8 {
        name.push(char::from(b'a' + random_byte()? % 26));
    }
    new(&name).map_err(|e| EnvironmentError::Decoy(e.to_string()))
}
