//! Whoever watches services.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use weft_control::{
    AppError,
    app::{EnvironmentReference, ServicesWatch},
};
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, services_client::ServicesClient,
};
use weft_model::access::EnvironmentRole;
use weft_store::Revision;

use super::Shop;
use crate::site::{code, name, next, with};

#[tokio::test]
async fn whoever_watches_services_is_told_of_each_change_and_may_come_back() {
    let mut shop = Shop::open().await;
    let mut watch = shop.watch(0).await;
    let first = next(&mut watch).await.unwrap();
    assert!(first.is_snapshot && !first.more);
    assert_eq!((first.services.len(), first.services[0].instances.len()), (1, 2));
    let put = shop.put(0, "one").await.unwrap();
    let news = next(&mut watch).await.unwrap();
    assert!(!news.is_snapshot && news.revision > first.revision);
    assert_eq!(news.services, std::slice::from_ref(&put));
    shop.acquire("db-0").await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().services[0].roles[0].holder, "db-0");
    drop(watch);

    // What is of another environment is no news; what was missed is told, once.
    let other = shop.site.environment(&shop.owner, "acme", "other").await;
    let foreign = v1::PutServiceRequest {
        environment: name(&other.id),
        name: "db".to_owned(),
        ..Default::default()
    };
    shop.services.put_service(with(foreign, &shop.owner)).await.unwrap();
    for name in ["db-0", "db-1"] {
        shop.release(name).await;
    }
    let delete = v1::DeleteServiceRequest {
        environment: shop.name(),
        name: "db".to_owned(),
        revision: put.revision,
    };
    shop.services.delete_service(with(delete, &shop.owner)).await.unwrap();
    let mut again = shop.watch(news.revision).await;
    let missed = next(&mut again).await.unwrap();
    assert!(!missed.is_snapshot);
    assert_eq!((missed.services.len(), missed.removed), (0, vec!["db".to_owned()]));
    // A revision that is not known begins anew.
    let mut anew = shop.watch(missed.revision + 1_000).await;
    let anew = next(&mut anew).await.unwrap();
    assert!(anew.is_snapshot && anew.services.is_empty() && anew.removed.is_empty());
}

#[tokio::test]
async fn who_watches_slowly_gets_the_newest_state_and_not_each_step() {
    const CHANGES: usize = 100;
    let mut shop = Shop::open().await;
    // HTTP/2 has no smaller windows; a message has 4 KiB.
    let mut narrow = ServicesClient::new(shop.site.connect_narrowly(65_535).await);
    let watch = v1::WatchServicesRequest { environment: shop.name(), revision: 0 };
    let watch = narrow.watch_services(with(watch, &shop.owner)).await;
    let mut watch = watch.unwrap().into_inner();
    let mut revision = 0;
    let long = |n: usize| format!("{n:03}").repeat(80);
    for n in 0..CHANGES {
        let mut put = v1::PutServiceRequest {
            environment: shop.name(),
            name: "db".to_owned(),
            revision,
            ..Default::default()
        };
        put.metadata.extend((0..16).map(|k| (format!("n{k}"), long(n))));
        let put = shop.services.put_service(with(put, &shop.owner)).await.unwrap().into_inner();
        revision = put.revision;
    }
    let mut messages = 0;
    loop {
        let news = next(&mut watch).await.unwrap();
        messages += 1;
        let last = long(CHANGES - 1);
        if news.services.iter().any(|service| service.metadata.get("n0") == Some(&last)) {
            break;
        }
    }
    assert!(messages < CHANGES / 2, "{messages} messages waited");
}

#[tokio::test]
async fn a_watch_ends_when_its_caller_or_its_environment_does() {
    let shop = Shop::open().await;
    let app = Arc::clone(&shop.site.app);
    let caller = shop.site.machine(&shop.id, EnvironmentRole::Viewer);
    let reference: EnvironmentReference = shop.id.parse().unwrap();
    let begin = || ServicesWatch::begin(Arc::clone(&app), &caller, &reference, Revision(0));
    let still = || async { Ok(caller.clone()) };
    tokio::time::pause();
    let mut watch = begin().await.unwrap();
    assert!(watch.next(std::future::pending(), still).await.unwrap().unwrap().is_snapshot);
    let ended = watch.next(std::future::pending(), || async { Err(AppError::Unauthenticated) });
    assert!(matches!(ended.await, Err(AppError::Unauthenticated)));
    drop(watch);
    let stranger = shop.site.machine("env-aaaaaaaaaaaaaaaa", EnvironmentRole::Admin);
    let mut watch = begin().await.unwrap();
    watch.next(std::future::pending(), still).await.unwrap();
    let ended = watch.next(std::future::pending(), || async { Ok(stranger.clone()) });
    assert!(matches!(ended.await, Err(AppError::NotFound("environment"))));
    let gone = watch.next(tokio::time::sleep(Duration::from_secs(1)), still);
    assert!(matches!(gone.await, Ok(None)));
    tokio::time::resume();

    let mut watches = vec![watch];
    for _ in 1..64 {
        watches.push(begin().await.unwrap());
    }
    assert!(matches!(begin().await, Err(AppError::Exhausted(_))));
    watches.pop();
    let mut watch = begin().await.unwrap();
    assert!(watch.next(std::future::pending(), still).await.unwrap().is_some());
}

#[tokio::test]
async fn a_watch_of_an_environment_that_is_purged_says_that_it_is_not_there() {
    let mut shop = Shop::open().await;
    let mut watch = shop.watch(0).await;
    next(&mut watch).await.unwrap();
    let mut environments = EnvironmentsClient::new(shop.site.connect(None).await);
    let delete = v1::DeleteEnvironmentRequest { environment: shop.name(), grace_seconds: Some(0) };
    environments.delete_environment(with(delete, &shop.owner)).await.unwrap();
    for _ in 0..2 {
        shop.site.tidy().await;
    }
    let end = loop {
        match next(&mut watch).await {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!((end.code(), end.message()), (Code::NotFound, "no such environment"));
    let get = v1::GetServiceRequest { environment: shop.name(), name: "db".to_owned() };
    assert_eq!(code(shop.services.get_service(with(get, &shop.owner)).await), Code::NotFound);
}
