//! Who fills the log.

use std::time::Duration;

use tonic::Code;
use weft_control::{
    Clock,
    audit::{ACTOR_REFUSALS_MAX, ADDRESS_REFUSALS_MAX},
};
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, hosts_client::HostsClient,
    policies_client::PoliciesClient,
};

use super::{lines, log};
use crate::site::{Site, code, name, said, with};

#[tokio::test]
async fn strangers_do_not_fill_the_log_and_how_many_were_left_out_is_in_it() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let before = log(&site).len();
    let mut hosts = HostsClient::new(site.connect(None).await);
    let calls = ADDRESS_REFUSALS_MAX + 25;
    for _ in 0..calls {
        let token = v1::CreateJoinTokenRequest::default();
        assert_eq!(code(hosts.create_join_token(token).await), Code::Unauthenticated);
    }
    assert_eq!(log(&site).len() - before, ADDRESS_REFUSALS_MAX as usize);
    site.app.recorder().record_left_out().await.unwrap();
    site.app.recorder().record_left_out().await.unwrap();
    let events = log(&site);
    let told: Vec<_> =
        events.iter().filter(|event| event.action.as_str() == "audit.left-out").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(serde_json::to_value(&told[0].facts).unwrap()["count"], 25);
    // Whoever has shown who it is is heard meanwhile, and the next minute is another.
    site.join_token().await;
    clock.advance(Duration::from_secs(60));
    let before = log(&site).len();
    let token = v1::CreateJoinTokenRequest::default();
    assert_eq!(code(hosts.create_join_token(token).await), Code::Unauthenticated);
    assert_eq!(log(&site).len() - before, 1);
}

#[tokio::test]
async fn who_is_refused_all_the_time_is_not_heard_for_the_rest_of_the_minute() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let host = site.enrol("host-a").await;
    let mut environments = EnvironmentsClient::new(site.connect(Some(&host)).await);
    let suspend = || v1::SuspendEnvironmentRequest { environment: name("acme/shop") };
    for _ in 0..ACTOR_REFUSALS_MAX {
        assert_eq!(code(environments.suspend_environment(suspend()).await), Code::NotFound);
    }
    let refused = said(environments.suspend_environment(suspend()).await);
    assert_eq!(refused, (Code::ResourceExhausted, "refused too often; wait a minute".to_owned()));
    // Others are, and so is this one again.
    site.join_token().await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(code(environments.suspend_environment(suspend()).await), Code::NotFound);
}

#[tokio::test]
async fn who_asks_wrongly_all_the_time_does_not_fill_the_log() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    site.environment(&owner, "acme", "shop").await;
    let mut policies = PoliciesClient::new(site.connect(None).await);
    let malformed = || v1::SetPolicyRequest { environment: None, ..Default::default() };
    let before = lines(&site);
    for _ in 0..ACTOR_REFUSALS_MAX {
        let set = policies.set_policy(with(malformed(), &owner)).await;
        assert_eq!(code(set), Code::InvalidArgument);
    }
    let full = before + 2 * ACTOR_REFUSALS_MAX as usize;
    assert_eq!(lines(&site), full);
    // Nothing more is begun, nor recorded: nor would it be if it were good.
    for _ in 0..20 {
        let set = policies.set_policy(with(malformed(), &owner)).await;
        assert_eq!(code(set), Code::ResourceExhausted);
    }
    assert_eq!(lines(&site), full);
    clock.advance(Duration::from_secs(60));
    let set = policies.set_policy(with(malformed(), &owner)).await;
    assert_eq!(code(set), Code::InvalidArgument);
}
