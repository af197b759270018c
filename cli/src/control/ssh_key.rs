//! SSH keys of the person who is logged in.

mod sign;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use weft_control_api::v1::{self, ssh_keys_client::SshKeysClient};

use super::{
    Output,
    call::{Connection, answer},
    context::Context,
    session::Proof,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SshKeyCommand {
    /// Write what is to be signed with a key whose private part is elsewhere, so that it may be added
    Challenge {
        /// File with the public key (.pub)
        file: PathBuf,
        /// File to write it to
        #[arg(long, value_name = "FILE")]
        message: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Add a public key; signs with the private one, which is beside it or with an agent (ssh-keygen -Y sign)
    Add {
        /// File with the public key (.pub)
        file: PathBuf,
        /// File with what was signed elsewhere (weft ssh-key challenge)
        #[arg(long, value_name = "FILE", requires = "signature")]
        message: Option<PathBuf>,
        /// File with its signature
        #[arg(long, value_name = "FILE", requires = "message")]
        signature: Option<PathBuf>,
        /// Where it is, in words; the comment in the file without
        #[arg(long, default_value = "")]
        name: String,
        #[command(flatten)]
        proof: Proof,
        #[command(flatten)]
        output: Output,
    },
    /// List your keys
    List(Output),
    /// Remove one of your keys
    Remove {
        /// The key, key-…
        id: String,
        /// Only show which key that is
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
}

impl SshKeyCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Challenge { output, .. }
            | Self::Add { output, .. }
            | Self::List(output)
            | Self::Remove { output, .. } => *output,
        }
    }
}

fn item(key: v1::SshKey) -> Item {
    Item::new()
        .with("id", key.id)
        .with("name", key.name)
        .with("fingerprint", key.fingerprint)
        .with("created_ms", key.created_ms)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What is to be signed with a key, for the installation of this session.
async fn challenge(connection: &Connection, key: &str) -> Result<v1::ChallengeSshKeyResponse> {
    let mut keys = SshKeysClient::new(connection.channel());
    let request = connection.request(v1::ChallengeSshKeyRequest { key: key.to_owned() });
    let told = answer(keys.challenge_ssh_key(request).await)?;
    sign::is_for(&told.message, &Context::load()?.authority)?;
    Ok(told)
}

pub(super) async fn run(connection: Connection, command: SshKeyCommand) -> Result<Shown> {
    let mut keys = SshKeysClient::new(connection.channel());
    match command {
        SshKeyCommand::Challenge { file, message, .. } => {
            let told = challenge(&connection, &read(&file)?).await?;
            fs::write(&message, &told.message)
                .with_context(|| format!("cannot write {}", message.display()))?;
            let (command, written) = (sign::command(&file, &message), message.display());
            let sentence = format!("{written} is to be signed within 10 minutes: {command}");
            let item = Item::new()
                .with("message", told.message)
                .with("command", command)
                .with("expires_ms", told.expires_ms);
            Ok(Shown::Done(sentence, item))
        }
        SshKeyCommand::Add { file, message, signature, name, proof, .. } => {
            let key = read(&file)?;
            let (message, signature) = match (message, signature) {
                (Some(message), Some(signature)) => (read(&message)?, read(&signature)?),
                _ => {
                    let message = challenge(&connection, &key).await?.message;
                    let signature = sign::sign(&file, &message)?;
                    (message, signature)
                }
            };
            let (password, code) = proof.show()?;
            let request = v1::AddSshKeyRequest { key, name, password, code, message, signature };
            let added = answer(keys.add_ssh_key(connection.request(request)).await)?;
            let sentence = format!("key {} is yours: {}", added.id, added.fingerprint);
            Ok(Shown::Done(sentence, item(added)))
        }
        SshKeyCommand::List(_) => {
            let items = list(&connection).await?.into_iter().map(item).collect();
            Ok(Shown::Many { items, empty: "no keys" })
        }
        SshKeyCommand::Remove { id, dry_run: true, .. } => {
            let found = list(&connection).await?.into_iter().find(|key| key.id == id);
            let found = found.context("no such key")?;
            let sentence =
                format!("key {id} ({}) would be yours no more: {}", found.name, found.fingerprint);
            Ok(Shown::Done(sentence, item(found)))
        }
        SshKeyCommand::Remove { id, .. } => {
            let request = v1::RemoveSshKeyRequest { id: id.clone() };
            let removed = answer(keys.remove_ssh_key(connection.request(request)).await)?;
            let sentence = format!("key {id} is yours no more: {}", removed.fingerprint);
            let item = Item::new().with("id", id).with("fingerprint", removed.fingerprint);
            Ok(Shown::Done(sentence, item))
        }
    }
}

async fn list(connection: &Connection) -> Result<Vec<v1::SshKey>> {
    let mut keys = SshKeysClient::new(connection.channel());
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let listed =
            answer(keys.list_ssh_keys(connection.request(v1::ListSshKeysRequest { page })).await)?;
        all.extend(listed.keys);
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(all);
        }
    }
}
