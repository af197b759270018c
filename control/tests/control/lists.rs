//! Lists of what is somebody's: nothing of others is read for them.

use tonic::Code;
use weft_control_api::v1::{
    self, OrganisationRole, account_client::AccountClient, audit_client::AuditClient,
    environments_client::EnvironmentsClient, members_client::MembersClient,
    organisations_client::OrganisationsClient, services_client::ServicesClient,
    ssh_keys_client::SshKeysClient, tokens_client::TokensClient,
};
use weft_store::{Store, Transaction};

use crate::{
    signer::Signer,
    site::{PASSWORD, Site, name, with},
};

/// An organisation with an environment, a token, an invitation and a key.
struct Team {
    called: &'static str,
    owner: String,
}

impl Team {
    async fn new(site: &Site, called: &'static str, key: u8) -> Self {
        let owner = site.organisation(called).await;
        site.environment(&owner, called, "shop").await;
        let email = format!("x@{called}.example");
        site.invite(&owner, called, &email, OrganisationRole::Member).await.unwrap();
        let environment = || name(&format!("{called}/shop"));
        let channel = site.connect(None).await;
        let make = v1::CreateTokenRequest {
            environment: environment(),
            name: "robot".to_owned(),
            role: v1::EnvironmentRole::Deployer.into(),
            seconds: 3_600,
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        let made = TokensClient::new(channel.clone()).create_token(with(make, &owner)).await;
        // So that it is in the audit.
        let put = v1::PutServiceRequest {
            environment: environment(),
            name: "web".to_owned(),
            ..Default::default()
        };
        let token = made.unwrap().into_inner().secret;
        ServicesClient::new(channel.clone()).put_service(with(put, &token)).await.unwrap();
        Signer::new(key).add(&channel, &owner).await.unwrap();
        Self { called, owner }
    }

    /// How many sessions, keys, tokens, invitations and members there are, and how each call ended.
    async fn listed(&self, site: &Site) -> Vec<(&'static str, Code, usize)> {
        let channel = site.connect(None).await;
        let organisation = || self.called.to_owned();
        let environment = || name(&format!("{}/shop", self.called));
        let mut all = Vec::new();
        macro_rules! list {
            ($client:ident, $call:ident, $request:expr, $of:ident) => {{
                let listed = $client::new(channel.clone()).$call(with($request, &self.owner)).await;
                let (code, len) = match listed {
                    Ok(listed) => (Code::Ok, listed.into_inner().$of.len()),
                    Err(status) => (status.code(), 0),
                };
                all.push((stringify!($call), code, len));
            }};
        }
        list!(AccountClient, list_sessions, v1::ListSessionsRequest {}, sessions);
        list!(SshKeysClient, list_ssh_keys, v1::ListSshKeysRequest { page: None }, keys);
        let of_environment = v1::ListTokensRequest { environment: environment(), page: None };
        list!(TokensClient, list_tokens, of_environment, tokens);
        let of = v1::ListInvitationsRequest { organisation: organisation(), page: None };
        list!(MembersClient, list_invitations, of, invitations);
        let of = v1::ListMembersRequest { organisation: organisation(), page: None };
        list!(MembersClient, list_members, of, members);
        let of = v1::ListEnvironmentMembersRequest { environment: environment(), page: None };
        list!(MembersClient, list_environment_members, of, members);
        let of = v1::ListEnvironmentsRequest { organisation: String::new(), page: None };
        list!(EnvironmentsClient, list_environments, of, environments);
        let of = v1::ListOrganisationsRequest { page: None };
        list!(OrganisationsClient, list_organisations, of, organisations);
        let of = v1::ListAuditRecordsRequest {
            organisation: organisation(),
            action: "services.put-service".to_owned(),
            ..Default::default()
        };
        list!(AuditClient, list_audit_records, of, records);
        all
    }
}

/// What a newer process has written is in the place of every record of these kinds in which `whose` is.
async fn write_newer(site: &Site, kinds: &[&str], whose: &[String]) {
    let all = site.store.list("", None, 1_000).await.unwrap();
    assert!(!all.more);
    for entry in all.entries {
        let text = String::from_utf8_lossy(&entry.value).into_owned();
        let is_one = kinds.iter().any(|kind| entry.key.has_prefix(&format!("{kind}/")));
        if is_one && whose.iter().any(|whose| text.contains(whose)) {
            let newer = text.replacen('{', r#"{"new":1,"#, 1);
            let written = Transaction::new().put(entry.key, newer.into_bytes());
            let revision = site.store.commit(written).await.unwrap();
            site.app.view().reached(revision).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_others_have_is_not_read_for_a_list() {
    let site = Site::start().await;
    let (acme, globex) = (Team::new(&site, "acme", 1).await, Team::new(&site, "globex", 2).await);
    let before = acme.listed(&site).await;
    let lens: Vec<_> = before.iter().map(|(_, _, len)| *len).collect();
    assert_eq!(lens, [1, 1, 1, 1, 1, 1, 1, 1, 2], "{before:?}");
    assert!(before.iter().all(|(_, code, _)| *code == Code::Ok), "{before:?}");

    let who = site.who(&globex.owner).await.unwrap();
    let Some(v1::who_am_i_response::Actor::User(user)) = who.actor else { panic!("no person") };
    let user = user.id;
    let organisation = who.organisations[0].organisation.clone();
    let environment = site.environment(&globex.owner, "globex", "other").await;
    assert_eq!(environment.organisation, organisation);
    write_newer(&site, &["ssh-key", "token", "invitation"], &[user.clone(), organisation.clone()])
        .await;
    let own = globex.listed(&site).await;
    let failed: Vec<_> = own.iter().filter(|(_, code, _)| *code == Code::Internal).collect();
    assert_eq!(
        failed.len(),
        4,
        "keys, tokens, invitations, and the audit that has a token: {own:?}"
    );
    // Nobody is known who shows a session that cannot be read: these go last.
    write_newer(&site, &["membership", "session"], &[user, organisation]).await;
    assert!(globex.listed(&site).await.iter().all(|(_, code, _)| *code != Code::Ok));
    assert_eq!(acme.listed(&site).await, before);
}
