//! `weft bench` between two containers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
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

/// `benches/real/run`, with a stand-in for ssh whose hosts are namespaces.
struct Real<'a> {
    site: &'a Site,
    ssh: std::path::PathBuf,
    json: std::path::PathBuf,
}

impl Real<'_> {
    fn run(&self, weft: &str, arguments: &str) -> Result<Output> {
        let [a, b] = [&self.site.topology.hosts[0], &self.site.topology.hosts[1]];
        let (from, to) = (self.site.container(ACME, "a1")?, self.site.container(ACME, "b1")?);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/real/run");
        let mut command = Command::new(script);
        command.args(["--server", b.ns.name(), "--client", a.ns.name(), "--time", "1"]);
        command.args(["--address", &to.address(Family::V4).to_string()]);
        command.arg("--server-netns").arg(to.ns.path()).arg("--client-netns").arg(from.ns.path());
        command.arg("--server-socket").arg(self.site.socket("host-b"));
        command.arg("--client-socket").arg(self.site.socket("host-a"));
        command.args(["--weft", weft]).arg("--ssh").arg(&self.ssh).arg("--json").arg(&self.json);
        run(command.args(arguments.split_whitespace()), LIMIT)
    }
}

#[test]
fn two_machines_are_measured_from_a_third() {
    scenario(Load::Heavy, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let (ssh, json) = (world.dir().join("ssh"), world.dir().join("real").join("result.json"));
        let stand_in = "#!/bin/sh\nhost=$1\nshift\n[ \"$host\" != gone ] || exit 255\n\
                        exec nsenter --net=/run/netns/$host -- sh -c \"$*\"\n";
        std::fs::write(&ssh, stand_in)?;
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755))?;
        let real = Real { site: &site, ssh, json };
        let weft = binary("weft")?.display().to_string();

        let done = real.run(&weft, "--target 20Mbps --max-cpu 200 --streams 2")?;
        ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
        let measured: Value = serde_json::from_str(&std::fs::read_to_string(&real.json)?)?;
        ensure!(measured["up"].as_f64() > Some(20e6) && measured["streams"] == 2, "{measured}");
        ensure!(measured["at_target"]["there"]["daemon"]["Ok"].is_number(), "{measured}");

        let missed = real.run(&weft, "--target 1Tbps --max-cpu 0.0001")?;
        ensure!(missed.status.code() == Some(1), "{}", missed.stderr);
        ensure!(missed.stderr.contains("of 1.00 Tbit/s arrived"), "{}", missed.stderr);
        ensure!(missed.stderr.contains("weftd on the server's side took"), "{}", missed.stderr);

        // Everything that is missing on either side is said at once.
        let lacking = real.run("/nonexistent/weft", "--client-netns /run/netns/none")?;
        ensure!(lacking.status.code() == Some(2), "{}", lacking.stderr);
        let said = lacking.stderr.matches("/nonexistent/weft is not installed").count();
        ensure!(said == 2, "{}", lacking.stderr);
        ensure!(lacking.stderr.contains("no network namespace /run/netns/none"));
        let gone = real.run(&weft, "--server gone")?;
        ensure!(gone.status.code() == Some(2), "{}", gone.stderr);
        ensure!(gone.stderr.contains("gone (server): cannot run commands there"));

        // Its server has ended with it.
        let socket = site.socket("host-a");
        let address = site.container(ACME, "b1")?.address(Family::V4);
        let refused = bench(&site.container(ACME, "a1")?.ns, &socket, &address.to_string())?;
        ensure!(refused.stderr.contains("does weft bench server run there?"));
        Ok(())
    });
}
