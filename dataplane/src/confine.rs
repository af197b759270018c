//! What the daemon gives up for good once everything that needs privilege is done: capabilities, files,
//! system calls. A data plane that somebody takes over can then read its own memory and use the sockets
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
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        set_capabilities, set_no_new_privs,
    },
};
use weft_config::Config;

/// The newest rules that are asked for; an older kernel enforces those that it knows.
const LANDLOCK: ABI = ABI::V6;

/// Which files the daemon needs later.
#[derive(Debug, Default)]
pub struct Places {
    /// Folders of the configuration and the certificates that it names: read at a reload.
    pub read: Vec<PathBuf>,
    /// The API's folder, where its socket is removed at the end; none if others have files there, too.
    pub remove: Vec<PathBuf>,
    /// What the daemon keeps for the next one.
    pub write: Vec<PathBuf>,
}

impl Places {
    /// What a daemon with this configuration, from this file, needs.
    #[must_use]
    pub fn of(config: &Config, file: &Path, state: &Path) -> Self {
        let environments = config.environments.iter();
        let files = environments.flat_map(|e| [&e.ca, &e.cert, &e.key]).map(PathBuf::as_path);
        let mut read: Vec<_> = files.chain([file]).map(folder).collect();
        read.sort_unstable();
        read.dedup();
        let remove = [folder(&config.api)].into_iter().filter(|f| !is_shared(f)).collect();
        Self { read, remove, write: vec![state.to_owned()] }
    }
}

/// Whether a folder is everybody's.
fn is_shared(folder: &Path) -> bool {
    ["/", "/run", "/var/run", "/tmp", "/var/tmp"].iter().any(|shared| folder == Path::new(shared))
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What holds from now on.
#[derive(Debug, Clone, Copy)]
pub struct Confinement {
    /// Memory can be locked only with this one capability left, because its limit cannot be raised.
    pub keeps_ipc_lock: bool,
    /// Whether the kernel restricts files: it has Landlock.
    pub files: bool,
}

impl Confinement {
    /// Writes what holds.
    pub fn log(self) {
        let Self { keeps_ipc_lock, files } = self;
        tracing::info!(keeps_ipc_lock, files, "privileges are given up");
        if !files {
            tracing::warn!("this kernel has no Landlock: files are not restricted");
        }
    }
}

/// Gives up everything but `places`. Only while the process has one thread.
///
/// # Errors
/// When the kernel refuses one of the steps; the daemon must not go on then.
pub fn confine(places: &Places) -> anyhow::Result<Confinement> {
    let unlimited = Rlimit { current: None, maximum: None };
    let keeps_ipc_lock = setrlimit(Resource::Memlock, unlimited).is_err();
    set_no_new_privs(true).context("cannot forbid new privileges")?;
    let files = restrict_files(places).context("cannot restrict files")?;
    drop_capabilities(keeps_ipc_lock).context("cannot give up capabilities")?;
    calls::restrict().context("cannot restrict system calls")?;
    Ok(Confinement { keeps_ipc_lock, files })
}

fn drop_capabilities(keeps_ipc_lock: bool) -> io::Result<()> {
    // A kernel without ambient capabilities has none to clear.
    let _ = clear_ambient_capability_set();
    let kept = if keeps_ipc_lock { CapabilitySet::IPC_LOCK } else { CapabilitySet::empty() };
    let kept = kept & capabilities(None)?.permitted;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    Ok(())
}

/// Whether the kernel enforces it.
fn restrict_files(places: &Places) -> Result<bool, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write =
        read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let remove = AccessFs::RemoveFile | AccessFs::RemoveDir;
    let own = [PathBuf::from("/proc/self")];
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    for (paths, access) in
        [(&places.read[..], read), (&own, read), (&places.write, write), (&places.remove, remove)]
    {
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
    use super::*;

    #[test]
    fn only_a_folder_of_its_own_is_cleaned_up() {
        for (api, is_own) in
            [("/run/weft/weftd.sock", true), ("/run/weftd.sock", false), ("/tmp/weftd.sock", false)]
        {
            assert_eq!(!is_shared(&folder(Path::new(api))), is_own, "{api}");
        }
    }
}
