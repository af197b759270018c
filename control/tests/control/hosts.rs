//! How hosts come and go.

use std::time::Duration;

use tonic::Code;
use weft_control::Clock;
use weft_control_api::v1::{self, enrolment_client::EnrolmentClient, hosts_client::HostsClient};
use weft_model::{Record, record};
use weft_pki::{KeyKind, request};
use weft_store::{Store, Transaction};

use crate::site::{Host, Site, code, enrolment, next, said, with};

#[tokio::test]
async fn a_join_token_serves_one_key_once() {
    let site = Site::start().await;
    let token = site.join_token().await;
    let (one, two) = (
        request::new_key(KeyKind::EcdsaP256).unwrap(),
        request::new_key(KeyKind::EcdsaP256).unwrap(),
    );
    let mut enrolments = EnrolmentClient::new(site.connect(None).await);
    let nobody = enrolments.enrol(enrolment("weft_join_0", "host-a", &one.request)).await;
    let nothing = (Code::NotFound, "no such join token".to_owned());
    assert_eq!(said(nobody), nothing);
    let first = enrolments.enrol(enrolment(&token, "host-a", &one.request)).await.unwrap();
    // The answer was lost: the same key asks again.
    let again = enrolments.enrol(enrolment(&token, "host-a", &one.request)).await.unwrap();
    assert_eq!(first.into_inner().host, again.into_inner().host);
    let other = enrolments.enrol(enrolment(&token, "host-b", &two.request)).await;
    assert_eq!(said(other), nothing);
    let taken = site.join_token().await;
    let taken = enrolments.enrol(enrolment(&taken, "host-a", &two.request)).await;
    assert_eq!(code(taken), Code::AlreadyExists);
    let garbage = enrolments.enrol(enrolment(&site.join_token().await, "host-c", b"garbage")).await;
    let (refused, why) = said(garbage);
    assert_eq!(refused, Code::InvalidArgument);
    assert!(why.starts_with("signing_request: "), "{why}");
}

#[tokio::test]
async fn a_host_gets_another_key_by_a_token_that_names_it() {
    let site = Site::start().await;
    let a = site.enrol("host-a").await;
    let mut before = site.agent(&a).await;
    before.report(v1::ReportRequest::default()).await.unwrap();
    // Its endpoint is in another pod, as an operator has said.
    let at = record::Host::key_at("host-a").unwrap();
    let mut host =
        record::Host::decode(&site.store.get(&at).await.unwrap().unwrap()).unwrap().record;
    host.endpoints[0].pod = Some("two".to_owned());
    site.store.commit(Transaction::new().put(at, host.encode().unwrap())).await.unwrap();
    let mut hosts = HostsClient::new(site.connect(None).await);
    let get = || with(v1::GetHostRequest { id: "host-a".to_owned() }, &site.operator);
    let was = hosts.get_host(get()).await.unwrap().into_inner().endpoints;
    assert_eq!(was[0].pod, "two");
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    let mut enrolments = EnrolmentClient::new(site.connect(None).await);
    // Also without saying which host it is: the token says so.
    let enrol = enrolment(&site.join_token_for("host-a").await, "", &key.request);
    let enrolled = enrolments.enrol(enrol).await.unwrap().into_inner();
    assert_eq!(enrolled.host, "host-a");
    assert_eq!(code(before.report(v1::ReportRequest::default()).await), Code::Unauthenticated);
    let is = hosts.get_host(get()).await.unwrap().into_inner().endpoints;
    assert_eq!(is, was, "but for its key it is as it was");
    let (certificate, key) = (enrolled.certificate, key.key_pem.to_string());
    let mut after = site.agent(&Host { certificate, key, ..a }).await;
    after.report(v1::ReportRequest::default()).await.unwrap();
    // Who is shut out comes back by no token.
    let token = site.join_token_for("host-a").await;
    let revoke =
        v1::SetHostStateRequest { id: "host-a".to_owned(), state: v1::HostState::Revoked.into() };
    hosts.set_host_state(with(revoke, &site.operator)).await.unwrap();
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    let back = enrolments.enrol(enrolment(&token, "host-a", &key.request)).await;
    assert_eq!(code(back), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_join_token_expires() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let token = site.join_token().await;
    clock.advance(Duration::from_secs(3_601));
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    let mut enrolments = EnrolmentClient::new(site.connect(None).await);
    let late = enrolments.enrol(enrolment(&token, "host-a", &key.request)).await;
    assert_eq!(code(late), Code::NotFound);
}

#[tokio::test]
async fn a_revoked_host_is_shut_out_at_once() {
    let site = Site::start().await;
    let a = site.enrol("host-a").await;
    let mut agent = site.agent(&a).await;
    let mut watch = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    let mut hosts = HostsClient::new(site.connect(None).await);
    let set = |state: v1::HostState| {
        let (id, state) = ("host-a".to_owned(), state.into());
        with(v1::SetHostStateRequest { id, state }, &site.operator)
    };
    hosts.set_host_state(set(v1::HostState::Revoked)).await.unwrap();
    assert_eq!(code(agent.report(v1::ReportRequest::default()).await), Code::Unauthenticated);
    assert_eq!(code(next(&mut watch).await), Code::Unauthenticated);
    let back = hosts.set_host_state(set(v1::HostState::Active)).await;
    assert_eq!(code(back), Code::FailedPrecondition);
}
