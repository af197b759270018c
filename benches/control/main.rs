//! `bench-control`: a control plane with as many environments, hosts and attachments as it is made for. The program is
//! the real one with its store on a disk; hosts and people are here, and as many as they say.
//!
//! ```text
//!   people ── environments, reads ──▶ weft-control ◀── join, watch, attach, report ── hosts
//! ```

mod fleet;
mod load;
mod people;
mod plane;

use std::{
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use weft_benches::{
    report::{Figure, Target, table},
    stats::{Summary, percentile},
};

use self::{fleet::Fleet, load::Load, people::People, plane::Plane};

/// From a request to an attachment until another host knows of it, 99 of 100, milliseconds.
const ATTACH_P99_MAX: Target = Target::AtMost(1_000.0);
/// Reads, 99 of 100, milliseconds.
const READ_P99_MAX: Target = Target::AtMost(20.0);
/// Until a host that knows nothing knows everything, the longest, milliseconds.
const RESYNC_MAX: Target = Target::AtMost(1_000.0);
/// Resident memory, MiB.
const MEMORY_MAX: Target = Target::AtMost(512.0);

/// Measures the control plane.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Environments
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    environments: u32,
    /// Hosts that watch
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    hosts: u32,
    /// Attachments before the measurement begins
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    attachments: u32,
    /// Attachments that are asked for in a second of the measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Reads in a second of the measurement
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    reads: u32,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// The program, built with the same options
    #[arg(long, default_value = "target/release/weft-control")]
    program: PathBuf,
    /// On which disk: a directory for files that are removed again
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    // A connection for each host, here and there.
    weft_sys::process::raise_descriptor_limit().context("more descriptors")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = runtime.block_on(measure(&options))?;
    println!("{}", table(&figures, std::io::stdout().is_terminal()));
    Ok(())
}

async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |name: &str, unit: &str, target, values: &[f64]| {
        figures.extend(Figure::new(name, unit, target, Summary::of(values)));
    };
    let mut stage = Stage::begin();
    let plane = Plane::start(&options.program, &options.directory).await?;
    let people = People::come(&plane, options.environments).await?;
    stage.is_over(&format!("{} environments", options.environments));
    add("memory, environments only", "MiB", Target::None, &[plane.memory()?.now]);
    let fleet = Fleet::join(&plane, &people, options).await?;
    stage.is_over(&format!("{} hosts", options.hosts));
    let made = fleet.attach_all(options.attachments).await?;
    let took = stage.is_over(&format!("{} attachments", options.attachments));
    add(
        "attachments one after the other, each host",
        "/s",
        Target::None,
        &[f64::from(made) / took],
    );
    add("memory, everything there", "MiB", MEMORY_MAX, &[plane.memory()?.now]);

    let resyncs = fleet.resync().await?;
    add("a full resync", "ms", RESYNC_MAX, &resyncs);
    add("the longest of them", "ms", RESYNC_MAX, &[percentile(&resyncs, 1.0).unwrap_or(f64::NAN)]);
    stage.is_over("resyncs");

    let before = plane.cpu_seconds()?;
    let load = Load::run(&fleet, &people, options).await?;
    let seconds = stage.is_over("load");
    for (name, target, times) in [
        ("attach, answered", Target::None, &load.answered),
        ("attach, told to the host itself", Target::None, &load.told_itself),
        ("attach, told to another host", ATTACH_P99_MAX, &load.told),
        ("reads", READ_P99_MAX, &load.reads),
    ] {
        add(&format!("{name}: median"), "ms", Target::None, times);
        let p99 = percentile(times, 0.99).unwrap_or(f64::NAN);
        add(&format!("{name}: p99"), "ms", target, &[p99]);
    }
    add(
        "attachments of the load that another host was told of",
        "",
        Target::None,
        &[count(load.told.len())],
    );
    add(
        "cores of weft-control under load",
        "",
        Target::None,
        &[(plane.cpu_seconds()? - before) / seconds],
    );
    let memory = plane.memory()?;
    add("memory, after the load", "MiB", MEMORY_MAX, &[memory.now]);
    add("memory, at most", "MiB", MEMORY_MAX, &[memory.most]);
    drop(fleet);
    plane.stop().await?;
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^53 of anything")]
fn count(of: usize) -> f64 {
    of as f64
}

/// Tells how long what went before took.
struct Stage(Instant);

impl Stage {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Seconds.
    fn is_over(&mut self, what: &str) -> f64 {
        let took = self.0.elapsed();
        eprintln!("{what}: {:.1} s", took.as_secs_f64());
        self.0 = Instant::now();
        took.as_secs_f64()
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
