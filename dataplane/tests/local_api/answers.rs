//! What the daemon says about itself and what it does when asked.

use std::time::Duration;

use nix::sys::signal::Signal;
use tonic::{Code, Streaming};
use weft_api::v1::{
    AddPeerRequest, AttachRequest, AttachmentState, DetachRequest, Event, EventKind,
    RemovePeerRequest, SessionRole, SessionState, SetRoutesRequest, StatusRequest,
};
use weft_sys::netns::Netns;

use crate::daemon::{
    Daemon, ENVIRONMENTS, LIMIT, Lab, interfaces, path_of, status_of, wait_until, watch_of,
};

pub(crate) fn attach_request(netns: &Netns, address: &str) -> AttachRequest {
    AttachRequest {
        environment: "acme".into(),
        name: "web-1".into(),
        netns: path_of(netns),
        interface: String::new(),
        addresses: vec![address.into()],
        share: None,
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> Code {
    let status = result.unwrap_err();
    assert!(status.message().len() > 10, "a refusal without words: {status:?}");
    status.code()
}

/// Reads until an event of this kind.
async fn wait_for_event(events: &mut Streaming<Event>, kind: EventKind) -> Event {
    let wanted = async {
        loop {
            let event = events.message().await.unwrap().expect("the stream ended");
            if event.kind() == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(LIMIT, wanted).await.unwrap_or_else(|_| panic!("no event {kind:?}"))
}

#[tokio::test]
async fn a_namespace_is_attached_watched_and_detached() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let daemon = lab.start(1);
    let container = Netns::create().unwrap();
    let mut client = daemon.client().await;
    assert_eq!(code(client.watch_events(watch_of("nowhere")).await), Code::NotFound);
    assert_eq!(code(client.watch_events(watch_of("No Name")).await), Code::InvalidArgument);
    let mut all = client.watch_events(watch_of("")).await.unwrap().into_inner();
    let mut globex = client.watch_events(watch_of("globex")).await.unwrap().into_inner();

    let request = attach_request(&container, "10.40.0.9");
    let refused = client.attach(request.clone()).await;
    assert_eq!(code(refused), Code::FailedPrecondition, "nobody has said that it is meant");
    daemon.register(&request.name, &container);
    let made = client.attach(request.clone()).await.unwrap().into_inner();
    assert!(made.created);
    assert_eq!(interfaces(&container), ["lo", "weft0"]);
    let again = client.attach(request.clone()).await.unwrap().into_inner();
    assert!(!again.created);
    let event = wait_for_event(&mut all, EventKind::Attached).await;
    assert_eq!((event.environment.as_str(), event.attachment.as_str()), ("acme", "web-1"));
    assert!(event.time_ms > 1_700_000_000_000 && event.missed == 0);

    type Change = fn(&mut AttachRequest);
    let refusals: [(Change, Code); 7] = [
        (|r| r.addresses = vec!["10.40.0.10".into()], Code::AlreadyExists),
        (|r| r.name = "web-2".into(), Code::AlreadyExists),
        (|r| r.environment = "nowhere".into(), Code::NotFound),
        (|r| r.addresses.clear(), Code::AlreadyExists),
        (
            |r| (r.name, r.addresses) = ("web-2".into(), vec!["10.41.0.1".into()]),
            Code::InvalidArgument,
        ),
        (|r| r.netns = "relative".into(), Code::InvalidArgument),
        (
            |r| {
                (r.name, r.netns) = ("web-2".into(), "/etc/hostname".into());
                r.addresses = vec!["10.40.0.10".into()];
            },
            Code::FailedPrecondition,
        ),
    ];
    for (i, (change, expected)) in refusals.into_iter().enumerate() {
        let mut request = request.clone();
        change(&mut request);
        assert_eq!(code(client.attach(request).await), expected, "case {i}");
    }

    let detach = DetachRequest { environment: "acme".into(), name: "web-1".into() };
    client.detach(detach.clone()).await.unwrap();
    assert_eq!(interfaces(&container), ["lo"]);
    assert_eq!(code(client.detach(detach).await), Code::NotFound);
    wait_for_event(&mut all, EventKind::Detached).await;

    // What is attached when it stops is gone afterwards.
    daemon.register(&request.name, &container);
    client.attach(request).await.unwrap();
    daemon.stop();
    assert_eq!(interfaces(&container), ["lo"]);
    assert_eq!(interfaces(&lab.netns), ["lo"]);
    wait_for_event(&mut all, EventKind::Stopping).await;
    // Nothing of acme, nothing of the daemon itself.
    while let Ok(Some(event)) = globex.message().await {
        assert_eq!(event.environment, "globex", "{event:?}");
    }
}

#[tokio::test]
async fn status_and_metrics_tell_the_same() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let daemon = lab.start(1);
    let container = Netns::create().unwrap();
    let request = attach_request(&container, "10.40.0.9");
    daemon.register(&request.name, &container);
    daemon.client().await.attach(request).await.unwrap();

    let status = status_of(&daemon).await;
    assert_eq!((status.host.as_str(), status.listen.as_str()), ("host-1", "127.0.0.1:5820"));
    assert_eq!((status.engine.as_str(), status.pid), ("epoll", daemon.pid()));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(status.resident_bytes > 1 << 20);
    assert_eq!(status.sampled_at_ms, status.uptime_ms);
    assert_eq!(status.workers.len(), 2);
    assert!((5821..=6332).contains(&status.workers[1].lane_port));
    assert_eq!(status.workers[1].worker, 1);
    let ids: Vec<_> = status.environments.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ENVIRONMENTS);
    let acme = &status.environments[0];
    assert_eq!(acme.subnets, ["10.40.0.0/16"]);
    assert!(acme.certificate_expires_ms > 1_700_000_000_000);
    let web = &acme.attachments[0];
    assert_eq!((web.name.as_str(), web.interface.as_str()), ("web-1", "weft0"));
    assert_eq!((web.netns.clone(), web.state()), (path_of(&container), AttachmentState::Up));
    assert_eq!((web.addresses.clone(), web.last_error.as_str()), (vec!["10.40.0.9".into()], ""));
    let only = StatusRequest { environment: "globex".into() };
    let only = daemon.client().await.status(only).await.unwrap().into_inner();
    assert_eq!(only.environments.len(), 1);
    let unknown = StatusRequest { environment: "nowhere".into() };
    assert_eq!(code(daemon.client().await.status(unknown).await), Code::NotFound);

    let (head, body) = lab.http(1, "GET", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    for line in [
        r#"weft_attachment_up{environment="acme",attachment="web-1"} 1"#,
        r#"weft_environment_drops_total{environment="globex",cause="replay"} 0"#,
        r#"weft_worker_gso_enabled{worker="1"} 1"#,
        "# TYPE weft_peer_handshake_seconds summary",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} is not in\n{body}");
    }
    assert!(lab.http(1, "GET", "/").0.starts_with("HTTP/1.1 404 "));
    assert!(lab.http(1, "POST", "/metrics").0.starts_with("HTTP/1.1 405 "));
    daemon.stop();
}

#[tokio::test]
async fn peers_come_and_go() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let daemon = lab.start(1);
    let mut client = daemon.client().await;
    let mut events = client.watch_events(watch_of("acme")).await.unwrap().into_inner();
    let peer = AddPeerRequest {
        environment: "acme".into(),
        host: "host-2".into(),
        // Nobody is there.
        endpoint: "127.0.0.2:5820".into(),
        addresses: vec!["10.40.0.3".into()],
        keepalive_seconds: 0,
        alternative_endpoints: vec![],
    };
    assert!(client.add_peer(peer.clone()).await.unwrap().into_inner().created);
    assert!(!client.add_peer(peer.clone()).await.unwrap().into_inner().created);
    for (host, endpoint, expected) in [
        ("host-1", "127.0.0.2:5820", Code::InvalidArgument),
        ("host-3", "127.0.0.3", Code::InvalidArgument),
        ("host-3", "127.0.0.3:5820", Code::AlreadyExists),
    ] {
        let (host, endpoint) = (host.into(), endpoint.into());
        let request = AddPeerRequest { host, endpoint, ..peer.clone() };
        assert_eq!(code(client.add_peer(request).await), expected);
    }
    let failed = wait_for_event(&mut events, EventKind::HandshakeFailed).await;
    assert_eq!(failed.host, "host-2");
    let routes = |host: &str, address: &str| SetRoutesRequest {
        environment: "acme".into(),
        host: host.into(),
        addresses: vec![address.into()],
    };
    client.set_routes(routes("host-2", "10.40.0.4")).await.unwrap();
    assert_eq!(code(client.set_routes(routes("host-3", "10.40.0.5")).await), Code::NotFound);
    let status = status_of(&daemon).await;
    let [peer] = status.environments[0].peers.as_slice() else { panic!("{status:?}") };
    assert_eq!(peer.addresses, ["10.40.0.4"]);
    assert!(peer.handshakes_failed > 0 && !peer.last_error.is_empty(), "{peer:?}");
    assert_eq!((peer.role(), peer.session_age_ms), (SessionRole::Unspecified, None));
    let (_, body) = lab.http(1, "GET", "/metrics");
    let failures = "weft_peer_handshakes_failed_total{environment=\"acme\",peer=\"host-2\",cause=";
    assert!(body.contains(failures), "{body}");

    let remove = RemovePeerRequest { environment: "acme".into(), host: "host-2".into() };
    client.remove_peer(remove.clone()).await.unwrap();
    assert_eq!(code(client.remove_peer(remove).await), Code::NotFound);
    wait_for_event(&mut events, EventKind::PeerRemoved).await;
    daemon.stop();
}

#[tokio::test]
async fn a_session_is_told_on_both_sides() {
    let lab = Lab::new();
    lab.configure(1, 2);
    lab.configure(2, 2);
    let daemons = [lab.start(1), lab.start(2)];
    let peer_of =
        async |daemon: &Daemon| status_of(daemon).await.environments.remove(0).peers.remove(0);
    let agreed = async {
        loop {
            let peers = [peer_of(&daemons[0]).await, peer_of(&daemons[1]).await];
            // Both began a handshake: until one session is left they may each use another.
            let mut roles = [peers[0].role(), peers[1].role()];
            roles.sort_unstable();
            if roles == [SessionRole::Client, SessionRole::Server] {
                return peers;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let peers = tokio::time::timeout(LIMIT, agreed).await.unwrap();
    for (number, peer) in (1..).zip(peers) {
        assert_eq!(peer.state(), SessionState::Established);
        assert!(peer.handshakes_ok > 0 && peer.epoch.is_some() && peer.session_age_ms.is_some());
        let (_, body) = lab.http(number, "GET", "/metrics");
        let other = format!("{{environment=\"acme\",peer=\"host-{}\"}}", 3 - number);
        assert!(body.contains(&format!("weft_peer_session_up{other} 1\n")), "{body}");
        assert!(body.contains(&format!("weft_peer_epoch{other} ")), "{body}");
    }
    daemons.into_iter().for_each(Daemon::stop);
}

#[tokio::test]
async fn a_reload_is_told_and_a_wrong_one_changes_nothing() {
    let lab = Lab::new();
    let file = lab.configure(1, 1);
    let daemon = lab.start(1);
    let mut events = daemon.client().await.watch_events(watch_of("")).await.unwrap().into_inner();
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "host = 7\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("an error in the log", || lab.log(1).contains("configuration not reloaded"));
    let refused = wait_for_event(&mut events, EventKind::ReloadFailed).await;
    assert!(refused.message.contains("host"), "{refused:?}");
    std::fs::write(&file, good.split("[[environment]]\nid = \"globex\"").next().unwrap()).unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_for_event(&mut events, EventKind::Reloaded).await;
    let ids: Vec<_> = status_of(&daemon).await.environments.into_iter().map(|e| e.id).collect();
    assert_eq!(ids, ["acme"]);
    daemon.stop();
}
