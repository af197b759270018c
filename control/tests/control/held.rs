//! A store of a process that stands still now and then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use weft_store::{
    Batch, CommitError, Entry, Key, LeaseId, Page, Revision, Store, StoreError, Transaction, Watch,
    WatchError,
};

/// The store of a process that stands still as it is about to make a change which has to do with one key, or hears
/// nothing of what others change.
#[derive(Debug)]
pub(crate) struct Held {
    store: Arc<dyn Store>,
    key: Key,
    goes_on: watch::Sender<bool>,
    hears: watch::Sender<bool>,
    asked: AtomicUsize,
    /// How many changes are made before none is any more.
    lasts: AtomicUsize,
    /// It answers nothing.
    is_away: Arc<AtomicBool>,
    /// What has this in a key is not changed.
    refused: Mutex<Option<String>>,
    pub(crate) stands_still: Notify,
}

impl Held {
    /// Goes on at first, and hears everything.
    pub(crate) fn new(store: Arc<dyn Store>, key: Key) -> Arc<Self> {
        let (goes_on, hears) = (watch::Sender::new(true), watch::Sender::new(true));
        let (asked, stands_still) = (AtomicUsize::default(), Notify::new());
        let (lasts, refused) = (AtomicUsize::new(usize::MAX), Mutex::default());
        let is_away = Arc::new(AtomicBool::new(false));
        Arc::new(Self { store, key, goes_on, hears, asked, lasts, is_away, refused, stands_still })
    }

    /// How often records were read here until now.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// What is about to be changed is not, until it goes on.
    pub(crate) fn stop(&self) {
        self.goes_on.send_replace(false);
    }

    /// See [`Held::stop`].
    pub(crate) fn go_on(&self) {
        self.goes_on.send_replace(true);
    }

    /// So many changes are made from now on, and then none: the process has ended.
    pub(crate) fn last(&self, changes: usize) {
        self.lasts.store(changes, Ordering::Relaxed);
    }

    /// Whether it is cut off from the store, which others reach.
    pub(crate) fn cut_off(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), StoreError> {
        check(&self.is_away)
    }

    /// How many changes are made yet.
    pub(crate) fn left(&self) -> usize {
        self.lasts.load(Ordering::Relaxed)
    }

    /// Nothing is changed from now on that has this in a key.
    pub(crate) fn refuse(&self, part: Option<&str>) {
        *self.refused.lock().unwrap() = part.map(str::to_owned);
    }

    /// Whether it hears what others change.
    pub(crate) fn hear(&self, hears: bool) {
        self.hears.send_replace(hears);
    }
}

#[async_trait]
impl Store for Held {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.check()?;
        self.store.get(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.check()?;
        self.store.list(prefix, after, len_max).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        self.check()?;
        let conditions = transaction.conditions.iter().map(|condition| condition.key());
        let keys: Vec<_> =
            conditions.chain(transaction.writes.iter().map(|write| write.key())).collect();
        let refused = self.refused.lock().unwrap().clone();
        if refused.is_some_and(|part| keys.iter().any(|key| key.as_str().contains(&part))) {
            return Err(StoreError::Unavailable("it is refused".to_owned()).into());
        }
        if keys.iter().any(|key| **key == self.key) {
            let mut goes_on = self.goes_on.subscribe();
            if !*goes_on.borrow() {
                self.stands_still.notify_one();
            }
            goes_on.wait_for(|goes_on| *goes_on).await.unwrap();
        }
        let is_one_less = |left: usize| left.checked_sub(1);
        if self.lasts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_one_less).is_err() {
            return Err(StoreError::Unavailable("the process has ended".to_owned()).into());
        }
        self.store.commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.check()?;
        let watch = self.store.watch(prefix, after).await?;
        let (hears, is_away) = (self.hears.subscribe(), Arc::clone(&self.is_away));
        Ok(Box::new(HeldWatch { watch, heard: None, hears, is_away }))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.check()?;
        self.store.grant_lease(ttl).await
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.check()?;
        self.store.renew_lease(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.check()?;
        self.store.revoke_lease(lease).await
    }
}

struct HeldWatch {
    watch: Box<dyn Watch>,
    heard: Option<Batch>,
    hears: watch::Receiver<bool>,
    is_away: Arc<AtomicBool>,
}

fn check(is_away: &AtomicBool) -> Result<(), StoreError> {
    if is_away.load(Ordering::Relaxed) {
        return Err(StoreError::Unavailable("it is cut off".to_owned()));
    }
    Ok(())
}

#[async_trait]
impl Watch for HeldWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            if self.heard.is_none() {
                self.heard = Some(self.watch.next().await?);
            }
            self.hears.wait_for(|hears| *hears).await.unwrap();
            check(&self.is_away)?;
            if let Some(batch) = self.heard.take() {
                return Ok(batch);
            }
        }
    }
}
