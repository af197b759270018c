//! What is measured where. A full cross product would take days: everything is measured on the
//! usual underlay, and the other combinations get what tells them apart.

use std::time::Duration;

use anyhow::{Result, bail};
use weft_benches::document::{self, Cell, Family, Offloads, PlannedCell};

use crate::length::{Length, START};
use crate::tunnel::Way;

/// TCP streams side by side.
const STREAMS: [u8; 3] = [1, 4, 16];
/// UDP payloads, bytes.
const PAYLOADS: [usize; 3] = [64, 512, 1_400];

/// The underlay on which everything is measured.
pub(crate) const USUAL: Cell = Cell { offloads: Offloads::On, mtu: 1_500, family: Family::V4 };
/// Without any offload.
pub(crate) const OFF: Cell = Cell { offloads: Offloads::Off, ..USUAL };
/// Jumbo frames.
pub(crate) const JUMBO: Cell = Cell { mtu: 9_000, ..USUAL };
/// A card that cannot cut packets.
const NIC: Cell = Cell { offloads: Offloads::Nic, ..USUAL };
const V6: Cell = Cell { family: Family::V6, ..USUAL };
/// All of it together.
const JUMBO_NIC_V6: Cell = Cell { offloads: Offloads::Nic, mtu: 9_000, family: Family::V6 };

const TCP_1: Measure = Measure::Tcp(1, Direction::Out);
const TCP_4: Measure = Measure::Tcp(4, Direction::Out);
/// What is measured on the other underlays; their targets are among these.
const OTHERS_MEASURES: [Measure; 3] = [TCP_1, TCP_4, Measure::CpuAtRate];
/// What the figures with targets are made from.
const FIGURES_MEASURES: [Measure; 9] = [
    TCP_1,
    TCP_4,
    Measure::Udp(64),
    Measure::Ping,
    Measure::RequestsIdle,
    Measure::RequestsLoaded,
    Measure::CpuAtRate,
    Measure::CpuIdle,
    Measure::Memory,
];
const LOW_MEASURES: [Measure; 3] = [Measure::Ping, Measure::RequestsIdle, Measure::CpuIdle];

/// Rounds where nothing has a target.
const OTHERS_ROUNDS: u32 = 3;
const QUICK_ROUNDS: u32 = 2;

/// Whether the kernel's timer spreads the packets of a stream.
///
/// A socket that begins with bbr, as the machine's default may be, is paced for good, also when it
/// chooses cubic before it connects (Linux `bbr_init`, `sk_pacing_status`). The timer is set anew for
/// every superpacket, which in a virtual machine costs about as much as sealing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// As the machine's default leaves it.
    AsIs,
    /// None: sockets begin with [`UNPACED`].
    Off,
}

/// A congestion control that paces nothing, and that every namespace may have as its default.
pub(crate) const UNPACED: &str = "reno";

/// What making an underlay with all ways takes, and removing it.
const SETUP: Duration = Duration::from_secs(2);
const SETUP_PER_WAY: Duration = Duration::from_millis(1_000);

/// Which way a stream goes; host a measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From host a to host b.
    Out,
    /// From host b to host a.
    In,
    /// Both at the same time.
    Both,
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// This many TCP streams, with the CPU time that each Gbit takes.
    Tcp(u8, Direction),
    /// UDP payloads of so many bytes: as many as arrive, and as many as arrive without loss.
    Udp(usize),
    Ping,
    /// Requests and responses on an idle path.
    RequestsIdle,
    /// Requests and responses beside four streams.
    RequestsLoaded,
    /// CPU time at 1 Gbit/s.
    CpuAtRate,
    /// CPU time of the daemons when there is nothing to do.
    CpuIdle,
    /// Memory of the daemons so far.
    Memory,
}

impl Measure {
    /// All, in the order in which they are measured.
    pub(crate) fn all() -> Vec<Self> {
        let directions = [Direction::Out, Direction::In, Direction::Both];
        let tcp = STREAMS.iter().flat_map(|n| directions.map(|way| Self::Tcp(*n, way)));
        let rest = [
            Self::Ping,
            Self::RequestsIdle,
            Self::RequestsLoaded,
            Self::CpuAtRate,
            Self::CpuIdle,
            // Last, behind everything that needs memory.
            Self::Memory,
        ];
        tcp.chain(PAYLOADS.map(Self::Udp)).chain(rest).collect()
    }

    /// Its name on the command line and in the document.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Tcp(streams, Direction::Out) => format!("tcp-{streams}-out"),
            Self::Tcp(streams, Direction::In) => format!("tcp-{streams}-in"),
            Self::Tcp(streams, Direction::Both) => format!("tcp-{streams}-both"),
            Self::Udp(payload) => format!("udp-{payload}"),
            Self::Ping => "ping".to_owned(),
            Self::RequestsIdle => "requests-idle".to_owned(),
            Self::RequestsLoaded => "requests-loaded".to_owned(),
            Self::CpuAtRate => "cpu-1g".to_owned(),
            Self::CpuIdle => "cpu-idle".to_owned(),
            Self::Memory => "memory".to_owned(),
        }
    }
}

/// Who is measured in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody but the daemons that poll.
    All,
    /// The kernel's own ways and Weft: what the figures of this underlay are made from.
    Figures,
    /// Only the daemons that poll, and the underlay that they are on.
    LowLatency,
}

impl Who {
    /// Whether a way is among them.
    pub(crate) fn includes(self, way: &Way) -> bool {
        match self {
            Self::All => !matches!(way, Way::WeftLow | Way::BareLow),
            Self::Figures => matches!(way, Way::Bare | Way::Vxlan | Way::Weft),
            Self::LowLatency => matches!(way, Way::WeftLow | Way::BareLow),
        }
    }
}

/// One underlay, and what is measured on it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) cell: Cell,
    pub(crate) who: Who,
    pub(crate) rounds: u32,
    pub(crate) measures: Vec<Measure>,
}

impl Stage {
    /// Those of all ways that a measure of this stage says something about.
    pub(crate) fn ways(&self, all: &[Way]) -> Vec<Way> {
        // Two containers of one host see nothing of the underlay, and threads nothing at all.
        let usual = |way: &Way| self.cell == USUAL || !matches!(way, Way::WeftLocal | Way::WakeUps);
        let takes = |way: &Way| self.measures.iter().any(|measure| way.takes(*measure));
        let wanted = |way: &&Way| self.who.includes(way) && usual(way) && takes(way);
        all.iter().filter(wanted).cloned().collect()
    }

    /// About how long it takes.
    fn estimate(&self, all: &[Way], length: &Length) -> Duration {
        let ways = self.ways(all);
        if ways.is_empty() {
            return Duration::ZERO;
        }
        let taken = |measure: &Measure| {
            let count = ways.iter().filter(|way| way.takes(*measure)).count();
            length.estimate(*measure) * u32::try_from(count).unwrap_or(u32::MAX)
        };
        let round: Duration = self.measures.iter().map(taken).sum();
        setup(ways.len()) + round * self.rounds
    }
}

/// Everything that a run does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) length: Length,
    pub(crate) stages: Vec<Stage>,
    /// Whether streams are paced if the machine's default says so ([`Pacing`]).
    pub(crate) pacing: Pacing,
}

impl Plan {
    /// The plan for figures, or the quick one.
    pub(crate) fn new(quick: bool, rounds: u32, longer: u32) -> Self {
        let stage = |cell, who, rounds, measures: &[Measure]| Stage {
            cell,
            who,
            rounds,
            measures: measures.to_vec(),
        };
        if quick {
            let rounds = rounds.min(QUICK_ROUNDS);
            let stages = vec![
                stage(USUAL, Who::All, rounds, &FIGURES_MEASURES),
                stage(OFF, Who::Figures, 1, &[TCP_1, TCP_4]),
                stage(JUMBO, Who::Figures, 1, &[TCP_1, TCP_4]),
                stage(USUAL, Who::LowLatency, 1, &LOW_MEASURES),
            ];
            return Self { length: Length::QUICK.times(longer), stages, pacing: Pacing::AsIs };
        }
        let few = rounds.min(OTHERS_ROUNDS);
        let with_udp = [OTHERS_MEASURES.as_slice(), &[Measure::Udp(1_400)]].concat();
        let stages = vec![
            stage(USUAL, Who::All, rounds, &Measure::all()),
            stage(OFF, Who::All, rounds, &OTHERS_MEASURES),
            stage(JUMBO, Who::All, rounds, &OTHERS_MEASURES),
            stage(NIC, Who::All, few, &OTHERS_MEASURES),
            stage(V6, Who::All, few, &OTHERS_MEASURES),
            stage(JUMBO_NIC_V6, Who::All, few, &with_udp),
            stage(USUAL, Who::LowLatency, rounds, &LOW_MEASURES),
        ];
        Self { length: Length::FULL.times(longer), stages, pacing: Pacing::AsIs }
    }

    /// Leaves only measures that are named, in full or by the beginning before a `-`; `figures` are
    /// those that figures with targets are made from. What a quick plan leaves out is measured on
    /// its usual underlay when it is named.
    ///
    /// # Errors
    /// When a name fits nothing.
    pub(crate) fn select(&mut self, names: &[String]) -> Result<()> {
        let fits = |measure: Measure, name: &String| {
            let own = measure.name();
            own == *name || own.strip_prefix(name.as_str()).is_some_and(|r| r.starts_with('-'))
        };
        let all = Measure::all();
        let unknown = |name: &&String| *name != FIGURES && !all.iter().any(|m| fits(*m, name));
        if let Some(name) = names.iter().find(unknown) {
            let known: Vec<_> = all.iter().map(|measure| measure.name()).collect();
            bail!("--measure {name}: expected one of {}, or {FIGURES}", known.join(", "));
        }
        let figures = names.iter().any(|name| name == FIGURES);
        for stage in &mut self.stages {
            if stage.cell == USUAL && stage.who == Who::All {
                stage.measures.clone_from(&all);
            }
            let of_figures: &[Measure] = match stage.cell {
                _ if !figures => &[],
                USUAL => &FIGURES_MEASURES,
                OFF | JUMBO => &[TCP_1, TCP_4],
                _ => &[],
            };
            stage.measures.retain(|measure| {
                of_figures.contains(measure) || names.iter().any(|name| fits(*measure, name))
            });
        }
        self.stages.retain(|stage| !stage.measures.is_empty());
        Ok(())
    }

    /// About how long it takes with these ways.
    pub(crate) fn estimate(&self, all: &[Way]) -> Duration {
        self.stages.iter().map(|stage| stage.estimate(all, &self.length)).sum()
    }

    /// The same for the document.
    pub(crate) fn describe(&self) -> document::Plan {
        let length = &self.length;
        let cells = self.stages.iter().map(|stage| PlannedCell {
            cell: stage.cell,
            rounds: stage.rounds,
            measures: stage.measures.iter().map(|measure| measure.name()).collect(),
        });
        document::Plan {
            stream_s: length.stream.as_secs_f64(),
            packets_s: length.packets.as_secs_f64(),
            search_s: length.search.as_secs_f64(),
            search_steps: length.search_steps,
            pings: length.pings,
            requests_s: length.requests.as_secs_f64(),
            cells: cells.collect(),
        }
    }
}

/// Stands for the figures that have targets among the names of measures.
pub(crate) const FIGURES: &str = "figures";

/// What making an underlay with this many ways takes.
pub(crate) fn setup(ways: usize) -> Duration {
    SETUP + START + SETUP_PER_WAY * u32::try_from(ways).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
