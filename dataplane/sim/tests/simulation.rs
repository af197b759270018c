//! Thousands of seeded worlds. `WEFT_SIM_SEED=n` runs that one alone, `WEFT_SIM_SEEDS=n` so many.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use weft_sim::world::{Report, World};

const SEEDS: u64 = 2000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn run(seed: u64) -> Result<Report, String> {
    let run = || World::new(seed).run();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("it panicked".into()))
}

#[test]
fn every_world_obeys_the_model() {
    if let Some(seed) = from_environment("WEFT_SIM_SEED") {
        println!("seed {seed}: {:?}", run(seed));
        World::new(seed).run().unwrap();
        return;
    }
    let seeds = from_environment("WEFT_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals: Vec<(Report, Vec<String>)> = std::thread::scope(|scope| {
        let work = || {
            let (mut total, mut failures) = (Report::default(), Vec::new());
            while failures.len() < 3 {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    break;
                }
                match run(seed) {
                    Ok(report) => {
                        total.sent += report.sent;
                        total.delivered += report.delivered;
                        total.handshakes += report.handshakes;
                    }
                    Err(error) => failures.push(format!("WEFT_SIM_SEED={seed}: {error}")),
                }
            }
            (total, failures)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let failures: Vec<_> = totals.iter().flat_map(|(_, f)| f.clone()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let sum = |of: fn(&Report) -> usize| totals.iter().map(|(r, _)| of(r)).sum::<usize>();
    let (sent, delivered) = (sum(|r| r.sent), sum(|r| r.delivered));
    println!(
        "{seeds} seeds: {sent} packets, {delivered} delivered, {} handshakes",
        sum(|r| r.handshakes)
    );
    assert!(delivered > sent / 2, "a simulation that delivers little proves little");
}
