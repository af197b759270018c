//! Memory and descriptors of daemons that are never killed, and of their helpers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netns_tests::process::wait_for;
use netns_tests::{Context, Result, Site, ensure};

/// State of a TCP connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// The first part of the run, one in this many, is warming up and tells nothing of a slope.
const WARM_UP: usize = 6;

/// One process.
#[derive(Debug)]
struct Watched {
    name: String,
    pid: i32,
    descriptors: usize,
    /// Seconds since the start, resident bytes.
    samples: Vec<(f64, f64)>,
}

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch {
    begun: Instant,
    last: Instant,
    watched: Vec<Watched>,
}

/// What came of it, over all processes.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// The steepest rise, bytes per hour.
    pub slope_max: f64,
    /// The most that one has more at the end than at the start, bytes.
    pub growth_max: u64,
    /// Name, first and last resident bytes, slope in bytes per hour, descriptors.
    pub each: Vec<(String, u64, u64, f64, usize)>,
}

impl Watch {
    /// Begins with the daemons of these hosts and their helpers.
    ///
    /// # Errors
    /// When one is not there.
    pub(super) fn start(site: &Site, hosts: &[&str]) -> Result<Self> {
        let mut watched = Vec::new();
        for host in hosts {
            let daemon = site.daemon(host)?;
            let helper = daemon.helper()?.context("no helper")?.as_raw();
            for (kind, pid) in [("weftd", daemon.process().pid().as_raw()), ("helper", helper)] {
                let name = format!("{kind} on {host}");
                let descriptors = descriptors(pid)?;
                watched.push(Watched { name, pid, descriptors, samples: Vec::new() });
            }
        }
        let now = Instant::now();
        let mut watch = Self { begun: now, last: now, watched };
        watch.sample()?;
        Ok(watch)
    }

    /// Takes a sample when it is time for one.
    ///
    /// # Errors
    /// When a process is gone.
    pub(super) fn look(&mut self) -> Result<()> {
        if self.last.elapsed() >= PERIOD { self.sample() } else { Ok(()) }
    }

    fn sample(&mut self) -> Result<()> {
        self.last = Instant::now();
        let at = self.begun.elapsed().as_secs_f64();
        for process in &mut self.watched {
            let bytes = resident(process.pid).with_context(|| process.name.clone())?;
            process.samples.push((at, bytes));
        }
        Ok(())
    }

    /// Ends it. Descriptors must be as many as at the start, within a while.
    ///
    /// # Errors
    /// When they are not.
    pub(super) fn finish(mut self, limit: Duration) -> Result<Memory> {
        self.sample()?;
        let mut memory = Memory::default();
        for process in &self.watched {
            wait_for("descriptors as at the start", limit, || {
                let now = descriptors(process.pid)?;
                let before = process.descriptors;
                ensure!(now == before, "{}: {now} descriptors, {before} before", process.name);
                Ok(Some(()))
            })?;
            let samples = &process.samples;
            let (first, last) = (samples[0].1, samples[samples.len() - 1].1);
            let slope = slope(&samples[samples.len() / WARM_UP..]);
            memory.slope_max = memory.slope_max.max(slope);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
            let (first, last) = (first as u64, last as u64);
            memory.growth_max = memory.growth_max.max(last.saturating_sub(first));
            memory.each.push((process.name.clone(), first, last, slope, process.descriptors));
        }
        Ok(memory)
    }
}

/// The slope of the line with the least squares, per hour.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX));
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|s| s.0), mean(|s| s.1));
    let spread: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
    let rise: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    if spread > 0.0 { rise / spread * 3_600.0 } else { 0.0 }
}

/// All but those of TCP connections that are open: streams stay for a minute after their last use.
fn descriptors(pid: i32) -> Result<usize> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let established = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let state = fields.next()?;
        (state == ESTABLISHED).then(|| format!("socket:[{}]", fields.nth(5).unwrap_or_default()))
    });
    let connections: BTreeSet<String> = established.collect();
    let mut count = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        // One that was closed meanwhile is none.
        let Ok(to) = std::fs::read_link(entry.path()) else { continue };
        count += usize::from(!connections.contains(&*to.to_string_lossy()));
    }
    Ok(count)
}

fn resident(pid: i32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u32 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(f64::from(kib) * 1_024.0)
}

#[test]
fn a_rise_is_a_slope() {
    let rising: Vec<_> = (0..100).map(|s| (f64::from(s), 1e6 + 10.0 * f64::from(s))).collect();
    assert!((slope(&rising) - 36_000.0).abs() < 1e-3);
    assert!(slope(&[(0.0, 5.0), (1.0, 5.0)]).abs() < 1e-9);
}
