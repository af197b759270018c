//! Over HTTP, with a service that speaks as S3 does.

#[path = "../../../../../providers/src/blob/objects/tests/fake.rs"]
#[expect(dead_code, reason = "only a part is used here")]
mod fake;

use std::os::unix::fs::PermissionsExt as _;

use self::fake::Fake;
use super::*;

#[tokio::test]
async fn segments_are_shipped_to_a_bucket_and_a_denial_is_said_until_another_key_counts() {
    let fake = Fake::start().await;
    let lab = lab_with(3).await;
    let credentials = lab.folder.path().join("s3.credentials");
    let key = "access_key_id = \"AK\"\nsecret_access_key = \"SECRET\"\n";
    let url: BlobUrl = "s3://bucket/audit".parse().unwrap();
    let access =
        S3Access { endpoint: Some(fake.url()), region: None, credentials: credentials.clone() };
    let place = BlobPlace { url: url.clone(), s3: Some(access) };
    let reader = lab.reader_of(Arc::new(place), &url.to_string());
    let shipping = reader.shipping(&lab.place(), lab.signer.clone(), lab.clock.clone());
    // The file is read again each time that something was wrong.
    let error = shipping.pass().await.unwrap_err().to_string();
    assert!(error.contains("s3.credentials"), "{error}");
    fs::write(&credentials, key).unwrap();
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    shipping.pass().await.unwrap();
    let hash = lab.ends()[0].hash;
    let keys = fake.keys();
    assert_eq!(keys[0], format!("audit/control-a/0000000001-{hash}.01"));
    assert_eq!((keys.len(), lab.shipped().await), (6, 3));
    assert_eq!(reader.check(&process(), &lab.heads().await).await.unwrap().segment, 3);
    // The bucket's owner changes an object, and then lets nobody in.
    fake.change(&keys[2], |bytes| bytes[40] ^= 1);
    let found = reader.check(&process(), &[]).await.unwrap_err();
    assert_eq!(found.fault, Fault::Unopened);
    fake.deny();
    let (audit, running) = lab.open().await;
    end_segments(&audit, 4).await;
    let error = shipping.pass().await.unwrap_err().to_string();
    assert!(error.contains("the provider refuses"), "{error}");
    assert!(!error.contains("SECRET") && !format!("{shipping:?}").contains("SECRET"));
    drop(audit);
    running.finished().await;
}
