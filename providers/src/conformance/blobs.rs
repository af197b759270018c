//! What every store of blobs does.

use bytes::Bytes;
use tokio_stream::StreamExt as _;

use super::{assert_absent, assert_conflict, assert_invalid};
use crate::{
    BlobName, ProviderError,
    blob::{BLOCK_LEN, BlobStore, ByteRange, CONDITIONAL_PUT_LEN_MAX, Condition, Content, content},
};

fn name(text: &str) -> BlobName {
    BlobName::new(text).expect("a name")
}

/// Bytes that differ from block to block.
fn patterned(len: usize) -> Bytes {
    (0..len).map(|n| (n / 7 + n / BLOCK_LEN).to_le_bytes()[0]).collect::<Vec<_>>().into()
}

async fn read(blobs: &dyn BlobStore, at: &BlobName, range: ByteRange) -> Bytes {
    let blob = blobs.get(at, range).await.expect("there");
    blob.read(usize::MAX).await.expect("whole")
}

/// Tries all of it on `blobs`, which are none.
///
/// # Panics
/// When it does anything else.
pub async fn blob_store(blobs: &dyn BlobStore) {
    putting_and_getting(blobs).await;
    lengths_and_ranges(blobs).await;
    conditions(blobs).await;
    failures(blobs).await;
    lists(blobs).await;
}

async fn putting_and_getting(blobs: &dyn BlobStore) {
    let a = name("folder/a");
    assert_absent(blobs.get(&a, ByteRange::ALL).await);
    assert_absent(blobs.describe(&a).await);
    blobs.delete(&a).await.expect("deleting what is not there is no error");
    let first = blobs.put(&a, content("first"), Condition::Always).await.expect("put");
    assert_eq!((&first.name, first.len), (&a, 5));
    assert_eq!(blobs.describe(&a).await.expect("there"), first);
    let mut old = blobs.get(&a, ByteRange::ALL).await.expect("there");
    assert_eq!(old.info, first);
    assert_eq!(old.content.next().await.expect("content").expect("whole"), "first");
    let second = blobs.put(&a, content("second"), Condition::Always).await.expect("replaced");
    assert_ne!(second.etag, first.etag);
    assert_eq!(read(blobs, &a, ByteRange::ALL).await, "second");
    let again = blobs.put(&a, content("first"), Condition::Always).await.expect("replaced");
    assert_eq!(again.etag, first.etag, "the etag is the content's");

    // Names may be in each other.
    let (above, below) = (name("folder"), name("folder/a/b"));
    blobs.put(&above, content("above"), Condition::Always).await.expect("put");
    blobs.put(&below, content("below"), Condition::Always).await.expect("put");
    assert_eq!(read(blobs, &a, ByteRange::ALL).await, "first");
    for gone in [&a, &above, &below] {
        blobs.delete(gone).await.expect("deleted");
        blobs.delete(gone).await.expect("twice is once");
        assert_absent(blobs.describe(gone).await);
    }
}

async fn lengths_and_ranges(blobs: &dyn BlobStore) {
    let a = name("a");
    for len in [0, 1, BLOCK_LEN, 3 * BLOCK_LEN + 5, 20 * BLOCK_LEN + 77] {
        let all = patterned(len);
        let pieces: Vec<_> = all.chunks(999_983).map(Bytes::copy_from_slice).map(Ok).collect();
        let pieces: Content = Box::pin(tokio_stream::iter(pieces));
        let put = blobs.put(&a, pieces, Condition::Always).await.expect("put");
        assert_eq!(put.len, len as u64);
        assert_eq!(read(blobs, &a, ByteRange::ALL).await, all);
        for (start, count) in [
            (0, 1),
            (1, BLOCK_LEN),
            (BLOCK_LEN, BLOCK_LEN),
            (BLOCK_LEN - 1, 2),
            (9 * BLOCK_LEN + 3, 7 * BLOCK_LEN),
            (len.saturating_sub(1), 10),
            (len, 10),
            (0, 0),
        ] {
            let range = ByteRange { start: start as u64, len: count as u64 };
            if start > len {
                assert_invalid(blobs.get(&a, range).await);
                continue;
            }
            let expected = all.slice(start..len.min(start + count));
            assert_eq!(read(blobs, &a, range).await, expected, "{start} {count} of {len}");
        }
    }
    let short = blobs.get(&a, ByteRange::ALL).await.expect("there").read(100).await;
    assert_invalid(short);
    blobs.delete(&a).await.expect("deleted");
}

async fn conditions(blobs: &dyn BlobStore) {
    let a = name("a");
    let first = blobs.put(&a, content("first"), Condition::Absent).await.expect("it was absent");
    assert_conflict(blobs.put(&a, content("other"), Condition::Absent).await);
    assert_eq!(read(blobs, &a, ByteRange::ALL).await, "first");
    let unchanged = Condition::Unchanged(first.etag);
    let second = blobs.put(&a, content("second"), unchanged).await.expect("it was unchanged");
    assert_conflict(blobs.put(&a, content("other"), unchanged).await);
    assert_eq!(blobs.describe(&a).await.expect("there"), second);
    blobs.delete(&a).await.expect("deleted");
    assert_conflict(blobs.put(&a, content("other"), unchanged).await);
    assert_absent(blobs.describe(&a).await);
    let long = patterned(CONDITIONAL_PUT_LEN_MAX);
    blobs.put(&a, content(long.clone()), Condition::Absent).await.expect("just so long");
    assert_eq!(read(blobs, &a, ByteRange::ALL).await, long);
    blobs.delete(&a).await.expect("deleted");
    let longer = patterned(CONDITIONAL_PUT_LEN_MAX + 1);
    assert_invalid(blobs.put(&a, content(longer), Condition::Absent).await);
    assert_absent(blobs.describe(&a).await);

    // Of those who come at once one is first.
    let put = |text: &'static str| blobs.put(&a, content(text), Condition::Absent);
    let (b, c, d) = tokio::join!(put("b"), put("c"), put("d"));
    let puts = [b, c, d];
    let done: Vec<_> = puts.iter().filter_map(|put| put.as_ref().ok()).collect();
    assert_eq!(done.len(), 1, "{puts:?}");
    assert_eq!(blobs.describe(&a).await.expect("there"), *done[0]);
    blobs.delete(&a).await.expect("deleted");
}

async fn failures(blobs: &dyn BlobStore) {
    let a = name("a");
    blobs.put(&a, content("kept"), Condition::Always).await.expect("put");
    let broken = |len: usize| -> Content {
        let error = ProviderError::Unavailable("the other end is gone".to_owned());
        Box::pin(tokio_stream::iter([Ok(patterned(len)), Err(error)]))
    };
    for len in [3, 9 * BLOCK_LEN, 20 * BLOCK_LEN] {
        let failed = blobs.put(&a, broken(len), Condition::Always).await;
        assert!(matches!(failed, Err(ProviderError::Unavailable(_))), "{failed:?}");
        assert_eq!(read(blobs, &a, ByteRange::ALL).await, "kept");
    }
    // Given up in the middle.
    let never = tokio_stream::iter([Ok(patterned(9 * BLOCK_LEN))]).chain(tokio_stream::pending());
    let dropped = blobs.put(&a, Box::pin(never), Condition::Always);
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), dropped).await;
    assert!(given_up.is_err());
    assert_eq!(read(blobs, &a, ByteRange::ALL).await, "kept");
    blobs.delete(&a).await.expect("deleted");
}

async fn lists(blobs: &dyn BlobStore) {
    let mut names: Vec<_> = [
        "a", "a-b", "a.b", "a/b", "a/b/c", "a/b-c", "a0", "ab", "b/a", "b/b", "c/d/e/f", "B", "z_",
    ]
    .map(name)
    .to_vec();
    for one in &names {
        blobs.put(one, content("x"), Condition::Always).await.expect("put");
    }
    names.sort();
    for prefix in ["", "a", "a/", "a/b", "b/", "c/d", "c/d/", "nothing", "z", "a/b/"] {
        for len_max in [1, 2, 3, 100] {
            let mut found: Vec<BlobName> = Vec::new();
            loop {
                let page = blobs.list(prefix, found.last(), len_max).await.expect("a list");
                assert!(page.entries.len() <= len_max);
                assert!(!page.more || page.entries.len() == len_max);
                found.extend(page.entries.into_iter().map(|listed| listed.name));
                if !page.more {
                    break;
                }
            }
            let expected: Vec<_> =
                names.iter().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
            assert_eq!(found, expected, "{prefix:?}, {len_max} at once");
        }
    }
    let after = blobs.list("", Some(&name("a/a")), 2).await.expect("a list");
    let after: Vec<_> = after.entries.iter().map(|listed| listed.name.as_str()).collect();
    assert_eq!(after, ["a/b", "a/b-c"], "also after what is not there");
    for bad in ["/", "../", "a//"] {
        assert_invalid(blobs.list(bad, None, 10).await);
    }
    for one in &names {
        blobs.delete(one).await.expect("deleted");
    }
    assert!(blobs.list("", None, 10).await.expect("a list").entries.is_empty());
}
