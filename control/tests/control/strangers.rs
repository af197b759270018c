//! What is not theirs is not there.

use std::time::Duration;

use tonic::{Code, Request, Status, transport::Channel};
use weft_control::Clock;
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, audit_client::AuditClient,
    environments_client::EnvironmentsClient, hosts_client::HostsClient,
    members_client::MembersClient, organisations_client::OrganisationsClient,
    policies_client::PoliciesClient, secrets_client::SecretsClient,
    services_client::ServicesClient, sessions_client::SessionsClient, tokens_client::TokensClient,
};
use weft_pki::{KeyKind, request};

use crate::site::{Host, PASSWORD, Site, code, name, said, with};

/// Who calls.
enum Caller {
    Nobody,
    Token(String),
    Host(Host),
}

impl Caller {
    async fn channel(&self, site: &Site) -> Channel {
        match self {
            Self::Host(host) => site.connect(Some(host)).await,
            _ => site.connect(None).await,
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        match self {
            Self::Token(token) => with(message, token),
            _ => Request::new(message),
        }
    }
}

/// Every call that is about an environment, on this one. Each answer is what it says, all of it.
async fn every_call(
    site: &Site,
    caller: &Caller,
    environment: &str,
) -> Vec<(&'static str, (Code, String))> {
    let channel = caller.channel(site).await;
    let mut environments = EnvironmentsClient::new(channel.clone());
    let mut attachments = AttachmentsClient::new(channel.clone());
    let mut policies = PoliciesClient::new(channel.clone());
    let mut audit = AuditClient::new(channel);
    let environment = || name(environment);
    let slot = || Some(v1::SlotName { service: "web".to_owned(), slot: "0".to_owned() });
    let (host, web) = (|| "host-a".to_owned(), || "web".to_owned());
    let mut answers = Vec::new();
    macro_rules! call {
        ($client:ident.$call:ident($message:expr)) => {
            let answer = $client.$call(caller.request($message)).await;
            answers.push((stringify!($call), outcome(answer)));
        };
    }
    call!(environments.get_environment(v1::GetEnvironmentRequest { environment: environment() }));
    call!(
        environments
            .suspend_environment(v1::SuspendEnvironmentRequest { environment: environment() })
    );
    call!(
        environments
            .resume_environment(v1::ResumeEnvironmentRequest { environment: environment() })
    );
    let delete = v1::DeleteEnvironmentRequest { environment: environment(), ..Default::default() };
    call!(environments.delete_environment(delete));
    let quotas = v1::SetQuotasRequest { environment: environment(), quotas: None };
    call!(environments.set_quotas(quotas));
    let rotate =
        v1::RotateAuthorityRequest { environment: environment(), generation: 1, emergency: true };
    call!(environments.rotate_authority(rotate));
    call!(
        environments.allow_host(v1::AllowHostRequest { environment: environment(), host: host() })
    );
    let deny =
        v1::DenyHostRequest { environment: environment(), host: host(), remove_attachments: false };
    call!(environments.deny_host(deny));
    let list = v1::ListAllowedHostsRequest { environment: environment(), page: None };
    call!(environments.list_allowed_hosts(list));
    let create = v1::CreateAttachmentRequest {
        environment: environment(),
        name: web(),
        host: host(),
        ..Default::default()
    };
    call!(attachments.create_attachment(create));
    call!(
        attachments
            .get_attachment(v1::GetAttachmentRequest { environment: environment(), name: web() })
    );
    let list = v1::ListAttachmentsRequest { environment: environment(), page: None };
    call!(attachments.list_attachments(list));
    let moved = v1::MoveAttachmentRequest {
        environment: environment(),
        name: web(),
        host: host(),
        grant: String::new(),
    };
    call!(attachments.move_attachment(moved));
    let release =
        v1::ReleaseAttachmentRequest { environment: environment(), name: web(), generation: 0 };
    call!(attachments.release_attachment(release));
    let reserve =
        v1::ReserveSlotRequest { environment: environment(), slot: slot(), addresses: Vec::new() };
    call!(attachments.reserve_slot(reserve));
    call!(
        attachments
            .unreserve_slot(v1::UnreserveSlotRequest { environment: environment(), slot: slot() })
    );
    call!(attachments.list_slots(v1::ListSlotsRequest { environment: environment(), page: None }));
    let grant = v1::CreateGrantRequest {
        environment: environment(),
        slot: slot(),
        host: host(),
        attempt: 1,
        ..Default::default()
    };
    call!(attachments.create_grant(grant));
    let id = "grt-aaaaaaaaaaaaaaaa".to_owned();
    call!(attachments.revoke_grant(v1::RevokeGrantRequest { environment: environment(), id }));
    call!(policies.get_policy(v1::GetPolicyRequest { environment: environment() }));
    let set = v1::SetPolicyRequest {
        environment: environment(),
        version: 1,
        default: v1::Verdict::Allow.into(),
        rules: Vec::new(),
    };
    call!(policies.set_policy(set));
    let records = v1::ListAuditRecordsRequest { environment: environment(), ..Default::default() };
    call!(audit.list_audit_records(records));
    answers
}

/// Every call that is about services, roles and secrets of an environment, on this one.
#[expect(clippy::needless_update, reason = "of some messages, all fields are named")]
async fn every_call_of_the_registry(
    site: &Site,
    caller: &Caller,
    environment: &str,
) -> Vec<(&'static str, (Code, String))> {
    let channel = caller.channel(site).await;
    let mut services = ServicesClient::new(channel.clone());
    let mut secrets = SecretsClient::new(channel);
    let environment = || name(environment);
    let (web, password) = (|| "web".to_owned(), || "PASSWORD".to_owned());
    let mut answers = Vec::new();
    macro_rules! call {
        ($client:ident.$call:ident($message:ident { $($field:ident: $value:expr),* })) => {
            let message = v1::$message {
                environment: environment(),
                $($field: $value,)*
                ..Default::default()
            };
            let answer = $client.$call(caller.request(message)).await;
            answers.push((stringify!($call), outcome(answer)));
        };
    }
    call!(services.put_service(PutServiceRequest { name: web() }));
    call!(services.get_service(GetServiceRequest { name: web() }));
    call!(services.list_services(ListServicesRequest {}));
    call!(services.watch_services(WatchServicesRequest { revision: 0 }));
    call!(services.set_drained(SetDrainedRequest { attachment: web(), drained: true }));
    let role = || "primary".to_owned();
    call!(services.acquire_role(AcquireRoleRequest {
        service: web(),
        role: role(),
        holder: web()
    }));
    call!(services.transfer_role(TransferRoleRequest {
        service: web(),
        role: role(),
        holder: web(),
        epoch: 1
    }));
    call!(services.release_role(ReleaseRoleRequest { service: web(), role: role(), epoch: 1 }));
    call!(services.delete_service(DeleteServiceRequest { name: web() }));
    let value = || Some(v1::SecretValue { data: b"value".to_vec() });
    call!(secrets.put_secret(PutSecretRequest { name: password(), value: value() }));
    call!(secrets.list_secrets(ListSecretsRequest {}));
    call!(secrets.get_secret_metadata(GetSecretMetadataRequest { name: password() }));
    call!(secrets.release_secret(ReleaseSecretRequest { name: password() }));
    call!(secrets.release_secret(ReleaseSecretRequest {
        name: password(),
        grant: "grt-aaaaaaaaaaaaaaaa".to_owned()
    }));
    call!(secrets.destroy_secret_versions(DestroySecretVersionsRequest {
        name: password(),
        versions: vec![1]
    }));
    call!(secrets.delete_secret(DeleteSecretRequest { name: password() }));
    answers
}

/// Every call that is about people of an environment, on this one.
async fn every_call_about_its_people(
    site: &Site,
    caller: &Caller,
    environment: &str,
) -> Vec<(&'static str, (Code, String))> {
    let channel = caller.channel(site).await;
    let mut members = MembersClient::new(channel.clone());
    let mut tokens = TokensClient::new(channel);
    let environment = || name(environment);
    let user = || "owner@acme.example".to_owned();
    let mut answers = Vec::new();
    macro_rules! call {
        ($client:ident.$call:ident($message:expr)) => {
            let answer = $client.$call(caller.request($message)).await;
            answers.push((stringify!($call), outcome(answer)));
        };
    }
    let list = v1::ListEnvironmentMembersRequest { environment: environment(), page: None };
    call!(members.list_environment_members(list));
    let role = v1::EnvironmentRole::Viewer.into();
    let set = v1::SetEnvironmentRoleRequest { environment: environment(), user: user(), role };
    call!(members.set_environment_role(set));
    let remove = v1::RemoveEnvironmentRoleRequest { environment: environment(), user: user() };
    call!(members.remove_environment_role(remove));
    let create = v1::CreateTokenRequest {
        environment: environment(),
        name: "deploy".to_owned(),
        role,
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    call!(tokens.create_token(create));
    call!(tokens.list_tokens(v1::ListTokensRequest { environment: environment(), page: None }));
    let id = "tok-aaaaaaaaaaaaaaaa".to_owned();
    call!(tokens.revoke_token(v1::RevokeTokenRequest { environment: environment(), id }));
    answers
}

/// Every call that is about an organisation, on this one.
async fn every_call_about_an_organisation(
    site: &Site,
    caller: &Caller,
    organisation: &str,
) -> Vec<(&'static str, (Code, String))> {
    let channel = caller.channel(site).await;
    let mut organisations = OrganisationsClient::new(channel.clone());
    let mut members = MembersClient::new(channel);
    let organisation = || organisation.to_owned();
    let user = || "owner@acme.example".to_owned();
    let mut answers = Vec::new();
    macro_rules! call {
        ($client:ident.$call:ident($message:expr)) => {
            let answer = $client.$call(caller.request($message)).await;
            answers.push((stringify!($call), outcome(answer)));
        };
    }
    let get = v1::GetOrganisationRequest { organisation: organisation() };
    call!(organisations.get_organisation(get));
    let list = v1::ListMembersRequest { organisation: organisation(), page: None };
    call!(members.list_members(list));
    for role in [v1::OrganisationRole::Member, v1::OrganisationRole::Owner] {
        let role = role.into();
        let email = "new@acme.example".to_owned();
        let invite = v1::InviteMemberRequest { organisation: organisation(), email, role };
        call!(members.invite_member(invite));
        let set = v1::SetMemberRoleRequest { organisation: organisation(), user: user(), role };
        call!(members.set_member_role(set));
    }
    let (name, grace_seconds) = ("initech".to_owned(), Some(60));
    let rename = v1::RenameOrganisationRequest { organisation: organisation(), name };
    call!(organisations.rename_organisation(rename));
    let environments_max = 60;
    let set = v1::SetOrganisationQuotasRequest { organisation: organisation(), environments_max };
    call!(organisations.set_organisation_quotas(set));
    let delete = v1::DeleteOrganisationRequest { organisation: organisation(), grace_seconds };
    call!(organisations.delete_organisation(delete));
    let restore = v1::RestoreOrganisationRequest { organisation: organisation() };
    call!(organisations.restore_organisation(restore));
    let list = v1::ListInvitationsRequest { organisation: organisation(), page: None };
    call!(members.list_invitations(list));
    let id = "tok-aaaaaaaaaaaaaaaa".to_owned();
    let revoke = v1::RevokeInvitationRequest { organisation: organisation(), id };
    call!(members.revoke_invitation(revoke));
    let remove = v1::RemoveMemberRequest { organisation: organisation(), user: user() };
    call!(members.remove_member(remove));
    answers
}

#[tokio::test]
async fn a_foreign_organisation_answers_as_one_that_is_not_there() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let id = site.environment(&owner, "acme", "shop").await.organisation;
    let stranger = site.organisation("globex").await;
    let host = site.enrol("host-a").await;
    for (who, caller) in [
        ("nobody", Caller::Nobody),
        ("a stranger", Caller::Token(stranger)),
        ("garbage", Caller::Token("weft_session_0".to_owned())),
        ("a host", Caller::Host(host)),
    ] {
        let foreign = every_call_about_an_organisation(&site, &caller, &id).await;
        for (call, answer) in &foreign {
            assert_ne!(answer.0, Code::Ok, "{who}: {call}");
        }
        for same in ["acme", "org-aaaaaaaaaaaaaaaa", "nowhere"] {
            let there = every_call_about_an_organisation(&site, &caller, same).await;
            assert_eq!(foreign, there, "{who}: {same}");
        }
    }
    // To whom it belongs it is there, so the calls above were good ones.
    let own = every_call_about_an_organisation(&site, &Caller::Token(owner), &id).await;
    let refused: Vec<_> = own.iter().filter(|(_, answer)| answer.0 != Code::Ok).collect();
    let said: Vec<_> = refused.iter().map(|(call, answer)| (*call, answer.0)).collect();
    let expected = [
        ("set_member_role", Code::FailedPrecondition),
        // For operators alone.
        ("set_organisation_quotas", Code::PermissionDenied),
        ("delete_organisation", Code::FailedPrecondition),
        ("remove_member", Code::FailedPrecondition),
    ];
    assert_eq!(said, expected, "{refused:?}");
}

fn outcome<T>(answer: Result<T, Status>) -> (Code, String) {
    match answer {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

#[tokio::test]
async fn a_foreign_environment_answers_as_one_that_is_not_there() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let stranger = site.organisation("globex").await;
    site.environment(&stranger, "globex", "shop").await;
    let host = site.enrol("host-a").await;
    site.allow(&shop.id, "host-a").await;
    let mut agent = site.agent(&host).await;
    let (environment, web) = (shop.id.clone(), "web".to_owned());
    agent.attach(v1::AttachRequest { environment, name: web, ..Default::default() }).await.unwrap();
    let other = site.enrol("host-b").await;

    let callers = [
        ("nobody", Caller::Nobody),
        ("a stranger", Caller::Token(stranger)),
        ("garbage", Caller::Token("weft_session_0".to_owned())),
        ("its own host", Caller::Host(host)),
        ("another host", Caller::Host(other)),
    ];
    for (who, caller) in &callers {
        let foreign = all_calls(&site, caller, &shop.id).await;
        for (call, answer) in &foreign {
            assert_ne!(answer.0, Code::Ok, "{who}: {call}");
        }
        for same in ["acme/shop", "env-aaaaaaaaaaaaaaaa", "acme/nothing", "nowhere/shop"] {
            assert_eq!(foreign, all_calls(&site, caller, same).await, "{who}: {same}");
        }
    }
    // To whom it belongs it is there, so the calls above were good ones.
    let owner = Caller::Token(owner);
    let own = every_call_of_the_registry(&site, &owner, &shop.id).await;
    let refused: Vec<_> = own.iter().filter(|(_, answer)| answer.0 != Code::Ok).collect();
    let said: Vec<_> = refused.iter().map(|(call, answer)| (*call, answer.0)).collect();
    let expected = [
        ("transfer_role", Code::Aborted),
        ("release_role", Code::Aborted),
        ("delete_service", Code::FailedPrecondition),
        ("release_secret", Code::InvalidArgument),
    ];
    assert_eq!(said, expected, "{refused:?}");
    let own = every_call_about_its_people(&site, &owner, &shop.id).await;
    let refused: Vec<_> = own.iter().filter(|(_, answer)| answer.0 != Code::Ok).collect();
    let absent = (Code::NotFound, "no such token".to_owned());
    assert_eq!(refused, [&("revoke_token", absent)], "{own:?}");
    let own = every_call(&site, &owner, &shop.id).await;
    let done = own.iter().filter(|(_, answer)| answer.0 == Code::Ok).count();
    assert!(done >= 9, "{own:?}");
}

async fn all_calls(
    site: &Site,
    caller: &Caller,
    environment: &str,
) -> Vec<(&'static str, (Code, String))> {
    let mut answers = every_call(site, caller, environment).await;
    answers.extend(every_call_of_the_registry(site, caller, environment).await);
    answers.extend(every_call_about_its_people(site, caller, environment).await);
    answers
}

#[tokio::test]
async fn a_host_asks_for_every_environment_and_learns_nothing() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let mut environments = Vec::new();
    for n in 0..5 {
        environments.push(site.environment(&owner, "acme", &format!("shop-{n}")).await.id);
    }
    let host = site.enrol("host-a").await;
    // One of them has an attachment on another host, one has allowed this one and has nothing on it.
    let other = site.enrol("host-b").await;
    site.allow(&environments[1], "host-b").await;
    let attach = |environment: &str| v1::AttachRequest {
        environment: environment.to_owned(),
        name: "web".to_owned(),
        ..Default::default()
    };
    site.agent(&other).await.attach(attach(&environments[1])).await.unwrap();
    site.allow(&environments[2], "host-a").await;

    let mut agent = site.agent(&host).await;
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    let absent = "env-aaaaaaaaaaaaaaaa".to_owned();
    let mut refusals = Vec::new();
    for environment in environments.iter().chain([&absent]) {
        let signing_request = key.request.clone();
        let ask = v1::IssueLeafRequest { environment: environment.clone(), signing_request };
        refusals.push(said(agent.issue_leaf(ask).await));
    }
    assert_eq!(refusals, vec![(Code::NotFound, "no such environment".to_owned()); 6]);
    for environment in [&environments[0], &environments[1], &absent] {
        let refused = said(agent.attach(attach(environment)).await);
        assert_eq!(refused, (Code::NotFound, "no such environment".to_owned()));
    }
}

#[tokio::test]
async fn what_is_the_operators_is_nobody_elses() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let host = site.enrol("host-a").await;
    for (caller, expected) in [
        (Caller::Nobody, Code::Unauthenticated),
        (Caller::Token(owner), Code::PermissionDenied),
        (Caller::Host(host), Code::PermissionDenied),
    ] {
        let channel = caller.channel(&site).await;
        let mut hosts = HostsClient::new(channel.clone());
        let mut organisations = OrganisationsClient::new(channel);
        let list = hosts.list_hosts(caller.request(v1::ListHostsRequest::default())).await;
        assert_eq!(code(list), expected);
        let join =
            hosts.create_join_token(caller.request(v1::CreateJoinTokenRequest::default())).await;
        assert_eq!(code(join), expected);
        let (name, owner_email) = ("initech".to_owned(), "a@b.example".to_owned());
        let make = v1::CreateOrganisationRequest { name, owner_email };
        assert_eq!(code(organisations.create_organisation(caller.request(make)).await), expected);
        // One host among others is not there.
        let get = v1::GetHostRequest { id: "host-a".to_owned() };
        let absent = v1::GetHostRequest { id: "host-z".to_owned() };
        let (get, absent) = (
            hosts.get_host(caller.request(get)).await,
            hosts.get_host(caller.request(absent)).await,
        );
        assert_eq!(said(get), said(absent));
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_address_look_the_same() {
    let site = Site::start().await;
    site.organisation("acme").await;
    let wrong = said(site.login("owner@acme.example", "not the password").await);
    let nobody = said(site.login("nobody@acme.example", PASSWORD).await);
    assert_eq!((wrong.0, &wrong), (Code::Unauthenticated, &nobody));
    assert!(site.login("OWNER@acme.example", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_session_ends() {
    let site = Site::start().await;
    let token = site.login("operator@weft.example", PASSWORD).await.unwrap();
    let mut sessions = SessionsClient::new(site.connect(None).await);
    let who = || with(v1::WhoAmIRequest {}, &token);
    assert!(sessions.who_am_i(who()).await.is_ok());
    sessions.logout(with(v1::LogoutRequest {}, &token)).await.unwrap();
    assert_eq!(code(sessions.who_am_i(who()).await), Code::Unauthenticated);
}

#[tokio::test]
async fn after_ten_wrong_passwords_the_right_one_is_refused_for_a_while() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let email = "operator@weft.example";
    let mut refusals = std::collections::BTreeSet::new();
    for _ in 0..10 {
        refusals.insert(said(site.login(email, "not the password").await).1);
    }
    refusals.insert(said(site.login(email, PASSWORD).await).1);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    clock.advance(Duration::from_secs(15 * 60));
    assert!(site.login(email, PASSWORD).await.is_ok());
}
