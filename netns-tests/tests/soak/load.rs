//! What the containers do all the time: connections that live as long as the run, transfers with hashes,
//! numbered datagrams.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use netns_tests::process::wait_for;
use netns_tests::site::Container;
use netns_tests::traffic::datagrams::{Flow, Numbers, send_next};
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, BETA, Context, Family, Result, Site, ensure};

/// Bytes of one transfer.
const BYTES: u64 = 512 << 10;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(200);
/// Datagrams of one flow, and how many a second.
const PACKETS: u64 = 1_000;
const RATE: u64 = 500;
/// Both tenants use the same ports; what crosses is seen by its length.
const PORTS: (u16, u16) = (7_001, 7_002);

/// Who keeps a connection for the whole time.
const BEATS: [(&str, &str, &str); 6] = [
    (ACME, "a1", "b1"),
    (ACME, "b1", "a1"),
    (ACME, "a1", "c1"),
    (BETA, "a1", "b1"),
    (BETA, "c1", "a1"),
    (BETA, "b1", "c1"),
];
/// Who transfers again and again, over which version of IP.
const TRANSFERS: [(&str, &str, &str, Family); 4] = [
    (ACME, "a1", "b1", Family::V4),
    (ACME, "c1", "b1", Family::V6),
    (BETA, "b1", "a1", Family::V6),
    (BETA, "a1", "c1", Family::V4),
];
/// Who sends datagrams, of which length.
const FLOWS: [(&str, &str, &str, usize); 2] = [(ACME, "a1", "b1", 200), (BETA, "a1", "b1", 333)];
/// And a pair whose twins of the other tenant only listen.
const PAIR: (&str, &str, &str, usize) = (ACME, "a2", "b2", 900);

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    transfers: AtomicU64,
    /// Connections that were not made, and so broke nothing.
    unmade: AtomicU64,
    bytes: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Traffic that runs.
#[derive(Debug)]
pub(super) struct Traffic {
    counts: Arc<Counts>,
    beats: Vec<Heartbeat>,
    loops: Vec<JoinHandle<Result<()>>>,
}

/// What was carried.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried {
    /// Numbers over the connections that lived all the time.
    pub beats: u64,
    /// How many of these connections there were.
    pub connections: usize,
    /// The longest that one of them stood still.
    pub longest_gap: Duration,
    /// Transfers with equal hashes.
    pub transfers: u64,
    /// Connections for transfers that could not be made.
    pub unmade: u64,
    /// Bytes of transfers.
    pub bytes: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received, once each.
    pub received: u64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { beats, connections, transfers, received, sent, .. } = self;
        write!(
            f,
            "{connections} connections all the time ({beats} messages, longest pause {} ms), {transfers} \
             transfers, {received} of {sent} datagrams, each once",
            self.longest_gap.as_millis()
        )
    }
}

impl Traffic {
    /// Begins everything.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let beats = BEATS.iter().map(|(environment, from, to)| {
            let (from, to) = (site.container(environment, from)?, site.container(environment, to)?);
            Heartbeat::start(&from.ns, &to.ns, (to.address(Family::V4), 0).into())
        });
        let beats = beats.collect::<Result<_>>()?;
        let mut loops = Vec::new();
        for (environment, from, to, family) in TRANSFERS {
            let from = site.container(environment, from)?.clone();
            let to = site.container(environment, to)?.clone();
            let counts = Arc::clone(&counts);
            loops.push(std::thread::spawn(move || transfers(&from, &to, family, &counts)));
        }
        for (environment, from, to, payload) in FLOWS.into_iter().chain([PAIR]) {
            let from = site.container(environment, from)?.clone();
            let to = site.container(environment, to)?.clone();
            let counts = Arc::clone(&counts);
            loops.push(std::thread::spawn(move || flows(&from, &to, payload, &counts)));
        }
        Ok(Self { counts, beats, loops })
    }

    /// Whether all of it goes on: only a failure ends anything.
    pub(super) fn is_well(&self) -> bool {
        self.loops.iter().all(|thread| !thread.is_finished())
            && self.beats.iter().all(Heartbeat::is_beating)
    }

    /// Waits until every connection moves again.
    ///
    /// # Errors
    /// When one does not; the message says what its two ends think of it.
    pub(super) fn assert_moves(&self, site: &Site, limit: Duration) -> Result<()> {
        let before: Vec<u64> = self.beats.iter().map(Heartbeat::count).collect();
        for ((beat, before), (environment, from, to)) in self.beats.iter().zip(before).zip(BEATS) {
            let name = format!("{environment} {from} to {to} goes on");
            let moved = wait_for(&name, limit, || Ok((beat.count() > before).then_some(())));
            moved.with_context(|| ends(site, environment, [from, to]))?;
        }
        Ok(())
    }

    /// Ends it and says what was carried.
    ///
    /// # Errors
    /// When anything was lost that may not be, repeated, or changed.
    pub(super) fn stop(self) -> Result<Carried> {
        self.counts.stop.store(true, Ordering::Release);
        let mut carried = Carried { connections: self.beats.len(), ..Carried::default() };
        for (beat, (environment, from, to)) in self.beats.into_iter().zip(BEATS) {
            let beats = beat.stop().with_context(|| format!("{environment} {from} to {to}"))?;
            println!("{environment} {from} to {to}: longest pause {:?}", beats.longest_gap);
            carried.beats += beats.count;
            carried.longest_gap = carried.longest_gap.max(beats.longest_gap);
        }
        for thread in self.loops {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        carried.transfers = read(&self.counts.transfers);
        carried.unmade = read(&self.counts.unmade);
        carried.bytes = read(&self.counts.bytes);
        carried.sent = read(&self.counts.sent);
        carried.received = read(&self.counts.received);
        Ok(carried)
    }
}

fn ends(site: &Site, environment: &str, names: [&str; 2]) -> String {
    let mut text = String::new();
    for container in names.iter().filter_map(|name| site.container(environment, name).ok()) {
        let sockets = container.ns.run_ok("ss -tinoem", Duration::from_secs(5));
        text += &format!("{:?}: {sockets:?}\n", container.ns);
        let status = site.daemon(&container.plan.host).and_then(netns_tests::Daemon::status);
        let status = status.and_then(|status| Ok(status.environment(environment)?.to_string()));
        text += &format!("{}: {status:?}\n", container.plan.host);
    }
    text
}

fn transfers(from: &Container, to: &Container, family: Family, counts: &Counts) -> Result<()> {
    let mut seed = 0;
    while !counts.stop.load(Ordering::Acquire) {
        seed += 1;
        match transfer(&from.ns, &to.ns, (to.address(family), 0).into(), BYTES, seed) {
            Ok(done) => {
                done.assert_equal(BYTES)?;
                counts.transfers.fetch_add(1, Ordering::Relaxed);
                counts.bytes.fetch_add(BYTES, Ordering::Relaxed);
            }
            Err(e) if e.to_string().starts_with("connect to") => {
                println!("{:?} to {:?}: {e:#}", from.ns, to.ns);
                counts.unmade.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) => return Err(e.context(format!("{:?} to {:?}", from.ns, to.ns))),
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn flows(from: &Container, to: &Container, payload: usize, counts: &Counts) -> Result<()> {
    let end = |address: IpAddr, port| SocketAddr::new(address, port);
    let mut odd = false;
    let mut numbers = Numbers::default();
    while !counts.stop.load(Ordering::Acquire) {
        odd = !odd;
        let family = if odd { Family::V4 } else { Family::V6 };
        let flow = Flow {
            from: end(from.address(family), PORTS.0),
            to: end(to.address(family), PORTS.1),
            packets: PACKETS,
            payload,
            rate: Some(RATE),
            segments: 1,
        };
        let arrived = send_next(&from.ns, &to.ns, &flow, &mut numbers)?;
        ensure!(arrived.duplicates == 0 && arrived.damaged == 0, "{:?}: {arrived:?}", to.ns);
        counts.sent.fetch_add(arrived.sent, Ordering::Relaxed);
        counts.received.fetch_add(arrived.received + arrived.earlier, Ordering::Relaxed);
    }
    Ok(())
}
