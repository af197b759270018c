//! Figures against their targets, as a table for people and JSON for programs.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::stats::Summary;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// For information.
    None,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit: `×` for a ratio.
    pub unit: String,
    /// What it should be.
    pub target: Target,
    /// What it is.
    pub summary: Summary,
    /// Whether the median reaches the target; `None` without a target.
    pub reached: Option<bool>,
}

impl Figure {
    /// Judges a summary by its median. `None` when nothing was measured.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        unit: impl Into<String>,
        target: Target,
        summary: Option<Summary>,
    ) -> Option<Self> {
        let summary = summary?;
        let reached = match target {
            Target::AtLeast(bound) => Some(summary.median >= bound),
            Target::AtMost(bound) => Some(summary.median <= bound),
            Target::None => None,
        };
        Some(Self { name: name.into(), unit: unit.into(), target, summary, reached })
    }
}

/// The table: name, median, spread, target, verdict.
#[must_use]
pub fn table(figures: &[Figure], colour: bool) -> String {
    let width = figures.iter().map(|f| f.name.chars().count()).max().unwrap_or(0).max(6);
    let mut out = String::new();
    let heading =
        format!("{:width$}  {:>10}  {:>19}  {:>10}  ", "figure", "median", "spread", "target");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", paint(&heading, "1", colour));
    for figure in figures {
        let Summary { median, min, max, .. } = figure.summary;
        let target = match figure.target {
            Target::AtLeast(bound) => format!("≥ {}", number(bound)),
            Target::AtMost(bound) => format!("≤ {}", number(bound)),
            Target::None => String::new(),
        };
        let verdict = match figure.reached {
            Some(true) => paint("reached", "32", colour),
            Some(false) => paint("MISSED", "1;31", colour),
            None => String::new(),
        };
        let (name, unit) = (&figure.name, &figure.unit);
        let spread = format!("{} … {}", number(min), number(max));
        let _ = writeln!(
            out,
            "{name:width$}  {:>10}  {spread:>19}  {target:>10}  {unit:7} {verdict}",
            number(median),
        );
    }
    out
}

pub(crate) fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Three significant digits, thousands with a separator.
#[must_use]
pub fn number(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (position, digit) in digits.chars().enumerate() {
            if position > 0 && (digits.len() - position) % 3 == 0 {
                out.push(',');
            }
            out.push(digit);
        }
        return out;
    }
    let decimals = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_judged_by_their_median() {
        let summary = Summary::of(&[0.4, 0.5, 0.6]);
        let figure = |target| Figure::new("x", "×", target, summary).unwrap().reached;
        assert_eq!(figure(Target::AtLeast(0.45)), Some(true));
        assert_eq!(figure(Target::AtLeast(0.55)), Some(false));
        assert_eq!(figure(Target::AtMost(0.55)), Some(true));
        assert_eq!(figure(Target::None), None);
    }

    #[test]
    fn tables_are_aligned() {
        let figure = |name: &str| {
            Figure::new(name, "×", Target::AtLeast(0.45), Summary::of(&[0.5])).unwrap()
        };
        let text = table(&[figure("short"), figure("a longer name")], false);
        let columns: Vec<_> =
            text.lines().skip(1).map(|l| l.chars().position(|c| c == '≥')).collect();
        assert_eq!(columns[0], columns[1]);
        assert!(text.contains("reached"));
        assert_eq!(number(123_456.7), "123,457");
        assert_eq!(number(0.456), "0.46");
    }
}
