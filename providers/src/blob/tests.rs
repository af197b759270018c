//! Both stores against a map, whatever is done in whatever order.

use std::{collections::BTreeMap, sync::Arc};

use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 7] = ["a", "a/b", "a/b/c", "a-b", "a.b/c", "b", "ab"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "a/b", "b/"];

#[derive(Debug, Clone)]
enum Step {
    Put { name: usize, byte: u8, len: usize, condition: u8 },
    Delete(usize),
    Get { name: usize, start: u64, len: u64 },
    List { prefix: usize, after: Option<usize>, len_max: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let lens = prop_oneof![0usize..100, Just(BLOCK_LEN), Just(BLOCK_LEN + 1)];
    let after = proptest::option::of(0..NAMES.len());
    prop_oneof![
        (name.clone(), any::<u8>(), lens, 0u8..4)
            .prop_map(|(name, byte, len, condition)| Step::Put { name, byte, len, condition }),
        name.clone().prop_map(Step::Delete),
        (name, 0u64..120, 0u64..60).prop_map(|(name, start, len)| Step::Get { name, start, len }),
        (0..PREFIXES.len(), after, 1usize..5).prop_map(|(prefix, after, len_max)| Step::List {
            prefix,
            after,
            len_max
        }),
    ]
}

fn name(at: usize) -> BlobName {
    BlobName::new(NAMES[at]).unwrap()
}

/// What is there: content and etag, and the etag that was there before.
#[derive(Default)]
struct Model {
    blobs: BTreeMap<BlobName, (Bytes, ETag)>,
    old: BTreeMap<BlobName, ETag>,
}

async fn agrees(store: &dyn BlobStore, model: &mut Model, step: &Step) {
    match step {
        Step::Put { name: at, byte, len, condition } => {
            let name = name(*at);
            let found = model.blobs.get(&name).map(|(_, etag)| *etag);
            let (condition, holds) = match (condition, found, model.old.get(&name)) {
                (0, ..) => (Condition::Absent, found.is_none()),
                (1, Some(etag), _) => (Condition::Unchanged(etag), true),
                (2, _, Some(old)) => (Condition::Unchanged(*old), found == Some(*old)),
                _ => (Condition::Always, true),
            };
            let bytes = Bytes::from(vec![*byte; *len]);
            let put = store.put(&name, content(bytes.clone()), condition).await;
            if !holds {
                assert!(matches!(put, Err(ProviderError::Conflict(_))), "{put:?}");
                return;
            }
            let etag = put.expect("put").etag;
            model.old.extend(found.map(|found| (name.clone(), found)));
            model.blobs.insert(name, (bytes, etag));
        }
        Step::Delete(at) => {
            store.delete(&name(*at)).await.expect("deleted");
            model.blobs.remove(&name(*at));
        }
        Step::Get { name: at, start, len } => {
            let found = store.get(&name(*at), ByteRange { start: *start, len: *len }).await;
            let Some((bytes, etag)) = model.blobs.get(&name(*at)) else {
                assert!(matches!(found, Err(ProviderError::Absent(_))), "{found:?}");
                return;
            };
            let start = usize::try_from(*start).unwrap();
            if start > bytes.len() {
                assert!(matches!(found, Err(ProviderError::Invalid(_))), "{found:?}");
                return;
            }
            let blob = found.expect("there");
            assert_eq!((blob.info.len, blob.info.etag), (bytes.len() as u64, *etag));
            let end = bytes.len().min(start + usize::try_from(*len).unwrap());
            assert_eq!(blob.read(1_000).await.expect("whole"), bytes[start..end]);
        }
        Step::List { prefix, after, len_max } => {
            let (prefix, after) = (PREFIXES[*prefix], after.map(name));
            let page = store.list(prefix, after.as_ref(), *len_max).await.expect("a list");
            let wanted = model.blobs.keys().filter(|name| {
                name.as_str().starts_with(prefix)
                    && after.as_ref().is_none_or(|after| *name > after)
            });
            let wanted: Vec<_> = wanted.cloned().map(|name| Listed { name }).collect();
            let count = wanted.len().min(*len_max);
            assert_eq!((&page.entries[..], page.more), (&wanted[..count], wanted.len() > count));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn both_stores_are_as_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let root = tempfile::tempdir().unwrap();
        let folder = FolderBlobs::open(root.path()).unwrap();
        let objects = ObjectBlobs::new(Arc::new(InMemory::new()), "p").unwrap();
        let stores: [&dyn BlobStore; 2] = [&folder, &objects];
        for store in stores {
            let mut model = Model::default();
            for step in &steps {
                runtime.block_on(agrees(store, &mut model, step));
            }
        }
    }
}
