//! What every provider of instances does.

use std::time::Duration;

use bytes::Bytes;

use super::{assert_absent, assert_conflict, assert_invalid, name};
use crate::{
    ResourceName,
    instance::{Instance, InstanceInfo, InstanceSpec, InstanceState, USER_DATA_LEN_MAX},
};

/// Images that the provider knows.
#[derive(Debug, Clone, Copy)]
pub struct Images<'i> {
    /// Runs until it is told to stop, and then stops.
    pub patient: &'i str,
    /// Runs and does not stop by itself, even when it is told.
    pub stubborn: &'i str,
    /// Ends at once.
    pub brief: &'i str,
}

fn spec(image: &str) -> InstanceSpec {
    InstanceSpec { image: image.to_owned(), size: String::new(), user_data: Bytes::new() }
}

/// Waits until an instance is in `state`.
async fn reach(
    instances: &dyn Instance,
    name: &ResourceName,
    state: InstanceState,
) -> InstanceInfo {
    let mut seen = 0;
    loop {
        seen = instances.changed(seen).await.expect("changes are told");
        let info = instances.describe(name).await.expect("it is there");
        if info.state == state {
            return info;
        }
    }
}

/// Tries all of it on `instances`, which are none.
///
/// # Panics
/// When it does anything else.
pub async fn instance(instances: &dyn Instance, images: Images<'_>) {
    let (a, b) = (name("a"), name("b"));
    assert_absent(instances.describe(&a).await);
    assert_absent(instances.stop(&a, Duration::ZERO).await);
    instances.delete(&a).await.expect("deleting what is not there is no error");
    assert_invalid(instances.start(&a, &spec("no-such-image")).await);
    let data = vec![0; USER_DATA_LEN_MAX + 1].into();
    let long = InstanceSpec { user_data: data, ..spec(images.patient) };
    assert_invalid(instances.start(&a, &long).await);
    assert_absent(instances.describe(&a).await);

    instances.start(&a, &spec(images.patient)).await.expect("started");
    let running = reach(instances, &a, InstanceState::Running).await;
    assert_eq!((&running.name, &running.spec, &running.ending), (&a, &spec(images.patient), &None));
    instances.start(&a, &spec(images.patient)).await.expect("twice is once");
    assert_conflict(instances.start(&a, &spec(images.brief)).await);

    instances.start(&b, &spec(images.brief)).await.expect("another one");
    assert!(reach(instances, &b, InstanceState::Ended).await.ending.is_some());
    let ended = instances.start(&b, &spec(images.brief)).await.expect("twice is once");
    assert_eq!(ended.state, InstanceState::Ended, "it does not start again");
    instances.stop(&b, Duration::ZERO).await.expect("nothing happens");
    let page = instances.list(None, 1).await.expect("a list");
    assert_eq!((&page.entries[0].name, page.entries.len(), page.more), (&a, 1, true));
    let page = instances.list(Some(&a), 10).await.expect("a list");
    assert_eq!((&page.entries[0].name, page.entries.len(), page.more), (&b, 1, false));
    instances.delete(&b).await.expect("deleted");
    assert_absent(instances.describe(&b).await);

    instances.stop(&a, Duration::from_secs(60)).await.expect("told");
    reach(instances, &a, InstanceState::Ended).await;
    instances.delete(&a).await.expect("deleted");
    instances.start(&a, &spec(images.stubborn)).await.expect("the name is free again");
    reach(instances, &a, InstanceState::Running).await;
    instances.stop(&a, Duration::from_millis(10)).await.expect("told");
    reach(instances, &a, InstanceState::Ended).await;
    instances.delete(&a).await.expect("deleted");
    instances.start(&b, &spec(images.stubborn)).await.expect("started");
    instances.delete(&b).await.expect("cut off");
    assert!(instances.list(None, 10).await.expect("a list").entries.is_empty());
}
