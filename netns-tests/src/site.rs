//! A plan made real: namespaces, certificates, configurations, daemons.
//!
//! ```text
//!  ┌ host-a ────────────────┐                      ┌ host-b ────────────────┐
//!  │ weftd   listen :5820   │  TCP: TLS handshake  │ weftd   listen :5820   │
//!  │   │ fds of the TUNs    │  UDP: sealed data    │   │                    │
//!  │   │            eth0 ───┼──────────────────────┼── eth0                 │
//!  └───┼────────────────────┘                      └───┼────────────────────┘
//!  ┌ a1│───────────┐ ┌ a1 (beta) ──┐               ┌ b1│───────────┐
//!  │ weft0 10.40.0.2 │ weft0 10.40.0.2             │ weft0 10.40.0.3
//!  └───────────────┘ └─────────────┘               └───────────────┘
//! ```
//!
//! Containers have no wire: what they have is the interface that `weftd` gives them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::config::{Attachment, Config, Environment, Peer};
use crate::daemon::{Daemon, METRICS};
use crate::namespace::Namespace;
use crate::pki::Pki;
use crate::plan::{ContainerPlan, PORT, Plan};
use crate::process::wait_for;
use crate::relay::{Relay, alias};
use crate::status::{list, number};
use crate::topology::{Family, Topology, UNDERLAY_INTERFACE};
use crate::traffic::ping;
use crate::world::World;

/// Name of a container's interface.
pub const OVERLAY_INTERFACE: &str = "weft0";
/// Name of the host between the others in a relayed plan.
pub const RELAY: &str = "relay";
/// How long sessions may take to come up.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// How long one answer is waited for before it is asked again: times are measured this finely.
const ANSWER_MAX: Duration = Duration::from_millis(200);
/// Without a handshake for so long, none is coming.
const CALM: Duration = Duration::from_millis(2_500);

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// What was asked for.
    pub plan: ContainerPlan,
    /// Its namespace.
    pub ns: Namespace,
}

impl Container {
    /// Its overlay address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.plan.v4().into(),
            Family::V6 => self.plan.v6().into(),
        }
    }

    /// Packets that came out of its interface so far, whoever sent them (a superpacket is one).
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn received(&self) -> Result<u64> {
        Ok(self.ns.link(OVERLAY_INTERFACE)?.rx_packets)
    }
}

/// A plan made real. Daemons run after [`Site::start`].
#[derive(Debug)]
pub struct Site {
    /// Running daemons by host id.
    pub daemons: BTreeMap<String, Daemon>,
    /// What each host is or will be told; change it, then [`Site::write`].
    pub configs: BTreeMap<String, Config>,
    /// What daemons have in their environment, by host id.
    pub variables: BTreeMap<String, Vec<(String, OsString)>>,
    /// The hosts.
    pub topology: Topology,
    /// CAs by environment.
    pub pki: BTreeMap<String, Pki>,
    /// Containers in the order of the plan.
    pub containers: Vec<Container>,
    dir: PathBuf,
    family: Family,
    starts: u32,
}

impl Site {
    /// Makes namespaces, certificates and configurations; starts nothing.
    ///
    /// # Errors
    /// When the kernel or `weft pki` refuses something.
    pub fn prepare(world: &World, plan: &Plan) -> Result<Self> {
        let relay = plan.relayed.then_some(RELAY);
        let names: Vec<_> = plan.hosts.iter().map(String::as_str).chain(relay).collect();
        let topology = Topology::new(world, plan.underlay, &names)?;
        let mut containers = Vec::new();
        for container in &plan.containers {
            let label = format!("{}-{}", container.environment, container.name);
            let ns = world.namespace(&label)?;
            containers.push(Container { plan: container.clone(), ns });
        }
        let mut pki = BTreeMap::new();
        for id in &plan.environments {
            pki.insert(id.clone(), Pki::init(&world.dir().join("pki"), id)?);
        }
        let mut site = Self {
            daemons: BTreeMap::new(),
            configs: BTreeMap::new(),
            variables: BTreeMap::new(),
            topology,
            pki,
            containers,
            dir: world.dir().to_owned(),
            family: plan.family,
            starts: 0,
        };
        for host in &plan.hosts {
            let config = site.configure(plan, host)?;
            site.configs.insert(host.clone(), config);
        }
        Ok(site)
    }

    /// [`Site::prepare`], [`Site::start`] and [`Site::settle`].
    ///
    /// # Errors
    /// As those.
    pub fn up(world: &World, plan: &Plan) -> Result<Self> {
        let mut site = Self::prepare(world, plan)?;
        site.start()?;
        site.settle()?;
        Ok(site)
    }

    fn configure(&self, plan: &Plan, host: &str) -> Result<Config> {
        let environments = plan.environments.iter().map(|id| self.environment(plan, host, id));
        Ok(Config {
            lines: plan.lines.clone(),
            host: host.to_owned(),
            user: plan.user.clone(),
            listen: self.endpoint(host)?.to_string(),
            api: self.socket(host),
            metrics: Some(METRICS.into()),
            workers: Some(plan.workers),
            engine: plan.engine.clone(),
            keys: plan.keys,
            control: None,
            environments: environments.collect::<Result<_>>()?,
        })
    }

    fn environment(&self, plan: &Plan, host: &str, id: &str) -> Result<Environment> {
        let pki = &self.pki[id];
        let files = pki.issue(host)?;
        let living = |on: &str| {
            let here = move |c: &&Container| c.plan.environment == id && c.plan.host == on;
            self.containers.iter().filter(here).collect::<Vec<_>>()
        };
        let attachments = living(host).into_iter().map(|container| Attachment {
            name: container.plan.name.clone(),
            netns: container.ns.path(),
            interface: None,
            address: Some(container.plan.v4().to_string()),
            address6: Some(container.plan.v6().to_string()),
        });
        let peers = plan.hosts.iter().filter(|other| *other != host).map(|other| {
            let both = [Family::V4, Family::V6];
            let addresses = living(other).into_iter().flat_map(|c| both.map(|f| c.address(f)));
            let endpoint = match plan.relayed {
                true => SocketAddr::new(alias(plan.family, position(plan, host)?), PORT),
                false => self.endpoint(other)?,
            };
            Ok(Peer {
                host: other.clone(),
                endpoint: endpoint.to_string(),
                alternative_endpoints: Vec::new(),
                addresses: addresses.map(|address| address.to_string()).collect(),
                keepalive_seconds: None,
            })
        });
        Ok(Environment {
            id: id.to_owned(),
            subnet: Some("10.40.0.0/16".into()),
            subnet6: Some("fd40::/64".into()),
            ca: pki.ca_cert(),
            cert: files.cert,
            key: files.key,
            attachments: attachments.collect(),
            peers: peers.collect::<Result<_>>()?,
            weight: None,
            egress_mbit_max: None,
            other_names: None,
            name_servers: Vec::new(),
            services: Vec::new(),
        })
    }

    /// Starts the relay of a relayed plan; daemons find each other only while it runs.
    ///
    /// # Errors
    /// When the plan has none.
    pub fn relay(&self, seed: u64) -> Result<Relay> {
        let hosts = &self.topology.hosts;
        let relay = self.topology.host(RELAY)?;
        Relay::start(relay, &hosts[0], &hosts[1], self.family, seed)
    }

    /// Lets packets leave a host at so many Mbit/s; its interface queues as many as it is given.
    ///
    /// # Errors
    /// When there is no such host, or no `tc`.
    pub fn slow_down(&self, host: &str, mbit: u32) -> Result<()> {
        let slow = format!(
            "tc qdisc replace dev {UNDERLAY_INTERFACE} root tbf rate {mbit}mbit burst 65535 limit 64mb"
        );
        self.topology.host(host)?.ns.run_ok(&slow, Duration::from_secs(5))?;
        Ok(())
    }

    /// Where a host's daemon listens.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn endpoint(&self, host: &str) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.topology.host(host)?.address(self.family), PORT))
    }

    /// The API socket of a host's daemon.
    #[must_use]
    pub fn socket(&self, host: &str) -> PathBuf {
        self.dir.join(format!("{host}.sock"))
    }

    /// The configuration file of a host's daemon.
    #[must_use]
    pub fn config_file(&self, host: &str) -> PathBuf {
        self.dir.join(format!("{host}.toml"))
    }

    /// The configuration of a host, to be changed. Panics when there is no such host.
    pub fn config(&mut self, host: &str) -> &mut Config {
        self.configs.get_mut(host).unwrap_or_else(|| panic!("no host {host}"))
    }

    /// Writes a host's configuration file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, host: &str) -> Result<PathBuf> {
        let path = self.config_file(host);
        std::fs::write(&path, self.configs[host].to_toml()?)?;
        Ok(path)
    }

    /// Writes all configurations and starts all daemons.
    ///
    /// # Errors
    /// When one does not come up; the message holds its log.
    pub fn start(&mut self) -> Result<()> {
        let hosts: Vec<_> = self.configs.keys().cloned().collect();
        hosts.iter().try_for_each(|host| self.start_host(host))
    }

    /// Writes one host's configuration and starts its daemon (after ending a former one).
    ///
    /// # Errors
    /// When it does not come up; the message holds its log.
    pub fn start_host(&mut self, host: &str) -> Result<()> {
        drop(self.daemons.remove(host));
        let config = self.write(host)?;
        self.starts += 1;
        let log = self.dir.join(format!("{host}-{}.log", self.starts));
        let ns = &self.topology.host(host)?.ns;
        let variables = self.variables.get(host).map_or(&[][..], Vec::as_slice);
        let daemon = Daemon::start_with(ns, &config, &self.socket(host), &log, variables)
            .with_context(|| host.to_owned())?;
        self.daemons.insert(host.to_owned(), daemon);
        Ok(())
    }

    /// Writes one host's configuration and sends its daemon SIGHUP.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn reload(&self, host: &str) -> Result<()> {
        self.write(host)?;
        self.daemon(host)?.reload()
    }

    /// A running daemon.
    ///
    /// # Errors
    /// When that host has none.
    pub fn daemon(&self, host: &str) -> Result<&Daemon> {
        self.daemons.get(host).with_context(|| format!("no daemon on {host}"))
    }

    /// A running daemon, to be stopped.
    ///
    /// # Errors
    /// When that host has none.
    pub fn daemon_mut(&mut self, host: &str) -> Result<&mut Daemon> {
        self.daemons.get_mut(host).with_context(|| format!("no daemon on {host}"))
    }

    /// A container by environment and name.
    ///
    /// # Errors
    /// When there is none.
    pub fn container(&self, environment: &str, name: &str) -> Result<&Container> {
        let wanted = |c: &&Container| c.plan.environment == environment && c.plan.name == name;
        let found = self.containers.iter().find(wanted);
        found.with_context(|| format!("no container {name} in {environment}"))
    }

    /// Waits until each container reaches each other one of its environment.
    ///
    /// # Errors
    /// After [`SETTLE_LIMIT`], naming the first pair that does not.
    pub fn settle(&self) -> Result<()> {
        self.pairs().try_for_each(|(from, to)| reach(from, to))
    }

    /// Waits until no host has made a handshake for [`CALM`]: at the start both sides dial, and
    /// the loser's second attempt may come late.
    ///
    /// # Errors
    /// After [`SETTLE_LIMIT`].
    pub fn calm(&self) -> Result<()> {
        let handshakes = || -> Result<u64> {
            let mut count = 0;
            for daemon in self.daemons.values() {
                let status = daemon.status()?;
                let environments = list(&status.0["environments"]);
                let peers = environments.iter().flat_map(|e| list(&e["peers"]));
                count += peers.map(|peer| number(&peer["handshakes_ok"])).sum::<u64>();
            }
            Ok(count)
        };
        let (mut last, mut since) = (handshakes()?, Instant::now());
        wait_for("no more handshakes", SETTLE_LIMIT, || {
            let now = handshakes()?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
            Ok((since.elapsed() >= CALM).then_some(()))
        })
    }

    /// Everything that was dropped so far, by host, environment and cause; for messages.
    ///
    /// # Errors
    /// When a daemon does not answer.
    pub fn all_drops(&self) -> Result<String> {
        let mut text = String::new();
        for (host, daemon) in &self.daemons {
            let status = daemon.status()?;
            text += &format!("{host}: none {:?}", status.drops(None)?);
            for environment in list(&status.0["environments"]) {
                let id = environment["id"].as_str().unwrap_or_default();
                text += &format!(", {id} {:?}", status.drops(Some(id))?);
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// Packets that came out of each container's interface of an environment so far.
    ///
    /// # Errors
    /// When an interface is gone.
    pub fn received(&self, environment: &str) -> Result<BTreeMap<String, u64>> {
        let members = self.containers.iter().filter(|c| c.plan.environment == environment);
        members.map(|c| Ok((c.plan.name.clone(), c.received()?))).collect()
    }

    /// Pings from every container to every other of its environment, over both versions of IP.
    ///
    /// # Errors
    /// At the first ping that is not answered completely.
    pub fn ping_all(&self) -> Result<()> {
        for (from, to) in self.pairs() {
            for family in [Family::V4, Family::V6] {
                let pinged = ping::ping(&from.ns, to.address(family), &ping::Ping::default())?;
                ensure!(pinged.complete(), "{:?} to {:?}: {}", from.ns, to.ns, pinged.text);
            }
        }
        Ok(())
    }

    /// Every container with every other of its environment.
    fn pairs(&self) -> impl Iterator<Item = (&Container, &Container)> {
        let pairs = self
            .containers
            .iter()
            .flat_map(|from| self.containers.iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| {
            from.plan.environment == to.plan.environment && from.plan.name != to.plan.name
        })
    }

    /// Everything that a host dropped so far.
    ///
    /// # Errors
    /// When its daemon does not answer.
    pub fn drops(&self, host: &str) -> Result<u64> {
        self.daemon(host)?.status()?.drops_total()
    }

    /// What a host dropped so far for one cause in one environment.
    ///
    /// # Errors
    /// When its daemon does not answer.
    pub fn drops_by(&self, host: &str, environment: &str, cause: &str) -> Result<u64> {
        let drops = self.daemon(host)?.status()?.drops(Some(environment))?;
        Ok(drops.get(cause).copied().unwrap_or(0))
    }

    /// Fails when a daemon has ended or panicked.
    ///
    /// # Errors
    /// With the log of the first such daemon.
    pub fn assert_healthy(&mut self) -> Result<()> {
        for (host, daemon) in &mut self.daemons {
            daemon.assert_healthy().with_context(|| host.clone())?;
        }
        Ok(())
    }
}

fn position(plan: &Plan, host: &str) -> Result<usize> {
    let found = plan.hosts.iter().position(|other| other == host);
    found.with_context(|| format!("no host {host}"))
}

/// Waits until one container reaches another.
///
/// # Errors
/// After [`SETTLE_LIMIT`].
pub fn reach(from: &Container, to: &Container) -> Result<()> {
    let what = format!("{:?} reaches {:?}", from.ns, to.ns);
    wait_for(&what, SETTLE_LIMIT, || {
        let pinged = ping::once(&from.ns, to.address(Family::V4), ANSWER_MAX)?;
        Ok(pinged.then_some(()))
    })
}
