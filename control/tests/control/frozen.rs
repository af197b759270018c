//! A process that does not see what is stored says so, holds nothing up, and goes on when it sees again.

use std::{
    fs,
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use weft_control::{
    App, AppError,
    app::{Report, STORE_AWAY_MAX},
    background::Background,
    serve,
};
use weft_control_api::v1::{self, organisations_client::OrganisationsClient};
use weft_model::{
    Record,
    access::Actor,
    format::FORMAT,
    record::{Environment, Format, Heartbeat, OrganisationName},
};
use weft_store::{Entry, Key, SqliteOptions, Store, StoreOptions, Transaction, open};

use crate::{
    held::Held,
    site::{Site, next, said, with},
};

/// Longer than somebody waits who is told at once, and shorter than who waits for what does not come.
const SOON: Duration = Duration::from_secs(4);
/// Something ends that would go on for ever, or for minutes.
const END: Duration = Duration::from_secs(20);
const UNSEEN: &str =
    "the change was made, but this process does not see it yet: look before you ask again";
const BEHIND: &str = "this process does not see what was changed last; nothing was changed";

fn make(name: &str) -> v1::CreateOrganisationRequest {
    let owner_email = format!("owner@{name}.example");
    v1::CreateOrganisationRequest { name: name.to_owned(), owner_email }
}

/// A site in whose store a later release has written an environment.
async fn damaged() -> (Site, Entry) {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await.id;
    let at = Environment::key_at(&shop).unwrap();
    let before = site.store.get(&at).await.unwrap().unwrap();
    let text = String::from_utf8(before.value.to_vec()).unwrap();
    let later = text.replacen('{', r#"{"colour":"red","#, 1);
    (site, Entry { value: later.into(), ..before })
}

async fn put(site: &Site, entry: &Entry) {
    let written = Transaction::new().put(entry.key.clone(), entry.value.clone());
    site.store.commit(written).await.unwrap();
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap();
}

async fn has_turn(app: &App) -> bool {
    app.turn_holder().await.unwrap().is_some()
}

#[tokio::test]
async fn a_record_that_cannot_be_read_holds_nothing_up_and_is_named() {
    let (site, later) = damaged().await;
    let before = site.store.get(&later.key).await.unwrap().unwrap();
    let channel = site.connect(None).await;
    let watch = HealthCheckRequest { service: String::new() };
    let mut health = HealthClient::new(channel.clone()).watch(watch).await.unwrap().into_inner();
    assert_eq!(next(&mut health).await.unwrap().status(), ServingStatus::Serving);
    let mut agent = site.agent(&site.enrol("host-b").await).await;
    let listen = || v1::WatchRequest { revision: 0 };
    let mut told = agent.watch(listen()).await.unwrap().into_inner();
    next(&mut told).await.unwrap();
    let background = Background::start(Arc::clone(&site.app));
    until(async || has_turn(&site.app).await).await;

    put(&site, &later).await;
    assert_eq!(next(&mut health).await.unwrap().status(), ServingStatus::NotServing);
    let why = site.app.trouble().borrow().clone().unwrap();
    assert!(why.starts_with(&format!("{} cannot be read", later.key)), "{why}");
    assert!(!why.contains("colour") && !why.contains("red"), "{why}");
    // Another process may do what this one does not.
    until(async || !has_turn(&site.app).await).await;

    // What is done is done, and said to be.
    let begin = Instant::now();
    let mut organisations = OrganisationsClient::new(channel.clone());
    let made = organisations.create_organisation(with(make("other"), &site.operator)).await;
    assert_eq!(said(made), (Code::Unknown, UNSEEN.to_owned()));
    let at = OrganisationName::key_at("other").unwrap();
    assert!(site.store.get(&at).await.unwrap().is_some());
    // Hosts are heard of, whatever is seen.
    let host = site.caller(Actor::Host("host-a".parse().unwrap()));
    site.app.report(&host, Report::default()).await.unwrap();
    site.app.keep_heartbeats().await.unwrap();
    assert!(site.store.get(&Heartbeat::key_at("host-a").unwrap()).await.unwrap().is_some());
    let turn = site.turn(&site.app).await;
    site.app.keep_time(&turn).await.unwrap();
    site.app.look_for_lost(&turn).await.unwrap();
    site.app.end_turn(turn).await.unwrap();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let log = fs::read_to_string(site.audit.own().join("0000000001.jsonl")).unwrap();
    let last = log.lines().rfind(|line| line.contains("organisations.create-organisation"));
    assert!(last.unwrap().contains("done"), "{last:?}");

    // Hosts go to whoever sees more.
    let ended = timeout(Duration::from_secs(30), told.message()).await.unwrap();
    assert_eq!(said(ended), (Code::Unavailable, BEHIND.to_owned()));
    let again = agent.watch(listen()).await;
    assert_eq!(said(again.map(drop)), (Code::Unavailable, BEHIND.to_owned()));

    // One that begins says why it does not.
    let store = Arc::clone(&site.store) as Arc<dyn Store>;
    let refused = timeout(END, site.start_process(store)).await.unwrap().err().unwrap();
    let refused = format!("{refused:#}");
    assert!(refused.contains(&format!("{} cannot be read", later.key)), "{refused}");

    put(&site, &before).await;
    let serving = timeout(Duration::from_secs(60), next(&mut health)).await.unwrap();
    assert_eq!(serving.unwrap().status(), ServingStatus::Serving);
    until(async || has_turn(&site.app).await).await;
    organisations.create_organisation(with(make("third"), &site.operator)).await.unwrap();
    background.stop().await;
}

#[tokio::test]
async fn who_is_told_nothing_by_the_store_waits_once_and_goes_on() {
    let site = Site::start().await;
    let key = Key::new("turn/background").unwrap();
    let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, key);
    let late = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
    let operator = site.caller(late.actor_of(&site.operator).await.unwrap());
    held.hear(false);
    let made =
        late.create_organisation(&operator, &"acme".parse().unwrap(), "owner@acme.example").await;
    assert!(matches!(made, Err(AppError::Unseen)), "{made:?}");
    // It is known by now.
    let other = "other".parse().unwrap();
    let again = late.create_organisation(&operator, &other, "owner@other.example");
    let again = timeout(SOON, again).await.unwrap();
    assert!(matches!(again, Err(AppError::Unseen)), "{again:?}");
    assert!(late.view().trouble().borrow().is_some());
    held.hear(true);
    until(async || late.view().trouble().borrow().is_none()).await;
    late.create_organisation(&operator, &"third".parse().unwrap(), "owner@third.example")
        .await
        .unwrap();
}

async fn raise(store: &dyn Store) {
    let later = Format { format: FORMAT + 1 };
    let raised = Transaction::new().put(later.key().unwrap(), later.encode().unwrap());
    store.commit(raised).await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_later_release_is_refused_and_left_at_once() {
    let site = Site::start().await;
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("control.db").display());
    let options = StoreOptions { sqlite: SqliteOptions::default(), ..StoreOptions::default() };
    let on_disk = open(&url.parse().unwrap(), &options).await.unwrap();
    for entry in site.store.list("installation/", None, 10).await.unwrap().entries {
        on_disk.commit(Transaction::new().put(entry.key, entry.value)).await.unwrap();
    }
    for store in [Arc::clone(&site.store) as Arc<dyn Store>, on_disk] {
        let process = site.process_over(Arc::clone(&store)).await;
        let written = store.get(&Format::key_at("this").unwrap()).await.unwrap().unwrap();
        assert_eq!(Format::decode(&written).unwrap().record.format, FORMAT);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = tokio::spawn(async move {
            let names = ["control.example".parse().unwrap()];
            serve::serve(listener, process, &names, pending()).await
        });
        raise(&*store).await;
        let ended = timeout(END, serving).await.unwrap().unwrap().unwrap_err().to_string();
        let refused = site.start_process(store).await.err().unwrap().to_string();
        for why in [ended, refused] {
            assert!(why.starts_with(&format!("the store has format {}", FORMAT + 1)), "{why}");
        }
    }
}

#[tokio::test]
async fn a_process_is_not_to_be_asked_while_its_store_is_away() {
    let site = Site::start().await;
    let mut trouble = site.app.trouble();
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    site.store.set_unavailable(true);
    let why = trouble.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(why.contains("the store does not answer"), "{why}");
    assert!(begin.elapsed() >= STORE_AWAY_MAX - Duration::from_secs(5), "{:?}", begin.elapsed());
    site.store.set_unavailable(false);
    trouble.wait_for(Option::is_none).await.unwrap();
}

#[tokio::test]
async fn a_process_is_not_to_be_asked_while_its_audit_takes_nothing() {
    let site = Site::start_replicated().await;
    let replica = site.audit.replica.clone().unwrap().join("control");
    let away = replica.with_extension("away");
    fs::rename(&replica, &away).unwrap();
    fs::write(&replica, "").unwrap();
    let mut trouble = site.app.trouble();
    let mut organisations = OrganisationsClient::new(site.connect(None).await);
    let made = organisations.create_organisation(with(make("acme"), &site.operator)).await;
    assert_eq!(said(made).0, Code::Unavailable);
    let wait = Duration::from_secs(30);
    let why = timeout(wait, trouble.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    assert!(why.unwrap().contains("second host"));
    fs::remove_file(&replica).unwrap();
    fs::rename(&away, &replica).unwrap();
    // Nobody calls a process that is not to be asked: it looks for itself.
    timeout(wait, trouble.wait_for(Option::is_none)).await.unwrap().unwrap();
    organisations.create_organisation(with(make("acme"), &site.operator)).await.unwrap();
}
