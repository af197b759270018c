use super::*;
use crate::document::{Cell, Family, Offloads, Plan, Sample, Series, VERSION};
use crate::machine::Machine;

fn document(peer: &str, better: Better, values: &[f64]) -> Document {
    let samples = values.iter().zip(1..).map(|(value, round)| Sample { round, value: *value });
    Document {
        version: VERSION,
        machine: Machine::default(),
        congestion_control: "cubic".into(),
        quick: false,
        peers: Vec::new(),
        plan: Plan::default(),
        figures: Vec::new(),
        left_out: Vec::new(),
        series: vec![Series {
            peer: peer.into(),
            cell: Cell { offloads: Offloads::On, mtu: 1_500, family: Family::V4 },
            metric: "tcp-1-out".into(),
            unit: "Gbit/s".into(),
            better,
            samples: samples.collect(),
        }],
        distributions: Vec::new(),
        failures: Vec::new(),
        growth: None,
    }
}

fn verdict(better: Better, old: &[f64], new: &[f64]) -> Verdict {
    let compared = compare(&document("weft", better, old), &document("weft", better, new));
    compared.rows[0].verdict
}

#[test]
fn only_spreads_that_do_not_overlap_are_a_change() {
    use Better::{Higher, Lower};
    assert_eq!(verdict(Higher, &[1.0, 2.0], &[2.1, 3.0]), Verdict::Better);
    assert_eq!(verdict(Higher, &[1.0, 2.0], &[2.0, 9.0]), Verdict::Noise);
    assert_eq!(verdict(Higher, &[1.0, 2.0], &[0.1, 0.9]), Verdict::Worse);
    assert_eq!(verdict(Lower, &[1.0, 2.0], &[2.1, 3.0]), Verdict::Worse);
    assert_eq!(verdict(Lower, &[1.0, 2.0], &[0.1, 0.9]), Verdict::Better);
    assert_eq!(verdict(Higher, &[1.0], &[5.0, 6.0]), Verdict::Unknown);
}

#[test]
fn what_only_one_run_has_is_said() {
    let [old, new] = ["tinc", "weft"].map(|peer| document(peer, Better::Higher, &[1.0, 2.0]));
    let compared = compare(&old, &new);
    assert!(compared.rows.is_empty());
    assert_eq!(compared.only_one.len(), 2);
}

#[test]
fn the_table_shows_changes_and_counts_the_rest() {
    let old = document("weft", Better::Higher, &[1.0, 2.0]);
    let mut new = document("weft", Better::Higher, &[3.0, 4.0]);
    new.machine.kernel = "7.0".into();
    let text = table(&compare(&old, &new), false);
    assert!(text.contains("on 1500 IPv4: weft tcp-1-out"), "{text}");
    assert!(text.contains("+133.3 %"), "{text}");
    assert!(text.contains("not the same: kernel: , now 7.0"), "{text}");
    let same = table(&compare(&old, &old), false);
    assert!(!same.contains("tcp-1-out") && same.contains("1 within noise"), "{same}");
    assert!(table(&compare(&old, &old), true).contains("tcp-1-out"));
}
