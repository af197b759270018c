//! How many may watch services at once, and what is kept for one who does not read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::time::timeout;
use tonic::Code;
use weft_control::{
    AppError,
    app::{Caller, EnvironmentReference, PART_LEN_MAX, ServicesWatch},
};
use weft_control_api::v1::{self, services_client::ServicesClient};
use weft_model::{
    access::EnvironmentRole,
    projection::{ServiceDocument, ServicePart},
    registry::ServiceWish,
};
use weft_store::Revision;

use crate::site::{Site, name, next, with};

/// Watches of one environment, of all of them.
const WATCHES_MAX: usize = 64;
const ALL_WATCHES_MAX: usize = 2_048;

async fn begin(site: &Site, environment: &str) -> Result<ServicesWatch, AppError> {
    let caller = site.machine(environment, EnvironmentRole::Viewer);
    let reference: EnvironmentReference = environment.parse().unwrap();
    ServicesWatch::begin(Arc::clone(&site.app), &caller, &reference, Revision(0)).await
}

/// The next part: of each service its name and version.
async fn part(watch: &mut ServicesWatch) -> Result<ServicePart<(String, u64)>, AppError> {
    let caller = || async { Err(AppError::Unauthenticated) };
    // As long as a service with all the metadata that it may have.
    let named = |service: &ServiceDocument| ((service.name.to_string(), service.version), 5_000);
    Ok(watch.next(caller, named).await?.unwrap())
}

/// Whether others have taken its place.
async fn is_ousted(watch: &mut ServicesWatch) -> bool {
    let told = timeout(Duration::from_millis(5), part(watch)).await;
    matches!(told, Ok(Err(AppError::Exhausted(_))))
}

#[tokio::test]
async fn when_all_watches_are_taken_the_environment_with_the_most_loses_its_oldest() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let small = site.environment(&owner, "acme", "small").await.id;
    let mut oldest = begin(&site, &small).await.unwrap();

    let mut large = VecDeque::new();
    let first = site.environment(&owner, "acme", "e0").await.id;
    let mut services = ServicesClient::new(site.connect(None).await);
    let watch = v1::WatchServicesRequest { environment: name(&first), revision: 0 };
    let mut stream = services.watch_services(with(watch, &owner)).await.unwrap().into_inner();
    assert!(next(&mut stream).await.unwrap().is_snapshot);
    for n in 0..ALL_WATCHES_MAX / WATCHES_MAX {
        let id = match n {
            0 => first.clone(),
            n => site.environment(&owner, "acme", &format!("e{n}")).await.id,
        };
        // One is the stream, and one is the small one's.
        let others = usize::from(n == 0 || n + 1 == ALL_WATCHES_MAX / WATCHES_MAX);
        for _ in others..WATCHES_MAX {
            large.push_back(begin(&site, &id).await.unwrap());
        }
    }
    assert_eq!(large.len() + 2, ALL_WATCHES_MAX);

    // As many as there may be: of those with the most, the one that came first goes.
    let newest = begin(&site, &small).await.unwrap();
    let ended = next(&mut stream).await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted);
    let why = "2048 watches are all that there may be, and of these the organisation has the most: the oldest of its \
               environment that has the most ends";
    assert_eq!(ended.message(), why);
    // Its environment has fewer than others now, and the next one is of another.
    let next_one = begin(&site, &small).await.unwrap();
    assert!(!is_ousted(&mut large[0]).await);
    assert!(is_ousted(&mut large[WATCHES_MAX - 1]).await);
    assert!(!is_ousted(&mut oldest).await, "whoever has few loses none");
    drop((newest, next_one));
}

#[tokio::test]
async fn an_organisation_with_many_environments_pushes_out_nobody_else() {
    const EACH: usize = 62;
    let site = Site::start().await;
    let (owner, other) = (site.organisation("acme").await, site.organisation("globex").await);
    let alone = site.environment(&other, "globex", "alone").await.id;
    let mut own = Vec::new();
    for _ in 1..WATCHES_MAX {
        own.push(begin(&site, &alone).await.unwrap());
    }
    let mut many = Vec::new();
    for n in 0..=ALL_WATCHES_MAX / EACH {
        let id = site.environment(&owner, "acme", &format!("e{n}")).await.id;
        for _ in 0..EACH.min(ALL_WATCHES_MAX - own.len() - many.len()) {
            many.push(begin(&site, &id).await.unwrap());
        }
    }
    assert_eq!(own.len() + many.len(), ALL_WATCHES_MAX);
    // No environment has as many as this one, but together they have more.
    own.push(begin(&site, &alone).await.unwrap());
    assert!(!is_ousted(&mut own[0]).await);
    assert!(is_ousted(&mut many[0]).await);
}

/// An environment with so many services of all the metadata that they may have.
async fn shop_of(site: &Site, owner: &str, len: usize) -> (String, Caller) {
    let id = site.environment(owner, "acme", "shop").await.id;
    let caller = site.machine(&id, EnvironmentRole::Deployer);
    for n in 0..len {
        put(site, &caller, &id, &format!("s{n:03}"), 0).await;
    }
    (id, caller)
}

async fn put(site: &Site, caller: &Caller, id: &str, service: &str, version: u64) -> u64 {
    let metadata = (0..15).map(|n| (format!("m{n:02}"), "x".repeat(256))).collect();
    let wish = ServiceWish { name: service.parse().unwrap(), ports: BTreeMap::new(), metadata };
    let put = site.app.put_service(caller, &id.parse().unwrap(), &wish, version).await;
    put.unwrap().version
}

#[tokio::test]
async fn what_is_done_in_other_environments_wakes_nobody() {
    const CHANGES: u64 = 10;
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let (shop, caller) = shop_of(&site, &owner, 0).await;
    let other = site.environment(&owner, "acme", "other").await.id;
    let other_caller = site.machine(&other, EnvironmentRole::Deployer);
    let mut watch = begin(&site, &shop).await.unwrap();
    assert!(part(&mut watch).await.unwrap().is_snapshot);
    site.seen(&site.app).await;

    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let told = tokio::spawn(async move {
        let mut next = Box::pin(async { part(&mut watch).await.unwrap() });
        poll_fn(|context| {
            counted.fetch_add(1, Ordering::Relaxed);
            next.as_mut().poll(context)
        })
        .await
    });
    let until_idle = async || tokio::time::sleep(Duration::from_millis(50)).await;
    until_idle().await;
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    for n in 0..CHANGES {
        put(&site, &other_caller, &other, &format!("web-{n}"), 0).await;
        until_idle().await;
    }
    assert_eq!(polls.load(Ordering::Relaxed), 1, "it slept all the time");
    put(&site, &caller, &shop, "db", 0).await;
    let told = timeout(Duration::from_secs(5), told).await.unwrap().unwrap();
    assert_eq!(told.services.len(), 1);
    assert_eq!(told.services[0].0, "db");
}

#[tokio::test]
async fn what_is_larger_than_a_part_arrives_whole_in_parts_of_bounded_size() {
    const SERVICES: usize = 40;
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let (id, _) = shop_of(&site, &owner, SERVICES).await;
    let mut services = ServicesClient::new(site.connect(None).await);
    let watch = v1::WatchServicesRequest { environment: name(&id), revision: 0 };
    let mut stream = services.watch_services(with(watch, &owner)).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while parts.last().is_none_or(|part: &v1::WatchServicesResponse| part.more) {
        parts.push(next(&mut stream).await.unwrap());
    }
    assert!(parts.len() >= 5, "{} parts", parts.len());
    for (n, part) in parts.iter().enumerate() {
        assert_eq!((part.is_snapshot, part.revision), (n == 0, parts[0].revision));
        let len: usize = part.services.iter().map(Message::encoded_len).sum();
        assert!(len <= PART_LEN_MAX, "{len} bytes");
    }
    let told: Vec<_> = parts.iter().flat_map(|part| &part.services).map(|s| &s.name).collect();
    let all: Vec<_> = (0..SERVICES).map(|n| format!("s{n:03}")).collect();
    assert_eq!(told, all.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn for_whoever_does_not_read_there_is_a_cursor_and_the_rest_is_made_when_they_do() {
    const SERVICES: usize = 40;
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let (id, caller) = shop_of(&site, &owner, SERVICES).await;
    let mut watch = begin(&site, &id).await.unwrap();
    let made = RefCell::new(BTreeSet::new());
    let still = || async { Ok(caller.clone()) };
    let counted = |service: &ServiceDocument| {
        made.borrow_mut().insert(service.name.to_string());
        (service.version, 5_000)
    };
    let first = watch.next(still, counted).await.unwrap().unwrap();
    assert!(first.is_snapshot && first.more && first.services.len() == PART_LEN_MAX / 5_000);
    // One is made to find out that there is no room for it.
    assert_eq!(made.borrow().len(), first.services.len() + 1, "the others are not made");
    // Meanwhile one that was told changes again and again, and one that was not is no more.
    let mut version = first.services[0];
    for _ in 0..20 {
        let other = ServiceWish {
            name: "s000".parse().unwrap(),
            ports: BTreeMap::new(),
            metadata: [("n".to_owned(), version.to_string())].into(),
        };
        let reference = id.parse().unwrap();
        version = site.app.put_service(&caller, &reference, &other, version).await.unwrap().version;
    }
    let gone = "s039".parse().unwrap();
    site.app.delete_service(&caller, &id.parse().unwrap(), &gone, 0).await.unwrap();
    let mut told = first.services.len();
    loop {
        let next = part(&mut watch).await.unwrap();
        assert_eq!((next.is_snapshot, next.revision), (false, first.revision));
        told += next.services.len();
        if !next.more {
            break;
        }
    }
    assert_eq!(told, SERVICES - 1);
    let missed = part(&mut watch).await.unwrap();
    assert_eq!(missed.services, [("s000".to_owned(), version)], "the newest state, once");
    assert_eq!(missed.removed, [gone]);
    assert!(!missed.more && missed.revision > first.revision);
}
