//! What calls are about, as the audit has it: a path whose first names say whose it is.
//!
//! ```text
//!   organisation/org-…/environment/env-…/attachment/web/host/host-a
//!   host/host-a    join-token/tok-…    account/you@example.com    installation
//! ```
//!
//! What is there is named by its ids, however it was asked for; what is not, as somebody called it, as far as that is
//! a name.

use weft_audit::{Fact, Facts, Name, Object, Word};
use weft_control_api::v1;
use weft_model::access::Actor;
use weft_pki::installation;

use super::{agent::WatchStream, call::Asked, services::ServicesStream, settings};
use crate::{
    app::{App, EnvironmentReference},
    audit::{self, Manner, named},
    secret::hex,
    ssh::{self, PublicKey},
};

/// What objects are found with.
pub(super) struct On<'a> {
    pub(super) app: &'a App,
    pub(super) actor: &'a Actor,
}

/// A part of a kind; all of that kind, where it has no name.
fn part(whole: Object, kind: &str, name: &str) -> Object {
    let whole = whole.with(&Name::asked(kind));
    if name.is_empty() { whole } else { whole.with(&Name::asked(name)) }
}

fn thing(kind: &str, name: &str) -> Object {
    let all = named(kind);
    if name.is_empty() { all } else { all.with(&Name::asked(name)) }
}

fn slot(whole: Object, slot: Option<&v1::SlotName>) -> Object {
    let Some(slot) = slot else { return whole };
    part(whole, "slot", &slot.service).with(&Name::asked(&slot.slot))
}

/// An address that a person has given, and nothing else that was put in its place.
fn address(email: &str) -> Name {
    let is_address =
        email.split_once('@').is_some_and(|(local, at)| !local.is_empty() && !at.is_empty());
    Name::asked(if is_address { email } else { "" })
}

fn account(email: &str) -> Object {
    named("account").with(&address(email))
}

/// Somebody as they were called: whoever reads this is not told by an id that there is an account.
fn member(whole: Object, user: &str) -> Object {
    whole.with(&Name::asked("member")).with(&Name::asked(user))
}

fn one(about: &'static str, fact: Fact) -> Facts {
    Facts::none().with(Word::new(about), fact)
}

fn which(about: &'static str, name: &str) -> Facts {
    one(about, Fact::Name(Name::asked(name)))
}

fn number(about: &'static str, number: u64) -> Facts {
    one(about, Fact::Number(number))
}

/// Which role: `ORGANISATION_ROLE_OWNER` is `owner`.
fn role(name: &str) -> Facts {
    let name = name.rsplit('_').next().unwrap_or_default();
    which("role", &name.to_lowercase())
}

/// Which version, or how many: a list of them is no fact.
fn versions(versions: &[u64]) -> Facts {
    match versions {
        [version] => number("version", *version),
        many => number("versions", many.len() as u64),
    }
}

/// Which version, and by which grant if by one.
fn asked_release(asked: &v1::ReleaseSecretRequest) -> Facts {
    let version = number("version", asked.version);
    if asked.grant.is_empty() { version } else { version.and(which("grant", &asked.grant)) }
}

/// Which key, by its fingerprint in hexadecimal, if it is one.
fn key(fingerprint: Option<String>) -> Facts {
    fingerprint.map_or_else(Facts::none, |key| one(audit::FINGERPRINT, ssh::audited(&key)))
}

/// Which key is to be added, also if it is not.
fn added_key(line: &str) -> Facts {
    key(PublicKey::parse(line).ok().map(|key| key.fingerprint))
}

/// Which key of a host has got a certificate.
fn certified_key(certificate: &str) -> Facts {
    let certificate = installation::anchor(certificate.as_bytes()).ok();
    let member = certificate.and_then(|der| installation::member(&der).ok());
    key(member.map(|member| hex(&member.key_hash)))
}

impl On<'_> {
    fn environment(&self, name: Option<&v1::EnvironmentName>) -> Object {
        self.environment_called(name.map_or("", |name| name.value.as_str()))
    }

    fn environment_called(&self, text: &str) -> Object {
        let reference = text.parse::<EnvironmentReference>().ok();
        if let Some((organisation, id)) = reference.and_then(|named| self.app.locate(&named)) {
            return audit::environment(&id, &organisation);
        }
        match text.split_once('/') {
            Some((organisation, name)) => {
                part(self.organisation(organisation), "environment", name)
            }
            None => thing("environment", text),
        }
    }

    fn organisation(&self, text: &str) -> Object {
        let id = self.app.locate_organisation(text);
        id.map_or_else(|| thing("organisation", text), |id| audit::organisation(&id))
    }

    /// Of whoever has left out which organisation: all that are there.
    fn within(&self, organisation: &str) -> Object {
        if organisation.is_empty() {
            named("installation")
        } else {
            self.organisation(organisation)
        }
    }

    /// An invitation, by its secret, into an organisation, so that this is told there who it came to.
    fn invitation(&self, secret: &str) -> Object {
        match self.app.locate_invitation(secret) {
            Some((organisation, id)) => {
                part(audit::organisation(&organisation), "invitation", id.as_str())
            }
            None => named("invitation"),
        }
    }

    fn caller(&self) -> Object {
        match self.actor {
            Actor::Nobody => named("session"),
            Actor::User { id, .. } => thing("user", id.as_str()),
            Actor::Token { id, .. } => thing("token", id.as_str()),
            Actor::Host(id) => thing("host", id.as_str()),
            Actor::Component(_) => named("service"),
        }
    }
}

/// Calls, one a line: what is asked, the answer, the name, how it is recorded, on what; what it has made, and what else
/// of the question and of the answer is worth keeping.
macro_rules! calls {
    ($($request:ident => $answer:ty, $name:literal, $manner:ident,
        |$on:pat_param, $asked:pat_param| $object:expr $(, made |$made:ident| $id:expr)?
        $(, asks |$asks:ident| $question:expr)? $(, tells |$tells:ident| $facts:expr)?;)+) => {
        $(impl Asked for v1::$request {
            type Answer = $answer;
            const NAME: weft_audit::Word = weft_audit::Word::new($name);
            const MANNER: Manner = Manner::$manner;

            fn object(&self, $on: &On<'_>) -> Object {
                let $asked = self;
                $object
            }

            $(fn made($made: &Self::Answer) -> Option<&str> {
                $id
            })?

            $(fn asks(&self) -> Facts {
                let $asks = self;
                $question
            })?

            $(fn tells($tells: &Self::Answer) -> Facts {
                $facts
            })?
        })+

        /// How each call is recorded, by its name.
        pub const CALLS: &[(&str, Manner)] = &[$(($name, Manner::$manner)),+];
    };
}

calls! {
    // People.
    LoginRequest => v1::LoginResponse, "sessions.login", Admission,
        |_, asked| account(&asked.email), made |made| made.user.as_ref().map(|user| user.id.as_str());
    LogoutRequest => v1::LogoutResponse, "sessions.logout", Admission, |on, _| on.caller();
    WhoAmIRequest => v1::WhoAmIResponse, "sessions.who-am-i", Seen, |on, _| on.caller();
    AcceptInvitationRequest => v1::User, "sessions.accept-invitation", Admission,
        |on, asked| on.invitation(&asked.secret), made |made| Some(&made.id);
    JoinByInvitationRequest => v1::User, "sessions.join-by-invitation", Change,
        |on, asked| on.invitation(&asked.secret);
    CreateOrganisationRequest => v1::CreateOrganisationResponse,
        "organisations.create-organisation", Change, |_, asked| thing("organisation", &asked.name),
        made |made| made.organisation.as_ref().map(|made| made.id.as_str());
    GetOrganisationRequest => v1::Organisation, "organisations.get-organisation", Seen,
        |on, asked| on.organisation(&asked.organisation);
    ListOrganisationsRequest => v1::ListOrganisationsResponse,
        "organisations.list-organisations", Seen, |_, _| named("installation");

    RenameOrganisationRequest => v1::Organisation, "organisations.rename-organisation", Change,
        |on, asked| on.organisation(&asked.organisation), asks |asked| which("name", &asked.name);
    SetOrganisationQuotasRequest => v1::Organisation, "organisations.set-organisation-quotas", Change,
        |on, asked| on.organisation(&asked.organisation),
        asks |asked| number("environments-max", asked.environments_max.into());
    DeleteOrganisationRequest => v1::Organisation, "organisations.delete-organisation", Change,
        |on, asked| on.organisation(&asked.organisation);
    RestoreOrganisationRequest => v1::Organisation, "organisations.restore-organisation", Change,
        |on, asked| on.organisation(&asked.organisation);

    // Members.
    ListMembersRequest => v1::ListMembersResponse, "members.list-members", Seen,
        |on, asked| part(on.organisation(&asked.organisation), "member", "");
    InviteMemberRequest => v1::InviteMemberResponse, "members.invite-member", Change,
        |on, asked| part(on.organisation(&asked.organisation), "invitation", ""),
        made |made| made.invitation.as_ref().map(|made| made.id.as_str()),
        asks |asked| one("account", Fact::Name(address(&asked.email))).and(role(asked.role().as_str_name()));
    ListInvitationsRequest => v1::ListInvitationsResponse, "members.list-invitations", Seen,
        |on, asked| part(on.organisation(&asked.organisation), "invitation", "");
    RevokeInvitationRequest => v1::RevokeInvitationResponse, "members.revoke-invitation", Change,
        |on, asked| part(on.organisation(&asked.organisation), "invitation", &asked.id);
    SetMemberRoleRequest => v1::Member, "members.set-member-role", Change,
        |on, asked| member(on.organisation(&asked.organisation), &asked.user),
        asks |asked| role(asked.role().as_str_name());
    RemoveMemberRequest => v1::RemoveMemberResponse, "members.remove-member", Change,
        |on, asked| member(on.organisation(&asked.organisation), &asked.user);
    ListEnvironmentMembersRequest => v1::ListEnvironmentMembersResponse,
        "members.list-environment-members", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "member", "");
    SetEnvironmentRoleRequest => v1::EnvironmentMember, "members.set-environment-role", Change,
        |on, asked| member(on.environment(asked.environment.as_ref()), &asked.user),
        asks |asked| role(asked.role().as_str_name());
    RemoveEnvironmentRoleRequest => v1::RemoveEnvironmentRoleResponse,
        "members.remove-environment-role", Change,
        |on, asked| member(on.environment(asked.environment.as_ref()), &asked.user);

    // One's own account, and others' by operators.
    ChangePasswordRequest => v1::ChangePasswordResponse, "account.change-password", Change,
        |on, _| part(on.caller(), "password", "");
    ListSessionsRequest => v1::ListSessionsResponse, "account.list-sessions", Seen,
        |on, _| part(on.caller(), "session", "");
    EndSessionRequest => v1::EndSessionResponse, "account.end-session", Change,
        |on, asked| part(on.caller(), "session", &asked.id);
    EnrolSecondFactorRequest => v1::EnrolSecondFactorResponse, "account.enrol-second-factor", Change,
        |on, _| part(on.caller(), "second-factor", "");
    ConfirmSecondFactorRequest => v1::ConfirmSecondFactorResponse, "account.confirm-second-factor",
        Change, |on, _| part(on.caller(), "second-factor", "");
    DisableSecondFactorRequest => v1::DisableSecondFactorResponse, "account.disable-second-factor",
        Change, |on, _| part(on.caller(), "second-factor", "");
    ListUsersRequest => v1::ListUsersResponse, "users.list-users", Sensitive, |_, _| named("user");
    SuspendUserRequest => v1::UserAccount, "users.suspend-user", Change,
        |_, asked| thing("user", &asked.user);
    ResumeUserRequest => v1::UserAccount, "users.resume-user", Change,
        |_, asked| thing("user", &asked.user);
    UnlockUserRequest => v1::UserAccount, "users.unlock-user", Change,
        |_, asked| thing("user", &asked.user);
    RemoveUserRequest => v1::RemoveUserResponse, "users.remove-user", Change,
        |_, asked| thing("user", &asked.user);
    ResetSecondFactorRequest => v1::UserAccount, "users.reset-second-factor", Change,
        |_, asked| part(thing("user", &asked.user), "second-factor", "");

    // Tokens of machines.
    CreateTokenRequest => v1::CreateTokenResponse, "tokens.create-token", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "token", ""),
        made |made| made.token.as_ref().map(|made| made.id.as_str()),
        asks |asked| role(asked.role().as_str_name()).and(number("seconds", asked.seconds.into()));
    ListTokensRequest => v1::ListTokensResponse, "tokens.list-tokens", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "token", "");
    RevokeTokenRequest => v1::RevokeTokenResponse, "tokens.revoke-token", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "token", &asked.id);

    // SSH keys, and who shows one or a token.
    ChallengeSshKeyRequest => v1::ChallengeSshKeyResponse, "ssh-keys.challenge-ssh-key", Plain,
        |on, _| part(on.caller(), "ssh-key", ""), asks |asked| added_key(&asked.key);
    AddSshKeyRequest => v1::SshKey, "ssh-keys.add-ssh-key", Change,
        |on, _| part(on.caller(), "ssh-key", ""), made |made| Some(&made.id),
        asks |asked| added_key(&asked.key);
    ListSshKeysRequest => v1::ListSshKeysResponse, "ssh-keys.list-ssh-keys", Seen,
        |on, _| part(on.caller(), "ssh-key", "");
    RemoveSshKeyRequest => v1::RemoveSshKeyResponse, "ssh-keys.remove-ssh-key", Change,
        |on, asked| part(on.caller(), "ssh-key", &asked.id),
        tells |removed| key(ssh::read_fingerprint(&removed.fingerprint));
    ResolveSshKeyRequest => v1::WhoAmIResponse, "authentication.resolve-ssh-key", Plain,
        |_, _| named("ssh-key");
    ResolveTokenRequest => v1::WhoAmIResponse, "authentication.resolve-token", Plain,
        |_, _| named("token");

    // Hosts, by operators.
    CreateJoinTokenRequest => v1::CreateJoinTokenResponse, "hosts.create-join-token", Change,
        |_, asked| part(named("join-token"), "host", &asked.host), made |made| Some(&made.id);
    ListJoinTokensRequest => v1::ListJoinTokensResponse, "hosts.list-join-tokens", Sensitive,
        |_, _| named("join-token");
    RevokeJoinTokenRequest => v1::RevokeJoinTokenResponse, "hosts.revoke-join-token", Change,
        |_, asked| thing("join-token", &asked.id);
    GetHostRequest => v1::Host, "hosts.get-host", Seen, |_, asked| thing("host", &asked.id);
    GetHostReportRequest => v1::GetHostReportResponse, "hosts.get-host-report", Plain,
        |_, asked| thing("host", &asked.id);
    ListHostsRequest => v1::ListHostsResponse, "hosts.list-hosts", Seen, |_, _| named("host");
    UpdateHostRequest => v1::Host, "hosts.update-host", Change, |_, asked| thing("host", &asked.id);
    SetHostStateRequest => v1::Host, "hosts.set-host-state", Change,
        |_, asked| thing("host", &asked.id);

    // Hosts, about themselves.
    EnrolRequest => v1::EnrolResponse, "enrolment.enrol", Admission,
        |_, asked| thing("host", &asked.host), made |made| Some(&made.host),
        tells |enrolled| certified_key(&enrolled.certificate);
    RenewHostCertificateRequest => v1::RenewHostCertificateResponse,
        "host-agent.renew-host-certificate", Change, |on, _| on.caller(),
        tells |renewed| certified_key(&renewed.certificate);
    WatchRequest => WatchStream, "host-agent.watch", Change, |on, _| on.caller();
    IssueLeafRequest => v1::IssueLeafResponse, "host-agent.issue-leaf", Change,
        |on, asked| on.environment_called(&asked.environment);
    AttachRequest => v1::Attachment, "host-agent.attach", Change,
        |on, asked| part(on.environment_called(&asked.environment), "attachment", &asked.name);
    ReleaseRequest => v1::ReleaseResponse, "host-agent.release", Change,
        |on, asked| part(on.environment_called(&asked.environment), "attachment", &asked.name);
    ReportRequest => v1::ReportResponse, "host-agent.report", Seen, |on, _| on.caller();

    // Environments.
    CreateEnvironmentRequest => v1::Environment, "environments.create-environment", Change,
        |on, asked| part(on.organisation(&asked.organisation), "environment", &asked.name),
        made |made| Some(&made.id);
    GetEnvironmentRequest => v1::Environment, "environments.get-environment", Seen,
        |on, asked| on.environment(asked.environment.as_ref());
    ListEnvironmentsRequest => v1::ListEnvironmentsResponse, "environments.list-environments", Seen,
        |on, asked| on.within(&asked.organisation);
    SuspendEnvironmentRequest => v1::Environment, "environments.suspend-environment", Change,
        |on, asked| on.environment(asked.environment.as_ref());
    ResumeEnvironmentRequest => v1::Environment, "environments.resume-environment", Change,
        |on, asked| on.environment(asked.environment.as_ref());
    DeleteEnvironmentRequest => v1::Environment, "environments.delete-environment", Change,
        |on, asked| on.environment(asked.environment.as_ref());
    UpdateEnvironmentRequest => v1::Environment, "environments.update-environment", Change,
        |on, asked| on.environment(asked.environment.as_ref()), asks |asked| settings::facts(asked);
    SetQuotasRequest => v1::Environment, "environments.set-quotas", Change,
        |on, asked| on.environment(asked.environment.as_ref());
    RotateAuthorityRequest => v1::Environment, "environments.rotate-authority", Change,
        |on, asked| on.environment(asked.environment.as_ref()),
        asks |asked| number("generation", asked.generation.into())
            .and(one("emergency", Fact::Is(asked.emergency)));
    AllowHostRequest => v1::AllowHostResponse, "environments.allow-host", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "host", &asked.host);
    DenyHostRequest => v1::DenyHostResponse, "environments.deny-host", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "host", &asked.host);
    ListAllowedHostsRequest => v1::ListAllowedHostsResponse, "environments.list-allowed-hosts", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "host", "");

    // Attachments, slots, grants.
    CreateAttachmentRequest => v1::Attachment, "attachments.create-attachment", Change,
        |on, asked| {
            let environment = on.environment(asked.environment.as_ref());
            part(part(environment, "attachment", &asked.name), "host", &asked.host)
        };
    GetAttachmentRequest => v1::Attachment, "attachments.get-attachment", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "attachment", &asked.name);
    ListAttachmentsRequest => v1::ListAttachmentsResponse, "attachments.list-attachments", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "attachment", "");
    MoveAttachmentRequest => v1::Attachment, "attachments.move-attachment", Change,
        |on, asked| {
            let environment = on.environment(asked.environment.as_ref());
            part(part(environment, "attachment", &asked.name), "host", &asked.host)
        };
    ReleaseAttachmentRequest => v1::ReleaseAttachmentResponse, "attachments.release-attachment", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "attachment", &asked.name);
    ReserveSlotRequest => v1::Slot, "attachments.reserve-slot", Change,
        |on, asked| slot(on.environment(asked.environment.as_ref()), asked.slot.as_ref());
    UnreserveSlotRequest => v1::UnreserveSlotResponse, "attachments.unreserve-slot", Change,
        |on, asked| slot(on.environment(asked.environment.as_ref()), asked.slot.as_ref());
    ListSlotsRequest => v1::ListSlotsResponse, "attachments.list-slots", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "slot", "");
    CreateGrantRequest => v1::Grant, "attachments.create-grant", Change,
        |on, asked| slot(on.environment(asked.environment.as_ref()), asked.slot.as_ref()),
        made |made| Some(&made.id),
        asks |asked| which("host", &asked.host).and(number("secrets", asked.secrets.len() as u64));
    RevokeGrantRequest => v1::RevokeGrantResponse, "attachments.revoke-grant", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "grant", &asked.id);

    // The audit.
    ListAuditRecordsRequest => v1::ListAuditRecordsResponse, "audit.list-audit-records", Sensitive,
        |on, asked| match &asked.environment {
            Some(_) => part(on.environment(asked.environment.as_ref()), "audit", ""),
            None => part(on.within(&asked.organisation), "audit", ""),
        };
    VerifyAuditRequest => v1::VerifyAuditResponse, "audit.verify-audit", Sensitive,
        |_, _| named("audit");

    // Policies.
    GetPolicyRequest => v1::Policy, "policies.get-policy", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "policy", "");
    SetPolicyRequest => v1::Policy, "policies.set-policy", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "policy", "");

    // Services and roles.
    PutServiceRequest => v1::Service, "services.put-service", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "service", &asked.name);
    GetServiceRequest => v1::Service, "services.get-service", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "service", &asked.name);
    ListServicesRequest => v1::ListServicesResponse, "services.list-services", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "service", "");
    DeleteServiceRequest => v1::DeleteServiceResponse, "services.delete-service", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "service", &asked.name);
    WatchServicesRequest => ServicesStream, "services.watch-services", Seen,
        |on, asked| part(on.environment(asked.environment.as_ref()), "service", "");
    SetDrainedRequest => v1::SetDrainedResponse, "services.set-drained", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "attachment", &asked.attachment),
        asks |asked| one("drained", Fact::Is(asked.drained));
    AcquireRoleRequest => v1::Role, "services.acquire-role", Change,
        |on, asked| part(part(on.environment(asked.environment.as_ref()), "service", &asked.service), "role", &asked.role),
        asks |asked| which("holder", &asked.holder), tells |role| number("epoch", role.epoch);
    TransferRoleRequest => v1::Role, "services.transfer-role", Change,
        |on, asked| part(part(on.environment(asked.environment.as_ref()), "service", &asked.service), "role", &asked.role),
        asks |asked| which("holder", &asked.holder), tells |role| number("epoch", role.epoch);
    ReleaseRoleRequest => v1::ReleaseRoleResponse, "services.release-role", Change,
        |on, asked| part(part(on.environment(asked.environment.as_ref()), "service", &asked.service), "role", &asked.role),
        asks |asked| number("epoch", asked.epoch);

    // Secrets.
    PutSecretRequest => v1::Secret, "secrets.put-secret", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "secret", &asked.name),
        tells |secret| number("version", secret.version);
    ListSecretsRequest => v1::ListSecretsResponse, "secrets.list-secrets", Plain,
        |on, asked| part(on.environment(asked.environment.as_ref()), "secret", "");
    GetSecretMetadataRequest => v1::Secret, "secrets.get-secret-metadata", Plain,
        |on, asked| part(on.environment(asked.environment.as_ref()), "secret", &asked.name);
    ReleaseSecretRequest => v1::ReleaseSecretResponse, "secrets.release-secret", Sensitive,
        |on, asked| part(on.environment(asked.environment.as_ref()), "secret", &asked.name),
        asks |asked| asked_release(asked), tells |released| number("version", released.version);
    DestroySecretVersionsRequest => v1::Secret, "secrets.destroy-secret-versions", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "secret", &asked.name),
        asks |asked| versions(&asked.versions);
    DeleteSecretRequest => v1::DeleteSecretResponse, "secrets.delete-secret", Change,
        |on, asked| part(on.environment(asked.environment.as_ref()), "secret", &asked.name);
}
