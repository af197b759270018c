//! The audit: what was done, and whether its log is what was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use weft_audit::{Compared, Finding, ProcessId, PublicKey, Signed, SignedHead, Timestamp, compare};
use weft_control_api::v1::{self, audit_client::AuditClient};

use super::{
    Output,
    call::{Connection, answer},
    session::word,
    show::{Item, Shown},
};

/// Most records of one part.
const PAGE_LEN_MAX: usize = 1_000;
/// Most heads of one log: one of each day that is kept, and the last.
const HEADS_MAX: usize = 2_200;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was done: of an organisation, of an environment, or everything
    List(List),
    /// Say whether logs are what was written
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only about this organisation, by name or id
    #[arg(long, conflicts_with = "env")]
    org: Option<String>,
    /// Only about this environment: an id or ORGANISATION/NAME
    #[arg(long)]
    env: Option<String>,
    /// Not before: 15m, 24h, 7d ago, or 2026-11-30, or 2026-11-30T06:48:10Z
    #[arg(long, default_value = "24h", value_parser = time)]
    since: Timestamp,
    /// Before; as --since
    #[arg(long, value_parser = time)]
    until: Option<Timestamp>,
    /// Only by this actor, as user/usr-… or host/ID
    #[arg(long)]
    actor: Option<String>,
    /// Only on this, or on parts of it: without what --org or --env names already, as attachment/web
    #[arg(long)]
    object: Option<String>,
    /// Only this, as environments.delete-environment
    #[arg(long)]
    action: Option<String>,
    /// Only with this outcome
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Only of this request
    #[arg(long)]
    request: Option<String>,
    /// The earliest so many
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Verify the log in this folder, without asking a control plane; it is named as its process is
    #[arg(long, requires = "key")]
    folder: Option<PathBuf>,
    /// By which heads are signed: 64 hexadecimal digits; more than one after the key was replaced
    #[arg(long, requires = "folder")]
    key: Vec<PublicKey>,
    /// Heads that were anchored, as --save-heads has written them
    #[arg(long, requires = "folder", value_name = "FILE")]
    head: Vec<PathBuf>,
    /// The second host's copy of the log: whatever it lacks, has otherwise, or alone is a fault
    #[arg(long, requires = "folder", value_name = "FOLDER")]
    replica: Option<PathBuf>,
    /// Also read what is in the server's blob store: all of it, which may take long
    #[arg(long, conflicts_with = "folder")]
    blobs: bool,
    /// Write the last head of each log to a file of this folder, to be kept where the logs are not
    #[arg(long, conflicts_with = "folder", value_name = "FOLDER")]
    save_heads: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Outcome {
    /// About to be done
    Begun,
    /// Done
    Done,
    /// Not allowed, or not there
    Denied,
    /// Not done
    Failed,
    /// Perhaps done
    Unknown,
}

impl AuditCommand {
    /// What is to be said without a control plane, if it is about a folder of this machine.
    pub(super) fn folder(&self) -> Option<Result<Shown>> {
        match self {
            Self::Verify(asked @ Verify { folder: Some(folder), .. }) => {
                Some(verify_here(folder, asked))
            }
            _ => None,
        }
    }

    pub(super) fn output(&self) -> Output {
        match self {
            Self::List(List { output, .. }) | Self::Verify(Verify { output, .. }) => *output,
        }
    }
}

/// `24h` ago, a date, or a time.
fn time(text: &str) -> Result<Timestamp, String> {
    let expected =
        || format!("{text:?}; expected 15m, 24h or 7d ago, 2026-11-30, or 2026-11-30T06:48:10Z");
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => {
            let whole = match text.strip_suffix('Z') {
                Some(seconds) if !seconds.contains('.') => format!("{seconds}.000000Z"),
                Some(_) => text.to_owned(),
                None => format!("{text}T00:00:00.000000Z"),
            };
            return whole.parse().map_err(|_| expected());
        }
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    let ago = Duration::from_secs(count.checked_mul(unit).ok_or_else(expected)?);
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Timestamp::of(then))
}

fn ms(time: Timestamp) -> u64 {
    let since = time.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn item(record: v1::AuditRecord) -> Item {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(record.time_ms);
    let mut outcome = word(record.outcome().as_str_name(), "AUDIT_OUTCOME_");
    if !record.reason.is_empty() {
        outcome = format!("{outcome}/{}", record.reason);
    }
    let facts: BTreeMap<_, _> = record.facts.into_iter().collect();
    let facts: Vec<_> = facts.iter().map(|(about, fact)| format!("{about}={fact}")).collect();
    Item::new()
        .with("time", Timestamp::of(time).to_string())
        .with("actor", record.actor)
        .with_some("source", record.source)
        .with("action", record.action)
        .with("object", record.object)
        .with("outcome", outcome)
        .with_some("made", record.made)
        .with_some("count", record.count)
        .with_some("facts", facts.join(" "))
        .with("request", record.request)
        .with_some("process", record.process)
        .with_some("sequence", record.sequence)
}

fn request(list: &List, size: usize, after: String) -> v1::ListAuditRecordsRequest {
    let outcome = list.outcome.map_or(v1::AuditOutcome::Unspecified, |outcome| match outcome {
        Outcome::Begun => v1::AuditOutcome::Begun,
        Outcome::Done => v1::AuditOutcome::Done,
        Outcome::Denied => v1::AuditOutcome::Denied,
        Outcome::Failed => v1::AuditOutcome::Failed,
        Outcome::Unknown => v1::AuditOutcome::Unknown,
    });
    v1::ListAuditRecordsRequest {
        organisation: list.org.clone().unwrap_or_default(),
        environment: list.env.clone().map(|value| v1::EnvironmentName { value }),
        from_ms: ms(list.since),
        until_ms: list.until.map(ms).unwrap_or_default(),
        actor: list.actor.clone().unwrap_or_default(),
        object: list.object.clone().unwrap_or_default(),
        action: list.action.clone().unwrap_or_default(),
        outcome: outcome.into(),
        request: list.request.clone().unwrap_or_default(),
        page: Some(v1::PageRequest { size: u32::try_from(size).unwrap_or(u32::MAX), after }),
    }
}

async fn list(connection: &Connection, list: List) -> Result<Shown> {
    let mut audit = AuditClient::new(connection.channel());
    let (mut items, mut after) = (Vec::new(), String::new());
    let (mut is_partial, mut missing) = (false, BTreeSet::new());
    while items.len() < list.limit {
        let size = (list.limit - items.len()).min(PAGE_LEN_MAX);
        let request = connection.request(request(&list, size, after));
        let part = answer(audit.list_audit_records(request).await)?;
        items.extend(part.records.into_iter().map(item));
        is_partial |= part.partial;
        missing.extend(part.missing);
        after = part.page.unwrap_or_default().next;
        if after.is_empty() {
            break;
        }
    }
    if is_partial {
        note(&not_all(&missing));
    }
    Ok(Shown::Many { items, empty: "no records" })
}

/// What is said beside an answer.
fn note(text: &str) {
    eprintln!("weft: note: {text}");
}

fn not_all(missing: &BTreeSet<String>) -> String {
    let whose = match missing.is_empty() {
        true => "some processes".to_owned(),
        false => missing.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    format!(
        "these are not all records: the server that answered has no log of {whose}; ask another one"
    )
}

pub(super) async fn run(connection: Connection, command: AuditCommand) -> Result<Shown> {
    match command {
        AuditCommand::List(asked) => list(&connection, asked).await,
        AuditCommand::Verify(asked) => verify_there(&connection, &asked).await,
    }
}

async fn verify_there(connection: &Connection, asked: &Verify) -> Result<Shown> {
    let mut audit = AuditClient::new(connection.channel());
    let verify = connection.request(v1::VerifyAuditRequest { blobs: asked.blobs });
    let v1::VerifyAuditResponse { logs, public_key } = answer(audit.verify_audit(verify).await)?;
    for log in logs.iter().filter(|log| !log.elsewhere.is_empty()) {
        let (process, place) = (&log.process, &log.elsewhere);
        note(&format!(
            "the log of {process} was not verified: it is not at this server but in {place}"
        ));
    }
    for log in logs.iter().filter(|log| !log.unshipped.is_empty()) {
        let (process, why) = (&log.process, &log.unshipped);
        note(&format!("the log of {process} is not all in the blob store: {why}"));
    }
    let faults = logs.iter().filter(|log| !log.fault.is_empty());
    let faults: Vec<_> = faults.map(|log| not_as_written(&log.process, &log.fault)).collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    if let Some(folder) = &asked.save_heads {
        save_heads(folder, &logs)?;
    }
    let items = logs.into_iter().map(|log| {
        let read = match log.source() {
            v1::AuditLogSource::Log => "log",
            v1::AuditLogSource::Copy => "copy",
            v1::AuditLogSource::Unspecified => "nothing",
        };
        Item::new()
            .with("process", log.process)
            .with("read", read)
            .with("segments", log.segments)
            .with("lines", log.lines)
            .with("expired", log.expired)
            .with("last", log.last)
            .with("anchored", log.anchored)
            .with("compared", log.compared)
            .with("shipped", log.shipped)
            .with_some("unshipped", log.unshipped)
            .with_some("elsewhere", log.elsewhere)
            .with("key", public_key.clone())
    });
    Ok(Shown::Many { items: items.collect(), empty: "no logs" })
}

fn not_as_written(process: &str, fault: &str) -> String {
    format!("the log of {process} is not what was written: {fault}")
}

fn save_heads(folder: &Path, logs: &[v1::AuditLog]) -> Result<()> {
    for log in logs.iter().filter(|log| !log.head.is_empty()) {
        // What a server names is no path of this machine.
        let process: ProcessId = log.process.parse().context("the name of a log")?;
        let path = folder.join(format!("{process}-{}.json", log.anchored));
        fs::write(&path, &log.head).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Verifies a log of this machine; no control plane is asked.
fn verify_here(folder: &Path, asked: &Verify) -> Result<Shown> {
    if asked.head.len() > HEADS_MAX {
        bail!("--head: {} of them; expected at most {HEADS_MAX}", asked.head.len());
    }
    let name = folder.canonicalize().with_context(|| format!("--folder {}", folder.display()))?;
    let name = name.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let process: ProcessId =
        name.parse().map_err(|problem| anyhow!("--folder: {name:?}: {problem}"))?;
    let heads = asked.head.iter().map(|path| read_head(path));
    let heads = heads.collect::<Result<Vec<_>>>()?;
    let wrong = |finding: Finding| anyhow!(not_as_written(&name, &finding.to_string()));
    let found = weft_audit::verify(folder, &process, &heads, &asked.key).map_err(wrong)?;
    let compared = match &asked.replica {
        Some(copy) => {
            let compared = compare(folder, copy, &process, &asked.key, found.last.seq);
            let Compared { through, ahead } = compared.map_err(wrong)?;
            ahead.map_or(Ok(through), |finding| Err(wrong(finding)))?
        }
        None => 0,
    };
    let item = Item::new()
        .with("process", name.as_str())
        .with("segments", found.segments)
        .with("lines", found.lines)
        .with("expired", found.expired)
        .with("last", found.last.seq)
        .with("anchored", found.anchored)
        .with("compared", compared)
        .with("unfinished_bytes", found.unfinished);
    Ok(Shown::Many { items: vec![item], empty: "no logs" })
}

fn read_head(path: &Path) -> Result<SignedHead> {
    let bytes = fs::read(path).with_context(|| format!("--head {}", path.display()))?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Signed::parse(text).with_context(|| format!("--head {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ago_or_dates() {
        let whole = "2026-11-30T06:48:10.123456Z";
        for (text, expected) in [
            ("2026-11-30", "2026-11-30T00:00:00.000000Z"),
            ("2026-11-30T06:48:10Z", "2026-11-30T06:48:10.000000Z"),
            (whole, whole),
        ] {
            assert_eq!(time(text).unwrap().to_string(), expected);
        }
        let ago = time("90m").unwrap().time().elapsed().unwrap();
        assert!((5_400..5_410).contains(&ago.as_secs()), "{ago:?}");
        assert!(time("36500d").is_ok());
        for text in
            ["", "m", "-1h", "1.5h", "yesterday", "2026-13-01", "99999999999999999999d", "ä"]
        {
            assert!(time(text).unwrap_err().contains("expected 15m"), "{text}");
        }
    }
}
