//! How costs grow with the number of hosts, environments, attachments, routes or sessions: the
//! document that `bench-growth` writes and the report takes in.
//!
//! The report shows every curve as a line plot with the spread of its points, those of one `unit`
//! and `x_label` that share their name up to the first colon (`throughput: 1 stream`, `throughput:
//! 4 streams`) in one plot, and every figure as a row of the table of targets.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::report::Figure;
use crate::stats::Summary;
use crate::versioned;

/// The version that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Everything about one run of `bench-growth`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrowthDocument {
    /// [`VERSION`].
    pub version: u32,
    /// The machine and the versions of the programs that measured.
    pub machine: Machine,
    /// A smoke test, not figures.
    pub quick: bool,
    /// What grew with what.
    pub curves: Vec<Curve>,
    /// Figures with their targets.
    pub figures: Vec<Figure>,
    /// What could not be measured: what, a colon, why.
    pub failures: Vec<String>,
}

/// One value as something grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What was measured: `plot: line`, or only the plot where it has one line.
    pub name: String,
    /// What grows, in plural: `environments`.
    pub x_label: String,
    /// What is measured, without the unit: `throughput`.
    pub y_label: String,
    /// Unit of the samples.
    pub unit: String,
    /// In order of `x`.
    pub points: Vec<Point>,
}

/// One size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How many of what grows, above 0.
    pub x: f64,
    /// One per round, finite; at least one.
    pub samples: Vec<f64>,
}

impl Curve {
    /// The plot that it belongs to, and its own name there.
    #[must_use]
    pub fn plot_and_line(&self) -> (&str, &str) {
        self.name
            .split_once(':')
            .map_or((&self.name, &self.y_label), |(plot, line)| (plot.trim(), line.trim()))
    }
}

impl Point {
    /// Median and spread; `None` without a sample.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.samples)
    }
}

impl GrowthDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is no JSON of this kind, or of another version; the message says which.
    pub fn parse(text: &str) -> Result<Self> {
        versioned::parse(text, "bench-growth", VERSION)
    }

    /// Reads a document from a file.
    ///
    /// # Errors
    /// As [`GrowthDocument::parse`], and when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        versioned::read(path, Self::parse)
    }

    /// Writes it to a file, whose directory is made when it is missing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        versioned::write(self, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_and_other_versions_are_refused() {
        let curve = Curve {
            name: "throughput: 1 stream".into(),
            x_label: "environments".into(),
            y_label: "throughput".into(),
            unit: "Gbit/s".into(),
            points: vec![Point { x: 10.0, samples: vec![2.0, 1.0, 3.0] }],
        };
        assert_eq!(curve.plot_and_line(), ("throughput", "1 stream"));
        assert_eq!(curve.points[0].summary().map(|s| s.median), Some(2.0));
        let alone = Curve { name: "memory".into(), ..curve.clone() };
        assert_eq!(alone.plot_and_line(), ("memory", "throughput"));
        let document = GrowthDocument {
            version: VERSION,
            machine: Machine::default(),
            quick: true,
            curves: vec![curve],
            figures: Vec::new(),
            failures: Vec::new(),
        };
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(GrowthDocument::parse(&text).unwrap(), document);
        let other = text.replacen("\"version\":1", "\"version\":2", 1);
        let refused = GrowthDocument::parse(&other).unwrap_err().to_string();
        assert_eq!(refused, "version: expected 1, found 2");
    }
}
