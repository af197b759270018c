//! Keys that another process destroyed leave this one.

use std::{convert::Infallible, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use weft_store::{Batch, Change, Revision, WatchError};

use super::{KEYRING_PREFIX, Keyring, OWNER_PREFIX, destroyed_key, record::Record};

/// How often it is made sure that the watch tells everything. A destroyed key is gone after two of them and
/// the time of one read, also where a watch has gone silent.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

impl Keyring {
    /// Wipes keys that are destroyed elsewhere, for as long as it is polled. When the store does not tell, all
    /// keys are wiped: who needs one asks the store for it.
    pub async fn follow(&self) -> Infallible {
        loop {
            let why = self.follow_one_watch().await;
            self.cache().withdraw_all();
            tracing::warn!(why, "the keyring's watch ended: no key is kept in memory");
            sleep(FOLLOW_INTERVAL).await;
        }
    }

    /// Until the watch is of no use any more; says why.
    async fn follow_one_watch(&self) -> String {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        const LATE: &str = "the store does not answer in time";
        let begin = match timeout(FOLLOW_INTERVAL, self.store.list(KEYRING_PREFIX, None, 1)).await {
            Ok(Ok(page)) => page.revision,
            Ok(Err(error)) => return said(&error),
            Err(_) => return LATE.to_owned(),
        };
        let watch = timeout(FOLLOW_INTERVAL, self.store.watch(KEYRING_PREFIX, begin)).await;
        let mut watch = match watch {
            Ok(Ok(watch)) => watch,
            Ok(Err(error)) => return said(&error),
            Err(_) => return LATE.to_owned(),
        };
        // What was destroyed before the watch began is told by nobody.
        self.cache().withdraw_all();
        let mut look = interval(FOLLOW_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = begin;
        // What the watch has yet to tell, and had a whole interval for at the next look.
        let mut due = Revision::default();
        loop {
            tokio::select! {
                told = watch.next() => match told {
                    Ok(batch) => seen = self.handle(&batch),
                    Err(WatchError::Store(error)) => return said(&error),
                    Err(error) => return said(&error),
                },
                _ = look.tick() => {
                    if seen < due {
                        return "it does not tell what has changed".to_owned();
                    }
                    let marker = timeout(FOLLOW_INTERVAL, self.store.get(&destroyed_key())).await;
                    match marker {
                        Ok(Ok(marker)) => due = marker.map_or(begin, |marker| marker.modified),
                        Ok(Err(error)) => return said(&error),
                        Err(_) => return LATE.to_owned(),
                    }
                    self.cache().forget_idle(Instant::now());
                }
            }
        }
    }

    fn handle(&self, batch: &Batch) -> Revision {
        for change in &batch.changes {
            let Some(owner) = change.key().as_str().strip_prefix(OWNER_PREFIX) else { continue };
            let Ok(owner) = owner.parse() else { continue };
            let live = match change {
                Change::Put(entry) => {
                    matches!(Record::parse(&entry.value), Ok(Record::Live { .. }))
                }
                Change::Deleted(_) => false,
            };
            if !live {
                self.cache().withdraw(&owner);
            }
        }
        batch.revision
    }
}
