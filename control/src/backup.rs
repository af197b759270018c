//! Copies of the store, of the keyring and of the audit, each to a place of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use weft_store::{StoreUrl, sqlite};

use crate::config::Config;

/// Which of them. The order is the one in which they are copied: the audit lacks nothing then that was anchored in the
/// store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Records.
    Store,
    /// Wrapped keys.
    Keyring,
    /// The audit log of this process.
    Audit,
}

/// Where it is now.
enum Place {
    Sqlite(PathBuf),
    Log(PathBuf),
}

fn place(config: &Config, part: Part) -> anyhow::Result<Place> {
    let (field, url) = match part {
        Part::Store => ("store", &config.store),
        Part::Keyring => ("keyring", &config.keyring),
        Part::Audit => return Ok(Place::Log(config.audit.own())),
    };
    match url {
        StoreUrl::Sqlite(path) => Ok(Place::Sqlite(path.clone())),
        StoreUrl::Etcd { .. } => {
            bail!(
                "{field} is {url}, which export, or a snapshot of etcd, is for; expected sqlite:PATH"
            )
        }
    }
}

/// Copies it to the new file or folder `to`, as it is at one moment, whether a server runs or not.
///
/// # Errors
/// What cannot be copied, and why; nothing of a copy that fails stays.
pub fn back_up(config: &Config, part: Part, to: &Path) -> anyhow::Result<()> {
    match place(config, part)? {
        Place::Sqlite(from) => {
            sqlite::backup(&from, to).with_context(|| format!("back up {}", from.display()))?;
        }
        Place::Log(from) => {
            let what = || format!("back up {} to {}", from.display(), to.display());
            weft_audit::copy(&from, to).with_context(what)?;
        }
    }
    Ok(())
}

/// Makes it of a copy; it must not be there.
///
/// # Errors
/// What is there already, or what is wrong with the copy.
pub fn restore(config: &Config, part: Part, from: &Path) -> anyhow::Result<()> {
    match place(config, part)? {
        Place::Sqlite(to) => {
            sqlite::restore(from, &to).with_context(|| format!("restore {}", to.display()))?;
        }
        Place::Log(to) => {
            let what = || format!("restore {} of {}", to.display(), from.display());
            weft_audit::copy(from, &to).with_context(what)?;
        }
    }
    Ok(())
}
