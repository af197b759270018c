//! Hosts, from the join token to their end.

use std::error::Error;

use tonic::Code;
use weft_control_api::v1::{
    self, enrolment_client::EnrolmentClient, environments_client::EnvironmentsClient,
    host_agent_client::HostAgentClient, hosts_client::HostsClient,
};
use weft_pki::{KeyKind, request};

use crate::site::{Host, Site, name, next, with};

#[tokio::test]
async fn a_host_comes_and_goes() -> Result<(), Box<dyn Error>> {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await.id;
    let (channel, operator) = (site.connect(None).await, site.operator.clone());
    // example: A host enrols with a join token
    let mut hosts = HostsClient::new(channel.clone());
    let create = v1::CreateJoinTokenRequest {
        host: "host-a".into(), // for this one alone
        zone: "rack-1".into(),
        ..Default::default()
    };
    let join = hosts.create_join_token(with(create, &operator)).await?.into_inner();

    // On the host: the key is made there and never leaves it. What is behind the dot is by what it knows the
    // installation, before it says anything.
    let (token, _authority) = join.secret.split_once('.').ok_or("no join token")?;
    let key = request::new_key(KeyKind::EcdsaP256)?;
    let enrol = v1::EnrolRequest {
        token: token.into(),
        host: "host-a".into(),
        signing_request: key.request.clone(), // PKCS #10, DER
        endpoints: vec!["192.0.2.1:7777".into()],
        ..Default::default()
    };
    let enrolled = EnrolmentClient::new(channel.clone()).enrol(enrol).await?.into_inner();
    // end
    assert_eq!((enrolled.host.as_str(), enrolled.installation.as_str()), ("host-a", "weft"));
    let host =
        Host { id: enrolled.host, certificate: enrolled.certificate, key: key.key_pem.to_string() };
    // example: A host may have attachments of an environment
    let mut environments = EnvironmentsClient::new(channel.clone());
    let allow = v1::AllowHostRequest { environment: name("acme/shop"), host: "host-a".into() };
    let allowed = environments.allow_host(with(allow, &operator)).await?.into_inner();
    assert!(allowed.created);
    // end
    let (channel, environment) = (site.connect(Some(&host)).await, shop.clone());
    // example: A host is told what it has to know, attaches, and gets a certificate
    // Over a connection that shows the host's certificate.
    let mut agent = HostAgentClient::new(channel);
    let mut news = agent.watch(v1::WatchRequest { revision: 0 }).await?.into_inner();
    let snapshot = news.message().await?.ok_or("the watch has ended")?;
    assert!(snapshot.is_snapshot); // of everything that is to be here: nothing yet

    let attach = v1::AttachRequest {
        environment: environment.clone(),
        name: "web-0".into(),
        slot: Some(v1::SlotName { service: "web".into(), slot: "0".into() }),
        ..Default::default()
    };
    let attached = agent.attach(attach).await?.into_inner();
    assert_eq!(attached.addresses.len(), 2); // one of each version of IP that the environment has

    let key = request::new_key(KeyKind::EcdsaP256)?;
    let issue = v1::IssueLeafRequest { environment, signing_request: key.request.clone() };
    let leaf = agent.issue_leaf(issue).await?.into_inner();
    let report = v1::ReportRequest { revision: snapshot.revision, ..Default::default() };
    let next_ms = agent.report(report).await?.into_inner().next_ms; // when it is expected again
    // end
    assert!(leaf.certificate.starts_with("-----BEGIN CERTIFICATE") && next_ms > 0);
    assert!(!next(&mut news).await?.updates.is_empty());
    // example: A host that was stolen is shut out
    let revoke = v1::SetHostStateRequest {
        id: "host-a".into(),
        state: v1::HostState::Revoked.into(), // for good; DRAINING is for one that is to be repaired
    };
    hosts.set_host_state(with(revoke, &operator)).await?;
    // end
    let shut_out = agent.report(v1::ReportRequest::default()).await.unwrap_err();
    assert_eq!(shut_out.code(), Code::Unauthenticated);
    Ok(())
}
