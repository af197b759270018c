//! One measurement over one tunnel.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netns_tests::process::pause;
use netns_tests::traffic::iperf::{self, Iperf, iperf};
use netns_tests::traffic::ping::{Ping, ping};
use weft_benches::chain;
use weft_benches::document::Better::{self, Higher, Lower};
use weft_benches::stats::percentile;
use weft_benches::{packets, request, search, usage};

use crate::length::{LOAD_LEAD, Length, PING_INTERVAL, loaded};
use crate::plan::{Direction, Measure};
use crate::tunnel::{Kind, Tunnel};

/// Always stated: the machine's default may halve or double a result.
pub(crate) const CONGESTION: &str = "cubic";
/// Offered rate at which CPU time is measured, bits per second.
const RATE: u64 = 1_000_000_000;
/// Streams beside the requests under load.
const LOAD_STREAMS: u8 = 4;
const GIGA: f64 = 1e9;
const MEBIBYTE: f64 = 1_048_576.0;
/// Time for queues to run empty after an overload.
const CALM: Duration = Duration::from_millis(200);

/// A measured value.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Part of the measure; empty where it has only one.
    pub(crate) part: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
}

fn value(part: &'static str, unit: &'static str, better: Better, value: f64) -> Value {
    Value { part, unit, better, value }
}

/// What one measurement gives.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) values: Vec<Value>,
    /// Round trips, microseconds, to be pooled with those of other rounds.
    pub(crate) round_trips: Vec<f64>,
}

impl From<Vec<Value>> for Measured {
    fn from(values: Vec<Value>) -> Self {
        Self { values, round_trips: Vec::new() }
    }
}

impl Measured {
    fn of(round_trips: Vec<f64>) -> Self {
        Self { values: percentiles(&round_trips), round_trips }
    }
}

/// CPU time so far: daemons of host a, of host b, the machine.
struct Busy {
    daemons: [Duration; 2],
    machine: Duration,
}

impl Tunnel {
    /// Measures once.
    ///
    /// # Errors
    /// When a program fails or packets are lost that must not be.
    pub(crate) fn measure(&self, measure: Measure, length: &Length) -> Result<Measured> {
        Ok(match measure {
            Measure::Tcp(streams, direction) => self.tcp(streams, direction, length.stream)?.into(),
            Measure::Udp(payload) => self.udp(payload, length)?.into(),
            Measure::Ping => Measured::of(self.ping(length.pings)?),
            Measure::RequestsIdle => Measured::of(self.requests(length.requests)?),
            Measure::RequestsLoaded => Measured::of(self.requests_under_load(length.requests)?),
            Measure::CpuAtRate => self.cpu_at_rate(length.rate)?.into(),
            Measure::CpuIdle => self.cpu_idle(length.idle)?.into(),
            Measure::Memory => self.memory()?.into(),
        })
    }

    fn iperf(&self, run: &Iperf) -> Result<iperf::IperfReport> {
        let [(a, _), (b, address)] = &self.ends;
        iperf(b, a, *address, run)
    }

    fn busy(&self) -> Result<Busy> {
        let [a, b] = &self.daemons;
        let daemons = [usage::processes_busy(a)?, usage::processes_busy(b)?];
        Ok(Busy { daemons, machine: usage::machine_busy()? })
    }

    fn tcp(&self, streams: u8, direction: Direction, time: Duration) -> Result<Vec<Value>> {
        let way = match direction {
            Direction::Out => iperf::Way::Out,
            Direction::In => iperf::Way::In,
            Direction::Both => iperf::Way::Both,
        };
        let run = Iperf { time, streams, way, congestion: CONGESTION, ..Iperf::default() };
        let before = self.busy()?;
        let report = self.iperf(&run)?;
        let after = self.busy()?;
        #[expect(clippy::cast_precision_loss, reason = "bytes of seconds fit 53 bits")]
        let gigabits = report.bytes as f64 * 8.0 / GIGA;
        ensure!(gigabits > 0.0, "nothing arrived");
        let per_gigabit = |part, before: Duration, after: Duration| {
            let spent = after.saturating_sub(before).as_secs_f64();
            value(part, "ms/Gbit", Lower, spent * 1e3 / gigabits)
        };
        let mut values = vec![value("", "Gbit/s", Higher, report.bits_per_second / GIGA)];
        for (end, part) in ["cpu-a", "cpu-b"].into_iter().enumerate() {
            if !self.daemons[end].is_empty() {
                values.push(per_gigabit(part, before.daemons[end], after.daemons[end]));
            }
        }
        values.push(per_gigabit("cpu-machine", before.machine, after.machine));
        Ok(values)
    }

    fn has_daemons(&self) -> bool {
        self.daemons.iter().any(|pids| !pids.is_empty())
    }

    fn udp(&self, payload: usize, length: &Length) -> Result<Vec<Value>> {
        let [(a, from), (b, to)] = &self.ends;
        let send = |rate, time| packets::run((a, *from), (b, *to), payload, rate, time);
        let overload = send(0, length.packets)?;
        pause(CALM)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
        let upper = overload.delivered as u64;
        let lossless = search::highest_without_loss(upper, length.search_steps, |rate| {
            let packets = send(rate, length.search)?;
            pause(CALM / 2)?;
            Ok(packets)
        })?;
        Ok(vec![
            value("overload", "pkt/s", Higher, overload.delivered),
            value("overload-lost", "%", Lower, overload.loss * 100.0),
            value("lossless", "pkt/s", Higher, lossless),
        ])
    }

    fn ping(&self, count: u32) -> Result<Vec<f64>> {
        if self.kind == Kind::WakeUps {
            return chain::measure(usize::try_from(count)?, PING_INTERVAL);
        }
        let [(a, _), (_, to)] = &self.ends;
        let pinged = ping(a, *to, &Ping { count, interval: PING_INTERVAL, ..Ping::default() })?;
        ensure!(pinged.complete(), "{} of {} answered", pinged.received, pinged.sent);
        Ok(pinged.round_trips.iter().map(|t| t.as_secs_f64() * 1e6).collect())
    }

    fn requests(&self, time: Duration) -> Result<Vec<f64>> {
        let [(a, _), (b, to)] = &self.ends;
        request::run(a, (b, *to), time)
    }

    fn requests_under_load(&self, time: Duration) -> Result<Vec<f64>> {
        let run = Iperf {
            time: loaded(time),
            streams: LOAD_STREAMS,
            congestion: CONGESTION,
            ..Iperf::default()
        };
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.iperf(&run));
            let measured = pause(LOAD_LEAD).and_then(|()| self.requests(time));
            let load = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let times = measured?;
            load?;
            Ok(times)
        })
    }

    fn cpu_at_rate(&self, time: Duration) -> Result<Vec<Value>> {
        let run = Iperf { time, rate: Some(RATE), congestion: CONGESTION, ..Iperf::default() };
        let before = self.busy()?;
        let start = Instant::now();
        let report = self.iperf(&run)?;
        let elapsed = start.elapsed();
        let after = self.busy()?;
        let percent = |part, before: Duration, after: Duration, time: Duration| {
            let share = after.saturating_sub(before).as_secs_f64() / time.as_secs_f64();
            value(part, "% core", Lower, share * 100.0)
        };
        // A peer that cannot reach the rate shows here; its CPU time is that of less.
        let mut values = vec![value("reached", "Gbit/s", Higher, report.bits_per_second / GIGA)];
        if self.has_daemons() {
            // While iperf3 starts and ends they have nothing to do.
            values.push(percent("a", before.daemons[0], after.daemons[0], time));
            values.push(percent("b", before.daemons[1], after.daemons[1], time));
        }
        values.push(percent("machine", before.machine, after.machine, elapsed));
        Ok(values)
    }

    fn cpu_idle(&self, time: Duration) -> Result<Vec<Value>> {
        let before = self.busy()?;
        let start = Instant::now();
        pause(time)?;
        let after = self.busy()?;
        let percent = |part, end: usize| {
            let spent = after.daemons[end].saturating_sub(before.daemons[end]).as_secs_f64();
            value(part, "% core", Lower, spent / start.elapsed().as_secs_f64() * 100.0)
        };
        Ok(vec![percent("a", 0), percent("b", 1)])
    }

    fn memory(&self) -> Result<Vec<Value>> {
        if !self.has_daemons() {
            return Ok(Vec::new());
        }
        let [a, b] = &self.daemons;
        let larger = usage::resident_peak(a)?.max(usage::resident_peak(b)?);
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory fit 53 bits")]
        let mebibytes = larger as f64 / MEBIBYTE;
        Ok(vec![value("", "MiB", Lower, mebibytes)])
    }
}

/// The percentiles that one round has enough for: above the last one there must be at least one
/// more. Higher ones are those of all rounds together.
fn percentiles(times: &[f64]) -> Vec<Value> {
    [("p50", 0.5, 1), ("p99", 0.99, 100)]
        .into_iter()
        .filter(|(_, _, least)| times.len() > *least)
        .filter_map(|(part, share, _)| Some(value(part, "µs", Lower, percentile(times, share)?)))
        .collect()
}
