//! What the agent decides by itself.

use std::{fs, path::Path, process::Command, thread};

use tempfile::TempDir;
use tonic::{Code, Status, transport::Endpoint};
use weft_control_api::v1::{self, host_agent_client::HostAgentClient, host_update, removed};
use weft_model::liveness::{HEARTBEAT_GRAIN, KEEP_INTERVAL, LOST_AFTER, REPORT_INTERVAL};
use weft_types::{AttachmentName, EnvironmentId};

use super::{
    session::{Live, SessionError, UNHEARD_MAX},
    *,
};
use crate::{
    connection::{CONNECT_MAX, SILENCE_MAX},
    documents::tests::{answer, attachment, environment},
    enrol::EnrolError,
    seal::Seal,
    state::Release,
};

fn agent() -> (Agent, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (agent_in(folder.path()), folder)
}

/// Of a daemon that begins with what is kept there.
fn agent_in(folder: &Path) -> Agent {
    let state = State::new(folder, Seal::beside(&State::key_file(folder)).unwrap());
    let settings = Settings {
        url: "https://192.0.2.9:7443".parse().unwrap(),
        lookup: Lookup::Name,
        join_token: None,
        host: "host-a".parse().unwrap(),
        endpoints: vec!["192.0.2.1:5820".parse().unwrap()],
        version: "0.1.0".to_owned(),
    };
    Agent::open(settings, state).unwrap()
}

fn live() -> Live {
    let channel = Endpoint::from_static("http://192.0.2.9:7443").connect_lazy();
    Live::new(HostAgentClient::new(channel), SystemTime::now() + GOOD_AFTER)
}

fn acme() -> EnvironmentId {
    "acme".parse().unwrap()
}

fn web() -> AttachmentName {
    "web".parse().unwrap()
}

fn wanted() -> NewAttachment {
    NewAttachment {
        environment: acme(),
        name: web(),
        netns: "/run/netns/web".into(),
        interface: "weft0".to_owned(),
        addresses: Vec::new(),
    }
}

/// A process that hears a host may stop just before it writes that down, and the next one writes after a while.
#[test]
fn a_host_whose_process_stops_is_heard_by_another_before_it_is_lost() {
    let record = HEARTBEAT_GRAIN + REPORT_INTERVAL + KEEP_INTERVAL;
    let noticed = SILENCE_MAX.max(UNHEARD_MAX);
    let pause = CALL_PAUSE.0 * 2;
    assert!(record + noticed + pause + CONNECT_MAX + KEEP_INTERVAL <= LOST_AFTER);
}

/// What is shown beside the present identity is for a control plane that does not know it, and for no other trouble.
#[test]
fn only_who_is_unknown_goes_on_to_another_identity() {
    for code in (0..=16).map(Code::from) {
        let error = SessionError::from(Status::new(code, "no"));
        let is_unknown = matches!(error, SessionError::NotAccepted);
        assert_eq!(is_unknown, code == Code::Unauthenticated, "{code:?}");
    }
}

/// A token that was refused is refused again; one that was not answered is shown again.
#[test]
fn a_token_is_spent_by_an_answer_that_stays_the_same() {
    for code in (0..=16).map(Code::from) {
        let error = EnrolError::from(Status::new(code, "no"));
        let may_change = matches!(
            code,
            Code::Ok
                | Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        assert_eq!(matches!(error, EnrolError::Unanswered(_)), may_change, "{code:?}");
    }
}

/// Otherwise nobody gives back what is granted next, if that answer is lost.
#[tokio::test]
async fn what_has_ended_is_not_there_whether_or_not_it_is_heard_that_it_is_gone() {
    let (mut agent, _folder) = agent();
    let mut live = live();
    live.granted_late = Instant::now() + GOOD_AFTER;
    agent
        .documents
        .take(answer(1, vec![environment("acme"), attachment("acme", "web", "10.40.0.2")]));
    assert_eq!(agent.may_ask(&wanted(), &mut live).await, Ok(false), "it is there");
    let release = Release { environment: acme(), name: web(), generation: 1 };
    agent.bindings.releases.push(release.clone());
    assert!(agent.released(&release, &Ok(())).await);
    assert_eq!(agent.may_ask(&wanted(), &mut live).await, Ok(true));
    // What it was before is not given back in place of what is asked for now.
    agent.give_back_unanswered(&mut live).await;
    assert_eq!((agent.bindings.releases.len(), agent.bindings.asked.len()), (0, 1));
    let next = v1::DesiredAttachment {
        environment: "acme".to_owned(),
        name: "web".to_owned(),
        addresses: vec!["10.40.0.2".to_owned()],
        generation: 2,
        ..Default::default()
    };
    agent.documents.take(answer(2, vec![host_update::Update::Attachment(next)]));
    agent.give_back_unanswered(&mut live).await;
    let [release] = &agent.bindings.releases[..] else { panic!("{:?}", agent.bindings) };
    assert_eq!(release.generation, 2);
}

#[tokio::test]
async fn what_has_ended_is_not_there_for_the_next_daemon_either() {
    let (mut agent, folder) = agent();
    let known = || answer(1, vec![environment("acme"), attachment("acme", "web", "10.40.0.2")]);
    agent.documents.take(known());
    let release = Release { environment: acme(), name: web(), generation: 1 };
    assert!(agent.released(&release, &Ok(())).await);
    drop(agent);
    let mut next = agent_in(folder.path());
    next.documents.take(known());
    let mut live = live();
    assert_eq!(next.may_ask(&wanted(), &mut live).await, Ok(true));
}

#[tokio::test]
async fn what_has_ended_is_forgotten_when_it_is_heard_that_it_is_gone() {
    let (mut agent, _folder) = agent();
    agent
        .documents
        .take(answer(1, vec![environment("acme"), attachment("acme", "web", "10.40.0.2")]));
    let release = Release { environment: acme(), name: web(), generation: 1 };
    assert!(agent.released(&release, &Ok(())).await);
    assert_eq!(agent.bindings.ended.len(), 1);
    let what = Some(removed::What::Attachment("web".to_owned()));
    let gone = v1::Removed { environment: "acme".to_owned(), what };
    agent.documents.take(answer(2, vec![host_update::Update::Removed(gone)]));
    assert!(agent.forget_ended());
    assert_eq!(agent.bindings.ended, []);
    // Of what is not there nothing is to be heard.
    assert!(agent.released(&release, &Ok(())).await);
    assert_eq!(agent.bindings.ended, []);
}

/// What writes into a pipe waits until somebody reads, as for a slow disk.
#[tokio::test]
async fn a_slow_disk_holds_up_nobody_else() {
    let (mut agent, folder) = agent();
    let slow = folder.path().join("bindings.new");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        fs::read(slow).unwrap()
    });
    let began = Instant::now();
    let others = async {
        sleep(Duration::from_millis(20)).await;
        began.elapsed()
    };
    let (kept, others) = tokio::join!(agent.keep_bindings(), others);
    assert!(others < Duration::from_millis(500), "{others:?}");
    // No pipe is on any disk.
    assert!(matches!(kept, Err(StateError::File { .. })), "{kept:?}");
    assert!(!reading.join().unwrap().is_empty());
}
