//! Copies of the store and of the keyring, each to a place of its own.

use std::path::Path;

use anyhow::{Context, bail};
use weft_store::{StoreUrl, sqlite};

use crate::config::Config;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Records.
    Store,
    /// Wrapped keys.
    Keyring,
}

fn path(config: &Config, part: Part) -> anyhow::Result<&Path> {
    let (field, url) = match part {
        Part::Store => ("store", &config.store),
        Part::Keyring => ("keyring", &config.keyring),
    };
    match url {
        StoreUrl::Sqlite(path) => Ok(path),
        StoreUrl::Etcd { .. } => {
            bail!("{field} is {url}, which etcd's own snapshots are for; expected sqlite:PATH")
        }
    }
}

/// Copies it to the new file `to`, as it is at one moment, whether a server runs or not.
///
/// # Errors
/// What cannot be copied, and why; nothing of a copy that fails stays.
pub fn back_up(config: &Config, part: Part, to: &Path) -> anyhow::Result<()> {
    let from = path(config, part)?;
    sqlite::backup(from, to).with_context(|| format!("back up {}", from.display()))?;
    Ok(())
}

/// Makes it of a copy; it must not be there.
///
/// # Errors
/// What is there already, or what is wrong with the copy.
pub fn restore(config: &Config, part: Part, from: &Path) -> anyhow::Result<()> {
    let to = path(config, part)?;
    sqlite::restore(from, to).with_context(|| format!("restore {}", to.display()))?;
    Ok(())
}
