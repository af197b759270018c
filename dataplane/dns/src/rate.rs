//! How often, and how much, whoever asks is answered.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How much of something is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Per second in the long run, at least 1.
    pub per_second: u32,
    /// At once after a pause, at least 1.
    pub burst: u32,
}

/// Every rate of an environment's gateway. Of one environment only: another's load changes none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries of one source.
    pub queries: Rate,
    /// Queries of all sources together.
    pub queries_together: Rate,
    /// Pings answered and packets refused, of one source.
    pub courtesies: Rate,
    /// Bytes of packets to one source, of every kind.
    pub bytes: Rate,
    /// Most sources that are remembered; all others share the rates of one.
    pub sources_max: usize,
}

impl Default for Limits {
    /// A query takes some 10 µs: 5,000 in a second are a twentieth of a core. An answer has at most 1,280 B with its
    /// headers, so that 200 of them a second are 256,000 B; a burst holds the longest answer over TCP five times.
    /// The table takes at most 4,096 × about 80 B = 320 KiB.
    fn default() -> Self {
        Self {
            queries: Rate { per_second: 200, burst: 100 },
            queries_together: Rate { per_second: 5_000, burst: 1_000 },
            courtesies: Rate { per_second: 100, burst: 50 },
            bytes: Rate { per_second: 256_000, burst: 128_000 },
            sources_max: 4_096,
        }
    }
}

/// When the next unit is due at the long-run rate (the generic cell rate algorithm): it may be early by as much
/// as the burst allows.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    due: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Takes `units`, if so many are there.
    fn take(&mut self, rate: Rate, units: u32, now: Instant) -> bool {
        let per_second = u64::from(rate.per_second.max(1));
        // Rounded up, so that the rate is never exceeded.
        let time = |units: u32| {
            Duration::from_nanos((u64::from(units) * 1_000_000_000).div_ceil(per_second))
        };
        let Some(room) = rate.burst.max(1).checked_sub(units) else { return false };
        if self.due > now + time(room) {
            return false;
        }
        self.due = self.due.max(now) + time(units);
        true
    }

    /// Whether it is as good as new, so that forgetting it changes nothing.
    fn is_idle(&self, now: Instant) -> bool {
        self.due <= now
    }
}

#[derive(Debug, Clone, Copy)]
struct Source {
    queries: Bucket,
    courtesies: Bucket,
    bytes: Bucket,
}

impl Source {
    fn new(now: Instant) -> Self {
        let bucket = Bucket::new(now);
        Self { queries: bucket, courtesies: bucket, bytes: bucket }
    }

    fn is_idle(&self, now: Instant) -> bool {
        [self.queries, self.courtesies, self.bytes].iter().all(|bucket| bucket.is_idle(now))
    }
}

/// A full table is searched for idle sources at most this often: 4,096 entries take about 10 µs.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// All sources of an environment. A source is one address: the data plane lets an attachment send from its own
/// addresses only, so an address cannot be forged and none has a whole /64.
#[derive(Debug)]
pub(crate) struct Rates {
    limits: Limits,
    sources: HashMap<IpAddr, Source>,
    overflow: Option<Source>,
    together: Option<Bucket>,
    next_sweep: Option<Instant>,
}

impl Rates {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, sources: HashMap::new(), overflow: None, together: None, next_sweep: None }
    }

    /// Whether a query of `source` is answered now.
    pub(crate) fn query(&mut self, source: IpAddr, now: Instant) -> bool {
        let limits = self.limits;
        self.source(source, now).queries.take(limits.queries, 1, now)
            && self.together.get_or_insert(Bucket::new(now)).take(limits.queries_together, 1, now)
    }

    /// Whether `source` gets a ping answered or a packet refused now.
    pub(crate) fn courtesy(&mut self, source: IpAddr, now: Instant) -> bool {
        let limits = self.limits;
        self.source(source, now).courtesies.take(limits.courtesies, 1, now)
    }

    /// Whether a packet of so many bytes goes to `source` now.
    pub(crate) fn bytes(&mut self, source: IpAddr, len: usize, now: Instant) -> bool {
        let limits = self.limits;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.source(source, now).bytes.take(limits.bytes, len, now)
    }

    fn source(&mut self, address: IpAddr, now: Instant) -> &mut Source {
        let full = self.sources.len() >= self.limits.sources_max;
        if full && !self.sources.contains_key(&address) {
            self.sweep(now);
            if self.sources.len() >= self.limits.sources_max {
                return self.overflow.get_or_insert(Source::new(now));
            }
        }
        self.sources.entry(address).or_insert(Source::new(now))
    }

    fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|due| due <= now) {
            self.sources.retain(|_, source| !source.is_idle(now));
            self.next_sweep = Some(now + SWEEP_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    proptest! {
        /// In every stretch of time no more than burst and rate allow, and never less than the rate.
        #[test]
        fn a_bucket_holds_its_rate(
            steps in proptest::collection::vec((0u64..400, 1u32..6), 1..200),
        ) {
            let rate = Rate { per_second: 10, burst: 8 };
            let begun = Instant::now();
            let mut bucket = Bucket::new(begun);
            let mut taken: Vec<(u64, u32)> = Vec::new();
            let mut at = 0;
            for (pause_ms, units) in steps {
                at += pause_ms;
                if bucket.take(rate, units, begun + Duration::from_millis(at)) {
                    taken.push((at, units));
                } else {
                    // Refused only when what was taken lately leaves no room.
                    let lately: f64 = taken.iter().map(|(_, n)| f64::from(*n)).sum();
                    prop_assert!(lately + f64::from(units) > 8.0);
                }
            }
            for first in 0..taken.len() {
                let mut sum = 0;
                for (until, units) in &taken[first..] {
                    sum += units;
                    let allowed = 8.0 + (*until - taken[first].0) as f64 / 100.0 + 1e-6;
                    prop_assert!(f64::from(sum) <= allowed, "{sum} > {allowed}");
                }
            }
        }
    }

    #[test]
    fn more_than_a_burst_never_goes() {
        let now = Instant::now();
        assert!(!Bucket::new(now).take(Rate { per_second: 1_000, burst: 5 }, 6, now));
        assert!(Bucket::new(now).take(Rate { per_second: 1_000, burst: 5 }, 5, now));
    }

    #[test]
    fn sources_do_not_cost_each_other_and_all_are_limited_together() {
        let now = Instant::now();
        let mut rates = Rates::new(Limits::default());
        let asked = |rates: &mut Rates, n| (0..1_000).filter(|_| rates.query(v4(n), now)).count();
        assert_eq!(asked(&mut rates, 1), 100);
        assert_eq!(asked(&mut rates, 2), 100);
        let others: usize = (3..100).map(|n| asked(&mut rates, n)).sum();
        assert_eq!(others, 800, "the environment's burst");
    }

    #[test]
    fn a_full_table_is_shared_and_emptied() {
        let begun = Instant::now();
        let mut rates = Rates::new(Limits { sources_max: 3, ..Limits::default() });
        for n in 0..3 {
            assert!(rates.query(v4(n), begun));
        }
        let others = (3..1_000).filter(|n| rates.query(v4(*n), begun)).count();
        assert_eq!(others, 100, "one rate for all others");
        assert_eq!(rates.sources.len(), 3);
        assert!(rates.query(v4(5_000), begun + Duration::from_secs(2)));
        assert_eq!(rates.sources.len(), 1, "idle ones are forgotten");
    }
}
