//! The log of an installation: where it is, and who signs it.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use data_encoding::BASE64;
use weft_audit::{Audit, FolderReplica, Options, ProcessId, Running, Signer, StoreAnchors};
use weft_keys::{OwnerKey, Purpose};
use weft_model::{
    Decoded, Record,
    record::{AuditKey, Installation},
};
use weft_store::{CommitError, Store, Transaction};

use super::Reader;
use crate::{clock::Clock, view::decode};

/// Where the log of this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlace {
    /// The folder; the log of each process has one of its own below it.
    pub folder: PathBuf,
    /// The same on a second host, where there is one.
    pub replica: Option<PathBuf>,
    /// Which process this is: no two have one id at the same time.
    pub process: ProcessId,
}

impl AuditPlace {
    /// The folder of this process.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.folder.join(self.process.as_str())
    }
}

/// The log of this process, and what reads those of all.
#[derive(Debug)]
pub struct Log {
    /// What it is written with.
    pub audit: Audit,
    /// What it is read with.
    pub reader: Reader,
    /// Which process writes it.
    pub process: ProcessId,
}

/// Opens the log of this process. Its heads are anchored in `store`, and signed with the installation's key for that,
/// which is made when there is none yet.
///
/// # Errors
/// When the log is damaged or in use, or its folder or the key cannot be used.
pub async fn open(
    store: &Arc<dyn Store>,
    installation: &Installation,
    key: &OwnerKey,
    place: &AuditPlace,
    clock: &Clock,
) -> anyhow::Result<(Log, Running)> {
    let signer = signer(&**store, installation, key, clock).await?;
    let anchors = StoreAnchors::new(Arc::clone(store));
    let reader = Reader::new(place.folder.clone(), anchors.clone(), signer.public_key());
    let public_key = signer.public_key();
    let mut options = Options::new(place.own(), place.process.clone(), signer, Arc::new(anchors));
    options.replica = place.replica.clone().map(|folder| Arc::new(FolderReplica::new(folder, vec![public_key])) as _);
    let clock = clock.clone();
    options.clock = Arc::new(move || clock.system_time());
    let (audit, running) = Audit::open(options).await.context("the audit log")?;
    Ok((Log { audit, reader, process: place.process.clone() }, running))
}

async fn signer(
    store: &dyn Store,
    installation: &Installation,
    key: &OwnerKey,
    clock: &Clock,
) -> anyhow::Result<Signer> {
    let context = installation.name.as_str().as_bytes();
    let found = store.get(&AuditKey::key_at("this")?).await?;
    let found: Option<Decoded<AuditKey>> = decode(found)?;
    if let Some(found) = found {
        let sealed = BASE64.decode(found.record.sealed_key.as_bytes())?;
        let private = key.open(Purpose::Audit, &[context], &sealed).context("the audit's key")?;
        return Ok(Signer::from_pkcs8(&private)?);
    }
    let private = Signer::generate();
    let signer = Signer::from_pkcs8(&private)?;
    let made = AuditKey {
        public_key: signer.public_key().to_string(),
        sealed_key: BASE64.encode(&key.seal(Purpose::Audit, &[context], &private)?),
        created: clock.now(),
    };
    let transaction = Transaction::new().absent(made.key()?).put(made.key()?, made.encode()?);
    match store.commit(transaction).await {
        Ok(_) => Ok(signer),
        // Another process has made one.
        Err(CommitError::Conflict { .. }) => {
            Box::pin(self::signer(store, installation, key, clock)).await
        }
        Err(error) => Err(error.into()),
    }
}
