//! An environment's authority gives way to its next generation while its containers talk.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns_tests::clock::Clock;
use netns_tests::fault::row;
use netns_tests::process::{PATIENCE, pause, wait_for};
use netns_tests::traffic::datagrams::{Arrived, Flow, Numbers, send_next};
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::{Load, ManagedSite, Namespace, Result, World, ensure, scenario};

/// Life of a host's certificate, seconds: the shortest that there is.
const LEAF_SECONDS: i64 = 3_600;
/// A next generation is trusted for so long before it issues, seconds.
const PREPARE_SECONDS: i64 = 61;
/// Certificates are renewed at half of their lives, 55 % at the latest.
const RENEWAL_SECONDS: i64 = LEAF_SECONDS * 6 / 10;
/// So long after its last certificate a generation is forgotten, seconds.
const RETIRE_SECONDS: i64 = LEAF_SECONDS + 601;
/// What is over is looked for so often, seconds.
const TIDY_SECONDS: i64 = 30;
/// A host that was just given a certificate asks for no other for a minute; and a control plane forgets nothing by a wall
/// clock that is an hour ahead of what has gone by, seconds.
const PAUSE_SECONDS: i64 = 450;
/// Time goes by in such steps, seconds: half as long as a key is used.
const STEP_SECONDS: usize = 60;
/// What is sent arrives between two of them.
const STEP_PAUSE: Duration = Duration::from_millis(200);
/// Sessions of an authority that is distrusted end within this time on a host that is told.
const DISTRUSTED_MAX: Duration = Duration::from_secs(30);

const HOSTS: [&str; 2] = ["host-a", "host-b"];

/// A shop of two containers on two hosts, all by one clock.
struct Shop {
    site: ManagedSite,
    clock: Clock,
    /// What its clocks are ahead: wall, monotonic.
    ahead: (i64, i64),
    web: (Namespace, IpAddr),
    db: (Namespace, IpAddr),
    environment: String,
}

impl Shop {
    fn open(world: &World) -> Result<Self> {
        let clock = Clock::new(world.dir())?;
        let mut site = ManagedSite::start_with(world, &HOSTS, clock.variables())?;
        let environment = site.environment_with("shop", LEAF_SECONDS)?;
        for host in HOSTS {
            site.start_host(host)?;
            site.connected(host)?;
            site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
        }
        let (a, b) = (world.namespace("a")?, world.namespace("b")?);
        let web = site.attached("host-a", &environment, "web", &a)?;
        let db = site.attached("host-b", &environment, "db", &b)?;
        site.login("owner@acme.example")?;
        let shop = Self { site, clock, ahead: (0, 0), web: (a, web), db: (b, db), environment };
        shop.waits_for(&[(1, "current")])?;
        Ok(shop)
    }

    /// Generations of its authority and what they are for, in order.
    fn generations(&self) -> Result<Vec<(u64, String)>> {
        let shown = self.site.json("env show acme/shop")?;
        let all = shown["authorities"].as_array().cloned().unwrap_or_default();
        let mut all: Vec<_> = all
            .iter()
            .map(|of| {
                let state = of["state"].as_str().unwrap_or_default().to_owned();
                (of["generation"].as_u64().unwrap_or_default(), state)
            })
            .collect();
        all.sort();
        Ok(all)
    }

    fn waits_for(&self, wanted: &[(u64, &str)]) -> Result<()> {
        wait_for(&format!("generations {wanted:?}"), 2 * PATIENCE, || {
            let all = self.generations()?;
            let all: Vec<_> = all.iter().map(|(n, state)| (*n, state.as_str())).collect();
            Ok((all == wanted).then_some(()))
        })
    }

    /// Time goes by for everybody, in steps: keys change meanwhile, and what is on its way is not to be older than they.
    fn pass(&mut self, wall: i64, monotonic: i64) -> Result<()> {
        let (before, after) = (self.ahead.1, self.ahead.1 + monotonic);
        self.ahead = (self.ahead.0 + wall, after);
        for ahead in (before..after).step_by(STEP_SECONDS).skip(1).chain([after]) {
            self.clock.pass(ahead)?;
            pause(STEP_PAUSE)?;
        }
        self.clock.set_wall(self.ahead.0)?;
        self.site.login("owner@acme.example")
    }

    /// When the certificate ends that a host has.
    fn ends(&mut self, host: &str) -> Result<String> {
        let environment = self.environment.clone();
        let status = self.site.daemon(host)?.status()?;
        Ok(status.environment(&environment)?["certificate_expires_ms"].to_string())
    }

    /// How long a host has had its session with another; `None` while there is none.
    fn session_age(&mut self, host: &str, other: &str) -> Result<Option<Duration>> {
        let environment = self.environment.clone();
        let status = self.site.daemon(host)?.status()?;
        let age = &status.peer(&environment, other)?["session_age_ms"];
        Ok(age.as_u64().map(Duration::from_millis))
    }

    /// Does something after which every host gets another certificate.
    fn renewed(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let before = [self.ends(HOSTS[0])?, self.ends(HOSTS[1])?];
        act(self)?;
        for (host, before) in HOSTS.iter().zip(before) {
            wait_for(&format!("another certificate of {host}"), 2 * PATIENCE, || {
                Ok((self.ends(host)? != before).then_some(()))
            })?;
        }
        Ok(())
    }
}

/// Both containers send to each other until the end of `work`: numbered datagrams one way, a connection the other.
fn under_load<T>(
    web: &(Namespace, IpAddr),
    db: &(Namespace, IpAddr),
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Arrived, Duration)> {
    const RATE: u64 = 1_000;
    let heartbeat = Heartbeat::start(&db.0, &web.0, (web.1, 0).into())?;
    let is_over = AtomicBool::new(false);
    let (done, arrived) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| -> Result<Arrived> {
            let (mut numbers, mut all) = (Numbers::default(), Arrived::default());
            let flow = Flow { rate: Some(RATE), packets: RATE, ..Flow::between(web.1, db.1) };
            while !is_over.load(Ordering::Relaxed) {
                let some = send_next(&web.0, &db.0, &flow, &mut numbers)?;
                all.sent += some.sent;
                all.received += some.received + some.earlier;
                all.duplicates += some.duplicates;
                all.damaged += some.damaged;
            }
            Ok(all)
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let arrived = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.and_then(|done| Ok((done, arrived?)))
    })?;
    ensure!(heartbeat.is_beating(), "the connection failed");
    let beats = heartbeat.stop()?;
    Ok((done, arrived, beats.longest_gap))
}

#[test]
fn an_authority_gives_way_and_no_packet_is_lost() {
    scenario(Load::Light, |world| {
        let mut shop = Shop::open(world)?;
        let (web, db) = (shop.web.clone(), shop.db.clone());
        let ((), arrived, gap) = under_load(&web, &db, || {
            shop.site.weft("env rotate-authority acme/shop")?.ok()?;
            shop.waits_for(&[(1, "current"), (2, "next")])?;
            pause(Duration::from_secs(2))?;
            shop.renewed(|shop| {
                shop.pass(PREPARE_SECONDS, TIDY_SECONDS)?;
                shop.waits_for(&[(1, "previous"), (2, "current")])
            })?;
            let mut passed = 0;
            while passed < RETIRE_SECONDS {
                shop.renewed(|shop| shop.pass(RENEWAL_SECONDS, PAUSE_SECONDS))?;
                passed += RENEWAL_SECONDS;
            }
            shop.waits_for(&[(2, "current")])?;
            // Somebody new has nothing of the first generation, and talks to those who had.
            pause(Duration::from_secs(2))
        })?;
        ensure!(arrived.complete(), "{arrived:?}");
        let all = arrived.sent;
        row("rotation of an authority", "no packet lost", format!("0 of {all}; gap {gap:?}"));
        for host in HOSTS {
            shop.site.daemon(host)?.assert_healthy()?;
        }
        Ok(())
    });
}

#[test]
fn of_a_stolen_authority_no_session_is_left_and_connections_go_on() {
    scenario(Load::Light, |world| {
        let mut shop = Shop::open(world)?;
        let (web, db) = (shop.web.clone(), shop.db.clone());
        let (took, _, gap) = under_load(&web, &db, || {
            let begun = Instant::now();
            shop.renewed(|shop| {
                shop.site
                    .weft("env rotate-authority acme/shop --emergency --confirm shop")?
                    .ok()?;
                shop.waits_for(&[(2, "current")])
            })?;
            for (host, other) in [(HOSTS[0], HOSTS[1]), (HOSTS[1], HOSTS[0])] {
                wait_for(&format!("a new session of {host}"), DISTRUSTED_MAX, || {
                    let age = shop.session_age(host, other)?;
                    Ok(age.is_some_and(|age| age < begun.elapsed()).then_some(()))
                })?;
            }
            Ok(begun.elapsed())
        })?;
        ensure!(took < DISTRUSTED_MAX, "{took:?}");
        row("a stolen authority", "replaced in 30 s", format!("{took:?}; gap {gap:?}"));
        Ok(())
    });
}
