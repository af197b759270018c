//! `bench-path`: the whole way of a packet, side by side with the kernel's own ways and other
//! tunnels in the same run.
//!
//! ```text
//!  ┌ host-a ─────────────────┐    veth pair       ┌ host-b ─────────────────┐
//!  │ bare: iperf3            ├────────────────────┤ bare: iperf3            │
//!  │ other tunnels           │                    │ other tunnels           │
//!  └──┬──────────┬───────────┘                    └──┬──────────┬───────────┘
//!  VXLAN      weftd                               VXLAN      weftd
//!  ┌──┴─┐   ┌────┴─┐ ┌────┐                       ┌──┴─┐   ┌────┴─┐
//!  │ va │   │  a1  │ │ a2 │ same host: a1 – a2    │ vb │   │  b1  │
//!  └────┘   └──────┘ └────┘                       └────┘   └──────┘
//! ```
//! All are up at the same time; each is measured in turn, once per round, and ratios are taken
//! within a round ([`comparison`], [`plan`]). A second environment with the same addresses exists
//! on both hosts the whole time. Figures with targets are made from these measurements
//! ([`verdict`]).

mod comparison;
mod length;
mod measure;
mod plan;
mod progress;
mod script;
mod tables;
mod tunnel;
mod verdict;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use netns_tests::binaries::binary;
use netns_tests::process::clean_up_on_signals;
use weft_benches::document::{Document, Peer, VERSION};
use weft_benches::growth::GrowthDocument;
use weft_benches::machine::Machine;
use weft_benches::report::table;
use weft_benches::{needs, summary};

use crate::measure::CONGESTION;
use crate::plan::{Pacing, Plan};
use crate::progress::Progress;
use crate::script::Script;
use crate::tunnel::Way;

/// Measures Weft's data path beside bare veth, kernel VXLAN and other tunnels.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of everything that has a target; the other underlays have at most 3, a quick run 2
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Every measurement so many times as long
    #[arg(long, default_value_t = 1, value_name = "TIMES",
          value_parser = clap::value_parser!(u32).range(1..=60))]
    longer: u32,
    /// Few rounds of short measurements: a smoke test, not a figure
    #[arg(long)]
    quick: bool,
    /// Only the kernel's own ways and the machine; needs no weftd
    #[arg(long, conflicts_with = "only")]
    references: bool,
    /// No other tunnels: only the kernel's own ways and Weft
    #[arg(long, conflicts_with_all = ["only", "references"])]
    no_peers: bool,
    /// Compare only these: bare, vxlan, weft, weft-local (two containers of one host), weft-low
    /// (latency = "low"), bare-low (the underlay beside it), wake-ups (four threads), or names of files in the directory of peers
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    only: Vec<String>,
    /// Measure only these, or all that begin so (`tcp`, `tcp-4`); `figures` are those that figures
    /// with targets are made from
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    measure: Vec<String>,
    /// Where the other tunnels' files are
    #[arg(long, default_value = "benches/peers", value_name = "DIR")]
    peers: PathBuf,
    /// TCP streams without the pacing that a machine's default of bbr leaves on them
    #[arg(long)]
    unpaced: bool,
    /// A document of bench-growth that goes into the report, when it is there
    #[arg(long, default_value = "target/bench/growth.json", value_name = "FILE")]
    growth: PathBuf,
    /// Where to write every measurement; a page (.html) and the main plot (throughput.svg) go
    /// beside it
    #[arg(long, default_value = "target/bench/report.json", value_name = "FILE")]
    json: PathBuf,
    /// Only say what would be measured and about how long it takes
    #[arg(long)]
    plan: bool,
}

impl Options {
    fn wants(&self, peer: &str) -> bool {
        match self.references {
            true => matches!(peer, "bare" | "vxlan" | "wake-ups"),
            false => self.only.is_empty() || self.only.iter().any(|name| name == peer),
        }
    }

    fn planned(&self) -> Result<Plan> {
        let mut plan = Plan::new(self.quick, self.rounds, self.longer);
        if !self.measure.is_empty() {
            plan.select(&self.measure)?;
        }
        if self.unpaced {
            plan.pacing = Pacing::Off;
        }
        Ok(plan)
    }

    /// Everything that is wanted.
    fn ways(&self) -> Result<Vec<Way>> {
        let kernel_only = self.references || self.no_peers;
        let scripts = if kernel_only { Vec::new() } else { Script::find(&self.peers)? };
        let all: Vec<_> =
            Way::BUILT_IN.into_iter().chain(scripts.into_iter().map(Way::Other)).collect();
        if let Some(name) = self.only.iter().find(|name| !all.iter().any(|w| w.name() == *name)) {
            let known: Vec<_> = all.iter().map(Way::name).collect();
            bail!("--only {name}: expected one of {}", known.join(", "));
        }
        Ok(all.into_iter().filter(|way| self.wants(way.name())).collect())
    }
}

/// What is there of what is wanted, and what is to be said about everybody.
fn available(wanted: Vec<Way>) -> Result<(Vec<Way>, Vec<Peer>)> {
    let (mut ways, mut peers) = (Vec::new(), Vec::new());
    for way in wanted {
        let mut peer = Peer { name: way.name().to_owned(), version: String::new(), missing: None };
        if let Way::Other(script) = &way {
            peer.missing = script.missing()?;
            if peer.missing.is_none() {
                peer.version = script.version()?;
            }
        }
        if peer.missing.is_none() {
            ways.push(way);
        }
        peers.push(peer);
    }
    Ok((ways, peers))
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (plan, wanted) = (options.planned()?, options.ways()?);
    if options.plan {
        print!("{}", tables::plan(&plan, &wanted));
        return Ok(());
    }
    let with_weft = wanted.iter().any(Way::is_weft);
    let weft =
        if with_weft { binary("weftd").and_then(|_| binary("weft")).map(Some) } else { Ok(None) };
    let (weft, found) = match weft {
        Ok(path) => (path, Ok(())),
        Err(e) => (None, Err(e)),
    };
    needs::check(found)?;
    let growth =
        options.growth.exists().then(|| GrowthDocument::read(&options.growth)).transpose()?;
    clean_up_on_signals()?;
    let (ways, mut peers) = available(wanted)?;
    print!("{}", tables::missing(&peers));
    let mut progress = Progress::new(plan.estimate(&ways));
    let results = comparison::run(&plan, &ways, &mut progress)?;
    let machine = Machine::look(weft.as_deref());
    for peer in &mut peers {
        match peer.name.as_str() {
            "bare" | "vxlan" | "wake-ups" => peer.version = format!("kernel {}", machine.kernel),
            name if name.starts_with("weft") => peer.version.clone_from(&machine.weft),
            _ => {}
        }
    }
    let mut document = Document {
        version: VERSION,
        machine,
        congestion_control: match plan.pacing {
            Pacing::AsIs => CONGESTION.to_owned(),
            Pacing::Off => format!("{CONGESTION}, unpaced"),
        },
        quick: options.quick,
        peers,
        plan: plan.describe(),
        figures: Vec::new(),
        left_out: Vec::new(),
        distributions: results.distributions(),
        series: results.series,
        failures: results.failures,
        growth: None,
    };
    (document.figures, document.left_out) = verdict::figures(&document);
    growth.into_iter().for_each(|growth| document.set_growth(growth));
    show(&document);
    document.write(&options.json)?;
    let page = summary::write_beside(&document, &options.json)?;
    println!("\nevery measurement: {}; to look at: {}", options.json.display(), page.display());
    let failed = document.failures.len();
    ensure!(failed == 0, "{failed} measurements failed; they are listed above");
    Ok(())
}

fn show(document: &Document) {
    let m = &document.machine;
    println!(
        "\n{}, {} cores, kernel {}, {}, {}\n",
        m.cpu, m.cores, m.kernel, document.congestion_control, m.iperf3
    );
    if !document.figures.is_empty() {
        println!("{}", table(&document.figures, std::io::stdout().is_terminal()));
    }
    print!("{}", tables::comparison(document));
    print!("{}", tables::missing(&document.peers));
    print!("{}", tables::left_out(&document.left_out));
    print!("{}", tables::failures(&document.failures));
}
