//! The comparison: every measure over every peer, one after the other, in rounds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::Result;
use netns_tests::process::interrupt_flag;
use weft_benches::distribution::Distribution;
use weft_benches::document::{Cell, Failure, Sample, Series};

use crate::measure::Value;
use crate::plan::{self, Measure, Plan, Stage};
use crate::progress::Progress;
use crate::tunnel::{Field, Way};

/// What was measured, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
    pub(crate) failures: Vec<Failure>,
    /// Round trips by combination, peer and measure.
    round_trips: BTreeMap<(String, String, String), (Cell, Vec<f64>)>,
}

/// Measures everything of a plan.
///
/// # Errors
/// When an underlay does not come up, or on an interrupt. A way that fails is only noted.
pub(crate) fn run(plan: &Plan, all: &[Way], progress: &mut Progress) -> Result<Results> {
    let mut results = Results::default();
    for stage in &plan.stages {
        let ways = stage.ways(all);
        if !ways.is_empty() {
            results.stage(stage, &ways, plan, progress)?;
        }
    }
    Ok(results)
}

impl Results {
    fn stage(
        &mut self,
        stage: &Stage,
        ways: &[Way],
        plan: &Plan,
        progress: &mut Progress,
    ) -> Result<()> {
        let (cell, rounds) = (stage.cell, stage.rounds);
        progress.begin(&format!("{cell}: bringing everything up"), plan::setup(ways.len()));
        let field =
            Field::up(cell, ways, plan.pacing, |name, e| self.fail(name, cell, "start", 0, &e))?;
        progress.end();
        for round in 1..=rounds {
            for measure in &stage.measures {
                let mut tunnels: Vec<_> =
                    field.tunnels.iter().filter(|t| t.way.takes(*measure)).collect();
                if tunnels.is_empty() {
                    continue;
                }
                // Who is first is another one each time: no peer always follows the same one.
                let first = round as usize % tunnels.len();
                tunnels.rotate_left(first);
                for tunnel in tunnels {
                    let (peer, name) = (tunnel.way.name(), measure.name());
                    let what = format!("{cell}, round {round} of {rounds}: {peer} {name}");
                    progress.begin(&what, plan.length.estimate(*measure));
                    match tunnel.measure(*measure, &plan.length) {
                        Ok(measured) => {
                            self.add(peer, cell, *measure, round, &measured.values);
                            self.pool(peer, cell, *measure, measured.round_trips);
                        }
                        Err(e) if interrupt_flag().load(Ordering::Relaxed) => return Err(e),
                        Err(e) => self.fail(peer, cell, &name, round, &e),
                    }
                    progress.end();
                }
            }
        }
        Ok(())
    }

    fn pool(&mut self, peer: &str, cell: Cell, measure: Measure, round_trips: Vec<f64>) {
        if !round_trips.is_empty() {
            let key = (cell.to_string(), peer.to_owned(), measure.name());
            let (_, all) = self.round_trips.entry(key).or_insert((cell, Vec::new()));
            all.extend(round_trips);
        }
    }

    /// The round trips of all rounds together.
    pub(crate) fn distributions(&self) -> Vec<Distribution> {
        let pooled = self.round_trips.iter();
        pooled
            .map(|((_, peer, measure), (cell, times))| {
                Distribution::of(peer, *cell, measure, times)
            })
            .collect()
    }

    fn fail(&mut self, peer: &str, cell: Cell, measure: &str, round: u32, error: &anyhow::Error) {
        let (peer, measure) = (peer.to_owned(), measure.to_owned());
        let error = format!("{error:#}");
        eprintln!("{cell}: {peer} {measure}: {error}");
        self.failures.push(Failure { peer, cell, measure, round, error });
    }

    fn add(&mut self, peer: &str, cell: Cell, measure: Measure, round: u32, values: &[Value]) {
        for Value { part, unit, better, value } in values {
            let metric = match *part {
                "" => measure.name(),
                part => format!("{}.{part}", measure.name()),
            };
            let new = Series {
                peer: peer.to_owned(),
                cell,
                metric,
                unit: (*unit).to_owned(),
                better: *better,
                samples: Vec::new(),
            };
            let known = self.series.iter().position(|series| series.matches(&new));
            let at = known.unwrap_or(self.series.len());
            if known.is_none() {
                self.series.push(new);
            }
            self.series[at].samples.push(Sample { round, value: *value });
        }
    }
}
