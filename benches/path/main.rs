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
//!
//! After these figures, which have targets, comes the comparison: other tunnels on the same
//! underlay, all of them up at the same time, each measured in turn ([`comparison`], [`plan`]).

mod comparison;
mod measure;
mod plan;
mod progress;
mod rounds;
mod script;
mod tables;
mod tunnel;
mod verdict;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use netns_tests::binaries::binary;
use netns_tests::process::clean_up_on_signals;
use netns_tests::topology::Offloads;
use weft_benches::document::{Document, Peer, VERSION};
use weft_benches::machine::Machine;
use weft_benches::report::table;
use weft_benches::{needs, summary};

use crate::comparison::Results;
use crate::plan::{FIGURES, Plan};
use crate::progress::Progress;
use crate::rounds::Length;
use crate::script::Script;
use crate::tunnel::Way;

/// Measures Weft's data path beside bare veth, kernel VXLAN and other tunnels.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of everything; figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Few rounds of short measurements: a smoke test, not a figure
    #[arg(long)]
    quick: bool,
    /// Only the kernel's own ways and the machine; needs no weftd
    #[arg(long, conflicts_with = "only")]
    references: bool,
    /// Compare only these: bare, vxlan, weft, or names of files in the directory of peers; without
    /// weft, the figures that have targets are left out
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    only: Vec<String>,
    /// Measure only these, or all that begin so (`tcp`, `tcp-4`); `figures` are those that have
    /// targets
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    measure: Vec<String>,
    /// Where the other tunnels' files are
    #[arg(long, default_value = "benches/peers", value_name = "DIR")]
    peers: PathBuf,
    /// Where to write every measurement; a page with plots goes beside it
    #[arg(long, default_value = "target/bench-path.json")]
    json: PathBuf,
}

/// Rounds of the figures that have targets in a quick run.
const QUICK_ROUNDS: u32 = 2;

impl Options {
    fn wants(&self, peer: &str) -> bool {
        match self.references {
            true => matches!(peer, "bare" | "vxlan"),
            false => self.only.is_empty() || self.only.iter().any(|name| name == peer),
        }
    }

    fn wants_figures(&self) -> bool {
        let measured = self.measure.is_empty() || self.measure.iter().any(|name| name == FIGURES);
        measured && (self.references || self.wants("weft"))
    }

    /// The plan of the comparison; `None` when only the figures with targets are wanted.
    fn plan(&self) -> Result<Option<Plan>> {
        let mut plan = Plan::new(self.quick, self.rounds);
        let names: Vec<_> = self.measure.iter().filter(|name| *name != FIGURES).cloned().collect();
        if !names.is_empty() {
            plan.select(&names)?;
        }
        Ok((self.measure.is_empty() || !names.is_empty()).then_some(plan))
    }

    /// What is there of what is wanted, and everything that is wanted.
    fn peers(&self) -> Result<(Vec<Way>, Vec<Peer>)> {
        let scripts = if self.references { Vec::new() } else { Script::find(&self.peers)? };
        let built_in = [Way::Bare, Way::Vxlan, Way::Weft];
        let all: Vec<_> = built_in.into_iter().chain(scripts.into_iter().map(Way::Other)).collect();
        if let Some(name) = self.only.iter().find(|name| !all.iter().any(|w| w.name() == *name)) {
            let known: Vec<_> = all.iter().map(Way::name).collect();
            bail!("--only {name}: expected one of {}", known.join(", "));
        }
        let (mut ways, mut peers) = (Vec::new(), Vec::new());
        for way in all.into_iter().filter(|way| self.wants(way.name())) {
            let mut peer =
                Peer { name: way.name().to_owned(), version: String::new(), missing: None };
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
}

fn main() -> Result<()> {
    let options = Options::parse();
    let with_weft = options.wants("weft");
    let weft =
        if with_weft { binary("weftd").and_then(|_| binary("weft")).map(Some) } else { Ok(None) };
    let (weft, found) = match weft {
        Ok(path) => (path, Ok(())),
        Err(e) => (None, Err(e)),
    };
    needs::check(found)?;
    let plan = options.plan()?;
    let (ways, mut peers) = options.peers()?;
    clean_up_on_signals()?;
    print!("{}", tables::missing(&peers));
    let (count, length) = match options.quick {
        true => (QUICK_ROUNDS, Length::QUICK),
        false => (options.rounds, Length::FULL),
    };
    let mut planned = Duration::ZERO;
    if options.wants_figures() {
        planned += length.estimate() * count * 2;
    }
    if let Some(plan) = &plan {
        planned += plan.estimate(u32::try_from(ways.len())?);
    }
    let mut progress = Progress::new(planned);
    let (mut on, mut off) = (Vec::new(), Vec::new());
    if options.wants_figures() {
        on = rounds::measure(Offloads::On, count, &length, with_weft, &mut progress)?;
        off = rounds::measure(Offloads::Off, count, &length, with_weft, &mut progress)?;
    }
    let mut results = Results::default();
    if let Some(plan) = &plan {
        results = comparison::run(plan, &ways, &mut progress)?;
    }
    let machine = Machine::look(weft.as_deref());
    for peer in &mut peers {
        match peer.name.as_str() {
            "bare" | "vxlan" => peer.version = format!("kernel {}", machine.kernel),
            "weft" => peer.version.clone_from(&machine.weft),
            _ => {}
        }
    }
    let document = Document {
        version: VERSION,
        machine,
        congestion_control: rounds::CONGESTION.to_owned(),
        quick: options.quick,
        peers,
        plan: plan.map(|plan| plan.describe()).unwrap_or_default(),
        figures: verdict::figures(&on, &off),
        figures_offloads_on: on,
        figures_offloads_off: off,
        series: results.series,
        failures: results.failures,
    };
    show(&document);
    document.write(&options.json)?;
    let page = options.json.with_extension("html");
    std::fs::write(&page, summary::page(&document).html())
        .with_context(|| page.display().to_string())?;
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
    print!("{}", tables::failures(&document.failures));
}
