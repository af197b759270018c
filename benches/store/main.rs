//! `bench-store`: durable attachment transactions per second through the store, with several callers, beside
//! SQLite itself with the same settings and one transaction after the other. Runs alternate, so that a disk that
//! gets slower or faster meanwhile does not matter; figures are medians.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::{runtime::Runtime, task::JoinSet};
use weft_benches::{
    report::{Figure, Target, table},
    stats::Summary,
};
use weft_store::{Key, Sqlite, SqliteOptions, Store, Transaction};

/// Callers at once.
const CALLERS: [u64; 3] = [1, 16, 64];
/// Bytes of each of the four values.
const VALUE_LEN: usize = 400;
/// What is to be reached on a usual disk, transactions per second.
const RATE: Target = Target::AtLeast(500.0);
/// Environments that attachments belong to.
const ENVIRONMENTS: u64 = 100;

/// Measures the store.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds; in each everything is measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// On which disk: a directory for files that are removed again
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

/// The keys of the `n`-th attachment: its environment, which must be there; what must not.
fn keys(n: u64) -> [String; 5] {
    let environment = n % ENVIRONMENTS;
    [
        format!("environment/e{environment}"),
        format!("attachment/e{environment}/web-{n}"),
        format!("address/e{environment}/10.40.{}.{}", n / 256, n % 256),
        format!("host/h{}/attachment/{n}", n % 1_000),
        format!("service/e{environment}/web/instance/{n}"),
    ]
}

fn main() -> Result<()> {
    let options = Options::parse();
    let seconds = Duration::from_secs(options.seconds);
    let mut raw = Vec::new();
    let mut store = vec![Vec::new(); CALLERS.len()];
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        raw.push(one_by_one(&options.directory, seconds)?);
        for (rates, callers) in store.iter_mut().zip(CALLERS) {
            rates.push(through_the_store(&options.directory, seconds, callers)?);
        }
    }
    let mut figures = Vec::new();
    figures.extend(Figure::new("SQLite, one by one", "/s", Target::None, Summary::of(&raw)));
    for (rates, callers) in store.iter().zip(CALLERS) {
        let name = format!("store, callers: {callers}");
        let (at_least, share) = if callers == 1 { (Target::None, 0.8) } else { (RATE, 1.0) };
        figures.extend(Figure::new(&name, "/s", at_least, Summary::of(rates)));
        let ratio = Summary::of_ratios(rates, &raw);
        let name = format!("{name}, of SQLite");
        figures.extend(Figure::new(name, "×", Target::AtLeast(share), ratio));
    }
    println!("durable transactions of 3 conditions and 4 writes of {VALUE_LEN} B\n");
    println!("{}", table(&figures, std::io::stdout().is_terminal()));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^53 transactions")]
fn rate(made: u64, took: Duration) -> f64 {
    made as f64 / took.as_secs_f64()
}

/// What somebody would write who keeps keys and values in SQLite and nothing else.
fn one_by_one(directory: &Path, seconds: Duration) -> Result<f64> {
    let directory = tempfile::tempdir_in(directory).context("--directory")?;
    let mut connection = Connection::open(directory.path().join("raw.db"))?;
    connection.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 4096;
         CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB, modified INTEGER) WITHOUT ROWID;",
    )?;
    let value = [7_u8; VALUE_LEN];
    const GET: &str = "SELECT modified FROM entry WHERE key = ?1";
    const PUT: &str = "INSERT INTO entry VALUES (?1, ?2, ?3)
        ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3";
    for n in 0..ENVIRONMENTS {
        connection.prepare_cached(PUT)?.execute(params![keys(n)[0], value, 0])?;
    }
    let (mut made, begun) = (0, Instant::now());
    while begun.elapsed() < seconds {
        let keys = keys(made);
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (at, key) in keys.iter().take(3).enumerate() {
            let modified: Option<u64> =
                transaction.prepare_cached(GET)?.query_row([key], |row| row.get(0)).optional()?;
            anyhow::ensure!(modified.is_some() == (at == 0), "{key}");
        }
        for key in &keys[1..] {
            transaction.prepare_cached(PUT)?.execute(params![key, value, made])?;
        }
        transaction.commit()?;
        made += 1;
    }
    Ok(rate(made, begun.elapsed()))
}

fn through_the_store(directory: &Path, seconds: Duration, callers: u64) -> Result<f64> {
    let directory = tempfile::tempdir_in(directory).context("--directory")?;
    let path = directory.path().join("store.db");
    let store = Arc::new(Sqlite::open(&path, SqliteOptions::default())?);
    Runtime::new()?.block_on(async {
        for n in 0..ENVIRONMENTS {
            store
                .commit(Transaction::new().put(Key::new(&keys(n)[0])?, vec![7; VALUE_LEN]))
                .await?;
        }
        let (next, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let mut all = JoinSet::new();
        for _ in 0..callers {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            all.spawn(async move {
                while begun.elapsed() < seconds {
                    store.commit(attach(next.fetch_add(1, Ordering::Relaxed))?).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(caller) = all.join_next().await {
            caller??;
        }
        Ok(rate(next.load(Ordering::Relaxed), begun.elapsed()))
    })
}

fn attach(n: u64) -> Result<Transaction> {
    let [environment, attachment, address, host, service] = keys(n).map(|key| Key::new(&key));
    let (attachment, address) = (attachment?, address?);
    let transaction =
        Transaction::new().present(environment?).absent(attachment.clone()).absent(address.clone());
    let all = [attachment, address, host?, service?];
    Ok(all.into_iter().fold(transaction, |t, key| t.put(key, vec![7; VALUE_LEN])))
}
