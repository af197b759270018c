//! The comparison: every measure over every peer, one after the other, in rounds.

use anyhow::Result;
use netns_tests::process::interrupt_flag;
use std::sync::atomic::Ordering;
use weft_benches::document::{Cell, Failure, Sample, Series};

use crate::measure::Value;
use crate::plan::{self, Measure, Plan};
use crate::progress::Progress;
use crate::tunnel::{Field, Way};

/// What was measured, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
    pub(crate) failures: Vec<Failure>,
}

/// Measures everything of a plan.
///
/// # Errors
/// When an underlay does not come up, or on an interrupt. A peer that fails is only noted.
pub(crate) fn run(plan: &Plan, ways: &[Way], progress: &mut Progress) -> Result<Results> {
    let mut results = Results::default();
    for (cell, rounds, measures) in &plan.cells {
        let peers = u32::try_from(ways.len())?;
        progress.begin(&format!("{cell}: bringing everything up"), plan::setup(peers));
        let field = Field::up(*cell, ways, |name, e| results.fail(name, *cell, "start", 0, &e))?;
        progress.end();
        for round in 1..=*rounds {
            for measure in measures {
                // Who is first is another one each time: no peer always follows the same one.
                let mut tunnels: Vec<_> = field.tunnels.iter().collect();
                let first = round as usize % tunnels.len();
                tunnels.rotate_left(first);
                for tunnel in tunnels {
                    let what = format!("{cell}, round {round} of {rounds}: {}", tunnel.name);
                    let name = measure.name();
                    let estimate = measure.estimate(&plan.length);
                    progress.begin(&format!("{what} {name}"), estimate);
                    match tunnel.measure(*measure, &plan.length) {
                        Ok(values) => results.add(&tunnel.name, *cell, *measure, round, &values),
                        Err(e) if interrupt_flag().load(Ordering::Relaxed) => return Err(e),
                        Err(e) => results.fail(&tunnel.name, *cell, &name, round, &e),
                    }
                    progress.end();
                }
            }
        }
    }
    Ok(results)
}

impl Results {
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
