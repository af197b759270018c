//! The side that measures.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use super::{
    rate::Rate,
    stream, usage,
    wire::{self, Counted, PATIENCE, Request, Usage, What},
};

/// Idle round trips: how long, and how far apart.
const IDLE_TIME: Duration = Duration::from_secs(2);
const IDLE_INTERVAL: Duration = Duration::from_millis(10);
/// Round trips under load are this far apart.
const LOADED_INTERVAL: Duration = Duration::from_millis(2);

/// What to measure.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where the server is.
    pub(super) server: SocketAddr,
    /// Socket of the daemon on this side.
    pub(super) socket: PathBuf,
    /// Parallel streams.
    pub(super) streams: u16,
    /// Of each measurement.
    pub(super) time: Duration,
    /// Rate at which CPU time is measured.
    pub(super) target: Option<Rate>,
}

/// What was measured. Rates are in bits per second, latencies in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Measured {
    pub(super) streams: u16,
    /// From this side to the server.
    pub(super) up: f64,
    /// From the server to this side.
    pub(super) down: f64,
    pub(super) idle: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at_target: Option<AtTarget>,
}

/// While exactly the target is offered from this side to the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct AtTarget {
    /// Bits per second that arrived.
    pub(super) delivered: f64,
    pub(super) latency: Latency,
    pub(super) here: Cpu,
    pub(super) there: Cpu,
}

/// CPU time in percent of one core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Cpu {
    /// Of the daemon, or why it is not known.
    pub(super) daemon: Result<f64, String>,
    /// Of the whole machine, this benchmark included.
    pub(super) machine: f64,
}

/// Round trips of small messages over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Measures everything, one after the other.
///
/// # Errors
/// When the server cannot be reached or stops answering.
pub(super) fn measure(wanted: &Wanted) -> Result<Measured> {
    let idle = latency(wanted, IDLE_TIME, IDLE_INTERVAL)?;
    Ok(Measured {
        streams: wanted.streams,
        up: upload(wanted, None)?,
        down: download(wanted)?,
        idle,
        at_target: wanted.target.map(|target| at_target(wanted, target)).transpose()?,
    })
}

fn open(server: SocketAddr, what: What) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).with_context(|| {
        format!("cannot connect to {server}: does weft bench server run there?")
    })?;
    wire::prepare(&stream)?;
    wire::put(&mut &stream, &Request::new(what))?;
    Ok(stream)
}

/// One thread for each stream; the sum of what they give.
fn all(streams: u16, work: impl Fn() -> Result<f64> + Sync) -> Result<f64> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..streams).map(|_| scope.spawn(&work)).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("a stream's thread panicked"))))
            .sum()
    })
}

#[expect(clippy::cast_precision_loss, reason = "bytes of an hour fit")]
fn bits_per_second(counted: Counted) -> f64 {
    if counted.seconds > 0.0 { counted.bytes as f64 * 8.0 / counted.seconds } else { 0.0 }
}

fn upload(wanted: &Wanted, rate: Option<Rate>) -> Result<f64> {
    let share = rate.map(|rate| rate.0 / f64::from(wanted.streams));
    all(wanted.streams, || {
        let mut connection = open(wanted.server, What::Receive)?;
        stream::send(&mut connection, wanted.time, share).context("sending")?;
        connection.shutdown(Shutdown::Write)?;
        Ok(bits_per_second(wire::get(&mut connection)?))
    })
}

fn download(wanted: &Wanted) -> Result<f64> {
    let milliseconds = u64::try_from(wanted.time.as_millis())?;
    all(wanted.streams, || {
        let mut connection = open(wanted.server, What::Send { milliseconds })?;
        Ok(bits_per_second(stream::receive(&mut connection).context("receiving")?))
    })
}

fn latency(wanted: &Wanted, time: Duration, interval: Duration) -> Result<Latency> {
    let mut connection = open(wanted.server, What::Echo)?;
    let times = stream::round_trips(&mut connection, time, interval).context("round trips")?;
    Latency::of(times).context("no round trip was made")
}

fn at_target(wanted: &Wanted, target: Rate) -> Result<AtTarget> {
    let usage = || -> Result<[Usage; 2]> {
        let there = wire::get(open(wanted.server, What::Usage)?)?;
        Ok([usage::now(&wanted.socket)?, there])
    };
    let before = usage()?;
    let start = Instant::now();
    let (delivered, latency) = thread::scope(|scope| {
        let latency = scope.spawn(|| latency(wanted, wanted.time, LOADED_INTERVAL));
        let delivered = upload(wanted, Some(target));
        let latency = latency.join().unwrap_or_else(|_| Err(anyhow!("round trips panicked")));
        (delivered, latency)
    });
    let elapsed = start.elapsed().as_secs_f64();
    let after = usage()?;
    let [here, there] = [0, 1].map(|side| Cpu::between(&before[side], &after[side], elapsed));
    Ok(AtTarget { delivered: delivered?, latency: latency?, here, there })
}

impl Cpu {
    fn between(before: &Usage, after: &Usage, seconds: f64) -> Self {
        let percent = |before: f64, after: f64| (after - before) / seconds * 100.0;
        let daemon = match (&before.daemon_seconds, &after.daemon_seconds) {
            (Ok(before), Ok(after)) if after >= before => Ok(percent(*before, *after)),
            (Ok(_), Ok(_)) => Err("weftd was restarted meanwhile".to_owned()),
            (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
        };
        Self { daemon, machine: percent(before.machine_seconds, after.machine_seconds) }
    }
}

impl Latency {
    /// Of at least one round trip.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |percent: usize| times[last * percent / 100].as_secs_f64() * 1e6;
        Some(Self { p50: at(50), p99: at(99) })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, path::Path};

    use super::*;
    use crate::bench::server;

    #[test]
    fn percentiles_of_few_and_many() {
        let times = |n: u64| (1..=n).map(Duration::from_micros).collect();
        assert_eq!(Latency::of(times(101)), Some(Latency { p50: 51.0, p99: 100.0 }));
        assert_eq!(Latency::of(times(1)), Some(Latency { p50: 1.0, p99: 1.0 }));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn cpu_time_is_a_difference() {
        let usage =
            |daemon, machine| Usage { daemon_seconds: Ok(daemon), machine_seconds: machine };
        let cpu = Cpu::between(&usage(1.0, 10.0), &usage(1.5, 20.0), 5.0);
        assert_eq!(cpu, Cpu { daemon: Ok(10.0), machine: 200.0 });
        assert!(Cpu::between(&usage(2.0, 0.0), &usage(1.0, 0.0), 1.0).daemon.is_err());
    }

    #[test]
    fn a_client_measures_a_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || server::serve(&listener, Path::new("/nonexistent/weftd.sock")));
        let wanted = Wanted {
            server,
            socket: "/nonexistent/weftd.sock".into(),
            streams: 2,
            time: Duration::from_millis(300),
            target: Some(Rate(40e6)),
        };
        let measured = measure(&wanted).unwrap();
        assert!(measured.up > 40e6 && measured.down > 40e6, "{measured:?}");
        assert!(measured.idle.p50 > 0.0 && measured.idle.p99 >= measured.idle.p50);
        let at = measured.at_target.unwrap();
        // Paced: far below what the loopback interface carries.
        assert!(at.delivered < measured.up && at.delivered > 10e6, "{at:?}");
        assert!(at.there.daemon.unwrap_err().contains("not running"));
    }

    #[test]
    fn no_server_is_told() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = open(closed, What::Echo).unwrap_err().to_string();
        assert!(error.contains("does weft bench server run there?"), "{error}");
    }
}
