//! Whether this process can do its work, or whoever spreads calls had better ask another one.

use std::{convert::Infallible, time::Duration};

use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep, timeout},
};
use weft_model::{Record, record::Settled};
use weft_store::StoreError;

use super::App;

/// How often it is looked whether the store and the audit answer; of master keys and the view it is told.
pub const STANDING_INTERVAL: Duration = Duration::from_secs(5);
/// A store that does not answer for so long is away. Another leader of etcd takes some seconds, and is no reason for hosts
/// to call elsewhere.
pub const STORE_AWAY_MAX: Duration = Duration::from_secs(15);
/// How long the store, or the audit with its second host, has to answer a look.
const ANSWER_MAX: Duration = Duration::from_secs(12);

impl App {
    /// Why this process is not to be asked now; `None` while it does its work.
    #[must_use]
    pub fn trouble(&self) -> Receiver<Option<String>> {
        self.standing.subscribe()
    }

    /// Looks again and again whether this process can do its work, as long as it is polled.
    pub async fn follow_standing(&self) -> Infallible {
        let (mut keys, mut view) = (self.keyring.trouble(), self.view.trouble());
        let mut answered = Instant::now();
        loop {
            let mut troubles = Vec::new();
            troubles.extend(keys.borrow_and_update().clone());
            troubles.extend(view.borrow_and_update().clone());
            match self.ask_store().await {
                Ok(()) => answered = Instant::now(),
                Err(why) if answered.elapsed() >= STORE_AWAY_MAX => troubles.push(why),
                Err(_) => {}
            }
            match timeout(ANSWER_MAX, self.recorder.look()).await {
                Ok(None) => {}
                Ok(Some(why)) => troubles.push(why.to_string()),
                Err(_) => troubles.push("the audit log does not answer".to_owned()),
            }
            self.stands(troubles);
            tokio::select! {
                // The senders are in this application.
                _ = keys.changed() => {}
                _ = view.changed() => {}
                () = sleep(STANDING_INTERVAL) => {}
            }
        }
    }

    async fn ask_store(&self) -> Result<(), String> {
        let key = Settled::key_at("v1").map_err(|error| error.to_string())?;
        let asked = Instant::now();
        let answer = timeout(ANSWER_MAX, self.store.get(&key)).await;
        let answer = answer.unwrap_or_else(|_| Err(StoreError::Unavailable("too late".to_owned())));
        self.contact.note(asked, &answer);
        answer.map(drop).map_err(|error| error.to_string())
    }

    fn stands(&self, troubles: Vec<String>) {
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        self.standing.send_if_modified(|known| {
            let is_new = *known != trouble;
            match &trouble {
                Some(why) if is_new => tracing::error!(%why, "this process is not to be asked"),
                None if is_new => tracing::info!("this process is to be asked again"),
                _ => {}
            }
            *known = trouble;
            is_new
        });
    }
}
