//! Whom the daemon becomes, where it answers, and who keeps its interfaces.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use weft_config::{Account, Config};
use weft_helper::{socket_beside, state_beside};

use super::{Finding, host::read};

/// Permission bits that let others than the owner write, and the one that keeps them from what is not
/// theirs.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// A clock that is behind by less needs nobody's attention.
const BEHIND_MAX: Duration = Duration::from_secs(60);

/// Every check of these; `is_running` says whether a daemon answers.
pub(super) fn check(config: &Config, is_running: bool, findings: &mut Vec<Finding>) {
    findings.extend(user(config));
    findings.push(folder(&config.api));
    if is_running {
        findings.push(helper(&config.api));
    }
    findings.extend(known_time(&config.api));
}

fn user(config: &Config) -> Option<Finding> {
    const CHECK: &str = "user";
    let Some(user) = &config.user else {
        return Some(Finding::advice(
            CHECK,
            "weftd stays root, without capabilities",
            "`useradd --system weft`, `user = \"weft\"`, and give it the keys: `chown weft …`",
        ));
    };
    // One that is not there has been said with the configuration.
    let account = user.account().ok()?;
    Some(match other_process(&account) {
        Some(name) => Finding::advice(
            CHECK,
            format!("weftd becomes {account}, as whom {name} runs as well"),
            "give weftd a user of its own: whoever is that user can talk to weft-helper",
        ),
        None => Finding::good(CHECK, format!("weftd becomes {account}")),
    })
}

/// The name of a process of this user that is not the daemon.
fn other_process(account: &Account) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids =
        processes.filter(|e| e.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    pids.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok()).find_map(|text| {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let uid = field("Uid:")?.split_whitespace().next()?.parse::<u32>().ok()?;
        let name = field("Name:")?;
        (uid == account.uid() && name != "weftd").then(|| name.to_owned())
    })
}

fn folder(api: &Path) -> Finding {
    const CHECK: &str = "folder";
    let folder = match api.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let shown = folder.display();
    let found = match fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::good(CHECK, format!("{shown} is made by weftd"));
        }
        Err(error) => {
            let remedy = "weftd needs a folder of root's for its socket";
            return Finding::problem(CHECK, format!("{shown}: {error}"), remedy);
        }
    };
    let remedy = format!("`chown root {shown}`, `chmod go-w {shown}`, or leave `api` out");
    if found.uid() != 0 {
        let finding = format!("{shown} belongs to user {}, not to root", found.uid());
        return Finding::problem(CHECK, finding, remedy);
    }
    match found.mode() & (WRITABLE | STICKY) {
        0 | STICKY => Finding::good(CHECK, format!("{shown} is root's")),
        bits if bits & STICKY != 0 => Finding::advice(
            CHECK,
            format!("anybody can put files into {shown}, in the way of weftd's"),
            "leave `api` out: it is in /run/weft then",
        ),
        _ => Finding::problem(CHECK, format!("others than root can change {shown}"), remedy),
    }
}

/// A daemon that runs may start no other.
fn helper(api: &Path) -> Finding {
    const CHECK: &str = "helper";
    match weft_helper::reach(&socket_beside(api)) {
        Ok(()) => Finding::good(CHECK, "weft-helper answers"),
        Err(error) => Finding::problem(
            CHECK,
            format!("weft-helper is gone: {error}"),
            "restart weftd, which starts another: interfaces and connections stay",
        ),
    }
}

/// Whether the clock is behind what certificates have proved (`weftd` keeps it).
fn known_time(api: &Path) -> Option<Finding> {
    const CHECK: &str = "known time";
    let now = SystemTime::now();
    let entries = fs::read_dir(state_beside(api)).ok()?.flatten();
    let times =
        entries.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == "time"));
    let seconds = |path: &PathBuf| read(path.to_str()?)?.parse::<u64>().ok();
    let latest = times.filter_map(|path| Some((seconds(&path)?, path))).max()?;
    let known = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(latest.0))?;
    let behind = known.duration_since(now).unwrap_or_default();
    let environment = latest.1.file_stem()?.to_string_lossy().into_owned();
    Some(match behind > BEHIND_MAX {
        true => Finding::problem(
            CHECK,
            format!(
                "the clock is {} s behind what certificates of environment {environment} prove",
                behind.as_secs()
            ),
            "set the clock: `timedatectl`, and see whether an NTP client runs",
        ),
        false => Finding::good(CHECK, "the clock is not behind it"),
    })
}
