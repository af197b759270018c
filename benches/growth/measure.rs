//! Single measurements on a ground.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::Daemon;
use netns_tests::process::pause;
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::ping::{Ping, ping};
use weft_benches::stats::median;

use crate::ground::Ground;
use crate::results::number;

/// Between two pings.
const PING_INTERVAL: Duration = Duration::from_millis(10);
const MIB: f64 = 1024.0 * 1024.0;

/// One TCP stream (cubic) from host-1's end to host-2's, Gbit/s.
pub(crate) fn throughput(ground: &Ground, time: Duration) -> Result<f64> {
    let ((from, _), (to, address)) = (ground.end(0), ground.end(1));
    let run = Iperf { time, ..Iperf::default() };
    Ok(iperf(to, from, address, &run)?.bits_per_second / 1e9)
}

/// One TCP stream from host-1's end to every other, at the same time; their sum, Gbit/s.
pub(crate) fn throughput_to_all(ground: &Ground, time: Duration) -> Result<f64> {
    let (from, _) = ground.end(0);
    let run = Iperf { time, ..Iperf::default() };
    std::thread::scope(|scope| {
        let streams: Vec<_> = (1..ground.shape.hosts)
            .map(|host| {
                let (to, address) = ground.end(host);
                scope.spawn(move || iperf(to, from, address, &run))
            })
            .collect();
        let mut sum = 0.0;
        for stream in streams {
            let report = stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            sum += report.bits_per_second / 1e9;
        }
        Ok(sum)
    })
}

/// Median round trip between the ends of host-1 and host-2, microseconds.
pub(crate) fn ping_median(ground: &Ground, count: u32) -> Result<f64> {
    let ((from, _), (_, address)) = (ground.end(0), ground.end(1));
    let pings = Ping { count, interval: PING_INTERVAL, ..Ping::default() };
    let pinged = ping(from, address, &pings)?;
    ensure!(pinged.received > 0, "no answer: {}", pinged.text);
    let trips: Vec<_> = pinged.round_trips.iter().map(|t| t.as_secs_f64() * 1e6).collect();
    Ok(median(&trips))
}

/// Memory that a daemon has resident, MiB.
pub(crate) fn resident_mib(daemon: &Daemon) -> Result<f64> {
    Ok(number(usize::try_from(daemon.resident_bytes()?)?) / MIB)
}

/// CPU time of each of these daemons while nobody asks them anything, percent of a core.
pub(crate) fn idle_percent(daemons: &[&Daemon], time: Duration) -> Result<Vec<f64>> {
    let busy = || daemons.iter().map(|daemon| running_time(daemon)).collect::<Result<Vec<_>>>();
    let before = busy()?;
    let begun = std::time::Instant::now();
    pause(time)?;
    let (after, took) = (busy()?, begun.elapsed().as_secs_f64());
    let used = |(after, before): (&Duration, &Duration)| {
        after.saturating_sub(*before).as_secs_f64() / took * 100.0
    };
    Ok(after.iter().zip(&before).map(used).collect())
}

/// Time that the threads of a daemon have been on a core, in the kernel's nanoseconds: its usual
/// ticks of 10 ms are too coarse for a daemon that does nothing.
fn running_time(daemon: &Daemon) -> Result<Duration> {
    let tasks = format!("/proc/{}/task", daemon.process().pid());
    let mut total = 0;
    for task in std::fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        total += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(total))
}
