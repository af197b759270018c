//! From rounds to figures with their targets.

use weft_benches::figures::{Round, Weft};
use weft_benches::report::{Figure, Target};
use weft_benches::stats::Summary;

const GIGA: f64 = 1e9;
const MEBIBYTE: f64 = 1_048_576.0;

/// One column of all rounds, in a unit.
fn column(rounds: &[Round], unit: f64, pick: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(|round| pick(round) / unit).collect()
}

/// One column of the daemons' part; empty when they did not run.
fn weft(rounds: &[Round], unit: f64, pick: impl Fn(&Weft) -> f64) -> Vec<f64> {
    rounds.iter().filter_map(|round| Some(pick(round.weft.as_ref()?) / unit)).collect()
}

/// All figures, in the order of the table.
pub(crate) fn figures(on: &[Round], off: &[Round]) -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend(with_targets(on, off));
    all.extend(for_information(on, "offloads on"));
    all.extend(for_information(off, "offloads off"));
    all.into_iter().flatten().collect()
}

fn with_targets(on: &[Round], off: &[Round]) -> Vec<Option<Figure>> {
    let ratio = |name, target, above: &[f64], below: &[f64]| {
        Figure::new(name, "×", Target::AtLeast(target), Summary::of_ratios(above, below))
    };
    let pinned = column(on, 1.0, |r| r.chain_pinned_us);
    let slow = column(on, 1.0, |r| r.chain_slow_us);
    let ping = weft(on, 1.0, |w| w.ping_us);
    let at_most = |name, unit, bound, values: &[f64]| {
        Figure::new(name, unit, Target::AtMost(bound), Summary::of(values))
    };
    let best = |w: &Weft| w.packets.iter().map(|p| p.delivered).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory fit 53 bits")]
    let resident = weft(on, MEBIBYTE, |w| w.resident_bytes as f64);
    vec![
        ratio(
            "1 stream / VXLAN",
            0.45,
            &weft(on, 1.0, |w| w.stream_1),
            &column(on, 1.0, |r| r.vxlan_1),
        ),
        ratio(
            "4 streams / VXLAN",
            0.28,
            &weft(on, 1.0, |w| w.stream_4),
            &column(on, 1.0, |r| r.vxlan_4),
        ),
        ratio(
            "offloads off: 1 stream / bare veth",
            0.45,
            &weft(off, 1.0, |w| w.stream_1),
            &column(off, 1.0, |r| r.bare_1),
        ),
        ratio(
            "offloads off: 4 streams / bare veth",
            0.65,
            &weft(off, 1.0, |w| w.stream_4),
            &column(off, 1.0, |r| r.bare_4),
        ),
        ratio(
            "same host, 1 stream / VXLAN",
            1.0,
            &weft(on, 1.0, |w| w.local_1),
            &column(on, 1.0, |r| r.vxlan_1),
        ),
        at_most(
            "CPU of sender at 1 Gbit/s",
            "% core",
            12.0,
            &weft(on, 1.0, |w| w.cpu_sender_percent),
        ),
        at_most(
            "CPU of receiver at 1 Gbit/s",
            "% core",
            12.0,
            &weft(on, 1.0, |w| w.cpu_receiver_percent),
        ),
        // Both at the same rate, so that the cores fall equally deep asleep in between.
        Figure::new(
            "idle ping / four wake-ups",
            "×",
            Target::AtMost(1.3),
            Summary::of_ratios(&ping, &slow),
        ),
        Figure::new(
            "idle ping / four wake-ups 20 times as often",
            "×",
            Target::None,
            Summary::of_ratios(&ping, &pinned),
        ),
        Figure::new(
            "64-byte UDP delivered",
            "pkt/s",
            Target::AtLeast(120_000.0),
            Summary::of(&weft(on, 1.0, best)),
        ),
        at_most("weftd resident memory", "MiB", 32.0, &resident),
    ]
}

fn for_information(rounds: &[Round], mode: &str) -> Vec<Option<Figure>> {
    let show = |name: &str, unit, values: Vec<f64>| {
        Figure::new(format!("{mode}: {name}"), unit, Target::None, Summary::of(&values))
    };
    let gigabits = "Gbit/s";
    let mut figures = vec![
        show("bare veth, 1 stream", gigabits, column(rounds, GIGA, |r| r.bare_1)),
        show("bare veth, 4 streams", gigabits, column(rounds, GIGA, |r| r.bare_4)),
        show("VXLAN, 1 stream", gigabits, column(rounds, GIGA, |r| r.vxlan_1)),
        show("VXLAN, 4 streams", gigabits, column(rounds, GIGA, |r| r.vxlan_4)),
        show("weft, 1 stream", gigabits, weft(rounds, GIGA, |w| w.stream_1)),
        show("weft, 4 streams", gigabits, weft(rounds, GIGA, |w| w.stream_4)),
        show("weft on one host, 1 stream", gigabits, weft(rounds, GIGA, |w| w.local_1)),
        show("weft on one host, 4 streams", gigabits, weft(rounds, GIGA, |w| w.local_4)),
        show("offered at the CPU figure", gigabits, weft(rounds, GIGA, |w| w.offered)),
        show("ping, bare", "µs", column(rounds, 1.0, |r| r.ping_bare_us)),
        show("ping, weft", "µs", weft(rounds, 1.0, |w| w.ping_us)),
        show("four wake-ups, pinned", "µs", column(rounds, 1.0, |r| r.chain_pinned_us)),
        show("four wake-ups, free", "µs", column(rounds, 1.0, |r| r.chain_free_us)),
        show("four wake-ups at ping's rate", "µs", column(rounds, 1.0, |r| r.chain_slow_us)),
    ];
    let rates = rounds.iter().filter_map(|r| r.weft.as_ref()).map(|w| w.packets.len()).min();
    for n in 0..rates.unwrap_or(0) {
        let wanted = rounds.iter().find_map(|r| Some(r.weft.as_ref()?.packets[n].wanted));
        let label = match wanted {
            Some(0) | None => "unlimited".to_owned(),
            Some(rate) => format!("{}k", rate / 1_000),
        };
        let delivered = weft(rounds, 1.0, |w| w.packets[n].delivered);
        figures.push(show(&format!("64-byte UDP, {label} offered"), "pkt/s", delivered));
        let lost = weft(rounds, 0.01, |w| w.packets[n].loss);
        figures.push(show(&format!("64-byte UDP, {label} lost"), "%", lost));
    }
    figures
}
