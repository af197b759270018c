//! A clock that jumps ahead destroys nothing for good.

use std::{sync::Arc, time::Duration};

use weft_control::{App, Clock};
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, host_agent_client::HostAgentClient,
};
use weft_keys::Owner;
use weft_model::{
    Record,
    record::Environment,
    settled::{AHEAD_MAX, STEADY},
};
use weft_store::{LIST_LEN_MAX, Store};
use weft_types::EnvironmentId;

use crate::site::{Site, name, with};

const YEARS: Duration = Duration::from_secs(7 * 366 * 24 * 3_600);
const GRACE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// An environment that is being deleted, and one with a released address.
struct Shop {
    clock: Clock,
    site: Site,
    deleted: EnvironmentId,
    other: EnvironmentId,
}

impl Shop {
    async fn new() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let owner = site.organisation("acme").await;
        let deleted = site.environment(&owner, "acme", "shop").await.id;
        let other = site.environment(&owner, "acme", "other").await.id;
        let a = site.enrol("host-a").await;
        site.allow(&other, "host-a").await;
        let mut agent: HostAgentClient<_> = site.agent(&a).await;
        let (environment, web) = (other.clone(), "web".to_owned());
        let attach = v1::AttachRequest { environment, name: web, ..Default::default() };
        let web = agent.attach(attach).await.unwrap().into_inner();
        let (environment, name_of) = (other.clone(), "web".to_owned());
        let generation = web.generation;
        let release = v1::ReleaseRequest { environment, name: name_of, generation };
        agent.release(release).await.unwrap();
        let delete = v1::DeleteEnvironmentRequest {
            environment: name("acme/shop"),
            grace_seconds: Some(u32::try_from(GRACE.as_secs()).unwrap()),
            ..Default::default()
        };
        let mut environments = EnvironmentsClient::new(site.connect(None).await);
        environments.delete_environment(with(delete, &owner)).await.unwrap();
        let (deleted, other) = (deleted.parse().unwrap(), other.parse().unwrap());
        let shop = Self { clock, site, deleted, other };
        shop.tidy(&shop.site.app).await;
        shop
    }

    /// As background work does it.
    async fn tidy(&self, process: &App) {
        let turn = self.site.turn(process).await;
        process.keep_time(&turn).await.unwrap();
        for _ in 0..2 {
            process.tidy(&turn).await.unwrap();
        }
        process.end_turn(turn).await.unwrap();
    }

    /// Whether the environment is there with its key, and how many addresses are not free.
    async fn there(&self) -> (bool, usize) {
        let key = Environment::key_at(self.deleted.as_str()).unwrap();
        let is_there = self.site.store.get(&key).await.unwrap().is_some();
        let owner = Owner::Environment(self.deleted.clone());
        assert_eq!(self.site.keyring.get(&owner).await.is_ok(), is_there);
        let of_other = format!("address/{}/", self.other);
        let page = self.site.store.list(&of_other, None, LIST_LEN_MAX).await.unwrap();
        (is_there, page.entries.len())
    }

    async fn recorded(&self, action: &str) -> usize {
        let folder = self.site.audit.own();
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let logs = files.filter(|file| file.extension().is_some_and(|kind| kind == "jsonl"));
        logs.map(|log| std::fs::read_to_string(log).unwrap().matches(action).count()).sum()
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_destroys_nothing_until_it_was_steady_for_a_day() {
    let shop = Shop::new().await;
    let app = &shop.site.app;
    assert_eq!(app.look_at_time(None).await, None);
    shop.clock.set(shop.clock.now().after(YEARS));
    let doubt = app.look_at_time(None).await.unwrap();
    assert_eq!((doubt.ahead, doubt.left), (YEARS, STEADY));
    assert!(shop.recorded("clock.doubt").await > 0);
    // Also not by a process that begins with that clock.
    let fresh = shop.site.another_process().await;
    for process in [app, &fresh] {
        shop.tidy(process).await;
        assert_eq!(shop.there().await, (true, 2));
    }
    // Time goes on meanwhile: what is over by the time that was agreed on goes.
    shop.clock.advance(Duration::from_secs(601));
    shop.tidy(app).await;
    assert_eq!(shop.there().await, (true, 0));
    for _ in 0..STEADY.as_secs() / AHEAD_MAX.as_secs() - 1 {
        shop.clock.advance(AHEAD_MAX);
        shop.tidy(app).await;
    }
    assert_eq!(shop.there().await, (true, 0));
    shop.clock.advance(AHEAD_MAX);
    shop.tidy(app).await;
    assert_eq!(shop.there().await, (false, 0));
    // Others believe it by now.
    shop.site.seen(&fresh).await;
    assert_eq!(fresh.time().doubt, None);
}

#[tokio::test]
async fn a_clock_that_is_put_right_has_destroyed_nothing() {
    let shop = Shop::new().await;
    let right = shop.clock.now();
    shop.clock.set(right.after(YEARS));
    shop.tidy(&shop.site.app).await;
    shop.clock.set(right);
    shop.tidy(&shop.site.app).await;
    assert_eq!(shop.there().await, (true, 2));
    assert_eq!(shop.site.app.time().settled, right);
    shop.clock.advance(GRACE);
    shop.tidy(&shop.site.app).await;
    assert_eq!(shop.there().await, (false, 0));
}

#[tokio::test]
async fn a_first_start_after_a_long_pause_is_believed_when_an_operator_says_so() {
    let shop = Shop::new().await;
    shop.clock.set(shop.clock.now().after(YEARS));
    let process = shop.site.another_process().await;
    let before = process.confirm_time(true).await.unwrap();
    assert!(before.before.unwrap().after(GRACE) < before.now);
    shop.tidy(&process).await;
    assert_eq!(shop.there().await, (true, 2), "only looked");
    process.confirm_time(false).await.unwrap();
    for process in [&process, &shop.site.app] {
        wait_until_believed(process).await;
    }
    shop.tidy(&process).await;
    assert_eq!(shop.there().await, (false, 0));
}

#[tokio::test]
async fn the_audit_keeps_what_is_old_by_a_clock_that_is_not_believed() {
    let shop = Shop::new().await;
    let first = shop.site.audit.own().join("0000000001.jsonl");
    // Another day has another segment.
    shop.clock.advance(Duration::from_secs(24 * 3_600));
    shop.tidy(&shop.site.app).await;
    shop.site.app.invite_operator("one@weft.example").await.unwrap();
    shop.clock.set(shop.clock.now().after(YEARS));
    shop.site.app.invite_operator("two@weft.example").await.unwrap();
    assert!(!shop.site.app.expire_audit().await.unwrap());
    assert!(first.exists());
    shop.site.app.confirm_time(false).await.unwrap();
    wait_until_believed(&shop.site.app).await;
    assert!(shop.site.app.expire_audit().await.unwrap());
    assert!(!first.exists(), "it was old enough to go");
}

async fn wait_until_believed(process: &Arc<App>) {
    let believed = async {
        while process.time().doubt.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), believed).await.unwrap();
}
