//! `bench-path`: the figures of a packet's whole way, side by side with the kernel's own ways in
//! the same run.
//!
//! ```text
//!  ┌ host-a ─────────────────┐   veth, MTU 1500   ┌ host-b ─────────────────┐
//!  │ bare: iperf3            ├────────────────────┤ bare: iperf3            │
//!  └──┬──────────┬───────────┘                    └──┬──────────┬───────────┘
//!  VXLAN      weftd                               VXLAN      weftd
//!  ┌──┴─┐   ┌────┴─┐ ┌────┐                       ┌──┴─┐   ┌────┴─┐
//!  │ va │   │  a1  │ │ a2 │ same host: a1 – a2    │ vb │   │  b1  │
//!  └────┘   └──────┘ └────┘                       └────┘   └──────┘
//! ```
//! Everything is measured once per round, one after the other, and ratios are taken within a
//! round. A second environment with the same addresses exists on both hosts the whole time.

mod rounds;
mod verdict;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use netns_tests::binaries::binary;
use netns_tests::process::clean_up_on_signals;
use netns_tests::topology::Offloads;
use serde::Serialize;
use weft_benches::machine::Machine;
use weft_benches::report::{Figure, table};

use crate::rounds::{Length, Round};

/// Measures Weft's data path beside bare veth and kernel VXLAN.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of everything; figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Two rounds of short measurements: a smoke test, not a figure
    #[arg(long)]
    quick: bool,
    /// Only the kernel's own ways and the machine; needs no weftd
    #[arg(long)]
    references: bool,
    /// Where to write every measurement
    #[arg(long, default_value = "target/bench-path.json")]
    json: PathBuf,
}

/// What is written as JSON.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    congestion_control: &'static str,
    quick: bool,
    figures: Vec<Figure>,
    offloads_on: Vec<Round>,
    offloads_off: Vec<Round>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    clean_up_on_signals()?;
    let weft = if options.references { None } else { Some(binary("weft")?) };
    let (count, length) = match options.quick {
        true => (2, Length::QUICK),
        false => (options.rounds, Length::FULL),
    };
    let with_weft = !options.references;
    let offloads_on = rounds::measure(Offloads::On, count, &length, with_weft)?;
    let offloads_off = rounds::measure(Offloads::Off, count, &length, with_weft)?;
    let figures = verdict::figures(&offloads_on, &offloads_off);
    let report = Report {
        machine: Machine::look(weft.as_deref()),
        congestion_control: rounds::CONGESTION,
        quick: options.quick,
        figures,
        offloads_on,
        offloads_off,
    };
    let m = &report.machine;
    println!(
        "\n{}, {} cores, kernel {}, {}, {}\n",
        m.cpu, m.cores, m.kernel, report.congestion_control, m.iperf3
    );
    print!("{}", table(&report.figures, std::io::stdout().is_terminal()));
    let path = &options.json;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let json = serde_json::to_string_pretty(&report)?;
    std::fs::write(path, json).with_context(|| path.display().to_string())?;
    println!("\nevery measurement: {}", path.display());
    Ok(())
}
