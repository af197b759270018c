//! All calls of the protocol: what each is about, who may make it, and how it is asked.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use weft_control_api::{DESCRIPTORS, v1};
use weft_model::access::Action::{self, *};

use crate::site::{PASSWORD, name};

/// What a call is about, and which right to it whoever makes it has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// An environment. Foreign and absent look the same.
    Environment(Action),
    /// An organisation. Foreign and absent look the same.
    Organisation(Action),
    /// A host, by who runs the installation. There and not there look the same to everybody else.
    Host(Action),
    /// Something of the installation, by who runs it. There and not there look the same to everybody else.
    Installation(Action),
    /// An environment, by a host with a right there. Foreign and absent look the same to every other one.
    OfHosts,
    /// Something of somebody: theirs and nobody's look the same to everybody else. That may be an answer, too: as for what
    /// is gone already, or is made for the caller.
    Somebodys,
    /// Nothing that could be foreign, for this reason.
    Own(&'static str),
}
use About::*;

/// What the caller alone is or has.
const CALLER: About = Own("about the caller alone, who is known by what it shows");
/// The page is of what the caller may see.
const SEEN: About = Own("names nothing, and lists what the caller may see");
/// What is shown gives the right, whoever shows it.
const BEARER: About = Own("a secret says what it is about, and nobody knows one of others");

/// Names in requests: all of what is there, or all of what is not.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) organisation: String,
    pub(super) environment: String,
    pub(super) host: String,
    pub(super) user: String,
    pub(super) email: String,
    pub(super) session: String,
    /// A session's secret.
    pub(super) shown: String,
    pub(super) token: String,
    pub(super) join_token: String,
    pub(super) invitation: String,
    /// An invitation's secret.
    pub(super) invited: String,
    pub(super) grant: String,
    pub(super) ssh_key: String,
    pub(super) ssh_line: String,
    pub(super) ssh_fingerprint: String,
}

impl Names {
    fn environment(&self) -> Option<v1::EnvironmentName> {
        name(&self.environment)
    }

    fn slot(&self) -> Option<v1::SlotName> {
        Some(v1::SlotName { service: "web".to_owned(), slot: "7".to_owned() })
    }
}

/// A call, as it is asked.
pub(super) struct Call {
    /// `SERVICE/CALL`.
    pub(super) name: &'static str,
    pub(super) about: About,
    pub(super) ask: fn(&Names) -> Vec<u8>,
}

/// Calls, one a line. Those that name an environment, an organisation or a person do so in the field of that name.
macro_rules! calls {
    ($($name:literal: $about:expr, $message:ident
        $([$($of:ident),+])? { $($field:ident: |$at:pat_param| $value:expr),* $(,)? };)+) => {
        /// All of them.
        #[expect(clippy::needless_update, reason = "of some messages, all fields are named")]
        pub(super) fn every_call() -> Vec<Call> {
            vec![$(Call {
                name: $name,
                about: $about,
                ask: |_names| {
                    let message = v1::$message {
                        $($($of: calls!(@ $of _names),)+)?
                        $($field: (|$at: &Names| $value)(_names),)*
                        ..Default::default()
                    };
                    message.encode_to_vec()
                },
            }),+]
        }
    };
    (@ environment $names:ident) => { $names.environment() };
    (@ organisation $names:ident) => { $names.organisation.clone() };
    (@ user $names:ident) => { $names.user.clone() };
    (@ slot $names:ident) => { $names.slot() };
    (@ name $names:ident) => { "web".to_owned() };
    (@ service $names:ident) => { "web".to_owned() };
    (@ role $names:ident) => { "primary".to_owned() };
    (@ holder $names:ident) => { "web".to_owned() };
}

// What ends something is before what brings it back: the next one finds it as it was.
calls! {
    "Sessions/Login": Somebodys, LoginRequest {
        email: |at| at.email.clone(), password: |_| "not the password".to_owned(),
    };
    "Sessions/WhoAmI": CALLER, WhoAmIRequest {};
    "Sessions/AcceptInvitation": BEARER, AcceptInvitationRequest {
        secret: |_| "weft_invitation_0".to_owned(), name: |_| "Somebody".to_owned(),
        password: |_| PASSWORD.to_owned(),
    };
    "Sessions/JoinByInvitation": Somebodys, JoinByInvitationRequest { secret: |at| at.invited.clone() };
    "Account/ChangePassword": CALLER, ChangePasswordRequest {
        password: |_| "not the password".to_owned(), new_password: |_| PASSWORD.to_owned(),
    };
    "Account/ListSessions": CALLER, ListSessionsRequest {};
    "Account/EndSession": Somebodys, EndSessionRequest { id: |at| at.session.clone() };
    "Account/EnrolSecondFactor": CALLER, EnrolSecondFactorRequest {
        password: |_| "not the password".to_owned(),
    };
    "Account/ConfirmSecondFactor": CALLER, ConfirmSecondFactorRequest { code: |_| "000000".to_owned() };
    "Account/DisableSecondFactor": CALLER, DisableSecondFactorRequest {
        password: |_| "not the password".to_owned(),
    };
    "SshKeys/ChallengeSshKey": Somebodys, ChallengeSshKeyRequest { key: |at| at.ssh_line.clone() };
    "SshKeys/AddSshKey": Somebodys, AddSshKeyRequest {
        key: |at| at.ssh_line.clone(), password: |_| PASSWORD.to_owned(),
        message: |_| "weft ssh-key 1".to_owned(), signature: |_| "none".to_owned(),
    };
    "SshKeys/ListSshKeys": CALLER, ListSshKeysRequest {};
    "SshKeys/RemoveSshKey": Somebodys, RemoveSshKeyRequest { id: |at| at.ssh_key.clone() };
    "Authentication/ResolveSshKey": Installation(Authenticate), ResolveSshKeyRequest {
        key: |at| Some(v1::resolve_ssh_key_request::Key::Fingerprint(at.ssh_fingerprint.clone())),
    };
    "Authentication/ResolveToken": Installation(Authenticate), ResolveTokenRequest {
        secret: |at| at.shown.clone(),
    };

    "Organisations/CreateOrganisation": Installation(ManageInstallation), CreateOrganisationRequest {
        name: |at| at.organisation.replace("org-", "o-"), owner_email: |at| at.email.clone(),
    };
    "Organisations/GetOrganisation": Organisation(SeeOrganisation), GetOrganisationRequest[organisation] {};
    "Organisations/ListOrganisations": SEEN, ListOrganisationsRequest {};
    "Organisations/RenameOrganisation": Organisation(OwnOrganisation), RenameOrganisationRequest[organisation] {
        name: |_| "acme".to_owned(),
    };
    "Organisations/SetOrganisationQuotas": Organisation(ManageInstallation),
        SetOrganisationQuotasRequest[organisation] { environments_max: |_| 50 };
    "Organisations/DeleteOrganisation": Organisation(OwnOrganisation), DeleteOrganisationRequest[organisation] {};
    "Organisations/RestoreOrganisation": Organisation(OwnOrganisation), RestoreOrganisationRequest[organisation] {};
    "Members/ListMembers": Organisation(ManageOrganisation), ListMembersRequest[organisation] {};
    "Members/InviteMember": Organisation(ManageOrganisation), InviteMemberRequest[organisation] {
        email: |_| "new@acme.example".to_owned(),
        role: |_| v1::OrganisationRole::Member.into(),
    };
    "Members/ListInvitations": Organisation(ManageOrganisation), ListInvitationsRequest[organisation] {};
    "Members/RevokeInvitation": Organisation(ManageOrganisation), RevokeInvitationRequest[organisation] {
        id: |at| at.invitation.clone(),
    };
    "Members/SetMemberRole": Organisation(ManageOrganisation), SetMemberRoleRequest[organisation, user] {
        role: |_| v1::OrganisationRole::Member.into(),
    };
    "Members/ListEnvironmentMembers": Environment(ManagePeople), ListEnvironmentMembersRequest[environment] {};
    "Members/SetEnvironmentRole": Environment(ManagePeople), SetEnvironmentRoleRequest[environment, user] {
        role: |_| v1::EnvironmentRole::Viewer.into(),
    };
    "Members/RemoveEnvironmentRole": Environment(ManagePeople), RemoveEnvironmentRoleRequest[environment, user] {};
    "Members/RemoveMember": Organisation(ManageOrganisation), RemoveMemberRequest[organisation, user] {};
    "Tokens/CreateToken": Environment(MakeTokens), CreateTokenRequest[environment] {
        name: |_| "deploy".to_owned(), role: |_| v1::EnvironmentRole::Viewer.into(),
        password: |_| PASSWORD.to_owned(),
    };
    "Tokens/ListTokens": Environment(MakeTokens), ListTokensRequest[environment] {};
    "Tokens/RevokeToken": Environment(MakeTokens), RevokeTokenRequest[environment] { id: |at| at.token.clone() };

    "Environments/CreateEnvironment": Organisation(ManageOrganisation), CreateEnvironmentRequest[organisation] {
        name: |_| "shop".to_owned(), subnets: |_| vec!["10.40.0.0/24".to_owned()],
    };
    "Environments/GetEnvironment": Environment(SeeEnvironment), GetEnvironmentRequest[environment] {};
    "Environments/ListEnvironments": Organisation(SeeOrganisation), ListEnvironmentsRequest[organisation] {};
    "Environments/UpdateEnvironment": Environment(ManageEnvironment), UpdateEnvironmentRequest[environment] {
        leaf_seconds: |_| 7_200,
    };
    "Environments/SetQuotas": Environment(ManageInstallation), SetQuotasRequest[environment] {};
    "Environments/RotateAuthority": Environment(ManageEnvironment), RotateAuthorityRequest[environment] {
        generation: |_| 1,
    };
    "Environments/AllowHost": Environment(BindHosts), AllowHostRequest[environment] { host: |at| at.host.clone() };
    "Environments/ListAllowedHosts": Environment(BindHosts), ListAllowedHostsRequest[environment] {};
    "Attachments/CreateAttachment": Environment(Deploy), CreateAttachmentRequest[environment, name, slot] {
        host: |at| at.host.clone(),
    };
    "Attachments/GetAttachment": Environment(SeeEnvironment), GetAttachmentRequest[environment, name] {};
    "Attachments/ListAttachments": Environment(SeeEnvironment), ListAttachmentsRequest[environment] {};
    "Attachments/MoveAttachment": Environment(Deploy), MoveAttachmentRequest[environment, name] {
        host: |at| at.host.clone(),
    };
    "Attachments/ReserveSlot": Environment(Deploy), ReserveSlotRequest[environment, slot] {};
    "Attachments/ListSlots": Environment(SeeEnvironment), ListSlotsRequest[environment] {};
    "Attachments/CreateGrant": Environment(Grant), CreateGrantRequest[environment, slot] {
        host: |at| at.host.clone(), attempt: |_| 1,
    };
    "Attachments/RevokeGrant": Environment(Grant), RevokeGrantRequest[environment] { id: |at| at.grant.clone() };
    "Policies/GetPolicy": Environment(SeeEnvironment), GetPolicyRequest[environment] {};
    "Policies/SetPolicy": Environment(ManageEnvironment), SetPolicyRequest[environment] {
        version: |_| 1, default: |_| v1::Verdict::Allow.into(),
    };
    "Services/PutService": Environment(Deploy), PutServiceRequest[environment, name] {};
    "Services/GetService": Environment(SeeEnvironment), GetServiceRequest[environment, name] {};
    "Services/ListServices": Environment(SeeEnvironment), ListServicesRequest[environment] {};
    "Services/WatchServices": Environment(SeeEnvironment), WatchServicesRequest[environment] {};
    "Services/SetDrained": Environment(Deploy), SetDrainedRequest[environment] {
        attachment: |_| "web".to_owned(), drained: |_| true,
    };
    "Services/AcquireRole": Environment(Deploy), AcquireRoleRequest[environment, service, role, holder] {};
    "Services/TransferRole": Environment(Deploy), TransferRoleRequest[environment, service, role, holder] {
        epoch: |_| 1,
    };
    "Services/ReleaseRole": Environment(Deploy), ReleaseRoleRequest[environment, service, role] { epoch: |_| 1 };
    "Secrets/PutSecret": Environment(WriteSecrets), PutSecretRequest[environment, name] {
        value: |_| Some(v1::SecretValue { data: b"value".to_vec() }),
    };
    "Secrets/ListSecrets": Environment(SeeSecrets), ListSecretsRequest[environment] {};
    "Secrets/GetSecretMetadata": Environment(SeeSecrets), GetSecretMetadataRequest[environment, name] {};
    "Secrets/ReleaseSecret": Environment(ReadSecrets), ReleaseSecretRequest[environment, name] {};
    "Secrets/DestroySecretVersions": Environment(WriteSecrets), DestroySecretVersionsRequest[environment, name] {
        versions: |_| vec![1],
    };
    "Secrets/DeleteSecret": Environment(WriteSecrets), DeleteSecretRequest[environment, name] {};
    "Attachments/ReleaseAttachment": Environment(Deploy), ReleaseAttachmentRequest[environment, name] {};
    "Attachments/UnreserveSlot": Environment(Deploy), UnreserveSlotRequest[environment, slot] {};
    "Services/DeleteService": Environment(Deploy), DeleteServiceRequest[environment, name] {};
    "Environments/DenyHost": Environment(BindHosts), DenyHostRequest[environment] { host: |at| at.host.clone() };
    "Environments/SuspendEnvironment": Environment(SuspendEnvironment), SuspendEnvironmentRequest[environment] {};
    "Environments/DeleteEnvironment": Environment(ManageEnvironment), DeleteEnvironmentRequest[environment] {};
    "Environments/ResumeEnvironment": Environment(SuspendEnvironment), ResumeEnvironmentRequest[environment] {};
    "Audit/ListAuditRecords": Environment(ReadEnvironmentAudit), ListAuditRecordsRequest[environment] {};
    "Audit/VerifyAudit": Installation(ReadAllAudit), VerifyAuditRequest {};

    "Enrolment/Enrol": Somebodys, EnrolRequest {
        token: |_| "weft_join_0".to_owned(), host: |at| at.host.clone(),
    };
    "HostAgent/RenewHostCertificate": CALLER, RenewHostCertificateRequest {};
    "HostAgent/Watch": CALLER, WatchRequest {};
    "HostAgent/IssueLeaf": OfHosts, IssueLeafRequest { environment: |at| at.environment.clone() };
    "HostAgent/Attach": OfHosts, AttachRequest[name] { environment: |at| at.environment.clone() };
    "HostAgent/Release": Somebodys, ReleaseRequest[name] { environment: |at| at.environment.clone() };
    "HostAgent/Report": CALLER, ReportRequest {};
    "Hosts/CreateJoinToken": Installation(ManageHosts), CreateJoinTokenRequest { host: |at| at.host.clone() };
    "Hosts/ListJoinTokens": Installation(SeeHosts), ListJoinTokensRequest {};
    "Hosts/RevokeJoinToken": Installation(ManageHosts), RevokeJoinTokenRequest { id: |at| at.join_token.clone() };
    "Hosts/GetHost": Host(SeeHosts), GetHostRequest { id: |at| at.host.clone() };
    "Hosts/GetHostReport": Host(SeeHosts), GetHostReportRequest { id: |at| at.host.clone() };
    "Hosts/ListHosts": Installation(SeeHosts), ListHostsRequest {};
    "Hosts/UpdateHost": Host(ManageHosts), UpdateHostRequest { id: |at| at.host.clone(), revision: |_| 1,
        endpoints: |_| vec![v1::Endpoint { address: "192.0.2.1:7777".to_owned(), pod: String::new() }],
    };
    "Hosts/SetHostState": Host(ManageHosts), SetHostStateRequest {
        id: |at| at.host.clone(), state: |_| v1::HostState::Active.into(),
    };
    "Users/ListUsers": Installation(ManageInstallation), ListUsersRequest {};
    "Users/SuspendUser": Installation(ManageInstallation), SuspendUserRequest[user] {};
    "Users/ResumeUser": Installation(ManageInstallation), ResumeUserRequest[user] {};
    "Users/UnlockUser": Installation(ManageInstallation), UnlockUserRequest[user] {};
    "Users/ResetSecondFactor": Installation(ManageInstallation), ResetSecondFactorRequest[user] {};
    "Users/RemoveUser": Installation(ManageInstallation), RemoveUserRequest[user] {};
    // Last: whoever has a session has none after it.
    "Sessions/Logout": CALLER, LogoutRequest {};
}

/// All calls of the protocol, as it describes itself by reflection.
fn described() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let services = files.file.iter().filter(|file| file.package() == "weft.control.v1");
    let services = services.flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(|call| format!("{}/{}", service.name(), call.name()))
    });
    calls.collect()
}

#[test]
fn every_call_of_the_protocol_has_its_rule_here() {
    let calls = every_call();
    let here: BTreeSet<_> = calls.iter().map(|call| call.name.to_owned()).collect();
    assert_eq!(here.len(), calls.len(), "one is there twice");
    assert_eq!(here, described());
}
