//! The log of an installation: where it is, and who signs it.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, ensure};
use data_encoding::BASE64;
use weft_audit::{
    Audit, FolderReplica, Home, Options, ProcessId, PublicKey, Running, SIGNED_LEN_MAX, Signer,
    StoreAnchors,
};
use weft_keys::{Keyring, Owner, OwnerKey, Purpose};
use weft_model::{
    Decoded, Record,
    record::{AuditKey, Installation},
};
use weft_store::{CommitError, Store, Transaction};

use super::{BlobPlace, BlobReader, Reader, Shipping};
use crate::{clock::Clock, view::decode};

/// Where the log of this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlace {
    /// The folder; the log of each process has one of its own below it.
    pub folder: PathBuf,
    /// The same on a second host, where there is one.
    pub replica: Option<PathBuf>,
    /// This machine, as it calls itself.
    pub machine: String,
    /// Which process this is: no two have one id at the same time.
    pub process: ProcessId,
    /// Where segments are shipped to that have ended, if anywhere.
    pub blobs: Option<BlobPlace>,
}

impl AuditPlace {
    /// The folder of this process.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.folder.join(self.process.as_str())
    }

    /// What others are told of it.
    fn home(&self) -> Home {
        let (process, machine) = (self.process.clone(), self.machine.clone());
        let folder = self.own().display().to_string();
        let copy = self.replica.as_ref().map(|replica| replica.join(process.as_str()));
        let replica = copy.map(|copy| copy.display().to_string());
        Home { process, machine, folder, replica }
    }
}

/// What this machine calls itself; empty where the kernel does not say.
#[must_use]
pub fn machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
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
    /// What ships it, where there is a blob store.
    pub shipping: Option<Arc<Shipping>>,
}

/// Opens the log of this process. Its heads are anchored in `store`, and signed with the installation's key for that,
/// which is made when there is none yet.
///
/// # Errors
/// When the log is damaged or in use, or its folder or the key cannot be used.
pub async fn open(
    store: &Arc<dyn Store>,
    keyring: &Arc<Keyring>,
    installation: &Installation,
    place: &AuditPlace,
    clock: &Clock,
) -> anyhow::Result<(Log, Running)> {
    let key = keyring.get(&Owner::Installation).await.context("the installation's key")?;
    let signer = signer(&**store, installation, &key, clock).await?;
    let anchors = StoreAnchors::new(Arc::clone(store));
    let public_key = signer.public_key();
    let home = signer.sign(place.home());
    ensure!(home.encode().len() <= SIGNED_LEN_MAX, "audit.folder or audit.replica: is too long");
    let blobs = blob_reader(&anchors, keyring, public_key, place);
    let shipping =
        blobs.as_ref().map(|blobs| Arc::new(blobs.shipping(place, signer.clone(), clock.clone())));
    let own = Arc::new(anchors.clone());
    let mut options = Options::new(place.own(), place.process.clone(), signer, own);
    let replica = |folder| Arc::new(FolderReplica::new(folder, vec![public_key])) as _;
    options.replica = place.replica.clone().map(replica);
    let clock = clock.clone();
    options.clock = Arc::new(move || clock.system_time());
    let (audit, running) = Audit::open(options).await.context("the audit log")?;
    anchors.set_home(&home).await.context("where the audit log is")?;
    let ships = shipping.clone();
    let reader = Reader::new(place.clone(), audit.clone(), anchors, public_key, blobs, ships);
    Ok((Log { audit, reader, process: place.process.clone(), shipping }, running))
}

/// What reads the blob store of an installation.
///
/// # Errors
/// When there is none, or the audit's key cannot be used.
pub async fn open_blobs(
    store: &Arc<dyn Store>,
    keyring: &Arc<Keyring>,
    installation: &Installation,
    place: &AuditPlace,
    clock: &Clock,
) -> anyhow::Result<BlobReader> {
    let key = keyring.get(&Owner::Installation).await.context("the installation's key")?;
    let public_key = signer(&**store, installation, &key, clock).await?.public_key();
    let anchors = StoreAnchors::new(Arc::clone(store));
    blob_reader(&anchors, keyring, public_key, place)
        .context("audit.blobs: is missing; expected folder:PATH or s3://BUCKET/PREFIX")
}

fn blob_reader(
    anchors: &StoreAnchors,
    keyring: &Arc<Keyring>,
    trusted: PublicKey,
    place: &AuditPlace,
) -> Option<BlobReader> {
    let blobs = place.blobs.clone()?;
    let name = blobs.url.to_string();
    let (keyring, anchors) = (Arc::clone(keyring), anchors.clone());
    Some(BlobReader::new(Arc::new(blobs), name, keyring, anchors, trusted))
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
