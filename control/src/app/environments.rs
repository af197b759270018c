//! Environments: their making, their authorities, their life.

use std::time::Duration;

use weft_control_api::GRACE_SECONDS_MIN;
use weft_keys::Owner;
use weft_model::{
    Decoded, Record, ServiceName,
    access::{Action, Actor, Object},
    id::environment_id,
    ipam::check_subnet,
    placement::Decision,
    policy::{Policy, Verdict},
    record::{
        Attachment, AuthorityState, Basis, Binding, Environment, EnvironmentName, EnvironmentState,
        Host, Lifetimes, Organisation, OtherNames, Quotas, Usage,
    },
    rotation::Generations,
    settings::check_leaf_seconds,
};
use weft_store::Transaction;
use weft_types::{HostId, Subnet};

use super::{App, AppError, Caller, EnvironmentReference, Proof, authorities::generations};
use crate::secret::random;

/// Whoever is in a hurry to have an environment gone shows who they are.
const GRACE_MIN: Duration = Duration::from_secs(GRACE_SECONDS_MIN as u64);
/// Subnets of an environment: one of each version of IP.
const SUBNETS_MAX: usize = 2;

/// An environment with what belongs to a description of it.
#[derive(Debug, Clone)]
pub struct Described {
    /// Itself.
    pub environment: Decoded<Environment>,
    /// What it uses.
    pub usage: Usage,
    /// Its authority.
    pub authority: Generations,
}

/// What a new environment is to be.
#[derive(Debug, Clone)]
pub struct NewEnvironment {
    /// Whose, by name or id.
    pub organisation: String,
    /// Its name.
    pub name: ServiceName,
    /// Its address ranges.
    pub subnets: Vec<Subnet>,
    /// What it may use.
    pub quotas: Quotas,
    /// How long leaves are valid, seconds.
    pub leaf_seconds: u32,
    /// What happens inside it to what no rule is about.
    pub default: Verdict,
}

impl NewEnvironment {
    fn check(&self) -> Result<(), AppError> {
        if self.subnets.is_empty() || self.subnets.len() > SUBNETS_MAX {
            let problem = format!(
                "{} of them; expected one of IPv4, one of IPv6, or one of each",
                self.subnets.len()
            );
            return Err(AppError::invalid("subnets", problem));
        }
        let is_ipv4 = |subnet: &Subnet| subnet.address().is_ipv4();
        if let [first, second] = self.subnets[..]
            && (is_ipv4(&first), is_ipv4(&second)) != (true, false)
        {
            let problem = "two of one version of IP, or IPv6 first; expected IPv4, then IPv6";
            return Err(AppError::invalid("subnets", problem));
        }
        for subnet in &self.subnets {
            check_subnet(subnet).map_err(|problem| AppError::invalid("subnets", problem))?;
        }
        Ok(check_leaf_seconds(self.leaf_seconds)?)
    }
}

impl App {
    /// Makes an environment with its key and its authority. When the process ends in between, a key without an
    /// environment may stay, which opens nothing.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn create_environment(
        &self,
        caller: &Caller,
        new: &NewEnvironment,
    ) -> Result<Decoded<Environment>, AppError> {
        let organisation =
            self.organisation(caller, Action::ManageOrganisation, &new.organisation).await?;
        if organisation.record.purge.is_some() {
            return Err(AppError::State("the organisation is being deleted".into()));
        }
        new.check()?;
        if new.quotas != Quotas::default() {
            caller.may(Action::ManageInstallation, Object::Installation)?;
        }
        let now = self.now();
        let environment = Environment {
            id: environment_id(&random()),
            organisation: organisation.record.id.clone(),
            name: new.name.clone(),
            state: EnvironmentState::Active,
            held: false,
            subnets: new.subnets.clone(),
            quotas: new.quotas,
            lifetimes: Lifetimes::of(new.leaf_seconds),
            other_names: OtherNames::default(),
            created: now,
        };
        let named = EnvironmentName {
            organisation: environment.organisation.clone(),
            name: environment.name.clone(),
            id: environment.id.clone(),
        };
        let taken = || AppError::Exists(format!("there is an environment {} already", named.name));
        // Before a key is made: an owner's key leaves a trace for ever.
        if self.read::<EnvironmentName>(&named.path()).await?.is_some() {
            return Err(taken());
        }
        self.has_room(&organisation).await?;
        let authority = self.new_authority(&environment, 1, AuthorityState::Current).await?;
        let policy =
            Policy { default: new.default, version: 1, ..Policy::open(environment.id.clone()) };
        let path = environment.path();
        let made: Result<(), AppError> = transact!(self, {
            if self.read::<EnvironmentName>(&named.path()).await?.is_some() {
                return Err(taken());
            }
            let organisation: Decoded<Organisation> = self
                .read(organisation.record.id.as_str())
                .await?
                .filter(|found: &Decoded<Organisation>| found.record.purge.is_none())
                .ok_or_else(|| AppError::State("the organisation is being deleted".into()))?;
            self.has_room(&organisation).await?;
            let transaction = keeps(Transaction::new(), &organisation)?
                .absent(named.key()?)
                .absent(environment.key()?)
                .put(named.key()?, named.encode()?)
                .put(environment.key()?, environment.encode()?)
                .put(authority.key()?, authority.encode()?)
                .put(policy.key()?, policy.encode()?);
            Ok(Decision::Commit(transaction, ()))
        });
        if let Err(AppError::Exists(_) | AppError::State(_) | AppError::Exhausted(_)) = &made {
            // Somebody was faster.
            let owner = Owner::Environment(environment.id.clone());
            self.keyring.destroy(&owner, self.clock.system_time()).await?;
        }
        made?;
        self.read(&path).await?.ok_or(AppError::NotFound("environment"))
    }

    /// One environment with what it uses.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_environment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
    ) -> Result<Described, AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let id = &environment.record.id;
        let usage = self.look_up::<Usage>(&caller.sight, id.as_str()).await?;
        let usage = usage.map_or_else(|| Usage::none(id.clone()), |usage| usage.record);
        let authority = self.view.read(|state| generations(state, id))?;
        Ok(Described { environment, usage, authority })
    }

    /// The environments that the caller may see, of one organisation or of all, after the one with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_environments(
        &self,
        caller: &Caller,
        organisation: Option<&str>,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Described>, AppError> {
        if caller.actor == Actor::Nobody {
            return Err(AppError::Unauthenticated);
        }
        let of = match organisation {
            Some(text) => {
                let found = self.organisation(caller, Action::SeeOrganisation, text).await?;
                Some(found.record.id)
            }
            None => None,
        };
        let is_listed = |found: &Environment| caller.may_in(Action::SeeEnvironment, found).is_ok();
        self.view.read(|state| {
            let listed = match (&of, &caller.actor) {
                (Some(of), _) => state.owned(of, after, is_listed, len_max)?,
                (None, Actor::User { organisations, operator: false, .. }) => {
                    let mut own = Vec::new();
                    for of in organisations.keys() {
                        own.extend(state.owned(of, after, is_listed, len_max)?);
                    }
                    own.sort_by(|one, other| one.record.id.cmp(&other.record.id));
                    own.truncate(len_max);
                    own
                }
                (None, Actor::Token { environment, .. }) => {
                    let is_later = after.is_none_or(|after| environment.as_str() > after);
                    let own = state.get(environment.as_str())?.filter(|_| is_later);
                    own.into_iter().filter(|own| is_listed(&own.record)).take(len_max).collect()
                }
                // These see none.
                (None, Actor::Host(_)) => Vec::new(),
                (None, _) => state.list_some("", after, is_listed, len_max)?,
            };
            let listed = listed.into_iter();
            listed
                .map(|environment| {
                    let id = &environment.record.id;
                    let usage = state.get::<Usage>(id.as_str())?.map(|usage| usage.record);
                    let usage = usage.unwrap_or_else(|| Usage::none(id.clone()));
                    let authority = generations(state, id)?;
                    Ok(Described { environment, usage, authority })
                })
                .collect()
        })
    }

    /// Sets what an environment does, if it may become so from what it is.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_environment_state(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        change: StateChange,
    ) -> Result<Decoded<Environment>, AppError> {
        let action = match change {
            StateChange::Suspend | StateChange::Resume => Action::SuspendEnvironment,
            StateChange::Delete { .. } => Action::ManageEnvironment,
        };
        let is_operator = caller.may(Action::ManageInstallation, Object::Installation).is_ok();
        transact!(self, {
            let found = self.environment(caller, action, reference).await?;
            let before = &found.record;
            let organisation: Decoded<Organisation> = self
                .read(before.organisation.as_str())
                .await?
                .ok_or(AppError::NotFound("organisation"))?;
            if change == StateChange::Resume && organisation.record.purge.is_some() {
                let problem = "the organisation is being deleted: restore it first";
                return Err(AppError::State(problem.into()));
            }
            let state = match (change, before.state) {
                (StateChange::Suspend | StateChange::Resume, EnvironmentState::Purging) => {
                    return Err(AppError::State("the environment is being deleted".into()));
                }
                (StateChange::Suspend, EnvironmentState::Deleting { .. }) => {
                    return Err(AppError::State("the environment is being deleted".into()));
                }
                (StateChange::Suspend, _) => EnvironmentState::Suspended,
                (StateChange::Resume, EnvironmentState::Deleting { .. })
                    if before.held && !is_operator =>
                {
                    EnvironmentState::Suspended
                }
                (StateChange::Resume, _) if before.held && !is_operator => {
                    let problem = "an operator of the installation suspended it";
                    return Err(AppError::State(problem.into()));
                }
                (StateChange::Resume, _) => EnvironmentState::Active,
                (
                    StateChange::Delete { .. },
                    state @ (EnvironmentState::Deleting { .. } | EnvironmentState::Purging),
                ) => state,
                (StateChange::Delete { grace }, _) => {
                    EnvironmentState::Deleting { purge: self.now().after(grace) }
                }
            };
            let held = match change {
                StateChange::Suspend => before.held || is_operator,
                StateChange::Resume => before.held && !is_operator,
                StateChange::Delete { .. } => before.held,
            };
            if (state, held) == (before.state, before.held) {
                return Ok(Decision::Already(()));
            }
            let after = Environment { state, held, ..before.clone() };
            let transaction = match change {
                StateChange::Resume => keeps(Transaction::new(), &organisation)?,
                StateChange::Suspend | StateChange::Delete { .. } => Transaction::new(),
            };
            let transaction = rests_on(transaction, &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        self.environment(caller, action, reference).await
    }

    /// Sets that an environment goes when the time of grace is over. Who makes that shorter than a day is asked for
    /// more than a session or a token, which may be stolen: nothing brings its key back.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn delete_environment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        grace: Duration,
        proof: Proof,
    ) -> Result<Decoded<Environment>, AppError> {
        // Who may not learns nothing of whether what they show is good.
        self.environment(caller, Action::ManageEnvironment, reference).await?;
        if grace < GRACE_MIN {
            let code = proof.code.clone();
            let by = self.prove_caller(caller, proof).await?;
            transact!(self, {
                let spends = self.caller_proved(&by, &code).await?;
                match &spends.spent {
                    Some(_) => Ok(Decision::Commit(spends.spend()?.1, ())),
                    None => Ok(Decision::Already(())),
                }
            })?;
        }
        self.set_environment_state(caller, reference, StateChange::Delete { grace }).await
    }

    /// Says that a host may have attachments of an environment; whether that is new.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn allow_host(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        host: &HostId,
    ) -> Result<bool, AppError> {
        transact!(self, {
            let found = self.environment(caller, Action::BindHosts, reference).await?;
            let known: Decoded<Host> =
                self.read(host.as_str()).await?.ok_or(AppError::NotFound("host"))?;
            let environment = found.record.id.clone();
            let binding = Binding { environment, host: host.clone(), created: self.now() };
            if self.read::<Binding>(&binding.path()).await?.is_some() {
                return Ok(Decision::Already(false));
            }
            let transaction = rests_on(Transaction::new(), &found)?
                .present(known.record.key()?)
                .absent(binding.key()?)
                .put(binding.key()?, binding.encode()?);
            Ok(Decision::Commit(transaction, true))
        })
    }

    /// Takes that back. Attachments that rest on it go as well if that is asked for; returns how many.
    ///
    /// # Errors
    /// [`AppError::State`] while attachments rest on it that are to stay.
    pub async fn deny_host(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        host: &HostId,
        remove_attachments: bool,
    ) -> Result<u32, AppError> {
        let mut removed = 0;
        transact!(self, {
            let known = loop {
                let found = self.environment(caller, Action::BindHosts, reference).await?;
                let known = self.known(found).await?;
                let path = known.path("");
                let all =
                    self.view.read(|state| state.list::<Attachment>(&path, None, usize::MAX))?;
                let rests = all.into_iter().map(|attachment| attachment.record);
                let rests: Vec<_> =
                    rests.filter(|a| a.host == *host && a.basis == Basis::Binding).collect();
                let Some(attachment) = rests.first() else { break known };
                if !remove_attachments {
                    let problem = format!("{} attachments rest on it", rests.len());
                    return Err(AppError::State(problem));
                }
                self.remove_attachment(&known.environment.record.id, &attachment.name).await?;
                removed += 1;
            };
            let binding: Option<Decoded<Binding>> = self.read(&known.path(host.as_str())).await?;
            let Some(binding) = binding else { return Ok(Decision::Already(())) };
            // Whoever attaches at the same time rests on the binding, and changes the usage.
            let transaction = rests_on(Transaction::new(), &binding)?;
            let transaction = match &known.usage {
                Some(usage) => rests_on(transaction, usage)?,
                None => transaction.absent(Usage::key_at(known.environment.record.id.as_str())?),
            };
            Ok(Decision::Commit(transaction.delete(binding.record.key()?), ()))
        })?;
        Ok(removed)
    }

    /// Hosts that may have attachments of an environment, after this one.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_allowed_hosts(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<HostId>, AppError> {
        let found = self.environment(caller, Action::BindHosts, reference).await?;
        let path = format!("{}/", found.record.id);
        let after = after.map(|after| format!("{path}{after}"));
        let listed =
            self.view.read(|state| state.list::<Binding>(&path, after.as_deref(), len_max))?;
        Ok(listed.into_iter().map(|binding| binding.record.host).collect())
    }

    /// Changes what an environment may use.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_quotas(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        quotas: Quotas,
    ) -> Result<Decoded<Environment>, AppError> {
        transact!(self, {
            let found = self.environment(caller, Action::ManageInstallation, reference).await?;
            if found.record.quotas == quotas {
                return Ok(Decision::Already(()));
            }
            let after = Environment { quotas, ..found.record.clone() };
            let transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        self.environment(caller, Action::ManageInstallation, reference).await
    }
}

/// What an environment is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// Its traffic stops.
    Suspend,
    /// Its traffic flows.
    Resume,
    /// Its traffic stops, and everything of it goes.
    Delete {
        /// After this time.
        grace: Duration,
    },
}

/// Only if the organisation is as it was read, and whoever decides at the same time that it goes decides anew: what is
/// made in it, or restored, is to stay.
fn keeps(
    transaction: Transaction,
    organisation: &Decoded<Organisation>,
) -> Result<Transaction, AppError> {
    let record = &organisation.record;
    Ok(rests_on(transaction, organisation)?.put(record.key()?, record.encode()?))
}

/// Only if the record is as it was read.
pub(super) fn rests_on<R: Record>(
    mut transaction: Transaction,
    on: &Decoded<R>,
) -> Result<Transaction, AppError> {
    let condition = weft_store::Condition::At(on.record.key()?, on.modified);
    transaction.conditions.push(condition);
    Ok(transaction)
}
