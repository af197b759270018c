//! Who may do what.
//!
//! An actor is who a certificate, a session or a token speaks for. What it may do with an object follows from its
//! roles alone. Whoever may not see an object is told what is told of one that is not there; whoever may see it, and
//! may not do what it asks, is told that.
//!
//! | | what is done | who |
//! |---|---|---|
//! | installation | hosts, bindings, quotas, organisations | operators |
//! | organisation | see it | its people |
//! | | people, tokens, environments, its audit | its owners and admins |
//! | | delete it, make owners | its owners |
//! | environment | see it, its attachments, services, policy | its viewers, deployers, admins |
//! | | attach, release, services, roles, secrets (write, destroy; their names) | its deployers, admins |
//! | | policy, suspend, delete, secrets (read), its audit | its admins |
//! | | people, everybody's tokens | its admins who are people |
//! | | tokens of at most one's own role | its people |
//!
//! Owners and admins of an organisation are admins of its environments. Operators see that environments exist and can
//! suspend them; what is in them (secrets, policy) is not theirs. No token gives rights to anybody, so none is worth
//! anything for longer than it was made for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_types::{EnvironmentId, HostId};

use crate::id::{OrganisationId, TokenId, UserId};

/// A person's part in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganisationRole {
    /// Sees it; has roles in some of its environments.
    Member,
    /// Everything but deleting it and making owners.
    Admin,
    /// Everything.
    Owner,
}

/// A person's or token's part in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentRole {
    /// Sees what there is, but no secrets.
    Viewer,
    /// Changes what runs.
    Deployer,
    /// Changes everything.
    Admin,
}

/// A part of the platform, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Gives grants and reads what there is to place.
    Scheduler,
    /// Terminates TLS for environments.
    Edge,
    /// Takes pushes.
    Git,
    /// Keeps images.
    Registry,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Nobody has shown who it is.
    Nobody,
    /// A person.
    User {
        /// Who.
        id: UserId,
        /// Whether the installation is theirs to run.
        operator: bool,
        /// Their part in organisations.
        organisations: BTreeMap<OrganisationId, OrganisationRole>,
        /// Their part in environments.
        environments: BTreeMap<EnvironmentId, EnvironmentRole>,
    },
    /// A token for a machine; it has one role in one environment.
    Token {
        /// Which.
        id: TokenId,
        /// Where.
        environment: EnvironmentId,
        /// As what.
        role: EnvironmentRole,
    },
    /// A host, by its certificate.
    Host(HostId),
    /// A part of the platform, by its certificate.
    Component(Component),
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// The installation.
    Installation,
    /// An organisation.
    Organisation(&'a OrganisationId),
    /// An environment, with whose it is.
    Environment(&'a EnvironmentId, &'a OrganisationId),
    /// A host.
    Host(&'a HostId),
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What is asked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action { $($(#[$doc])* $name),+ }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

actions! {
    /// See hosts, join tokens, bindings; of the installation or one host.
    SeeHosts,
    /// Make join tokens, cordon, drain, revoke, label.
    ManageHosts,
    /// Say which host may have attachments of an environment.
    BindHosts,
    /// Make organisations and people; change quotas; lift lockouts.
    ManageInstallation,
    /// Read the whole audit.
    ReadAllAudit,
    /// See an organisation.
    SeeOrganisation,
    /// Its people, invitations, tokens; make environments.
    ManageOrganisation,
    /// Delete it, make owners.
    OwnOrganisation,
    /// Read what was done in it.
    ReadOrganisationAudit,
    /// See an environment, its attachments and services.
    SeeEnvironment,
    /// Attach, move, release, reserve; register services, roles, what is out of service.
    Deploy,
    /// See which secrets there are, without any value.
    SeeSecrets,
    /// Write and destroy secrets, without reading any.
    WriteSecrets,
    /// Read secrets.
    ReadSecrets,
    /// Its policy, certificates, life.
    ManageEnvironment,
    /// Who has which role in it; everybody's tokens.
    ManagePeople,
    /// Make tokens for machines, see and revoke one's own.
    MakeTokens,
    /// Stop and resume its traffic.
    SuspendEnvironment,
    /// Read what was done in it.
    ReadEnvironmentAudit,
    /// Give grants and take them back.
    Grant,
    /// Be the host: watch what it has to know, ask for leaves, report.
    ActAsHost,
    /// Ask who a password, key or token speaks for.
    Authenticate,
}

/// What the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Allowed,
    /// It may see the object, and not do this.
    Refused,
    /// As if the object were not there.
    Hidden,
}

impl Actor {
    /// Whether it may do this.
    #[must_use]
    pub fn access(&self, action: Action, object: Object<'_>) -> Access {
        if self.may(action, object) {
            Access::Allowed
        } else if self.sees(object) {
            Access::Refused
        } else {
            Access::Hidden
        }
    }

    /// As what it acts in an environment of this organisation.
    #[must_use]
    pub fn role_in(
        &self,
        environment: &EnvironmentId,
        organisation: &OrganisationId,
    ) -> Option<EnvironmentRole> {
        match self {
            Self::User { organisations, environments, .. } => {
                let part = organisations.get(organisation);
                let as_admin = part.filter(|role| **role >= OrganisationRole::Admin);
                let own = environments.get(environment).copied();
                as_admin.map(|_| EnvironmentRole::Admin).or(own)
            }
            Self::Token { environment: its, role, .. } => (its == environment).then_some(*role),
            Self::Nobody | Self::Host(_) | Self::Component(_) => None,
        }
    }

    /// Whether it is told that an object is there.
    fn sees(&self, object: Object<'_>) -> bool {
        match object {
            // That there is an installation is known to whoever asks it.
            Object::Installation => true,
            Object::Organisation(_) => self.may(Action::SeeOrganisation, object),
            Object::Environment(..) => self.may(Action::SeeEnvironment, object),
            Object::Host(_) => self.may(Action::SeeHosts, object),
        }
    }

    fn may(&self, action: Action, object: Object<'_>) -> bool {
        match (self, object) {
            (Self::Nobody, _) => false,
            (Self::User { operator, .. }, Object::Installation | Object::Host(_)) => {
                *operator && of_operator(action)
            }
            (Self::User { operator, organisations, .. }, Object::Organisation(id)) => {
                let role = organisations.get(id);
                role.is_some_and(|role| role.may(action))
                    || *operator
                        && matches!(action, Action::SeeOrganisation | Action::ManageInstallation)
            }
            (
                Self::User { operator, organisations, environments, .. },
                Object::Environment(id, organisation),
            ) => {
                let as_admin = organisations.get(organisation).is_some_and(|role| {
                    *role >= OrganisationRole::Admin && EnvironmentRole::Admin.may(action)
                });
                let in_it = environments.get(id).is_some_and(|role| role.may(action));
                as_admin || in_it || *operator && of_operator_in_environments(action)
            }
            (Self::Token { environment, role, .. }, Object::Environment(id, _)) => {
                environment == id && role.may(action) && !of_people(action)
            }
            (Self::Token { .. }, _) => false,
            (Self::Host(host), Object::Host(id)) => host == id && action == Action::ActAsHost,
            (Self::Host(_), _) => false,
            (Self::Component(component), object) => component.may(action, object),
        }
    }
}

/// What people alone may.
fn of_people(action: Action) -> bool {
    matches!(action, Action::ManagePeople | Action::MakeTokens)
}

fn of_operator(action: Action) -> bool {
    matches!(
        action,
        Action::SeeHosts | Action::ManageHosts | Action::ManageInstallation | Action::ReadAllAudit
    )
}

fn of_operator_in_environments(action: Action) -> bool {
    matches!(
        action,
        Action::SeeEnvironment
            | Action::BindHosts
            | Action::ManageInstallation
            | Action::SuspendEnvironment
    )
}

impl OrganisationRole {
    fn may(self, action: Action) -> bool {
        let least = match action {
            Action::SeeOrganisation => Self::Member,
            Action::ManageOrganisation | Action::ReadOrganisationAudit => Self::Admin,
            Action::OwnOrganisation => Self::Owner,
            _ => return false,
        };
        self >= least
    }
}

impl EnvironmentRole {
    fn may(self, action: Action) -> bool {
        let least = match action {
            Action::SeeEnvironment | Action::MakeTokens => Self::Viewer,
            Action::Deploy | Action::SeeSecrets | Action::WriteSecrets => Self::Deployer,
            Action::ReadSecrets
            | Action::ManageEnvironment
            | Action::ManagePeople
            | Action::SuspendEnvironment
            | Action::ReadEnvironmentAudit => Self::Admin,
            _ => return false,
        };
        self >= least
    }
}

impl Component {
    fn may(self, action: Action, object: Object<'_>) -> bool {
        match (self, object) {
            (Self::Scheduler, Object::Environment(..)) => {
                matches!(action, Action::SeeEnvironment | Action::Grant | Action::Deploy)
            }
            (Self::Scheduler, Object::Installation | Object::Host(_)) => action == Action::SeeHosts,
            (Self::Edge, Object::Environment(..)) => action == Action::SeeEnvironment,
            (_, Object::Installation) => action == Action::Authenticate,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
