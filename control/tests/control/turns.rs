//! Background work is done by one process at a time, however long another one stood still.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::timeout;
use weft_control::{
    App, AppError, Clock,
    app::{TURN_LOOK, TURN_TTL, Turn},
    background::Background,
};
use weft_model::{
    Record, UnixMs,
    liveness::{LOOK_INTERVAL, LOST_AFTER},
    record::{Capacity, Host, HostState, Installation, Lost, Place},
};
use weft_store::{Key, Memory, SqliteOptions, Store, StoreOptions, Transaction, open};

use crate::{held::Held, site::Site};

fn turn_key() -> Key {
    Key::new("turn/background").unwrap()
}

/// Two processes over one store that is not the site's.
struct Two {
    clock: Clock,
    store: Arc<dyn Store>,
    held: Arc<Held>,
    first: Arc<App>,
    second: Arc<App>,
    _site: Site,
}

impl Two {
    async fn over(store: Arc<dyn Store>) -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let at = Installation::key_at("this").unwrap();
        let installation = site.store.get(&at).await.unwrap().unwrap();
        let host = Host {
            id: "host-a".parse().unwrap(),
            state: HostState::Active,
            place: Place::default(),
            labels: BTreeMap::new(),
            endpoints: Vec::new(),
            capacity: Capacity::default(),
            key_hash: String::new(),
            next_key_hash: None,
            created: UnixMs(0),
        };
        let made = Transaction::new()
            .put(host.key().unwrap(), host.encode().unwrap())
            .put(installation.key, installation.value);
        store.commit(made).await.unwrap();
        let held = Held::new(Arc::clone(&store), turn_key());
        let first = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
        let second = site.process_over(Arc::clone(&store)).await;
        Self { clock, store, held, first, second, _site: site }
    }

    async fn lost(&self) -> bool {
        self.store.get(&Lost::key_at("host-a").unwrap()).await.unwrap().is_some()
    }

    /// Looks until somebody who has heard nothing would give the host up at the next look.
    async fn look(&self, process: &App, turn: &Turn) {
        for _ in 0..LOST_AFTER.as_secs() / LOOK_INTERVAL.as_secs() {
            process.look_for_lost(turn).await.unwrap();
            self.clock.advance(LOOK_INTERVAL);
        }
        assert!(!self.lost().await);
    }
}

/// What a process is about to do when it stands still would hold: only its turn is over. `end` ends it.
async fn who_stood_still_changes_nothing(two: &Two, end: impl AsyncFnOnce()) {
    let turn = two.first.take_turn().await.unwrap().unwrap();
    assert!(two.second.take_turn().await.unwrap().is_none());
    two.look(&two.first, &turn).await;

    two.held.stop();
    let late = {
        let first = Arc::clone(&two.first);
        tokio::spawn(async move { first.look_for_lost(&turn).await })
    };
    two.held.stands_still.notified().await;
    end().await;
    let turn = two.second.take_turn().await.unwrap().unwrap();
    assert_eq!(two.second.turn_holder().await.unwrap().unwrap().since, two.clock.now());
    two.held.go_on();
    let late = late.await.unwrap();
    assert!(matches!(late, Err(AppError::Superseded)), "{late:?}");
    assert!(!two.lost().await, "who has the turn by now gives the host all of its time");

    // Nothing of it was done, and who has the turn does it once, in its time.
    two.look(&two.second, &turn).await;
    two.second.look_for_lost(&turn).await.unwrap();
    assert!(two.lost().await);
    let lost = two.store.get(&Lost::key_at("host-a").unwrap()).await.unwrap().unwrap();
    two.second.look_for_lost(&turn).await.unwrap();
    let again = two.store.get(&Lost::key_at("host-a").unwrap()).await.unwrap().unwrap();
    assert_eq!(again.modified, lost.modified);
}

#[tokio::test]
async fn a_process_that_stood_still_beyond_its_turn_changes_nothing() {
    let clock = weft_store::Clock::manual();
    let two = Two::over(Arc::new(Memory::new(clock.clone()))).await;
    who_stood_still_changes_nothing(&two, async || clock.advance(TURN_TTL)).await;
}

#[tokio::test]
async fn it_changes_nothing_in_a_store_on_disk_either() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("control.db").display());
    let options = StoreOptions { sqlite: SqliteOptions::default(), ..StoreOptions::default() };
    let store = open(&url.parse().unwrap(), &options).await.unwrap();
    let two = Two::over(Arc::clone(&store)).await;
    let end = async || {
        // As at its end, and without waiting for it.
        let turn = store.get(&turn_key()).await.unwrap().unwrap();
        store.revoke_lease(turn.lease.unwrap()).await.unwrap();
    };
    who_stood_still_changes_nothing(&two, end).await;
}

#[tokio::test]
async fn a_turn_lasts_while_it_is_renewed_and_is_free_at_once_when_it_is_given_away() {
    let clock = weft_store::Clock::manual();
    let two = Two::over(Arc::new(Memory::new(clock.clone()))).await;
    let turn = two.first.take_turn().await.unwrap().unwrap();
    for _ in 0..4 {
        clock.advance(TURN_TTL - Duration::from_millis(1));
        assert!(two.second.take_turn().await.unwrap().is_none());
        two.first.renew_turn(&turn).await.unwrap();
    }
    two.first.end_turn(turn).await.unwrap();
    assert_eq!(two.first.turn_holder().await.unwrap(), None);
    let turn = two.second.take_turn().await.unwrap().unwrap();
    clock.advance(TURN_TTL);
    let over = two.second.renew_turn(&turn).await;
    assert!(matches!(over, Err(AppError::Superseded)), "{over:?}");
}

async fn holder(app: &App) -> Option<String> {
    app.turn_holder().await.unwrap().map(|holder| holder.process)
}

#[tokio::test]
async fn another_process_goes_on_with_background_work() {
    let clock = weft_store::Clock::manual();
    let two = Two::over(Arc::new(Memory::new(clock.clone()))).await;
    let first = Background::start(Arc::clone(&two.first));
    let until = async |who: Option<String>| {
        let wait = async {
            while holder(&two.first).await != who {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TURN_TTL + 2 * TURN_LOOK, wait).await.unwrap();
    };
    until(Some("control-2".to_owned())).await;
    let second = Background::start(Arc::clone(&two.second));
    // Stopped, it gives its turn away.
    first.stop().await;
    assert_ne!(holder(&two.first).await, Some("control-2".to_owned()));
    until(Some("control-3".to_owned())).await;
    second.stop().await;
    assert_eq!(holder(&two.first).await, None);
}
