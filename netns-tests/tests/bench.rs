//! `weft bench` between two containers.

use std::path::Path;
use std::time::Duration;

use netns_tests::binaries::binary;
use netns_tests::process::{Output, Process, run, wait_for};
use netns_tests::{ACME, Family, Load, Namespace, Plan, Result, Site, ensure, scenario};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Where `weft bench server` listens unless told otherwise.
const PORT: u16 = 5821;

fn bench(ns: &Namespace, socket: &Path, arguments: &str) -> Result<Output> {
    let mut command = ns.command(binary("weft")?);
    command.args(["bench", "client", "--time", "1"]).args(arguments.split_whitespace());
    run(command.arg("--socket").arg(socket), LIMIT)
}

#[test]
fn a_target_is_reached_or_missed_with_its_cost() {
    scenario(Load::Heavy, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let (here, there) = (site.socket("host-a"), site.socket("host-b"));
        let address = b.address(Family::V4);
        let mut command = b.ns.command(binary("weft")?);
        command.args(["bench", "server", &address.to_string(), "--socket"]).arg(&there);
        let server = Process::start(&mut command, Some(&world.dir().join("bench.log")))?;
        let listens = || Ok(server.listens_on(PORT).then_some(()));
        wait_for("weft bench server", LIMIT, listens)?;

        let text = bench(&a.ns, &here, &format!("{address} --target 20Mbps --json"))?.ok()?;
        let measured: Value = serde_json::from_str(&text)?;
        for side in ["here", "there"] {
            let percent = measured["at_target"][side]["daemon"]["Ok"].as_f64();
            ensure!(percent.is_some_and(|p| (0.0..200.0).contains(&p)), "{side}: {text}");
        }
        ensure!(measured["up"].as_f64() > Some(20e6) && measured["down"].as_f64() > Some(20e6));
        let [p50, p99] = ["p50", "p99"].map(|name| measured["idle"][name].as_f64());
        ensure!(p50.is_some_and(|p50| p50 > 0.0) && p99 >= p50, "{text}");

        // More than any machine has, and less than anything costs.
        let missed = bench(&a.ns, &here, &format!("{address} --target 1Tbps --max-cpu 0.0001"))?;
        ensure!(missed.status.code() == Some(1), "{}", missed.stdout);
        ensure!(missed.stderr.contains("of 1.00 Tbit/s arrived"), "{}", missed.stderr);
        ensure!(missed.stderr.contains("weftd on the server's side took"), "{}", missed.stderr);

        // CPU time that is limited and cannot be seen is no success.
        let blind = format!("{address} --target 20Mbps --max-cpu 100");
        let blind = bench(&a.ns, Path::new("/nonexistent.sock"), &blind)?;
        ensure!(blind.status.code() == Some(1) && blind.stderr.contains("is not known"));
        Ok(())
    });
}
