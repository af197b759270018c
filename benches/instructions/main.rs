//! `instructions`: instruction counts of the hot paths against the committed ones. Time depends on
//! who else uses the machine, counts do not: this is the guard that can run anywhere.
//!
//! Each work runs under callgrind, once N times and once 2N times; the difference is N operations
//! without start, preparation and end.

mod callgrind;
mod cases;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use weft_benches::baseline::{Baseline, judge};

use crate::cases::{Work, figures};

const RENEW: &str = "make bench-instructions UPDATE=1";

/// Counts instructions of the hot paths and compares them with the baseline.
#[derive(Debug, Parser)]
struct Options {
    /// The committed counts
    #[arg(long, default_value = "benches/instructions.json")]
    baseline: PathBuf,
    /// Write what was counted as the new baseline
    #[arg(long)]
    update: bool,
    #[command(subcommand)]
    run: Option<Run>,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// Only do the work, for a tool that watches
    Run {
        /// What to do
        work: Work,
        /// How many times
        times: u32,
    },
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(Run::Run { work, times }) = options.run {
        work.run(times.min(2 * work.repetitions()));
        return Ok(ExitCode::SUCCESS);
    }
    // What can be missing is found out before anything is counted.
    let valgrind = callgrind::version()?;
    let before = match options.update {
        true => None,
        false => Some(Baseline::read(&options.baseline).context("no usable baseline")?),
    };
    let instructions = figures(count)?;
    let now = Baseline { processor: processor(), valgrind, instructions };
    let Some(before) = before else {
        now.write(&options.baseline)?;
        println!("{} is written; commit it with the reason", options.baseline.display());
        return Ok(ExitCode::SUCCESS);
    };
    let verdict = judge(&before, &now, RENEW);
    print!("{}", verdict.text);
    Ok(if verdict.passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Instructions of one operation.
fn count(work: Work) -> Result<f64> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let name = clap::ValueEnum::to_possible_value(&work).context("a work without a name")?;
    let run =
        |times: u32| callgrind::count(&program, &["run", name.get_name(), &times.to_string()]);
    let (once, twice) = (run(work.repetitions())?, run(2 * work.repetitions())?);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let difference = twice.saturating_sub(once) as f64;
    Ok(difference / f64::from(work.repetitions()))
}

/// By what libraries choose their code, as far as valgrind lets them see it: it knows nothing
/// beyond AVX2.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let extension = match std::is_x86_feature_detected!("avx2") {
        true => " with AVX2",
        false => " without AVX2",
    };
    #[cfg(not(target_arch = "x86_64"))]
    let extension = "";
    format!("{}{extension}", std::env::consts::ARCH)
}
