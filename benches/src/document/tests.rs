use super::*;
use crate::report::Target;

pub(crate) const CELL: Cell = Cell { offloads: Offloads::Nic, mtu: 9_000, family: Family::V6 };

pub(crate) fn document() -> Document {
    let figure = Figure::new("x", "×", Target::AtLeast(0.5), Summary::of(&[0.25, 0.75])).unwrap();
    let missing = Some("nebula is not installed".to_owned());
    Document {
        version: VERSION,
        machine: Machine { cpu: "c".into(), cores: 2, ..Machine::default() },
        congestion_control: "cubic".into(),
        quick: true,
        peers: vec![
            Peer { name: "weft".into(), version: "weft 0.1.0".into(), missing: None },
            Peer { name: "nebula".into(), version: String::new(), missing },
        ],
        plan: Plan {
            stream_s: 1.5,
            cells: vec![PlannedCell { cell: CELL, rounds: 2, measures: vec!["ping".into()] }],
            ..Plan::default()
        },
        figures: vec![figure],
        left_out: vec![LeftOut { figure: "y".into(), reason: "no VXLAN".into() }],
        series: vec![Series {
            peer: "weft".into(),
            cell: CELL,
            metric: "ping.p50".into(),
            unit: "µs".into(),
            better: Better::Lower,
            samples: vec![Sample { round: 1, value: 52.5 }, Sample { round: 2, value: 1e-3 }],
        }],
        distributions: vec![Distribution::of("weft", CELL, "ping", &[1.0, 2.0, 3.0])],
        growth: None,
        failures: vec![Failure {
            peer: "bare".into(),
            cell: CELL,
            measure: "ping".into(),
            round: 1,
            error: "lost".into(),
        }],
    }
}

#[test]
fn what_is_written_is_read_again() {
    let document = document();
    let json = serde_json::to_string_pretty(&document).unwrap();
    assert_eq!(Document::parse(&json).unwrap(), document);
}

#[test]
fn another_version_is_refused_before_anything_else_is_read() {
    let refused = Document::parse(r#"{"version": 1, "unknown": []}"#).unwrap_err();
    assert_eq!(refused.to_string(), "version: expected 2, found 1");
    assert!(Document::parse("{}").is_err());
    assert!(Document::parse("").is_err());
}

#[test]
fn names_in_the_document_stay_the_same() {
    let json = serde_json::to_value(document()).unwrap();
    assert_eq!(
        json["series"][0]["cell"],
        serde_json::json!({"offloads": "nic", "mtu": 9_000, "family": "v6"})
    );
    assert_eq!(json["series"][0]["better"], "lower");
    assert_eq!(CELL.to_string(), "nic 9000 IPv6");
}

#[test]
fn growth_is_taken_in_once() {
    let mut document = document();
    document.left_out.push(LeftOut { figure: GROWTH.into(), reason: "none".into() });
    let growth = |name: &str| GrowthDocument {
        version: crate::growth::VERSION,
        machine: Machine::default(),
        quick: false,
        curves: Vec::new(),
        figures: Figure::new(name, "%", Target::AtMost(0.2), Summary::of(&[0.1]))
            .into_iter()
            .collect(),
        failures: Vec::new(),
    };
    document.set_growth(growth("idle CPU"));
    document.set_growth(growth("idle CPU, again"));
    let names: Vec<_> = document.figures.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(names, ["x", "idle CPU, again"]);
    assert!(document.left_out.iter().all(|row| row.figure != GROWTH));
}
