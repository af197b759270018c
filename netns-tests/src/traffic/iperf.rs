//! `iperf3`, with its JSON.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::process::{Process, run, wait_for};

/// Port of the server.
const PORT: u16 = 5201;
const START_LIMIT: Duration = Duration::from_secs(10);
/// What a run may take beyond its own time.
const GRACE: Duration = Duration::from_secs(15);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The client.
    Out,
    /// The server.
    In,
    /// Both at the same time; results are sums of both directions.
    Both,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Iperf {
    /// Time of sending.
    pub time: Duration,
    /// Parallel streams, 1 to 128.
    pub streams: u8,
    /// UDP instead of TCP.
    pub udp: bool,
    /// Bits per second and stream; `None` is as fast as it goes.
    pub rate: Option<u64>,
    /// Who sends.
    pub way: Way,
    /// TCP congestion control: always stated, since it changes results more than anything else.
    pub congestion: &'static str,
}

impl Default for Iperf {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(1),
            streams: 1,
            udp: false,
            rate: None,
            way: Way::Out,
            congestion: "cubic",
        }
    }
}

/// What came out.
#[derive(Debug, Clone)]
pub struct IperfReport {
    /// At the receiver.
    pub bits_per_second: f64,
    /// Payload bytes at the receiver.
    pub bytes: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// UDP datagrams lost, percent.
    pub lost_percent: f64,
    /// Everything that iperf3 said.
    pub json: Value,
}

/// Runs a server in one namespace and a client in another.
///
/// # Errors
/// When iperf3 fails or reports an error.
pub fn iperf(
    server: &Namespace,
    client: &Namespace,
    address: IpAddr,
    run_of: &Iperf,
) -> Result<IperfReport> {
    let mut command = server.command("iperf3");
    command.args(["--server", "--one-off", "--bind", &address.to_string()]);
    let mut listening = Process::start(&mut command, None)?;
    wait_for("iperf3 listens", START_LIMIT, || Ok(listening.listens_on(PORT).then_some(())))?;
    let mut command = client.command("iperf3");
    command.args(arguments(address, run_of));
    let output = run(&mut command, run_of.time + GRACE)?;
    let report = parse(&output.stdout, run_of)
        .with_context(|| format!("iperf3 {run_of:?}: {}{}", output.stdout, output.stderr))?;
    // A server that does not end by itself is ended by its guard.
    let _ = listening.wait(START_LIMIT);
    Ok(report)
}

fn arguments(address: IpAddr, run_of: &Iperf) -> Vec<String> {
    let Iperf { time, streams, udp, rate, way, congestion } = *run_of;
    let mut words = vec!["--json".into(), "--client".into(), address.to_string()];
    words.extend(["--time".into(), time.as_secs().max(1).to_string()]);
    words.extend(["--parallel".into(), streams.to_string()]);
    if udp {
        words.push("--udp".into());
    } else {
        words.extend(["--congestion".into(), congestion.into()]);
    }
    if udp || rate.is_some() {
        words.extend(["--bitrate".into(), rate.unwrap_or(0).to_string()]);
    }
    match way {
        Way::Out => {}
        Way::In => words.push("--reverse".into()),
        Way::Both => words.push("--bidir".into()),
    }
    words
}

fn parse(text: &str, run_of: &Iperf) -> Result<IperfReport> {
    let json: Value = serde_json::from_str(text)?;
    if let Some(error) = json["error"].as_str() {
        anyhow::bail!("{error}");
    }
    let end = &json["end"];
    // iperf3 sums UDP of both sides in "sum".
    let sum = if run_of.udp { &end["sum"] } else { &end["sum_received"] };
    let mut bits_per_second = sum["bits_per_second"].as_f64().context("no bits_per_second")?;
    let lost_percent = sum["lost_percent"].as_f64().unwrap_or(0.0);
    let mut bytes = sum["bytes"].as_u64().context("no bytes")?;
    if run_of.way == Way::Both {
        anyhow::ensure!(!run_of.udp, "both ways at the same time are for TCP");
        let back = &end["sum_received_bidir_reverse"];
        bits_per_second += back["bits_per_second"].as_f64().context("no bits_per_second back")?;
        bytes += back["bytes"].as_u64().context("no bytes back")?;
    }
    let delivered = 1.0 - lost_percent / 100.0;
    Ok(IperfReport {
        // For UDP the sum counts what was sent.
        bits_per_second: if run_of.udp { bits_per_second * delivered } else { bits_per_second },
        bytes,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        lost_percent,
        json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_parsed() {
        let tcp = r#"{"end": {"sum_sent": {"retransmits": 3},
                      "sum_received": {"bits_per_second": 1e9, "bytes": 125}}}"#;
        let report = parse(tcp, &Iperf::default()).unwrap();
        assert_eq!((report.bytes, report.retransmits), (125, 3));
        let both = r#"{"end": {"sum_received": {"bits_per_second": 3.0, "bytes": 1},
                       "sum_received_bidir_reverse": {"bits_per_second": 4.0, "bytes": 2}}}"#;
        let run_of = Iperf { way: Way::Both, ..Iperf::default() };
        let report = parse(both, &run_of).unwrap();
        assert!((report.bits_per_second - 7.0).abs() < 1e-9);
        assert_eq!(report.bytes, 3);
        assert!(parse(tcp, &run_of).is_err());
        let udp = r#"{"end": {"sum": {"bits_per_second": 100.0, "bytes": 1, "lost_percent": 25}}}"#;
        let report = parse(udp, &Iperf { udp: true, ..Iperf::default() }).unwrap();
        assert!((report.bits_per_second - 75.0).abs() < 1e-9);
        assert!(parse(r#"{"error": "refused"}"#, &Iperf::default()).is_err());
    }
}
