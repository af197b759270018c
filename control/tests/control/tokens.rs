//! What machines show.

use std::time::Duration;

use tonic::{Code, Status, transport::Channel};
use weft_control::Clock;
use weft_control_api::v1::{
    self, EnvironmentRole, OrganisationRole, TokenUse, members_client::MembersClient,
    secrets_client::SecretsClient, sessions_client::SessionsClient, tokens_client::TokensClient,
};
use weft_model::{Record, TokenId, record::Token};
use weft_store::{Store, Transaction};

use crate::site::{PASSWORD, Site, code, name, said, with};

const MEMBER: &str = "member@acme.example";

/// An environment with an owner, and a member who deploys there.
struct Machines {
    site: Site,
    tokens: TokensClient<Channel>,
    shop: String,
    owner: String,
    member: String,
}

impl Machines {
    async fn new() -> Self {
        Self::at(Clock::default()).await
    }

    async fn at(clock: Clock) -> Self {
        let site = Site::start_at(clock).await;
        let owner = site.organisation("acme").await;
        let shop = site.environment(&owner, "acme", "shop").await.id;
        let member = site.member(&owner, "acme", MEMBER, OrganisationRole::Member).await;
        site.give(&owner, &shop, MEMBER, EnvironmentRole::Deployer).await.unwrap();
        let tokens = TokensClient::new(site.connect(None).await);
        Self { site, tokens, shop, owner, member }
    }

    fn asked(&self, role: EnvironmentRole) -> v1::CreateTokenRequest {
        v1::CreateTokenRequest {
            environment: name(&self.shop),
            name: "pushes of the shop".to_owned(),
            role: role.into(),
            seconds: 3_600,
            uses: Vec::new(),
            password: PASSWORD.to_owned(),
            code: String::new(),
        }
    }

    async fn create(
        &self,
        by: &str,
        asked: v1::CreateTokenRequest,
    ) -> Result<(v1::Token, String), Status> {
        let made = self.tokens.clone().create_token(with(asked, by)).await?.into_inner();
        Ok((made.token.unwrap(), made.secret))
    }

    async fn list(&self, by: &str) -> Result<Vec<v1::Token>, Status> {
        let list = v1::ListTokensRequest { environment: name(&self.shop), page: None };
        Ok(self.tokens.clone().list_tokens(with(list, by)).await?.into_inner().tokens)
    }

    async fn revoke(&self, by: &str, id: &str) -> Result<(), Status> {
        let (environment, id) = (name(&self.shop), id.to_owned());
        let revoke = v1::RevokeTokenRequest { environment, id };
        self.tokens.clone().revoke_token(with(revoke, by)).await.map(drop)
    }

    /// As what a token acts.
    async fn role(&self, secret: &str) -> Result<EnvironmentRole, Code> {
        let who = self.site.who(secret).await.map_err(|status| status.code())?;
        let [of] = who.environments.as_slice() else { panic!("{who:?}") };
        assert_eq!(of.environment, self.shop);
        Ok(of.role())
    }
}

fn not_yours() -> (Code, String) {
    (Code::PermissionDenied, "this is not yours to do".to_owned())
}

#[tokio::test]
async fn who_comes_back_finds_no_token_of_before() {
    let clock = Clock::manual(Clock::default().now());
    let machines = Machines::at(clock.clone()).await;
    let site = &machines.site;
    let asked = machines.asked(EnvironmentRole::Deployer);
    let (_, secret) = machines.create(&machines.member, asked).await.unwrap();
    let remove =
        v1::RemoveMemberRequest { organisation: "acme".to_owned(), user: MEMBER.to_owned() };
    let mut members = MembersClient::new(site.connect(None).await);
    members.remove_member(with(remove, &machines.owner)).await.unwrap();
    assert_eq!(machines.role(&secret).await, Err(Code::Unauthenticated));
    clock.advance(Duration::from_millis(1));
    let invited = site.invite(&machines.owner, "acme", MEMBER, OrganisationRole::Admin);
    let join = v1::JoinByInvitationRequest { secret: invited.await.unwrap() };
    let mut sessions = SessionsClient::new(site.connect(None).await);
    sessions.join_by_invitation(with(join, &machines.member)).await.unwrap();
    assert_eq!(machines.role(&secret).await, Err(Code::Unauthenticated));
}

#[tokio::test]
async fn a_token_is_shown_once_kept_as_its_hash_and_acts_in_its_environment() {
    let machines = Machines::new().await;
    let site = &machines.site;
    let asked = machines.asked(EnvironmentRole::Deployer);
    let (made, secret) = machines.create(&machines.member, asked).await.unwrap();
    assert!(secret.starts_with("weft_token_") && made.id.starts_with("tok-"), "{made:?}");
    assert_eq!(machines.role(&secret).await, Ok(EnvironmentRole::Deployer));
    let mut secrets = SecretsClient::new(site.connect(None).await);
    let list = || v1::ListSecretsRequest { environment: name(&machines.shop), page: None };
    assert!(secrets.list_secrets(with(list(), &secret)).await.is_ok());
    let other = site.environment(&machines.owner, "acme", "other").await.id;
    let foreign = v1::ListSecretsRequest { environment: name(&other), page: None };
    assert_eq!(code(secrets.list_secrets(with(foreign, &secret)).await), Code::NotFound);

    let page = weft_store::Store::list(&*site.store, "", None, 1_000).await.unwrap();
    let digits = secret.strip_prefix("weft_token_").unwrap();
    for entry in page.entries {
        let text = String::from_utf8_lossy(&entry.value).into_owned();
        assert!(!text.contains(digits) && !entry.key.as_str().contains(digits), "{}", entry.key);
    }
    assert!(!format!("{:?}", machines.list(&machines.member).await.unwrap()).contains(digits));
}

#[tokio::test]
async fn nobody_makes_a_token_of_more_than_their_own_role_and_no_token_makes_any() {
    let machines = Machines::new().await;
    let (owner, member) = (&machines.owner, &machines.member);
    let admin = machines.asked(EnvironmentRole::Admin);
    assert_eq!(said(machines.create(member, admin.clone()).await), not_yours());
    let (_, secret) = machines.create(owner, admin).await.unwrap();
    assert_eq!(machines.role(&secret).await, Ok(EnvironmentRole::Admin));
    let viewer = machines.asked(EnvironmentRole::Viewer);
    assert_eq!(said(machines.create(&secret, viewer.clone()).await), not_yours());
    assert_eq!(said(machines.list(&secret).await), not_yours());
    // Who runs the installation has no part in its environments.
    let operator = &machines.site.operator;
    assert_eq!(said(machines.create(operator, viewer).await), not_yours());
}

#[tokio::test]
async fn a_token_is_no_more_than_who_made_it_is_now() {
    let machines = Machines::new().await;
    let (site, owner) = (&machines.site, &machines.owner);
    let asked = machines.asked(EnvironmentRole::Deployer);
    let (_, secret) = machines.create(&machines.member, asked).await.unwrap();
    site.give(owner, &machines.shop, MEMBER, EnvironmentRole::Viewer).await.unwrap();
    assert_eq!(machines.role(&secret).await, Ok(EnvironmentRole::Viewer));
    site.give(owner, &machines.shop, MEMBER, EnvironmentRole::Admin).await.unwrap();
    assert_eq!(machines.role(&secret).await, Ok(EnvironmentRole::Deployer));
    let mut members = MembersClient::new(site.connect(None).await);
    let (organisation, user) = ("acme".to_owned(), MEMBER.to_owned());
    let remove = v1::RemoveMemberRequest { organisation, user };
    members.remove_member(with(remove, owner)).await.unwrap();
    assert_eq!(machines.role(&secret).await, Err(Code::Unauthenticated));
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_when_it_is_revoked() {
    let clock = Clock::manual(Clock::default().now());
    let machines = Machines::at(clock.clone()).await;
    let asked = machines.asked(EnvironmentRole::Viewer);
    let (own, secret) = machines.create(&machines.member, asked.clone()).await.unwrap();
    let (other, other_secret) = machines.create(&machines.owner, asked).await.unwrap();
    // Of others a deployer sees none; an admin sees all.
    let ids = |listed: Vec<v1::Token>| {
        listed.into_iter().map(|token| token.id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(machines.list(&machines.member).await.unwrap()), [own.id.clone()].into());
    let all = ids(machines.list(&machines.owner).await.unwrap());
    assert_eq!(all, [own.id.clone(), other.id.clone()].into());
    let absent = (Code::NotFound, "no such token".to_owned());
    assert_eq!(said(machines.revoke(&machines.member, &other.id).await), absent);
    assert_eq!(said(machines.revoke(&machines.member, "tok-aaaaaaaaaaaaaaaa").await), absent);
    machines.revoke(&machines.owner, &own.id).await.unwrap();
    assert_eq!(machines.role(&secret).await, Err(Code::Unauthenticated));
    assert!(machines.role(&other_secret).await.is_ok());
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(machines.role(&other_secret).await, Err(Code::Unauthenticated));
    let owner = machines.site.login("owner@acme.example", PASSWORD).await.unwrap();
    assert!(machines.list(&owner).await.unwrap().is_empty());
}

#[tokio::test]
async fn when_a_token_was_used_is_known_to_the_hour() {
    let clock = Clock::manual(Clock::default().now());
    let machines = Machines::at(clock.clone()).await;
    let asked =
        v1::CreateTokenRequest { seconds: 10 * 3_600, ..machines.asked(EnvironmentRole::Viewer) };
    let (made, secret) = machines.create(&machines.owner, asked).await.unwrap();
    assert_eq!(made.used_ms, 0);
    let used = async || {
        // It is written beside the call, which waits for nothing of it.
        let path = weft_control::secret::hash(&secret);
        let entry = machines.site.store.as_ref();
        let entry = weft_store::Store::get(entry, &Token::key_at(&path).unwrap()).await.unwrap();
        let token = Token::decode(&entry.unwrap()).unwrap().record;
        token.used.map(|used| used.0)
    };
    machines.role(&secret).await.unwrap();
    let first = clock.now().0;
    assert_eq!(used().await, Some(first));
    clock.advance(Duration::from_secs(3_599));
    machines.role(&secret).await.unwrap();
    assert_eq!(used().await, Some(first));
    clock.advance(Duration::from_secs(1));
    machines.role(&secret).await.unwrap();
    assert_eq!(used().await, Some(clock.now().0));
}

#[tokio::test]
async fn a_token_for_one_part_of_the_platform_is_nothing_to_the_others() {
    let machines = Machines::new().await;
    let uses = vec![TokenUse::Git.into()];
    let asked = v1::CreateTokenRequest { uses, ..machines.asked(EnvironmentRole::Deployer) };
    let (made, secret) = machines.create(&machines.member, asked).await.unwrap();
    assert_eq!(made.uses().collect::<Vec<_>>(), [TokenUse::Git]);
    assert_eq!(machines.role(&secret).await, Err(Code::Unauthenticated));
    let uses = vec![TokenUse::Git.into(), TokenUse::Api.into()];
    let asked = v1::CreateTokenRequest { uses, ..machines.asked(EnvironmentRole::Deployer) };
    let (_, secret) = machines.create(&machines.member, asked).await.unwrap();
    assert!(machines.role(&secret).await.is_ok());
}

#[tokio::test]
async fn what_a_token_cannot_be_is_said() {
    let machines = Machines::new().await;
    let good = || machines.asked(EnvironmentRole::Viewer);
    for (asked, why) in [
        (
            v1::CreateTokenRequest { name: String::new(), ..good() },
            "name: has 0 bytes; expected 1 to 100 without control characters",
        ),
        (v1::CreateTokenRequest { seconds: 59, ..good() }, "seconds: 59; expected 60 to 31622400"),
        (
            v1::CreateTokenRequest { seconds: 31_622_401, ..good() },
            "seconds: 31622401; expected 60 to 31622400",
        ),
        (
            v1::CreateTokenRequest { role: 0, ..good() },
            "role: is missing; expected viewer, deployer or admin",
        ),
        (
            v1::CreateTokenRequest { uses: vec![9], ..good() },
            "uses: 9; expected api, edge, git or registry",
        ),
    ] {
        let refused = said(machines.create(&machines.owner, asked).await);
        assert_eq!(refused, (Code::InvalidArgument, why.to_owned()));
    }
    let asked = v1::CreateTokenRequest { name: "x".repeat(101), ..good() };
    assert_eq!(code(machines.create(&machines.owner, asked).await), Code::InvalidArgument);
    let asked = v1::CreateTokenRequest { seconds: 0, ..good() };
    let (made, _) = machines.create(&machines.owner, asked).await.unwrap();
    assert_eq!(made.expires_ms - made.created_ms, 90 * 24 * 3_600 * 1_000);
}

#[tokio::test]
async fn an_environment_has_so_many_tokens() {
    let machines = Machines::new().await;
    let (made, secret) =
        machines.create(&machines.owner, machines.asked(EnvironmentRole::Viewer)).await.unwrap();
    let store: &dyn Store = machines.site.store.as_ref();
    let at = Token::key_at(&weft_control::secret::hash(&secret)).unwrap();
    let token = Token::decode(&store.get(&at).await.unwrap().unwrap()).unwrap().record;
    // All but the last as if they had been made.
    for chunk in (0..198_u8).collect::<Vec<_>>().chunks(100) {
        let many = chunk.iter().fold(Transaction::new(), |many, n| {
            let id = TokenId::from_random(&[*n; 10]);
            let other = Token { secret_hash: format!("{n:064}"), id, ..token.clone() };
            many.put(other.key().unwrap(), other.encode().unwrap())
        });
        store.commit(many).await.unwrap();
    }
    let asked = || machines.asked(EnvironmentRole::Viewer);
    machines.create(&machines.owner, asked()).await.unwrap();
    let refused = said(machines.create(&machines.owner, asked()).await);
    let why = "the environment's limit of 200 tokens is reached".to_owned();
    assert_eq!(refused, (Code::ResourceExhausted, why));
    machines.revoke(&machines.owner, &made.id).await.unwrap();
    machines.create(&machines.owner, asked()).await.unwrap();
}
