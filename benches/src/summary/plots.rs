//! Plots of the comparison.

use super::{is_tunnel, role};
use crate::document::{Cell, Document, Family, Offloads, Series};
use crate::plot::{Axis, Bar, BarChart, Line, LineChart, Role, Scale};
use crate::stats::Summary;

/// The underlay on which everything is measured.
pub(super) const USUAL: Cell = Cell { offloads: Offloads::On, mtu: 1_500, family: Family::V4 };
/// UDP payloads, bytes.
const PAYLOADS: [&str; 3] = ["udp-64", "udp-512", "udp-1400"];

/// The main plot: one and four streams to the other host. It is shown elsewhere too, so it says
/// where it comes from.
pub(super) fn throughput(document: &Document) -> Option<BarChart> {
    let title = "TCP throughput between two hosts";
    let metrics = [("tcp-1-out", "1 stream"), ("tcp-4-out", "4 streams")];
    let mut chart = bars(document, USUAL, title, &metrics)?;
    let machine = &document.machine;
    let smoke = if document.quick { "QUICK RUN, NOT FIGURES; " } else { "" };
    chart.note = format!(
        "{smoke}Gbit/s, more is better; MTU 1500, IPv4, {}; {}, {} cores, {}",
        document.congestion_control,
        machine.cpu,
        machine.cores,
        machine.day()
    );
    Some(chart)
}

/// Streams the other way, both ways, and many.
pub(super) fn other_streams(document: &Document) -> Vec<BarChart> {
    let of = |title, metrics: &[(&str, &str)]| bars(document, USUAL, title, metrics);
    let (one, four, many) = ("1 stream", "4 streams", "16 streams");
    [
        of("From host b to host a", &[("tcp-1-in", one), ("tcp-4-in", four), ("tcp-16-in", many)]),
        of(
            "Both directions at once, sum",
            &[("tcp-1-both", one), ("tcp-4-both", four), ("tcp-16-both", many)],
        ),
        of("16 streams to host b", &[("tcp-16-out", many)]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// CPU per Gbit at full speed, and at a fixed rate.
pub(super) fn cpu(document: &Document) -> Vec<BarChart> {
    let of = |title: &str, a: &str, b: &str, machine: &str| {
        let metrics = [(a, "sender's daemon"), (b, "receiver's daemon"), (machine, "machine")];
        bars(document, USUAL, title, &metrics)
    };
    let per_gigabit = |measure: &str, title: &str| {
        let [a, b, machine] = ["cpu-a", "cpu-b", "cpu-machine"].map(|p| format!("{measure}.{p}"));
        of(title, &a, &b, &machine)
    };
    [
        per_gigabit("tcp-1-out", "CPU time per Gbit, 1 stream at full speed"),
        per_gigabit("tcp-4-out", "CPU time per Gbit, 4 streams at full speed"),
        of("CPU at 1 Gbit/s", "cpu-1g.a", "cpu-1g.b", "cpu-1g.machine"),
        bars(document, USUAL, "Reached when 1 Gbit/s was offered", &[("cpu-1g.reached", "")]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Packets per second by payload.
pub(super) fn udp(document: &Document) -> Vec<BarChart> {
    let of = |payload: &&str| {
        let bytes = payload.trim_start_matches("udp-");
        let [overload, lossless, lost] =
            ["overload", "lossless", "overload-lost"].map(|part| format!("{payload}.{part}"));
        let arrived = [(overload.as_str(), "under overload"), (&lossless, "without loss")];
        let title = format!("UDP, {bytes} bytes: packets that arrive");
        let lost_title = format!("UDP, {bytes} bytes: lost under overload");
        let charts = [
            bars(document, USUAL, &title, &arrived),
            bars(document, USUAL, &lost_title, &[(&lost, "")]),
        ];
        charts.into_iter().flatten().collect::<Vec<_>>()
    };
    PAYLOADS.iter().flat_map(of).collect()
}

/// Memory of the daemons.
pub(super) fn memory(document: &Document) -> Vec<BarChart> {
    bars(document, USUAL, "Resident memory of a daemon", &[("memory", "")]).into_iter().collect()
}

/// Throughput and CPU where the underlay is another one.
pub(super) fn other_underlays(document: &Document) -> Vec<BarChart> {
    let mut charts = Vec::new();
    let mut cells: Vec<Cell> = Vec::new();
    for series in &document.series {
        if series.cell != USUAL && !cells.contains(&series.cell) {
            cells.push(series.cell);
        }
    }
    for cell in cells {
        let streams = [("tcp-1-out", "1 stream"), ("tcp-4-out", "4 streams")];
        charts.extend(bars(document, cell, "TCP throughput", &streams));
        let cpu = [("cpu-1g.a", "sender's daemon"), ("cpu-1g.b", "receiver's daemon")];
        charts.extend(bars(document, cell, "CPU at 1 Gbit/s", &cpu));
        let udp = [("udp-1400.overload", "under overload"), ("udp-1400.lossless", "without loss")];
        charts.extend(bars(document, cell, "UDP, 1400 bytes: packets that arrive", &udp));
    }
    charts
}

/// Distributions of round trips, a line for each tunnel.
pub(super) fn latency(document: &Document) -> Vec<LineChart> {
    [
        ("ping", "Ping of an idle path"),
        ("requests-idle", "Request and response over TCP, idle"),
        ("requests-loaded", "Request and response beside four streams"),
    ]
    .into_iter()
    .filter_map(|(measure, title)| distribution(document, measure, title))
    .collect()
}

fn distribution(document: &Document, measure: &str, title: &str) -> Option<LineChart> {
    let mut colour = 0;
    let mut lines: Vec<Line> = Vec::new();
    for peer in &document.peers {
        let own = document
            .distributions
            .iter()
            .find(|d| d.cell == USUAL && d.measure == measure && d.peer == peer.name);
        let role = match role(&peer.name) {
            Role::Ours if peer.name == "weft" => Role::Ours,
            Role::Reference => Role::Reference,
            _ => {
                colour += 1;
                Role::Line(colour - 1)
            }
        };
        let Some(own) = own else { continue };
        // Left of the median there is little to see, and right of the last few only chance.
        let enough = |one_in: f64| one_in * FEWEST <= as_f64(own.count);
        let points = own.points.iter().filter(|point| enough(point.one_in));
        let points = points.map(|point| (point.one_in, point.microseconds)).collect();
        lines.push(Line { label: peer.name.clone(), points, spread: Vec::new(), role });
    }
    if lines.is_empty() {
        return None;
    }
    // The last is on top.
    lines.sort_by_key(|line| line.role == Role::Ours);
    Some(LineChart {
        title: title.to_owned(),
        note: format!("{USUAL}; all rounds together; less is better"),
        x: Axis { label: "round trips that are at most so long".into(), scale: Scale::Percentile },
        y: Axis { label: "µs".into(), scale: Scale::Logarithmic },
        lines,
    })
}

/// A percentile is drawn where at least so many round trips are above it.
const FEWEST: f64 = 1.5;

#[expect(clippy::cast_precision_loss, reason = "a measurement has far less than 2^53 values")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Some values of everybody who was measured, in the order of the peers; nothing when nobody was.
fn bars(
    document: &Document,
    cell: Cell,
    title: &str,
    metrics: &[(&str, &str)],
) -> Option<BarChart> {
    let all = document.series.iter().filter(|series| series.cell == cell);
    let own: Vec<&Series> = all.filter(|s| metrics.iter().any(|(m, _)| s.metric == *m)).collect();
    let first = own.first()?;
    let (unit, better) = (&first.unit, first.better);
    // What nobody has is no bar of anybody.
    let metrics: Vec<_> =
        metrics.iter().filter(|(metric, _)| own.iter().any(|s| s.metric == *metric)).collect();
    let shown = document.peers.iter().filter_map(|peer| {
        let values: Vec<Option<Summary>> = metrics
            .iter()
            .map(|(metric, _)| {
                let found = own.iter().find(|s| s.peer == peer.name && s.metric == *metric);
                found.and_then(|series| series.summary())
            })
            .collect();
        let measured = values.iter().any(Option::is_some);
        let kernel = matches!(peer.name.as_str(), "bare" | "bare-low" | "vxlan");
        (measured || (is_tunnel(&peer.name) && !kernel)).then(|| Bar {
            label: peer.name.clone(),
            values,
            role: role(&peer.name),
        })
    });
    let legend: Vec<String> = metrics.iter().map(|(_, name)| (*name).to_owned()).collect();
    Some(BarChart {
        title: title.to_owned(),
        note: format!("{unit}; {}; underlay: {cell}", better.word()),
        legend: legend.into_iter().filter(|name| !name.is_empty()).collect(),
        bars: shown.collect(),
    })
}
