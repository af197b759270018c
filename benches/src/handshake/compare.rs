//! Two hosts of ours and plain rustls in turn, one handshake each, so that whatever the machine
//! does meanwhile happens to both.

use std::time::Duration;

use super::{Bench, Group};
use crate::cpu_time::timed;
use crate::report::{Figure, Target};
use crate::stats::Summary;

/// Name of the figure.
pub const FIGURE: &str = "handshakes per second and core / rustls (PQ hybrid)";
/// What it should be.
pub const RATIO_MIN: f64 = 0.8;
/// Handshakes of each before the first counts.
const WARM_UP: u32 = 50;

/// CPU time of one handshake, both sides together, by round: means of the round's handshakes,
/// microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Two hosts of ours.
    pub weft_us: Vec<f64>,
    /// Plain rustls.
    pub rustls_us: Vec<f64>,
}

impl Comparison {
    /// Measures so many rounds of so many handshakes each.
    #[must_use]
    pub fn measure(bench: &Bench, rounds: u32, each: u32) -> Self {
        let mut all = Self::default();
        Self::round(bench, WARM_UP);
        for _ in 0..rounds {
            let (weft, rustls) = Self::round(bench, each.max(1));
            all.weft_us.push(weft);
            all.rustls_us.push(rustls);
        }
        all
    }

    fn round(bench: &Bench, each: u32) -> (f64, f64) {
        let (mut weft, mut rustls) = (Duration::ZERO, Duration::ZERO);
        for number in 0..each {
            let mut ours = || weft += timed(|| bench.both_weft()).1;
            let mut plain = || rustls += timed(|| bench.both_rustls(Group::Hybrid)).1;
            // Who is first meets caches that the other left; so each is first half of the time.
            if number % 2 == 0 {
                ours();
                plain();
            } else {
                plain();
                ours();
            }
        }
        let mean = |total: Duration| total.as_secs_f64() * 1e6 / f64::from(each);
        (mean(weft), mean(rustls))
    }

    /// How many handshakes two hosts of ours do in the time in which plain rustls does one, round
    /// by round. `None` without a round.
    #[must_use]
    pub fn ratio(&self) -> Option<Summary> {
        Summary::of_ratios(&self.rustls_us, &self.weft_us)
    }

    /// The ratio with its target, and the times behind it.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let time = |name: &str, us: &[f64]| Figure::new(name, "µs", Target::None, Summary::of(us));
        [
            Figure::new(FIGURE, "×", Target::AtLeast(RATIO_MIN), self.ratio()),
            time("CPU time of a handshake, both sides", &self.weft_us),
            time("CPU time of a handshake, both sides, rustls", &self.rustls_us),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_rates_and_taken_round_by_round() {
        let measured = Comparison { weft_us: vec![100.0, 50.0], rustls_us: vec![90.0, 45.0] };
        let figures = measured.figures();
        assert_eq!(figures.len(), 3);
        assert!((figures[0].summary.median - 0.9).abs() < 1e-9);
        assert_eq!(figures[0].reached, Some(true));
        assert!(Comparison::default().figures().is_empty());
    }

    #[test]
    fn both_take_time() {
        let measured = Comparison::measure(&Bench::new(), 2, 2);
        assert_eq!((measured.weft_us.len(), measured.rustls_us.len()), (2, 2));
        assert!(measured.weft_us.iter().chain(&measured.rustls_us).all(|us| *us > 10.0));
    }
}
