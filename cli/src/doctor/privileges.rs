//! What the daemon may do at its start, and what it can give up then.

use weft_config::Config;
use weft_sys::process;

use super::{Finding, host::read};

/// Capabilities without which nothing works, by their numbers in `capabilities(7)`.
const NEEDED: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (19, "CAP_SYS_PTRACE"), (21, "CAP_SYS_ADMIN")];
/// Those that it takes to become another user.
const NEEDED_FOR_USER: [(u32, &str); 3] = [(0, "CAP_CHOWN"), (6, "CAP_SETGID"), (7, "CAP_SETUID")];
/// Those that are better there, and what happens otherwise.
const BETTER: [(u32, &str, &str); 2] = [
    (14, "CAP_IPC_LOCK", "keys may reach swap"),
    (
        24,
        "CAP_SYS_RESOURCE",
        "one capability stays to lock memory, and the helper may be ended early",
    ),
];

/// Whether this is root.
pub(super) fn is_root() -> bool {
    // Real, effective, …
    own("Uid:").as_deref().and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

/// Every check of these.
pub(super) fn check(config: Option<&Config>) -> Vec<Finding> {
    vec![privileges(config), files(), filters()]
}

fn privileges(config: Option<&Config>) -> Finding {
    const CHECK: &str = "privileges";
    const REMEDY: &str = "packaging/weftd.service lists what weftd and weft-helper need";
    if !is_root() {
        return Finding::advice(
            CHECK,
            "not root: interfaces could not be tried",
            "run `weft doctor` as root, as which weftd is started",
        );
    }
    let held = own("CapEff:").and_then(|set| u64::from_str_radix(&set, 16).ok()).unwrap_or(0);
    let is_held = |number: u32| held >> number & 1 == 1;
    let for_user = config.filter(|config| config.user.is_some()).map(|_| NEEDED_FOR_USER);
    let needed = NEEDED.into_iter().chain(for_user.into_iter().flatten());
    let missing: Vec<_> =
        needed.filter(|(number, _)| !is_held(*number)).map(|(_, name)| name).collect();
    if !missing.is_empty() {
        return Finding::problem(CHECK, format!("{} is missing", missing.join(", ")), REMEDY);
    }
    match BETTER.into_iter().find(|(number, ..)| !is_held(*number)) {
        Some((_, name, effect)) => {
            Finding::advice(CHECK, format!("{name} is missing: {effect}"), REMEDY)
        }
        None => Finding::good(CHECK, "root's"),
    }
}

fn files() -> Finding {
    const CHECK: &str = "landlock";
    match process::landlock_version() {
        Ok(version) => {
            Finding::good(CHECK, format!("version {version}: the daemon restricts its files"))
        }
        Err(error) => Finding::advice(
            CHECK,
            format!("not available: {error}"),
            "a daemon that is taken over can read whatever its user can; Linux 5.13 or newer has it, \
             with landlock in the kernel's parameter lsm",
        ),
    }
}

fn filters() -> Finding {
    const CHECK: &str = "filters";
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        Finding::good(CHECK, "seccomp: the daemon and its helper restrict their system calls")
    } else {
        let remedy = "weftd does not start without: a kernel with CONFIG_SECCOMP_FILTER";
        Finding::problem(CHECK, "system calls cannot be filtered", remedy)
    }
}

/// A field of this process's status.
fn own(name: &str) -> Option<String> {
    let status = read("/proc/self/status")?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned())
}
