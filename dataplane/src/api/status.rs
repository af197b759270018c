//! From the node's status to the protocol's, field by field.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_agent::ControlStatus;
use weft_api::v1;
use weft_config::Share;
use weft_proto::{DropReason, keys::Role};

use crate::{
    VERSION,
    node::{
        AttachmentState, AttachmentStatus, EnvironmentStatus, GatewayStatus, PeerStatus,
        SessionState, Status, Traffic, WorkerStatus,
    },
};

pub(super) fn status(status: &Status, control: Option<&ControlStatus>) -> v1::StatusResponse {
    let uptime_ms = ms(status.uptime);
    v1::StatusResponse {
        host: status.host.to_string(),
        version: VERSION.to_owned(),
        uptime_ms,
        engine: status.engine.as_str().to_owned(),
        listen: status.listen.to_string(),
        resident_bytes: status.resident_bytes,
        pid: std::process::id(),
        sampled_at_ms: uptime_ms,
        workers: (0..).zip(&status.workers).map(|(i, worker)| self::worker(i, worker)).collect(),
        environments: status.environments.iter().map(environment).collect(),
        drops: drops(&status.drops),
        control: control.map(self::control),
    }
}

fn control(control: &ControlStatus) -> v1::ControlStatus {
    v1::ControlStatus {
        url: control.url.clone(),
        connected: control.is_connected,
        contact_ms: control.contact.map_or(0, unix_ms),
        revision: control.revision,
        first_certificate_ends_ms: control.first_end.map_or(0, unix_ms),
        last_error: control.error.clone(),
    }
}

fn worker(number: u32, worker: &WorkerStatus) -> v1::WorkerStatus {
    v1::WorkerStatus {
        worker: number,
        cpu: worker.cpu.and_then(|cpu| u32::try_from(cpu).ok()),
        lane_port: worker.lane_port.into(),
        wakeups: worker.wakeups,
        receive_batches: worker.receive_batches,
        receive_datagrams: worker.receive_datagrams,
        send_batches: worker.send_batches,
        send_datagrams: worker.send_datagrams,
        tun_reads: worker.tun_reads,
        tun_writes: worker.tun_writes,
    }
}

fn environment(environment: &EnvironmentStatus) -> v1::EnvironmentStatus {
    v1::EnvironmentStatus {
        id: environment.id.to_string(),
        subnets: texts(&environment.subnets),
        certificate_expires_ms: unix_ms(environment.certificate_expires),
        attachments: environment.attachments.iter().map(attachment).collect(),
        peers: environment.peers.iter().map(peer).collect(),
        drops: [drops(&environment.drops), gateway_drops(&environment.gateway)].concat(),
        share: Some(share(environment.share)),
    }
}

fn attachment(attachment: &AttachmentStatus) -> v1::AttachmentStatus {
    let (state, last_error) = match &attachment.state {
        AttachmentState::Waiting => (v1::AttachmentState::Waiting, ""),
        AttachmentState::Up => (v1::AttachmentState::Up, ""),
        AttachmentState::Gone => (v1::AttachmentState::Gone, ""),
        AttachmentState::Failed(error) => (v1::AttachmentState::Failed, error.as_str()),
    };
    let spec = &attachment.spec;
    v1::AttachmentStatus {
        name: spec.name.to_string(),
        interface: spec.interface.clone(),
        netns: spec.netns.display().to_string(),
        addresses: texts(&spec.addresses),
        state: state.into(),
        traffic: Some(traffic(attachment.traffic)),
        last_error: last_error.to_owned(),
        share: Some(share(spec.share)),
    }
}

fn share(share: Share) -> v1::Share {
    let Share { weight, egress_mbit_max } = share;
    v1::Share { weight: weight.into(), egress_mbit_max: egress_mbit_max.unwrap_or_default() }
}

fn peer(peer: &PeerStatus) -> v1::PeerStatus {
    let mut to = v1::PeerStatus {
        host: peer.spec.host.to_string(),
        endpoint: peer.spec.endpoint.to_string(),
        alternative_endpoints: peer.spec.alternatives.iter().map(ToString::to_string).collect(),
        is_over_tcp: peer.is_over_tcp,
        is_segmented: peer.is_segmented,
        reached_at: peer.reached_at.map(|at| at.to_string()).unwrap_or_default(),
        addresses: texts(&peer.spec.addresses),
        handshakes_ok: peer.handshakes_ok,
        handshakes_failed: peer.handshakes_failed.iter().map(|(_, count)| count).sum(),
        last_error: peer.last_error.clone(),
        traffic: Some(traffic(peer.traffic)),
        ..v1::PeerStatus::default()
    };
    let state = match peer.session {
        SessionState::Idle => v1::SessionState::Idle,
        SessionState::Handshaking => v1::SessionState::Handshaking,
        SessionState::Backoff => v1::SessionState::Backoff,
        SessionState::Established { role, age, epoch, key_age, datagram_max, silent } => {
            let role = match role {
                Role::Client => v1::SessionRole::Client,
                Role::Server => v1::SessionRole::Server,
            };
            to.role = role.into();
            to.session_age_ms = Some(ms(age));
            to.epoch = Some(u32::try_from(epoch).unwrap_or(u32::MAX));
            to.key_age_ms = key_age.map(ms);
            to.datagram_max = u32::try_from(datagram_max).ok();
            to.silent_ms = silent.map(ms);
            v1::SessionState::Established
        }
    };
    to.state = state.into();
    to
}

fn drops(drops: &[(DropReason, u64)]) -> Vec<v1::DropCount> {
    counts(drops.iter().map(|(cause, packets)| (cause.label(), *packets)))
}

fn gateway_drops(gateway: &GatewayStatus) -> Vec<v1::DropCount> {
    counts(gateway.drops.iter().map(|(cause, packets)| (cause.label(), *packets)))
}

/// Causes that never happened are left out.
fn counts(causes: impl Iterator<Item = (&'static str, u64)>) -> Vec<v1::DropCount> {
    let happened = causes.filter(|(_, packets)| *packets > 0);
    happened.map(|(cause, packets)| v1::DropCount { cause: cause.to_owned(), packets }).collect()
}

fn traffic(traffic: Traffic) -> v1::Traffic {
    let Traffic { rx_bytes, rx_packets, tx_bytes, tx_packets } = traffic;
    v1::Traffic { rx_bytes, rx_packets, tx_bytes, tx_packets }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970; a time before is 0.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{AttachSpec, PeerSpec};
    use crate::worker::EngineKind;

    const TRAFFIC: Traffic = Traffic { rx_bytes: 1, rx_packets: 2, tx_bytes: 3, tx_packets: 4 };
    const CONVERTED: v1::Traffic =
        v1::Traffic { rx_bytes: 1, rx_packets: 2, tx_bytes: 3, tx_packets: 4 };

    fn attachment_status(state: AttachmentState) -> AttachmentStatus {
        let spec = AttachSpec {
            name: "web-1".parse().unwrap(),
            netns: "/run/netns/web1".into(),
            interface: "weft0".into(),
            addresses: vec!["10.40.0.2".parse().unwrap(), "fd40::2".parse().unwrap()],
            share: Share { weight: 250, egress_mbit_max: Some(50) },
        };
        AttachmentStatus { spec, state, traffic: TRAFFIC }
    }

    fn peer_status(session: SessionState) -> PeerStatus {
        PeerStatus {
            spec: PeerSpec {
                host: "host-b".parse().unwrap(),
                endpoint: "[2001:db8::2]:5820".parse().unwrap(),
                alternatives: vec!["[2001:db8::3]:5820".parse().unwrap()],
                addresses: vec!["10.40.0.3".parse().unwrap()],
                keepalive: None,
            },
            is_over_tcp: true,
            is_segmented: true,
            reached_at: Some("[2001:db8::9]:40001".parse().unwrap()),
            session,
            handshakes_ok: 5,
            handshakes_failed: vec![("timeout", 2), ("tls", 1)],
            handshake_time: Duration::from_secs(1),
            last_error: "the deadline passed".into(),
            traffic: TRAFFIC,
        }
    }

    #[test]
    fn the_daemon_is_told_field_by_field() {
        let from = Status {
            host: "host-a".parse().unwrap(),
            uptime: Duration::from_millis(1_500),
            listen: "[2001:db8::1]:5820".parse().unwrap(),
            engine: EngineKind::Epoll,
            resident_bytes: 18 << 20,
            workers: vec![
                WorkerStatus::default(),
                WorkerStatus {
                    cpu: Some(3),
                    lane_port: 5_822,
                    wakeups: 1,
                    receive_batches: 2,
                    receive_datagrams: 3,
                    send_batches: 4,
                    send_datagrams: 5,
                    send_errors: 6,
                    tun_reads: 7,
                    tun_writes: 8,
                    gso: true,
                },
            ],
            environments: vec![EnvironmentStatus {
                id: "acme".parse().unwrap(),
                subnets: vec!["10.40.0.0/16".parse().unwrap(), "fd40::/64".parse().unwrap()],
                share: Share::default(),
                certificate_expires: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
                attachments: vec![attachment_status(AttachmentState::Up)],
                peers: vec![peer_status(SessionState::Idle)],
                relayed: (1, 2),
                drops: vec![(DropReason::Replay, 3), (DropReason::Epoch, 0)],
                policy: Vec::new(),
                gateway: GatewayStatus {
                    drops: vec![(weft_dns::DropReason::Rate, 4), (weft_dns::DropReason::Silent, 0)],
                    ..GatewayStatus::default()
                },
                sessions: 0,
            }],
            drops: vec![(DropReason::Header, 17), (DropReason::Control, 0)],
            rejected_handshakes: vec![("timeout", 1)],
        };
        let replay = v1::DropCount { cause: "replay".into(), packets: 3 };
        let rate = v1::DropCount { cause: "gateway_rate".into(), packets: 4 };
        let header = v1::DropCount { cause: "header".into(), packets: 17 };
        let expected = v1::StatusResponse {
            host: "host-a".into(),
            version: VERSION.into(),
            uptime_ms: 1_500,
            engine: "epoll".into(),
            listen: "[2001:db8::1]:5820".into(),
            resident_bytes: 18 << 20,
            pid: std::process::id(),
            sampled_at_ms: 1_500,
            workers: vec![
                v1::WorkerStatus::default(),
                v1::WorkerStatus {
                    worker: 1,
                    cpu: Some(3),
                    lane_port: 5_822,
                    wakeups: 1,
                    receive_batches: 2,
                    receive_datagrams: 3,
                    send_batches: 4,
                    send_datagrams: 5,
                    tun_reads: 7,
                    tun_writes: 8,
                },
            ],
            environments: vec![v1::EnvironmentStatus {
                id: "acme".into(),
                subnets: vec!["10.40.0.0/16".into(), "fd40::/64".into()],
                certificate_expires_ms: 1_800_000_000_000,
                attachments: vec![attachment(&attachment_status(AttachmentState::Up))],
                peers: vec![peer(&peer_status(SessionState::Idle))],
                drops: vec![replay, rate],
                share: Some(v1::Share { weight: 100, egress_mbit_max: 0 }),
            }],
            drops: vec![header],
            control: None,
        };
        assert_eq!(status(&from, None), expected);
        let followed = ControlStatus {
            url: "https://control.example:7443".into(),
            is_connected: false,
            contact: Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            revision: 42,
            first_end: None,
            error: "refused".into(),
        };
        let told = v1::ControlStatus {
            url: "https://control.example:7443".into(),
            connected: false,
            contact_ms: 1_800_000_000_000,
            revision: 42,
            first_certificate_ends_ms: 0,
            last_error: "refused".into(),
        };
        assert_eq!(status(&from, Some(&followed)).control, Some(told));
    }

    #[test]
    fn an_attachment_says_what_it_does() {
        let failed = AttachmentState::Failed("no such namespace".into());
        for (state, expected, last_error) in [
            (AttachmentState::Waiting, v1::AttachmentState::Waiting, ""),
            (AttachmentState::Up, v1::AttachmentState::Up, ""),
            (AttachmentState::Gone, v1::AttachmentState::Gone, ""),
            (failed, v1::AttachmentState::Failed, "no such namespace"),
        ] {
            let expected = v1::AttachmentStatus {
                name: "web-1".into(),
                interface: "weft0".into(),
                netns: "/run/netns/web1".into(),
                addresses: vec!["10.40.0.2".into(), "fd40::2".into()],
                state: expected.into(),
                traffic: Some(CONVERTED),
                last_error: last_error.into(),
                share: Some(v1::Share { weight: 250, egress_mbit_max: 50 }),
            };
            assert_eq!(attachment(&attachment_status(state)), expected);
        }
    }

    #[test]
    fn a_peer_without_a_session_has_no_ages() {
        for (session, state) in [
            (SessionState::Idle, v1::SessionState::Idle),
            (SessionState::Handshaking, v1::SessionState::Handshaking),
            (SessionState::Backoff, v1::SessionState::Backoff),
        ] {
            let expected = v1::PeerStatus {
                host: "host-b".into(),
                endpoint: "[2001:db8::2]:5820".into(),
                alternative_endpoints: vec!["[2001:db8::3]:5820".into()],
                is_over_tcp: true,
                is_segmented: true,
                reached_at: "[2001:db8::9]:40001".into(),
                addresses: vec!["10.40.0.3".into()],
                state: state.into(),
                handshakes_ok: 5,
                handshakes_failed: 3,
                last_error: "the deadline passed".into(),
                traffic: Some(CONVERTED),
                ..v1::PeerStatus::default()
            };
            assert_eq!(peer(&peer_status(session)), expected);
        }
    }

    #[test]
    fn a_session_has_a_role_and_ages() {
        for (role, expected) in
            [(Role::Client, v1::SessionRole::Client), (Role::Server, v1::SessionRole::Server)]
        {
            let age = Duration::from_secs(60);
            let key_age = Some(Duration::from_secs(7));
            let datagram_max = 1_392;
            let silent = Some(Duration::from_secs(3));
            let session =
                SessionState::Established { role, age, epoch: 6, key_age, datagram_max, silent };
            let peer = peer(&peer_status(session));
            assert_eq!(peer.state(), v1::SessionState::Established);
            assert_eq!(peer.role(), expected);
            assert_eq!(peer.session_age_ms, Some(60_000));
            assert_eq!((peer.epoch, peer.key_age_ms), (Some(6), Some(7_000)));
            assert_eq!(peer.datagram_max, Some(1_392));
            assert_eq!(peer.silent_ms, Some(3_000));
        }
        let fresh = SessionState::Established {
            role: Role::Client,
            age: Duration::ZERO,
            epoch: u64::MAX,
            key_age: None,
            datagram_max: 0,
            silent: None,
        };
        let peer = peer(&peer_status(fresh));
        assert_eq!((peer.epoch, peer.key_age_ms), (Some(u32::MAX), None));
    }
}
