use weft_benches::document::{Better, Failure, Peer, Plan, Sample, VERSION};
use weft_benches::machine::Machine;

use super::*;

fn document(series: &[(&str, &str, &[f64])]) -> Document {
    let series = series.iter().map(|(peer, metric, values)| Series {
        peer: (*peer).to_owned(),
        cell: USUAL,
        metric: (*metric).to_owned(),
        unit: String::new(),
        better: Better::Higher,
        samples: (1..).zip(*values).map(|(round, value)| Sample { round, value: *value }).collect(),
    });
    Document {
        version: VERSION,
        machine: Machine::default(),
        congestion_control: "cubic".into(),
        quick: false,
        peers: Vec::new(),
        plan: Plan::default(),
        figures: Vec::new(),
        left_out: Vec::new(),
        series: series.collect(),
        distributions: Vec::new(),
        failures: Vec::new(),
        growth: None,
    }
}

fn median(document: &Document, name: &str) -> Option<f64> {
    let (figures, _) = figures(document);
    Some(figures.into_iter().find(|figure| figure.name == name)?.summary.median)
}

#[test]
fn ratios_are_taken_within_rounds() {
    let mut document =
        document(&[("weft", "tcp-1-out", &[5.0, 4.0, 9.0]), ("vxlan", "tcp-1-out", &[10.0, 8.0])]);
    assert_eq!(median(&document, "1 stream / VXLAN"), Some(0.5));
    // A round that one of the two has missed is no pair.
    document.series[1].samples[0].round = 7;
    assert_eq!(median(&document, "1 stream / VXLAN"), Some(0.5));
    document.series[1].samples.clear();
    assert_eq!(median(&document, "1 stream / VXLAN"), None);
}

#[test]
fn the_best_peer_is_another_tunnel() {
    let udp = "udp-64.overload";
    let document = document(&[
        ("weft", udp, &[300.0, 300.0]),
        ("bare", udp, &[900.0, 900.0]),
        ("weft-local", udp, &[800.0, 800.0]),
        ("nebula", udp, &[100.0, 50.0]),
        ("tinc", udp, &[50.0, 75.0]),
    ]);
    assert_eq!(median(&document, "64-byte UDP / best peer"), Some(3.5));
}

#[test]
fn differences_have_their_units() {
    let document = document(&[
        ("weft-low", "ping.p50", &[90.0]),
        ("bare-low", "ping.p50", &[60.0]),
        ("weft", "requests-loaded.p99", &[2_500.0]),
        ("weft", "requests-idle.p99", &[500.0]),
    ]);
    assert_eq!(median(&document, "idle ping with latency = \"low\", less bare"), Some(30.0));
    assert_eq!(median(&document, "requests under load: p99 less twice that of idle"), Some(1.5));
}

#[test]
fn what_is_left_out_says_why() {
    let mut document =
        document(&[("weft", "tcp-1-out", &[1.0]), ("weft", "requests-loaded.p50", &[1.0])]);
    let there = Peer { name: "weft".into(), version: String::new(), missing: None };
    document.peers.push(there);
    let missing = Some("gotatun is not installed".to_owned());
    document.peers.push(Peer { name: "gotatun".into(), version: String::new(), missing });
    let boringtun = Peer { name: "boringtun".into(), version: String::new(), missing: None };
    document.peers.push(boringtun);
    document.failures.push(Failure {
        peer: "boringtun".into(),
        cell: USUAL,
        measure: "start".into(),
        round: 0,
        error: "no interface".into(),
    });
    let (figures, left_out) = figures(&document);
    assert!(figures.is_empty());
    let reason = |name: &str| {
        left_out.iter().find(|row| row.figure == name).map(|row| row.reason.clone()).unwrap()
    };
    assert_eq!(reason("1 stream / GotaTun"), "gotatun is not installed");
    assert_eq!(reason("1 stream / BoringTun"), "boringtun start: no interface");
    assert_eq!(reason("1 stream / VXLAN"), "vxlan was not among those compared");
    let asked = "udp-64 of weft (on 1500 IPv4) was not asked for";
    assert_eq!(reason("64-byte UDP / bare"), asked);
    let few = "requests-loaded of weft (on 1500 IPv4): too few round trips for a percentile";
    assert_eq!(reason("requests under load: p99 less twice that of idle"), few);
    assert!(reason(GROWTH).contains("--growth"));
    // Every target of the table is here or there.
    assert_eq!(left_out.len(), rows(&Measured(&document)).len() + 1);
}
