//! How many may watch services at once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::timeout;
use tonic::Code;
use weft_control::{
    AppError,
    app::{EnvironmentReference, ServicesWatch},
};
use weft_control_api::v1::{self, services_client::ServicesClient};
use weft_model::access::EnvironmentRole;
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

/// Whether others have taken its place.
async fn is_ousted(watch: &mut ServicesWatch) -> bool {
    timeout(Duration::from_millis(5), watch.ousted()).await.is_ok()
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
    let why = "2048 watches are all that there may be, and of these the environment has the most: its oldest ends";
    assert_eq!(ended.message(), why);
    // Its environment has fewer than others now, and the next one is of another.
    let next_one = begin(&site, &small).await.unwrap();
    assert!(!is_ousted(&mut large[0]).await);
    assert!(is_ousted(&mut large[WATCHES_MAX - 1]).await);
    assert!(!is_ousted(&mut oldest).await, "whoever has few loses none");
    drop((newest, next_one));
}
