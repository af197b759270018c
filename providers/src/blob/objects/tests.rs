//! Against the library's own store in memory, and over HTTP against a service that speaks as S3 does.

use object_store::memory::InMemory;

use super::*;
use crate::{blob::content, conformance};

mod fake;

use self::fake::Fake;

fn name(text: &str) -> BlobName {
    BlobName::new(text).unwrap()
}

fn settings(fake: &Fake) -> S3Settings {
    S3Settings {
        endpoint: Some(fake.url()),
        region: "us-east-1".to_owned(),
        bucket: "bucket".to_owned(),
        prefix: "environment/e1".to_owned(),
        access_key_id: "key".to_owned(),
        secret_access_key: "SECRET".to_owned(),
        allow_http: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_memory_conforms() {
    for prefix in ["", "environment/e1"] {
        let blobs = ObjectBlobs::new(Arc::new(InMemory::new()), prefix).unwrap();
        conformance::blob_store(&blobs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_over_http_conforms_and_no_upload_is_left() {
    let fake = Fake::start().await;
    let blobs = ObjectBlobs::s3(settings(&fake)).unwrap();
    conformance::blob_store(&blobs).await;
    while fake.uploads() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(fake.keys().is_empty());
    blobs.put(&name("a/b"), content("x"), Condition::Always).await.unwrap();
    assert_eq!(fake.keys(), ["environment/e1/a/b"]);
}

#[tokio::test]
async fn settings_are_shown_without_the_secret_and_checked() {
    let fake = Fake::start().await;
    assert!(!format!("{:?}", settings(&fake)).contains("SECRET"));
    let plain = ObjectBlobs::s3(S3Settings { prefix: "../other".to_owned(), ..settings(&fake) });
    assert!(matches!(plain, Err(ProviderError::Invalid(_))));
    let shown = format!("{:?}", ObjectBlobs::s3(settings(&fake)).unwrap());
    assert!(!shown.contains("SECRET"), "{shown}");
}

#[tokio::test]
async fn without_permission_it_is_refused_and_damage_is_found() {
    let fake = Fake::start().await;
    let blobs = ObjectBlobs::s3(settings(&fake)).unwrap();
    let a = name("a");
    blobs.put(&a, content(vec![7u8; 3 * BLOCK_LEN]), Condition::Always).await.unwrap();
    fake.change("environment/e1/a", |bytes| bytes[BLOCK_LEN] ^= 1);
    let first = ByteRange { start: 0, len: 10 };
    assert_eq!(blobs.get(&a, first).await.unwrap().read(10).await.unwrap(), [7u8; 10][..]);
    let damaged = blobs.get(&a, ByteRange::ALL).await.unwrap().read(usize::MAX).await;
    assert!(matches!(damaged, Err(ProviderError::Corrupt(_))));
    fake.change("environment/e1/a", |bytes| bytes.truncate(100));
    assert!(matches!(blobs.describe(&a).await, Err(ProviderError::Corrupt(_))));
    fake.deny();
    assert!(matches!(blobs.describe(&a).await, Err(ProviderError::Denied(_))));
    let refused = blobs.put(&a, content("x"), Condition::Always).await;
    assert!(matches!(refused, Err(ProviderError::Denied(_))));
    assert!(matches!(blobs.delete(&a).await, Err(ProviderError::Denied(_))));
}

/// What is replaced while it is read is an error, never a mixture.
#[tokio::test]
async fn a_blob_that_is_replaced_while_it_is_read_is_an_error() {
    let fake = Fake::start().await;
    let blobs = ObjectBlobs::s3(settings(&fake)).unwrap();
    let a = name("a");
    let long = |byte: u8| content(vec![byte; 40 * BLOCK_LEN]);
    blobs.put(&a, long(1), Condition::Always).await.unwrap();
    let mut blob = blobs.get(&a, ByteRange::ALL).await.unwrap();
    assert_eq!(blob.content.next().await.unwrap().unwrap()[0], 1);
    blobs.put(&a, long(2), Condition::Always).await.unwrap();
    let error = loop {
        match blob.content.next().await.expect("an error before the end") {
            Ok(piece) => assert!(piece.iter().all(|byte| *byte == 1)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "blob a was replaced while it was read");
}
