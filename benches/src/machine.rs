//! What a figure was measured on; without it a figure says nothing.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The machine and the versions of everything that took part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory, KiB.
    pub memory_kib: u64,
    /// Kernel release.
    pub kernel: String,
    /// The kernel's default congestion control; runs state their own.
    pub congestion_control_default: String,
    /// iperf3's first line.
    pub iperf3: String,
    /// iproute2's version.
    pub iproute2: String,
    /// ethtool's version.
    pub ethtool: String,
    /// Version of `ping`.
    pub ping: String,
    /// `weft --version`, or nothing.
    pub weft: String,
    /// Commit of the tree that was built, or nothing.
    pub commit: String,
    /// When, seconds since 1970.
    pub time: u64,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn look(weft: Option<&std::path::Path>) -> Self {
        let cpu = file("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let memory = file("/proc/meminfo");
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let memory = memory.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Self {
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: memory.unwrap_or(0),
            kernel: file("/proc/sys/kernel/osrelease"),
            congestion_control_default: file("/proc/sys/net/ipv4/tcp_congestion_control"),
            iperf3: first_line(Command::new("iperf3").arg("--version")),
            iproute2: first_line(Command::new("ip").arg("-V")),
            ethtool: first_line(Command::new("ethtool").arg("--version")),
            ping: first_line(Command::new("ping").arg("-V")),
            weft: weft
                .map(|path| first_line(Command::new(path).arg("--version")))
                .unwrap_or_default(),
            commit: first_line(Command::new("git").args(["rev-parse", "HEAD"])),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
        }
    }
}

impl Machine {
    /// The day on which it measured, in UTC: `2026-11-23`.
    #[must_use]
    pub fn day(&self) -> String {
        let (year, month, day) = civil(self.time / 86_400);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// Year, month and day of a day since 1970.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = |time| Machine { time, ..Machine::default() }.day();
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_399), "2000-02-28");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(1_798_761_599), "2026-12-31");
    }
}
