//! Everything at once and for long: three hosts, two tenants, traffic without pause, and faults that a
//! seed draws.
//!
//! ```text
//!  host-a ──── relay: loss, delay, disorder, damage, outages ──── host-b   killed again and again
//!    │          never killed: its memory is watched                 │
//!    └──────────────────── host-c: moves ──────────────────────────┘
//!
//!  acme  a1 ⇄ b1 ⇄ c1   a2 → b2        beta  a1 ⇄ b1 ⇄ c1   a2, b2: nobody talks to them
//! ```

#[path = "soak/chaos.rs"]
mod chaos;
#[path = "soak/load.rs"]
mod load;
#[path = "soak/memory.rs"]
mod memory;

use std::time::{Duration, Instant};

use netns_tests::config::KeyLimits;
use netns_tests::fault::{extent, row};
use netns_tests::plan::PORT;
use netns_tests::seeded::seed;
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::{ACME, BETA, Load, Plan, Result, Site, World, ensure, scenario};

use self::chaos::Chaos;
use self::load::Traffic;
use self::memory::Watch;

const MINUTE: Duration = Duration::from_secs(60);
/// Keys and sessions change often.
const KEYS: KeyLimits = KeyLimits {
    epoch_datagrams_max: Some(5_000),
    epoch_seconds_max: Some(10),
    rehandshake_seconds: Some(30),
};
/// What may stay of one run, per hour: 1 MiB.
const SLOPE_MAX: f64 = 1_048_576.0;
/// A run of seconds shows no slope; what it may have grown by, bytes.
const GROWTH_MAX: u64 = 16 << 20;
/// Bytes and datagrams that a second moves at least; anything less was no load.
const LOAD_MIN: u64 = 20_000;

/// How soon the host that moves notices that a peer has forgotten it, and calls: nobody could call it.
const KEEPALIVE_SECONDS: u32 = 2;

/// Three hosts; the third is reached directly and sends from whatever address it has.
fn site(world: &World) -> Result<Site> {
    let mut plan = Plan::pair().two_each().container(ACME, "c1", "host-c", 6).keys(KEYS).relayed();
    plan.hosts.push("host-c".into());
    let mut site = Site::prepare(world, &plan.with_beta())?;
    let direct = ["host-a", "host-b", "host-c"].map(|host| site.endpoint(host));
    let [a, b, c] = direct;
    let (a, b, c) = (a?.to_string(), b?.to_string(), c?.to_string());
    for environment in [ACME, BETA] {
        for (host, peer, endpoint) in [
            ("host-a", "host-c", &c),
            ("host-b", "host-c", &c),
            ("host-c", "host-a", &a),
            ("host-c", "host-b", &b),
        ] {
            let peers = &mut site.config(host).environment(environment).peers;
            for known in peers.iter_mut().filter(|known| known.host == peer) {
                known.endpoint.clone_from(endpoint);
            }
        }
    }
    let moving = site.config("host-c");
    moving.listen = format!("0.0.0.0:{PORT}");
    for peer in moving.environments.iter_mut().flat_map(|environment| &mut environment.peers) {
        peer.keepalive_seconds = Some(KEEPALIVE_SECONDS);
    }
    Ok(site)
}

#[test]
fn whatever_happens_connections_survive_and_nothing_leaks() {
    scenario(Load::Heavy, |world| {
        let time = extent(MINUTE / 3, MINUTE * 72);
        let mut site = site(world)?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let traffic = Traffic::start(&site)?;
        std::thread::sleep(Duration::from_secs(2));
        let quiet = [site.container(BETA, "a2")?.clone(), site.container(BETA, "b2")?.clone()];
        let untouched = [quiet[0].received()?, quiet[1].received()?];
        let mut watch = Watch::start(&site, &["host-a", "host-c"])?;
        let mut chaos = Chaos::new(world, &site, seed())?;
        let end = Instant::now() + time;
        // When traffic has failed, its end says why.
        while Instant::now() < end && traffic.is_well() {
            chaos.strike(&mut site, &relay, &traffic)?;
            watch.look()?;
        }
        let carried = traffic.stop()?;
        let [left, right] = [quiet[0].received()?, quiet[1].received()?];
        ensure!([left, right] == untouched, "a silent tenant heard something");
        site.settle()?;
        site.assert_healthy()?;
        let seconds = time.as_secs();
        ensure!(carried.bytes >= LOAD_MIN * seconds, "{carried:?} in {seconds} s");
        ensure!(carried.beats >= 100 * seconds, "{carried:?} in {seconds} s");
        let memory = watch.finish(SETTLE_LIMIT)?;
        println!("{memory:?}");
        ensure!(memory.growth_max < extent(GROWTH_MAX, u64::MAX), "{memory:?}");
        ensure!(memory.slope_max < extent(f64::MAX, SLOPE_MAX), "{memory:?}");
        let duration = extent(format!("{seconds} s"), format!("{} min", seconds / 60));
        let rise = memory.slope_max / SLOPE_MAX;
        let memory = extent("too short to tell".into(), format!("{rise:+.2} MiB per hour"));
        let figure = format!(
            "{duration}: {carried}; {}; memory {memory}; descriptors as at the start",
            chaos.summary(),
        );
        let must = "connections survive, each packet at most once, no other tenant's, memory < 1 MiB per hour";
        row("soak: random faults from a seed", must, figure);
        Ok(())
    });
}
