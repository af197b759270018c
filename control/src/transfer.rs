//! What is in the stores, from one kind of store to another: out to files, and in from files.

use std::path::Path;

use anyhow::Context;
use weft_store::{StoreOptions, StoreUrl, connect, export, open};

use crate::{
    config::Config,
    init::{keyring_options, store_options},
};

/// Which of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Records.
    Store,
    /// Wrapped keys.
    Keyring,
}

/// Where it is and how it is opened.
fn place(config: &Config, which: Which) -> anyhow::Result<(&StoreUrl, StoreOptions)> {
    match which {
        Which::Store => Ok((&config.store, store_options(config)?)),
        Which::Keyring => Ok((&config.keyring, keyring_options(config)?)),
    }
}

/// Writes all of a store to the new file `to`, as it is at one moment. Says how many entries it has. A file belongs to
/// the process that has it open: a server that uses it is to be stopped; etcd is read while servers run.
///
/// # Errors
/// What does not open, or cannot be written; there is no file then.
pub async fn take_out(config: &Config, which: Which, to: &Path) -> anyhow::Result<usize> {
    let (url, options) = place(config, which)?;
    let store = open(url, &options).await.with_context(|| format!("open {url}"))?;
    export::export(&*store, to).await.with_context(|| format!("export {url}"))
}

/// Fills an empty store from the file `from`. Says how many entries it had.
///
/// # Errors
/// What is there already, or what is wrong with the file; the store is empty then, or refused until an import of it
/// succeeds.
pub async fn bring_in(config: &Config, which: Which, from: &Path) -> anyhow::Result<usize> {
    let (url, options) = place(config, which)?;
    let store = connect(url, &options).with_context(|| format!("open {url}"))?;
    export::import(&*store, from).await.with_context(|| format!("import into {url}"))
}
