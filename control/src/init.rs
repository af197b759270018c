//! What an installation is made of, and how it is opened.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use data_encoding::BASE64;
use weft_audit::{Position, ProcessId, Running};
use weft_keys::{KeyFile, Keyring, Owner, Purpose};
use weft_model::{
    Decoded, Record, format,
    record::{Format, Installation},
};
use weft_pki::{
    KeyKind,
    installation::{self, InstallationAuthority},
    issue::{self, Validity},
};
use weft_store::{CommitError, SqliteOptions, Store, StoreOptions, Transaction, open};
use weft_types::InstallationId;
use zeroize::Zeroizing;

use crate::{
    app::{App, Confirmed},
    audit::{self, AuditPlace},
    clock::Clock,
    config::{Config, EtcdFiles},
    view::{View, decode},
};

/// How long the installation's authority is valid, days.
const AUTHORITY_DAYS: u32 = 3_650;
/// How often the format is looked at anew when somebody has written it.
const ENTER_ATTEMPTS_MAX: u32 = 16;

/// The stores and the keyring of an installation.
#[derive(Debug)]
pub struct Opened {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
}

/// Opens what the configuration names.
///
/// # Errors
/// What cannot be opened, and why.
pub async fn open_stores(config: &Config) -> anyhow::Result<Opened> {
    let kms = KeyFile::open(&config.master_key).context("the master key")?;
    let store = open(&config.store, &store_options(config)?).await.context("store")?;
    let keyring = open_keyring_store(config).await?;
    let keyring = Keyring::open(keyring, Arc::new(kms)).await.context("the keyring")?;
    Ok(Opened { store, keyring: Arc::new(keyring) })
}

/// The store of the keyring, in which nothing stays of what was replaced.
pub(crate) async fn open_keyring_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    open(&config.keyring, &keyring_options(config)?).await.context("keyring")
}

/// How the store is opened.
pub(crate) fn store_options(config: &Config) -> anyhow::Result<StoreOptions> {
    let etcd_tls = config.etcd.as_ref().map(EtcdFiles::read).transpose()?;
    Ok(StoreOptions { sqlite: SqliteOptions::default(), etcd_tls })
}

/// How the store of the keyring is opened, in which nothing stays of what was replaced.
pub(crate) fn keyring_options(config: &Config) -> anyhow::Result<StoreOptions> {
    let sqlite = SqliteOptions { erase: true, ..SqliteOptions::default() };
    Ok(StoreOptions { sqlite, ..store_options(config)? })
}

/// Looks whether this release may work on the store, and says there which one does, before anything else is done.
///
/// # Errors
/// When a later one does.
async fn enter(store: &dyn Store) -> anyhow::Result<()> {
    for _ in 0..ENTER_ATTEMPTS_MAX {
        let found = store.get(&Format::key_at("this")?).await?;
        let found: Option<Decoded<Format>> = decode(found)?;
        let Some(made) = format::enter(found.as_ref())? else { return Ok(()) };
        match store.commit(format::write(&made, found.as_ref())?).await {
            Ok(_) => return Ok(()),
            // Another process does the same.
            Err(CommitError::Conflict { .. } | CommitError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the format of the store changes all the time")
}

impl Opened {
    /// Puts stores together that are there already.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring }
    }

    /// Makes the installation: its key, its authority. An installation that is there already stays as it is.
    ///
    /// # Errors
    /// When there is one, or what the store says.
    pub async fn create(&self, name: &InstallationId, clock: &Clock) -> anyhow::Result<()> {
        enter(&*self.store).await?;
        let key_at = Installation::key_at("this")?;
        if self.store.get(&key_at).await?.is_some() {
            bail!("there is an installation in this store already");
        }
        let time = clock.system_time();
        let key = self.keyring.create(&Owner::Installation, time).await?;
        let validity = Validity::days(time, issue::AUTHORITY_BACKDATE, AUTHORITY_DAYS);
        let issued = installation::new_authority(name, validity, KeyKind::EcdsaP256)?;
        let context = name.as_str().as_bytes();
        let sealed =
            key.seal(Purpose::CertificateAuthority, &[context], issued.key_pem.as_bytes())?;
        let made = Installation {
            name: name.clone(),
            certificate: issued.certificate_pem,
            sealed_key: BASE64.encode(&sealed),
            created: clock.now(),
        };
        let transaction = Transaction::new().absent(made.key()?).put(made.key()?, made.encode()?);
        self.store.commit(transaction).await?;
        Ok(())
    }

    /// The installation.
    ///
    /// # Errors
    /// When there is none.
    pub async fn installation(&self) -> anyhow::Result<Installation> {
        let found = self.store.get(&Installation::key_at("this")?).await?;
        let found: Option<Decoded<Installation>> = decode(found)?;
        let found = found
            .context("there is no installation in this store; make one with weft-control init")?;
        Ok(found.record)
    }

    /// The application over these stores, once it knows what is in them, and what writes its audit: when the last of
    /// the application is dropped, that finishes.
    ///
    /// # Errors
    /// When a later release works on the store, when something in it cannot be read, when there is no installation, its
    /// authority does not open, or its audit.
    pub async fn app(self, clock: Clock, place: &AuditPlace) -> anyhow::Result<(App, Running)> {
        let Self { store, keyring } = self;
        enter(&*store).await?;
        let found = store.get(&Installation::key_at("this")?).await?;
        let found: Option<Decoded<Installation>> = decode(found)?;
        let installation = found
            .context("there is no installation in this store; make one with weft-control init")?;
        let installation = installation.record;
        let key = keyring.get(&Owner::Installation).await.context("the installation's key")?;
        let sealed = BASE64.decode(installation.sealed_key.as_bytes())?;
        let context = installation.name.as_str().as_bytes();
        let pem: Zeroizing<Vec<u8>> = key
            .open(Purpose::CertificateAuthority, &[context], &sealed)
            .context("the key of the installation's authority")?;
        let (log, running) = audit::open(&store, &keyring, &installation, place, &clock).await?;
        let anchor = installation.certificate;
        let authority = InstallationAuthority::from_pem(anchor.as_bytes(), &pem)?;
        let view = View::follow(Arc::clone(&store));
        view.ready().await.context("the live copy of the store")?;
        Ok((App::new(store, keyring, view, clock, log, authority, anchor), running))
    }
}

/// Copies the audit log of a process from the blob store to the new folder `to`, as far as it is there, and verifies it.
/// Returns its last line.
///
/// # Errors
/// When there is no blob store, what is wrong with what is there, or what cannot be written; with SQLite, also that a
/// server runs.
pub async fn fetch_audit(
    config: &Config,
    process: &ProcessId,
    to: &Path,
) -> anyhow::Result<Position> {
    let opened = open_stores(config).await?;
    let installation = opened.installation().await?;
    let (store, keyring, clock) = (&opened.store, &opened.keyring, Clock::default());
    let blobs = audit::open_blobs(store, keyring, &installation, &config.audit, &clock).await?;
    blobs.fetch(process, to).await
}

/// Has the clock of this machine believed by all processes, or says what that would mean.
///
/// # Errors
/// When the installation does not open; with SQLite, also that a server runs.
pub async fn confirm_time(config: &Config, dry_run: bool) -> anyhow::Result<Confirmed> {
    let opened = open_stores(config).await?;
    let (app, running) = opened.app(Clock::default(), &config.audit).await?;
    let confirmed = app.confirm_time(dry_run).await?;
    drop(app);
    running.finished().await;
    Ok(confirmed)
}

/// Makes the master key, if the file is not there, and the installation; returns the invitation of its first
/// operator.
///
/// # Errors
/// When there is an installation already, or what cannot be made.
pub async fn init(
    config: &Config,
    name: &InstallationId,
    operator_email: &str,
) -> anyhow::Result<Zeroizing<String>> {
    let clock = Clock::default();
    if !config.master_key.exists() {
        KeyFile::init(&config.master_key, clock.system_time()).context("the master key")?;
    }
    let opened = open_stores(config).await?;
    opened.create(name, &clock).await?;
    let (app, running) = opened.app(clock, &config.audit).await?;
    let invitation = app.invite_operator(operator_email).await?;
    drop(app);
    running.finished().await;
    Ok(invitation)
}
