//! What the comparison measures where. A full cross product would take days: everything is measured
//! on the usual underlay, and the other combinations get what tells them apart.

use std::time::Duration;

use anyhow::{Result, bail};
use weft_benches::document::{self, Cell, Family, Offloads, PlannedCell};

/// TCP streams side by side.
const STREAMS: [u8; 3] = [1, 4, 16];
/// UDP payloads, bytes.
const PAYLOADS: [usize; 3] = [64, 512, 1_400];

/// The underlay on which everything is measured.
const USUAL: Cell = Cell { offloads: Offloads::On, mtu: 1_500, family: Family::V4 };
/// The others: offloads, MTU, version of IP.
const OTHERS: [Cell; 5] = [
    Cell { offloads: Offloads::Nic, ..USUAL },
    Cell { offloads: Offloads::Off, ..USUAL },
    Cell { mtu: 9_000, ..USUAL },
    Cell { family: Family::V6, ..USUAL },
    Cell { offloads: Offloads::Nic, mtu: 9_000, family: Family::V6 },
];
/// What is measured on the others.
const OTHERS_MEASURES: [Measure; 6] = [
    Measure::Tcp(1, Direction::Out),
    Measure::Tcp(4, Direction::Out),
    Measure::Tcp(4, Direction::Both),
    Measure::Udp(1_400),
    Measure::RequestsIdle,
    Measure::CpuAtRate,
];
/// What a quick run measures on the usual underlay.
const QUICK_MEASURES: [Measure; 7] = [
    Measure::Tcp(1, Direction::Out),
    Measure::Tcp(4, Direction::Both),
    Measure::Udp(64),
    Measure::Ping,
    Measure::RequestsIdle,
    Measure::CpuAtRate,
    Measure::Memory,
];
/// The one other underlay of a quick run, and what is measured there, once.
const QUICK_OTHER: Cell = OTHERS[4];
const QUICK_OTHER_MEASURES: [Measure; 1] = [Measure::Tcp(4, Direction::Out)];
const QUICK_ROUNDS: u32 = 2;

/// What starting and ending a program adds to a measurement.
const START: Duration = Duration::from_millis(400);
/// What making an underlay with all peers takes, and removing it.
const SETUP: Duration = Duration::from_secs(2);
const SETUP_PER_PEER: Duration = Duration::from_millis(1_500);

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
            Self::Memory => "memory".to_owned(),
        }
    }

    /// About how long it takes.
    pub(crate) fn estimate(self, length: &Length) -> Duration {
        match self {
            Self::Tcp(..) | Self::CpuAtRate => length.stream + START,
            Self::Udp(_) => {
                length.packets + START / 2 + (length.search + START / 2) * length.search_steps
            }
            Self::Ping => PING_INTERVAL * length.pings + START,
            Self::RequestsIdle => length.requests,
            Self::RequestsLoaded => length.requests + LOAD_LEAD + LOAD_TAIL + START,
            Self::Memory => Duration::ZERO,
        }
    }
}

/// Between two pings: `ping` spins below 10 ms.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(10);
/// How long the streams run before the first request beside them.
pub(crate) const LOAD_LEAD: Duration = Duration::from_millis(500);
/// How much longer they run than the requests are planned to, at least.
pub(crate) const LOAD_TAIL: Duration = Duration::from_millis(500);

/// How long measurements take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) stream: Duration,
    pub(crate) packets: Duration,
    pub(crate) search: Duration,
    pub(crate) search_steps: u32,
    pub(crate) pings: u32,
    pub(crate) requests: Duration,
}

impl Length {
    /// For figures.
    const FULL: Self = Self {
        stream: Duration::from_secs(5),
        packets: Duration::from_secs(2),
        search: Duration::from_secs(1),
        search_steps: 6,
        // Enough for a p99.9 that is not the maximum.
        pings: 2_000,
        requests: Duration::from_secs(4),
    };
    /// To see that it works.
    const QUICK: Self = Self {
        stream: Duration::from_secs(1),
        packets: Duration::from_millis(200),
        search: Duration::from_millis(150),
        search_steps: 2,
        // Enough for a p99.
        pings: 105,
        requests: Duration::from_millis(200),
    };
}

/// Everything that a run does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) length: Length,
    pub(crate) cells: Vec<(Cell, u32, Vec<Measure>)>,
}

impl Plan {
    /// The plan for figures, or the quick one.
    pub(crate) fn new(quick: bool, rounds: u32) -> Self {
        if quick {
            return Self {
                length: Length::QUICK,
                cells: vec![
                    (USUAL, QUICK_ROUNDS, QUICK_MEASURES.to_vec()),
                    (QUICK_OTHER, 1, QUICK_OTHER_MEASURES.to_vec()),
                ],
            };
        }
        let others = OTHERS.map(|cell| (cell, rounds, OTHERS_MEASURES.to_vec()));
        let usual = (USUAL, rounds, Measure::all());
        Self { length: Length::FULL, cells: std::iter::once(usual).chain(others).collect() }
    }

    /// Leaves only measures that are named, in full or by the beginning before a `-`. What a quick
    /// plan leaves out is measured on its usual underlay when it is named.
    ///
    /// # Errors
    /// When a name fits nothing.
    pub(crate) fn select(&mut self, names: &[String]) -> Result<()> {
        let fits = |measure: Measure, name: &String| {
            let own = measure.name();
            own == *name || own.strip_prefix(name.as_str()).is_some_and(|r| r.starts_with('-'))
        };
        let all = Measure::all();
        if let Some(name) = names.iter().find(|name| !all.iter().any(|m| fits(*m, name))) {
            let known: Vec<_> = all.iter().map(|measure| measure.name()).collect();
            bail!("--measure {name}: expected one of {}, or {FIGURES}", known.join(", "));
        }
        let wanted = |measure: &Measure| names.iter().any(|name| fits(*measure, name));
        for (cell, _, measures) in &mut self.cells {
            if *cell == USUAL {
                measures.clone_from(&all);
            }
            measures.retain(wanted);
        }
        self.cells.retain(|(_, _, measures)| !measures.is_empty());
        Ok(())
    }

    /// About how long it takes with this many peers.
    pub(crate) fn estimate(&self, peers: u32) -> Duration {
        let cell = |(_, rounds, measures): &(Cell, u32, Vec<Measure>)| {
            let round: Duration = measures.iter().map(|m| m.estimate(&self.length)).sum();
            setup(peers) + round * *rounds * peers
        };
        self.cells.iter().map(cell).sum()
    }

    /// The same for the document.
    pub(crate) fn describe(&self) -> document::Plan {
        let length = &self.length;
        let cells = self.cells.iter().map(|(cell, rounds, measures)| PlannedCell {
            cell: *cell,
            rounds: *rounds,
            measures: measures.iter().map(|measure| measure.name()).collect(),
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

/// What making an underlay with this many peers takes.
pub(crate) fn setup(peers: u32) -> Duration {
    SETUP + SETUP_PER_PEER * peers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that come with this repository.
    const PEERS: u32 = 9;
    /// What a quick run may take by the plan, without the figures that have targets (which take
    /// two minutes).
    const QUICK_MAX: Duration = Duration::from_secs(180);

    #[test]
    fn a_quick_plan_is_short() {
        let estimate = Plan::new(true, 5).estimate(PEERS);
        assert!(estimate <= QUICK_MAX, "{estimate:?}");
    }

    #[test]
    fn the_full_plan_has_everything_on_the_usual_underlay() {
        let plan = Plan::new(false, 5);
        assert_eq!(plan.cells[0].2, Measure::all());
        let of = |pick: fn(&Cell) -> bool| plan.cells.iter().any(|(cell, ..)| pick(cell));
        assert!(of(|c| c.offloads == Offloads::Off) && of(|c| c.offloads == Offloads::Nic));
        assert!(of(|c| c.mtu == 9_000) && of(|c| c.family == Family::V6));
    }

    #[test]
    fn measures_are_selected_by_name_and_by_beginning() {
        let selected = |names: &[&str]| {
            let mut plan = Plan::new(true, 5);
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            plan.select(&names).map(|()| plan.cells)
        };
        assert_eq!(selected(&["tcp"]).unwrap()[0].2.len(), 9);
        assert_eq!(selected(&["tcp-1"]).unwrap()[0].2.len(), 3);
        let cells = selected(&["udp-512", "ping"]).unwrap();
        assert_eq!(cells.len(), 1);
        assert_eq!(cells[0].2, [Measure::Udp(512), Measure::Ping]);
        assert!(selected(&["udp-5"]).is_err());
        assert!(selected(&["t"]).is_err());
    }
}
