//! Sessions, people, organisations.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use weft_control_api::v1::{
    self, organisations_client::OrganisationsClient, sessions_client::SessionsClient,
    who_am_i_response::Actor,
};

use super::{
    Output,
    call::{Connection, answer},
    context::Context,
    member::{environment_role, organisation_role},
    show::{Item, Shown},
};

/// Where a control plane is, and by what it is known.
#[derive(Debug, Args)]
struct Server {
    /// The control plane
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// Certificate of the installation's authority (weft-control authority prints it)
    #[arg(long, value_name = "FILE")]
    authority: PathBuf,
}

impl Server {
    fn authority(&self) -> Result<String> {
        let path = &self.authority;
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    #[command(flatten)]
    server: Server,
    /// Who you are
    #[arg(long, required_unless_present = "token_file")]
    email: Option<String>,
    /// File with the password; asked for without
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A code of your second factor, or a recovery code; asked for without, where the password is
    #[arg(long)]
    code: Option<String>,
    /// File with a token (weft token create) instead of a person's password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["email", "password_file", "code"])]
    token_file: Option<PathBuf>,
}

/// What is asked for beside the session, where something outlasts it.
#[derive(Debug, Args)]
pub(crate) struct Proof {
    /// File with your password; asked for without
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A code of your second factor, or a recovery code; asked for without, where the password is
    #[arg(long)]
    code: Option<String>,
}

impl Proof {
    /// Password and code.
    pub(super) fn show(self) -> Result<(String, String)> {
        let password = password(self.password_file.as_deref())?;
        Ok((password, asked_code(self.code, self.password_file.as_deref())?))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Accept {
    #[command(flatten)]
    server: Server,
    /// File with the invitation
    #[arg(long, value_name = "FILE")]
    invitation_file: PathBuf,
    /// What people call you
    #[arg(long)]
    name: String,
    /// File with the password that you choose; asked for without
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrgCommand {
    /// Make an organisation and an invitation for its first owner
    Create {
        /// Its name, a DNS label
        name: String,
        /// E-mail address of its first owner
        #[arg(long)]
        owner: String,
        #[command(flatten)]
        output: Output,
    },
    /// List the organisations that you may see
    List(Output),
    /// Give one another name
    Rename {
        /// Its name or id
        organisation: String,
        /// Its new name, a DNS label
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Change what one may use (operators); what it has stays
    SetQuotas {
        /// Its name or id
        organisation: String,
        /// Most environments that it may have, 1 to 1024, those that are being deleted among them
        #[arg(long, value_name = "COUNT")]
        environments: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Remove one after a time of grace, when all of its environments are gone
    Delete {
        /// Its name or id
        organisation: String,
        /// Seconds until it goes at the earliest
        #[arg(long, default_value_t = 604_800)]
        grace_seconds: u32,
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
        /// Its name again, so that it is not another one by mistake
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Take a deletion back
    Restore {
        /// Its name or id
        organisation: String,
        #[command(flatten)]
        output: Output,
    },
}

impl OrgCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Create { output, .. }
            | Self::List(output)
            | Self::Rename { output, .. }
            | Self::SetQuotas { output, .. }
            | Self::Delete { output, .. }
            | Self::Restore { output, .. } => *output,
        }
    }
}

pub(super) fn secret(path: &Path) -> Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) fn password(file: Option<&Path>) -> Result<String> {
    asked_password(file, "Password: ")
}

/// From a file, or from whoever sits there.
pub(super) fn asked_password(file: Option<&Path>, prompt: &str) -> Result<String> {
    match file {
        Some(path) => secret(path),
        None => rpassword::prompt_password(prompt).context("cannot ask for the password"),
    }
}

/// As it was given; from whoever sits there, where the password is from there.
fn asked_code(given: Option<String>, password_file: Option<&Path>) -> Result<String> {
    match given {
        Some(code) => Ok(code),
        None if password_file.is_some() => Ok(String::new()),
        None => rpassword::prompt_password("Code, if you have a second factor: ")
            .context("cannot ask for the code"),
    }
}

/// Begins a session and keeps it.
pub(super) async fn login(login: Login) -> Result<()> {
    let authority = login.server.authority()?;
    if let Some(file) = &login.token_file {
        let context = Context { server: login.server.server, authority, token: secret(file)? };
        return with_token(&context).await;
    }
    let password = password(login.password_file.as_deref())?;
    let connection = Connection::anonymous(&login.server.server, &authority).await?;
    let mut sessions = SessionsClient::new(connection.channel());
    let email = login.email.unwrap_or_default();
    let code = asked_code(login.code, login.password_file.as_deref())?;
    let request = v1::LoginRequest { email, password, code };
    let begun = sessions.login(connection.request(request)).await;
    // What to do about a refusal is known to who logs in.
    let begun =
        begun.map_err(|status| anyhow::anyhow!("the control plane refused: {}", status.message()));
    let begun = begun?.into_inner();
    Context { server: login.server.server, authority, token: begun.token }.save()?;
    println!("logged in as {}", begun.user.unwrap_or_default().email);
    Ok(())
}

/// Keeps a token as if it were a session.
async fn with_token(context: &Context) -> Result<()> {
    let connection = Connection::open(context).await?;
    let mut sessions = SessionsClient::new(connection.channel());
    let who = sessions.who_am_i(connection.request(v1::WhoAmIRequest {})).await;
    let who = who.map_err(|status| anyhow::anyhow!("the token: {}", status.message()))?;
    let Some(Actor::Token(id)) = who.into_inner().actor else { bail!("this is no token") };
    context.save()?;
    println!("logged in as {id}");
    Ok(())
}

/// Makes a person.
pub(super) async fn accept(accept: Accept) -> Result<()> {
    let authority = accept.server.authority()?;
    let secret = secret(&accept.invitation_file)?;
    let password = password(accept.password_file.as_deref())?;
    let connection = Connection::anonymous(&accept.server.server, &authority).await?;
    let mut sessions = SessionsClient::new(connection.channel());
    let request = v1::AcceptInvitationRequest { secret, name: accept.name, password };
    let made = answer(sessions.accept_invitation(connection.request(request)).await)
        .context("not accepted (who has an account logs in and uses weft join)")?;
    println!("{} has an account; use weft login", made.email);
    Ok(())
}

pub(super) async fn logout(connection: Connection) -> Result<Shown> {
    let mut sessions = SessionsClient::new(connection.channel());
    answer(sessions.logout(connection.request(v1::LogoutRequest {})).await)?;
    Context::forget()?;
    Ok(Shown::Done("logged out".to_owned(), Item::new()))
}

pub(super) async fn whoami(connection: Connection) -> Result<Shown> {
    let mut sessions = SessionsClient::new(connection.channel());
    let who = answer(sessions.who_am_i(connection.request(v1::WhoAmIRequest {})).await)?;
    let organisations: Vec<String> = who
        .organisations
        .iter()
        .map(|of| format!("{} ({})", of.organisation, organisation_role(of.role())))
        .collect();
    let environments: Vec<String> = who
        .environments
        .iter()
        .map(|of| format!("{} ({})", of.environment, environment_role(of.role())))
        .collect();
    let item = match who.actor {
        Some(Actor::User(user)) => Item::new()
            .with("user", user.id)
            .with("email", user.email)
            .with("name", user.name)
            .with("is_operator", user.is_operator),
        Some(Actor::Token(id)) => Item::new().with("token", id),
        Some(Actor::Host(id)) => Item::new().with("host", id),
        Some(Actor::Component(name)) => Item::new().with("component", name),
        None => Item::new(),
    };
    Ok(Shown::One(item.with("organisations", organisations).with("environments", environments)))
}

/// The protocol's name of a value as a word: `HOST_STATE_ACTIVE` is `active`.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn organisation_item(organisation: v1::Organisation) -> Item {
    Item::new()
        .with("id", organisation.id)
        .with("name", organisation.name)
        .with("environments_max", organisation.environments_max)
        .with("created_ms", organisation.created_ms)
        .with_some("purge_ms", organisation.purge_ms)
}

pub(super) async fn org(connection: Connection, command: OrgCommand) -> Result<Shown> {
    let mut organisations = OrganisationsClient::new(connection.channel());
    match command {
        OrgCommand::Create { name, owner, .. } => {
            let request = v1::CreateOrganisationRequest { name, owner_email: owner.clone() };
            let made =
                answer(organisations.create_organisation(connection.request(request)).await)?;
            let organisation = made.organisation.unwrap_or_default();
            let sentence = format!(
                "organisation {} is made; invitation for {owner}:\n{}",
                organisation.name, made.invitation
            );
            let item = Item::new()
                .with("id", organisation.id)
                .with("name", organisation.name)
                .with("invitation", made.invitation);
            Ok(Shown::Done(sentence, item))
        }
        OrgCommand::Rename { organisation, name, .. } => {
            let request = v1::RenameOrganisationRequest { organisation, name };
            let renamed =
                answer(organisations.rename_organisation(connection.request(request)).await)?;
            let sentence = format!("the organisation is {} now", renamed.name);
            Ok(Shown::Done(sentence, organisation_item(renamed)))
        }
        OrgCommand::SetQuotas { organisation, environments, .. } => {
            let environments_max = environments;
            let request = v1::SetOrganisationQuotasRequest { organisation, environments_max };
            let set =
                answer(organisations.set_organisation_quotas(connection.request(request)).await)?;
            let sentence =
                format!("organisation {} may have {} environments", set.name, set.environments_max);
            Ok(Shown::Done(sentence, organisation_item(set)))
        }
        OrgCommand::Delete { organisation, grace_seconds, dry_run, confirm, .. } => {
            let get = v1::GetOrganisationRequest { organisation };
            let found = answer(organisations.get_organisation(connection.request(get)).await)?;
            if dry_run {
                let sentence = format!(
                    "organisation {} ({}) would go in {grace_seconds} s, with its people's roles and its invitations",
                    found.name, found.id
                );
                return Ok(Shown::Done(sentence, organisation_item(found)));
            }
            if confirm.as_deref() != Some(&found.name) {
                bail!(
                    "nothing was done: say --confirm {} to delete it, or --dry-run to see what would go",
                    found.name
                );
            }
            let request = v1::DeleteOrganisationRequest {
                organisation: found.id,
                grace_seconds: Some(grace_seconds),
            };
            let going =
                answer(organisations.delete_organisation(connection.request(request)).await)?;
            let sentence = format!(
                "organisation {} goes in {grace_seconds} s, with its environments or after them; weft org restore takes it back until then",
                going.name
            );
            Ok(Shown::Done(sentence, organisation_item(going)))
        }
        OrgCommand::Restore { organisation, .. } => {
            let request = v1::RestoreOrganisationRequest { organisation };
            let stays =
                answer(organisations.restore_organisation(connection.request(request)).await)?;
            let sentence = format!("organisation {} stays", stays.name);
            Ok(Shown::Done(sentence, organisation_item(stays)))
        }
        OrgCommand::List(_) => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let request = connection.request(v1::ListOrganisationsRequest { page });
                let listed = answer(organisations.list_organisations(request).await)?;
                items.extend(listed.organisations.into_iter().map(organisation_item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no organisations" });
                }
            }
        }
    }
}
