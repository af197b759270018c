//! What is not theirs is not there.

mod calls;
mod raw;
mod world;

use std::time::Duration;

use tonic::{Code, Request, transport::Channel};
use weft_control::Clock;
use weft_control_api::v1::{
    self, hosts_client::HostsClient, organisations_client::OrganisationsClient,
    sessions_client::SessionsClient,
};
use weft_model::access::{Access, Action, Object};
use weft_pki::{KeyKind, request};

use self::{
    calls::{About, Call, Names, every_call},
    raw::Outcome,
    world::{Home, World},
};
use crate::site::{Host, PASSWORD, Site, code, said, with};

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

/// Asks a call of somebody.
async fn ask(channel: &Channel, caller: &Caller, call: &Call, names: &Names) -> Outcome {
    let token = match caller {
        Caller::Token(token) => Some(token.as_str()),
        Caller::Nobody | Caller::Host(_) => None,
    };
    raw::ask(channel, token, call.name, (call.ask)(names)).await
}

/// Whether foreign and absent have to look the same to a caller, who is at home in some of what is asked about.
fn is_compared(about: About, home: Home) -> bool {
    match about {
        About::Own(_) => false,
        About::Organisation(_) => home != Home::Organisation,
        About::OfHosts => home != Home::Host,
        _ => true,
    }
}

#[tokio::test]
async fn what_is_foreign_answers_every_call_as_what_is_not_there() {
    let world = World::new().await;
    let (site, calls) = (&world.site, every_call());
    let mut wrong = Vec::new();
    for (who, caller, home) in world.strangers().await {
        let channel = caller.channel(site).await;
        world.clock.advance(Duration::from_secs(60));
        for call in calls.iter().filter(|call| is_compared(call.about, home)) {
            let mut foreign = ask(&channel, &caller, call, &world.there).await;
            if foreign.code == Code::Ok && call.about != About::Somebodys {
                wrong.push(format!("{who}: {}: is answered", call.name));
            }
            let told = world.told_nobody.iter().filter(|what| foreign.tells(what));
            wrong.extend(told.map(|what| format!("{who}: {}: tells {what}", call.name)));
            // What is made for the caller is another one each time.
            let is_own = foreign.code == Code::Ok;
            for absent in &world.absent {
                let mut absent = ask(&channel, &caller, call, absent).await;
                if is_own {
                    (foreign.answer, absent.answer) = (Vec::new(), Vec::new());
                }
                if foreign != absent {
                    let name = call.name;
                    wrong.push(format!("{who}: {name}: {foreign:?} is not {absent:?}"));
                }
            }
        }
        world.clock.advance(Duration::from_secs(60));
        for call in &calls {
            let About::Own(why) = call.about else { continue };
            let outcome = ask(&channel, &caller, call, &world.there).await;
            let told = world.told_nobody.iter().filter(|what| outcome.tells(what));
            let told = told.filter(|_| home != Home::Host);
            wrong.extend(told.map(|what| format!("{who}: {}: {why}: tells {what}", call.name)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_is_foreign_is_not_there_by_whatever_name_it_is_called() {
    let world = World::new().await;
    let (site, calls) = (&world.site, every_call());
    let called = |organisation: &str, environment: &str| Names {
        organisation: organisation.to_owned(),
        environment: environment.to_owned(),
        ..world.there.clone()
    };
    let is_named = |call: &&Call| {
        matches!(call.about, About::Environment(_) | About::Organisation(_) | About::OfHosts)
            // A leaf is asked for by ids alone, and so is an end.
            && !matches!(call.name, "HostAgent/IssueLeaf" | "HostAgent/Release")
    };
    let mut wrong = Vec::new();
    let stranger = Caller::Token(site.organisation("globex").await);
    for (who, caller) in [("nobody", Caller::Nobody), ("a stranger", stranger)] {
        let channel = caller.channel(site).await;
        world.clock.advance(Duration::from_secs(60));
        for call in calls.iter().filter(is_named) {
            let foreign = ask(&channel, &caller, call, &called("acme", "acme/shop")).await;
            for (organisation, environment) in
                [("nowhere", "acme/nothing"), ("acme", "nowhere/shop")]
            {
                let absent = ask(&channel, &caller, call, &called(organisation, environment)).await;
                if foreign != absent {
                    wrong.push(format!("{who}: {}: {foreign:?} is not {absent:?}", call.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn everybody_at_home_may_what_the_rule_of_each_call_says() {
    let world = World::new().await;
    let (site, calls) = (&world.site, every_call());
    let environment = world.there.environment.parse().unwrap();
    let organisation = world.there.organisation.parse().unwrap();
    let host = world.there.host.parse().unwrap();
    let mut wrong = Vec::new();
    for (who, token) in world.family().await {
        let actor = site.app.actor_of(&token).await.unwrap();
        let (channel, caller) = (site.connect(None).await, Caller::Token(token));
        world.clock.advance(Duration::from_secs(60));
        for call in &calls {
            let (mut access, is_hidable) = match call.about {
                About::Environment(action) => {
                    (actor.access(action, Object::Environment(&environment, &organisation)), true)
                }
                About::Organisation(action) => {
                    (actor.access(action, Object::Organisation(&organisation)), true)
                }
                About::Host(action) => (actor.access(action, Object::Host(&host)), true),
                About::Installation(action) => (actor.access(action, Object::Installation), false),
                About::OfHosts | About::Somebodys | About::Own(_) => continue,
            };
            // Who reads the whole audit reads each part of it.
            let reads_all = actor.access(Action::ReadAllAudit, Object::Installation);
            if call.name == "Audit/ListAuditRecords" && reads_all == Access::Allowed {
                access = reads_all;
            }
            let outcome = ask(&channel, &caller, call, &world.there).await;
            let looks_absent =
                is_hidable && outcome == ask(&channel, &caller, call, &world.absent[0]).await;
            let is_refused = matches!(outcome.code, Code::PermissionDenied | Code::Unauthenticated);
            let is_right = match access {
                Access::Allowed => !looks_absent && !is_refused,
                Access::Refused => outcome.code == Code::PermissionDenied,
                Access::Hidden => looks_absent && outcome.code == Code::NotFound,
            };
            if !is_right {
                wrong.push(format!("{who}: {}: {access:?}, and {outcome:?}", call.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
        let report =
            |id: &str| caller.request(v1::GetHostReportRequest { id: id.to_owned(), page: None });
        let get = hosts.get_host_report(report("host-a")).await;
        assert_eq!(said(get), said(hosts.get_host_report(report("host-z")).await));
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
