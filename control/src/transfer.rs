//! What is in the stores, from one kind of store to another: out to files, and in from files.

use std::path::Path;

use anyhow::{Context, bail};
use weft_store::{StoreOptions, StoreUrl, connect, export, open};

use crate::{
    backup::Part,
    config::Config,
    init::{keyring_options, store_options},
};

/// A store and how it is opened.
fn place(config: &Config, part: Part) -> anyhow::Result<(&StoreUrl, StoreOptions)> {
    match part {
        Part::Store => Ok((&config.store, store_options(config)?)),
        Part::Keyring => Ok((&config.keyring, keyring_options(config)?)),
        Part::Audit => bail!("the audit is a folder; expected backup and restore for it"),
    }
}

/// Writes all of a store to the new file `to`, as it is at one moment. Says how many entries it has. A file belongs to
/// the process that has it open: a server that uses it is to be stopped; etcd is read while servers run.
///
/// # Errors
/// What does not open, or cannot be written; there is no file then.
pub async fn take_out(config: &Config, part: Part, to: &Path) -> anyhow::Result<usize> {
    let (url, options) = place(config, part)?;
    let store = open(url, &options).await.with_context(|| format!("open {url}"))?;
    export::export(&*store, to).await.with_context(|| format!("export {url}"))
}

/// Fills an empty store from the file `from`. Says how many entries it had.
///
/// # Errors
/// What is there already, or what is wrong with the file; the store is empty then, or refused until an import of it
/// succeeds.
pub async fn bring_in(config: &Config, part: Part, from: &Path) -> anyhow::Result<usize> {
    let (url, options) = place(config, part)?;
    let store = connect(url, &options).with_context(|| format!("open {url}"))?;
    export::import(&*store, from).await.with_context(|| format!("import into {url}"))
}
