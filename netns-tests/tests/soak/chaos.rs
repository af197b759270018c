//! One fault after the other, in an order that a seed draws; after each everybody must be back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::load::Traffic;
use netns_tests::certificates::{Leaf, server_name};
use netns_tests::daemon::STOP_LIMIT;
use netns_tests::process::pause;
use netns_tests::rogue::dial;
use netns_tests::seeded::Seeded;
use netns_tests::site::{RELAY, reach};
use netns_tests::topology::UNDERLAY_INTERFACE;
use netns_tests::traffic::ping::once;
use netns_tests::{ACME, BETA, Context, Faults, Namespace, Relay, Result, Site, World, ensure};
use nix::sys::signal::{Signal, kill};

/// How long a fault lasts at most.
const LASTS_MAX: Duration = Duration::from_millis(2_500);
/// How long a connection may stand still after a fault. TCP's pauses double: what met a fault of five seconds
/// three times waits ten at most, and a daemon that is called for five more.
const MOVES_MAX: Duration = Duration::from_secs(30);
/// Between two faults, at most.
const CALM_MAX: Duration = Duration::from_millis(1_500);
/// Payloads that underlays of 1,280, 1,360, 1,420 bytes carry, and one that carries all.
const PAYLOADS: [usize; 4] = [1_252, 1_332, 1_392, usize::MAX];
const GUEST: &str = "10.40.0.50";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Rough,
    Narrow,
    Outage,
    Pause,
    Kill,
    KillBoth,
    Move,
    Stall,
    Stranger,
    Reload,
    Guest,
}

const KINDS: [Kind; 11] = [
    Kind::Rough,
    Kind::Narrow,
    Kind::Outage,
    Kind::Pause,
    Kind::Kill,
    Kind::KillBoth,
    Kind::Move,
    Kind::Stall,
    Kind::Stranger,
    Kind::Reload,
    Kind::Guest,
];

/// Draws and does.
pub(super) struct Chaos {
    random: Seeded,
    begun: Instant,
    /// What is still to come before everything begins anew.
    deck: Vec<Kind>,
    done: BTreeMap<Kind, u32>,
    guest: Namespace,
    /// The number of host-c's address.
    at: String,
    back_max: Duration,
    moves_max: Duration,
}

impl Chaos {
    /// Nothing has happened yet.
    ///
    /// # Errors
    /// When the guest's namespace cannot be made.
    pub(super) fn new(world: &World, site: &Site, seed: u64) -> Result<Self> {
        Ok(Self {
            random: Seeded::new(seed),
            begun: Instant::now(),
            deck: Vec::new(),
            done: BTreeMap::new(),
            guest: world.namespace("guest")?,
            at: site.topology.host("host-c")?.v4.to_string(),
            back_max: Duration::ZERO,
            moves_max: Duration::ZERO,
        })
    }

    /// How often each was done, and how long it took at most until everybody was back.
    pub(super) fn summary(&self) -> String {
        let done = self.done.iter().map(|(kind, times)| format!("{kind:?} {times}").to_lowercase());
        let all = done.collect::<Vec<_>>().join(", ");
        format!(
            "faults: {all}; back after at most {} ms, the last connection after {} ms",
            self.back_max.as_millis(),
            self.moves_max.as_millis()
        )
    }

    fn drawn(&mut self, max: Duration) -> Duration {
        let millis = usize::try_from(max.as_millis()).unwrap_or(usize::MAX);
        Duration::from_millis(self.random.below(millis) as u64)
    }

    /// Does one fault, ends it, and waits until everybody reaches everybody.
    ///
    /// # Errors
    /// When somebody does not come back.
    pub(super) fn strike(
        &mut self,
        site: &mut Site,
        relay: &Relay,
        traffic: &Traffic,
    ) -> Result<()> {
        if self.deck.is_empty() {
            self.deck = KINDS.to_vec();
        }
        let kind = self.deck.swap_remove(self.random.below(self.deck.len()));
        let lasts = self.drawn(LASTS_MAX);
        println!("{:>5} s: {kind:?} for {lasts:?}", self.begun.elapsed().as_secs());
        self.act(kind, lasts, site, relay).with_context(|| format!("{kind:?} for {lasts:?}"))?;
        relay.faults(Faults::NONE);
        relay.stall_handshakes(false);
        *self.done.entry(kind).or_default() += 1;
        let begun = Instant::now();
        let after = || format!("after {kind:?} for {lasts:?}");
        for (environment, from, to) in
            [(ACME, "a1", "b1"), (BETA, "b1", "a1"), (ACME, "c1", "b1"), (BETA, "a1", "c1")]
        {
            let (from, to) = (site.container(environment, from)?, site.container(environment, to)?);
            reach(from, to).with_context(after)?;
        }
        self.back_max = self.back_max.max(begun.elapsed());
        // A connection tries again after ever longer pauses: the next fault is not to fall into each.
        traffic.assert_moves(site, MOVES_MAX).with_context(after)?;
        self.moves_max = self.moves_max.max(begun.elapsed());
        site.assert_healthy()?;
        pause(self.drawn(CALM_MAX))
    }

    fn act(&mut self, kind: Kind, lasts: Duration, site: &mut Site, relay: &Relay) -> Result<()> {
        match kind {
            Kind::Rough => {
                relay.faults(self.rough());
                pause(lasts)
            }
            Kind::Narrow => {
                let payload_max = PAYLOADS[self.random.below(PAYLOADS.len())];
                relay.faults(Faults { payload_max, ..self.rough() });
                pause(lasts)
            }
            Kind::Outage => {
                relay.faults(Faults { drop: 1.0, ..Faults::NONE });
                pause(lasts)
            }
            Kind::Pause => {
                let host = ["host-a", "host-b", "host-c"][self.random.below(3)];
                let process = site.daemon(host)?.process();
                process.signal(Signal::SIGSTOP)?;
                let paused = pause(lasts);
                process.signal(Signal::SIGCONT)?;
                paused
            }
            Kind::Kill | Kind::KillBoth => {
                if kind == Kind::KillBoth {
                    let helper = site.daemon("host-b")?.helper()?.context("no helper")?;
                    kill(helper, Signal::SIGKILL)?;
                }
                site.daemon_mut("host-b")?.kill()?;
                pause(lasts / 4)?;
                site.start_host("host-b")
            }
            Kind::Move => self.move_on(site),
            Kind::Stall => {
                relay.stall_handshakes(true);
                site.daemon_mut("host-b")?.kill()?;
                site.start_host("host-b")?;
                pause(lasts)
            }
            Kind::Stranger => stranger(site),
            Kind::Reload => {
                let host = ["host-a", "host-b", "host-c"][self.random.below(3)];
                let weight = u16::try_from(1 + self.random.below(4))?;
                site.config(host).environment(BETA).weight = Some(weight);
                site.reload(host)
            }
            Kind::Guest => self.receive_guest(site, lasts / 4),
        }
    }

    /// Some of everything that a network does, but no more than a connection bears.
    fn rough(&mut self) -> Faults {
        let mut share = |max: f64| {
            let drawn = self.random.below(1_000);
            max * f64::from(u32::try_from(drawn).unwrap_or(0)) / 1_000.0
        };
        let (drop, duplicate, reorder) = (share(0.05), share(0.3), share(0.3));
        let (flip, truncate) = (share(0.02), share(0.02));
        let (late_max, delay) = (self.drawn(Duration::from_millis(20)), Duration::from_millis(20));
        let delay = self.drawn(delay);
        let late_max = late_max.max(Duration::from_millis(1));
        Faults { drop, duplicate, reorder, flip, truncate, late_max, delay, ..Faults::NONE }
    }

    /// host-c has another address from now on.
    fn move_on(&mut self, site: &Site) -> Result<()> {
        let ns = &site.topology.host("host-c")?.ns;
        let new = format!("192.0.2.{}", 110 + self.random.below(100));
        if new == self.at {
            return Ok(());
        }
        ns.sysctl(&format!("net/ipv4/conf/{UNDERLAY_INTERFACE}/promote_secondaries"), "1")?;
        ns.ip(&format!("address add {new}/24 dev {UNDERLAY_INTERFACE}"))?;
        ns.ip(&format!("address del {}/24 dev {UNDERLAY_INTERFACE}", self.at))?;
        self.at = new;
        Ok(())
    }

    /// A container comes and goes by the API.
    fn receive_guest(&mut self, site: &Site, stays: Duration) -> Result<()> {
        let daemon = site.daemon("host-a")?;
        let path = self.guest.path().display().to_string();
        let order = format!("attach --env {ACME} --name guest --netns {path} --address {GUEST}");
        daemon.weft_net(&order)?.ok()?;
        let neighbour = site.container(ACME, "a1")?;
        ensure!(once(&neighbour.ns, GUEST.parse()?, STOP_LIMIT)?, "the guest does not answer");
        pause(stays)?;
        daemon.weft_net(&format!("detach --env {ACME} --name guest"))?.ok()?;
        ensure!(self.guest.interfaces()? == ["lo"], "the guest has left");
        Ok(())
    }
}

/// Somebody with a certificate of another environment is refused.
fn stranger(site: &Site) -> Result<()> {
    let name = server_name(&site.pki[ACME])?;
    let wrong = Leaf::proper(ACME, "host-b").signed_by(&site.pki[BETA])?;
    let ns = &site.topology.host(RELAY)?.ns;
    let verdict = dial(ns, site.endpoint("host-a")?, &name, Some(&wrong))?;
    ensure!(!verdict.accepted(), "a stranger was accepted");
    Ok(())
}
