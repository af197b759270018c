//! `weft bench`: whether two machines or containers reach a rate, how late packets are, and what
//! it costs the daemons.
//!
//! ```text
//!  client ── TCP, one request line per connection ──▶ server
//!    receive: the server counts what the client sends    (throughput, paced or not)
//!    send:    the server sends, the client counts
//!    echo:    the server sends back what it gets         (round trips)
//!    usage:   the server tells its daemon's CPU time
//! ```
//! The server keeps nothing between connections. What travels is filler without any meaning.

mod client;
mod rate;
mod report;
mod server;
mod stream;
mod usage;
mod wire;

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::net::SocketArgument;
use rate::Rate;

/// Port of the server unless another is given.
const PORT: u16 = 5821;
/// Most streams at once.
const STREAMS_MAX: u16 = 64;
/// Longest measurement, seconds.
const SECONDS_MAX: u64 = 3_600;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Answer clients until interrupted
    Server(ServerArguments),
    /// Measure to a server; fails when a target is missed
    Client(ClientArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// Address to listen on, with an optional port (5821)
    #[arg(value_name = "ADDRESS", value_parser = endpoint)]
    listen: SocketAddr,
    #[command(flatten)]
    socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// Address of the server, with an optional port (5821)
    #[arg(value_name = "ADDRESS", value_parser = endpoint)]
    server: SocketAddr,
    #[command(flatten)]
    socket: SocketArgument,
    /// Parallel TCP streams
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(STREAMS_MAX)))]
    streams: u16,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    time: u64,
    /// Rate that must be reached, for example 1Gbps; CPU time is measured at this rate
    #[arg(long, value_name = "RATE")]
    target: Option<Rate>,
    /// Most CPU time that each daemon may take at the target, percent of one core
    #[arg(long, value_name = "PERCENT", requires = "target", value_parser = percent)]
    max_cpu: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs one command.
///
/// # Errors
/// A sentence that says what is wrong; a missed target too.
pub(crate) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Server(arguments) => server::run(arguments.listen, &arguments.socket.socket),
        BenchCommand::Client(arguments) => {
            let wanted = client::Wanted {
                server: arguments.server,
                socket: arguments.socket.socket.clone(),
                streams: arguments.streams,
                time: Duration::from_secs(arguments.time),
                target: arguments.target,
            };
            let measured = client::measure(&wanted)?;
            let mut out = io::stdout().lock();
            report::write(&mut out, &measured, arguments.json)?;
            report::judge(&measured, arguments.target, arguments.max_cpu)
        }
    }
}

/// `ADDRESS` or `ADDRESS:PORT`, IPv6 in brackets when a port follows.
fn endpoint(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(|ip| SocketAddr::new(ip, PORT)).map_err(|_| {
        "expected an IP address with an optional port, as 10.40.0.3, 10.40.0.3:5821 or [fd40::3]:5821"
            .to_owned()
    })
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim_end_matches('%').parse().map_err(|_| "expected a number")?;
    let sensible = value.is_finite() && value > 0.0;
    if sensible { Ok(value) } else { Err("expected more than 0".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        assert_eq!(endpoint("10.40.0.3"), Ok("10.40.0.3:5821".parse().unwrap()));
        assert_eq!(endpoint("10.40.0.3:1"), Ok("10.40.0.3:1".parse().unwrap()));
        assert_eq!(endpoint("fd40::3"), Ok("[fd40::3]:5821".parse().unwrap()));
        assert_eq!(endpoint("[fd40::3]"), Ok("[fd40::3]:5821".parse().unwrap()));
        assert!(endpoint("host-a").is_err());
    }

    #[test]
    fn percentages_are_above_zero() {
        assert_eq!(percent("12%"), Ok(12.0));
        for wrong in ["0", "-1", "NaN", "inf", "much"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
