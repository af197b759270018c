//! What a host has no right to: it is not there, and costs as much as what is not there.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use weft_control::{
    App, AppError,
    app::{AttachWish, Caller, HostWish},
};
use weft_model::{
    Record, SlotName,
    access::Actor,
    record::{Environment, SlotKey},
};
use weft_pki::{KeyKind, request};
use weft_store::Store;
use weft_types::{EnvironmentId, HostId};

use crate::{held::Held, site::Site};

/// An environment with a host that may have attachments of it, and one that may not; another process.
struct Shop {
    site: Site,
    shop: EnvironmentId,
    /// Which attachment it has.
    generation: u64,
    own: Caller,
    foreign: Caller,
    held: Arc<Held>,
    other: Arc<App>,
}

fn wish(host: &str) -> AttachWish {
    AttachWish {
        name: "web-1".parse().unwrap(),
        slot: SlotKey { service: "web".parse().unwrap(), slot: SlotName::Stable(0) },
        host: HostWish { id: host.parse().unwrap(), grant: None },
        addresses: Vec::new(),
        share: None,
    }
}

impl Shop {
    async fn open() -> Self {
        let site = Site::start().await;
        let owner = site.organisation("acme").await;
        let shop: EnvironmentId =
            site.environment(&owner, "acme", "shop").await.id.parse().unwrap();
        let caller = |host: &str| site.caller(Actor::Host(host.parse::<HostId>().unwrap()));
        let (own, foreign) = (caller("host-a"), caller("host-b"));
        site.enrol("host-a").await;
        site.enrol("host-b").await;
        site.allow(shop.as_str(), "host-a").await;
        let reference = shop.as_str().parse().unwrap();
        let made = site.app.attach_here(&own, &reference, &wish("host-a")).await.unwrap();
        let generation = made.generation;
        let key = Environment::key_at(shop.as_str()).unwrap();
        let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, key);
        let other = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
        Self { site, shop, generation, own, foreign, held, other }
    }
}

#[tokio::test]
async fn nothing_is_read_of_an_environment_for_a_host_without_a_right() {
    let shop = Shop::open().await;
    let (id, absent) = (shop.shop.as_str(), "env-aaaaaaaaaaaaaaaa");
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    let mut read = Vec::new();
    for environment in [id, "acme/shop", absent, "acme/none", "none/none"] {
        let (before, reference) = (shop.held.asked(), environment.parse().unwrap());
        let refused = shop.other.attach_here(&shop.foreign, &reference, &wish("host-b")).await;
        assert!(matches!(refused, Err(AppError::NotFound("environment"))), "{refused:?}");
        read.push(shop.held.asked() - before);
    }
    assert_eq!(read, [1; 5], "the right, and nothing else");
    read.clear();
    for environment in [id, absent] {
        let (before, environment) = (shop.held.asked(), environment.parse().unwrap());
        let refused = shop.other.issue_leaf(&shop.foreign, &environment, &key.request).await;
        assert!(matches!(refused, Err(AppError::NotFound("environment"))), "{refused:?}");
        let name = "web-1".parse().unwrap();
        shop.other.release_here(&shop.foreign, &environment, &name, 1).await.unwrap();
        read.push(shop.held.asked() - before);
    }
    assert_eq!(read, [1; 2], "the attachment that is to be released, and nothing else");
}

/// A process that has not heard yet that a host has nothing of an environment any more waits until it has.
#[tokio::test]
async fn a_certificate_is_not_issued_from_what_is_over() {
    let shop = Shop::open().await;
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    shop.other.issue_leaf(&shop.own, &shop.shop, &key.request).await.unwrap();
    shop.held.hear(false);
    let name = "web-1".parse().unwrap();
    let released = shop.site.app.release_here(&shop.own, &shop.shop, &name, shop.generation);
    released.await.unwrap();
    let asked = shop.other.issue_leaf(&shop.own, &shop.shop, &key.request);
    let hears = async {
        sleep(Duration::from_millis(100)).await;
        shop.held.hear(true);
    };
    let both = async { tokio::join!(asked, hears) };
    let (refused, ()) = timeout(Duration::from_secs(30), both).await.unwrap();
    assert!(matches!(refused, Err(AppError::NotFound("environment"))), "{refused:?}");
}
