//! Hosts that follow a control plane, and a person who commands it.
//!
//! ```text
//!  ┌ control ──────────┐  TLS   ┌ host-a ──────────┐        ┌ host-b ──────────┐
//!  │ weft-control :7443│◀───────│ weftd            │═══════▶│ weftd            │
//!  │ weft (a person)   │◀───────┼──────────────────┼────────│                  │
//!  └───────────────────┘        └──────────────────┘        └──────────────────┘
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::binaries::binary;
use crate::config::{Config, Control};
use crate::daemon::{Daemon, METRICS};
use crate::namespace::Namespace;
use crate::plan::{PORT, Plan, WORKERS};
use crate::plane::Plane;
use crate::process::{COMMAND_LIMIT, Output, PATIENCE, run, wait_for};
use crate::topology::{Family, Joined, Topology, Underlay};
use crate::world::World;

/// Name of the host that runs the control plane.
pub const CONTROL: &str = "control";
/// Password of everybody.
const PASSWORD: &str = "correct horse battery staple";
/// Life of a host's certificate unless a test says another.
const DAY_SECONDS: i64 = 86_400;

/// A control plane, hosts that follow it, and a person with a session.
#[derive(Debug)]
pub struct ManagedSite {
    /// The control plane's host and the others.
    pub topology: Topology,
    /// Running daemons by host.
    pub daemons: BTreeMap<String, Daemon>,
    /// What daemons and a control plane that are started have in their environment.
    pub variables: Vec<(String, OsString)>,
    dir: PathBuf,
    plane: Plane,
    /// Which process people ask.
    asked: usize,
    starts: u32,
}

impl ManagedSite {
    /// Starts a control plane with an organisation `acme`, whose owner has the session, and no host yet.
    ///
    /// # Errors
    /// When anything of it fails; the message says what.
    pub fn start(world: &World, hosts: &[&str]) -> Result<Self> {
        Self::start_with(world, hosts, Vec::new())
    }

    /// The same with something in the environment of the control plane and of the daemons.
    ///
    /// # Errors
    /// See [`ManagedSite::start`].
    pub fn start_with(
        world: &World,
        hosts: &[&str],
        variables: Vec<(String, OsString)>,
    ) -> Result<Self> {
        Self::start_all(world, hosts, 1, variables)
    }

    /// The same with several processes of the control plane on one etcd.
    ///
    /// # Errors
    /// See [`ManagedSite::start`].
    pub fn start_several(world: &World, hosts: &[&str], processes: usize) -> Result<Self> {
        Self::start_all(world, hosts, processes, Vec::new())
    }

    fn start_all(
        world: &World,
        hosts: &[&str],
        processes: usize,
        variables: Vec<(String, OsString)>,
    ) -> Result<Self> {
        let names: Vec<_> = [CONTROL].iter().chain(hosts).copied().collect();
        let underlay = Underlay { joined: Joined::Bridge, ..Underlay::default() };
        let topology = Topology::new(world, underlay, &names)?;
        let dir = world.dir().to_owned();
        let plane = Plane::new(topology.host(CONTROL)?, &dir, processes)?;
        let daemons = BTreeMap::new();
        let mut site = Self { topology, daemons, variables, dir, plane, asked: 0, starts: 0 };
        fs::write(site.dir.join("password"), format!("{PASSWORD}\n"))?;
        let init = ["init", "--name", "weft", "--operator", "operator@weft.example"];
        let made = site.plane.run(&init)?;
        let invitation = made.lines().last().context("no invitation")?.to_owned();
        let authority = site.plane.run(&["authority"])?;
        fs::write(site.dir.join("authority.pem"), authority)?;
        for at in 0..processes {
            site.plane.start(at, &site.variables)?;
        }
        site.accept(&invitation, "operator@weft.example")?;
        let made = site.json("org create acme --owner owner@acme.example")?;
        let invitation = made["invitation"].as_str().context("no invitation")?.to_owned();
        site.accept(&invitation, "owner@acme.example")?;
        site.login("operator@weft.example")?;
        Ok(site)
    }

    /// Starts a process of the control plane, which must not run.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn start_control(&mut self, process: usize) -> Result<()> {
        self.plane.start(process, &self.variables)
    }

    /// Kills a process of the control plane.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_control(&mut self, process: usize) -> Result<()> {
        self.plane.kill(process)
    }

    /// People ask this process from now on.
    ///
    /// # Errors
    /// When the operator cannot log in there.
    pub fn ask(&mut self, process: usize) -> Result<()> {
        self.asked = process;
        self.login("operator@weft.example")
    }

    /// Sends a signal to a process of the control plane.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_control(&self, process: usize, signal: Signal) -> Result<()> {
        self.plane.signal(process, signal)
    }

    /// Sends a signal to the etcd of several processes.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal_store(&self, signal: Signal) -> Result<()> {
        self.plane.signal_store(signal)
    }

    /// What a process of the control plane wrote.
    ///
    /// # Errors
    /// When it does not run.
    pub fn control_log(&self, process: usize) -> Result<String> {
        self.plane.log(process)
    }

    /// To which processes of the control plane a host has a connection.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn heard_by(&self, host: &str) -> Result<Vec<usize>> {
        self.plane.heard_by(self.topology.host(host)?.address(Family::V4))
    }

    /// Runs `weft` with these arguments (split at blanks) as the person with the session; any exit code.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    pub fn weft(&self, arguments: &str) -> Result<Output> {
        let mut command = self.topology.host(CONTROL)?.ns.command(binary("weft")?);
        command.env("WEFT_CONTEXT", self.dir.join("context.json"));
        run(command.args(arguments.split_whitespace()), COMMAND_LIMIT)
    }

    /// Runs `weft` and parses what it prints with `--json`.
    ///
    /// # Errors
    /// When it fails.
    pub fn json(&self, arguments: &str) -> Result<Value> {
        let text = self.weft(&format!("{arguments} --json"))?.ok();
        let text = text.with_context(|| format!("weft {arguments}"))?;
        serde_json::from_str(&text).with_context(|| format!("weft {arguments}: {text}"))
    }

    fn there(&self) -> String {
        let authority = self.dir.join("authority.pem");
        format!("--server {} --authority {}", self.plane.server(self.asked), authority.display())
    }

    fn accept(&self, invitation: &str, email: &str) -> Result<()> {
        let (file, password) = (self.dir.join("invitation"), self.dir.join("password"));
        fs::write(&file, invitation)?;
        let accept = format!(
            "accept {} --name Somebody --invitation-file {} --password-file {}",
            self.there(),
            file.display(),
            password.display()
        );
        self.weft(&accept)?.ok()?;
        self.login(email)
    }

    /// Becomes this person from now on.
    ///
    /// # Errors
    /// When that fails.
    pub fn login(&self, email: &str) -> Result<()> {
        let password = self.dir.join("password");
        let there = self.there();
        let login = format!("login {there} --email {email} --password-file {}", password.display());
        self.weft(&login)?.ok().map(drop)
    }

    /// Makes an environment of organisation `acme`; returns its id.
    ///
    /// # Errors
    /// When that fails.
    pub fn environment(&self, name: &str) -> Result<String> {
        self.environment_with(name, DAY_SECONDS)
    }

    /// The same with certificates of another life, seconds.
    ///
    /// # Errors
    /// When that fails.
    pub fn environment_with(&self, name: &str, leaf_seconds: i64) -> Result<String> {
        self.login("owner@acme.example")?;
        let make = format!(
            "env create acme/{name} --subnet 10.40.0.0/16 --subnet fd40::/64 --leaf-seconds {leaf_seconds}"
        );
        let made = self.json(&make)?;
        self.login("operator@weft.example")?;
        Ok(made["id"].as_str().context("no id")?.to_owned())
    }

    /// Replaces the policy of an environment of organisation `acme`, by its owner.
    ///
    /// # Errors
    /// When it is refused.
    pub fn set_policy(&self, name: &str, policy: &Value) -> Result<()> {
        let file = self.dir.join("policy.json");
        fs::write(&file, policy.to_string())?;
        self.login("owner@acme.example")?;
        self.weft(&format!("policy set acme/{name} --file {}", file.display()))?.ok()?;
        self.login("operator@weft.example")
    }

    /// Suspends an environment of organisation `acme`, or resumes it, by its owner.
    ///
    /// # Errors
    /// When it is refused.
    pub fn suspend(&self, name: &str, is_suspended: bool) -> Result<()> {
        let word = if is_suspended { "suspend" } else { "resume" };
        self.login("owner@acme.example")?;
        self.weft(&format!("env {word} acme/{name}"))?.ok()?;
        self.login("operator@weft.example")
    }

    fn socket(&self, host: &str) -> PathBuf {
        self.dir.join(format!("{host}.sock"))
    }

    /// Starts a host's daemon, with a join token if it has never joined.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_host(&mut self, host: &str) -> Result<()> {
        drop(self.daemons.remove(host));
        let (state, token) =
            (self.dir.join(format!("{host}.state")), self.dir.join(format!("{host}.token")));
        let seal = self.dir.join(format!("{host}.seal"));
        if !state.exists() {
            let made = self.json("host token --pod one")?;
            fs::write(&token, made["secret"].as_str().context("no secret")?)?;
            fs::write(&seal, [7; 32])?;
        }
        let plan = Plan::pair();
        let ns = self.topology.host(host)?.ns.clone();
        let config = Config {
            host: host.to_owned(),
            user: plan.user,
            engine: plan.engine,
            listen: format!("{}:{PORT}", self.topology.host(host)?.address(Family::V4)),
            api: self.socket(host),
            metrics: Some(METRICS.into()),
            workers: Some(WORKERS),
            control: Some(Control {
                url: self.plane.url(),
                join_token: Some(token),
                state,
                seal: seal.display().to_string(),
            }),
            ..Config::default()
        };
        let file = self.dir.join(format!("{host}.toml"));
        fs::write(&file, config.to_toml()?)?;
        self.starts += 1;
        let log = self.dir.join(format!("{host}-{}.log", self.starts));
        let (socket, finder) = (self.socket(host), self.plane.finder());
        let daemon = Daemon::start_by(&finder, &ns, &file, &socket, &log, &self.variables);
        self.daemons.insert(host.to_owned(), daemon.with_context(|| host.to_owned())?);
        Ok(())
    }

    /// A running daemon.
    ///
    /// # Errors
    /// When that host has none.
    pub fn daemon(&mut self, host: &str) -> Result<&mut Daemon> {
        self.daemons.get_mut(host).with_context(|| format!("no daemon on {host}"))
    }

    /// Whether a host hears the control plane.
    ///
    /// # Errors
    /// When its daemon does not answer.
    pub fn is_connected(&mut self, host: &str) -> Result<bool> {
        let status = self.daemon(host)?.status()?;
        Ok(status.0["control"]["connected"].as_bool().unwrap_or(false))
    }

    /// Waits until a host hears the control plane.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn connected(&mut self, host: &str) -> Result<()> {
        let heard = wait_for("a host that hears its control plane", PATIENCE, || {
            Ok(self.is_connected(host)?.then_some(()))
        });
        heard.with_context(|| self.daemons.get(host).map(Daemon::log).unwrap_or_default())
    }

    /// Gives a container of a host an attachment; any outcome.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn attach(
        &mut self,
        host: &str,
        environment: &str,
        name: &str,
        ns: &Namespace,
    ) -> Result<Output> {
        let netns = ns.path();
        let attach =
            format!("attach --env {environment} --name {name} --netns {}", netns.display());
        self.daemon(host)?.weft_net(&attach)
    }

    /// Gives a container of a host an attachment; returns its IPv4 address.
    ///
    /// # Errors
    /// When it is not made.
    pub fn attached(
        &mut self,
        host: &str,
        environment: &str,
        name: &str,
        ns: &Namespace,
    ) -> Result<std::net::IpAddr> {
        self.attach(host, environment, name, ns)?.ok()?;
        let status = self.daemon(host)?.status()?;
        let attachment = status.attachment(environment, name)?;
        ensure!(attachment["state"] == "up", "{attachment}");
        let address = attachment["addresses"][0].as_str().context("no address")?;
        Ok(address.parse()?)
    }
}
