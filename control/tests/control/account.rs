//! Passwords, sessions and second factors of people, and what operators do with accounts.

use std::{collections::BTreeSet, time::Duration};

use data_encoding::BASE32_NOPAD;
use tonic::{Code, Status, transport::Channel};
use weft_control::{Clock, totp};
use weft_control_api::v1::{
    self, EnvironmentRole, OrganisationRole, account_client::AccountClient,
    sessions_client::SessionsClient, tokens_client::TokensClient, users_client::UsersClient,
};
use weft_model::{Record, UserId, access::Component, record::SecondFactor};

use crate::site::{PASSWORD, Site, code, name, said, with};

pub(crate) const OWNER: &str = "owner@acme.example";
const OTHER: &str = "another battery horse staple";

/// A person with a session, and what they do with their account.
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    pub(crate) site: Site,
    account: AccountClient<Channel>,
    pub(crate) owner: String,
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let owner = site.organisation("acme").await;
        let account = AccountClient::new(site.connect(None).await);
        Self { clock, site, account, owner }
    }

    pub(crate) async fn login(&self, password: &str, code: &str) -> Result<String, Status> {
        let mut sessions = SessionsClient::new(self.site.connect(None).await);
        let login = v1::LoginRequest {
            email: OWNER.to_owned(),
            password: password.to_owned(),
            code: code.to_owned(),
        };
        Ok(sessions.login(login).await?.into_inner().token)
    }

    async fn enrol(&self, password: &str) -> Result<v1::EnrolSecondFactorResponse, Status> {
        let enrol = v1::EnrolSecondFactorRequest { password: password.to_owned() };
        let made = self.account.clone().enrol_second_factor(with(enrol, &self.owner)).await?;
        Ok(made.into_inner())
    }

    async fn confirm(&self, code: &str) -> Result<Vec<String>, Status> {
        let confirm = v1::ConfirmSecondFactorRequest { code: code.to_owned() };
        let done = self.account.clone().confirm_second_factor(with(confirm, &self.owner)).await?;
        Ok(done.into_inner().recovery_codes)
    }

    async fn disable(&self, password: &str, code: &str) -> Result<(), Status> {
        let (password, code) = (password.to_owned(), code.to_owned());
        let disable = v1::DisableSecondFactorRequest { password, code };
        self.account.clone().disable_second_factor(with(disable, &self.owner)).await.map(drop)
    }

    /// The code of a step from now.
    pub(crate) fn code(&self, seed: &str, steps: i64) -> String {
        let seed = BASE32_NOPAD.decode(seed.as_bytes()).unwrap();
        totp::code_at(&seed, (self.clock.now().0 / 30_000).saturating_add_signed(steps))
    }

    /// A second factor that counts, with its recovery codes; the present step's code is used.
    pub(crate) async fn confirmed(&self) -> (String, Vec<String>) {
        let seed = self.enrol(PASSWORD).await.unwrap().seed;
        let recovery = self.confirm(&self.code(&seed, 0)).await.unwrap();
        (seed, recovery)
    }

    async fn change(&self, by: &str, password: &str, new: &str) -> Result<(), Status> {
        let change = v1::ChangePasswordRequest {
            password: password.to_owned(),
            code: String::new(),
            new_password: new.to_owned(),
        };
        self.account.clone().change_password(with(change, by)).await.map(drop)
    }

    async fn sessions(&self, by: &str) -> Result<Vec<v1::Session>, Status> {
        let list = with(v1::ListSessionsRequest {}, by);
        Ok(self.account.clone().list_sessions(list).await?.into_inner().sessions)
    }

    async fn users(&self) -> UsersClient<Channel> {
        UsersClient::new(self.site.connect(None).await)
    }

    pub(crate) async fn suspend(
        &self,
        user: &str,
        suspended: bool,
    ) -> Result<v1::UserAccount, Status> {
        let (mut users, user) = (self.users().await, user.to_owned());
        let operator = &self.site.operator;
        let account = if suspended {
            users.suspend_user(with(v1::SuspendUserRequest { user }, operator)).await
        } else {
            users.resume_user(with(v1::ResumeUserRequest { user }, operator)).await
        };
        Ok(account?.into_inner())
    }

    async fn remove(&self, user: &str) -> Result<(), Status> {
        let remove = v1::RemoveUserRequest { user: user.to_owned() };
        self.users().await.remove_user(with(remove, &self.site.operator)).await.map(drop)
    }
}

pub(crate) fn refused() -> (Code, String) {
    (Code::Unauthenticated, "not logged in, or not any more".to_owned())
}

/// What somebody is told whose session is good and whose proof is not.
pub(crate) fn wrong() -> (Code, String) {
    let why = "password: is wrong, or the code is; or both were too often".to_owned();
    (Code::InvalidArgument, why)
}

#[tokio::test]
async fn a_second_factor_counts_once_it_is_confirmed_and_each_code_once() {
    let desk = Desk::new().await;
    assert_eq!(said(desk.enrol("not the password").await), wrong());
    let first = desk.enrol(PASSWORD).await.unwrap();
    assert!(first.uri.starts_with("otpauth://totp/weft:owner%40acme.example?secret="));
    // It does not count yet, and may be made anew.
    desk.login(PASSWORD, "").await.unwrap();
    let seed = desk.enrol(PASSWORD).await.unwrap().seed;
    assert_ne!(seed, first.seed);
    assert_eq!(code(desk.confirm(&desk.code(&first.seed, 0)).await), Code::InvalidArgument);
    let used = desk.code(&seed, 0);
    let recovery = desk.confirm(&used).await.unwrap();
    assert_eq!(recovery.iter().collect::<BTreeSet<_>>().len(), 10);
    assert_eq!(code(desk.confirm(&desk.code(&seed, 1)).await), Code::FailedPrecondition);
    assert_eq!(code(desk.enrol(PASSWORD).await), Code::FailedPrecondition);

    for shown in ["", "000000", &used, &desk.code(&seed, -1), &desk.code(&seed, 2), "aaaa"] {
        assert_eq!(said(desk.login(PASSWORD, shown).await), refused(), "{shown}");
    }
    let next = desk.code(&seed, 1);
    assert_eq!(said(desk.login("not the password", &next).await), refused());
    desk.login(PASSWORD, &next).await.unwrap();
    assert_eq!(said(desk.login(PASSWORD, &next).await), refused(), "once");
    desk.clock.advance(Duration::from_secs(60));
    desk.login(PASSWORD, &desk.code(&seed, 0)).await.unwrap();
}

#[tokio::test]
async fn a_code_that_two_show_at_once_is_good_for_one_in_whichever_process() {
    let desk = Desk::new().await;
    let (seed, recovery) = desk.confirmed().await;
    let another = desk.site.another_process().await;
    for shown in [desk.code(&seed, 1), recovery[0].clone()] {
        let proof = || weft_control::app::Proof {
            password: PASSWORD.to_owned().into(),
            code: shown.clone().into(),
        };
        let nobody = || desk.site.caller(weft_model::access::Actor::Nobody);
        let (one, two) = (nobody(), nobody());
        let (one, two) = tokio::join!(
            desk.site.app.login(&one, OWNER, proof()),
            another.login(&two, OWNER, proof()),
        );
        assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{shown}");
    }
}

#[tokio::test]
async fn a_recovery_code_is_good_once_however_it_is_written() {
    let desk = Desk::new().await;
    let (_, recovery) = desk.confirmed().await;
    desk.login(PASSWORD, &recovery[0]).await.unwrap();
    assert_eq!(said(desk.login(PASSWORD, &recovery[0]).await), refused());
    desk.login(PASSWORD, &recovery[1].replace('-', " ").to_uppercase()).await.unwrap();
    desk.disable(PASSWORD, &recovery[2]).await.unwrap();
    desk.login(PASSWORD, "").await.unwrap();
}

#[tokio::test]
async fn a_second_factor_is_disabled_by_password_and_code() {
    let desk = Desk::new().await;
    let (seed, _) = desk.confirmed().await;
    let next = desk.code(&seed, 1);
    for (password, shown) in [("not the password", next.as_str()), (PASSWORD, ""), (PASSWORD, "1")]
    {
        assert_eq!(said(desk.disable(password, shown).await), wrong());
    }
    desk.disable(PASSWORD, &next).await.unwrap();
    desk.login(PASSWORD, "").await.unwrap();
}

#[tokio::test]
async fn wrong_codes_lock_as_wrong_passwords_do() {
    let desk = Desk::new().await;
    let (seed, _) = desk.confirmed().await;
    for _ in 0..10 {
        assert_eq!(said(desk.login(PASSWORD, "000000").await), refused());
    }
    assert_eq!(said(desk.login(PASSWORD, &desk.code(&seed, 1)).await), refused());
    // Nor in a session.
    assert_eq!(said(desk.disable(PASSWORD, &desk.code(&seed, 1)).await), wrong());
    desk.clock.advance(Duration::from_secs(15 * 60));
    desk.login(PASSWORD, &desk.code(&seed, 0)).await.unwrap();
}

#[tokio::test]
async fn a_seed_is_in_the_store_sealed_for_its_person_alone() {
    let desk = Desk::new().await;
    let (seed, recovery) = desk.confirmed().await;
    let bytes = BASE32_NOPAD.decode(seed.as_bytes()).unwrap();
    let encoded = data_encoding::BASE64.encode(&bytes);
    let page = weft_store::Store::list(&*desk.site.store, "", None, 1_000).await.unwrap();
    let mut found = None;
    for entry in &page.entries {
        let text = String::from_utf8_lossy(&entry.value);
        for secret in [seed.as_str(), &encoded[..24], &recovery[0], &recovery[0].replace('-', "")] {
            assert!(!text.contains(secret), "{}", entry.key);
        }
        if entry.key.has_prefix(&SecondFactor::prefix("")) {
            found = Some(SecondFactor::decode(entry).unwrap().record);
        }
    }
    // What is sealed for one does not open for another.
    let factor = found.unwrap();
    let owner = weft_keys::Owner::Installation;
    let sealed = data_encoding::BASE64.decode(factor.sealed_seed.as_bytes()).unwrap();
    let open = async |user: &UserId| {
        let context = [user.as_str().as_bytes()];
        let purpose = weft_keys::Purpose::Identity;
        desk.site.keyring.open_sealed(&owner, purpose, &context, &sealed).await
    };
    assert_eq!(open(&factor.user).await.unwrap().as_slice(), bytes);
    assert!(open(&UserId::from_random(&[9; 10])).await.is_err());
}

#[tokio::test]
async fn another_password_ends_all_other_sessions() {
    let desk = Desk::new().await;
    let other = desk.login(PASSWORD, "").await.unwrap();
    assert_eq!(said(desk.change(&desk.owner, "not the password", OTHER).await), wrong());
    let short = said(desk.change(&desk.owner, PASSWORD, "short").await);
    let why = "new_password: has 5 bytes; expected 15 to 1024".to_owned();
    assert_eq!(short, (Code::InvalidArgument, why));
    assert!(desk.site.who(&other).await.is_ok());
    let another = desk.site.another_process().await;
    desk.change(&desk.owner, PASSWORD, OTHER).await.unwrap();
    assert_eq!(said(desk.site.who(&other).await), refused());
    assert!(another.actor_of(&other).await.is_err() && another.actor_of(&desk.owner).await.is_ok());
    assert!(desk.site.who(&desk.owner).await.is_ok());
    assert_eq!(desk.sessions(&desk.owner).await.unwrap().len(), 1);
    assert_eq!(said(desk.login(PASSWORD, "").await), refused());
    desk.login(OTHER, "").await.unwrap();
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions() {
    let desk = Desk::new().await;
    desk.clock.advance(Duration::from_secs(1));
    let other = desk.login(PASSWORD, "").await.unwrap();
    let listed = desk.sessions(&desk.owner).await.unwrap();
    let current: Vec<_> = listed.iter().map(|session| session.is_current).collect();
    assert_eq!(current, [true, false]);
    let end = |id: &str| v1::EndSessionRequest { id: id.to_owned() };
    let operator = &desk.site.operator;
    let absent = (Code::NotFound, "no such session".to_owned());
    for id in [listed[1].id.as_str(), "ses-aaaaaaaaaaaaaaaa"] {
        assert_eq!(said(desk.account.clone().end_session(with(end(id), operator)).await), absent);
    }
    let ended = desk.account.clone().end_session(with(end(&listed[1].id), &desk.owner)).await;
    ended.unwrap();
    assert_eq!(said(desk.site.who(&other).await), refused());
    assert_eq!(desk.sessions(&desk.owner).await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_is_suspended_is_nobody_with_whatever_they_show() {
    let desk = Desk::new().await;
    let shop = desk.site.environment(&desk.owner, "acme", "shop").await.id;
    let mut tokens = TokensClient::new(desk.site.connect(None).await);
    let create = v1::CreateTokenRequest {
        environment: name(&shop),
        name: "pushes".to_owned(),
        role: EnvironmentRole::Viewer.into(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    let token = tokens.create_token(with(create, &desk.owner)).await.unwrap().into_inner().secret;
    let invited = desk.site.invite(&desk.owner, "acme", "x@acme.example", OrganisationRole::Member);
    let invited = invited.await.unwrap();
    assert!(desk.suspend(OWNER, true).await.unwrap().suspended);
    for shown in [&desk.owner, &token] {
        assert_eq!(said(desk.site.who(shown).await), refused());
        let edge = desk.site.component(Component::Edge);
        assert!(desk.site.app.resolve_token(&edge, shown).await.is_err());
    }
    assert_eq!(said(desk.login(PASSWORD, "").await), refused());
    let mut sessions = SessionsClient::new(desk.site.connect(None).await);
    let (name, password) = ("X".to_owned(), PASSWORD.to_owned());
    let accept = v1::AcceptInvitationRequest { secret: invited, name, password };
    assert_eq!(code(sessions.accept_invitation(accept).await), Code::NotFound);
    assert!(!desk.suspend(OWNER, false).await.unwrap().suspended);
    assert_eq!(said(desk.site.who(&desk.owner).await), refused(), "sessions are over");
    let again = desk.login(PASSWORD, "").await.unwrap();
    // Whoever had the session may have made it.
    assert_eq!(said(desk.site.who(&token).await), refused());
    let list = v1::ListTokensRequest { environment: crate::site::name(&shop), page: None };
    let left = tokens.list_tokens(with(list, &again)).await.unwrap().into_inner().tokens;
    assert_eq!(left, []);
}

#[tokio::test]
async fn what_is_too_long_is_as_what_is_wrong() {
    let desk = Desk::new().await;
    let long = "x".repeat(10_000);
    assert_eq!(said(desk.login(&long, "").await), refused());
    desk.login(PASSWORD, "").await.unwrap();
}

#[tokio::test]
async fn a_person_has_so_many_sessions_and_another_one_ends_one() {
    let desk = Desk::new().await;
    for _ in 0..70 {
        desk.login(PASSWORD, "").await.unwrap();
    }
    let newest = desk.login(PASSWORD, "").await.unwrap();
    assert_eq!(desk.sessions(&newest).await.unwrap().len(), 64);
}

#[tokio::test]
async fn who_is_removed_is_gone_with_everything_and_their_address_is_free() {
    let desk = Desk::new().await;
    let last = said(desk.remove(OWNER).await);
    let why = "this is the last owner of acme; make another one first".to_owned();
    assert_eq!(last, (Code::FailedPrecondition, why));
    assert!(desk.site.who(&desk.owner).await.is_ok(), "nothing was done");
    let second = desk.site.member(&desk.owner, "acme", "m@acme.example", OrganisationRole::Owner);
    let second = second.await;
    let (_, _) = desk.confirmed().await;
    desk.remove(OWNER).await.unwrap();
    assert_eq!(said(desk.remove(OWNER).await), (Code::NotFound, "no such user".to_owned()));
    assert_eq!(said(desk.site.who(&desk.owner).await), refused());
    let page = weft_store::Store::list(&*desk.site.store, "", None, 1_000).await.unwrap();
    let text =
        page.entries.iter().filter(|entry| String::from_utf8_lossy(&entry.value).contains(OWNER));
    assert_eq!(text.count(), 0);
    let kinds = ["second-factor/", "sign-in/", "membership/"];
    let left = page.entries.iter().filter(|e| kinds.iter().any(|kind| e.key.has_prefix(kind)));
    assert_eq!(left.count(), 3, "of the other owner, and one of the operator");
    let secret = desk.site.invite(&second, "acme", OWNER, OrganisationRole::Member).await.unwrap();
    let again = desk.site.accept(&secret, OWNER).await;
    assert_eq!(desk.site.who(&again).await.unwrap().organisations.len(), 1);
}

#[tokio::test]
async fn operators_reset_a_second_factor_and_nobody_does_it_to_themselves() {
    let desk = Desk::new().await;
    desk.confirmed().await;
    let mut users = desk.users().await;
    let reset = |user: &str| v1::ResetSecondFactorRequest { user: user.to_owned() };
    let account = users.reset_second_factor(with(reset(OWNER), &desk.site.operator)).await;
    assert!(!account.unwrap().into_inner().has_second_factor);
    assert_eq!(said(desk.site.who(&desk.owner).await), refused());
    let owner = desk.login(PASSWORD, "").await.unwrap();
    let own = users.reset_second_factor(with(reset("operator@weft.example"), &desk.site.operator));
    let why = "this is you; another operator does it".to_owned();
    assert_eq!(said(own.await), (Code::FailedPrecondition, why.clone()));
    let own = said(desk.suspend("operator@weft.example", true).await);
    assert_eq!(own, (Code::FailedPrecondition, why));
    // Nobody else does any of it, to whoever is there or not.
    let not_yours = (Code::PermissionDenied, "this is not yours to do".to_owned());
    for user in ["operator@weft.example", "nobody@acme.example"].map(str::to_owned) {
        let suspend = v1::SuspendUserRequest { user: user.clone() };
        assert_eq!(said(users.suspend_user(with(suspend, &owner)).await), not_yours);
        let resume = v1::ResumeUserRequest { user: user.clone() };
        assert_eq!(said(users.resume_user(with(resume, &owner)).await), not_yours);
        let remove = v1::RemoveUserRequest { user: user.clone() };
        assert_eq!(said(users.remove_user(with(remove, &owner)).await), not_yours);
        let reset = users.reset_second_factor(with(reset(&user), &owner)).await;
        assert_eq!(said(reset), not_yours);
    }
    let list = || v1::ListUsersRequest { page: None };
    assert_eq!(said(users.list_users(with(list(), &owner)).await), not_yours);
    let listed = users.list_users(with(list(), &desk.site.operator)).await.unwrap().into_inner();
    assert_eq!(listed.users.len(), 2);
}
