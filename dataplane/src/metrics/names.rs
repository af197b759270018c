//! Every metric of the daemon: name, meaning, kind, and where its samples come from.
//!
//! Names end in their unit, counters in `_total`. Counts of attachments and peers have a label for
//! each, so that a counter ends with its thing instead of shrinking; sum them by environment.

use std::{
    collections::BTreeMap,
    fmt::Display,
    time::{SystemTime, UNIX_EPOCH},
};

use weft_agent::ControlStatus;
use weft_handshake::{HandshakeError, admission::Refusal};
use weft_proto::{
    DropReason,
    aead::{Suite, provider},
};

use super::text::{Kind, Samples};
use crate::{
    VERSION,
    node::{
        AttachmentState, AttachmentStatus, EnvironmentStatus, PeerStatus, SessionState, Status,
        WorkerStatus,
    },
};

/// What a scrape is made of.
struct Scrape<'a> {
    status: &'a Status,
    control: Option<&'a ControlStatus>,
    started: SystemTime,
}

struct Metric {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    write: fn(&Scrape<'_>, &mut Samples<'_>),
}

const METRICS: &[Metric] = &[
    // The process.
    gauge(
        "weft_build_info",
        "Version of the daemon, its I/O engine and whose AES-GCM it uses; always 1.",
        |s, out| {
            let aead = provider(Suite::Aes256Gcm);
            out.push(
                &[("version", VERSION), ("engine", s.status.engine.as_str()), ("aead", aead)],
                1,
            );
        },
    ),
    gauge("process_start_time_seconds", "When the daemon started, Unix time.", |s, out| {
        out.push(&[], unix_seconds(s.started));
    }),
    gauge("process_resident_memory_bytes", "Resident memory.", |s, out| {
        out.push(&[], s.status.resident_bytes);
    }),
    // The control plane, on a host that follows one.
    gauge("weft_control_up", "1 while the control plane is heard.", |s, out| {
        control(s, out, |c| Some(u64::from(c.is_connected)));
    }),
    gauge(
        "weft_control_contact_timestamp_seconds",
        "When it was heard of last, Unix time.",
        |s, out| {
            control(s, out, |c| Some(whole_seconds(c.contact?)));
        },
    ),
    gauge(
        "weft_control_revision",
        "What the host has of what there is to know; it grows.",
        |s, out| control(s, out, |c| Some(c.revision)),
    ),
    gauge(
        "weft_control_first_certificate_expiry_timestamp_seconds",
        "When the first certificate ends that the control plane has issued to this host, Unix time.",
        |s, out| control(s, out, |c| Some(whole_seconds(c.first_end?))),
    ),
    // Attachments, as their containers count.
    counter(
        "weft_attachment_received_bytes_total",
        "Bytes of IP packets delivered to the container.",
        |s, out| attachments(s, out, |a| a.traffic.rx_bytes),
    ),
    counter(
        "weft_attachment_received_packets_total",
        "IP packets delivered to the container; a superpacket counts as those it stands for.",
        |s, out| attachments(s, out, |a| a.traffic.rx_packets),
    ),
    counter(
        "weft_attachment_sent_bytes_total",
        "Bytes of IP packets that the container sent.",
        |s, out| attachments(s, out, |a| a.traffic.tx_bytes),
    ),
    counter(
        "weft_attachment_sent_packets_total",
        "IP packets that the container sent; a superpacket counts as those it stands for.",
        |s, out| attachments(s, out, |a| a.traffic.tx_packets),
    ),
    gauge("weft_attachment_up", "1 while the attachment's interface is there.", |s, out| {
        attachments(s, out, |a| u64::from(a.state == AttachmentState::Up));
    }),
    // Peers.
    counter(
        "weft_peer_received_bytes_total",
        "Bytes of UDP payload opened and accepted from the peer.",
        |s, out| peers(s, out, |p| Some(p.traffic.rx_bytes)),
    ),
    counter(
        "weft_peer_received_datagrams_total",
        "Datagrams opened and accepted from the peer.",
        |s, out| peers(s, out, |p| Some(p.traffic.rx_packets)),
    ),
    counter("weft_peer_sent_bytes_total", "Bytes of UDP payload sealed for the peer.", |s, out| {
        peers(s, out, |p| Some(p.traffic.tx_bytes));
    }),
    counter("weft_peer_sent_datagrams_total", "Datagrams sealed for the peer.", |s, out| {
        peers(s, out, |p| Some(p.traffic.tx_packets));
    }),
    gauge("weft_peer_session_up", "1 while a session with the peer carries data.", |s, out| {
        peers(s, out, |p| Some(u8::from(matches!(p.session, SessionState::Established { .. }))));
    }),
    gauge(
        "weft_peer_session_age_seconds",
        "Time since the handshake of the session that carries data.",
        |s, out| {
            peers(s, out, |p| match p.session {
                SessionState::Established { age, .. } => Some(age.as_secs_f64()),
                _ => None,
            });
        },
    ),
    gauge("weft_peer_epoch", "Newest epoch of the sending lanes to the peer.", |s, out| {
        peers(s, out, |p| match p.session {
            SessionState::Established { epoch, .. } => Some(epoch),
            _ => None,
        });
    }),
    gauge("weft_peer_key_age_seconds", "Age of the oldest key that still seals.", |s, out| {
        peers(s, out, |p| match p.session {
            SessionState::Established { key_age, .. } => key_age.map(|age| age.as_secs_f64()),
            _ => None,
        });
    }),
    gauge(
        "weft_peer_datagram_max_bytes",
        "Longest datagram that is sent to the peer, UDP payload: what both hosts take and the path \
         is known to carry.",
        |s, out| {
            peers(s, out, |p| match p.session {
                SessionState::Established { datagram_max, .. } => Some(datagram_max),
                _ => None,
            });
        },
    ),
    gauge(
        "weft_peer_silent_seconds",
        "For how long packets have gone to the peer and nothing has come back; 0 below two seconds.",
        |s, out| {
            peers(s, out, |p| match p.session {
                SessionState::Established { silent, .. } => {
                    Some(silent.unwrap_or_default().as_secs_f64())
                }
                _ => None,
            });
        },
    ),
    gauge(
        "weft_peer_over_tcp",
        "1 while datagrams go to the peer over TCP, because UDP does not get through.",
        |s, out| peers(s, out, |p| Some(u8::from(p.is_over_tcp))),
    ),
    gauge(
        "weft_peer_gso_enabled",
        "1 while datagrams may leave for the peer in segmented sends, 0 after it said that they arrive damaged.",
        |s, out| peers(s, out, |p| Some(u8::from(p.is_segmented))),
    ),
    counter("weft_peer_handshakes_total", "Handshakes that succeeded.", |s, out| {
        peers(s, out, |p| Some(p.handshakes_ok));
    }),
    counter(
        "weft_peer_handshakes_failed_total",
        "Handshakes that this host began and that failed, by cause; a cause appears with its \
         first failure.",
        failed_handshakes,
    ),
    summary(
        "weft_peer_handshake_seconds",
        "How long the handshakes took that succeeded.",
        handshake_times,
    ),
    // Environments.
    gauge("weft_environment_sessions", "Sessions, in use or retiring.", |s, out| {
        environments(s, out, |e| e.sessions);
    }),
    counter(
        "weft_environment_relayed_bytes_total",
        "Bytes of IP packets between two attachments of this host.",
        |s, out| environments(s, out, |e| e.relayed.1),
    ),
    counter(
        "weft_environment_relayed_packets_total",
        "IP packets between two attachments of this host.",
        |s, out| environments(s, out, |e| e.relayed.0),
    ),
    counter("weft_environment_drops_total", "Packets dropped, by cause.", |s, out| {
        for environment in &s.status.environments {
            drops(out, Some(environment.id.as_str()), &environment.drops);
        }
    }),
    counter(
        "weft_policy_hits_total",
        "How often a rule of the environment's policy decided: packets that it denied, flows that it allowed.",
        policy_hits,
    ),
    // Their gateways.
    counter("weft_gateway_queries_total", "Queries for names, within the rates.", |s, out| {
        environments(s, out, |e| e.gateway.queries);
    }),
    counter(
        "weft_gateway_forwarded_queries_total",
        "Queries that servers outside were asked.",
        |s, out| environments(s, out, |e| e.gateway.forwarded),
    ),
    counter(
        "weft_gateway_received_packets_total",
        "IP packets that attachments of this host sent to the gateway and that it has looked at.",
        |s, out| environments(s, out, |e| e.gateway.received),
    ),
    counter(
        "weft_gateway_sent_packets_total",
        "IP packets of the gateway to attachments of this host.",
        |s, out| environments(s, out, |e| e.gateway.sent),
    ),
    counter(
        "weft_gateway_unsent_packets_total",
        "IP packets of the gateway for which a worker had no room.",
        |s, out| environments(s, out, |e| e.gateway.unsent),
    ),
    counter(
        "weft_gateway_drops_total",
        "Packets to the gateway that came to nothing there, by cause.",
        gateway_drops,
    ),
    gauge(
        "weft_environment_certificate_expiry_timestamp_seconds",
        "When this host's certificate for the environment expires, Unix time.",
        |s, out| environments(s, out, |e| unix_seconds(e.certificate_expires)),
    ),
    // What belongs to no environment.
    counter(
        "weft_unattributed_drops_total",
        "Datagrams dropped before they belonged to any environment, by cause.",
        |s, out| drops(out, None, &s.status.drops),
    ),
    counter(
        "weft_handshakes_rejected_total",
        "Handshakes of others that came to nothing, by cause.",
        rejected_handshakes,
    ),
    // Workers. Batch sizes are quotients of two of these.
    counter("weft_worker_wakeups_total", "Returns from waiting with something to do.", |s, out| {
        workers(s, out, |w| w.wakeups);
    }),
    counter(
        "weft_worker_receive_batches_total",
        "Calls that received from UDP and returned something.",
        |s, out| workers(s, out, |w| w.receive_batches),
    ),
    counter("weft_worker_received_datagrams_total", "Datagrams in them.", |s, out| {
        workers(s, out, |w| w.receive_datagrams);
    }),
    counter("weft_worker_send_batches_total", "Calls that sent to UDP.", |s, out| {
        workers(s, out, |w| w.send_batches);
    }),
    counter("weft_worker_sent_datagrams_total", "Datagrams in them.", |s, out| {
        workers(s, out, |w| w.send_datagrams);
    }),
    counter(
        "weft_worker_send_errors_total",
        "Datagrams that the kernel did not take.",
        |s, out| workers(s, out, |w| w.send_errors),
    ),
    counter(
        "weft_worker_tun_reads_total",
        "Packets read from interfaces; a superpacket counts once.",
        |s, out| workers(s, out, |w| w.tun_reads),
    ),
    counter(
        "weft_worker_tun_writes_total",
        "Packets written to interfaces; a superpacket counts once.",
        |s, out| workers(s, out, |w| w.tun_writes),
    ),
    gauge("weft_worker_gso_enabled", "1 while datagrams are sent segmented.", |s, out| {
        workers(s, out, |w| w.gso.into());
    }),
];

/// The text that a scrape gets.
pub(super) fn exposition(
    status: &Status,
    control: Option<&ControlStatus>,
    started: SystemTime,
) -> String {
    let scrape = Scrape { status, control, started };
    let mut text = String::new();
    for metric in METRICS {
        let mut samples = Samples::begin(&mut text, metric.name, metric.help, metric.kind);
        (metric.write)(&scrape, &mut samples);
    }
    text
}

fn control(
    scrape: &Scrape<'_>,
    out: &mut Samples<'_>,
    value: impl Fn(&ControlStatus) -> Option<u64>,
) {
    if let Some(value) = scrape.control.and_then(value) {
        out.push(&[], value);
    }
}

fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

type Write = fn(&Scrape<'_>, &mut Samples<'_>);

const fn counter(name: &'static str, help: &'static str, write: Write) -> Metric {
    Metric { name, help, kind: Kind::Counter, write }
}

const fn gauge(name: &'static str, help: &'static str, write: Write) -> Metric {
    Metric { name, help, kind: Kind::Gauge, write }
}

const fn summary(name: &'static str, help: &'static str, write: Write) -> Metric {
    Metric { name, help, kind: Kind::Summary, write }
}

fn attachments(s: &Scrape<'_>, out: &mut Samples<'_>, of: fn(&AttachmentStatus) -> u64) {
    for environment in &s.status.environments {
        for attachment in &environment.attachments {
            let labels = [
                ("environment", environment.id.as_str()),
                ("attachment", attachment.spec.name.as_str()),
            ];
            out.push(&labels, of(attachment));
        }
    }
}

fn peers<V: Display>(s: &Scrape<'_>, out: &mut Samples<'_>, of: fn(&PeerStatus) -> Option<V>) {
    for_each_peer(s, |labels, peer| {
        if let Some(value) = of(peer) {
            out.push(&labels, value);
        }
    });
}

fn for_each_peer(s: &Scrape<'_>, mut act: impl FnMut([(&'static str, &str); 2], &PeerStatus)) {
    for environment in &s.status.environments {
        for peer in &environment.peers {
            let host = peer.spec.host.as_str();
            act([("environment", environment.id.as_str()), ("peer", host)], peer);
        }
    }
}

fn failed_handshakes(s: &Scrape<'_>, out: &mut Samples<'_>) {
    for_each_peer(s, |[environment, host], peer| {
        for (cause, count) in &peer.handshakes_failed {
            out.push(&[environment, host, ("cause", cause)], count);
        }
    });
}

fn handshake_times(s: &Scrape<'_>, out: &mut Samples<'_>) {
    for_each_peer(s, |labels, peer| {
        out.push_summary(&labels, peer.handshakes_ok, peer.handshake_time.as_secs_f64());
    });
}

fn environments<V: Display>(
    s: &Scrape<'_>,
    out: &mut Samples<'_>,
    of: fn(&EnvironmentStatus) -> V,
) {
    for environment in &s.status.environments {
        out.push(&[("environment", environment.id.as_str())], of(environment));
    }
}

/// All causes, also those that never happened: a counter has to be there before it counts, or its
/// first increase is not seen.
fn drops(out: &mut Samples<'_>, environment: Option<&str>, drops: &[(DropReason, u64)]) {
    for reason in DropReason::ALL {
        let count: u64 = drops.iter().filter(|(r, _)| *r == reason).map(|(_, n)| n).sum();
        let cause = ("cause", reason.label());
        match environment {
            Some(id) => out.push(&[("environment", id), cause], count),
            None => out.push(&[cause], count),
        }
    }
}

/// At most two more than a policy has rules.
fn policy_hits(s: &Scrape<'_>, out: &mut Samples<'_>) {
    for environment in &s.status.environments {
        for hits in &environment.policy {
            let labels = [
                ("environment", environment.id.as_str()),
                ("rule", &hits.rule),
                ("verdict", hits.verdict.label()),
            ];
            out.push(&labels, hits.count);
        }
    }
}

fn gateway_drops(s: &Scrape<'_>, out: &mut Samples<'_>) {
    for environment in &s.status.environments {
        for (reason, count) in &environment.gateway.drops {
            let labels = [("environment", environment.id.as_str()), ("cause", reason.label())];
            out.push(&labels, count);
        }
    }
}

fn rejected_handshakes(s: &Scrape<'_>, out: &mut Samples<'_>) {
    let limits = [Refusal::Rate, Refusal::HalfOpen].map(Refusal::label);
    let known = HandshakeError::LABELS.iter().copied().chain(limits);
    let mut counts: BTreeMap<&str, u64> = known.map(|cause| (cause, 0)).collect();
    counts.extend(s.status.rejected_handshakes.iter().copied());
    for (cause, count) in counts {
        out.push(&[("cause", cause)], count);
    }
}

fn workers(s: &Scrape<'_>, out: &mut Samples<'_>, of: fn(&WorkerStatus) -> u64) {
    for (i, worker) in s.status.workers.iter().enumerate() {
        out.push(&[("worker", &i.to_string())], of(worker));
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
