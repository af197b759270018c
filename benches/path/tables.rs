//! The comparison for people: one table per combination and measured value, a line per peer.

use std::fmt::Write as _;

use weft_benches::document::{Document, Failure, LeftOut, Peer, Series};
use weft_benches::report::number;

use crate::plan::Plan;
use crate::tunnel::Way;

/// Widths of the columns.
const NAME: usize = 14;
const NUMBER: usize = 10;

/// All series, grouped by combination and metric in the order in which they were measured.
pub(crate) fn comparison(document: &Document) -> String {
    let mut out = String::new();
    let mut shown: Vec<&Series> = Vec::new();
    for first in &document.series {
        let same = |series: &&Series| series.cell == first.cell && series.metric == first.metric;
        if shown.iter().any(same) {
            continue;
        }
        shown.push(first);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}: {}, {}", first.cell, first.metric, first.unit);
        // In the order of the peers, not in that of a round.
        for peer in &document.peers {
            let own = document.series.iter().filter(same).find(|s| s.peer == peer.name);
            let Some(summary) = own.and_then(Series::summary) else { continue };
            let _ = writeln!(
                out,
                "  {:NAME$}{:>NUMBER$}  {} … {}",
                peer.name,
                number(summary.median),
                number(summary.min),
                number(summary.max),
            );
        }
    }
    out
}

/// A line for each peer that could not take part, with what installs it.
pub(crate) fn missing(peers: &[Peer]) -> String {
    let mut out = String::new();
    for peer in peers {
        if let Some(reason) = &peer.missing {
            let _ = writeln!(out, "missing: {}: {reason}", peer.name);
        }
    }
    out
}

/// A line for each figure that was not measured.
pub(crate) fn left_out(rows: &[LeftOut]) -> String {
    rows.iter().fold(String::new(), |mut out, LeftOut { figure, reason }| {
        let _ = writeln!(out, "not measured: {figure}: {reason}");
        out
    })
}

/// What would be measured where, and about how long it takes.
pub(crate) fn plan(plan: &Plan, ways: &[Way]) -> String {
    let mut out = String::new();
    for stage in &plan.stages {
        let own = stage.ways(ways);
        if own.is_empty() {
            continue;
        }
        let ways: Vec<_> = own.iter().map(Way::name).collect();
        let measures: Vec<_> = stage.measures.iter().map(|measure| measure.name()).collect();
        let _ = writeln!(
            out,
            "{}, {} rounds\n  {}\n  {}",
            stage.cell,
            stage.rounds,
            ways.join(" "),
            measures.join(" ")
        );
    }
    let minutes = plan.estimate(ways).as_secs().div_ceil(60);
    let _ = writeln!(out, "about {minutes} minutes");
    out
}

/// A line for each measurement without a result.
pub(crate) fn failures(failures: &[Failure]) -> String {
    let mut out = String::new();
    for Failure { peer, cell, measure, round, error } in failures {
        let _ = writeln!(out, "failed: {cell}, round {round}, {peer} {measure}: {error}");
    }
    out
}
