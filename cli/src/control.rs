//! `weft login`, `weft account`, `weft user`, `weft org`, `weft member`, `weft token`, `weft ssh-key`, `weft host`, `weft env`, `weft attachment`, `weft policy`, `weft service`, `weft secret`,
//! `weft audit`: what the control plane is asked.
//!
//! Everything here is one call of the control API; nothing is decided on this side. What is shown is made of one
//! description of the answer ([`show::Item`]), as a table for people and as JSON for programs.

mod account;
mod attachment;
mod audit;
mod call;
mod context;
mod environment;
mod host;
mod line;
mod member;
mod policy;
mod secret;
mod service;
mod session;
mod show;
mod ssh_key;
mod token;

use std::{future::Future, io};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use self::{call::Connection, context::Context, show::Shown};

/// What is asked of the control plane.
#[derive(Subcommand)]
pub(crate) enum ControlCommand {
    /// Begin a session with a control plane
    Login(session::Login),
    /// End the session
    Logout,
    /// Show who you are and what you may do
    Whoami(Output),
    /// Become a person of an organisation, or an operator, with an invitation
    Accept(session::Accept),
    /// Accept an invitation with the account that you are logged in to
    Join(member::Join),
    /// Your account: password, sessions, second factor
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Accounts of others, for operators
    #[command(subcommand)]
    User(account::UserCommand),
    /// Organisations
    #[command(subcommand)]
    Org(session::OrgCommand),
    /// Who is in an organisation: roles, invitations
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Tokens with which programs do what a person may
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Your SSH keys
    #[command(subcommand)]
    SshKey(ssh_key::SshKeyCommand),
    /// Hosts: tokens to join with, states
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Environments: their making, life, hosts
    #[command(subcommand)]
    Env(environment::EnvCommand),
    /// Attachments of environments, and slots with addresses
    #[command(subcommand)]
    Attachment(attachment::AttachmentCommand),
    /// Who may talk to whom inside an environment
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Services of environments: ports, roles, what is out of service
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Secrets of environments
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// What was done, by whom, and whether the log of it is what was written
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Write JSON for programs
    #[arg(long)]
    json: bool,
}

/// Runs one command and writes its result to standard output.
///
/// # Errors
/// A sentence that says what is wrong and, where possible, what to do.
pub(crate) fn run(command: ControlCommand) -> Result<()> {
    match command {
        ControlCommand::Login(login) => with_runtime(session::login(login)),
        ControlCommand::Accept(accept) => with_runtime(session::accept(accept)),
        ControlCommand::Logout => asked(Output { json: false }, session::logout),
        ControlCommand::Whoami(output) => asked(output, session::whoami),
        ControlCommand::Join(join) => asked(join.output, |c| member::join(c, join)),
        ControlCommand::Member(command) => asked(command.output(), |c| member::run(c, command)),
        ControlCommand::Token(command) => asked(command.output(), |c| token::run(c, command)),
        ControlCommand::SshKey(command) => asked(command.output(), |c| ssh_key::run(c, command)),
        ControlCommand::Account(command) => asked(command.output(), |c| account::own(c, command)),
        ControlCommand::User(command) => asked(command.output(), |c| account::others(c, command)),
        ControlCommand::Org(command) => asked(command.output(), |c| session::org(c, command)),
        ControlCommand::Host(command) => asked(command.output(), |c| host::run(c, command)),
        ControlCommand::Env(command) => asked(command.output(), |c| environment::run(c, command)),
        ControlCommand::Attachment(command) => {
            asked(command.output(), |c| attachment::run(c, command))
        }
        ControlCommand::Policy(command) => asked(command.output(), |c| policy::run(c, command)),
        ControlCommand::Service(command) => asked(command.output(), |c| service::run(c, command)),
        ControlCommand::Secret(command) => asked(command.output(), |c| secret::run(c, command)),
        ControlCommand::Audit(command) => match command.folder() {
            Some(verified) => verified?.write(command.output().json, &mut io::stdout().lock()),
            None => asked(command.output(), |c| audit::run(c, command)),
        },
    }
}

/// Asks in the session that there is, and shows the answer.
fn asked<F: Future<Output = Result<Shown>>>(
    output: Output,
    ask: impl FnOnce(Connection) -> F,
) -> Result<()> {
    let context = Context::load()?;
    let shown = with_runtime(async { ask(Connection::open(&context).await?).await })?;
    shown.write(output.json, &mut io::stdout().lock())
}

fn with_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(work)
}
