//! What changed between two runs.

use std::fmt::Write as _;

use crate::document::{Better, Document};
use crate::report::{Target, number};
use crate::stats::Summary;

/// Runs that a spread needs: a single one has none, and any other would be a change.
const RUNS_MIN: usize = 2;

/// What became of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Improved, and the spreads do not overlap.
    Better,
    /// Got worse, and the spreads do not overlap.
    Worse,
    /// Changed, without a better or worse, and the spreads do not overlap.
    Changed,
    /// The spreads overlap.
    Noise,
    /// One of the two was measured only once.
    Unknown,
}

/// One value in both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Combination, peer and metric, or the name of a figure.
    pub name: String,
    /// Unit.
    pub unit: String,
    /// In the old run.
    pub old: Summary,
    /// In the new run.
    pub new: Summary,
    /// What became of it.
    pub verdict: Verdict,
}

/// All values of two runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// What both have.
    pub rows: Vec<Row>,
    /// What only one has.
    pub only_one: Vec<String>,
    /// What makes the two runs hard to compare.
    pub differences: Vec<String>,
}

/// Compares two runs.
#[must_use]
pub fn compare(old: &Document, new: &Document) -> Comparison {
    let (old_values, new_values) = (values(old), values(new));
    let mut comparison = Comparison { differences: differences(old, new), ..Comparison::default() };
    for value in &new_values {
        let Some(before) = old_values.iter().find(|other| other.name == value.name) else {
            comparison.only_one.push(format!("{}: only in the new run", value.name));
            continue;
        };
        comparison.rows.push(Row {
            name: value.name.clone(),
            unit: value.unit.clone(),
            old: before.summary,
            new: value.summary,
            verdict: judge(before.summary, value.summary, value.better),
        });
    }
    let gone = old_values.iter().filter(|value| !new_values.iter().any(|n| n.name == value.name));
    comparison.only_one.extend(gone.map(|value| format!("{}: only in the old run", value.name)));
    comparison
}

struct Value {
    name: String,
    unit: String,
    better: Option<Better>,
    summary: Summary,
}

fn values(document: &Document) -> Vec<Value> {
    let figures = document.figures.iter().map(|figure| Value {
        name: figure.name.clone(),
        unit: figure.unit.clone(),
        better: match figure.target {
            Target::AtLeast(_) => Some(Better::Higher),
            Target::AtMost(_) => Some(Better::Lower),
            Target::None => None,
        },
        summary: figure.summary,
    });
    let series = document.series.iter().filter_map(|series| {
        Some(Value {
            name: format!("{}: {} {}", series.cell, series.peer, series.metric),
            unit: series.unit.clone(),
            better: Some(series.better),
            summary: series.summary()?,
        })
    });
    let curves = document.growth.iter().flat_map(|growth| &growth.curves);
    let growth = curves.flat_map(|curve| {
        curve.points.iter().filter_map(|point| {
            Some(Value {
                name: format!("{}, {} {}", curve.name, point.x, curve.x_label),
                unit: curve.unit.clone(),
                better: None,
                summary: point.summary()?,
            })
        })
    });
    figures.chain(series).chain(growth).collect()
}

fn judge(old: Summary, new: Summary, better: Option<Better>) -> Verdict {
    if old.runs.min(new.runs) < RUNS_MIN {
        return Verdict::Unknown;
    }
    let (more, less) = (new.min > old.max, new.max < old.min);
    match better {
        _ if !more && !less => Verdict::Noise,
        None => Verdict::Changed,
        Some(Better::Higher) if more => Verdict::Better,
        Some(Better::Lower) if less => Verdict::Better,
        Some(_) => Verdict::Worse,
    }
}

fn differences(old: &Document, new: &Document) -> Vec<String> {
    let (a, b) = (&old.machine, &new.machine);
    let mut pairs = vec![
        ("processor".to_owned(), a.cpu.clone(), b.cpu.clone()),
        ("cores".to_owned(), a.cores.to_string(), b.cores.to_string()),
        ("kernel".to_owned(), a.kernel.clone(), b.kernel.clone()),
        ("iperf3".to_owned(), a.iperf3.clone(), b.iperf3.clone()),
        (
            "congestion control".to_owned(),
            old.congestion_control.clone(),
            new.congestion_control.clone(),
        ),
        ("quick".to_owned(), old.quick.to_string(), new.quick.to_string()),
    ];
    for peer in &new.peers {
        if let Some(before) = old.peers.iter().find(|before| before.name == peer.name) {
            let name = format!("version of {}", peer.name);
            pairs.push((name, before.version.clone(), peer.version.clone()));
        }
    }
    pairs
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name}: {old}, now {new}"))
        .collect()
}

/// The comparison as a table; with `all`, also what did not change.
#[must_use]
pub fn table(comparison: &Comparison, all: bool) -> String {
    let mut out = String::new();
    let said = |verdict| match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "WORSE",
        Verdict::Changed => "changed",
        Verdict::Noise => "within noise",
        Verdict::Unknown => "one run only",
    };
    let counts = |verdict| matches!(verdict, Verdict::Better | Verdict::Worse | Verdict::Changed);
    let shown: Vec<_> = comparison.rows.iter().filter(|row| all || counts(row.verdict)).collect();
    let width = shown.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(6);
    // Writing to a String cannot fail.
    for difference in &comparison.differences {
        let _ = writeln!(out, "not the same: {difference}");
    }
    let _ = writeln!(
        out,
        "{:width$}  {:>9}  {:>19}  {:>9}  {:>19}  {:>8}",
        "value", "old", "spread", "new", "spread", "change"
    );
    for row in shown {
        let spread = |s: &Summary| format!("{} … {}", number(s.min), number(s.max));
        let change = match row.old.median {
            0.0 => String::new(),
            old => format!("{:+.1} %", (row.new.median / old - 1.0) * 100.0),
        };
        let _ = writeln!(
            out,
            "{:width$}  {:>9}  {:>19}  {:>9}  {:>19}  {change:>8}  {}, {}",
            row.name,
            number(row.old.median),
            spread(&row.old),
            number(row.new.median),
            spread(&row.new),
            row.unit,
            said(row.verdict),
        );
    }
    for line in &comparison.only_one {
        let _ = writeln!(out, "{line}");
    }
    let count = |of: &[Verdict]| comparison.rows.iter().filter(|r| of.contains(&r.verdict)).count();
    let _ = writeln!(
        out,
        "{} better, {} worse, {} changed, {} within noise, {} measured only once",
        count(&[Verdict::Better]),
        count(&[Verdict::Worse]),
        count(&[Verdict::Changed]),
        count(&[Verdict::Noise]),
        count(&[Verdict::Unknown]),
    );
    out
}

#[cfg(test)]
mod tests;
