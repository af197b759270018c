//! From a file to a configuration, or to everything that is wrong with it.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::process::geteuid;
use toml::de::DeTable;
use weft_pki::UnixTime;

use crate::{
    account::{Account, unreadable},
    context::Context,
    control,
    credentials::Files,
    document::Table,
    environment, host,
    limits::{ENVIRONMENTS_MAX, FILE_LEN_MAX},
    model::Config,
    problem::{Problem, Report, SYNTAX},
};

const OWN_ENVIRONMENTS: &str = "stands beside [control]; expected one or the other: a host that follows a control plane has none of its own";

/// Whether it matters that a user of this host has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    LookedUp,
    Unknown,
}

/// Reads and checks the configuration at `path` with every file that it names, for a daemon that is to
/// start. Relative paths in it are relative to its folder. Called by root, it reads as the user that the
/// configuration names, who has to read all of it again at a reload.
///
/// # Errors
/// Every problem that was found, in the order of the file; never an empty list.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    let load = || load_with(path, Users::LookedUp, SystemTime::now());
    match user_of(path).filter(|_| geteuid().is_root()) {
        Some((account, line)) => account.run(load).unwrap_or_else(|error| {
            let message = format!("weftd cannot become user {account}: {error}");
            let field = "user".to_owned();
            Err(vec![Problem { file: path.to_owned(), line: Some(line), field, message }])
        }),
        None => load(),
    }
}

/// As [`load`], for a daemon that runs: it is who it is, and can look up no users.
///
/// # Errors
/// As [`load`].
pub fn reload(path: &Path) -> Result<Config, Vec<Problem>> {
    load_at(path, SystemTime::now())
}

/// As [`reload`], judging certificates at `now`.
///
/// # Errors
/// As [`load`].
pub fn load_at(path: &Path, now: SystemTime) -> Result<Config, Vec<Problem>> {
    load_with(path, Users::Unknown, now)
}

fn load_with(path: &Path, users: Users, now: SystemTime) -> Result<Config, Vec<Problem>> {
    let text = read(path).map_err(|message| {
        vec![Problem { file: path.to_owned(), line: None, field: "file".to_owned(), message }]
    })?;
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let files = Files::JudgedAt(UnixTime::since_unix_epoch(since_1970));
    let mut report = Report::new(path, &text);
    let config = parse(&text, path, files, users, &mut report);
    match config {
        Some(config) if report.is_empty() => Ok(config),
        _ => Err(report.into_problems()),
    }
}

/// The user that the file names and the line where it does, if it can be read so far and there is one.
fn user_of(path: &Path) -> Option<(Account, usize)> {
    let text = read(path).ok()?;
    let (document, _) = DeTable::parse_recoverable(&text);
    let mut report = Report::new(path, &text);
    let user = host::user(&mut Table::root(&document), &mut report)?;
    Some((user.value.account().ok()?, report.line(user.span.start)))
}

/// Every problem that `text` has by itself, without reading any file that it names. An empty list
/// does not mean that [`load`] would succeed.
#[must_use]
pub fn check_text(text: &str) -> Vec<Problem> {
    let path = Path::new("weftd.toml");
    let mut report = Report::new(path, text);
    parse(text, path, Files::Ignored, Users::Unknown, &mut report);
    report.into_problems()
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| unreadable(&error);
    let file = fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let len = file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if len as u64 > FILE_LEN_MAX {
        return Err(format!("is too large; expected at most {FILE_LEN_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1;
        format!("is not UTF-8 at line {line}; expected TOML")
    })
}

/// The configuration in `text`; `None` when anything is wrong, which is in `report` then.
fn parse(
    text: &str,
    path: &Path,
    files: Files,
    users: Users,
    report: &mut Report,
) -> Option<Config> {
    let (document, faults) = DeTable::parse_recoverable(text);
    report.ignore_missing = !faults.is_empty();
    for fault in &faults {
        report.add(SYNTAX, &fault.span().unwrap_or(0..0), fault.message());
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let mut root = Table::root(&document);
    let host = host::read(&mut root, base, report);
    if let (Users::LookedUp, Some(user)) = (users, &host.user)
        && let Err(why) = user.value.account()
    {
        report.about(user, format_args!("{} {why}", user.value));
    }
    let control = root.table_if_any("control", report);
    let is_managed = control.is_some();
    let control = control.map(|table| control::read(table, base, host.listen.as_ref(), report));
    let tables = root.tables("environment", ENVIRONMENTS_MAX, report);
    if let Some(first) = tables.first().filter(|_| is_managed) {
        report.about(&first.here(), OWN_ENVIRONMENTS);
    }
    root.finish(report);
    let mut context =
        Context { base, files, host: &host, ids: HashMap::new(), interfaces: HashMap::new() };
    let environments: Vec<_> =
        tables.into_iter().map(|table| environment::read(table, &mut context, report)).collect();
    Some(Config {
        host: host.host?.value,
        user: host.user.map(|at| at.value),
        listen: host.listen?.value,
        api: host.api?.value,
        metrics: host.metrics.map(|at| at.value),
        workers: host.workers,
        engine: host.engine,
        placement: host.placement,
        latency: host.latency,
        log: host.log,
        keys: host.keys,
        control: match control {
            Some(control) => Some(control?),
            None => None,
        },
        environments: environments.into_iter().collect::<Option<_>>()?,
    })
}
