//! What was measured, for people and programs, and whether it is enough.

use std::io::Write;

use anyhow::{Result, bail};

use super::{
    client::{Cpu, Latency, Measured},
    rate::Rate,
};
use crate::format::bit_rate;

/// Share of the target that must arrive: the rest is start, end and the pacing's coarseness.
const ENOUGH: f64 = 0.97;

/// Writes everything that was measured.
///
/// # Errors
/// When nobody reads.
pub(super) fn write(out: &mut impl Write, measured: &Measured, json: bool) -> Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, measured)?;
        writeln!(out)?;
        return Ok(());
    }
    let streams = measured.streams;
    let plural = if streams == 1 { "stream" } else { "streams" };
    writeln!(out, "{streams} TCP {plural} to the server     {}", bit_rate(measured.up))?;
    writeln!(out, "{streams} TCP {plural} from the server   {}", bit_rate(measured.down))?;
    writeln!(out, "round trip, idle            {}", latency(measured.idle))?;
    if let Some(at) = &measured.at_target {
        writeln!(out, "\nat the target rate          {} delivered", bit_rate(at.delivered))?;
        writeln!(out, "round trip                  {}", latency(at.latency))?;
        writeln!(out, "CPU on this side            {}", cpu(&at.here))?;
        writeln!(out, "CPU on the server's side    {}", cpu(&at.there))?;
    }
    Ok(())
}

fn latency(latency: Latency) -> String {
    format!("p50 {:.0} µs, p99 {:.0} µs", latency.p50, latency.p99)
}

fn cpu(cpu: &Cpu) -> String {
    let machine = format!("machine {:.0} %", cpu.machine);
    match &cpu.daemon {
        Ok(percent) => format!("weftd {percent:.1} % of a core, {machine}"),
        Err(reason) => format!("weftd not measured ({reason}), {machine}"),
    }
}

/// Whether the target was reached at the allowed cost.
///
/// # Errors
/// Every miss, with figures. A daemon whose CPU time is limited and not known is a miss.
pub(super) fn judge(measured: &Measured, target: Option<Rate>, max_cpu: Option<f64>) -> Result<()> {
    let (Some(target), Some(at)) = (target, &measured.at_target) else { return Ok(()) };
    let mut missed = Vec::new();
    if at.delivered < target.0 * ENOUGH {
        missed.push(format!("{} of {target} arrived", bit_rate(at.delivered)));
    }
    for (side, cpu) in [("this side", &at.here), ("the server's side", &at.there)] {
        let Some(allowed) = max_cpu else { continue };
        match &cpu.daemon {
            Ok(used) if *used <= allowed => {}
            Ok(used) => missed.push(format!(
                "weftd on {side} took {used:.1} % of a core, allowed are {allowed:.1} %"
            )),
            Err(reason) => {
                missed.push(format!("CPU time of weftd on {side} is not known: {reason}"));
            }
        }
    }
    if missed.is_empty() {
        return Ok(());
    }
    bail!("target missed: {}", missed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::client::AtTarget;

    fn measured(delivered: f64, here: Result<f64, String>) -> Measured {
        let latency = Latency { p50: 100.0, p99: 200.0 };
        let cpu = |daemon| Cpu { daemon, machine: 50.0 };
        let at_target = AtTarget { delivered, latency, here: cpu(here), there: cpu(Ok(9.0)) };
        Measured { streams: 1, up: 2e9, down: 3e9, idle: latency, at_target: Some(at_target) }
    }

    #[test]
    fn targets_are_reached_or_missed_with_reasons() {
        let target = Some(Rate(1e9));
        let why = |measured, max_cpu| judge(&measured, target, max_cpu).unwrap_err().to_string();
        judge(&measured(0.99e9, Ok(11.0)), target, Some(12.0)).unwrap();
        judge(&measured(0.99e9, Ok(99.0)), target, None).unwrap();
        judge(&measured(0.1e9, Ok(99.0)), None, None).unwrap();
        assert_eq!(
            why(measured(0.5e9, Ok(13.0)), Some(12.0)),
            "target missed: 500 Mbit/s of 1.00 Gbit/s arrived; \
             weftd on this side took 13.0 % of a core, allowed are 12.0 %"
        );
        assert!(why(measured(1e9, Err("gone".into())), Some(12.0)).contains("not known: gone"));
    }

    #[test]
    fn reports_are_for_people_and_programs() {
        let text = |json| {
            let mut out = Vec::new();
            write(&mut out, &measured(1e9, Err("no socket".into())), json).unwrap();
            String::from_utf8(out).unwrap()
        };
        let people = text(false);
        assert!(people.contains("2.00 Gbit/s") && people.contains("not measured (no socket)"));
        let programs: serde_json::Value = serde_json::from_str(&text(true)).unwrap();
        assert_eq!(programs["at_target"]["delivered"], 1e9);
        assert_eq!(programs["at_target"]["there"]["daemon"]["Ok"], 9.0);
    }
}
