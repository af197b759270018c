//! CPU time and memory: of the whole machine and of single processes.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::daemon::cpu_time;

/// `USER_HZ`: what `/proc` counts in on every Linux architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Time that all cores together have worked since the start, interrupts included; waiting for
/// disks and what another machine took is left out.
///
/// # Errors
/// When `/proc/stat` is not what it should be.
pub fn machine_busy() -> Result<Duration> {
    busy(&std::fs::read_to_string("/proc/stat")?)
}

fn busy(stat: &str) -> Result<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).context("no line cpu")?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|f| f.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; the rest is part of the first two.
    let [user, nice, system, _, _, irq, softirq] =
        *fields.first_chunk().context("/proc/stat: fewer than seven times of cpu")?;
    let ticks = user + nice + system + irq + softirq;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// CPU time of several processes together: that of their threads in nanoseconds where the kernel
/// tells it, else in ticks of 10 ms.
///
/// # Errors
/// When one is gone.
pub fn processes_busy(pids: &[i32]) -> Result<Duration> {
    pids.iter()
        .map(|pid| {
            let ticks = cpu_time(*pid).with_context(|| format!("process {pid}"))?;
            // Threads that have ended are only among the ticks.
            Ok(threads_busy(*pid).map_or(ticks, |time| time.max(ticks)))
        })
        .sum()
}

fn threads_busy(pid: i32) -> Option<Duration> {
    let mut total = None;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // "time on a core, time waiting for one, slices", nanoseconds.
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
        total = Some(total.unwrap_or(Duration::ZERO) + Duration::from_nanos(nanoseconds));
    }
    total
}

/// The most memory that several processes together have ever had resident, bytes.
///
/// # Errors
/// When one is gone.
pub fn resident_peak(pids: &[i32]) -> Result<u64> {
    pids.iter()
        .map(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("process {pid}"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
            Ok(kib.parse::<u64>()? * 1_024)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_busy() {
        let stat = "cpu  100 20 300 9000 500 60 70 80 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(stat).unwrap(), Duration::from_millis(5_500));
        assert!(busy("cpu  1 2\n").is_err());
        assert!(busy("intr 5\n").is_err());
    }

    #[test]
    fn own_memory_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(resident_peak(&[pid]).unwrap() > 100_000);
        assert_eq!(resident_peak(&[]).unwrap(), 0);
        assert!(processes_busy(&[i32::MAX]).is_err());
        assert!(processes_busy(&[pid]).unwrap() > Duration::ZERO);
    }
}
