//! CPU time of this machine and of the daemon on it.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::wire::Usage;
use crate::net;

/// Clock ticks per second of the times in `/proc`: always 100 (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;
/// Fields of `/proc/PID/stat` behind the name, counted from the state: user and system time.
const TIMES: [usize; 2] = [11, 12];

/// What was used so far. A daemon that cannot be seen (none runs, or it is outside of this
/// container) is no error here.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn now(socket: &Path) -> Result<Usage> {
    let daemon_seconds = daemon(socket).map_err(|error| format!("{error:#}"));
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let machine_seconds = busy_seconds(&stat).context("/proc/stat: expected a line cpu")?;
    Ok(Usage { daemon_seconds, machine_seconds })
}

fn daemon(socket: &Path) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let mut client = net::connect(socket).await?;
        net::ask_status(&mut client, "").await
    })?;
    let path = format!("/proc/{}/stat", status.pid);
    let stat = fs::read_to_string(&path)
        .with_context(|| format!("weftd runs, but {path} cannot be read from here"))?;
    process_seconds(&stat).with_context(|| format!("{path}: expected user and system time"))
}

fn process_seconds(stat: &str) -> Option<f64> {
    // The name is in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: Option<Vec<f64>> = TIMES.iter().map(|at| fields.get(*at)?.parse().ok()).collect();
    Some(ticks?.iter().sum::<f64>() / TICKS)
}

/// user + nice + system + irq + softirq: everything but idle, waiting and stolen.
fn busy_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<f64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    let busy: Option<Vec<f64>> =
        [0, 1, 2, 5, 6].iter().map(|at| fields.get(*at).copied()).collect();
    Some(busy?.iter().sum::<f64>() / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 9";
        assert_eq!(process_seconds(stat), Some(3.0));
        assert_eq!(process_seconds("7 (x) S 1"), None);
        assert_eq!(process_seconds(""), None);
    }

    #[test]
    fn a_machine_is_busy_when_it_is_not_idle() {
        assert_eq!(busy_seconds("cpu  100 0 200 9999 77 10 90 55 0 0\ncpu0 1"), Some(4.0));
        assert_eq!(busy_seconds("cpu  100\n"), None);
        assert_eq!(busy_seconds("cpu0 1 2 3 4 5 6 7\n"), None);
    }

    #[test]
    fn no_daemon_is_told_and_no_error() {
        let usage = now(Path::new("/nonexistent/weftd.sock")).unwrap();
        assert!(usage.daemon_seconds.unwrap_err().contains("weftd is not running"));
        assert!(usage.machine_seconds > 0.0);
    }
}
