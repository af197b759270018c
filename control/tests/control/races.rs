//! Two processes that decide at the same moment: one stands still between what it has read and its change.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use weft_control::{
    App, AppError, Clock,
    app::{
        AttachWish, Caller, EnvironmentReference, HostWish, NewEnvironment, NewToken, StateChange,
    },
};
use weft_control_api::v1::{OrganisationRole, who_am_i_response};
use weft_model::{
    Record, SlotName,
    access::{Actor, EnvironmentRole},
    policy::Verdict,
    record::{
        Attachment, Binding, Environment, Organisation, Quotas, Roster, SlotKey, Token, Usage, User,
    },
};
use weft_store::{Key, Store};
use weft_types::HostId;
use zeroize::Zeroizing;

use crate::{
    held::Held,
    site::{Host, PASSWORD, Site, proof},
};

const GRACE: Duration = Duration::from_secs(60);

/// An organisation with an owner and an environment.
struct Acme {
    clock: Clock,
    site: Site,
    owner: String,
    shop: Environment,
}

/// Who calls, one after the other, and a process that stands still before a change that has to do with one key.
struct Race {
    owner: Caller,
    held: Arc<Held>,
    late: Arc<App>,
}

impl Acme {
    async fn new() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let owner = site.organisation("acme").await;
        let shop = site.environment(&owner, "acme", "shop").await.id;
        let shop = site.store.get(&Environment::key_at(&shop).unwrap()).await.unwrap().unwrap();
        let shop = Environment::decode(&shop).unwrap().record;
        Self { clock, site, owner, shop }
    }

    async fn race_for(&self, key: Key) -> Race {
        let held = Held::new(Arc::clone(&self.site.store) as Arc<dyn Store>, key);
        let late = self.site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
        let owner = self.site.caller(self.site.app.actor_of(&self.owner).await.unwrap());
        Race { owner, held, late }
    }

    async fn race_for_organisation(&self) -> Race {
        let path = self.shop.organisation.as_str();
        self.race_for(Organisation::key_at(path).unwrap()).await
    }

    fn app(&self) -> &App {
        &self.site.app
    }

    async fn operator(&self) -> Caller {
        self.site.caller(self.app().actor_of(&self.site.operator).await.unwrap())
    }

    async fn owner_id(&self) -> String {
        let who = self.site.who(&self.owner).await.unwrap();
        let Some(who_am_i_response::Actor::User(user)) = who.actor else { panic!("no person") };
        user.id
    }

    /// Keys of the store in which this is.
    async fn with(&self, text: &str) -> Vec<String> {
        let page = self.site.store.list("", None, 1_000).await.unwrap();
        let all = page.entries.into_iter().map(|entry| entry.key.to_string());
        all.filter(|key| key.contains(text)).collect()
    }
}

impl Race {
    /// What becomes of it when the rest is done between what it has read and its change.
    async fn late<T>(
        &self,
        late: impl Future<Output = T>,
        meanwhile: impl Future<Output = ()>,
    ) -> T {
        self.held.stop();
        let rest = async {
            self.held.stands_still.notified().await;
            meanwhile.await;
            self.held.go_on();
        };
        let both = async { tokio::join!(late, rest) };
        timeout(Duration::from_secs(30), both).await.unwrap().0
    }

    async fn end_organisation(&self, app: &App) -> Result<(), AppError> {
        app.delete_organisation(&self.owner, "acme", GRACE).await.map(drop)
    }

    async fn make(&self, app: &App) -> Result<(), AppError> {
        self.make_called(app, "other").await
    }

    async fn make_called(&self, app: &App, name: &str) -> Result<(), AppError> {
        let new = NewEnvironment {
            organisation: "acme".to_owned(),
            name: name.parse().unwrap(),
            subnets: vec!["10.41.0.0/24".parse().unwrap()],
            quotas: Quotas::default(),
            leaf_seconds: 3_600,
            default: Verdict::Allow,
        };
        app.create_environment(&self.owner, &new).await.map(drop)
    }

    async fn set(&self, app: &App, change: StateChange) -> Result<(), AppError> {
        app.set_environment_state(&self.owner, &shop(), change).await.map(drop)
    }

    async fn attach(&self, app: &App, host: &HostId) -> Result<Attachment, AppError> {
        let wish = AttachWish {
            name: "web-1".parse().unwrap(),
            slot: SlotKey { service: "web".parse().unwrap(), slot: SlotName::Stable(0) },
            host: HostWish { id: host.clone(), grant: None },
            addresses: Vec::new(),
            share: None,
        };
        app.create_attachment(&self.owner, &shop(), &wish).await
    }
}

fn shop() -> EnvironmentReference {
    "acme/shop".parse().unwrap()
}

fn is_going<T: std::fmt::Debug>(refused: Result<T, AppError>) {
    let Err(AppError::State(why)) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("is being deleted"), "{why}");
}

fn stays<T: std::fmt::Debug>(refused: Result<T, AppError>) {
    let Err(AppError::State(why)) = &refused else { panic!("{refused:?}") };
    assert_eq!(why, "it has 1 environments that stay: delete them first");
}

fn robot() -> NewToken {
    NewToken {
        name: "robot".to_owned(),
        role: EnvironmentRole::Viewer,
        uses: Default::default(),
        seconds: 3_600,
    }
}

const DELETE: StateChange = StateChange::Delete { grace: GRACE };

#[tokio::test]
async fn no_organisation_goes_in_which_an_environment_is_made_at_the_same_moment() {
    let acme = Acme::new().await;
    let race = acme.race_for_organisation().await;
    race.set(acme.app(), DELETE).await.unwrap();
    let made = async { race.make(acme.app()).await.unwrap() };
    stays(race.late(race.end_organisation(&race.late), made).await);

    let acme = Acme::new().await;
    let race = acme.race_for_organisation().await;
    race.set(acme.app(), DELETE).await.unwrap();
    let ended = async { race.end_organisation(acme.app()).await.unwrap() };
    is_going(race.late(race.make(&race.late), ended).await);
    assert_eq!(acme.with("environment/env-").await.len(), 1);
    // So it goes, in its time.
    acme.clock.advance(2 * GRACE);
    for _ in 0..3 {
        acme.site.tidy().await;
    }
    assert_eq!(acme.with(acme.shop.organisation.as_str()).await, Vec::<String>::new());
}

#[tokio::test]
async fn no_organisation_goes_in_which_an_environment_is_restored_at_the_same_moment() {
    let acme = Acme::new().await;
    let race = acme.race_for_organisation().await;
    race.set(acme.app(), DELETE).await.unwrap();
    let restored = async { race.set(acme.app(), StateChange::Resume).await.unwrap() };
    stays(race.late(race.end_organisation(&race.late), restored).await);

    race.set(acme.app(), DELETE).await.unwrap();
    let ended = async { race.end_organisation(acme.app()).await.unwrap() };
    is_going(race.late(race.set(&race.late, StateChange::Resume), ended).await);
}

#[tokio::test]
async fn who_hears_late_of_environments_waits_before_an_organisation_goes() {
    let acme = Acme::new().await;
    let race = acme.race_for_organisation().await;
    race.set(acme.app(), DELETE).await.unwrap();
    race.held.hear(false);
    race.make(acme.app()).await.unwrap();
    let heard = async {
        sleep(Duration::from_millis(200)).await;
        race.held.hear(true);
    };
    let both = async { tokio::join!(race.end_organisation(&race.late), heard) };
    stays(timeout(Duration::from_secs(30), both).await.unwrap().0);
}

#[tokio::test]
async fn no_two_that_make_environments_at_the_same_moment_pass_their_organisations_limit() {
    let acme = Acme::new().await;
    let race = acme.race_for_organisation().await;
    let operator = acme.site.caller(acme.app().actor_of(&acme.site.operator).await.unwrap());
    let limit = async |app: &App, max| {
        app.set_environments_max(&operator, "acme", max).await.map(drop).unwrap();
    };
    let is_full = |refused: Result<(), AppError>| {
        let Err(AppError::Exhausted(why)) = &refused else { panic!("{refused:?}") };
        assert!(why.contains(" environments is reached"), "{why}");
    };
    // There is one, and room for one.
    limit(acme.app(), 2).await;
    let made = async { race.make_called(acme.app(), "a").await.unwrap() };
    is_full(race.late(race.make_called(&race.late, "b"), made).await);
    limit(acme.app(), 3).await;
    let full = async {
        race.make_called(acme.app(), "c").await.unwrap();
        is_full(race.make_called(acme.app(), "d").await);
    };
    is_full(race.late(race.make_called(&race.late, "e"), full).await);
    // The limit itself changes meanwhile, or is what changes late: then what is made before stays.
    limit(acme.app(), 4).await;
    let lowered = async { limit(acme.app(), 3).await };
    is_full(race.late(race.make_called(&race.late, "f"), lowered).await);
    limit(acme.app(), 4).await;
    let made = async { race.make_called(acme.app(), "g").await.unwrap() };
    race.late(limit(&race.late, 3), made).await;
    is_full(race.make_called(acme.app(), "h").await);
    assert_eq!(acme.with("environment/env-").await.len(), 4);
}

#[tokio::test]
async fn nobody_comes_into_an_organisation_that_goes_at_the_same_moment() {
    let acme = Acme::new().await;
    // What every change of its people writes, whatever that rests on.
    let roster = Roster::key_at(acme.shop.organisation.as_str()).unwrap();
    let race = acme.race_for(roster).await;
    race.set(acme.app(), DELETE).await.unwrap();
    let email = "m@acme.example";
    let invited = acme.site.invite(&acme.owner, "acme", email, OrganisationRole::Member).await;
    let invited = invited.unwrap();
    let nobody = acme.site.caller(Actor::Nobody);
    let accept = async {
        let password = Zeroizing::new(PASSWORD.to_owned());
        race.late.accept_invitation(&nobody, &invited, "Somebody", password).await
    };
    let ended = async { race.end_organisation(acme.app()).await.unwrap() };
    let refused = race.late(accept, ended).await;
    assert!(matches!(refused, Err(AppError::NotFound("invitation"))), "{refused:?}");
    assert!(acme.site.login(email, PASSWORD).await.is_err());
}

#[tokio::test]
async fn no_token_is_made_in_an_environment_that_goes_at_the_same_moment() {
    let acme = Acme::new().await;
    // Who makes one is in its conditions, whatever else is.
    let race = acme.race_for(User::key_at(&acme.owner_id().await).unwrap()).await;
    let (new, shop) = (robot(), shop());
    let make = race.late.create_token(&race.owner, &shop, &new, proof(PASSWORD));
    let ended = async { race.set(acme.app(), DELETE).await.unwrap() };
    is_going(race.late(make, ended).await.map(drop));
    assert_eq!(acme.with("token/").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_token_that_is_used_as_its_maker_is_suspended_does_not_outlast_that() {
    let acme = Acme::new().await;
    let owner = acme.site.caller(acme.app().actor_of(&acme.owner).await.unwrap());
    let made = acme.app().create_token(&owner, &shop(), &robot(), proof(PASSWORD)).await;
    let (token, secret) = made.unwrap();
    let key = Token::key_at(&token.secret_hash).unwrap();
    // Its maker was found to be good, and when it was used is not noted yet.
    let (using, suspending) = (acme.race_for(key.clone()).await, acme.race_for(key).await);
    using.held.stop();
    let used = {
        let late = Arc::clone(&using.late);
        tokio::spawn(async move { late.actor_of(&secret).await.map(drop) })
    };
    timeout(Duration::from_secs(30), using.held.stands_still.notified()).await.unwrap();
    let (operator, maker) = (acme.operator().await, acme.owner_id().await);
    let suspend = suspending.late.set_suspended(&operator, &maker, true);
    let noted = async {
        using.held.go_on();
        used.await.unwrap().unwrap();
    };
    suspending.late(suspend, noted).await.unwrap();
    assert_eq!(acme.with("token/").await, Vec::<String>::new());
}

/// An environment and a host that may have attachments there.
async fn with_host() -> (Acme, HostId) {
    let acme = Acme::new().await;
    let Host { id, .. } = acme.site.enrol("host-a").await;
    acme.site.allow("acme/shop", &id).await;
    (acme, id.parse().unwrap())
}

#[tokio::test]
async fn nothing_rests_on_the_leave_of_a_host_that_it_has_lost_at_the_same_moment() {
    let (acme, host) = with_host().await;
    let path = format!("{}/{host}", acme.shop.id);
    let race = acme.race_for(Binding::key_at(&path).unwrap()).await;
    let operator = acme.operator().await;
    let attached = async { race.attach(acme.app(), &host).await.map(drop).unwrap() };
    let shop = shop();
    let deny = race.late.deny_host(&operator, &shop, &host, false);
    let refused = race.late(deny, attached).await;
    let Err(AppError::State(why)) = &refused else { panic!("{refused:?}") };
    assert_eq!(why, "1 attachments rest on it");

    // What every attachment writes, whatever that rests on.
    let (acme, host) = with_host().await;
    let race = acme.race_for(Usage::key_at(acme.shop.id.as_str()).unwrap()).await;
    let operator = acme.operator().await;
    let denied = async {
        acme.app().deny_host(&operator, &shop, &host, false).await.map(drop).unwrap();
    };
    let refused = race.late(race.attach(&race.late, &host), denied).await;
    let Err(AppError::State(why)) = &refused else { panic!("{refused:?}") };
    assert_eq!(why, "host host-a is not allowed in this environment");
}

#[tokio::test]
async fn a_host_is_denied_also_when_the_environment_changes_at_the_same_moment() {
    let (acme, host) = with_host().await;
    let path = format!("{}/web-1", acme.shop.id);
    let race = acme.race_for(Attachment::key_at(&path).unwrap()).await;
    race.attach(acme.app(), &host).await.unwrap();
    let operator = acme.site.caller(acme.app().actor_of(&acme.site.operator).await.unwrap());
    let changed = async {
        let quotas = Quotas { attachments_max: 7, ..Quotas::default() };
        acme.app().set_quotas(&operator, &shop(), quotas).await.map(drop).unwrap();
    };
    let shop = shop();
    let deny = race.late.deny_host(&operator, &shop, &host, true);
    assert_eq!(race.late(deny, changed).await.unwrap(), 1);
    assert_eq!(acme.with("attachment/").await, Vec::<String>::new());
}

/// A host is allowed in an environment whose end is about to be written, by a process that makes so many changes from
/// then on, and ends.
async fn allowed_while_it_goes(acme: &Acme, race: &Race, changes: usize) -> Result<(), AppError> {
    let host: HostId = acme.site.enrol("host-a").await.id.parse().unwrap();
    let operator = acme.operator().await;
    race.set(acme.app(), DELETE).await.unwrap();
    acme.clock.advance(2 * GRACE);
    // Nobody restores it from here on.
    acme.site.tidy().await;
    let turn = acme.site.turn(&race.late).await;
    let allowed = async {
        acme.app().allow_host(&operator, &shop(), &host).await.map(drop).unwrap();
        race.held.last(changes);
    };
    let tidied = race.late(race.late.tidy(&turn), allowed).await;
    race.late.end_turn(turn).await.unwrap();
    tidied
}

#[tokio::test]
async fn what_is_put_into_an_environment_while_it_goes_goes_with_it() {
    let acme = Acme::new().await;
    let race = acme.race_for(acme.shop.key().unwrap()).await;
    allowed_while_it_goes(&acme, &race, usize::MAX).await.unwrap();
    assert_eq!(acme.with(acme.shop.id.as_str()).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_put_into_an_environment_while_it_goes_goes_also_when_the_process_ends_then() {
    let acme = Acme::new().await;
    let race = acme.race_for(acme.shop.key().unwrap()).await;
    let ended = allowed_while_it_goes(&acme, &race, 1).await;
    assert!(matches!(ended, Err(AppError::Unavailable)), "{ended:?}");
    assert_eq!(acme.with("binding/").await.len(), 1);
    acme.site.tidy().await;
    assert_eq!(acme.with(acme.shop.id.as_str()).await, Vec::<String>::new());
}
