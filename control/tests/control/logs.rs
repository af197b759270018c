//! The logs of several processes, on several machines.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use tonic::{Code, Status};
use weft_control::{App, Clock, audit::AuditPlace, init::Opened};
use weft_control_api::v1::{self, AuditLogSource, audit_client::AuditClient};
use weft_store::Store;

use crate::site::{PASSWORD, Site, said, with};

async fn verify(site: &Site) -> BTreeMap<String, v1::AuditLog> {
    let mut audit = AuditClient::new(site.connect(None).await);
    let verify = with(v1::VerifyAuditRequest::default(), &site.operator);
    let logs = audit.verify_audit(verify).await.unwrap().into_inner().logs;
    logs.into_iter().map(|log| (log.process.clone(), log)).collect()
}

async fn list(
    site: &Site,
    token: &str,
    organisation: &str,
) -> Result<v1::ListAuditRecordsResponse, Status> {
    let organisation = organisation.to_owned();
    let asked = v1::ListAuditRecordsRequest { organisation, ..Default::default() };
    let mut audit = AuditClient::new(site.connect(None).await);
    Ok(audit.list_audit_records(with(asked, token)).await?.into_inner())
}

/// Which processes an answer has records of.
fn told(answer: &v1::ListAuditRecordsResponse) -> Vec<&str> {
    let mut told: Vec<_> = answer.records.iter().map(|record| record.process.as_str()).collect();
    told.sort_unstable();
    told.dedup();
    told
}

/// A process on another machine; it has written something.
async fn process_on(
    site: &Site,
    machine: &str,
    process: &str,
    folder: PathBuf,
    replica: Option<PathBuf>,
) -> Arc<App> {
    let (process, machine) = (process.parse().unwrap(), machine.to_owned());
    let place = AuditPlace { folder, replica, machine, process, blobs: None };
    let store = Arc::clone(&site.store) as Arc<dyn Store>;
    let opened = Opened::new(store, Arc::clone(&site.keyring));
    let app = Arc::new(opened.app(site.app.clock().clone(), &place).await.unwrap().0);
    app.invite_operator(&format!("{}@weft.example", place.process)).await.unwrap();
    app
}

#[tokio::test]
async fn a_log_that_is_gone_is_a_fault_and_what_is_read_without_it_is_a_part() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let other = site.another_process().await;
    other.invite_operator("second@weft.example").await.unwrap();
    let all = list(&site, &site.operator, "").await.unwrap();
    assert_eq!((told(&all), all.partial), (vec!["control", "control-2"], false));
    assert!(verify(&site).await.values().all(|log| log.fault.is_empty() && log.last > 0));

    fs::remove_dir_all(site.audit.folder.join("control-2")).unwrap();
    let logs = verify(&site).await;
    assert_eq!((logs.len(), logs["control"].fault.as_str()), (2, ""));
    let gone = &logs["control-2"];
    assert!(gone.fault.ends_with("audit/control-2: the log is not there"), "{gone:?}");
    assert_eq!((gone.source(), gone.last), (AuditLogSource::Unspecified, 0));
    let part = list(&site, &site.operator, "").await.unwrap();
    assert_eq!((told(&part), part.partial), (vec!["control"], true));
    assert_eq!(part.missing, ["control-2"]);
    // An organisation is told that these are not all, and not of which processes there are.
    let part = list(&site, &owner, "acme").await.unwrap();
    assert!(part.partial && part.missing.is_empty() && !part.records.is_empty(), "{part:?}");

    // Also that of the process that is asked, and when all of them are.
    fs::remove_dir_all(&site.audit.folder).unwrap();
    let logs = verify(&site).await;
    assert_eq!(logs.len(), 2);
    assert!(logs.values().all(|log| log.fault.ends_with("the log is not there")), "{logs:?}");
    let part = list(&site, &site.operator, "").await.unwrap();
    assert_eq!((part.missing, part.partial), (vec!["control".into(), "control-2".into()], true));
}

#[tokio::test]
async fn a_log_of_another_machine_is_read_where_a_copy_is_here_and_named_otherwise() {
    let site = Site::start_replicated().await;
    let owner = site.organisation("acme").await;
    let (here, mounted) = (site.audit.folder.clone(), site.audit.replica.clone().unwrap());
    let away = here.with_file_name("away");
    // One sends its copy here, one has its log where this one's copy is, one has nothing to do with this one.
    let _b = process_on(&site, "host-b", "control-b", away.join("b"), Some(here)).await;
    let _c = process_on(&site, "host-c", "control-c", mounted, None).await;
    let all = list(&site, &site.operator, "").await.unwrap();
    let expected = vec!["control", "control-b", "control-c"];
    assert_eq!((told(&all), all.partial), (expected.clone(), false));
    let d = process_on(&site, "host-d", "control-d", away.join("d"), None).await;
    let part = list(&site, &site.operator, "").await.unwrap();
    assert_eq!((told(&part), part.partial), (expected, true));
    assert_eq!(part.missing, ["control-d"]);
    assert!(list(&site, &owner, "acme").await.unwrap().partial);

    let logs = verify(&site).await;
    assert!(logs.values().all(|log| log.fault.is_empty()), "{logs:?}");
    let read = |process: &str| (logs[process].source(), logs[process].last > 0);
    assert_eq!(read("control"), (AuditLogSource::Log, true));
    assert_eq!(read("control-b"), (AuditLogSource::Log, true));
    assert_eq!(read("control-c"), (AuditLogSource::Copy, true));
    assert_eq!(read("control-d"), (AuditLogSource::Unspecified, false));
    let elsewhere = format!("host-d:{}", away.join("d/control-d").display());
    assert_eq!(logs["control-d"].elsewhere, elsewhere);
    assert!(logs.values().filter(|log| !log.elsewhere.is_empty()).count() == 1, "{logs:?}");
    assert!(logs["control"].compared > 0 && logs["control-b"].compared == 0, "{logs:?}");

    // Whoever writes to the store does not send anybody elsewhere.
    drop(d);
    let at = weft_store::Key::new("audit/v1/home/control-d").unwrap();
    let home = site.store.get(&at).await.unwrap().unwrap().value;
    let home = String::from_utf8(home.to_vec()).unwrap().replace("host-d", "host-e");
    let forged = weft_store::Transaction::new().put(at, home.into_bytes());
    site.store.commit(forged).await.unwrap();
    let logs = verify(&site).await;
    assert!(logs["control-d"].fault.ends_with("control-d: the log is not there"), "{logs:?}");
    assert_eq!(logs["control-d"].elsewhere, "");
}

#[tokio::test]
async fn the_second_hosts_copy_is_compared_and_does_not_replace_a_log_that_is_gone() {
    let site = Site::start_replicated().await;
    site.join_token().await;
    let logs = verify(&site).await;
    assert_eq!((logs["control"].fault.as_str(), logs.len()), ("", 1));
    assert!(logs["control"].compared > 2 && logs["control"].compared <= logs["control"].last);
    let copy = site.audit.replica.clone().unwrap();
    let segment = copy.join("control/0000000001.jsonl");
    let whole = fs::read(&segment).unwrap();
    let mut changed = whole.clone();
    changed[20] ^= 1;
    fs::write(&segment, changed).unwrap();
    let fault = verify(&site).await["control"].fault.clone();
    let differs = "control/0000000001.jsonl, line 1: the second host's copy has another line 1";
    assert!(fault.contains(differs), "{fault}");

    let other = site.another_process().await;
    other.invite_operator("second@weft.example").await.unwrap();
    fs::remove_dir_all(site.audit.folder.join("control-2")).unwrap();
    let gone = verify(&site).await["control-2"].clone();
    assert!(gone.fault.ends_with("audit/control-2: the log is not there"), "{gone:?}");
    assert!(gone.source() == AuditLogSource::Copy && gone.last > 2, "{gone:?}");
}

async fn verify_blobs(site: &Site, token: &str) -> Result<BTreeMap<String, v1::AuditLog>, Status> {
    let mut audit = AuditClient::new(site.connect(None).await);
    let verify = with(v1::VerifyAuditRequest { blobs: true }, token);
    let logs = audit.verify_audit(verify).await?.into_inner().logs;
    Ok(logs.into_iter().map(|log| (log.process.clone(), log)).collect())
}

#[tokio::test]
async fn what_is_missing_in_the_blob_store_is_a_fault_when_that_is_read() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_shipping(clock.clone()).await;
    let other = site.another_process().await;
    // The day ends, and with the next record its segment.
    clock.advance(Duration::from_secs(86_400));
    let operator = site.login("operator@weft.example", PASSWORD).await.unwrap();
    other.invite_operator("second@weft.example").await.unwrap();
    for process in [&*site.app, &*other] {
        process.shipping().unwrap().pass().await.unwrap();
    }
    let logs = verify_blobs(&site, &operator).await.unwrap();
    assert_eq!(logs.len(), 2);
    for log in logs.values() {
        assert_eq!((&*log.fault, &*log.unshipped), ("", ""), "{log:?}");
        assert!(log.shipped > 0 && log.shipped < log.last, "{log:?}");
    }
    // A log that is gone here is still there.
    fs::remove_dir_all(site.audit.folder.join("control-2")).unwrap();
    let blobs = site.audit.folder.with_file_name("blobs");
    let removed = fs::read_dir(blobs.join("control")).unwrap().map(|entry| entry.unwrap().path());
    let mut removed = removed.filter(|path| path.to_string_lossy().ends_with(".01="));
    fs::remove_file(removed.next().unwrap()).unwrap();
    let logs = verify_blobs(&site, &operator).await.unwrap();
    let fault = &logs["control"].fault;
    assert!(fault.starts_with("blob store/control/0000000001-"), "{fault}");
    assert!(fault.ends_with(".01: the object is missing"), "{fault}");
    let gone = &logs["control-2"];
    assert!(gone.shipped > 0 && gone.fault.ends_with("the log is not there"), "{gone:?}");
    // Without reading it nothing is said of it.
    let mut audit = AuditClient::new(site.connect(None).await);
    let verify = with(v1::VerifyAuditRequest::default(), &operator);
    let logs = audit.verify_audit(verify).await.unwrap().into_inner().logs;
    assert_eq!(logs.iter().find(|log| log.process == "control").unwrap().fault, "");
}

#[tokio::test]
async fn a_blob_store_that_is_not_there_is_not_read() {
    let site = Site::start().await;
    let refused = said(verify_blobs(&site, &site.operator).await);
    let text = "blobs: this server has no blob store; expected audit.blobs in its configuration";
    assert_eq!(refused, (Code::InvalidArgument, text.to_owned()));
}
