//! Which key speaks for a host, and how it gets another one; decided in [`weft_model::record::Host`].

use weft_audit::{Facts, Origin, Word};
use weft_model::{
    Decoded, Record,
    access::{Action, Actor, Object},
    placement::Decision,
    record::{Host, HostKey},
};
use weft_pki::SigningRequest;
use weft_store::Transaction;
use weft_types::HostId;

use super::{App, AppError, Caller, Sight, environments::rests_on};
use crate::{
    audit::{FINGERPRINT, host as object},
    secret::hex,
    ssh,
};

/// A host's next key is the only one from now on, because it was used.
const TAKE_OVER: Word = Word::new("hosts.take-over-key");

impl App {
    /// Goes on if whoever has this key is this host, as the store itself says: what is in the view may be of before, and
    /// counts for [`super::HOSTS_SEEN_MAX`] where the store is away and the call only looks or reports. A next key takes over before anything is done with it.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] when it is not, others when the store or the audit takes nothing.
    pub async fn admit_host(
        &self,
        host: &HostId,
        key_hash: &str,
        from: Origin,
        sight: &Sight,
    ) -> Result<(), AppError> {
        let found = self.look_up::<Host>(sight, host.as_str()).await?;
        self.counts_for_hosts(sight)?;
        let key = found.and_then(|found| found.record.admits(key_hash));
        match key.ok_or(AppError::Unauthenticated)? {
            HostKey::Next => self.take_over(host, key_hash, from).await,
            HostKey::Present => Ok(()),
        }
    }

    /// The host, if this key is one of its own.
    pub(super) async fn host_by_key(
        &self,
        host: &HostId,
        key_hash: &str,
    ) -> Result<Decoded<Host>, AppError> {
        let found: Option<Decoded<Host>> = self.read(host.as_str()).await?;
        let own = found.filter(|found| found.record.admits(key_hash).is_some());
        own.ok_or(AppError::Unauthenticated)
    }

    /// Recorded by whoever was the first to use it.
    async fn take_over(&self, host: &HostId, key_hash: &str, from: Origin) -> Result<(), AppError> {
        let facts = Facts::none().with(Word::new(FINGERPRINT), ssh::audited(key_hash));
        let actor = Actor::Host(host.clone());
        let call = self.recorder.by_calling(&actor, from, TAKE_OVER, object(host), facts);
        let mut is_begun = false;
        let taken = transact!(self, {
            let found = self.host_by_key(host, key_hash).await?;
            let used = found.record.used(key_hash).ok_or(AppError::Unauthenticated)?;
            if used == found.record {
                return Ok(Decision::Already(false));
            }
            call.begin().await?;
            is_begun = true;
            let transaction =
                rests_on(Transaction::new(), &found)?.put(used.key()?, used.encode()?);
            Ok(Decision::Commit(transaction, true))
        });
        if is_begun {
            let by_another = AppError::Changed("host");
            let ended = match &taken {
                Ok(true) => Ok(Facts::none()),
                Ok(false) => Err(&by_another),
                Err(error) => Err(error),
            };
            call.end(ended).await?;
        }
        taken.map(drop)
    }

    /// A new certificate for the host that asks. With a new key, either counts until the new one is used: the answer may be
    /// lost.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn renew_host(
        &self,
        caller: &Caller,
        signing_request: &[u8],
    ) -> Result<String, AppError> {
        let host = Self::calling_host(caller)?;
        caller.may(Action::ActAsHost, Object::Host(host))?;
        let shown = caller.key_hash.as_deref().ok_or(AppError::Unauthenticated)?;
        let key = SigningRequest::from_der(signing_request)?;
        let wanted = hex(&key.key_hash());
        transact!(self, {
            let found = self.host_by_key(host, shown).await?;
            let renewed = found.record.renewed(shown, &wanted).ok_or(AppError::Unauthenticated)?;
            if renewed == found.record {
                return Ok(Decision::Already(()));
            }
            let transaction =
                rests_on(Transaction::new(), &found)?.put(renewed.key()?, renewed.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        self.host_certificate(host, &key)
    }
}
