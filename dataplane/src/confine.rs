//! What the daemon gives up for good once everything that needs privilege is done: its user,
//! capabilities, files, system calls. A data plane that somebody takes over can then read its own memory and use the sockets
//! that it has, and nothing else on the host.
//!
//! ```text
//!  root ─▶ sockets, rings, locked memory, helper ─▶ confine() ─▶ threads, traffic
//! ```
//! Threads inherit it, so it comes before the first one is started.

mod calls;

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, set_keep_capabilities, set_no_new_privs},
};
use weft_config::{Account, Config};
use weft_confine::{empty_bounding_set, keep_capabilities};

/// The newest rules that are asked for; an older kernel enforces those that it knows.
const LANDLOCK: ABI = ABI::V6;

/// What the C library reads to look up a name (nsswitch.conf(5), resolver(5)).
const RESOLVER: [&str; 5] =
    ["/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"];

/// Which files the daemon needs later.
#[derive(Debug, Default)]
pub struct Places {
    /// Folders of the configuration and the certificates that it names: read at a reload.
    pub read: Vec<PathBuf>,
    /// What the daemon keeps for the next one.
    pub write: Vec<PathBuf>,
}

impl Places {
    /// What a daemon with this configuration, from this file, needs.
    #[must_use]
    pub fn of(config: &Config, file: &Path, state: &Path) -> Self {
        let files = config.environments.iter().filter_map(|environment| environment.files.as_ref());
        let files = files.flat_map(|f| [&f.ca, &f.cert, &f.key]).map(PathBuf::as_path);
        let mut read: Vec<_> = files.chain([file]).map(folder).collect();
        let mut write = vec![state.to_owned()];
        if let Some(control) = &config.control {
            // The token may be put there later.
            read.extend(control.join_token.as_deref().map(folder));
            write.push(control.state.clone());
            if control.url.is_name() {
                read.extend(RESOLVER.iter().map(|file| replaceable(Path::new(file))));
            }
        }
        read.sort_unstable();
        read.dedup();
        Self { read, write }
    }
}

/// What is to be read so that a file of the machine can be replaced. Rules hold for what is there now, not for names;
/// a link into a folder of its own, as systemd-resolved(8) and NetworkManager(8) make it, stands for that folder.
fn replaceable(file: &Path) -> PathBuf {
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    match target.parent() {
        Some(folder) if Some(folder) != file.parent() && folder.components().count() > 2 => {
            folder.to_owned()
        }
        _ => file.to_owned(),
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What holds from now on.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Whom the daemon has become; none if it is still root.
    pub user: Option<Account>,
    /// Memory can be locked only with this one capability left, because its limit cannot be raised.
    pub keeps_ipc_lock: bool,
    /// Whether the kernel restricts files: it has Landlock.
    pub files: bool,
}

impl Confinement {
    /// Writes what holds.
    pub fn log(&self) {
        let Self { user, keeps_ipc_lock, files } = self;
        match user {
            Some(user) => tracing::info!(%user, keeps_ipc_lock, files, "privileges are given up"),
            None => tracing::info!(
                user = "root",
                keeps_ipc_lock,
                files,
                "privileges are given up, but the daemon stays root: no user is configured"
            ),
        }
        if !files {
            tracing::warn!("this kernel has no Landlock: files are not restricted");
        }
    }
}

/// Becomes `user`, if it is to be another, and gives up everything but `places`. Only while the process has
/// one thread.
///
/// # Errors
/// When the kernel refuses one of the steps; the daemon must not go on then.
pub fn confine(places: &Places, user: Option<Account>) -> anyhow::Result<Confinement> {
    let unlimited = Rlimit { current: None, maximum: None };
    let keeps_ipc_lock = setrlimit(Resource::Memlock, unlimited).is_err();
    empty_bounding_set();
    if let Some(user) = &user {
        become_user(user).with_context(|| format!("cannot become user {user}"))?;
    }
    set_no_new_privs(true).context("cannot forbid new privileges")?;
    let files = restrict_files(places).context("cannot restrict files")?;
    let kept = if keeps_ipc_lock { CapabilitySet::IPC_LOCK } else { CapabilitySet::empty() };
    keep_capabilities(kept).context("cannot give up capabilities")?;
    calls::restrict().context("cannot restrict system calls")?;
    Ok(Confinement { user, keeps_ipc_lock, files })
}

fn become_user(user: &Account) -> io::Result<()> {
    // One capability may have to stay; all others are given up below.
    set_keep_capabilities(true)?;
    user.assume()?;
    set_keep_capabilities(false)?;
    // Another user may mean core dumps again (`fs.suid_dumpable`).
    weft_sys::process::set_nondumpable()
}

/// Whether the kernel enforces it.
fn restrict_files(places: &Places) -> Result<bool, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write =
        read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let own = [PathBuf::from("/proc/self")];
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    for (paths, access) in [(&places.read[..], read), (&own, read), (&places.write, write)] {
        ruleset = allow(ruleset, paths, access)?;
    }
    // Handshakes go out from any port, and nobody else is listened to any more.
    let status = ruleset.add_rule(NetPort::new(0, AccessNet::BindTcp))?.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn allow(
    mut ruleset: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        // What is not there needs no permission.
        if let Ok(fd) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    Ok(ruleset)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_into_another_folder_stands_for_that_folder() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path().canonicalize().unwrap();
        let (etc, run) = (here.join("etc"), here.join("resolve"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&run).unwrap();
        fs::write(run.join("stub.conf"), "").unwrap();
        fs::write(etc.join("hosts"), "").unwrap();
        symlink("hosts", etc.join("near.conf")).unwrap();
        symlink("../resolve/stub.conf", etc.join("resolv.conf")).unwrap();
        symlink("/proc/version", etc.join("wide.conf")).unwrap();
        assert_eq!(replaceable(&etc.join("resolv.conf")), run);
        for file in ["hosts", "near.conf", "wide.conf", "absent"] {
            assert_eq!(replaceable(&etc.join(file)), etc.join(file));
        }
    }
}
