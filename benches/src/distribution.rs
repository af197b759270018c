//! How round trips are distributed, pooled over all rounds: a percentile that a single round has too
//! few of is one of all rounds together.

use serde::{Deserialize, Serialize};

use crate::document::Cell;
use crate::stats::percentile;

/// Points for each tenfold of [`Point::one_in`].
const POINTS_PER_DECADE: i32 = 12;

/// All round trips of one measure of one peer in one combination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Name of the peer.
    pub peer: String,
    /// The combination.
    pub cell: Cell,
    /// Name of the measure.
    pub measure: String,
    /// How many were pooled.
    pub count: usize,
    /// From the median of small values upwards, in order.
    pub points: Vec<Point>,
}

/// One round trip in `one_in` takes longer than `microseconds`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// 1 and more: 2 is the median, 100 the 99th percentile, 1,000 that of 99.9 %.
    pub one_in: f64,
    /// Round trip, µs.
    pub microseconds: f64,
}

impl Distribution {
    /// Of round trips in microseconds, in any order.
    #[must_use]
    pub fn of(peer: &str, cell: Cell, measure: &str, times: &[f64]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let points = (0..)
            .map(|n| 10_f64.powf(f64::from(n) / f64::from(POINTS_PER_DECADE)))
            .take_while(|one_in| *one_in <= as_f64(sorted.len()))
            .filter_map(|one_in| {
                let microseconds = rounded(percentile(&sorted, 1.0 - 1.0 / one_in)?);
                Some(Point { one_in: rounded(one_in), microseconds })
            })
            .collect();
        let (peer, measure) = (peer.to_owned(), measure.to_owned());
        Self { peer, cell, measure, count: sorted.len(), points }
    }

    /// The round trip that one in `one_in` exceeds; `None` when there are too few for it.
    #[must_use]
    pub fn beyond(&self, one_in: f64) -> Option<f64> {
        let next = self.points.iter().position(|point| point.one_in >= one_in)?;
        let (after, before) = (self.points[next], self.points[next.saturating_sub(1)]);
        let span = after.one_in - before.one_in;
        let share = if span > 0.0 { (one_in - before.one_in) / span } else { 1.0 };
        Some(before.microseconds + share * (after.microseconds - before.microseconds))
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a measurement has far less than 2^53 values")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::CELL;

    #[test]
    fn percentiles_are_those_of_all_values_and_no_more() {
        let times: Vec<f64> = (1..=1_000).rev().map(f64::from).collect();
        let all = Distribution::of("weft", CELL, "ping", &times);
        let near = |one_in, expected: f64| {
            let found = all.beyond(one_in).unwrap();
            assert!((found - expected).abs() < 12.0, "{one_in}: {found}");
        };
        near(2.0, 500.0);
        near(100.0, 990.0);
        near(1_000.0, 999.0);
        assert_eq!(all.beyond(2_000.0), None);
        assert_eq!(all.count, 1_000);
        assert!(Distribution::of("weft", CELL, "ping", &[]).points.is_empty());
    }
}
