//! Hosts with many of something: certificates, configurations, daemons.
//!
//! ```text
//!  ┌ host-1 ───────────────────┐ bridge ┌ host-2 ──────────────────┐   … host-8
//!  │ weftd: e0, e1, … e999     ├────────┤ weftd: e0, e1, … e999    │
//!  └──┬──────────┬─────────────┘        └──┬───────────────────────┘
//!  ┌──┴──────┐ ┌─┴───────────────────┐  ┌──┴──────┐
//!  │ end 1   │ │ crowd 1             │  │ end 2   │
//!  │ e0      │ │ further attachments │  │ e0      │
//!  └─────────┘ └─────────────────────┘  └─────────┘
//! ```
//! What is measured runs between the ends, in environment `e0`; everything else only exists.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::config::{Attachment, Config, Environment, Peer};
use netns_tests::plan::{PORT, WORKERS};
use netns_tests::process::{pause, wait_for};
use netns_tests::topology::{Joined, Topology, Underlay};
use netns_tests::{Daemon, Namespace, World};
use nix::sys::signal::Signal;

use crate::certificates::Authorities;

/// Attachments of one environment, below the daemon's limit of 256.
const ATTACHMENTS_EACH: usize = 250;
/// Interfaces in one namespace that only exist.
const CROWD: usize = 250;
/// What a start may take for each thing that there is, and at least.
const START_EACH: Duration = Duration::from_millis(100);
const START_LIMIT: Duration = Duration::from_secs(30);
/// The same for the end of a daemon.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// What the daemon logs for every session and every interface; `weft net status` confirms.
const SESSION_UP: &str = "session carries data";
const INTERFACE_UP: &str = "interface is there";
/// How often logs are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) hosts: usize,
    pub(crate) environments: usize,
    /// Addresses in `e0` that live at host-2 besides its own.
    pub(crate) routes: usize,
    /// On host-1.
    pub(crate) attachments: usize,
    /// Of each daemon.
    pub(crate) workers: u8,
}

impl Shape {
    pub(crate) const SMALLEST: Self =
        Self { hosts: 2, environments: 1, routes: 0, attachments: 1, workers: WORKERS };

    /// Environments that exist, as attachments need some as well.
    fn environments(self) -> usize {
        self.environments.max(self.attachments.div_ceil(ATTACHMENTS_EACH))
    }

    /// Sessions of one daemon.
    pub(crate) fn sessions(self) -> usize {
        self.environments() * (self.hosts - 1)
    }
}

/// A place with its daemons. They end before the world does.
pub(crate) struct Ground {
    pub(crate) shape: Shape,
    pub(crate) daemons: Vec<Daemon>,
    ends: Vec<Namespace>,
    topology: Topology,
    files: Vec<(PathBuf, PathBuf, PathBuf)>,
    world: World,
}

impl Ground {
    /// Makes namespaces, certificates and configurations; starts nothing.
    pub(crate) fn prepare(root: &World, shape: Shape) -> Result<Self> {
        let world = root.beside()?;
        let names: Vec<_> = (1..=shape.hosts).map(|n| format!("host-{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let underlay = Underlay { joined: Joined::Bridge, ..Underlay::default() };
        let topology = Topology::new(&world, underlay, &names)?;
        let ends = (1..=shape.hosts).map(|n| world.namespace(&format!("end-{n}")));
        let ends = ends.collect::<Result<Vec<_>>>()?;
        let crowds = (0..shape.attachments.div_ceil(CROWD))
            .map(|n| world.namespace(&format!("crowd-{n}")))
            .collect::<Result<Vec<_>>>()?;
        let authorities = Authorities::make(world.dir(), shape.environments(), &names)?;
        let mut files = Vec::new();
        for (host, name) in names.iter().enumerate() {
            let environments = (0..shape.environments())
                .map(|environment| {
                    let (ca, cert, key) = authorities.files(environment, name);
                    Environment {
                        id: format!("e{environment}"),
                        subnet: Some("10.40.0.0/16".into()),
                        ca,
                        cert,
                        key,
                        attachments: attachments(shape, host, environment, &ends, &crowds),
                        peers: peers(shape, host, environment, &topology),
                        ..Environment::default()
                    }
                })
                .collect();
            let file = |extension: &str| world.dir().join(format!("{name}.{extension}"));
            let config = Config {
                host: (*name).to_owned(),
                listen: format!("{}:{PORT}", topology.hosts[host].v4),
                api: file("sock"),
                workers: Some(shape.workers),
                environments,
                ..Config::default()
            };
            std::fs::write(file("toml"), config.to_toml()?)?;
            files.push((file("toml"), file("sock"), file("log")));
        }
        Ok(Self { shape, daemons: Vec::new(), ends, topology, files, world })
    }

    /// Starts all daemons and gives the time until everything is up at all of them.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        for (host, (config, socket, log)) in self.topology.hosts.iter().zip(&self.files) {
            self.daemons.push(Daemon::spawn(&host.ns, config, socket, log)?);
        }
        self.wait_until_up(begun)
    }

    fn wait_until_up(&mut self, begun: Instant) -> Result<Duration> {
        let things = u32::try_from(self.shape.sessions() + self.shape.attachments)?;
        let limit = START_LIMIT + START_EACH * things;
        for host in 0..self.shape.hosts {
            let interfaces = if host == 0 { self.shape.attachments } else { 1 };
            let sessions = self.shape.sessions();
            wait_for("all sessions and interfaces", limit, || {
                if let Some(status) = self.daemons[host].ended()? {
                    anyhow::bail!("weftd ended: {status}\n{}", self.daemons[host].log());
                }
                let up = Up::read(&self.files[host].2)?;
                if up.interfaces.len() >= interfaces && up.sessions.len() >= sessions {
                    return Ok(Some(()));
                }
                pause(LOOK)?;
                ensure!(
                    begun.elapsed() < limit,
                    "{} of {sessions} sessions, {} of {interfaces} interfaces",
                    up.sessions.len(),
                    up.interfaces.len()
                );
                Ok(None)
            })?;
        }
        let took = begun.elapsed();
        self.confirm()?;
        Ok(took)
    }

    /// What the log said is what the daemon says.
    fn confirm(&self) -> Result<()> {
        let peer = if self.shape.hosts > 1 { "host-2" } else { return Ok(()) };
        let last = format!("e{}", self.shape.environments() - 1);
        let status = self.daemons[0].status()?;
        ensure!(status.established(&last, peer)?, "{last} has no session with {peer}");
        Ok(())
    }

    /// Ends host-1's daemon, which leaves its interfaces, and gives the time that it took.
    pub(crate) fn stop(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.daemons[0].stop(Signal::SIGTERM, STOP_LIMIT)?;
        Ok(begun.elapsed())
    }

    /// Starts host-1's daemon again and gives the time until everything is up.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let (config, socket, log) = &mut self.files[0];
        log.set_extension("again.log");
        self.daemons[0] = Daemon::spawn(&self.topology.hosts[0].ns, config, socket, log)?;
        self.wait_until_up(begun)
    }

    /// Ends all daemons, and gives the time until nothing was left of host-1's.
    pub(crate) fn remove(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let limit = STOP_LIMIT + START_EACH * u32::try_from(self.shape.attachments)?;
        self.daemons[0].stop(Signal::SIGINT, STOP_LIMIT)?;
        wait_for("the end of all interfaces", limit, || {
            pause(LOOK)?;
            Ok(self.daemons[0].helper()?.is_none().then_some(()))
        })?;
        let took = begun.elapsed();
        self.daemons.clear();
        Ok(took)
    }

    /// The end at a host, and its address.
    pub(crate) fn end(&self, host: usize) -> (&Namespace, IpAddr) {
        (&self.ends[host], address(host).into())
    }

    /// The end of `log` of every daemon, for a failure.
    pub(crate) fn show_logs(&self) {
        self.world.show_logs();
    }
}

/// What a daemon said is up.
struct Up {
    sessions: HashSet<String>,
    interfaces: HashSet<String>,
}

impl Up {
    fn read(log: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
        let of = |message: &str| {
            let said = text.lines().filter_map(|line| Some(line.split_once(message)?.1.to_owned()));
            said.collect()
        };
        Ok(Self { sessions: of(SESSION_UP), interfaces: of(INTERFACE_UP) })
    }
}

/// The address of the end at a host.
fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a28_0002 + u32::try_from(host).unwrap_or(0))
}

/// Another address in 10.40.`first`.0 and behind; the last byte is never 0 or 255.
fn further(first: u8, number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).unwrap_or(0);
    Ipv4Addr::from(0x0a28_0000 + ((u32::from(first) + number / 200) << 8) + number % 200 + 1)
}

fn attachments(
    shape: Shape,
    host: usize,
    environment: usize,
    ends: &[Namespace],
    crowds: &[Namespace],
) -> Vec<Attachment> {
    let end = (environment == 0).then(|| Attachment {
        name: format!("end-{}", host + 1),
        netns: ends[host].path(),
        address: Some(address(host).to_string()),
        ..Attachment::default()
    });
    let of_here = environment * ATTACHMENTS_EACH..(environment + 1) * ATTACHMENTS_EACH;
    let many = if host == 0 { shape.attachments } else { 0 };
    // The end is the first of them.
    let crowd = (1..many).filter(|n| of_here.contains(n)).map(|n| Attachment {
        name: format!("a{n}"),
        netns: crowds[n / CROWD].path(),
        interface: Some(format!("w{n}")),
        address: Some(further(16, n).to_string()),
        ..Attachment::default()
    });
    end.into_iter().chain(crowd).collect()
}

fn peers(shape: Shape, host: usize, environment: usize, topology: &Topology) -> Vec<Peer> {
    let others = (0..shape.hosts).filter(|other| *other != host);
    others
        .map(|other| {
            let mut addresses = Vec::new();
            if environment == 0 {
                addresses.push(address(other).to_string());
            }
            if environment == 0 && other == 1 {
                addresses.extend((0..shape.routes).map(|n| further(128, n).to_string()));
            }
            Peer {
                host: topology.hosts[other].name.clone(),
                endpoint: format!("{}:{PORT}", topology.hosts[other].v4),
                alternative_endpoints: Vec::new(),
                addresses,
                keepalive_seconds: None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_meet() {
        let ends = (0..8).map(address);
        let crowd = (1..10_000).map(|n| further(16, n));
        let routes = (0..10_000).map(|n| further(128, n));
        let all: Vec<_> = ends.chain(crowd).chain(routes).collect();
        let different: HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert!(all.iter().all(|a| a.octets()[..2] == [10, 40]));
    }

    #[test]
    fn attachments_bring_their_environments() {
        let shape = Shape { attachments: 10_000, ..Shape::SMALLEST };
        assert_eq!((shape.environments(), shape.sessions()), (40, 40));
        assert_eq!(Shape { hosts: 8, ..Shape::SMALLEST }.sessions(), 7);
    }
}
