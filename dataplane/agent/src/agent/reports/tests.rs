//! What is told, how much of it at a time, and what is not told again.

use super::*;
use crate::documents::tests::{answer, attachment, environment};

fn documents(environments: &[&str], attachments: &[(&str, &str)]) -> Documents {
    let mut documents = Documents::default();
    let known = environments.iter().map(|id| environment(id));
    let wanted = attachments.iter().map(|(id, name)| attachment(id, name, "10.40.0.2"));
    documents.take(answer(3, known.chain(wanted).collect()));
    documents
}

fn web(is_up: bool, error: &str) -> ActualAttachment {
    ActualAttachment {
        environment: "acme".parse().unwrap(),
        name: "web".parse().unwrap(),
        is_up,
        error: error.to_owned(),
    }
}

fn peer(environment: &str, host: &str, key_age: Option<Duration>) -> ActualPeer {
    ActualPeer {
        environment: environment.parse().unwrap(),
        host: host.parse().unwrap(),
        is_established: key_age.is_some(),
        key_age,
        error: String::new(),
    }
}

/// Tells it to a control plane that hears it.
fn tell(
    reports: &mut Reports,
    actual: Actual,
    documents: &Documents,
    now: Instant,
) -> v1::ReportRequest {
    let told = reports.take(&actual, documents, 3, "0.1.0", now);
    assert!(!reports.is_due(now + PAUSE.1), "it runs");
    reports.done(Duration::from_secs(10), false, now);
    told
}

#[test]
fn everything_is_told_once_and_then_what_changes() {
    let (now, documents) = (Instant::now(), documents(&["acme"], &[("acme", "web")]));
    let mut reports = Reports::new(now);
    let told = |reports: &mut Reports, attachments, peers| {
        let told = tell(reports, Actual { attachments, peers }, &documents, now);
        (told.attachments.len(), told.peers.len(), told.without_peers.len())
    };
    let age = Some(Duration::from_secs(1));
    let down = || vec![peer("acme", "host-b", None)];
    let up = |age| vec![peer("acme", "host-b", age)];
    let failed = || vec![web(false, "it is gone")];
    assert_eq!(told(&mut reports, failed(), down()), (1, 1, 0));
    assert!(!reports.is_due(now + Duration::from_secs(9)));
    assert!(reports.is_due(now + Duration::from_secs(10)));
    assert_eq!(told(&mut reports, failed(), down()), (0, 0, 0));
    assert_eq!(told(&mut reports, vec![web(true, "")], down()), (1, 0, 0));
    assert_eq!(told(&mut reports, vec![web(true, "")], up(age)), (0, 1, 0));
    assert_eq!(told(&mut reports, vec![web(true, "")], up(age.map(|a| a * 2))), (0, 0, 0));
    assert_eq!(told(&mut reports, vec![web(true, "")], Vec::new()), (0, 0, 1), "nobody is left");
    assert_eq!(told(&mut reports, vec![web(true, "")], Vec::new()), (0, 0, 0));
    reports.fail(now);
    assert!(!reports.is_due(now) && reports.is_due(now + AGAIN));
    assert_eq!(told(&mut reports, vec![web(true, "")], up(age)), (1, 1, 0));
    // The control plane has not kept all of it.
    reports.done(Duration::from_secs(10), true, now);
    assert!(!reports.is_due(now) && reports.is_due(now + Duration::from_secs(10)));
    assert_eq!(told(&mut reports, vec![web(true, "")], up(age)), (1, 1, 0));
}

#[test]
fn how_an_interface_is_is_told_of_all_that_is_to_be_here_and_of_nothing_else() {
    let now = Instant::now();
    let known = documents(&["acme"], &[("acme", "web")]);
    for (attachments, interface, error) in [
        (vec![], v1::InterfaceState::Pending, ""),
        (vec![web(false, "")], v1::InterfaceState::Pending, ""),
        (vec![web(true, "")], v1::InterfaceState::Up, ""),
        (vec![web(false, "no such namespace")], v1::InterfaceState::Failed, "no such namespace"),
    ] {
        let actual = Actual { attachments, peers: Vec::new() };
        let told = tell(&mut Reports::new(now), actual.clone(), &known, now);
        let [web] = &told.attachments[..] else { panic!("{told:?}") };
        assert_eq!((web.interface(), web.error.as_str(), web.generation), (interface, error, 1));
        assert_eq!(web.health(), v1::HealthState::Unspecified);
        let told = tell(&mut Reports::new(now), actual, &documents(&["acme"], &[]), now);
        assert_eq!(told.attachments, []);
    }
}

#[test]
fn what_was_not_there_yet_is_told_soon_when_it_is() {
    let (now, known) = (Instant::now(), documents(&["acme"], &[("acme", "web")]));
    let mut reports = Reports::new(now);
    let second = Duration::from_secs(1);
    let is_soon = |reports: &mut Reports, web, at| {
        tell(reports, Actual { attachments: vec![web], peers: Vec::new() }, &known, at);
        reports.is_due(at + second)
    };
    assert!(is_soon(&mut reports, web(false, ""), now));
    assert!(is_soon(&mut reports, web(false, ""), now + HURRY - second));
    assert!(!is_soon(&mut reports, web(false, ""), now + HURRY), "not for ever");
    // Its container has come.
    let now = now + HURRY + second;
    reports.soon(now);
    assert!(!reports.is_due(now) && reports.is_due(now + second));
    assert!(is_soon(&mut reports, web(false, ""), now + second), "it is being made");
    assert!(!is_soon(&mut reports, web(true, ""), now + second));
    // Also while a report is on its way.
    let actual = Actual { attachments: vec![web(true, "")], peers: Vec::new() };
    reports.take(&actual, &known, 3, "0.1.0", now);
    reports.soon(now);
    reports.done(second * 10, false, now);
    assert!(reports.is_due(now + second));
}

#[test]
fn all_peers_of_an_environment_are_told_when_one_changes_and_how_old_keys_are_now_and_then() {
    let (now, known) = (Instant::now(), documents(&["acme", "globex"], &[]));
    let mut reports = Reports::new(now);
    let age = Some(Duration::from_secs(1));
    let peers = |age| {
        let b = peer("acme", "host-b", Some(Duration::from_secs(1)));
        vec![b, peer("acme", "host-c", age), peer("globex", "host-b", None)]
    };
    let told = |reports: &mut Reports, age, at| {
        let actual = Actual { attachments: Vec::new(), peers: peers(age) };
        let told = tell(reports, actual, &known, at);
        let of = told.peers.iter().map(|peer| format!("{}/{}", peer.environment, peer.host));
        of.collect::<Vec<_>>()
    };
    let all = ["acme/host-b", "acme/host-c", "globex/host-b"];
    assert_eq!(told(&mut reports, None, now), all);
    assert_eq!(told(&mut reports, age, now), all[..2]);
    let later = now + KEYS_AGAIN;
    assert_eq!(told(&mut reports, age, later - Duration::from_secs(1)), [""; 0]);
    assert_eq!(told(&mut reports, age, later), all);
    // What is not to be known here is not told.
    let foreign = vec![peer("initech", "host-b", age)];
    let actual = Actual { attachments: Vec::new(), peers: foreign };
    assert_eq!(tell(&mut Reports::new(now), actual, &known, now).peers, []);
}

#[test]
fn what_is_too_much_for_one_report_is_told_in_the_next() {
    let now = Instant::now();
    let names: Vec<String> = (0..=ATTACHMENTS_MAX).map(|n| format!("web-{n}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| ("acme", name.as_str())).collect();
    let known = documents(&["acme", "globex", "initech"], &wanted);
    let many = |environment: &'static str, len: usize| {
        (0..len).map(move |n| peer(environment, &format!("host-{n}"), None))
    };
    let peers = many("acme", PEERS_MAX - 1).chain(many("globex", 2)).chain(many("initech", 1));
    let there =
        names.iter().map(|name| ActualAttachment { name: name.parse().unwrap(), ..web(true, "") });
    let actual = Actual { attachments: there.collect(), peers: peers.collect() };
    let mut reports = Reports::new(now);
    let mut told = || {
        let told = tell(&mut reports, actual.clone(), &known, now);
        let is_soon = reports.is_due(now + PAUSE.0);
        (told.attachments.len(), told.peers.len(), is_soon)
    };
    assert_eq!(told(), (ATTACHMENTS_MAX, PEERS_MAX, true));
    assert_eq!(told(), (1, 2, false));
    assert_eq!(told(), (0, 0, false));
    // Of an environment that is larger, those without a session.
    let up = Some(Duration::from_secs(1));
    let peers = (0..PEERS_MAX).map(|n| peer("acme", &format!("host-{n}"), up));
    let peers = peers.chain([peer("acme", "host-z", None)]).collect();
    let told = tell(&mut Reports::new(now), Actual { attachments: Vec::new(), peers }, &known, now);
    assert_eq!(told.peers.len(), PEERS_MAX);
    assert!(told.peers.iter().any(|peer| peer.host == "host-z"));
}

#[test]
fn errors_are_no_longer_than_may_be_told() {
    assert_eq!(short(&"x".repeat(ERROR_LEN_MAX)), "x".repeat(ERROR_LEN_MAX));
    let short = short(&"é".repeat(ERROR_LEN_MAX));
    assert!(short.len() <= ERROR_LEN_MAX && short.ends_with("é..."), "{short}");
}

/// Otherwise the control plane does not hear this host at all.
#[test]
fn no_more_is_told_than_is_heard() {
    use weft_model::reports;
    let told = [ATTACHMENTS_MAX, PEERS_MAX, PEERS_MAX, ERROR_LEN_MAX];
    let heard = [
        reports::ATTACHMENTS_MAX,
        reports::PEERS_MAX,
        reports::ENVIRONMENTS_MAX,
        reports::ERROR_LEN_MAX,
    ];
    assert!(told.iter().zip(heard).all(|(told, heard)| *told <= heard));
}

#[test]
fn the_pause_has_bounds() {
    let now = Instant::now();
    let mut reports = Reports::new(now);
    reports.done(Duration::ZERO, false, now);
    assert!(!reports.is_due(now) && reports.is_due(now + PAUSE.0));
    reports.done(Duration::MAX, false, now);
    assert!(reports.is_due(now + PAUSE.1));
}
