//! An organisation with an environment and everything else that has a name, who is at home there, and who is not.

use weft_control::{
    Clock,
    app::{EnvironmentReference, GrantWish},
    ssh,
};
use weft_control_api::v1::{
    self, EnvironmentRole, OrganisationRole, TokenUse, account_client::AccountClient,
    hosts_client::HostsClient, members_client::MembersClient, tokens_client::TokensClient,
};
use weft_model::{SlotName, access::Component, record::SlotKey};

use super::{Caller, calls::Names};
use crate::{
    signer::Signer,
    site::{Host, PASSWORD, Site, name, with},
};

/// Somebody about whom is asked.
const EMAIL: &str = "somebody@acme.example";

/// What a stranger is no stranger to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Nothing.
    None,
    /// The organisation, and another environment of it.
    Organisation,
    /// An attachment of the environment is on it.
    Host,
}

pub(super) struct World {
    pub(super) site: Site,
    pub(super) clock: Clock,
    pub(super) there: Names,
    /// The same names, of nothing.
    pub(super) absent: [Names; 1],
    /// What no stranger is told.
    pub(super) told_nobody: Vec<String>,
    owner: String,
    host: Host,
}

impl World {
    pub(super) async fn new() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let owner = site.organisation("acme").await;
        let shop = site.environment(&owner, "acme", "shop").await;
        site.environment(&owner, "acme", "other").await;
        let host = site.enrol("host-a").await;
        site.allow(&shop.id, "host-a").await;
        let (environment, web) = (shop.id.clone(), "web".to_owned());
        let attach = v1::AttachRequest { environment, name: web, ..Default::default() };
        site.agent(&host).await.attach(attach).await.unwrap();
        let session = site.member(&owner, "acme", EMAIL, OrganisationRole::Member).await;
        let Some(v1::who_am_i_response::Actor::User(user)) =
            site.who(&session).await.unwrap().actor
        else {
            panic!("no person")
        };

        let channel = site.connect(None).await;
        let mut account = AccountClient::new(channel.clone());
        let list = with(v1::ListSessionsRequest {}, &session);
        let sessions = account.list_sessions(list).await.unwrap().into_inner().sessions;
        let invited = site.invite(&owner, "acme", "new@acme.example", OrganisationRole::Member);
        let invited = invited.await.unwrap();
        let organisation = shop.organisation.clone();
        let list = v1::ListInvitationsRequest { organisation, page: None };
        let mut members = MembersClient::new(channel.clone());
        let invitations = members.list_invitations(with(list, &owner)).await.unwrap().into_inner();
        let make = with(v1::CreateJoinTokenRequest::default(), &site.operator);
        let join = HostsClient::new(channel.clone()).create_join_token(make).await.unwrap();
        let key = Signer::new(7);
        let there = Names {
            organisation: shop.organisation.clone(),
            environment: shop.id.clone(),
            host: host.id.clone(),
            user: user.id.clone(),
            email: EMAIL.to_owned(),
            session: sessions[0].id.clone(),
            shown: session.clone(),
            token: token(&site, &owner, &shop.id, EnvironmentRole::Viewer, &[]).await.id,
            join_token: join.into_inner().id,
            invitation: invitations.invitations[0].id.clone(),
            invited: invited.clone(),
            grant: grant(&site, &shop.id).await,
            ssh_key: key.add(&channel, &session).await.unwrap().id,
            ssh_line: key.line(),
            ssh_fingerprint: ssh::print_fingerprint(&key.fingerprint()),
        };
        let absent = Names {
            organisation: "org-aaaaaaaaaaaaaaaa".to_owned(),
            environment: "env-aaaaaaaaaaaaaaaa".to_owned(),
            host: "host-z".to_owned(),
            user: "usr-aaaaaaaaaaaaaaaa".to_owned(),
            email: "nobody@acme.example".to_owned(),
            session: "ses-aaaaaaaaaaaaaaaa".to_owned(),
            shown: nobodys(&session),
            token: "tok-aaaaaaaaaaaaaaaa".to_owned(),
            join_token: "tok-aaaaaaaaaaaaaaaa".to_owned(),
            invitation: "tok-aaaaaaaaaaaaaaaa".to_owned(),
            invited: nobodys(&invited),
            grant: "grt-aaaaaaaaaaaaaaaa".to_owned(),
            ssh_key: "key-aaaaaaaaaaaaaaaa".to_owned(),
            ssh_line: Signer::new(8).line(),
            ssh_fingerprint: ssh::print_fingerprint(&Signer::new(8).fingerprint()),
        };
        let told_nobody = vec![shop.id, user.id, EMAIL.to_owned()];
        Self { site, clock, there, absent: [absent], told_nobody, owner, host }
    }

    /// Everybody to whom the environment is foreign.
    pub(super) async fn strangers(&self) -> Vec<(&'static str, Caller, Home)> {
        let site = &self.site;
        let other = site.organisation("globex").await;
        let shop = site.environment(&other, "globex", "shop").await.id;
        let at_home = People { site, owner: &other, organisation: "globex", environment: &shop };
        let mut strangers = vec![
            ("nobody", Caller::Nobody, Home::None),
            ("garbage", Caller::Token("weft_session_0".to_owned()), Home::None),
        ];
        let foreign = at_home.all().await.into_iter();
        strangers.extend(foreign.map(|(who, token)| (who, Caller::Token(token), Home::None)));
        strangers.push(("an owner elsewhere", Caller::Token(other), Home::None));

        let neighbours = "neighbour@acme.example";
        let neighbour =
            site.member(&self.owner, "acme", neighbours, OrganisationRole::Member).await;
        let given = site.give(&self.owner, "acme/other", neighbours, EnvironmentRole::Admin);
        given.await.unwrap();
        strangers.push((
            "an admin of another environment of the organisation",
            Caller::Token(neighbour),
            Home::Organisation,
        ));
        let narrow = token(site, &self.owner, "acme/other", EnvironmentRole::Admin, &[]).await;
        strangers.push((
            "a token of another environment of the organisation",
            Caller::Token(narrow.secret),
            Home::None,
        ));
        let shop = &self.there.environment;
        let edge = token(site, &self.owner, shop, EnvironmentRole::Admin, &[TokenUse::Edge]).await;
        strangers.push((
            "a token of the environment that is not for this part of the platform",
            Caller::Token(edge.secret),
            Home::None,
        ));

        let (other, revoked) = (site.enrol("host-b").await, site.enrol("host-c").await);
        let state = v1::HostState::Revoked.into();
        let revoke = v1::SetHostStateRequest { id: revoked.id.clone(), state };
        let mut hosts = HostsClient::new(site.connect(None).await);
        hosts.set_host_state(with(revoke, &site.operator)).await.unwrap();
        strangers.push(("its host", Caller::Host(self.host.clone()), Home::Host));
        strangers.push(("another host", Caller::Host(other), Home::None));
        strangers.push(("a host that was revoked", Caller::Host(revoked), Home::None));
        strangers
    }

    /// Everybody who is at home in the environment or its organisation, those who may least first, and who runs the
    /// installation.
    pub(super) async fn family(&self) -> Vec<(&'static str, String)> {
        let (site, owner) = (&self.site, &self.owner);
        let environment = &self.there.environment;
        let at_home = People { site, owner, organisation: "acme", environment };
        let mut family = at_home.all().await;
        family.push(("an owner", owner.clone()));
        family.push(("an operator", site.operator.clone()));
        family
    }
}

/// People and programs of an environment, by every role but the owner's.
struct People<'a> {
    site: &'a Site,
    owner: &'a str,
    organisation: &'a str,
    environment: &'a str,
}

impl People<'_> {
    async fn person(&self, called: &str, role: OrganisationRole) -> (String, String) {
        let email = format!("{called}@{}.example", self.organisation);
        let token = self.site.member(self.owner, self.organisation, &email, role).await;
        (email, token)
    }

    async fn all(&self) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        let (_, member) = self.person("member", OrganisationRole::Member).await;
        all.push(("a member", member));
        for (who, program, called, role) in [
            ("a viewer", "a viewer's token", "viewer", EnvironmentRole::Viewer),
            ("a deployer", "a deploy token", "deployer", EnvironmentRole::Deployer),
            ("an environment's admin", "an admin's token", "manager", EnvironmentRole::Admin),
        ] {
            let (email, person) = self.person(called, OrganisationRole::Member).await;
            self.site.give(self.owner, self.environment, &email, role).await.unwrap();
            all.push((who, person));
            let made = token(self.site, self.owner, self.environment, role, &[]).await;
            all.push((program, made.secret));
        }
        let (_, admin) = self.person("admin", OrganisationRole::Admin).await;
        all.push(("an admin", admin));
        all
    }
}

/// A token that was made.
struct Made {
    id: String,
    secret: String,
}

async fn token(
    site: &Site,
    by: &str,
    environment: &str,
    role: EnvironmentRole,
    uses: &[TokenUse],
) -> Made {
    let create = v1::CreateTokenRequest {
        environment: name(environment),
        name: "deploy".to_owned(),
        role: role.into(),
        uses: uses.iter().map(|part| i32::from(*part)).collect(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    let mut tokens = TokensClient::new(site.connect(None).await);
    let made = tokens.create_token(with(create, by)).await.unwrap().into_inner();
    Made { id: made.token.unwrap().id, secret: made.secret }
}

/// The scheduler's leave for a slot.
async fn grant(site: &Site, environment: &str) -> String {
    let wish = GrantWish {
        slot: SlotKey { service: "db".parse().unwrap(), slot: SlotName::Stable(0) },
        host: "host-a".parse().unwrap(),
        attempt: 1,
        lasts: std::time::Duration::from_secs(300),
        secrets: Default::default(),
    };
    let scheduler = site.component(Component::Scheduler);
    let environment: EnvironmentReference = environment.parse().unwrap();
    site.app.create_grant(&scheduler, &environment, &wish).await.unwrap().id.to_string()
}

/// A secret of the same form that nobody has.
fn nobodys(secret: &str) -> String {
    let other = |digit: char| if digit == 'a' { 'b' } else { 'a' };
    let mut digits: Vec<char> = secret.chars().collect();
    if let Some(last) = digits.last_mut() {
        *last = other(*last);
    }
    digits.into_iter().collect()
}
