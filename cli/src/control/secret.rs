//! Secrets. A value comes from a file, from standard input or from who types it unseen, never from an argument: those
//! are seen by everybody on the machine and kept by shells.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use weft_control_api::v1::{self, secrets_client::SecretsClient};

use super::{
    Output,
    call::{Connection, answer, found},
    environment::name,
    line::Line,
    show::{Item, Shown},
};

/// Longest value, bytes. The control plane refuses more; nothing longer is read here.
const VALUE_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Write a new version of a secret, as it is in a file or on standard input, or as you type it unseen
    Set {
        #[command(flatten)]
        one: One,
        /// File with the value
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the secrets of an environment, without their values
    List {
        /// The environment: its id, or ORGANISATION/NAME
        environment: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show the versions of a secret, without their values
    Show(One),
    /// Write a secret's value to standard output
    Release {
        #[command(flatten)]
        one: One,
        /// The version; the newest without
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        version: u64,
    },
    /// Destroy values of versions; backups that were made before have them yet
    Destroy {
        #[command(flatten)]
        one: One,
        /// A version
        #[arg(long = "version", value_name = "VERSION", required = true)]
        versions: Vec<u64>,
        #[command(flatten)]
        sure: Sure,
    },
    /// Destroy a secret with all of its versions; backups that were made before have them yet
    Delete {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    /// The secret
    secret: String,
    #[command(flatten)]
    output: Output,
}

/// That somebody means what cannot be taken back.
#[derive(Debug, Args)]
pub(crate) struct Sure {
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// The secret's name again, so that it is not another one by mistake
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

impl SecretCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::List { output, .. }
            | Self::Set { one: One { output, .. }, .. }
            | Self::Show(One { output, .. })
            | Self::Release { one: One { output, .. }, .. }
            | Self::Destroy { one: One { output, .. }, .. }
            | Self::Delete { one: One { output, .. }, .. } => *output,
        }
    }
}

fn item(secret: v1::Secret) -> Item {
    let there = secret.versions.iter().filter(|known| known.destroyed_ms == 0).count();
    Item::new()
        .with("name", secret.name)
        .with("version", secret.version)
        .with("versions", there)
        .with("created_ms", secret.created_ms)
}

fn version_item(known: v1::SecretVersion) -> Item {
    Item::new()
        .with("version", known.version)
        .with("bytes", known.bytes)
        .with("created_ms", known.created_ms)
        .with_some("destroyed_ms", known.destroyed_ms)
}

pub(super) async fn run(connection: Connection, command: SecretCommand) -> Result<Shown> {
    let mut secrets = SecretsClient::new(connection.channel());
    match command {
        SecretCommand::Set { one, file } => {
            set(&connection, &mut secrets, one, file.as_deref()).await
        }
        SecretCommand::List { environment, .. } => {
            list(&connection, &mut secrets, environment).await
        }
        SecretCommand::Show(one) => {
            let found = find(&connection, &mut secrets, &one).await?;
            let items = found.versions.into_iter().map(version_item).collect();
            Ok(Shown::Many { items, empty: "no versions" })
        }
        SecretCommand::Release { one, version } => {
            let (environment, name) = (name(one.environment), one.secret);
            let grant = String::new();
            let request = v1::ReleaseSecretRequest { environment, name, version, grant };
            let released = answer(secrets.release_secret(connection.request(request)).await)?;
            let value = released.value.unwrap_or_default().take();
            Ok(Shown::Value { version: released.version, value })
        }
        SecretCommand::Destroy { one, versions, sure } => {
            let found = find(&connection, &mut secrets, &one).await?;
            let what = format!("versions {versions:?} of secret {}", found.name);
            if let Some(shown) = sure.before(&found, &what)? {
                return Ok(shown);
            }
            let (environment, name) = (name(one.environment), one.secret);
            let request = v1::DestroySecretVersionsRequest { environment, name, versions };
            let left = answer(secrets.destroy_secret_versions(connection.request(request)).await)?;
            Ok(Shown::Done(format!("{what} are destroyed"), item(left)))
        }
        SecretCommand::Delete { one, sure } => {
            let found = find(&connection, &mut secrets, &one).await?;
            let what = format!("secret {} with all of its versions", found.name);
            if let Some(shown) = sure.before(&found, &what)? {
                return Ok(shown);
            }
            let (environment, name) = (name(one.environment), one.secret);
            let request = v1::DeleteSecretRequest { environment, name, version: found.version };
            answer(secrets.delete_secret(connection.request(request)).await)?;
            Ok(Shown::Done(format!("{what} is destroyed"), Item::new()))
        }
    }
}

impl Sure {
    /// What is shown instead of doing it; nothing when it is to be done.
    fn before(&self, found: &v1::Secret, what: &str) -> Result<Option<Shown>> {
        if self.dry_run {
            let sentence = format!("{what} would be destroyed");
            return Ok(Some(Shown::Done(sentence, item(found.clone()))));
        }
        if self.confirm.as_deref() != Some(&found.name) {
            bail!(
                "nothing was done: say --confirm {} to destroy it, or --dry-run to see what would go",
                found.name
            );
        }
        Ok(None)
    }
}

async fn find(
    connection: &Connection,
    secrets: &mut SecretsClient<Line>,
    one: &One,
) -> Result<v1::Secret> {
    let (environment, name) = (name(one.environment.clone()), one.secret.clone());
    let request = v1::GetSecretMetadataRequest { environment, name };
    answer(secrets.get_secret_metadata(connection.request(request)).await)
}

async fn list(
    connection: &Connection,
    secrets: &mut SecretsClient<Line>,
    environment: String,
) -> Result<Shown> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let request = v1::ListSecretsRequest { environment: name(environment.clone()), page };
        let listed = answer(secrets.list_secrets(connection.request(request)).await)?;
        items.extend(listed.secrets.into_iter().map(item));
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(Shown::Many { items, empty: "no secrets" });
        }
    }
}

/// Follows the newest version. Who writes the same secret at the same time is not overwritten.
async fn set(
    connection: &Connection,
    secrets: &mut SecretsClient<Line>,
    one: One,
    file: Option<&Path>,
) -> Result<Shown> {
    let value = value(file)?;
    let (environment, name) = (name(one.environment), one.secret);
    let get = v1::GetSecretMetadataRequest { environment: environment.clone(), name: name.clone() };
    let before = found(secrets.get_secret_metadata(connection.request(get)).await)?;
    let version = before.map_or(0, |before| before.version);
    let request = v1::PutSecretRequest { environment, name, value: Some(value), version };
    let written = answer(secrets.put_secret(connection.request(request)).await)?;
    let sentence = format!("version {} of secret {} is written", written.version, written.name);
    Ok(Shown::Done(sentence, item(written)))
}

fn value(file: Option<&Path>) -> Result<v1::SecretValue> {
    match file {
        Some(path) => {
            let cannot = || format!("cannot read {}", path.display());
            read(fs::File::open(path).with_context(cannot)?).with_context(cannot)
        }
        None if io::stdin().is_terminal() => {
            let typed =
                rpassword::prompt_password("Value: ").context("cannot ask for the value")?;
            Ok(v1::SecretValue { data: typed.into_bytes() })
        }
        None => read(io::stdin().lock()).context("cannot read standard input"),
    }
}

fn read(from: impl Read) -> Result<v1::SecretValue> {
    let room = usize::try_from(VALUE_BYTES_MAX)? + 1;
    // All of its room at once: a buffer that grows leaves copies behind.
    let mut value = v1::SecretValue { data: Vec::with_capacity(room) };
    from.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value.data)?;
    if value.data.len() >= room {
        bail!("the value is longer than {VALUE_BYTES_MAX} bytes");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_is_up_to_the_limit() {
        let bytes = vec![b'\n'; 64 << 10];
        assert!(read(&bytes[..]).unwrap().data == bytes);
        assert!(read(&[][..]).unwrap().data.is_empty());
        let refused = read(io::repeat(0)).unwrap_err().to_string();
        assert_eq!(refused, "the value is longer than 65536 bytes");
    }
}
