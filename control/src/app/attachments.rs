//! Attachments and slots.

use std::net::IpAddr;

use weft_model::{
    Decoded, Record,
    access::{Action, Actor, Object},
    id::GrantId,
    ipam::Ledger,
    placement::{self, AttachRequest, Decision, Right, Scene},
    record::{
        self, Attachment, Binding, Environment, Grant, Health, Role, Share, Slot, SlotKey, Usage,
    },
};
use weft_store::Revision;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{App, AppError, Caller, EnvironmentReference, Sight, health::AttachmentHealth};

/// In place of the id of an environment where none is meant.
const NO_ENVIRONMENT: &str = "env-0";

/// Where an attachment is to run, and what gives that host the right.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which.
    pub id: HostId,
    /// The scheduler's leave; the host's binding without.
    pub grant: Option<GrantId>,
}

/// What an attachment is to be.
#[derive(Debug, Clone)]
pub struct AttachWish {
    /// Its name.
    pub name: AttachmentName,
    /// What it fills.
    pub slot: SlotKey,
    /// Where it runs.
    pub host: Host,
    /// Addresses that it must have.
    pub addresses: Vec<IpAddr>,
    /// What it may send.
    pub share: Option<Share>,
}

/// What a decision about an environment is made from.
pub(super) struct Known {
    pub(super) environment: Decoded<Environment>,
    pub(super) usage: Option<Decoded<Usage>>,
    ledger: Ledger,
    roles: Vec<Decoded<Role>>,
    revision: Revision,
}

impl Known {
    pub(super) fn scene(&self) -> Scene<'_> {
        let Self { environment, usage, ledger, roles, revision } = self;
        Scene { environment, usage: usage.as_ref(), ledger, roles, revision: *revision }
    }

    pub(super) fn path(&self, of: &str) -> String {
        format!("{}/{of}", self.environment.record.id)
    }

    fn slot_path(&self, key: &SlotKey) -> String {
        self.path(&format!("{}/{}", key.service, key.slot))
    }
}

/// What gives a host a right, as it was found.
enum FoundRight {
    Binding(Decoded<Binding>),
    Grant(Decoded<Grant>),
}

impl FoundRight {
    fn right(&self) -> Right<'_> {
        match self {
            Self::Binding(binding) => Right::Binding(binding),
            Self::Grant(grant) => Right::Grant(grant),
        }
    }
}

impl App {
    pub(super) async fn known(&self, environment: Decoded<Environment>) -> Result<Known, AppError> {
        let usage = self.caught_up(&environment.record.id, &Sight::stored()).await?;
        let (id, settled) = (&environment.record.id, self.time().settled);
        let (ledger, roles, revision) = self.view.read(|state| {
            let roles = state.list::<Role>(&format!("{id}/"), None, usize::MAX)?;
            Ok::<_, weft_model::RecordError>((
                state.ledger(id).settled_at(settled),
                roles,
                state.projection().revision(),
            ))
        })?;
        Ok(Known { environment, usage, ledger, roles, revision })
    }

    async fn right(&self, known: &Known, host: &Host) -> Result<FoundRight, AppError> {
        match &host.grant {
            Some(id) => {
                let grant = self.read(&known.path(id.as_str())).await?;
                Ok(FoundRight::Grant(grant.ok_or(AppError::NotFound("grant"))?))
            }
            None => {
                let binding = self.read(&known.path(host.id.as_str())).await?;
                let missing = || {
                    AppError::State(format!("host {} is not allowed in this environment", host.id))
                };
                Ok(FoundRight::Binding(binding.ok_or_else(missing)?))
            }
        }
    }

    /// Whether there is the grant or the binding that a host would need.
    async fn has_right(&self, environment: &str, host: &Host) -> Result<bool, AppError> {
        let name = host.grant.as_ref().map_or(host.id.as_str(), GrantId::as_str);
        let path = format!("{environment}/{name}");
        let key = match host.grant {
            Some(_) => Grant::key_at(&path),
            None => Binding::key_at(&path),
        };
        Ok(self.store.get(&key?).await?.is_some())
    }

    /// Makes an attachment for whoever may deploy.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn create_attachment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        wish: &AttachWish,
    ) -> Result<Attachment, AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let decision = self.decide_attach(environment, wish).await?;
            self.if_heard_of(&wish.host.id, decision).await
        })
    }

    /// Makes an attachment on the host that asks. Without a right there is no such environment.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn attach_here(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        wish: &AttachWish,
    ) -> Result<Attachment, AppError> {
        caller.may(Action::ActAsHost, Object::Host(&wish.host.id))?;
        let absent = || AppError::NotFound("environment");
        transact!(self, {
            let meant = self.meant(reference);
            // The right comes first, at the key that it would have: the store is asked once for a host without one,
            // whether there is such an environment or not.
            let id = meant.as_ref().map_or(NO_ENVIRONMENT, EnvironmentId::as_str);
            if !self.has_right(id, &wish.host).await? {
                return Err(absent());
            }
            let found = self.read(id).await?.ok_or_else(absent)?;
            match self.decide_attach(found, wish).await {
                Err(AppError::NotFound(_) | AppError::State(_)) => Err(absent()),
                decided => decided,
            }
        })
    }

    async fn decide_attach(
        &self,
        environment: Decoded<Environment>,
        wish: &AttachWish,
    ) -> Result<Decision<Attachment>, AppError> {
        let known = self.known(environment).await?;
        let host: Decoded<record::Host> =
            self.read(wish.host.id.as_str()).await?.ok_or(AppError::NotFound("host"))?;
        let right = self.right(&known, &wish.host).await?;
        let request = AttachRequest {
            name: wish.name.clone(),
            slot: wish.slot.clone(),
            host: &host,
            right: right.right(),
            wanted: wish.addresses.clone(),
            share: wish.share,
        };
        let slot = self.read(&known.slot_path(&wish.slot)).await?;
        let existing = self.read(&known.path(wish.name.as_str())).await?;
        let (slot, existing) = (slot.as_ref(), existing.as_ref());
        Ok(placement::attach(&known.scene(), &request, slot, existing, self.now())?)
    }

    /// Moves an attachment.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn move_attachment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &AttachmentName,
        to: &Host,
    ) -> Result<Attachment, AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let (attachment, slot) = self.attached(&known, name).await?;
            let host = self.read(to.id.as_str()).await?.ok_or(AppError::NotFound("host"))?;
            let right = self.right(&known, to).await?;
            let (scene, right) = (known.scene(), right.right());
            let now = self.now();
            let decision = placement::move_to(&scene, &attachment, &slot, &host, &right, now)?;
            let decision = self.with_sessions(&attachment.record, decision)?;
            self.if_heard_of(&to.id, decision).await
        })
    }

    async fn attached(
        &self,
        known: &Known,
        name: &AttachmentName,
    ) -> Result<(Decoded<Attachment>, Decoded<Slot>), AppError> {
        let absent = || AppError::NotFound("attachment");
        let found =
            self.read::<Attachment>(&known.path(name.as_str())).await?.ok_or_else(absent)?;
        let slot = self.read(&known.slot_path(&found.record.slot)).await?.ok_or_else(absent)?;
        Ok((found, slot))
    }

    fn decide_release(
        &self,
        known: &Known,
        attachment: &Decoded<Attachment>,
        slot: &Decoded<Slot>,
    ) -> Result<Decision<()>, AppError> {
        let decision = placement::release(&known.scene(), attachment, slot, self.now())?;
        self.with_sessions(&attachment.record, decision)
    }

    /// Ends an attachment; with a generation, only that one.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn release_attachment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &AttachmentName,
        generation: Option<u64>,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let (attachment, slot) = self.attached(&known, name).await?;
            if generation.is_some_and(|generation| generation != attachment.record.generation) {
                return Err(AppError::Changed("attachment"));
            }
            self.decide_release(&known, &attachment, &slot)
        })
    }

    /// Ends an attachment, whoever asks.
    pub(super) async fn remove_attachment(
        &self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Result<(), AppError> {
        transact!(self, {
            let found: Option<Decoded<Environment>> = self.read(environment.as_str()).await?;
            let Some(found) = found else { return Ok(Decision::Already(())) };
            let known = self.known(found).await?;
            let (attachment, slot) = match self.attached(&known, name).await {
                Err(AppError::NotFound(_)) => return Ok(Decision::Already(())),
                attached => attached?,
            };
            self.decide_release(&known, &attachment, &slot)
        })
    }

    /// Ends an attachment on the host that asks, if it still has it.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn release_here(
        &self,
        caller: &Caller,
        environment: &EnvironmentId,
        name: &AttachmentName,
        generation: u64,
    ) -> Result<(), AppError> {
        let host = Self::calling_host(caller)?;
        caller.may(Action::ActAsHost, Object::Host(host))?;
        transact!(self, {
            // What is not its own is not looked at any further.
            let path = format!("{environment}/{name}");
            let own = self.read::<Attachment>(&path).await?;
            if own.is_none_or(|own| own.record.host != *host) {
                return Ok(Decision::Already(()));
            }
            let found: Option<Decoded<Environment>> = self.read(environment.as_str()).await?;
            let Some(found) = found else { return Ok(Decision::Already(())) };
            let known = self.known(found).await?;
            let (attachment, slot) = match self.attached(&known, name).await {
                Err(AppError::NotFound(_)) => return Ok(Decision::Already(())),
                attached => attached?,
            };
            let is_its =
                attachment.record.host == *host && attachment.record.generation == generation;
            if !is_its {
                return Ok(Decision::Already(()));
            }
            self.decide_release(&known, &attachment, &slot)
        })
    }

    /// Gives addresses to a slot.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn reserve_slot(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        key: &SlotKey,
        addresses: &[IpAddr],
    ) -> Result<Slot, AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let existing = self.read(&known.slot_path(key)).await?;
            let (scene, existing) = (known.scene(), existing.as_ref());
            Ok(placement::reserve(&scene, key, addresses, existing, self.now())?)
        })
    }

    /// Takes a reservation back.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn unreserve_slot(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        key: &SlotKey,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let slot = self.read(&known.slot_path(key)).await?.ok_or(AppError::NotFound("slot"))?;
            Ok(placement::unreserve(&known.scene(), &slot, self.now())?)
        })
    }

    /// Attachments of an environment after the one with this name, with their health.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_attachments(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<(Attachment, AttachmentHealth)>, AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let path = format!("{}/", environment.record.id);
        let after = after.map(|after| format!("{path}{after}"));
        let found = self.view.read(|state| {
            let found = state.list::<Attachment>(&path, after.as_deref(), len_max)?;
            let with_health = found.into_iter().map(|attachment| {
                let said = state.get::<Health>(&attachment.record.path())?;
                let said = said.map(|health| health.record);
                let health = AttachmentHealth::of(state, &attachment.record, said)?;
                Ok((attachment.record, health))
            });
            with_health.collect::<Result<Vec<_>, weft_model::RecordError>>()
        });
        Ok(found?)
    }

    /// One attachment with its health.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_attachment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &AttachmentName,
    ) -> Result<(Attachment, AttachmentHealth), AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let path = format!("{}/{name}", environment.record.id);
        let found = self.look_up::<Attachment>(&caller.sight, &path).await?;
        let found = found.ok_or(AppError::NotFound("attachment"))?;
        let said = self.look_up::<Health>(&caller.sight, &path).await?;
        let said = said.map(|health| health.record);
        let health = self.view.read(|state| AttachmentHealth::of(state, &found.record, said))?;
        Ok((found.record, health))
    }

    /// Slots of an environment after the one with this path, SERVICE/SLOT.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_slots(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Slot>, AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let path = format!("{}/", environment.record.id);
        let after = after.map(|after| format!("{path}{after}"));
        let found = self.view.read(|state| state.list::<Slot>(&path, after.as_deref(), len_max))?;
        Ok(found.into_iter().map(|slot| slot.record).collect())
    }

    /// The host that a caller is.
    pub(crate) fn calling_host(caller: &Caller) -> Result<&HostId, AppError> {
        match &caller.actor {
            Actor::Host(host) => Ok(host),
            Actor::Nobody => Err(AppError::Unauthenticated),
            _ => Err(AppError::Refused),
        }
    }
}
