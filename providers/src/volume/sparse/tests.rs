use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::*;
use crate::{conformance, volume::VOLUME_LEN_STEP};

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

fn spec(len: u64) -> VolumeSpec {
    VolumeSpec { len, snapshot: None }
}

#[tokio::test]
async fn conforms_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let volumes = SparseVolumes::open(root.path()).unwrap();
    conformance::block_volume(&volumes).await;
    for folder in [".tmp", "volumes", "snapshots"] {
        assert_eq!(fs::read_dir(root.path().join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[tokio::test]
async fn holes_stay_holes() {
    let root = tempfile::tempdir().unwrap();
    let volumes = SparseVolumes::open(root.path()).unwrap();
    let a = name("a");
    volumes.create(&a, &spec(1 << 30)).await.unwrap();
    let attached = volumes.attach(&a, "host-a", 1).await.unwrap();
    attached.disk.write_all_at(&[7; 4_096], 500 << 20).unwrap();
    volumes.detach(&a, "host-a").await.unwrap();
    volumes.snapshot(&a, &name("s")).await.unwrap();
    let of = VolumeSpec { len: 1 << 30, snapshot: Some("s".to_owned()) };
    volumes.create(&name("b"), &of).await.unwrap();
    for disk in ["volumes/a/disk", "snapshots/s/disk", "volumes/b/disk"] {
        let found = fs::metadata(root.path().join(disk)).unwrap();
        assert_eq!(found.len(), 1 << 30);
        assert!(found.blocks() * 512 < 1 << 20, "{disk} takes {} blocks", found.blocks());
    }
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart_and_nothing_half_made() {
    let root = tempfile::tempdir().unwrap();
    let volumes = SparseVolumes::open(root.path()).unwrap();
    let a = name("a");
    volumes.create(&a, &spec(VOLUME_LEN_STEP)).await.unwrap();
    let attached = volumes.attach(&a, "host-a", 5).await.unwrap().info;
    let second = SparseVolumes::open(root.path());
    assert!(matches!(second, Err(ProviderError::Conflict(_))));
    // As a process leaves it that is killed while it makes a volume.
    fs::create_dir(root.path().join(".tmp/half")).unwrap();
    fs::write(root.path().join(".tmp/half/disk"), "half").unwrap();
    drop(volumes);
    let volumes = SparseVolumes::open(root.path()).unwrap();
    assert_eq!(volumes.describe(&a).await.unwrap(), attached);
    assert_eq!(fs::read_dir(root.path().join(".tmp")).unwrap().count(), 0);
    let refused = volumes.attach(&a, "host-a", 4).await.unwrap_err();
    assert_eq!(refused.to_string(), "volume a: generation 4 is superseded by 5");
    fs::write(root.path().join("volumes/a/record.json"), "{").unwrap();
    assert!(matches!(volumes.describe(&a).await, Err(ProviderError::Corrupt(_))));
}

#[tokio::test]
async fn what_is_written_to_is_kept_only_at_one_moment() {
    let root = tempfile::tempdir().unwrap();
    let volumes = SparseVolumes::open(root.path()).unwrap();
    let a = name("a");
    volumes.create(&a, &spec(VOLUME_LEN_STEP)).await.unwrap();
    volumes.attach(&a, "host-a", 1).await.unwrap();
    let shares_blocks = {
        let from = tempfile::tempfile_in(root.path()).unwrap();
        rustix::fs::ioctl_ficlone(tempfile::tempfile_in(root.path()).unwrap(), &from).is_ok()
    };
    match volumes.snapshot(&a, &name("s")).await {
        Ok(_) => assert!(shares_blocks),
        Err(error) => {
            assert!(!shares_blocks && matches!(error, ProviderError::Conflict(_)), "{error}");
            let absent = volumes.describe_snapshot(&name("s")).await;
            assert!(matches!(absent, Err(ProviderError::Absent(_))));
        }
    }
}
