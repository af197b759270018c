//! What every provider of volumes does.

use std::os::unix::fs::FileExt as _;

use super::{assert_absent, assert_conflict, assert_invalid, name};
use crate::volume::{BlockVolume, VOLUME_LEN_STEP, VolumeSpec};

const STEP: u64 = VOLUME_LEN_STEP;

fn spec(len: u64) -> VolumeSpec {
    VolumeSpec { len, snapshot: None }
}

/// Tries all of it on `volumes`, which are none.
///
/// # Panics
/// When it does anything else.
pub async fn block_volume(volumes: &dyn BlockVolume) {
    making_and_growing(volumes).await;
    attaching(volumes).await;
    snapshots(volumes).await;
}

async fn making_and_growing(volumes: &dyn BlockVolume) {
    let (a, b) = (name("a"), name("b"));
    assert_absent(volumes.describe(&a).await);
    assert_absent(volumes.grow(&a, STEP).await);
    volumes.delete(&a).await.expect("deleting what is not there is no error");
    for len in [0, 1, STEP + 1, u64::MAX / STEP * STEP] {
        assert_invalid(volumes.create(&a, &spec(len)).await);
    }
    assert_absent(volumes.describe(&a).await);

    let made = volumes.create(&a, &spec(4 * STEP)).await.expect("made");
    assert_eq!((made.len, made.attached.as_ref(), made.generation), (4 * STEP, None, 0));
    assert_eq!(volumes.create(&a, &spec(4 * STEP)).await.expect("twice is once"), made);
    assert_conflict(volumes.create(&a, &spec(8 * STEP)).await);
    assert_eq!(volumes.describe(&a).await.expect("there"), made);

    assert_invalid(volumes.grow(&a, 5).await);
    assert_eq!(volumes.grow(&a, 6 * STEP).await.expect("grown").len, 6 * STEP);
    assert_eq!(volumes.grow(&a, 5 * STEP).await.expect("at least so long").len, 6 * STEP);
    let again = volumes.create(&a, &spec(4 * STEP)).await.expect("twice is once, also when grown");
    assert_eq!(again.len, 6 * STEP);

    volumes.create(&b, &spec(STEP)).await.expect("another one");
    let page = volumes.list(None, 1).await.expect("a list");
    assert_eq!((&page.entries[0].name, page.entries.len(), page.more), (&a, 1, true));
    let page = volumes.list(Some(&a), 10).await.expect("a list");
    assert_eq!((&page.entries[0].name, page.entries.len(), page.more), (&b, 1, false));
    volumes.delete(&a).await.expect("deleted");
    volumes.delete(&b).await.expect("deleted");
    assert_absent(volumes.describe(&a).await);
}

async fn attaching(volumes: &dyn BlockVolume) {
    let a = name("a");
    assert_absent(volumes.attach(&a, "host-a", 1).await);
    assert_absent(volumes.detach(&a, "host-a").await);
    volumes.create(&a, &spec(STEP)).await.expect("made");
    let attached = volumes.attach(&a, "host-a", 1).await.expect("attached");
    let mut byte = [7];
    attached.disk.read_exact_at(&mut byte, STEP - 1).expect("readable to the end");
    assert_eq!(byte, [0], "new volumes hold zeros");
    attached.disk.write_all_at(b"kept", 100).expect("writable");
    assert_conflict(volumes.delete(&a).await);
    assert_conflict(volumes.attach(&a, "host-b", 1).await);
    volumes.attach(&a, "host-a", 1).await.expect("the same again");
    volumes.detach(&a, "host-b").await.expect("it is not attached there");
    assert_conflict(volumes.attach(&a, "host-b", 2).await);

    let fenced = volumes.fence(&a, 3).await.expect("fenced");
    assert_eq!((fenced.attached, fenced.generation), (None, 3), "taken from the old one");
    assert_conflict(volumes.attach(&a, "host-a", 2).await);
    assert_conflict(volumes.fence(&a, 2).await);
    let taken = volumes.attach(&a, "host-b", 3).await.expect("the new one");
    let kept = volumes.fence(&a, 3).await.expect("twice is once");
    assert_eq!(kept.attached, taken.info.attached, "not from the new one");
    let mut bytes = [0; 4];
    taken.disk.read_exact_at(&mut bytes, 100).expect("readable");
    assert_eq!(&bytes, b"kept");
    volumes.detach(&a, "host-b").await.expect("detached");
    volumes.detach(&a, "host-b").await.expect("twice is once");
    assert_conflict(volumes.attach(&a, "host-a", 2).await);
    volumes.delete(&a).await.expect("deleted");
}

async fn snapshots(volumes: &dyn BlockVolume) {
    let (a, b, old) = (name("a"), name("b"), name("old"));
    assert_absent(volumes.describe_snapshot(&old).await);
    volumes.delete_snapshot(&old).await.expect("deleting what is not there is no error");
    assert_absent(volumes.snapshot(&a, &old).await);
    volumes.create(&a, &spec(4 * STEP)).await.expect("made");
    let attached = volumes.attach(&a, "host-a", 1).await.expect("attached");
    attached.disk.write_all_at(b"before", 3 * STEP).expect("writable");
    volumes.detach(&a, "host-a").await.expect("detached");
    let taken = volumes.snapshot(&a, &old).await.expect("taken");
    assert_eq!((&taken.volume, taken.len), (&a, 4 * STEP));

    attached.disk.write_all_at(b"after!", 3 * STEP).expect("writable");
    assert_eq!(volumes.snapshot(&a, &old).await.expect("twice is once"), taken);
    volumes.create(&b, &spec(STEP)).await.expect("made");
    assert_conflict(volumes.snapshot(&b, &old).await);
    volumes.delete(&b).await.expect("deleted");
    let of = |len| VolumeSpec { len, snapshot: Some("old".to_owned()) };
    assert_invalid(volumes.create(&b, &of(STEP)).await);
    let absent = VolumeSpec { len: STEP, snapshot: Some("absent".to_owned()) };
    assert_absent(volumes.create(&b, &absent).await);
    volumes.delete(&a).await.expect("deleted");
    assert_eq!(volumes.describe_snapshot(&old).await.expect("it stays"), taken);

    volumes.create(&b, &of(5 * STEP)).await.expect("made of it");
    volumes.delete_snapshot(&old).await.expect("deleted");
    assert_absent(volumes.describe_snapshot(&old).await);
    let attached = volumes.attach(&b, "host-a", 1).await.expect("attached");
    let mut bytes = [0; 6];
    attached.disk.read_exact_at(&mut bytes, 3 * STEP).expect("readable");
    assert_eq!(&bytes, b"before", "what it held at that moment");
    attached.disk.read_exact_at(&mut bytes, 5 * STEP - 6).expect("readable to the end");
    assert_eq!(bytes, [0; 6]);
    volumes.detach(&b, "host-a").await.expect("detached");
    volumes.delete(&b).await.expect("deleted");
}
