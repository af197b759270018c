//! Members of organisations, and roles in environments.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use weft_control_api::v1::{self, members_client::MembersClient, sessions_client::SessionsClient};

use super::{
    Output,
    call::{Connection, answer},
    environment::name,
    session::{secret, word},
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List who is in an organisation
    List(Of),
    /// Invite somebody; prints what they accept it with, once
    Invite {
        /// The organisation, by name or id
        organisation: String,
        /// E-mail address
        email: String,
        /// As what
        #[arg(long, default_value = "member")]
        role: Role,
        #[command(flatten)]
        output: Output,
    },
    /// List invitations that are not accepted yet
    Invitations(Of),
    /// Take an invitation back
    RevokeInvitation {
        /// The organisation, by name or id
        organisation: String,
        /// The invitation, tok-…
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Give somebody another role
    SetRole {
        /// The organisation, by name or id
        organisation: String,
        /// Who, usr-… or e-mail address
        user: String,
        /// As what
        role: Role,
        #[command(flatten)]
        output: Output,
    },
    /// Remove somebody from an organisation and its environments, or leave it
    Remove {
        /// The organisation, by name or id
        organisation: String,
        /// Who, usr-… or e-mail address
        user: String,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The organisation, by name or id
    organisation: String,
    #[command(flatten)]
    output: Output,
}

/// Of somebody in an environment.
#[derive(Debug, Args)]
pub(crate) struct OfMember {
    /// Its id, or ORGANISATION/NAME
    pub(super) environment: String,
    /// Who, usr-… or e-mail address
    pub(super) user: String,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// File with the invitation
    #[arg(long, value_name = "FILE")]
    invitation_file: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// See it, with roles in some of its environments
    Member,
    /// Everything but deleting it and making owners
    Admin,
    /// Everything
    Owner,
}

/// A role in an environment.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EnvironmentRole {
    /// See what there is, but no secrets
    Viewer,
    /// Change what runs
    Deployer,
    /// Change everything
    Admin,
}

impl Role {
    fn message(self) -> v1::OrganisationRole {
        match self {
            Self::Member => v1::OrganisationRole::Member,
            Self::Admin => v1::OrganisationRole::Admin,
            Self::Owner => v1::OrganisationRole::Owner,
        }
    }
}

impl EnvironmentRole {
    pub(super) fn message(self) -> v1::EnvironmentRole {
        match self {
            Self::Viewer => v1::EnvironmentRole::Viewer,
            Self::Deployer => v1::EnvironmentRole::Deployer,
            Self::Admin => v1::EnvironmentRole::Admin,
        }
    }
}

impl MemberCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::List(Of { output, .. })
            | Self::Invite { output, .. }
            | Self::Invitations(Of { output, .. })
            | Self::RevokeInvitation { output, .. }
            | Self::SetRole { output, .. }
            | Self::Remove { output, .. } => *output,
        }
    }
}

pub(super) fn organisation_role(role: v1::OrganisationRole) -> String {
    word(role.as_str_name(), "ORGANISATION_ROLE_")
}

pub(super) fn environment_role(role: v1::EnvironmentRole) -> String {
    word(role.as_str_name(), "ENVIRONMENT_ROLE_")
}

fn item(member: v1::Member) -> Item {
    let role = organisation_role(member.role());
    let environments: Vec<String> = member
        .environments
        .iter()
        .map(|of| format!("{} ({})", of.environment, environment_role(of.role())))
        .collect();
    Item::new()
        .with("user", member.user)
        .with("email", member.email)
        .with("name", member.name)
        .with("role", role)
        .with("environments", environments)
}

fn invitation(invitation: v1::Invitation) -> Item {
    let role = organisation_role(invitation.role());
    Item::new()
        .with("id", invitation.id)
        .with("email", invitation.email)
        .with("role", role)
        .with_some("invited_by", invitation.invited_by)
        .with("expires_ms", invitation.expires_ms)
}

pub(super) async fn run(connection: Connection, command: MemberCommand) -> Result<Shown> {
    let mut members = MembersClient::new(connection.channel());
    match command {
        MemberCommand::List(of) => list(&connection, of.organisation).await,
        MemberCommand::Invite { organisation, email, role, .. } => {
            let role = role.message().into();
            let request = v1::InviteMemberRequest { organisation, email: email.clone(), role };
            let made = answer(members.invite_member(connection.request(request)).await)?;
            let sentence = format!("invitation for {email}:\n{}", made.secret);
            let item = invitation(made.invitation.unwrap_or_default());
            Ok(Shown::Done(sentence, item.with("secret", made.secret)))
        }
        MemberCommand::Invitations(of) => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let organisation = of.organisation.clone();
                let request = v1::ListInvitationsRequest { organisation, page };
                let listed = answer(members.list_invitations(connection.request(request)).await)?;
                items.extend(listed.invitations.into_iter().map(invitation));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no invitations" });
                }
            }
        }
        MemberCommand::RevokeInvitation { organisation, id, .. } => {
            let item = Item::new().with("id", id.as_str());
            let sentence = format!("invitation {id} is good for nothing");
            let request = v1::RevokeInvitationRequest { organisation, id };
            answer(members.revoke_invitation(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, item))
        }
        MemberCommand::SetRole { organisation, user, role, .. } => {
            let role = role.message().into();
            let request = v1::SetMemberRoleRequest { organisation, user, role };
            let member = answer(members.set_member_role(connection.request(request)).await)?;
            let sentence = format!("{} is {}", member.email, organisation_role(member.role()));
            Ok(Shown::Done(sentence, item(member)))
        }
        MemberCommand::Remove { organisation, user, dry_run, .. } => {
            let item = Item::new().with("organisation", organisation.as_str());
            let item = item.with("user", user.as_str());
            if dry_run {
                let sentence =
                    format!("{user} would lose every role in {organisation} and its environments");
                return Ok(Shown::Done(sentence, item));
            }
            let sentence = format!("{user} is in {organisation} no more");
            let request = v1::RemoveMemberRequest { organisation, user };
            answer(members.remove_member(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, item))
        }
    }
}

async fn list(connection: &Connection, organisation: String) -> Result<Shown> {
    let mut members = MembersClient::new(connection.channel());
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let request = v1::ListMembersRequest { organisation: organisation.clone(), page };
        let listed = answer(members.list_members(connection.request(request)).await)?;
        items.extend(listed.members.into_iter().map(item));
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(Shown::Many { items, empty: "no members" });
        }
    }
}

fn in_environment(member: v1::EnvironmentMember) -> Item {
    let role = environment_role(member.role());
    Item::new()
        .with("user", member.user)
        .with("email", member.email)
        .with("name", member.name)
        .with("role", role)
        .with("by_organisation", member.by_organisation)
}

/// Who has a role in an environment.
pub(super) async fn list_in(connection: &Connection, environment: String) -> Result<Shown> {
    let mut members = MembersClient::new(connection.channel());
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let environment = name(environment.clone());
        let request = v1::ListEnvironmentMembersRequest { environment, page };
        let listed = answer(members.list_environment_members(connection.request(request)).await)?;
        items.extend(listed.members.into_iter().map(in_environment));
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(Shown::Many { items, empty: "no members" });
        }
    }
}

/// Gives somebody a role in an environment.
pub(super) async fn set_in(
    connection: &Connection,
    of: OfMember,
    role: EnvironmentRole,
) -> Result<Shown> {
    let mut members = MembersClient::new(connection.channel());
    let (environment, role) = (name(of.environment), role.message().into());
    let request = v1::SetEnvironmentRoleRequest { environment, user: of.user, role };
    let member = answer(members.set_environment_role(connection.request(request)).await)?;
    let sentence = format!("{} is {} there", member.email, environment_role(member.role()));
    Ok(Shown::Done(sentence, in_environment(member)))
}

/// Takes it back.
pub(super) async fn remove_in(connection: &Connection, of: OfMember) -> Result<Shown> {
    let mut members = MembersClient::new(connection.channel());
    let item = Item::new().with("user", of.user.as_str());
    let sentence = format!("{} has no role of their own in {}", of.user, of.environment);
    let environment = name(of.environment);
    let request = v1::RemoveEnvironmentRoleRequest { environment, user: of.user };
    answer(members.remove_environment_role(connection.request(request)).await)?;
    Ok(Shown::Done(sentence, item))
}

/// Accepts an invitation in the session that there is.
pub(super) async fn join(connection: Connection, join: Join) -> Result<Shown> {
    let secret = secret(&join.invitation_file)?;
    if secret.is_empty() {
        bail!("{} is empty", join.invitation_file.display());
    }
    let mut sessions = SessionsClient::new(connection.channel());
    let request = v1::JoinByInvitationRequest { secret };
    let user = answer(sessions.join_by_invitation(connection.request(request)).await)?;
    let sentence = format!("the invitation of {} is accepted", user.email);
    Ok(Shown::Done(sentence, Item::new().with("user", user.id)))
}
