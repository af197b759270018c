//! `ping`, parsed.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// Echo requests.
    pub count: u32,
    /// Between two of them.
    pub interval: Duration,
    /// Payload bytes; the packet is 28 (IPv4) or 48 (IPv6) bytes longer.
    pub size: usize,
}

impl Default for Ping {
    fn default() -> Self {
        Self { count: 10, interval: Duration::from_millis(10), size: 56 }
    }
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Pinged {
    /// Requests sent.
    pub sent: u32,
    /// Answers received, without duplicates.
    pub received: u32,
    /// Round trip of each answer in the order of arrival.
    pub round_trips: Vec<Duration>,
    /// Everything that `ping` printed: ICMP errors are in it.
    pub text: String,
}

impl Pinged {
    /// Whether every request was answered.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }
}

/// Pings an address. Missing answers are no error: look at the result.
///
/// # Errors
/// When `ping` cannot run at all.
pub fn ping(ns: &Namespace, to: IpAddr, ping: &Ping) -> Result<Pinged> {
    ping_with(ns, to, ping, "")
}

/// [`ping`] with further options, for example `-I ADDRESS` or `-M do`.
///
/// # Errors
/// When `ping` cannot run at all.
pub fn ping_with(ns: &Namespace, to: IpAddr, ping: &Ping, options: &str) -> Result<Pinged> {
    let Ping { count, interval, size } = *ping;
    let seconds = interval.as_secs_f64();
    let line = format!("ping -n -c {count} -i {seconds} -s {size} -W 1 {options} {to}");
    let limit = interval * count + Duration::from_secs(10);
    let output = ns.run(&line, limit)?;
    parse(&output.stdout).with_context(|| format!("{line}: {}{}", output.stdout, output.stderr))
}

/// Sends one echo request and tells whether it was answered within `limit`.
///
/// # Errors
/// When `ping` cannot run at all. "Network is unreachable" (an interface that is not there yet)
/// counts as not answered.
pub fn once(ns: &Namespace, to: IpAddr, limit: Duration) -> Result<bool> {
    let line = format!("ping -n -c 1 -W {} {to}", limit.as_secs_f64());
    Ok(ns.run(&line, limit + Duration::from_secs(5))?.status.success())
}

fn parse(text: &str) -> Option<Pinged> {
    let summary = text.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |part: &str| part.split_whitespace().next()?.parse().ok();
    let mut parts = summary.split(',');
    let sent = number(parts.next()?)?;
    let received = number(parts.find(|part| part.contains(" received"))?)?;
    let times = text.lines().filter_map(|line| line.split_once("time=")).filter_map(|(_, rest)| {
        let milliseconds: f64 = rest.split_whitespace().next()?.parse().ok()?;
        Some(Duration::from_secs_f64(milliseconds / 1000.0))
    });
    Some(Pinged { sent, received, round_trips: times.collect(), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_parsed() {
        let text = "64 bytes from 10.40.0.3: icmp_seq=1 ttl=64 time=0.250 ms\n\
                    64 bytes from 10.40.0.3: icmp_seq=2 ttl=64 time=1.50 ms (DUP!)\n\n\
                    3 packets transmitted, 1 received, +1 duplicates, 66% packet loss, time 2ms\n";
        let pinged = parse(text).unwrap();
        assert_eq!((pinged.sent, pinged.received), (3, 1));
        assert_eq!(pinged.round_trips, [Duration::from_micros(250), Duration::from_micros(1500)]);
        assert!(!pinged.complete());
        assert!(parse("ping: connect: Network is unreachable").is_none());
    }
}
