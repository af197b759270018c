//! Who is in an organisation: that it always has an owner, whoever decides at the same time.
//!
//! ```text
//!   invite ──▶ invitation ──▶ join ──▶ membership ──▶ set_role, remove
//!      │           │            │                        │
//!      └───────────┴────────────┴──── Roster ────────────┘   rested on and written by each of them
//! ```
//!
//! What is decided here says what the organisation allows. Whether who asks may ask for it is for `access` to say.

use weft_store::{Condition, Transaction, Write};
use weft_types::EnvironmentId;

use crate::{
    access::{EnvironmentRole, OrganisationRole},
    placement::Decision,
    record::{
        Decoded, Environment, EnvironmentState, Invitation, InvitedTo, Membership, Organisation,
        Record, RecordError, Roster, UnixMs, User,
    },
};

/// Most people of an organisation.
pub const PEOPLE_MAX: u32 = 10_000;
/// Most invitations of an organisation that are not accepted yet.
pub const INVITATIONS_MAX: u32 = 100;
/// Most environments in which one person has a role of its own: some 50 bytes each, a fifth of a store's longest value.
pub const ENVIRONMENT_ROLES_MAX: usize = 1_000;

/// Why there is no such decision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeopleError {
    /// Somebody has to be able to do everything.
    #[error("this is the last owner; make another one first")]
    LastOwner,
    /// The invitation is for somebody else, is over, or who made it may not invite any more.
    #[error("no such invitation")]
    NoInvitation,
    /// Nobody comes into it any more.
    #[error("the organisation is being deleted")]
    Going,
    /// There are as many as there may be.
    #[error("{0}")]
    Limit(String),
    /// Nothing is changed in this environment.
    #[error("the environment is being deleted")]
    Deleting,
    /// What is stored is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The organisation that a decision is about.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// It.
    pub organisation: &'a Decoded<Organisation>,
    /// How many are in it.
    pub roster: &'a Decoded<Roster>,
}

/// A change in the making; it rests on everything that it is made from.
#[derive(Debug)]
struct Change {
    transaction: Transaction,
    roster: Roster,
}

impl Change {
    fn new(held: Held<'_>) -> Result<Self, PeopleError> {
        let roster = held.roster.record.clone();
        let mut change = Self { transaction: Transaction::new(), roster };
        change.rests_on(held.roster)?;
        change.rests_on(held.organisation)?;
        Ok(change)
    }

    fn rests_on<R: Record>(&mut self, found: &Decoded<R>) -> Result<(), PeopleError> {
        self.transaction.conditions.push(Condition::At(found.record.key()?, found.modified));
        Ok(())
    }

    fn put(&mut self, record: &impl Record) -> Result<(), PeopleError> {
        let (key, value) = (record.key()?, record.encode()?.into());
        self.transaction.writes.push(Write::Put { key, value, lease: None });
        Ok(())
    }

    fn delete(&mut self, record: &impl Record) -> Result<(), PeopleError> {
        self.transaction.writes.push(Write::Delete(record.key()?));
        Ok(())
    }

    /// Invitations are worth nothing any more.
    fn withdraw(&mut self, all: &[Decoded<Invitation>]) -> Result<(), PeopleError> {
        for invitation in all {
            self.rests_on(invitation)?;
            self.delete(&invitation.record)?;
            self.roster.invitations = self.roster.invitations.saturating_sub(1);
        }
        Ok(())
    }

    /// Somebody who had one role, or none, has another one, or none.
    fn count(
        &mut self,
        before: Option<OrganisationRole>,
        after: Option<OrganisationRole>,
    ) -> Result<(), PeopleError> {
        let owns =
            |role: Option<OrganisationRole>| u32::from(role == Some(OrganisationRole::Owner));
        let Roster { owners, people, .. } = &mut self.roster;
        *owners = (*owners + owns(after)).saturating_sub(owns(before));
        *people =
            (*people + u32::from(after.is_some())).saturating_sub(u32::from(before.is_some()));
        if owns(before) > owns(after) && *owners == 0 {
            return Err(PeopleError::LastOwner);
        }
        if after.is_some() && before.is_none() && *people > PEOPLE_MAX {
            let problem = format!("the organisation's limit of {PEOPLE_MAX} people is reached");
            return Err(PeopleError::Limit(problem));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Transaction, PeopleError> {
        let roster = self.roster.clone();
        self.put(&roster)?;
        Ok(self.transaction)
    }
}

/// An invitation is made, in the place of those to the same address: of these there is one at a time.
///
/// # Errors
/// [`PeopleError::Limit`], [`PeopleError::Going`].
pub fn invite(
    held: Held<'_>,
    invitation: &Invitation,
    replaced: &[Decoded<Invitation>],
) -> Result<Transaction, PeopleError> {
    if held.organisation.record.purge.is_some() {
        return Err(PeopleError::Going);
    }
    let mut change = Change::new(held)?;
    change.withdraw(replaced)?;
    change.roster.invitations += 1;
    if change.roster.invitations > INVITATIONS_MAX {
        let problem = format!(
            "the organisation's limit of {INVITATIONS_MAX} invitations is reached: revoke some first"
        );
        return Err(PeopleError::Limit(problem));
    }
    change.transaction.conditions.push(Condition::Absent(invitation.key()?));
    change.put(invitation)?;
    change.finish()
}

/// An invitation is taken back, or over.
///
/// # Errors
/// [`PeopleError::Record`].
pub fn withdraw(
    held: Held<'_>,
    invitation: &Decoded<Invitation>,
) -> Result<Transaction, PeopleError> {
    let mut change = Change::new(held)?;
    change.withdraw(std::slice::from_ref(invitation))?;
    change.finish()
}

/// Whether an invitation makes anybody anything now. It does for as long as who made it may invite so: `inviter` is
/// that person's part in the organisation now. Of whoever runs the installation it does until somebody is in the
/// organisation.
#[must_use]
pub fn is_good(
    invitation: &Invitation,
    roster: &Roster,
    inviter: Option<&Membership>,
    now: UnixMs,
) -> bool {
    let InvitedTo::Organisation(organisation, role) = &invitation.to else { return false };
    let may_invite =
        |by: &Membership| by.organisation == *organisation && by.role >= role.least_to_change();
    let is_backed = match &invitation.by {
        None => roster.people == 0,
        Some(by) => inviter.is_some_and(|inviter| inviter.user == *by && may_invite(inviter)),
    };
    is_backed && now < invitation.expires
}

/// What somebody joins with.
#[derive(Debug, Clone, Copy)]
pub struct Joining<'a> {
    /// The invitation.
    pub invitation: &'a Decoded<Invitation>,
    /// The part in the organisation of whoever made it.
    pub inviter: Option<&'a Decoded<Membership>>,
    /// The part of who joins; none yet without.
    pub membership: Option<&'a Decoded<Membership>>,
}

/// Whoever has an invitation is in the organisation, once; who is in it already has the higher of both roles. The
/// transaction says nothing of the person: that is for the caller to add.
///
/// # Errors
/// [`PeopleError`].
pub fn join(
    held: Held<'_>,
    user: &User,
    joining: Joining<'_>,
    now: UnixMs,
) -> Result<Transaction, PeopleError> {
    let Joining { invitation, inviter, membership } = joining;
    let InvitedTo::Organisation(organisation, role) = &invitation.record.to else {
        return Err(PeopleError::NoInvitation);
    };
    let by = inviter.map(|inviter| &inviter.record);
    if held.organisation.record.purge.is_some() {
        return Err(PeopleError::NoInvitation);
    }
    if *organisation != held.organisation.record.id
        || !is_good(&invitation.record, &held.roster.record, by, now)
    {
        return Err(PeopleError::NoInvitation);
    }
    let mut change = Change::new(held)?;
    change.rests_on(invitation)?;
    change.delete(&invitation.record)?;
    change.roster.invitations = change.roster.invitations.saturating_sub(1);
    if let Some(inviter) = inviter {
        change.rests_on(inviter)?;
    }
    let after = match membership {
        Some(found) => Membership { role: found.record.role.max(*role), ..found.record.clone() },
        None => Membership {
            user: user.id.clone(),
            organisation: organisation.clone(),
            role: *role,
            environments: Default::default(),
            created: now,
        },
    };
    match membership {
        // Who invited it may be who joins: its record is in the conditions already.
        Some(found) if inviter.is_none_or(|by| by.record.user != found.record.user) => {
            change.rests_on(found)?;
        }
        Some(_) => {}
        None => change.transaction.conditions.push(Condition::Absent(after.key()?)),
    }
    change.count(membership.map(|found| found.record.role), Some(after.role))?;
    change.put(&after)?;
    change.finish()
}

/// Somebody has another role in the organisation. With a lower one, invitations that they have (`pending`) are worth
/// nothing any more: they would give back what is taken.
///
/// # Errors
/// [`PeopleError::LastOwner`].
pub fn set_role(
    held: Held<'_>,
    membership: &Decoded<Membership>,
    role: OrganisationRole,
    pending: &[Decoded<Invitation>],
) -> Result<Decision<Membership>, PeopleError> {
    let before = &membership.record;
    if before.role == role {
        return Ok(Decision::Already(before.clone()));
    }
    let mut change = Change::new(held)?;
    change.rests_on(membership)?;
    change.count(Some(before.role), Some(role))?;
    if role < before.role {
        change.withdraw(pending)?;
    }
    let after = Membership { role, ..before.clone() };
    change.put(&after)?;
    Ok(Decision::Commit(change.finish()?, after))
}

/// Somebody is not in the organisation any more, nor in any of its environments, and invitations that they have
/// (`pending`) are worth nothing any more.
///
/// # Errors
/// [`PeopleError::LastOwner`].
pub fn remove(
    held: Held<'_>,
    membership: &Decoded<Membership>,
    pending: &[Decoded<Invitation>],
) -> Result<Transaction, PeopleError> {
    let mut change = Change::new(held)?;
    change.rests_on(membership)?;
    change.count(Some(membership.record.role), None)?;
    change.delete(&membership.record)?;
    change.withdraw(pending)?;
    change.finish()
}

/// Somebody of its organisation has this role in an environment, or none.
///
/// # Errors
/// [`PeopleError`].
pub fn set_environment_role(
    environment: &Decoded<Environment>,
    membership: &Decoded<Membership>,
    role: Option<EnvironmentRole>,
) -> Result<Decision<Membership>, PeopleError> {
    match environment.record.state {
        EnvironmentState::Active | EnvironmentState::Suspended => {}
        EnvironmentState::Deleting { .. } | EnvironmentState::Purging => {
            return Err(PeopleError::Deleting);
        }
    }
    let mut after = membership.record.clone();
    let id = environment.record.id.clone();
    match role {
        Some(role) => after.environments.insert(id, role),
        None => after.environments.remove(&id),
    };
    if after == membership.record {
        return Ok(Decision::Already(after));
    }
    if after.environments.len() > ENVIRONMENT_ROLES_MAX {
        let problem =
            format!("the limit of {ENVIRONMENT_ROLES_MAX} environments of one person is reached");
        return Err(PeopleError::Limit(problem));
    }
    let mut transaction = Transaction::new().put(after.key()?, after.encode()?);
    transaction.conditions = vec![
        Condition::At(environment.record.key()?, environment.modified),
        Condition::At(membership.record.key()?, membership.modified),
    ];
    Ok(Decision::Commit(transaction, after))
}

impl OrganisationRole {
    /// The least role of who makes somebody this, or changes somebody who is.
    #[must_use]
    pub fn least_to_change(self) -> Self {
        match self {
            Self::Member | Self::Admin => Self::Admin,
            Self::Owner => Self::Owner,
        }
    }
}

impl Membership {
    /// As what the person is in an environment of the organisation.
    #[must_use]
    pub fn role_in(&self, environment: &EnvironmentId) -> Option<EnvironmentRole> {
        if self.role >= OrganisationRole::Admin {
            return Some(EnvironmentRole::Admin);
        }
        self.environments.get(environment).copied()
    }
}

#[cfg(test)]
mod tests;
