//! Tables of a page.

use crate::document::{Document, Series};
use crate::page::{Cell, Section, Table};
use crate::report::{Figure, Target, number};

/// Percentiles of pooled round trips, as one in so many.
const BEYOND: [(&str, f64); 4] = [("p50", 2.0), ("p90", 10.0), ("p99", 100.0), ("p99.9", 1_000.0)];

/// Figures with their targets, those that were not measured behind them.
pub(super) fn figures(document: &Document) -> Section {
    let mut rows: Vec<_> = document.figures.iter().map(figure).collect();
    rows.extend(document.left_out.iter().map(|row| {
        let reason = Cell::Note(format!("not measured: {}", row.reason));
        vec![Cell::Plain(row.figure.clone()), reason]
    }));
    let judged = || document.figures.iter().filter_map(|figure| figure.reached);
    let (reached, all) = (judged().filter(|reached| *reached).count(), judged().count());
    let table = (!rows.is_empty()).then(|| Table {
        head: ["figure", "median", "spread", "rounds", "target"].map(str::to_owned).to_vec(),
        rows,
    });
    Section {
        heading: "Figures".into(),
        text: format!("{reached} of {all} targets are reached by the median."),
        table,
        ..Section::default()
    }
}

fn figure(figure: &Figure) -> Vec<Cell> {
    let summary = figure.summary;
    let target = match figure.target {
        Target::AtLeast(bound) => format!("≥ {}", number(bound)),
        Target::AtMost(bound) => format!("≤ {}", number(bound)),
        Target::None => String::new(),
    };
    let target = match figure.reached {
        Some(true) => Cell::Reached(target),
        Some(false) => Cell::Missed(target),
        None => Cell::Plain(target),
    };
    vec![
        Cell::Plain(figure.name.clone()),
        Cell::Plain(format!("{} {}", number(summary.median), figure.unit)),
        Cell::Plain(format!("{} – {}", number(summary.min), number(summary.max))),
        Cell::Plain(summary.runs.to_string()),
        target,
    ]
}

/// Percentiles of all rounds together.
pub(super) fn percentiles(document: &Document) -> Option<Table> {
    let rows = document.distributions.iter().map(|d| {
        let name = format!("{} {}, {}", d.peer, d.measure, d.cell);
        let values = BEYOND.map(|(_, one_in)| match d.beyond(one_in) {
            Some(value) => Cell::Plain(number(value)),
            None => Cell::Plain("–".to_owned()),
        });
        let count = Cell::Plain(number(as_f64(d.count)));
        [vec![Cell::Plain(name)], values.to_vec(), vec![count]].concat()
    });
    let rows: Vec<_> = rows.collect();
    let head = ["µs", "p50", "p90", "p99", "p99.9", "round trips"].map(str::to_owned).to_vec();
    (!rows.is_empty()).then_some(Table { head, rows })
}

#[expect(clippy::cast_precision_loss, reason = "a measurement has far less than 2^53 values")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// What is missing, and what failed.
pub(super) fn without_result(document: &Document) -> Section {
    let missing = document.peers.iter().filter_map(|peer| {
        let reason = peer.missing.clone()?;
        Some(vec![Cell::Plain(peer.name.clone()), Cell::Note(reason)])
    });
    let failed = document.failures.iter().map(|failure| {
        let what = format!("{}: {} {}", failure.cell, failure.peer, failure.measure);
        let why = format!("round {}: {}", failure.round, failure.error);
        vec![Cell::Missed(what), Cell::Note(why)]
    });
    let rows: Vec<_> = missing.chain(failed).collect();
    let text = if rows.is_empty() { "Nothing: all was there and was measured." } else { "" };
    let table = (!rows.is_empty()).then(|| Table { head: Vec::new(), rows });
    Section { heading: "Without a result".into(), text: text.into(), table, ..Section::default() }
}

/// Who took part.
pub(super) fn peers(document: &Document) -> Section {
    let there = document.peers.iter().filter(|peer| peer.missing.is_none());
    let rows: Vec<_> = there
        .map(|peer| vec![Cell::Plain(peer.name.clone()), Cell::Note(peer.version.clone())])
        .collect();
    let table = (!rows.is_empty()).then(|| Table { head: Vec::new(), rows });
    Section { heading: "Versions".into(), table, ..Section::default() }
}

/// Every value, folded away.
pub(super) fn everything(document: &Document) -> Option<Section> {
    let row = |series: &Series| {
        let summary = series.summary()?;
        Some(vec![
            Cell::Plain(format!("{}: {} {}", series.cell, series.peer, series.metric)),
            Cell::Plain(format!("{} {}", number(summary.median), series.unit)),
            Cell::Plain(format!("{} – {}", number(summary.min), number(summary.max))),
            Cell::Plain(summary.runs.to_string()),
        ])
    };
    let rows: Vec<_> = document.series.iter().filter_map(row).collect();
    let head = ["value", "median", "spread", "rounds"].map(str::to_owned).to_vec();
    (!rows.is_empty()).then(|| Section {
        heading: "Every value".into(),
        table: Some(Table { head, rows }),
        folded: true,
        ..Section::default()
    })
}
