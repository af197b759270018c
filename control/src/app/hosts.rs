//! Hosts: how they come, what they are, how they go.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rustls::{
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use weft_model::{
    Decoded, Record, TokenId,
    access::{Action, Object},
    due::JOIN_AGAIN,
    placement::Decision,
    record::{Capacity, Endpoint, Host, HostState, JoinToken, JoinTokenUse, LABELS_MAX, Place},
};
use weft_pki::{
    KeyKind, SigningRequest,
    installation::{self, Member, ServerName},
    issue::{self, Validity},
    request,
};
use weft_store::{Revision, Transaction};
use weft_types::HostId;
use zeroize::Zeroizing;

use super::{App, AppError, Caller, environments::rests_on};
use crate::secret::{self, hex, random};

/// Longest life of a join token.
pub const JOIN_TOKEN_SECONDS_MAX: u32 = 7 * 24 * 3_600;
/// What the control plane is called in its own certificate.
const SERVER: &str = "control";
/// Longest name and longest value of a label, bytes.
const LABEL_LEN_MAX: usize = 256;
/// Most endpoints of a host.
const ENDPOINTS_MAX: usize = 8;

/// What a join token is for.
#[derive(Debug, Clone, Default)]
pub struct NewJoinToken {
    /// The host; any new one without.
    pub host: Option<HostId>,
    /// Where it stands.
    pub place: Place,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How long it is good.
    pub lasts: Duration,
}

/// What a machine says that wants to be a host.
#[derive(Debug)]
pub struct Enrolment {
    /// The join token's secret.
    pub token: Zeroizing<String>,
    /// The id that it wants; the token's, if that names one.
    pub host: Option<HostId>,
    /// PKCS #10 in DER.
    pub signing_request: Vec<u8>,
    /// Where its daemon listens.
    pub endpoints: Vec<SocketAddr>,
    /// What it has.
    pub capacity: Capacity,
}

/// What an operator changes of a host.
#[derive(Debug, Clone)]
pub struct HostChange {
    /// As it was read.
    pub revision: Revision,
    /// Where it stands.
    pub place: Place,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its daemon listens.
    pub endpoints: Vec<Endpoint>,
}

fn check_host(labels: &BTreeMap<String, String>, endpoints: usize) -> Result<(), AppError> {
    if labels.len() > LABELS_MAX {
        let problem = format!("{} of them; expected at most {LABELS_MAX}", labels.len());
        return Err(AppError::invalid("labels", problem));
    }
    let well_formed = |text: &String| text.len() <= LABEL_LEN_MAX;
    if let Some((name, _)) =
        labels.iter().find(|(name, value)| !well_formed(name) || !well_formed(value))
    {
        let problem =
            format!("{name:.40}; expected names and values of at most {LABEL_LEN_MAX} bytes");
        return Err(AppError::invalid("labels", problem));
    }
    if endpoints == 0 || endpoints > ENDPOINTS_MAX {
        let problem = format!("{endpoints} of them; expected 1 to {ENDPOINTS_MAX}");
        return Err(AppError::invalid("endpoints", problem));
    }
    Ok(())
}

/// A host's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its id.
    pub host: HostId,
    /// Its certificate, PEM.
    pub certificate: String,
}

impl App {
    /// Makes a join token; returns its record and its secret.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn create_join_token(
        &self,
        caller: &Caller,
        new: &NewJoinToken,
    ) -> Result<(JoinToken, Zeroizing<String>), AppError> {
        caller.may(Action::ManageHosts, Object::Installation)?;
        check_host(&new.labels, 1)?;
        let (secret, secret_hash) = secret::new("weft_join");
        let now = self.now();
        let token = JoinToken {
            secret_hash,
            id: TokenId::from_random(&random()),
            host: new.host.clone(),
            place: new.place.clone(),
            labels: new.labels.clone(),
            created: now,
            expires: now.after(new.lasts),
            used: None,
        };
        transact!(self, {
            let transaction =
                Transaction::new().absent(token.key()?).put(token.key()?, token.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        Ok((token, secret))
    }

    /// Makes a host of whoever has a join token; with one that names a host that is there, that host, with another key and
    /// otherwise as it was. What is wrong with a token is not said.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn enrol(
        &self,
        caller: &Caller,
        enrolment: &Enrolment,
    ) -> Result<Enrolled, AppError> {
        let key = SigningRequest::from_der(&enrolment.signing_request)?;
        let key_hash = hex(&key.key_hash());
        check_host(&BTreeMap::new(), enrolment.endpoints.len())?;
        let hash = secret::hash(&enrolment.token);
        let host = transact!(self, {
            let decision = self.decide_enrol(enrolment, &hash, &key_hash).await?;
            caller.call.begin().await?;
            Ok(decision)
        })?;
        let certificate = self.host_certificate(&host, &key)?;
        Ok(Enrolled { host, certificate })
    }

    async fn decide_enrol(
        &self,
        enrolment: &Enrolment,
        hash: &str,
        key_hash: &str,
    ) -> Result<Decision<HostId>, AppError> {
        let now = self.now();
        let token: Option<Decoded<JoinToken>> = self.read(hash).await?;
        let token = token.ok_or(AppError::NotFound("join token"))?;
        if let Some(used) = &token.record.used {
            let again = used.key_hash == key_hash && now < used.at.after(JOIN_AGAIN);
            let host = used.host.clone();
            return if again {
                Ok(Decision::Already(host))
            } else {
                Err(AppError::NotFound("join token"))
            };
        }
        if token.record.expires <= now {
            return Err(AppError::NotFound("join token"));
        }
        let host = match (&token.record.host, &enrolment.host) {
            (Some(meant), None) => meant.clone(),
            (Some(meant), Some(wanted)) if meant == wanted => meant.clone(),
            (None, Some(wanted)) => wanted.clone(),
            (Some(meant), Some(wanted)) => {
                return Err(AppError::invalid(
                    "host",
                    format!("{wanted}; this token is for {meant}"),
                ));
            }
            (None, None) => return Err(AppError::invalid("host", "is missing; expected an id")),
        };
        let record = Host {
            id: host.clone(),
            state: HostState::Active,
            place: token.record.place.clone(),
            labels: token.record.labels.clone(),
            endpoints: enrolment
                .endpoints
                .iter()
                .map(|address| Endpoint { address: *address, pod: None })
                .collect(),
            capacity: enrolment.capacity,
            key_hash: key_hash.to_owned(),
            next_key_hash: None,
            created: now,
        };
        // An id that a host has had, whatever became of it, is of no other one; unless an operator says that this machine is
        // that host: then its key is the one that counts.
        let found: Option<Decoded<Host>> = self.read(host.as_str()).await?;
        let (record, transaction) = match found {
            None => {
                let transaction = Transaction::new().absent(record.key()?);
                (record, transaction)
            }
            Some(found) if token.record.host.is_none() => {
                return Err(AppError::Exists(format!(
                    "there is a host {} already; expected a token that names it",
                    found.record.id
                )));
            }
            Some(found) if found.record.state == HostState::Revoked => {
                return Err(AppError::State(format!("host {host} is revoked and stays so")));
            }
            Some(found) => {
                let Host { mut endpoints, capacity, key_hash, .. } = record;
                for endpoint in &mut endpoints {
                    let mut known = found.record.endpoints.iter();
                    let known = known.find(|known| known.address == endpoint.address);
                    endpoint.pod = known.and_then(|known| known.pod.clone());
                }
                let again = Host { endpoints, capacity, ..found.record.with_key(key_hash) };
                (again, rests_on(Transaction::new(), &found)?)
            }
        };
        let used = JoinTokenUse { host: host.clone(), key_hash: key_hash.to_owned(), at: now };
        let spent = JoinToken { used: Some(used), ..token.record.clone() };
        let transaction = rests_on(transaction, &token)?
            .put(record.key()?, record.encode()?)
            .put(spent.key()?, spent.encode()?);
        Ok(Decision::Commit(transaction, host))
    }

    pub(super) fn host_certificate(
        &self,
        host: &HostId,
        key: &SigningRequest,
    ) -> Result<String, AppError> {
        let time = self.clock.system_time();
        let validity = Validity::days(time, issue::HOST_BACKDATE, installation::HOST_DAYS);
        Ok(self.authority.issue(&Member::Host(host.clone()), key, validity, &[])?)
    }

    /// A certificate with a new key for this server under these names, with the authority's behind it, by which hosts
    /// that join know it.
    pub(crate) fn server_certificate(&self, names: &[ServerName]) -> anyhow::Result<CertifiedKey> {
        let new = request::new_key(KeyKind::EcdsaP256)?;
        let key = SigningRequest::from_der(&new.request)?;
        let time = self.clock.system_time();
        let validity = Validity::days(time, issue::HOST_BACKDATE, installation::COMPONENT_DAYS);
        let member = Member::Component(SERVER.parse()?);
        let own = self.authority.issue(&member, &key, validity, names)?;
        let chain = vec![
            installation::anchor(own.as_bytes())?,
            installation::anchor(self.anchor.as_bytes())?,
        ];
        let key = PrivateKeyDer::from_pem_slice(new.key_pem.as_bytes())?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(CertifiedKey::new(chain, key))
    }

    /// What a host is given to join: the secret, and by what it knows the installation.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn join_secret(&self, secret: &str) -> Result<String, AppError> {
        let anchor = installation::anchor(self.anchor.as_bytes()).map_err(AppError::internal)?;
        Ok(format!("{secret}.{}", hex(&installation::fingerprint(&anchor))))
    }

    /// Join tokens that are good, after the one with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn list_join_tokens(
        &self,
        caller: &Caller,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<JoinToken>, AppError> {
        caller.may(Action::SeeHosts, Object::Installation)?;
        let now = self.now();
        let all = self.view.read(|state| state.list::<JoinToken>("", None, usize::MAX))?;
        let good = all.into_iter().map(|token| token.record);
        let mut good: Vec<_> =
            good.filter(|token| token.used.is_none() && token.expires > now).collect();
        good.sort_by(|one, other| one.id.cmp(&other.id));
        good.retain(|token| after.is_none_or(|after| token.id.as_str() > after));
        good.truncate(len_max);
        Ok(good)
    }

    /// Makes a join token useless.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn revoke_join_token(&self, caller: &Caller, id: &TokenId) -> Result<(), AppError> {
        caller.may(Action::ManageHosts, Object::Installation)?;
        transact!(self, {
            let all = self.view.read(|state| state.list::<JoinToken>("", None, usize::MAX))?;
            let Some(token) = all.into_iter().find(|token| token.record.id == *id) else {
                return Ok(Decision::Already(()));
            };
            let transaction = rests_on(Transaction::new(), &token)?.delete(token.record.key()?);
            Ok(Decision::Commit(transaction, ()))
        })
    }

    /// Changes where a host stands, its labels and endpoints.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn update_host(
        &self,
        caller: &Caller,
        host: &HostId,
        change: &HostChange,
    ) -> Result<Decoded<Host>, AppError> {
        caller.may(Action::ManageHosts, Object::Host(host))?;
        check_host(&change.labels, change.endpoints.len())?;
        transact!(self, {
            let found: Decoded<Host> =
                self.read(host.as_str()).await?.ok_or(AppError::NotFound("host"))?;
            if found.modified != change.revision {
                return Err(AppError::Changed("host"));
            }
            let changed = Host {
                place: change.place.clone(),
                labels: change.labels.clone(),
                endpoints: change.endpoints.clone(),
                ..found.record.clone()
            };
            let transaction =
                rests_on(Transaction::new(), &found)?.put(changed.key()?, changed.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        self.read(host.as_str()).await?.ok_or(AppError::NotFound("host"))
    }

    /// One host.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_host(
        &self,
        caller: &Caller,
        host: &HostId,
    ) -> Result<Decoded<Host>, AppError> {
        caller.may(Action::SeeHosts, Object::Host(host))?;
        self.look_up(&caller.sight, host.as_str()).await?.ok_or(AppError::NotFound("host"))
    }

    /// Hosts of one pod or of all, after the one with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn list_hosts(
        &self,
        caller: &Caller,
        pod: Option<&str>,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Decoded<Host>>, AppError> {
        caller.may(Action::SeeHosts, Object::Installation)?;
        let of_pod = |host: &Host| pod.is_none_or(|pod| host.place.pod == pod);
        Ok(self.view.read(|state| state.list_some("", after, of_pod, len_max))?)
    }

    /// Whether a host takes anything new, is to lose what it has, or is shut out.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_host_state(
        &self,
        caller: &Caller,
        host: &HostId,
        state: HostState,
    ) -> Result<Decoded<Host>, AppError> {
        caller.may(Action::ManageHosts, Object::Host(host))?;
        transact!(self, {
            let found: Decoded<Host> =
                self.read(host.as_str()).await?.ok_or(AppError::NotFound("host"))?;
            if found.record.state == state {
                return Ok(Decision::Already(()));
            }
            if found.record.state == HostState::Revoked {
                return Err(AppError::State(format!("host {host} is revoked and stays so")));
            }
            let changed = found.record.in_state(state);
            let transaction =
                rests_on(Transaction::new(), &found)?.put(changed.key()?, changed.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        self.read(host.as_str()).await?.ok_or(AppError::NotFound("host"))
    }
}
