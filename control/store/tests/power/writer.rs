//! What the writer does, and what must be found of it.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc};

use weft_store::{Key, Sqlite, SqliteOptions, Store, Transaction};

pub(crate) const DIRECTORY_VARIABLE: &str = "WEFT_STORE_WRITER_DIRECTORY";
/// Callers at once, so that transactions are made in groups.
pub(crate) const CALLERS: usize = 3;
/// Transactions of each.
pub(crate) const SCRIPT_LEN: usize = 24;
/// Keys that a caller writes in turn.
const KEYS: usize = 5;

/// What a caller's step writes: key and value, none to delete.
fn step(caller: usize, step: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let at = |n: usize| format!("{caller}/{}", n % KEYS);
    let value = vec![u8::try_from(step % 251).unwrap(); 200 + step % 7 * 900];
    vec![
        (format!("{caller}/last"), Some(step.to_string().into_bytes())),
        (at(step), Some(value)),
        (at(step + 2), None),
    ]
}

/// What a caller's keys hold after a step.
fn state_after(caller: usize, last: usize) -> BTreeMap<String, Vec<u8>> {
    let mut state = BTreeMap::new();
    // Older steps are overwritten by these.
    for n in last.saturating_sub(2 * KEYS)..=last {
        for (key, value) in step(caller, n) {
            match value {
                Some(value) => drop(state.insert(key, value)),
                None => drop(state.remove(&key)),
            }
        }
    }
    state
}

fn transaction(caller: usize, n: usize) -> Transaction {
    step(caller, n).into_iter().fold(Transaction::new(), |transaction, (key, value)| {
        let key = Key::new(&key).unwrap();
        match value {
            Some(value) => transaction.put(key, value),
            None => transaction.delete(key),
        }
    })
}

async fn last(store: &Sqlite, caller: usize) -> Option<usize> {
    let key = Key::new(&format!("{caller}/last")).unwrap();
    let entry = store.get(&key).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap().parse().unwrap())
}

/// How often a step is tried; all of them can be made twice.
const TRIES: usize = 100;

/// Goes on where the store is and makes so many steps; says on its output what was acknowledged. Returns how
/// often it was refused.
pub(crate) fn run(directory: &Path, steps: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // So that the log is copied into the file again and again.
        let options = SqliteOptions { log_pages: 30, ..SqliteOptions::default() };
        let store = Arc::new(Sqlite::open(&directory.join("store.db"), options).unwrap());
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..CALLERS {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                let first = last(&store, caller).await.map_or(0, |last| last + 1);
                let mut refused = 0;
                for n in first..first.saturating_add(steps) {
                    while let Err(error) = store.commit(transaction(caller, n)).await {
                        refused += 1;
                        assert!(refused < TRIES, "{error}");
                    }
                    let mut line = String::new();
                    writeln!(line, "ack {caller} {n}").unwrap();
                    // One call of the system, whoever else writes there.
                    rustix::io::write(std::io::stdout(), line.as_bytes()).unwrap();
                }
                refused
            });
        }
        callers.join_all().await.into_iter().sum()
    })
}

/// The last step of each caller that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Acknowledged([Option<usize>; CALLERS]);

impl Acknowledged {
    pub(crate) fn note(&mut self, caller: usize, step: usize) {
        self.0[caller] = Some(step);
    }

    pub(crate) fn note_line(&mut self, line: &str) {
        if let Some((caller, step)) = parse_line(line) {
            self.note(caller, step);
        }
    }

    pub(crate) fn steps(&self) -> usize {
        self.0.iter().map(|last| last.map_or(0, |last| last + 1)).sum()
    }
}

pub(crate) fn parse_line(line: &str) -> Option<(usize, usize)> {
    let (caller, step) = line.trim_end().strip_prefix("ack ")?.split_once(' ')?;
    Some((caller.parse().ok()?, step.parse().ok()?))
}

/// Opens the store and looks whether everything that was acknowledged is there, and every step whole.
pub(crate) fn check(path: &Path, acknowledged: &Acknowledged) -> Result<(), String> {
    let store = Sqlite::open(path, SqliteOptions::default()).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for caller in 0..CALLERS {
            let found = last(&store, caller).await;
            if found < acknowledged.0[caller] {
                let acknowledged = acknowledged.0[caller];
                return Err(format!("{caller}: {acknowledged:?} acknowledged, {found:?} found"));
            }
            let page =
                store.list(&format!("{caller}/"), None, 100).await.map_err(|e| e.to_string())?;
            let state: BTreeMap<_, _> = page
                .entries
                .into_iter()
                .map(|entry| (entry.key.to_string(), entry.value.to_vec()))
                .collect();
            if state != found.map_or_else(BTreeMap::new, |last| state_after(caller, last)) {
                return Err(format!("{caller}: not the state after step {found:?}"));
            }
        }
        Ok(())
    })?;
    drop(store);
    let file = rusqlite::Connection::open(path).map_err(|e| e.to_string())?;
    let found: String = file
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|e| e.to_string())?;
    if found == "ok" { Ok(()) } else { Err(found) }
}
