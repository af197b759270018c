//! The account of the person who is logged in, and, for operators, those of others.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use weft_control_api::v1::{self, account_client::AccountClient, users_client::UsersClient};

use super::{
    Output,
    call::{Connection, answer},
    session::{Proof, asked_password, password},
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Choose another password; all other sessions end
    Password {
        #[command(flatten)]
        proof: Proof,
        /// File with the new password; asked for without
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// List your sessions
    Sessions(Output),
    /// End one of your sessions
    EndSession {
        /// The session, ses-…
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Make a second factor; prints what an authenticator needs, once
    EnrolSecondFactor {
        /// File with the password; asked for without
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Show that it works: from now on it counts; prints recovery codes, once
    ConfirmSecondFactor {
        /// The code that the authenticator shows
        code: String,
        #[command(flatten)]
        output: Output,
    },
    /// Take your second factor away
    DisableSecondFactor {
        #[command(flatten)]
        proof: Proof,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List who has an account
    List(Output),
    /// Make everything that somebody shows good for nothing
    Suspend(Who),
    /// Make it good again
    Resume(Who),
    /// Look at somebody's next password again, after too many wrong ones
    Unlock(Who),
    /// Remove somebody's account with everything of it
    Remove {
        #[command(flatten)]
        who: Who,
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
        /// Who again, so that it is not another one by mistake
        #[arg(long, value_name = "USER")]
        confirm: Option<String>,
    },
    /// Take somebody's second factor away, who has lost it
    ResetSecondFactor(Who),
}

#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Who, usr-… or e-mail address
    user: String,
    #[command(flatten)]
    output: Output,
}

impl AccountCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Password { output, .. }
            | Self::Sessions(output)
            | Self::EndSession { output, .. }
            | Self::EnrolSecondFactor { output, .. }
            | Self::ConfirmSecondFactor { output, .. }
            | Self::DisableSecondFactor { output, .. } => *output,
        }
    }
}

impl UserCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::List(output)
            | Self::Suspend(Who { output, .. })
            | Self::Resume(Who { output, .. })
            | Self::Unlock(Who { output, .. })
            | Self::Remove { who: Who { output, .. }, .. }
            | Self::ResetSecondFactor(Who { output, .. }) => *output,
        }
    }
}

fn done(sentence: &str) -> Shown {
    Shown::Done(sentence.to_owned(), Item::new())
}

/// What the person who is logged in does with their account.
pub(super) async fn own(connection: Connection, command: AccountCommand) -> Result<Shown> {
    let mut account = AccountClient::new(connection.channel());
    match command {
        AccountCommand::Password { proof, new_password_file, .. } => {
            let (password, code) = proof.show()?;
            let new_password = asked_password(new_password_file.as_deref(), "New password: ")?;
            let request = v1::ChangePasswordRequest { password, code, new_password };
            answer(account.change_password(connection.request(request)).await)?;
            Ok(done("the password is changed; all other sessions are over"))
        }
        AccountCommand::Sessions(_) => {
            let request = connection.request(v1::ListSessionsRequest {});
            let listed = answer(account.list_sessions(request).await)?.sessions.into_iter();
            let items = listed.map(|session| {
                Item::new()
                    .with("id", session.id)
                    .with("created_ms", session.created_ms)
                    .with("expires_ms", session.expires_ms)
                    .with("is_current", session.is_current)
            });
            Ok(Shown::Many { items: items.collect(), empty: "no sessions" })
        }
        AccountCommand::EndSession { id, .. } => {
            let sentence = format!("session {id} is over");
            answer(account.end_session(connection.request(v1::EndSessionRequest { id })).await)?;
            Ok(done(&sentence))
        }
        AccountCommand::EnrolSecondFactor { password_file, .. } => {
            let password = password(password_file.as_deref())?;
            let request = connection.request(v1::EnrolSecondFactorRequest { password });
            let made = answer(account.enrol_second_factor(request).await)?;
            let sentence = format!(
                "{}\n{}\nput it into an authenticator, then use weft account confirm-second-factor",
                made.seed, made.uri
            );
            let item = Item::new().with("seed", made.seed).with("uri", made.uri);
            Ok(Shown::Done(sentence, item))
        }
        AccountCommand::ConfirmSecondFactor { code, .. } => {
            let request = connection.request(v1::ConfirmSecondFactorRequest { code });
            let codes = answer(account.confirm_second_factor(request).await)?.recovery_codes;
            let sentence = format!(
                "logging in needs a code from now on; each of these is good once without:\n{}",
                codes.join("\n")
            );
            Ok(Shown::Done(sentence, Item::new().with("recovery_codes", codes)))
        }
        AccountCommand::DisableSecondFactor { proof, .. } => {
            let (password, code) = proof.show()?;
            let request = v1::DisableSecondFactorRequest { password, code };
            answer(account.disable_second_factor(connection.request(request)).await)?;
            Ok(done("there is no second factor any more"))
        }
    }
}

fn item(account: v1::UserAccount) -> Item {
    let user = account.user.unwrap_or_default();
    Item::new()
        .with("user", user.id)
        .with("email", user.email)
        .with("name", user.name)
        .with("is_operator", user.is_operator)
        .with("suspended", account.suspended)
        .with("has_second_factor", account.has_second_factor)
}

/// What operators do with others' accounts.
pub(super) async fn others(connection: Connection, command: UserCommand) -> Result<Shown> {
    let mut users = UsersClient::new(connection.channel());
    let shown = |sentence: String, account| Ok(Shown::Done(sentence, item(account)));
    match command {
        UserCommand::List(_) => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let request = connection.request(v1::ListUsersRequest { page });
                let listed = answer(users.list_users(request).await)?;
                items.extend(listed.users.into_iter().map(item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no users" });
                }
            }
        }
        UserCommand::Suspend(Who { user, .. }) => {
            let sentence = format!("{user} is suspended");
            let request = connection.request(v1::SuspendUserRequest { user });
            shown(sentence, answer(users.suspend_user(request).await)?)
        }
        UserCommand::Resume(Who { user, .. }) => {
            let sentence = format!("{user} may log in again");
            let request = connection.request(v1::ResumeUserRequest { user });
            shown(sentence, answer(users.resume_user(request).await)?)
        }
        UserCommand::Unlock(Who { user, .. }) => {
            let sentence = format!("wrong passwords for {user} of before count no more");
            let request = connection.request(v1::UnlockUserRequest { user });
            shown(sentence, answer(users.unlock_user(request).await)?)
        }
        UserCommand::Remove { who: Who { user, .. }, dry_run, confirm } => {
            if dry_run {
                let sentence = format!(
                    "the account of {user} would go, with its roles, keys, tokens, sessions"
                );
                return Ok(done(&sentence));
            }
            if confirm.as_deref() != Some(&user) {
                bail!(
                    "nothing was done: say --confirm {user} to remove it, or --dry-run to see what would go"
                );
            }
            let sentence = format!("{user} has no account any more");
            answer(users.remove_user(connection.request(v1::RemoveUserRequest { user })).await)?;
            Ok(done(&sentence))
        }
        UserCommand::ResetSecondFactor(Who { user, .. }) => {
            let sentence = format!("{user} logs in without a code, and has no session");
            let request = connection.request(v1::ResetSecondFactorRequest { user });
            shown(sentence, answer(users.reset_second_factor(request).await)?)
        }
    }
}
