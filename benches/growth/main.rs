//! `bench-growth`: what more hosts, environments, routes and attachments cost, and what a handshake
//! costs beside plain rustls. See `benches/README.md`.

mod certificates;
mod ground;
mod measure;
mod results;
mod series;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use netns_tests::binaries::binary;
use netns_tests::process::clean_up_on_signals;
use netns_tests::{Load, World};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use weft_benches::growth::{GrowthDocument, VERSION};
use weft_benches::handshake::{Bench, Comparison};
use weft_benches::machine::Machine;
use weft_benches::needs;
use weft_benches::report::table;
use weft_sys::alloc::WipingAllocator;

use crate::results::Results;
use crate::series::Extent;

/// The daemon's: what it wipes is part of what a handshake costs.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Handshakes beside plain rustls
    Handshakes,
    /// 2 to 8 hosts of one environment
    Hosts,
    /// 1 to 1,000 environments between two hosts
    Environments,
    /// 1 to 10,000 routes in one environment
    Routes,
    /// 1 to 1,000 attachments on one host
    Attachments,
}

/// Measures how costs grow.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of everything; figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// One round of short measurements at few sizes: a smoke test, not a figure
    #[arg(long)]
    quick: bool,
    /// 10,000 attachments as well, which takes the kernel minutes to make and to remove; the daemons
    /// have one worker then
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    measure: Vec<Measure>,
    /// Where to write every measurement
    #[arg(long, default_value = "target/bench/growth.json")]
    json: PathBuf,
}

impl Options {
    fn wants(&self, measure: Measure) -> bool {
        self.measure.is_empty() || self.measure.contains(&measure)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    needs::check(binary("weftd").and_then(|_| binary("weft")).map(drop))?;
    clean_up_on_signals()?;
    raise_descriptors();
    let extent = match options.quick {
        true => Extent::quick(),
        false => Extent::full(options.rounds, options.full),
    };
    let mut results = Results::default();
    let world = World::new(Load::Heavy)?;
    for measure in Measure::value_variants().iter().filter(|m| options.wants(**m)) {
        let name = measure.to_possible_value().map(|v| v.get_name().to_owned());
        let name = name.unwrap_or_default();
        eprintln!("{name}");
        let done = match measure {
            Measure::Handshakes => {
                handshakes(&extent, &mut results);
                Ok(())
            }
            Measure::Hosts => series::hosts(&world, &extent, &mut results),
            Measure::Environments => series::environments(&world, &extent, &mut results),
            Measure::Routes => series::routes(&world, &extent, &mut results),
            Measure::Attachments => series::attachments(&world, &extent, &mut results),
        };
        results.attempt(&name, done);
    }
    drop(world);
    let document = GrowthDocument {
        version: VERSION,
        machine: Machine::look(binary("weft").ok().as_deref()),
        quick: options.quick,
        curves: results.curves,
        figures: results.figures,
        failures: results.failures,
    };
    show(&document);
    document.write(&options.json)?;
    println!("\nevery measurement: {}", options.json.display());
    let failed = document.failures.len();
    ensure!(failed == 0, "{failed} measurements failed; they are listed above");
    Ok(())
}

fn handshakes(extent: &Extent, results: &mut Results) {
    let measured = Comparison::measure(&Bench::new(), extent.rounds.max(5), extent.handshakes);
    results.figures.extend(measured.figures());
}

/// Daemons inherit the limit; an attachment takes one descriptor for each worker. What this
/// program may not raise it leaves, and the daemon says so.
fn raise_descriptors() {
    const WANTED: u64 = 65_536;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < WANTED && setrlimit(Resource::RLIMIT_NOFILE, WANTED, hard.max(WANTED)).is_err() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn show(document: &GrowthDocument) {
    let m = &document.machine;
    println!("\n{}, {} cores, kernel {}, {}\n", m.cpu, m.cores, m.kernel, m.iperf3);
    for curve in &document.curves {
        println!("{} [{}], by {}", curve.name, curve.unit, curve.x_label);
        for point in &curve.points {
            let Some(summary) = point.summary() else { continue };
            let (x, median) = (point.x, summary.median);
            println!("  {x:>6}  {median:>10.3}  ({:.3} … {:.3})", summary.min, summary.max);
        }
    }
    if !document.figures.is_empty() {
        println!("\n{}", table(&document.figures, std::io::stdout().is_terminal()));
    }
    for failure in &document.failures {
        println!("FAILED {failure}");
    }
}
