//! Good calls that change something, or tell what is sensitive.

use tonic::Status;
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, audit_client::AuditClient,
    enrolment_client::EnrolmentClient, environments_client::EnvironmentsClient,
    hosts_client::HostsClient, secrets_client::SecretsClient, services_client::ServicesClient,
    sessions_client::SessionsClient,
};
use weft_pki::{KeyKind, request};

use crate::site::{PASSWORD, Site, enrolment, name, with};

/// No name either, so it is not in a record where somebody gives it for one.
pub(super) const CANARY: &str = "Hunter2-Canary-Value";

pub(super) fn put_secret(version: u64) -> v1::PutSecretRequest {
    v1::PutSecretRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".to_owned(),
        value: Some(v1::SecretValue { data: CANARY.as_bytes().to_vec() }),
        version,
    }
}

pub(super) fn release_secret() -> v1::ReleaseSecretRequest {
    let (environment, name) = (name("acme/shop"), "DB_PASSWORD".to_owned());
    v1::ReleaseSecretRequest { environment, name, ..Default::default() }
}

pub(super) fn acquire(holder: &str) -> v1::AcquireRoleRequest {
    v1::AcquireRoleRequest {
        environment: name("acme/shop"),
        service: "db".to_owned(),
        role: "primary".to_owned(),
        holder: holder.to_owned(),
    }
}

/// Good calls of all kinds that change something or tell what is sensitive.
pub(super) struct Changes {
    pub(super) owner: String,
    pub(super) session: String,
    pub(super) invitation: String,
    pub(super) join: String,
    pub(super) key: Vec<u8>,
}

impl Changes {
    pub(super) async fn prepare(site: &Site) -> Self {
        let owner = site.organisation("acme").await;
        site.environment(&owner, "acme", "shop").await;
        site.enrol("host-b").await;
        site.allow("acme/shop", "host-b").await;
        let mut attachments = AttachmentsClient::new(site.connect(None).await);
        let attach = v1::CreateAttachmentRequest {
            environment: name("acme/shop"),
            name: "db-0".to_owned(),
            slot: Some(v1::SlotName { service: "db".to_owned(), slot: "0".to_owned() }),
            host: "host-b".to_owned(),
            ..Default::default()
        };
        attachments.create_attachment(with(attach, &owner)).await.unwrap();
        let mut secrets = SecretsClient::new(site.connect(None).await);
        secrets.put_secret(with(put_secret(0), &owner)).await.unwrap();
        Self {
            owner,
            session: site.login("operator@weft.example", PASSWORD).await.unwrap(),
            invitation: site.app.invite_operator("second@weft.example").await.unwrap().to_string(),
            join: site.join_token().await,
            key: request::new_key(KeyKind::EcdsaP256).unwrap().request,
        }
    }

    pub(super) async fn make(&self, site: &Site) -> Vec<Result<(), Status>> {
        let channel = site.connect(None).await;
        let mut environments = EnvironmentsClient::new(channel.clone());
        let mut sessions = SessionsClient::new(channel.clone());
        let mut hosts = HostsClient::new(channel.clone());
        let mut enrolments = EnrolmentClient::new(channel.clone());
        let mut secrets = SecretsClient::new(channel.clone());
        let mut services = ServicesClient::new(channel.clone());
        let mut audit = AuditClient::new(channel);
        let suspend = v1::SuspendEnvironmentRequest { environment: name("acme/shop") };
        let accept = v1::AcceptInvitationRequest {
            secret: self.invitation.clone(),
            name: "Second".to_owned(),
            password: PASSWORD.to_owned(),
        };
        let enrol = enrolment(&self.join, "host-a", &self.key);
        let token = v1::CreateJoinTokenRequest::default();
        let logout = with(v1::LogoutRequest {}, &self.session);
        let list = v1::ListAuditRecordsRequest::default();
        vec![
            services.acquire_role(with(acquire("db-0"), &self.owner)).await.map(drop),
            secrets.put_secret(with(put_secret(1), &self.owner)).await.map(drop),
            secrets.release_secret(with(release_secret(), &self.owner)).await.map(drop),
            environments.suspend_environment(with(suspend, &self.owner)).await.map(drop),
            hosts.create_join_token(with(token, &site.operator)).await.map(drop),
            sessions.accept_invitation(accept).await.map(drop),
            enrolments.enrol(enrol).await.map(drop),
            site.login("operator@weft.example", PASSWORD).await.map(drop),
            sessions.logout(logout).await.map(drop),
            audit.list_audit_records(with(list, &site.operator)).await.map(drop),
        ]
    }
}
