//! What runs in an environment, and what was done there.

use std::error::Error;

use tonic::Code;
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, audit_client::AuditClient,
    environments_client::EnvironmentsClient, policies_client::PoliciesClient,
    secrets_client::SecretsClient, services_client::ServicesClient,
};

use crate::site::{PASSWORD, Site, name, with};

async fn shop() -> (Site, String) {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await.id;
    let host = site.enrol("host-a").await;
    site.allow(&shop, &host.id).await;
    (site, owner)
}

#[tokio::test]
async fn something_runs() -> Result<(), Box<dyn Error>> {
    let (site, token) = shop().await;
    let channel = site.connect(None).await;
    // example: Addresses before anything runs, and an attachment that gets them
    let mut attachments = AttachmentsClient::new(channel.clone());
    let slot = v1::SlotName { service: "db".into(), slot: "0".into() };
    let reserve = v1::ReserveSlotRequest {
        environment: name("acme/shop"),
        slot: Some(slot.clone()),
        addresses: Vec::new(), // any
    };
    let reserved = attachments.reserve_slot(with(reserve, &token)).await?.into_inner();
    let create = v1::CreateAttachmentRequest {
        environment: name("acme/shop"),
        name: "db-0".into(),
        slot: Some(slot),
        host: "host-a".into(),
        ..Default::default()
    };
    let made = attachments.create_attachment(with(create, &token)).await?.into_inner();
    assert_eq!(made.addresses, reserved.addresses);
    // end
    // example: A service, and whoever watches what fills it
    let mut services = ServicesClient::new(channel.clone());
    let put = v1::PutServiceRequest {
        environment: name("acme/shop"),
        name: "db".into(),
        ports: vec![v1::ServicePort {
            name: "postgresql".into(),
            protocol: v1::Protocol::Tcp.into(),
            port: 5_432,
        }],
        ..Default::default()
    };
    services.put_service(with(put, &token)).await?;

    let watch = v1::WatchServicesRequest { environment: name("acme/shop"), revision: 0 };
    let mut news = services.watch_services(with(watch, &token)).await?.into_inner();
    let mut known = Vec::new();
    loop {
        let part = news.message().await?.ok_or("the watch has ended")?;
        if part.is_snapshot {
            known.clear();
        }
        known.extend(part.services);
        if !part.more {
            break; // all of it is known; what comes next are changes
        }
    }
    assert_eq!(known[0].instances[0].attachment, "db-0");
    // end
    // example: Out of service for a while
    let drain = v1::SetDrainedRequest {
        environment: name("acme/shop"),
        attachment: "db-0".into(),
        generation: made.generation, // that one, and no later one of its name
        drained: true,
    };
    services.set_drained(with(drain, &token)).await?;
    // end
    // example: A policy: what is not allowed is denied
    let mut policies = PoliciesClient::new(channel.clone());
    let get = v1::GetPolicyRequest { environment: name("acme/shop") };
    let present = policies.get_policy(with(get, &token)).await?.into_inner();
    let set = v1::SetPolicyRequest {
        environment: name("acme/shop"),
        version: present.version, // ABORTED when somebody else was faster: read it again
        default: v1::Verdict::Deny.into(),
        rules: vec![v1::Rule {
            name: "web-to-db".into(),
            from: "web".into(),
            to: "db".into(),
            protocol: v1::Transport::Tcp.into(),
            ports: vec![v1::PortRange { first: 5_432, last: 5_432 }],
            verdict: v1::Verdict::Allow.into(),
        }],
    };
    let policy = policies.set_policy(with(set, &token)).await?.into_inner();
    assert_eq!(policy.version, present.version + 1);
    // end
    Ok(())
}

#[tokio::test]
async fn a_secret_is_kept() -> Result<(), Box<dyn Error>> {
    let (site, token) = shop().await;
    let channel = site.connect(None).await;
    // example: A secret, and its next version
    let mut secrets = SecretsClient::new(channel.clone());
    let put = |version, value: &[u8]| v1::PutSecretRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".into(),
        value: Some(v1::SecretValue { data: value.to_vec() }),
        version, // the one that it follows
    };
    let first = secrets.put_secret(with(put(0, b"first"), &token)).await?.into_inner();
    secrets.put_secret(with(put(first.version, b"second"), &token)).await?;
    // Whoever has not seen the second version does not write over it.
    let late = secrets.put_secret(with(put(first.version, b"other"), &token)).await;
    assert_eq!(late.unwrap_err().code(), Code::Aborted);

    let release = v1::ReleaseSecretRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".into(),
        ..Default::default() // the newest
    };
    let released = secrets.release_secret(with(release, &token)).await?.into_inner();
    let value = released.value.ok_or("no value")?.take(); // wiped when it is dropped
    // end
    assert_eq!((released.version, value.as_slice()), (2, b"second".as_slice()));
    Ok(())
}

#[tokio::test]
async fn an_environment_ends() -> Result<(), Box<dyn Error>> {
    let (site, token) = shop().await;
    let channel = site.connect(None).await;
    // example: An environment is stopped, goes on, and is deleted
    let mut environments = EnvironmentsClient::new(channel.clone());
    let suspend = v1::SuspendEnvironmentRequest { environment: name("acme/shop") };
    environments.suspend_environment(with(suspend, &token)).await?;
    let resume = v1::ResumeEnvironmentRequest { environment: name("acme/shop") };
    environments.resume_environment(with(resume, &token)).await?;
    let delete = v1::DeleteEnvironmentRequest {
        environment: name("acme/shop"),
        grace_seconds: Some(3_600), // until then it can be resumed; a week without
        password: PASSWORD.into(),  // for less than a day
        ..Default::default()
    };
    let deleted = environments.delete_environment(with(delete, &token)).await?.into_inner();
    assert_eq!(deleted.state(), v1::EnvironmentState::Deleting);
    // end
    // example: What was done in an organisation, page by page
    let mut audit = AuditClient::new(channel);
    let (mut records, mut after) = (Vec::new(), String::new());
    loop {
        let list = v1::ListAuditRecordsRequest {
            organisation: "acme".into(),
            outcome: v1::AuditOutcome::Done.into(),
            page: Some(v1::PageRequest { size: 100, after }),
            ..Default::default()
        };
        let listed = audit.list_audit_records(with(list, &token)).await?.into_inner();
        records.extend(listed.records); // perhaps none, and not the last page
        after = listed.page.map(|page| page.next).unwrap_or_default();
        if after.is_empty() {
            break;
        }
    }
    assert!(records.iter().any(|record| record.action == "environments.delete-environment"));
    // end
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_told_apart() -> Result<(), Box<dyn Error>> {
    let (site, token) = shop().await;
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    // example: What a refusal says
    let get = v1::GetEnvironmentRequest { environment: name("globex/shop") };
    let refused = environments.get_environment(with(get, &token)).await.unwrap_err();
    // Whether there is no such environment or it is somebody else's.
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.message(), "no such environment");
    let request = refused.metadata().get("weft-request-id"); // by which audit and logs name the call
    // end
    assert!(request.is_some());
    Ok(())
}
