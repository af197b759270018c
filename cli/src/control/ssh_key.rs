//! SSH keys of the person who is logged in.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use weft_control_api::v1::{self, ssh_keys_client::SshKeysClient};

use super::{
    Output,
    call::{Connection, answer},
    session::Proof,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SshKeyCommand {
    /// Add a public key
    Add {
        /// File with the public key (.pub)
        file: PathBuf,
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
        #[command(flatten)]
        output: Output,
    },
}

impl SshKeyCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Add { output, .. } | Self::List(output) | Self::Remove { output, .. } => *output,
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

pub(super) async fn run(connection: Connection, command: SshKeyCommand) -> Result<Shown> {
    let mut keys = SshKeysClient::new(connection.channel());
    match command {
        SshKeyCommand::Add { file, name, proof, .. } => {
            let key = fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let (password, code) = proof.show()?;
            let request = v1::AddSshKeyRequest { key, name, password, code };
            let added = answer(keys.add_ssh_key(connection.request(request)).await)?;
            let sentence = format!("key {} is yours: {}", added.id, added.fingerprint);
            Ok(Shown::Done(sentence, item(added)))
        }
        SshKeyCommand::List(_) => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let request = connection.request(v1::ListSshKeysRequest { page });
                let listed = answer(keys.list_ssh_keys(request).await)?;
                items.extend(listed.keys.into_iter().map(item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no keys" });
                }
            }
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
