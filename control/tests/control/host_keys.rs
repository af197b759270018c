//! Which key speaks for a host while it gets another one, whatever is lost and whoever is asked.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, transport::Channel};
use weft_audit::{Event, PAGE_LEN_MAX, Query, query};
use weft_control_api::v1::{
    self, enrolment_client::EnrolmentClient, host_agent_client::HostAgentClient,
    hosts_client::HostsClient,
};
use weft_model::{Record, record};
use weft_pki::{
    KeyKind,
    request::{self, NewKey, SigningRequest},
};
use weft_store::{Key, Store, Transaction};

use crate::{
    held::Held,
    site::{Host, Site, code, enrolment, next, with},
};

type Agent = HostAgentClient<Channel>;

/// A watch of a key that has been replaced ends so soon: it is not looked for, it is told.
const AT_ONCE: Duration = Duration::from_secs(3);

fn new_key() -> NewKey {
    request::new_key(KeyKind::EcdsaP256).unwrap()
}

/// As the audit has it.
fn fingerprint(key: &NewKey) -> String {
    let hash = SigningRequest::from_der(&key.request).unwrap().key_hash();
    data_encoding::HEXLOWER.encode(&hash)
}

async fn asks(agent: &mut Agent, key: &NewKey) -> Result<Host, tonic::Status> {
    let renew = v1::RenewHostCertificateRequest { signing_request: key.request.clone() };
    let renewed = agent.renew_host_certificate(renew).await?.into_inner();
    let (id, key) = ("host-a".to_owned(), key.key_pem.to_string());
    Ok(Host { id, certificate: renewed.certificate, key })
}

/// How a call of a host is answered.
async fn calls(agent: &mut Agent) -> Code {
    code(agent.report(v1::ReportRequest::default()).await)
}

async fn set_state(site: &Site, state: v1::HostState) -> Code {
    let mut hosts = HostsClient::new(site.connect(None).await);
    let set = v1::SetHostStateRequest { id: "host-a".to_owned(), state: state.into() };
    code(hosts.set_host_state(with(set, &site.operator)).await)
}

fn record_key() -> Key {
    record::Host::key_at("host-a").unwrap()
}

async fn record(site: &Site) -> record::Host {
    let entry = site.store.get(&record_key()).await.unwrap().unwrap();
    record::Host::decode(&entry).unwrap().record
}

/// What the audit of a process has of an action, the earliest first.
fn recorded(site: &Site, process: &str, action: &str) -> Vec<Event> {
    let logs = [(process.parse().unwrap(), site.audit.folder.join(process))];
    let page = query(&logs, &Query::default(), None, PAGE_LEN_MAX).unwrap();
    let events = page.found.into_iter().map(|found| found.event);
    events.filter(|event| event.action.as_str() == action).collect()
}

#[tokio::test]
async fn a_key_counts_until_the_next_one_is_used_and_not_after() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let mut watch = old.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    let key = new_key();
    let renewed = asks(&mut old, &key).await.unwrap();
    assert_eq!(calls(&mut old).await, Code::Ok, "the answer may be lost");
    let mut during = old.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut during).await.unwrap();
    let anew = timeout(AT_ONCE, next(&mut watch)).await.unwrap();
    assert_eq!(code(anew), Code::ResourceExhausted, "a host listens once");

    let mut new = site.agent(&renewed).await;
    assert_eq!(calls(&mut new).await, Code::Ok);
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
    let ended = timeout(AT_ONCE, next(&mut during)).await.unwrap();
    assert_eq!(code(ended), Code::Unauthenticated);
    assert_eq!(code(asks(&mut old, &new_key()).await), Code::Unauthenticated);
    let mut watch = new.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    assert_eq!(record(&site).await.next_key_hash, None);
}

/// Whatever it is that is called: here it is the watch itself.
#[tokio::test]
async fn a_watch_of_the_next_key_is_the_first_to_use_it() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let renewed = asks(&mut old, &new_key()).await.unwrap();
    let mut new = site.agent(&renewed).await;
    let mut watch = new.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
    assert!(timeout(AT_ONCE, next(&mut watch)).await.is_err(), "it goes on");
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_asked_for_again() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let key = new_key();
    asks(&mut old, &key).await.unwrap();
    let pending = record(&site).await;
    let renewed = asks(&mut old, &key).await.unwrap();
    assert_eq!(record(&site).await, pending);
    assert_eq!(calls(&mut old).await, Code::Ok);
    assert_eq!(calls(&mut site.agent(&renewed).await).await, Code::Ok);
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
}

#[tokio::test]
async fn another_next_key_takes_the_place_of_the_one_that_the_host_has_lost() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let mut lost = site.agent(&asks(&mut old, &new_key()).await.unwrap()).await;
    let mut new = site.agent(&asks(&mut old, &new_key()).await.unwrap()).await;
    assert_eq!(calls(&mut lost).await, Code::Unauthenticated);
    assert_eq!(calls(&mut old).await, Code::Ok);
    assert_eq!(calls(&mut new).await, Code::Ok);
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
    assert_eq!(calls(&mut lost).await, Code::Unauthenticated);
}

#[tokio::test]
async fn who_renews_with_the_next_key_has_used_it() {
    let site = Site::start().await;
    let mut first = site.agent(&site.enrol("host-a").await).await;
    let mut second = site.agent(&asks(&mut first, &new_key()).await.unwrap()).await;
    let mut third = site.agent(&asks(&mut second, &new_key()).await.unwrap()).await;
    assert_eq!(calls(&mut first).await, Code::Unauthenticated);
    assert_eq!(calls(&mut second).await, Code::Ok);
    assert_eq!(calls(&mut third).await, Code::Ok);
    assert_eq!(calls(&mut second).await, Code::Unauthenticated);
}

#[tokio::test]
async fn a_host_that_is_shut_out_meanwhile_comes_back_by_neither_key() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let mut new = site.agent(&asks(&mut old, &new_key()).await.unwrap()).await;
    assert_eq!(set_state(&site, v1::HostState::Revoked).await, Code::Ok);
    assert_eq!(calls(&mut new).await, Code::Unauthenticated);
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
    assert_eq!(record(&site).await.next_key_hash, None);
}

#[tokio::test]
async fn with_a_key_by_a_token_neither_of_before_counts() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let mut new = site.agent(&asks(&mut old, &new_key()).await.unwrap()).await;
    let key = new_key();
    let enrol = enrolment(&site.join_token_for("host-a").await, "host-a", &key.request);
    let mut enrolments = EnrolmentClient::new(site.connect(None).await);
    let certificate = enrolments.enrol(enrol).await.unwrap().into_inner().certificate;
    assert_eq!(calls(&mut new).await, Code::Unauthenticated);
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
    let enrolled = Host { id: "host-a".to_owned(), certificate, key: key.key_pem.to_string() };
    assert_eq!(calls(&mut site.agent(&enrolled).await).await, Code::Ok);
}

/// A copy of the store knows the key of before, which comes back with it and goes for good with the next renewal.
#[tokio::test]
async fn a_store_of_before_takes_the_key_of_then_and_one_that_knows_the_newer_key_does_not() {
    let site = Site::start().await;
    let mut first = site.agent(&site.enrol("host-a").await).await;
    let copy = record(&site).await;
    let mut second = site.agent(&asks(&mut first, &new_key()).await.unwrap()).await;
    assert_eq!(calls(&mut second).await, Code::Ok);
    assert_eq!(calls(&mut first).await, Code::Unauthenticated);

    let restored = Transaction::new().put(copy.key().unwrap(), copy.encode().unwrap());
    site.store.commit(restored).await.unwrap();
    assert_eq!(calls(&mut second).await, Code::Unauthenticated);
    let mut third = site.agent(&asks(&mut first, &new_key()).await.unwrap()).await;
    assert_eq!(calls(&mut third).await, Code::Ok);
    assert_eq!(calls(&mut first).await, Code::Unauthenticated);
    assert_eq!(calls(&mut second).await, Code::Unauthenticated);
}

/// What is drained still reports, and may renew.
#[tokio::test]
async fn a_host_that_is_drained_goes_on_with_both_keys() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let mut new = site.agent(&asks(&mut old, &new_key()).await.unwrap()).await;
    assert_eq!(set_state(&site, v1::HostState::Draining).await, Code::Ok);
    assert_eq!(calls(&mut old).await, Code::Ok);
    assert_eq!(calls(&mut new).await, Code::Ok);
}

/// A process whose view of the store is behind neither refuses the new key nor lets the old one in.
#[tokio::test]
async fn a_key_that_took_over_at_one_process_counts_at_once_at_another() {
    let site = Site::start().await;
    let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, record_key());
    let behind = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
    let there = site.serve(&behind).await;
    let enrolled = site.enrol("host-a").await;
    let mut old = site.agent_at(there, &enrolled).await;
    let mut watch = old.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    held.hear(false);
    let renewed = asks(&mut site.agent(&enrolled).await, &new_key()).await.unwrap();
    assert_eq!(calls(&mut site.agent(&renewed).await).await, Code::Ok);

    let mut new = site.agent_at(there, &renewed).await;
    assert_eq!(calls(&mut new).await, Code::Ok);
    assert_eq!(calls(&mut old).await, Code::Unauthenticated);
    // What it would be told is told when it is known whom it is for.
    let begun = tokio::spawn(async move {
        let mut watch = new.watch(v1::WatchRequest { revision: 0 }).await?.into_inner();
        next(&mut watch).await
    });
    sleep(Duration::from_millis(300)).await;
    assert!(!begun.is_finished());
    held.hear(true);
    timeout(AT_ONCE, begun).await.unwrap().unwrap().unwrap();
    let ended = timeout(AT_ONCE, next(&mut watch)).await.unwrap();
    assert_eq!(code(ended), Code::Unauthenticated);
}

/// One change, whoever is first, and one record that says so.
#[tokio::test]
async fn a_key_takes_over_once_wherever_it_is_used_at_the_same_time() {
    let site = Site::start().await;
    let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, record_key());
    let late = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
    let there = site.serve(&late).await;
    let key = new_key();
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let renewed = asks(&mut old, &key).await.unwrap();
    let mut second = site.agent_at(there, &renewed).await;
    held.stop();
    let second = tokio::spawn(async move { calls(&mut second).await });
    held.stands_still.notified().await;
    let mut running = JoinSet::new();
    for _ in 0..8 {
        let mut agent = site.agent(&renewed).await;
        running.spawn(async move { calls(&mut agent).await });
    }
    assert!(running.join_all().await.iter().all(|answer| *answer == Code::Ok));
    // Its next renewal is under way before the late one goes on.
    let third = asks(&mut site.agent(&renewed).await, &new_key()).await.unwrap();
    held.go_on();
    assert_eq!(second.await.unwrap(), Code::Ok);
    assert!(record(&site).await.next_key_hash.is_some(), "the late one took nothing away");
    assert_eq!(calls(&mut site.agent(&third).await).await, Code::Ok);

    let taken = |process: &str, outcome: &str| {
        let all = recorded(&site, process, "hosts.take-over-key").into_iter();
        let of_key = all.filter(|event| {
            let facts = serde_json::to_value(&event.facts).unwrap();
            fingerprint(&key).starts_with(facts["fingerprint"].as_str().unwrap())
        });
        of_key.filter(|event| event.outcome.to_string().starts_with(outcome)).count()
    };
    assert_eq!((taken("control", "done"), taken("control-2", "done")), (1, 0));
    assert_eq!(taken("control-2", "failed"), 1);
}

/// Somebody waits between being known and their renewal while the next key takes over.
#[tokio::test]
async fn a_renewal_by_a_key_that_was_replaced_meanwhile_is_refused() {
    let site = Site::start().await;
    let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, record_key());
    let late = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
    let there = site.serve(&late).await;
    let enrolled = site.enrol("host-a").await;
    let renewed = asks(&mut site.agent(&enrolled).await, &new_key()).await.unwrap();
    let mut old = site.agent_at(there, &enrolled).await;
    held.stop();
    let asked = tokio::spawn(async move { code(asks(&mut old, &new_key()).await) });
    held.stands_still.notified().await;
    assert_eq!(calls(&mut site.agent(&renewed).await).await, Code::Ok);
    held.go_on();
    assert_eq!(asked.await.unwrap(), Code::Unauthenticated);
    assert_eq!(record(&site).await.next_key_hash, None);
    assert_eq!(calls(&mut site.agent(&renewed).await).await, Code::Ok);
}

#[tokio::test]
async fn the_audit_says_which_key_was_certified_and_when_it_took_over() {
    let site = Site::start().await;
    let mut old = site.agent(&site.enrol("host-a").await).await;
    let key = new_key();
    let renewed = asks(&mut old, &key).await.unwrap();
    let said = |action: &str| -> Vec<_> {
        let all = recorded(&site, "control", action).into_iter();
        let done = all.filter(|event| event.outcome.to_string() == "done");
        done.map(|event| {
            let facts = serde_json::to_value(&event.facts).unwrap();
            let fingerprint = facts["fingerprint"].as_str().unwrap().to_owned();
            (event.who.to_string(), event.object.to_string(), fingerprint)
        })
        .collect()
    };
    let [(who, object, told)] = &said("host-agent.renew-host-certificate")[..] else { panic!() };
    assert_eq!((who.as_str(), object.as_str()), ("host/host-a", "host/host-a"));
    assert!(told.len() >= 16 && fingerprint(&key).starts_with(told), "{told}");
    assert_eq!(said("hosts.take-over-key"), []);
    let mut new = site.agent(&renewed).await;
    for _ in 0..2 {
        assert_eq!(calls(&mut new).await, Code::Ok);
    }
    let taken = said("hosts.take-over-key");
    assert_eq!(taken, [("host/host-a".to_owned(), "host/host-a".to_owned(), told.clone())]);
    let [(_, _, enrolled)] = &said("enrolment.enrol")[..] else { panic!() };
    assert_ne!(enrolled, told);
}
