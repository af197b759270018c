use super::*;
use crate::{blob::content, conformance};

fn name(text: &str) -> BlobName {
    BlobName::new(text).unwrap()
}

/// Every file and folder below `root`, but for the lock.
fn everything(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.retain(|path| path != ".lock");
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(root.path()).unwrap();
    conformance::blob_store(&blobs).await;
    // What was given up in the middle is removed by its own thread.
    while everything(root.path()) != [".tmp"] {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn damage_is_found_and_nothing_of_it_handed_on() {
    let root = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(root.path()).unwrap();
    let a = name("a");
    let all = vec![7u8; 3 * BLOCK_LEN + 10];
    blobs.put(&a, content(all.clone()), Condition::Always).await.unwrap();
    let path = root.path().join("a=");
    let stored = fs::read(&path).unwrap();
    let last = stored.len() - 1;
    // In the second block, in its digest, in the trailer.
    let digests_at = all.len();
    for at in [BLOCK_LEN, 2 * BLOCK_LEN - 1, digests_at + DIGEST_LEN, last, last - 50] {
        let mut damaged = stored.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let first = ByteRange { start: 0, len: BLOCK_LEN as u64 };
        if at < last - 50 {
            let good = blobs.get(&a, first).await.unwrap().read(BLOCK_LEN).await.unwrap();
            assert_eq!(good, all[..BLOCK_LEN], "what is whole is read");
            let mut blob = blobs.get(&a, ByteRange::ALL).await.unwrap();
            assert_eq!(blob.content.next().await.unwrap().unwrap().len(), BLOCK_LEN);
            let damaged = blob.content.next().await.unwrap().unwrap_err();
            assert!(matches!(damaged, ProviderError::Corrupt(_)));
            assert!(blob.content.next().await.is_none());
        } else {
            let damaged = blobs.describe(&a).await.unwrap_err();
            assert_eq!(damaged.to_string(), "blob a is damaged");
        }
    }
    for len in [0, 10, last] {
        fs::write(&path, &stored[..len]).unwrap();
        assert!(matches!(blobs.describe(&a).await, Err(ProviderError::Corrupt(_))));
    }
    blobs.put(&a, content("new"), Condition::Always).await.unwrap();
    blobs.delete(&a).await.unwrap();
}

#[tokio::test]
async fn one_process_has_it_and_what_it_left_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(root.path()).unwrap();
    blobs.put(&name("a/b"), content("x"), Condition::Always).await.unwrap();
    let second = FolderBlobs::open(root.path());
    assert!(matches!(second, Err(ProviderError::Conflict(_))));
    fs::write(root.path().join(".tmp/half"), "half").unwrap();
    drop(blobs);
    let blobs = FolderBlobs::open(root.path()).unwrap();
    assert_eq!(everything(root.path()), [".tmp", "a", "a/b="]);
    assert_eq!(blobs.get(&name("a/b"), ByteRange::ALL).await.unwrap().read(9).await.unwrap(), "x");
}

/// A file system with room for so many bytes; `None` where none may be mounted.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(len: &str) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let options = format!("size={len}");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(root.path());
        mount.stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(root))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_what_was() {
    let Some(small) = Small::mount("4m") else {
        eprintln!("left out: no file system may be mounted here");
        return;
    };
    let root = small.0.path();
    let blobs = FolderBlobs::open(root).unwrap();
    let a = name("a");
    blobs.put(&a, content("kept"), Condition::Always).await.unwrap();
    let before = everything(root);
    let long = vec![7u8; 5 * BLOCK_LEN];
    for target in [&a, &name("new/folder/b")] {
        let full = blobs.put(target, content(long.clone()), Condition::Always).await;
        assert!(matches!(full, Err(ProviderError::Full(_))), "{full:?}");
        assert_eq!(everything(root), before);
    }
    assert_eq!(blobs.get(&a, ByteRange::ALL).await.unwrap().read(9).await.unwrap(), "kept");
    blobs.put(&a, content("and it goes on"), Condition::Always).await.unwrap();
    drop(blobs);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(FolderBlobs::open(&file).is_err());
}

#[tokio::test]
async fn who_only_reads_reads_beside_the_process_that_writes_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let absent = FolderBlobs::reading(&root.path().join("absent"));
    assert!(absent.list("", None, 9).await.unwrap().entries.is_empty());
    let a = name("a");
    assert!(matches!(absent.describe(&a).await, Err(ProviderError::Absent(_))));
    assert!(everything(root.path()).is_empty());
    let blobs = FolderBlobs::open(root.path()).unwrap();
    blobs.put(&a, content("x"), Condition::Always).await.unwrap();
    let reading = FolderBlobs::reading(root.path());
    let read = reading.get(&a, ByteRange::ALL).await.unwrap().read(9).await.unwrap();
    assert_eq!((read, reading.list("", None, 9).await.unwrap().entries.len()), ("x".into(), 1));
    for refused in [
        reading.put(&name("b"), content("x"), Condition::Absent).await.map(drop),
        reading.delete(&a).await,
    ] {
        assert!(matches!(refused, Err(ProviderError::Unsupported(_))), "{refused:?}");
    }
    blobs.put(&name("b"), content("x"), Condition::Always).await.unwrap();
}
