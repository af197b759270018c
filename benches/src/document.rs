//! What a run writes: one JSON document with the machine, what was planned, every sample and every
//! failure. Other programs read it, so its version changes whenever a reader of the one before
//! would misread it.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::growth::GrowthDocument;
use crate::machine::Machine;
use crate::report::Figure;
use crate::stats::Summary;
use crate::versioned;

/// The version that this program writes, and the only one that it reads.
pub const VERSION: u32 = 2;

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The machine and the versions of the programs that measured.
    pub machine: Machine,
    /// TCP congestion control of every stream.
    pub congestion_control: String,
    /// A smoke test, not figures.
    pub quick: bool,
    /// Everything that was to be compared, what is missing too.
    pub peers: Vec<Peer>,
    /// What was measured where.
    pub plan: Plan,
    /// Figures with their targets.
    pub figures: Vec<Figure>,
    /// Figures that have a target and were not measured.
    pub left_out: Vec<LeftOut>,
    /// The comparison: every sample.
    pub series: Vec<Series>,
    /// Round trips, pooled over the rounds.
    pub distributions: Vec<Distribution>,
    /// What could not be measured.
    pub failures: Vec<Failure>,
    /// How costs grow, when that was measured too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<GrowthDocument>,
}

/// What stands among the figures that were not measured for those of a [`GrowthDocument`].
pub const GROWTH: &str = "growth with environments, routes, sessions; handshakes";

/// A figure without a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub figure: String,
    /// Why it was not measured.
    pub reason: String,
}

/// One way of a packet that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What it says about its version; nothing when it is missing.
    pub version: String,
    /// Why it was not measured, and what would install it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What was measured where, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Length of every TCP stream, seconds.
    pub stream_s: f64,
    /// Length of a UDP overload, seconds.
    pub packets_s: f64,
    /// Length of each step of the search for the rate without loss, seconds.
    pub search_s: f64,
    /// Steps of that search.
    pub search_steps: u32,
    /// Pings of a measurement; percentiles are those of all rounds together.
    pub pings: u32,
    /// Length of a series of requests, seconds.
    pub requests_s: f64,
    /// The combinations.
    pub cells: Vec<PlannedCell>,
}

/// What was measured in one combination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCell {
    /// The combination.
    pub cell: Cell,
    /// How often everything was measured.
    pub rounds: u32,
    /// Names of the measures.
    pub measures: Vec<String>,
}

/// One combination of what the underlay may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What its interfaces do for the kernel.
    pub offloads: Offloads,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Its version of IP.
    pub family: Family,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let offloads = match self.offloads {
            Offloads::On => "on",
            Offloads::Nic => "nic",
            Offloads::Off => "off",
        };
        let family = match self.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        write!(f, "{offloads} {} {family}", self.mtu)
    }
}

/// Offloads of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offloads {
    /// All that veth has.
    On,
    /// Aggregation on receipt, no segmentation: a network card that cannot cut packets.
    Nic,
    /// None.
    Off,
}

/// Version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which way a value improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

impl Better {
    /// For a reader.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Higher => "more is better",
            Self::Lower => "less is better",
        }
    }
}

/// All samples of one value of one peer in one combination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name of the peer.
    pub peer: String,
    /// The combination.
    pub cell: Cell,
    /// What was measured: the name of the measure, a dot and a part where there are several.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Which way it improves.
    pub better: Better,
    /// One per round in which the measurement succeeded.
    pub samples: Vec<Sample>,
}

/// One measured value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// In which round, from 1.
    pub round: u32,
    /// The value, finite.
    pub value: f64,
}

/// A measurement without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the peer.
    pub peer: String,
    /// The combination.
    pub cell: Cell,
    /// Name of the measure, or `start`.
    pub measure: String,
    /// In which round; 0 for the start.
    pub round: u32,
    /// Why.
    pub error: String,
}

impl Series {
    /// Median and spread.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let values: Vec<f64> = self.samples.iter().map(|sample| sample.value).collect();
        Summary::of(&values)
    }

    /// Whether both are about the same thing.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.peer == other.peer && self.cell == other.cell && self.metric == other.metric
    }
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is no JSON of this kind, or of another version; the message says which.
    pub fn parse(text: &str) -> Result<Self> {
        versioned::parse(text, "bench-path", VERSION)
    }

    /// Takes in how costs grow: its figures are among those of the run, once.
    pub fn set_growth(&mut self, growth: GrowthDocument) {
        let former = self.growth.take().map(|growth| growth.figures).unwrap_or_default();
        self.figures.retain(|figure| !former.iter().any(|other| other.name == figure.name));
        self.left_out.retain(|row| row.figure != GROWTH);
        self.figures.extend(growth.figures.iter().cloned());
        self.growth = Some(growth);
    }

    /// Reads a document from a file.
    ///
    /// # Errors
    /// As [`Document::parse`], and when the file cannot be read.
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
pub(crate) mod tests;
