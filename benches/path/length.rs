//! How long measurements take.

use std::time::Duration;

use crate::plan::Measure;

/// What starting and ending a program adds to a measurement.
pub(crate) const START: Duration = Duration::from_millis(400);
/// Between two pings: `ping` spins below 10 ms.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(10);
/// How long the streams run before the first request beside them.
pub(crate) const LOAD_LEAD: Duration = Duration::from_millis(500);
/// How much longer they run than the requests are planned to, at least.
pub(crate) const LOAD_TAIL: Duration = Duration::from_millis(200);

/// How long measurements take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    /// A TCP stream, whole seconds.
    pub(crate) stream: Duration,
    /// A TCP stream beside which CPU time is taken, whole seconds.
    pub(crate) rate: Duration,
    pub(crate) packets: Duration,
    /// A step of the search for the rate without loss.
    pub(crate) search: Duration,
    pub(crate) search_steps: u32,
    pub(crate) pings: u32,
    pub(crate) requests: Duration,
    /// Of daemons that have nothing to do.
    pub(crate) idle: Duration,
}

impl Length {
    /// For figures.
    pub(crate) const FULL: Self = Self {
        stream: Duration::from_secs(2),
        rate: Duration::from_secs(2),
        packets: Duration::from_millis(1_000),
        search: Duration::from_millis(400),
        search_steps: 4,
        // Five rounds together have enough for a p99.9 that is not the maximum.
        pings: 250,
        requests: Duration::from_millis(1_200),
        idle: Duration::from_secs(2),
    };
    /// To see that it works.
    pub(crate) const QUICK: Self = Self {
        stream: Duration::from_secs(1),
        rate: Duration::from_secs(1),
        packets: Duration::from_millis(200),
        search: Duration::from_millis(150),
        search_steps: 2,
        // Enough for a p99.
        pings: 105,
        // Enough for a p99 when each takes 3 ms.
        requests: Duration::from_millis(300),
        idle: Duration::from_millis(500),
    };

    /// The same, so many times as long.
    pub(crate) fn times(self, factor: u32) -> Self {
        Self {
            stream: self.stream * factor,
            rate: self.rate * factor,
            packets: self.packets * factor,
            search: self.search * factor,
            pings: self.pings * factor,
            requests: self.requests * factor,
            idle: self.idle * factor,
            ..self
        }
    }

    /// About how long a measure takes.
    pub(crate) fn estimate(&self, measure: Measure) -> Duration {
        match measure {
            Measure::Tcp(..) => self.stream + START,
            Measure::CpuAtRate => self.rate + START,
            Measure::Udp(_) => {
                self.packets + START + (self.search + START * 2 / 3) * self.search_steps
            }
            Measure::Ping => PING_INTERVAL * self.pings + START / 2,
            Measure::RequestsIdle => self.requests,
            Measure::RequestsLoaded => loaded(self.requests) + START,
            Measure::CpuIdle => self.idle,
            Measure::Memory => Duration::ZERO,
        }
    }
}

/// How long the streams run beside requests of this length: iperf3 counts in whole seconds.
pub(crate) fn loaded(requests: Duration) -> Duration {
    let least = LOAD_LEAD + requests + LOAD_TAIL;
    Duration::from_secs(least.as_secs() + u64::from(least.subsec_nanos() > 0))
}
