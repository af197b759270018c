//! From samples to figures with their targets. A figure that was not measured is listed with the
//! reason, never left out silently.

use weft_benches::document::{Cell, Document, Failure, GROWTH, LeftOut, Series};
use weft_benches::report::{Figure, Target};
use weft_benches::stats::Summary;

use crate::plan::{JUMBO, OFF, USUAL};

/// Ways that are no other tunnel.
const OWN: [&str; 7] = ["bare", "vxlan", "weft", "weft-local", "weft-low", "bare-low", "wake-ups"];

/// Values of one row, one per round, or why there are none.
type Values = Result<Vec<f64>, String>;

/// All figures in the order of the table, and what could not be measured; those of growth are
/// taken in afterwards ([`Document::set_growth`]).
pub(crate) fn figures(document: &Document) -> (Vec<Figure>, Vec<LeftOut>) {
    let (mut figures, mut left_out) = (Vec::new(), Vec::new());
    for (name, unit, target, values) in rows(&Measured(document)) {
        let summary = values.and_then(|values| {
            Summary::of(&values).ok_or_else(|| "no round has all that it needs".to_owned())
        });
        match summary {
            Ok(summary) => figures.extend(Figure::new(name, unit, target, Some(summary))),
            Err(reason) => left_out.push(LeftOut { figure: name.to_owned(), reason }),
        }
    }
    let reason = "no document of bench-growth was given (--growth)".to_owned();
    left_out.push(LeftOut { figure: GROWTH.to_owned(), reason });
    (figures, left_out)
}

fn rows(measured: &Measured<'_>) -> Vec<(&'static str, &'static str, Target, Values)> {
    use Target::{AtLeast, AtMost};
    let ratio = |cell, metric, below| measured.ratio(cell, metric, "weft", below);
    let of = |way, metric| measured.values(USUAL, way, metric);
    let (tcp_1, tcp_4, udp) = ("tcp-1-out", "tcp-4-out", "udp-64.overload");
    vec![
        ("1 stream / VXLAN", "×", AtLeast(0.55), ratio(USUAL, tcp_1, "vxlan")),
        ("4 streams / VXLAN", "×", AtLeast(0.33), ratio(USUAL, tcp_4, "vxlan")),
        ("1 stream / GotaTun", "×", AtLeast(9.0), ratio(USUAL, tcp_1, "gotatun")),
        ("1 stream / BoringTun", "×", AtLeast(12.0), ratio(USUAL, tcp_1, "boringtun")),
        ("MTU 9000: 1 stream / VXLAN", "×", AtLeast(0.60), ratio(JUMBO, tcp_1, "vxlan")),
        ("MTU 9000: 4 streams / VXLAN", "×", AtLeast(0.36), ratio(JUMBO, tcp_4, "vxlan")),
        ("offloads off: 1 stream / bare", "×", AtLeast(0.50), ratio(OFF, tcp_1, "bare")),
        ("offloads off: 4 streams / bare", "×", AtLeast(0.70), ratio(OFF, tcp_4, "bare")),
        (
            "same host, 1 stream / VXLAN",
            "×",
            AtLeast(1.0),
            measured.ratio(USUAL, tcp_1, "weft-local", "vxlan"),
        ),
        ("64-byte UDP / bare", "×", AtLeast(0.75), ratio(USUAL, udp, "bare")),
        ("64-byte UDP / best peer", "×", AtLeast(2.5), measured.over_best_peer(udp)),
        ("64-byte UDP / VXLAN", "×", AtLeast(1.2), ratio(USUAL, udp, "vxlan")),
        ("idle ping / four wake-ups", "×", AtMost(1.1), ratio(USUAL, "ping.p50", "wake-ups")),
        (
            "idle ping with latency = \"low\", less bare",
            "µs",
            AtMost(35.0),
            measured.combine(("weft-low", "ping.p50"), ("bare-low", "ping.p50"), |a, b| a - b),
        ),
        (
            "CPU of an idle daemon with latency = \"low\"",
            "% core",
            Target::None,
            of("weft-low", "cpu-idle.a"),
        ),
        (
            "requests under load: p99 less twice that of idle",
            "ms",
            AtMost(1.0),
            measured.combine(
                ("weft", "requests-loaded.p99"),
                ("weft", "requests-idle.p99"),
                |loaded, idle| (loaded - 2.0 * idle) / 1e3,
            ),
        ),
        ("CPU of sender at 1 Gbit/s", "% core", AtMost(9.0), of("weft", "cpu-1g.a")),
        ("CPU of receiver at 1 Gbit/s", "% core", AtMost(9.0), of("weft", "cpu-1g.b")),
        ("reached while these were taken", "Gbit/s", AtLeast(0.97), of("weft", "cpu-1g.reached")),
        ("resident memory of weftd", "MiB", AtMost(32.0), of("weft", "memory")),
    ]
}

/// What a run has measured, by peer and metric.
struct Measured<'a>(&'a Document);

impl Measured<'_> {
    fn series(&self, cell: Cell, peer: &str, metric: &str) -> Result<&Series, String> {
        let wanted = |s: &&Series| s.cell == cell && s.peer == peer && s.metric == metric;
        let found = self.0.series.iter().find(wanted).filter(|s| !s.samples.is_empty());
        found.ok_or_else(|| self.reason(cell, peer, metric))
    }

    /// Why there is no sample.
    fn reason(&self, cell: Cell, peer: &str, metric: &str) -> String {
        let about = self.0.peers.iter().find(|other| other.name == peer);
        match about.map(|peer| peer.missing.as_ref()) {
            None => return format!("{peer} was not among those compared"),
            Some(Some(reason)) => return reason.clone(),
            Some(None) => {}
        }
        let measure = metric.split('.').next().unwrap_or(metric);
        let own = |failure: &&Failure| {
            failure.peer == peer
                && failure.cell == cell
                && (failure.measure == measure || failure.measure == "start")
        };
        if let Some(failure) = self.0.failures.iter().find(own) {
            return format!("{peer} {}: {}", failure.measure, failure.error);
        }
        let part = |s: &Series| {
            s.peer == peer && s.cell == cell && s.metric.split('.').next() == Some(measure)
        };
        match self.0.series.iter().any(part) {
            true => format!("{measure} of {peer} ({cell}): too few round trips for a percentile"),
            false => format!("{measure} of {peer} ({cell}) was not asked for"),
        }
    }

    fn values(&self, cell: Cell, peer: &str, metric: &str) -> Values {
        let series = self.series(cell, peer, metric)?;
        Ok(series.samples.iter().map(|sample| sample.value).collect())
    }

    /// One way's samples over another's of the same round.
    fn ratio(&self, cell: Cell, metric: &str, above: &str, below: &str) -> Values {
        let (above, below) = (self.series(cell, above, metric)?, self.series(cell, below, metric)?);
        Ok(by_round(above, below, |a, b| a / b))
    }

    /// Two samples of the same round on the usual underlay.
    fn combine(
        &self,
        first: (&str, &str),
        second: (&str, &str),
        with: impl Fn(f64, f64) -> f64,
    ) -> Values {
        let first = self.series(USUAL, first.0, first.1)?;
        Ok(by_round(first, self.series(USUAL, second.0, second.1)?, with))
    }

    /// Weft's samples over the best that another tunnel has in the same round.
    fn over_best_peer(&self, metric: &str) -> Values {
        let weft = self.series(USUAL, "weft", metric)?;
        let other =
            |s: &&Series| s.cell == USUAL && s.metric == metric && !OWN.contains(&s.peer.as_str());
        let mut ratios = Vec::new();
        for sample in &weft.samples {
            let others = self.0.series.iter().filter(other).flat_map(|s| &s.samples);
            let best = others.filter(|o| o.round == sample.round).map(|o| o.value);
            if let Some(best) = best.max_by(f64::total_cmp).filter(|best| *best > 0.0) {
                ratios.push(sample.value / best);
            }
        }
        if ratios.is_empty() { Err("no other tunnel was measured".to_owned()) } else { Ok(ratios) }
    }
}

fn by_round(first: &Series, second: &Series, with: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let same = |round| second.samples.iter().find(move |other| other.round == round);
    let pairs = first.samples.iter().filter_map(|s| Some((s.value, same(s.round)?.value)));
    pairs.map(|(a, b)| with(a, b)).filter(|value| value.is_finite()).collect()
}

#[cfg(test)]
mod tests;
