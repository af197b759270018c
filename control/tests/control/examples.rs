//! Examples of `docs/api.md`: what stands between the lines `// example:` and `// end` is shown there.
//! `with` puts the token into the header, as the first one does, and `name` names an environment.

mod hosts;
mod people;
mod running;

use tonic::{
    Code, Request,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use weft_control_api::v1;

use crate::site::{PASSWORD, Site, name, with};

/// A call with a session, in the crate that is generated from the protocol.
#[tokio::test]
async fn a_session_makes_an_environment() {
    let site = Site::start().await;
    site.organisation("acme").await;
    let (server, authority) = (site.address.to_string(), site.anchor.clone());
    let made = session(&server, &authority).await.unwrap();
    assert!(made.id.starts_with("env-"), "{made:?}");
}

async fn session(
    server: &str,
    authority: &str,
) -> Result<v1::Environment, Box<dyn std::error::Error>> {
    // example: A session, and an environment
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority)) // of `weft-control authority`
        .domain_name("control.example"); // one of server_names
    let channel =
        Endpoint::from_shared(format!("https://{server}"))?.tls_config(tls)?.connect().await?;

    let mut sessions = v1::sessions_client::SessionsClient::new(channel.clone());
    let login = v1::LoginRequest {
        email: "owner@acme.example".into(),
        password: PASSWORD.into(),
        ..Default::default() // with a code, where there is a second factor
    };
    let token = sessions.login(login).await?.into_inner().token;

    let mut request = Request::new(v1::CreateEnvironmentRequest {
        organisation: "acme".into(),
        name: "shop".into(),
        subnets: vec!["10.40.0.0/16".into(), "fd40::/64".into()],
        ..Default::default()
    });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let mut environments = v1::environments_client::EnvironmentsClient::new(channel);
    let made = environments.create_environment(request).await?.into_inner();
    // end
    Ok(made)
}

/// A failover of a database: one compare-and-swap.
#[tokio::test]
async fn a_role_is_handed_over_once() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await.id;
    let host = site.enrol("host-a").await;
    site.allow(&shop, &host.id).await;
    let mut attachments = v1::attachments_client::AttachmentsClient::new(site.connect(None).await);
    for slot in ["0", "1"] {
        let create = v1::CreateAttachmentRequest {
            environment: name(&shop),
            name: format!("db-{slot}"),
            slot: Some(v1::SlotName { service: "db".to_owned(), slot: slot.to_owned() }),
            host: host.id.clone(),
            ..Default::default()
        };
        attachments.create_attachment(with(create, &owner)).await.unwrap();
    }
    let mut services = v1::services_client::ServicesClient::new(site.connect(None).await);
    let first = v1::AcquireRoleRequest {
        environment: name(&shop),
        service: "db".to_owned(),
        role: "primary".to_owned(),
        holder: "db-0".to_owned(),
    };
    let first = services.acquire_role(with(first, &owner)).await.unwrap().into_inner();
    // example: A failover is one compare-and-swap
    let failover = v1::TransferRoleRequest {
        environment: name(&shop),
        service: "db".to_owned(),
        role: "primary".to_owned(),
        holder: "db-1".to_owned(),
        epoch: first.epoch, // as it was read: whoever is slower is refused
    };
    let now = services.transfer_role(with(failover.clone(), &owner)).await.unwrap().into_inner();
    assert!(now.epoch > first.epoch);
    let late = services.transfer_role(with(failover, &owner)).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted);
    // end
}
