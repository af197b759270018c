//! What cannot be recorded.

use std::{fs, path::Path};

use tonic::Code;
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, secrets_client::SecretsClient,
};

use super::changes::{CANARY, Changes, release_secret};
use crate::site::{Site, name, said, with};

/// Where the second host's copy is, it is not any more: nothing can be recorded as it should.
fn break_replica(folder: &Path) {
    fs::rename(folder, folder.with_extension("away")).unwrap();
    fs::write(folder, "").unwrap();
}

fn mend_replica(folder: &Path) {
    fs::remove_file(folder).unwrap();
    fs::rename(folder.with_extension("away"), folder).unwrap();
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let site = Site::start_replicated().await;
    let changes = Changes::prepare(&site).await;
    let replica = site.audit.replica.clone().unwrap().join("control");
    let revision = || site.app.view().read(|state| state.projection().revision());
    let before = revision();
    break_replica(&replica);
    for answer in changes.make(&site).await {
        let refusal = "the audit takes no records now; nothing was done".to_owned();
        assert_eq!(said(answer), (Code::Unavailable, refusal));
    }
    assert_eq!(revision(), before);
    // What needs no record is told.
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let get = v1::GetEnvironmentRequest { environment: name("acme/shop") };
    let shop = environments.get_environment(with(get, &changes.owner)).await.unwrap().into_inner();
    assert_eq!(shop.state(), v1::EnvironmentState::Active);
    mend_replica(&replica);
    for answer in changes.make(&site).await {
        answer.unwrap();
    }
    assert!(revision() > before);
}

#[tokio::test]
async fn a_secret_whose_release_cannot_be_recorded_is_not_released() {
    let site = Site::start_replicated().await;
    let changes = Changes::prepare(&site).await;
    let replica = site.audit.replica.clone().unwrap().join("control");
    let mut secrets = SecretsClient::new(site.connect(None).await);
    break_replica(&replica);
    let refused = said(secrets.release_secret(with(release_secret(), &changes.owner)).await);
    let nothing = "the audit takes no records now; nothing was done".to_owned();
    assert_eq!(refused, (Code::Unavailable, nothing));
    mend_replica(&replica);
    let released = secrets.release_secret(with(release_secret(), &changes.owner)).await.unwrap();
    assert_eq!(released.into_inner().value.unwrap().data, CANARY.as_bytes());
}
