//! Who is in an organisation, and as what.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status, transport::Channel};
use weft_control::{AppError, Clock};
use weft_control_api::v1::{
    self, OrganisationRole as Role, members_client::MembersClient,
    organisations_client::OrganisationsClient, sessions_client::SessionsClient,
};
use weft_model::access::EnvironmentRole;

use crate::site::{PASSWORD, Site, code, deletion, name, said, with};

const OWNER: &str = "owner@acme.example";
const ADMIN: &str = "admin@acme.example";
const MEMBER: &str = "member@acme.example";

/// An organisation with an owner, an admin and a member.
struct Team {
    site: Site,
    members: MembersClient<Channel>,
    owner: String,
    admin: String,
    member: String,
}

impl Team {
    async fn new() -> Self {
        Self::at(Clock::default()).await
    }

    async fn at(clock: Clock) -> Self {
        let site = Site::start_at(clock).await;
        let owner = site.organisation("acme").await;
        let admin = site.member(&owner, "acme", ADMIN, Role::Admin).await;
        let member = site.member(&admin, "acme", MEMBER, Role::Member).await;
        let members = MembersClient::new(site.connect(None).await);
        Self { site, members, owner, admin, member }
    }

    async fn set(&self, by: &str, user: &str, role: Role) -> Result<v1::Member, Status> {
        let (organisation, user, role) = ("acme".to_owned(), user.to_owned(), role.into());
        let set = v1::SetMemberRoleRequest { organisation, user, role };
        Ok(self.members.clone().set_member_role(with(set, by)).await?.into_inner())
    }

    async fn remove(&self, by: &str, user: &str) -> Result<(), Status> {
        let (organisation, user) = ("acme".to_owned(), user.to_owned());
        let remove = v1::RemoveMemberRequest { organisation, user };
        self.members.clone().remove_member(with(remove, by)).await.map(drop)
    }

    async fn list(&self, by: &str) -> Result<Vec<v1::Member>, Status> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page = Some(v1::PageRequest { size: 1, after });
            let list = v1::ListMembersRequest { organisation: "acme".to_owned(), page };
            let part = self.members.clone().list_members(with(list, by)).await?.into_inner();
            assert!(part.members.len() <= 1);
            all.extend(part.members);
            after = part.page.unwrap().next;
            if after.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn invitations(&self) -> Vec<v1::Invitation> {
        let list = v1::ListInvitationsRequest { organisation: "acme".to_owned(), page: None };
        let listed = self.members.clone().list_invitations(with(list, &self.owner)).await;
        listed.unwrap().into_inner().invitations
    }

    async fn invite(&self, by: &str, email: &str, role: Role) -> Result<String, Status> {
        self.site.invite(by, "acme", email, role).await
    }

    async fn join(&self, token: &str, secret: &str) -> Result<v1::User, Status> {
        let mut sessions = SessionsClient::new(self.site.connect(None).await);
        let join = v1::JoinByInvitationRequest { secret: secret.to_owned() };
        Ok(sessions.join_by_invitation(with(join, token)).await?.into_inner())
    }
}

fn not_yours() -> (Code, String) {
    (Code::PermissionDenied, "this is not yours to do".to_owned())
}

fn no_invitation() -> (Code, String) {
    (Code::NotFound, "no such invitation".to_owned())
}

#[tokio::test]
async fn owners_and_admins_see_who_is_in_it_and_with_which_role() {
    let team = Team::new().await;
    let mut listed: Vec<_> = team
        .list(&team.admin)
        .await
        .unwrap()
        .into_iter()
        .map(|member| (member.role(), member.email))
        .collect();
    listed.sort();
    let expected = [(Role::Member, MEMBER), (Role::Admin, ADMIN), (Role::Owner, OWNER)];
    assert_eq!(listed, expected.map(|(role, email)| (role, email.to_owned())));
    assert_eq!(said(team.list(&team.member).await), not_yours());
    // Operators know that there is an organisation, and not who is in it.
    assert_eq!(said(team.list(&team.site.operator).await), not_yours());
}

#[tokio::test]
async fn only_owners_make_owners_and_change_them() {
    let team = Team::new().await;
    assert_eq!(said(team.set(&team.admin, MEMBER, Role::Owner).await), not_yours());
    assert_eq!(said(team.set(&team.admin, OWNER, Role::Member).await), not_yours());
    assert_eq!(said(team.remove(&team.admin, OWNER).await), not_yours());
    assert_eq!(said(team.invite(&team.admin, "x@acme.example", Role::Owner).await), not_yours());
    assert_eq!(said(team.invite(&team.member, "x@acme.example", Role::Member).await), not_yours());
    assert_eq!(said(team.set(&team.member, MEMBER, Role::Admin).await), not_yours());
    assert_eq!(said(team.remove(&team.member, ADMIN).await), not_yours());

    assert_eq!(team.set(&team.admin, MEMBER, Role::Admin).await.unwrap().role(), Role::Admin);
    assert_eq!(team.set(&team.owner, MEMBER, Role::Owner).await.unwrap().role(), Role::Owner);
    let refused = said(team.set(&team.owner, MEMBER, Role::Unspecified).await);
    let why = "role: is missing; expected member, admin or owner".to_owned();
    assert_eq!(refused, (Code::InvalidArgument, why));
    // An admin takes back no invitation that it may not make.
    team.invite(&team.owner, "x@acme.example", Role::Owner).await.unwrap();
    let id = team.invitations().await[0].id.clone();
    let revoke = v1::RevokeInvitationRequest { organisation: "acme".to_owned(), id };
    let revoked = team.members.clone().revoke_invitation(with(revoke, &team.admin)).await;
    assert_eq!(said(revoked), not_yours());
}

#[tokio::test]
async fn an_organisation_always_has_an_owner() {
    let team = Team::new().await;
    let last = "this is the last owner; make another one first".to_owned();
    let last = (Code::FailedPrecondition, last);
    assert_eq!(said(team.set(&team.owner, OWNER, Role::Admin).await), last);
    assert_eq!(said(team.remove(&team.owner, OWNER).await), last);
    team.set(&team.owner, ADMIN, Role::Owner).await.unwrap();
    team.remove(&team.owner, OWNER).await.unwrap();
    assert_eq!(said(team.remove(&team.admin, ADMIN).await), last);
}

#[tokio::test]
async fn owners_that_all_leave_at_once_leave_one_behind() {
    let team = Team::new().await;
    let mut leaving = vec![(OWNER.to_owned(), team.owner.clone())];
    for n in 0..5 {
        let email = format!("o{n}@acme.example");
        let token = team.site.member(&team.owner, "acme", &email, Role::Owner).await;
        leaving.push((email, token));
    }
    // In two processes, each with its own copy of the store.
    let another = team.site.another_process().await;
    let mut tasks = Vec::new();
    for (n, (email, token)) in leaving.into_iter().enumerate() {
        let app = Arc::clone(if n % 2 == 0 { &team.site.app } else { &another });
        let caller = team.site.caller(app.actor_of(&token).await.unwrap());
        tasks.push(tokio::spawn(async move {
            match n % 3 {
                0 => app
                    .set_member_role(
                        &caller,
                        "acme",
                        &email,
                        weft_model::access::OrganisationRole::Member,
                    )
                    .await
                    .map(drop),
                _ => app.remove_member(&caller, "acme", &email).await,
            }
        }));
    }
    let mut stayed = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(AppError::State(why)) => {
                assert_eq!(why, "this is the last owner; make another one first");
                stayed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(stayed, 1);
    let listed = team.list(&team.admin).await.unwrap();
    assert_eq!(listed.iter().filter(|member| member.role() == Role::Owner).count(), 1);
}

#[tokio::test]
async fn who_is_removed_has_no_role_from_the_next_call_on_nor_when_they_come_back() {
    let team = Team::new().await;
    let made = team.site.environment(&team.owner, "acme", "shop").await;
    let (shop, acme) = (made.id, made.organisation.parse().unwrap());
    let role = v1::EnvironmentRole::Deployer;
    let given = team.site.give(&team.admin, &shop, MEMBER, role).await.unwrap();
    assert_eq!((given.role(), given.by_organisation), (role, false));
    let may = team.site.who(&team.member).await.unwrap();
    assert_eq!((may.organisations.len(), may.environments.len()), (1, 1));
    let another = team.site.another_process().await;
    team.remove(&team.admin, MEMBER).await.unwrap();
    let may = team.site.who(&team.member).await.unwrap();
    assert_eq!((may.organisations.len(), may.environments.len()), (0, 0));
    let actor = another.actor_of(&team.member).await.unwrap();
    assert_eq!(actor.role_in(&shop.parse().unwrap(), &acme), None, "in every process");
    let absent = (Code::NotFound, "no such member".to_owned());
    assert_eq!(said(team.remove(&team.admin, MEMBER).await), absent);
    let secret = team.invite(&team.admin, MEMBER, Role::Member).await.unwrap();
    team.join(&team.member, &secret).await.unwrap();
    let may = team.site.who(&team.member).await.unwrap();
    assert_eq!((may.organisations.len(), may.environments.len()), (1, 0));
    // Everybody may leave.
    team.remove(&team.member, MEMBER).await.unwrap();
}

#[tokio::test]
async fn an_invitation_that_somebody_has_left_gives_nothing_back() {
    let team = Team::new().await;
    // The second takes the place of the first.
    let first = team.invite(&team.owner, MEMBER, Role::Admin).await.unwrap();
    let second = team.invite(&team.owner, MEMBER, Role::Admin).await.unwrap();
    assert_eq!(said(team.join(&team.member, &first).await), no_invitation());
    assert_eq!(team.invitations().await.len(), 1);
    team.join(&team.member, &second).await.unwrap();
    // One that is there when they are demoted, or removed, goes with that.
    let spare = team.invite(&team.owner, MEMBER, Role::Admin).await.unwrap();
    team.set(&team.owner, MEMBER, Role::Member).await.unwrap();
    assert_eq!(said(team.join(&team.member, &spare).await), no_invitation());
    let spare = team.invite(&team.owner, MEMBER, Role::Admin).await.unwrap();
    team.remove(&team.owner, MEMBER).await.unwrap();
    assert_eq!(said(team.join(&team.member, &spare).await), no_invitation());
    assert!(team.invitations().await.is_empty());
    // An admin takes the place of no owner's invitation.
    team.invite(&team.owner, "x@acme.example", Role::Owner).await.unwrap();
    assert_eq!(said(team.invite(&team.admin, "X@acme.example", Role::Member).await), not_yours());
}

#[tokio::test]
async fn a_role_in_an_environment_is_its_admins_to_give_to_people_of_the_organisation() {
    let team = Team::new().await;
    let shop = team.site.environment(&team.owner, "acme", "shop").await.id;
    let other = team.site.environment(&team.owner, "acme", "other").await.id;
    let viewer = v1::EnvironmentRole::Viewer;
    let hidden = (Code::NotFound, "no such environment".to_owned());
    assert_eq!(said(team.site.give(&team.member, &shop, MEMBER, viewer).await), hidden);
    team.site.give(&team.owner, &shop, MEMBER, viewer).await.unwrap();
    assert_eq!(said(team.site.give(&team.member, &shop, MEMBER, viewer).await), not_yours());
    team.site.give(&team.owner, &shop, MEMBER, v1::EnvironmentRole::Admin).await.unwrap();
    // An admin of one environment is nothing in another.
    let made = team.site.give(&team.member, &shop, MEMBER, v1::EnvironmentRole::Admin).await;
    assert!(made.is_ok());
    assert_eq!(said(team.site.give(&team.member, &other, MEMBER, viewer).await), hidden);
    // Who is in no organisation, in another one, or nobody at all: all the same.
    team.site.organisation("globex").await;
    let absent = (Code::NotFound, "no such member".to_owned());
    for user in ["owner@globex.example", "operator@weft.example", "nobody@acme.example"] {
        assert_eq!(said(team.site.give(&team.owner, &shop, user, viewer).await), absent, "{user}");
        assert_eq!(said(team.set(&team.owner, user, Role::Admin).await), absent, "{user}");
        assert_eq!(said(team.remove(&team.owner, user).await), absent, "{user}");
    }
    let refused = said(team.site.give(&team.owner, &shop, "somebody", viewer).await);
    let why = "user: expected an id (usr-…) or an e-mail address".to_owned();
    assert_eq!(refused, (Code::InvalidArgument, why));

    let list = v1::ListEnvironmentMembersRequest { environment: name(&shop), page: None };
    let list = team.members.clone().list_environment_members(with(list, &team.member)).await;
    let mut roles: Vec<_> = list
        .unwrap()
        .into_inner()
        .members
        .into_iter()
        .map(|member| (member.email.clone(), member.role(), member.by_organisation))
        .collect();
    roles.sort();
    let admin = v1::EnvironmentRole::Admin;
    let expected = [(ADMIN, true), (MEMBER, false), (OWNER, true)];
    assert_eq!(roles, expected.map(|(email, by)| (email.to_owned(), admin, by)));
    let user = MEMBER.to_owned();
    let remove = v1::RemoveEnvironmentRoleRequest { environment: name(&shop), user };
    team.members.clone().remove_environment_role(with(remove, &team.owner)).await.unwrap();
    assert!(team.site.who(&team.member).await.unwrap().environments.is_empty());
    // A machine gives nobody anything.
    let machine = team.site.machine(&shop, EnvironmentRole::Admin);
    let reference = shop.parse().unwrap();
    let given =
        team.site.app.set_environment_role(&machine, &reference, MEMBER, EnvironmentRole::Admin);
    assert!(matches!(given.await, Err(AppError::Refused)));
}

#[tokio::test]
async fn who_is_known_accepts_in_a_session_and_who_invites_does_not_learn_that_they_are() {
    let team = Team::new().await;
    let globex = team.site.organisation("globex").await;
    let (known, unknown) = ("owner@globex.example", "somebody@globex.example");
    let invited = team.invite(&team.admin, known, Role::Member).await.unwrap();
    let other = team.invite(&team.admin, unknown, Role::Member).await.unwrap();
    assert_eq!(invited.len(), other.len());
    let mut listed = team.invitations().await;
    listed.sort_by(|one, other| one.email.cmp(&other.email));
    let shown = |invitation: &v1::Invitation| v1::Invitation {
        id: String::new(),
        email: String::new(),
        created_ms: 0,
        expires_ms: 0,
        ..invitation.clone()
    };
    assert_eq!(shown(&listed[0]), shown(&listed[1]));

    // Of a known address, an account is not made, and the answer is that of one that is not there.
    let mut sessions = SessionsClient::new(team.site.connect(None).await);
    let accept = |secret: &str| v1::AcceptInvitationRequest {
        secret: secret.to_owned(),
        name: "Second".to_owned(),
        password: PASSWORD.to_owned(),
    };
    assert_eq!(said(sessions.accept_invitation(accept(&invited)).await), no_invitation());
    assert_eq!(
        said(sessions.accept_invitation(accept("weft_invitation_0")).await),
        no_invitation()
    );
    // It is for nobody else.
    assert_eq!(said(team.join(&team.member, &invited).await), no_invitation());
    team.join(&globex, &invited).await.unwrap();
    assert_eq!(team.site.who(&globex).await.unwrap().organisations.len(), 2);
    assert_eq!(said(team.join(&globex, &invited).await), no_invitation(), "once");
    assert_eq!(code(team.join("weft_session_0", &other).await), Code::Unauthenticated);
}

#[tokio::test]
async fn an_invitation_ends_with_its_time_when_it_is_taken_back_and_with_who_made_it() {
    let clock = Clock::manual(Clock::default().now());
    let team = Team::at(clock.clone()).await;
    let mut sessions = SessionsClient::new(team.site.connect(None).await);
    let mut accept = async |secret: &str| {
        let (name, password) = ("X".to_owned(), PASSWORD.to_owned());
        let accept = v1::AcceptInvitationRequest { secret: secret.to_owned(), name, password };
        sessions.accept_invitation(accept).await
    };
    let secret = team.invite(&team.admin, "x@acme.example", Role::Member).await.unwrap();
    let id = team.invitations().await[0].id.clone();
    for _ in 0..2 {
        let revoke =
            v1::RevokeInvitationRequest { organisation: "acme".to_owned(), id: id.clone() };
        team.members.clone().revoke_invitation(with(revoke, &team.owner)).await.unwrap();
    }
    assert_eq!(said(accept(&secret).await), no_invitation());

    // Whoever made it may not invite any more.
    let secret = team.invite(&team.admin, "x@acme.example", Role::Member).await.unwrap();
    team.set(&team.owner, ADMIN, Role::Member).await.unwrap();
    assert_eq!(said(accept(&secret).await), no_invitation());
    team.set(&team.owner, ADMIN, Role::Admin).await.unwrap();
    accept(&secret).await.unwrap();

    let secret = team.invite(&team.admin, "y@acme.example", Role::Member).await.unwrap();
    clock.advance(Duration::from_secs(7 * 24 * 3_600));
    assert_eq!(said(accept(&secret).await), no_invitation());
    team.site.tidy().await;
    let owner = team.site.login(OWNER, PASSWORD).await.unwrap();
    let team = Team { owner, ..team };
    assert!(team.invitations().await.is_empty());
    // They are not counted any more: there is room for a hundred.
    for n in 0..100 {
        let email = format!("m{n}@acme.example");
        team.invite(&team.owner, &email, Role::Member).await.unwrap();
    }
    let refused = said(team.invite(&team.owner, "z@acme.example", Role::Member).await);
    assert_eq!(refused.0, Code::ResourceExhausted);
}

#[tokio::test]
async fn operators_invite_the_first_owner_and_nobody_else() {
    let site = Site::start().await;
    let mut organisations = OrganisationsClient::new(site.connect(None).await);
    let make = v1::CreateOrganisationRequest {
        name: "acme".to_owned(),
        owner_email: "typo@acme.example".to_owned(),
    };
    let made = organisations.create_organisation(with(make, &site.operator)).await.unwrap();
    let first = made.into_inner().invitation;
    let refused = site.invite(&site.operator, "acme", OWNER, Role::Member).await;
    assert_eq!(said(refused), not_yours());
    let again = site.invite(&site.operator, "acme", OWNER, Role::Owner).await.unwrap();
    let owner = site.accept(&again, OWNER).await;
    assert_eq!(site.who(&owner).await.unwrap().organisations.len(), 1);
    // From now on it is its owners' business: what was sent to the wrong address is worth nothing.
    let mut sessions = SessionsClient::new(site.connect(None).await);
    let (name, password) = ("X".to_owned(), PASSWORD.to_owned());
    let accept = v1::AcceptInvitationRequest { secret: first, name, password };
    assert_eq!(said(sessions.accept_invitation(accept).await), no_invitation());
    let refused = site.invite(&site.operator, "acme", "x@acme.example", Role::Owner).await;
    assert_eq!(said(refused), not_yours());
}

#[tokio::test]
async fn with_an_environment_roles_in_it_go() {
    let clock = Clock::manual(Clock::default().now());
    let team = Team::at(clock.clone()).await;
    let shop = team.site.environment(&team.owner, "acme", "shop").await.id;
    team.site.give(&team.owner, &shop, MEMBER, v1::EnvironmentRole::Viewer).await.unwrap();
    let mut environments =
        v1::environments_client::EnvironmentsClient::new(team.site.connect(None).await);
    environments.delete_environment(with(deletion(&shop, 60), &team.owner)).await.unwrap();
    let refused =
        said(team.site.give(&team.owner, &shop, MEMBER, v1::EnvironmentRole::Admin).await);
    let going = "the environment is being deleted".to_owned();
    assert_eq!(refused, (Code::FailedPrecondition, going));
    clock.advance(Duration::from_secs(61));
    for _ in 0..2 {
        team.site.tidy().await;
    }
    assert!(team.site.who(&team.member).await.unwrap().environments.is_empty());
}

#[tokio::test]
async fn an_organisation_reads_who_came_into_it() {
    let team = Team::new().await;
    let mut audit = v1::audit_client::AuditClient::new(team.site.connect(None).await);
    let read = v1::ListAuditRecordsRequest {
        organisation: "acme".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        ..Default::default()
    };
    let read = audit.list_audit_records(with(read, &team.owner)).await.unwrap().into_inner();
    let of = |action: &str| {
        let of = read.records.iter().filter(|record| record.action == action);
        of.cloned().collect::<Vec<_>>()
    };
    let came = of("sessions.accept-invitation");
    assert_eq!(came.len(), 3, "{came:?}");
    assert!(came.iter().all(|record| record.object.contains("/invitation/tok-")));
    let invited = of("members.invite-member");
    let facts = &invited[0].facts;
    assert!(facts["account"].ends_with("@acme.example") && facts.contains_key("role"), "{facts:?}");
    assert!(invited[0].made.starts_with("tok-"));
}
