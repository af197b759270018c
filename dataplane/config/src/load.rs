//! From a file to a configuration, or to everything that is wrong with it.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use toml::de::DeTable;
use weft_pki::UnixTime;

use crate::{
    context::Context,
    credentials::Files,
    document::Table,
    environment, host,
    limits::{ENVIRONMENTS_MAX, FILE_LEN_MAX},
    model::Config,
    problem::{Problem, Report, SYNTAX},
};

/// Reads and checks the configuration at `path` with every file that it names. Relative paths in
/// it are relative to its folder.
///
/// # Errors
/// Every problem that was found, in the order of the file; never an empty list.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    load_at(path, SystemTime::now())
}

/// As [`load`], judging certificates at `now`.
///
/// # Errors
/// As [`load`].
pub fn load_at(path: &Path, now: SystemTime) -> Result<Config, Vec<Problem>> {
    let text = read(path).map_err(|message| {
        vec![Problem { file: path.to_owned(), line: None, field: "file".to_owned(), message }]
    })?;
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let files = Files::JudgedAt(UnixTime::since_unix_epoch(since_1970));
    let mut report = Report::new(path, &text);
    let config = parse(&text, path, files, &mut report);
    match config {
        Some(config) if report.is_empty() => Ok(config),
        _ => Err(report.into_problems()),
    }
}

/// Every problem that `text` has by itself, without reading any file that it names. An empty list
/// does not mean that [`load`] would succeed.
#[must_use]
pub fn check_text(text: &str) -> Vec<Problem> {
    let path = Path::new("weftd.toml");
    let mut report = Report::new(path, text);
    parse(text, path, Files::Ignored, &mut report);
    report.into_problems()
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
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
fn parse(text: &str, path: &Path, files: Files, report: &mut Report) -> Option<Config> {
    let (document, faults) = DeTable::parse_recoverable(text);
    report.ignore_missing = !faults.is_empty();
    for fault in &faults {
        report.add(SYNTAX, &fault.span().unwrap_or(0..0), fault.message());
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let mut root = Table::root(&document);
    let host = host::read(&mut root, base, report);
    let tables = root.tables("environment", ENVIRONMENTS_MAX, report);
    root.finish(report);
    let mut context =
        Context { base, files, host: &host, ids: HashMap::new(), interfaces: HashMap::new() };
    let environments: Vec<_> =
        tables.into_iter().map(|table| environment::read(table, &mut context, report)).collect();
    Some(Config {
        host: host.host?.value,
        listen: host.listen?.value,
        api: host.api?.value,
        metrics: host.metrics.map(|at| at.value),
        workers: host.workers,
        engine: host.engine,
        placement: host.placement,
        latency: host.latency,
        log: host.log,
        keys: host.keys,
        environments: environments.into_iter().collect::<Option<_>>()?,
    })
}
