use std::{collections::BTreeSet, time::Duration};

use weft_config::Share;
use weft_proto::{
    keys::Role,
    policy::{Hits, Verdict},
};

use super::*;
use crate::metrics::text::Labels;
use crate::node::{AttachSpec, GatewayStatus, PeerSpec, Traffic};
use crate::worker::EngineKind;

/// One sample as a reader of the format sees it.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A strict reader of the format: every sample has to follow the `HELP` and `TYPE` of its metric.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let mut samples = Vec::new();
    let mut seen = BTreeSet::new();
    let (mut name, mut kind) = ("", "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let words;
            (name, words) = help.split_once(' ').unwrap();
            assert!(words.ends_with('.') && !words.contains('\n'), "{line}");
            assert!(seen.insert(name), "{name} twice");
            let about = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            kind = about.strip_prefix(name).unwrap().trim_start();
            assert!(["counter", "gauge", "summary"].contains(&kind), "{about}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            continue;
        }
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (sample, labels) = match head.split_once('{') {
            Some((sample, labels)) => (sample, labels.strip_suffix('}').unwrap()),
            None => (head, ""),
        };
        let suffix = sample.strip_prefix(name).unwrap();
        assert!(if kind == "summary" { ["_sum", "_count"] } else { ["", ""] }.contains(&suffix));
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (label, value) = label.split_once('=').unwrap();
            let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            (label.to_owned(), value.to_owned())
        });
        let sample = Sample {
            name: sample.to_owned(),
            labels: labels.collect(),
            value: value.parse().unwrap(),
        };
        let is_new = |s: &Sample| (&s.name, &s.labels) != (&sample.name, &sample.labels);
        assert!(samples.iter().all(is_new), "{line}: twice");
        samples.push(sample);
    }
    samples
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    samples.iter().find(|s| s.name == name && s.labels == labels).map(|s| s.value)
}

fn peer(host: &str, session: SessionState) -> PeerStatus {
    PeerStatus {
        reached_at: None,
        is_over_tcp: true,
        is_segmented: true,
        spec: PeerSpec {
            host: host.parse().unwrap(),
            endpoint: "192.0.2.2:5820".parse().unwrap(),
            alternatives: Vec::new(),
            addresses: Vec::new(),
            keepalive: None,
        },
        session,
        handshakes_ok: 3,
        handshakes_failed: vec![("io", 2), ("timeout", 4)],
        handshake_time: Duration::from_millis(750),
        last_error: "a \"reason\"".into(),
        traffic: Traffic { rx_bytes: 11, rx_packets: 12, tx_bytes: 13, tx_packets: 14 },
    }
}

fn status() -> Status {
    let established = SessionState::Established {
        role: Role::Client,
        age: Duration::from_millis(90_500),
        epoch: 6,
        key_age: Some(Duration::from_secs(31)),
        datagram_max: 1_392,
        silent: Some(Duration::from_millis(2_500)),
    };
    let attachment = AttachmentStatus {
        spec: AttachSpec {
            name: "web-1".parse().unwrap(),
            netns: "/run/netns/web1".into(),
            interface: "weft0".into(),
            addresses: Vec::new(),
            share: Share::default(),
        },
        state: AttachmentState::Up,
        traffic: Traffic { rx_bytes: 1, rx_packets: 2, tx_bytes: 3, tx_packets: 4 },
    };
    let gone = AttachmentStatus { state: AttachmentState::Gone, ..attachment.clone() };
    let environment = |id: &str, attachment, drops| EnvironmentStatus {
        id: id.parse().unwrap(),
        subnets: Vec::new(),
        share: Share::default(),
        certificate_expires: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        attachments: vec![attachment],
        peers: vec![peer("host-b", established), peer("host-c", SessionState::Backoff)],
        relayed: (21, 22),
        drops,
        policy: vec![
            Hits { rule: "web-db".into(), verdict: Verdict::Allow, count: 31 },
            Hits { rule: "(default)".into(), verdict: Verdict::Deny, count: 32 },
        ],
        gateway: GatewayStatus {
            received: 31,
            sent: 32,
            unsent: 33,
            queries: 34,
            forwarded: 35,
            drops: weft_dns::DropReason::ALL.into_iter().zip(40..).collect(),
        },
        sessions: 2,
    };
    let worker = WorkerStatus { gso: true, wakeups: 5, send_errors: 1, ..WorkerStatus::default() };
    Status {
        host: "host-a".parse().unwrap(),
        uptime: Duration::from_secs(1),
        listen: "192.0.2.1:5820".parse().unwrap(),
        engine: EngineKind::Uring,
        resident_bytes: 18 << 20,
        workers: vec![WorkerStatus::default(), worker],
        environments: vec![
            environment("acme", attachment, vec![(DropReason::Replay, 7)]),
            environment("globex", gone, Vec::new()),
        ],
        drops: vec![(DropReason::Header, 17)],
        rejected_handshakes: vec![("timeout", 9), ("admission_rate", 8)],
    }
}

fn samples() -> Vec<Sample> {
    let started = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    parse(&exposition(&status(), Some(&control()), started))
}

fn control() -> ControlStatus {
    ControlStatus {
        url: "https://control.example:7443".to_owned(),
        is_connected: true,
        contact: Some(UNIX_EPOCH + Duration::from_secs(1_700_000_100)),
        revision: 42,
        first_end: Some(UNIX_EPOCH + Duration::from_secs(1_700_086_400)),
        error: String::new(),
    }
}

#[test]
fn what_the_node_tells_is_read_back() {
    let samples = samples();
    let acme = ("environment", "acme");
    let web = [acme, ("attachment", "web-1")];
    let b = [acme, ("peer", "host-b")];
    let c = [acme, ("peer", "host-c")];
    let failed = [acme, ("peer", "host-b"), ("cause", "timeout")];
    let rule = [acme, ("rule", "web-db"), ("verdict", "allow")];
    let default = [acme, ("rule", "(default)"), ("verdict", "deny")];
    let aead = provider(Suite::Aes256Gcm);
    let engine = [("version", VERSION), ("engine", "uring"), ("aead", aead)];
    let expected: &[(&str, Labels<'_>, f64)] = &[
        ("weft_build_info", &engine, 1.0),
        ("process_start_time_seconds", &[], 1_700_000_000.25),
        ("process_resident_memory_bytes", &[], 18_874_368.0),
        ("weft_control_up", &[], 1.0),
        ("weft_control_contact_timestamp_seconds", &[], 1_700_000_100.0),
        ("weft_control_revision", &[], 42.0),
        ("weft_control_first_certificate_expiry_timestamp_seconds", &[], 1_700_086_400.0),
        ("weft_attachment_received_bytes_total", &web, 1.0),
        ("weft_attachment_received_packets_total", &web, 2.0),
        ("weft_attachment_sent_bytes_total", &web, 3.0),
        ("weft_attachment_sent_packets_total", &web, 4.0),
        ("weft_attachment_up", &web, 1.0),
        ("weft_peer_received_bytes_total", &b, 11.0),
        ("weft_peer_received_datagrams_total", &b, 12.0),
        ("weft_peer_sent_bytes_total", &b, 13.0),
        ("weft_peer_sent_datagrams_total", &b, 14.0),
        ("weft_peer_session_up", &b, 1.0),
        ("weft_peer_session_up", &c, 0.0),
        ("weft_peer_session_age_seconds", &b, 90.5),
        ("weft_peer_epoch", &b, 6.0),
        ("weft_peer_key_age_seconds", &b, 31.0),
        ("weft_peer_datagram_max_bytes", &b, 1_392.0),
        ("weft_peer_silent_seconds", &b, 2.5),
        ("weft_peer_over_tcp", &b, 1.0),
        ("weft_peer_gso_enabled", &b, 1.0),
        ("weft_peer_handshakes_total", &c, 3.0),
        ("weft_peer_handshakes_failed_total", &failed, 4.0),
        ("weft_peer_handshake_seconds_sum", &b, 0.75),
        ("weft_peer_handshake_seconds_count", &b, 3.0),
        ("weft_environment_sessions", &[acme], 2.0),
        ("weft_environment_relayed_packets_total", &[acme], 21.0),
        ("weft_environment_relayed_bytes_total", &[acme], 22.0),
        ("weft_environment_drops_total", &[acme, ("cause", "replay")], 7.0),
        ("weft_policy_hits_total", &rule, 31.0),
        ("weft_policy_hits_total", &default, 32.0),
        ("weft_gateway_received_packets_total", &[acme], 31.0),
        ("weft_gateway_sent_packets_total", &[acme], 32.0),
        ("weft_gateway_unsent_packets_total", &[acme], 33.0),
        ("weft_gateway_queries_total", &[acme], 34.0),
        ("weft_gateway_forwarded_queries_total", &[acme], 35.0),
        ("weft_gateway_drops_total", &[acme, ("cause", "gateway_rate")], 45.0),
        ("weft_environment_certificate_expiry_timestamp_seconds", &[acme], 1_800_000_000.0),
        ("weft_unattributed_drops_total", &[("cause", "header")], 17.0),
        ("weft_handshakes_rejected_total", &[("cause", "timeout")], 9.0),
        ("weft_handshakes_rejected_total", &[("cause", "admission_rate")], 8.0),
        ("weft_worker_wakeups_total", &[("worker", "1")], 5.0),
        ("weft_worker_send_errors_total", &[("worker", "1")], 1.0),
        ("weft_worker_gso_enabled", &[("worker", "0")], 0.0),
        ("weft_worker_gso_enabled", &[("worker", "1")], 1.0),
    ];
    for (name, labels, wanted) in expected {
        assert_eq!(value(&samples, name, labels), Some(*wanted), "{name} {labels:?}");
    }
}

#[test]
fn environments_with_the_same_names_inside_are_told_apart() {
    let samples = samples();
    for (environment, up) in [("acme", 1.0), ("globex", 0.0)] {
        let labels = [("environment", environment), ("attachment", "web-1")];
        assert_eq!(value(&samples, "weft_attachment_up", &labels), Some(up));
    }
}

#[test]
fn causes_are_there_before_they_count() {
    let samples = samples();
    for reason in DropReason::ALL {
        let cause = ("cause", reason.label());
        let labels = [("environment", "globex"), cause];
        assert_eq!(value(&samples, "weft_environment_drops_total", &labels), Some(0.0));
        assert!(value(&samples, "weft_unattributed_drops_total", &[cause]).is_some());
    }
    for cause in HandshakeError::LABELS.iter().chain(&["admission_rate", "admission_half_open"]) {
        let labels = [("cause", *cause)];
        assert!(value(&samples, "weft_handshakes_rejected_total", &labels).is_some(), "{cause}");
    }
}

#[test]
fn without_a_session_there_is_no_age() {
    let samples = samples();
    let labels = [("environment", "acme"), ("peer", "host-c")];
    for name in
        ["session_age_seconds", "epoch", "key_age_seconds", "datagram_max_bytes", "silent_seconds"]
    {
        assert_eq!(value(&samples, &format!("weft_peer_{name}"), &labels), None);
    }
}

#[test]
fn an_empty_node_has_its_process_and_causes() {
    let status = Status { environments: Vec::new(), workers: Vec::new(), ..status() };
    let samples = parse(&exposition(&status, None, UNIX_EPOCH));
    assert!(value(&samples, "process_resident_memory_bytes", &[]).is_some());
    assert!(samples.iter().all(|s| !s.name.starts_with("weft_control_")));
    assert!(samples.iter().all(|s| !s.labels.contains_key("environment")));
}
