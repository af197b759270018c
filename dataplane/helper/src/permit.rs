//! Which namespaces may be entered at all: those that the configuration names, and those that somebody
//! with root's rights has registered. The daemon cannot add to them once it has given up its
//! privileges, so whoever takes it over reaches no other container.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;

use crate::message::Name;

/// Longest configuration file that is read, as in `weftd`.
const FILE_LEN_MAX: u64 = 64 << 20;
/// Registrations that nobody has used yet.
const REGISTERED_MAX: usize = 4096;
/// How long one may wait to be used.
const REGISTERED_FOR: Duration = Duration::from_secs(60);

/// The part of `weftd`'s configuration that counts here. `weftd` checks all of it.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    environment: Vec<Environment>,
}

#[derive(Debug, Deserialize)]
struct Environment {
    id: String,
    #[serde(default)]
    attachment: Vec<Attachment>,
}

#[derive(Debug, Deserialize)]
struct Attachment {
    name: String,
    netns: PathBuf,
}

/// What may be opened.
#[derive(Debug)]
pub(crate) struct Permits {
    file: Option<PathBuf>,
    /// What the file looked like when it was last read.
    seen: Option<(SystemTime, u64)>,
    configured: BTreeMap<Name, PathBuf>,
    /// Namespaces by their cookies, and since when.
    registered: BTreeMap<Name, (u64, Instant)>,
}

impl Permits {
    /// With what the configuration in `file` names, which is read when it is asked for.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, seen: None, configured: BTreeMap::new(), registered: BTreeMap::new() }
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Somebody with the right to do so says where this attachment belongs.
    pub(crate) fn register(&mut self, now: Instant, name: Name, cookie: u64) -> Result<(), String> {
        self.registered.retain(|_, (_, since)| now < *since + REGISTERED_FOR);
        if self.registered.len() >= REGISTERED_MAX {
            return Err(format!("{REGISTERED_MAX} registrations wait to be used, the limit"));
        }
        self.registered.insert(name, (cookie, now));
        Ok(())
    }

    /// Whether this attachment may be made in the namespace that the path leads to. A registration
    /// serves once.
    pub(crate) fn allows(&mut self, now: Instant, name: &Name, path: &Path, cookie: u64) -> bool {
        match self.registered.get(name) {
            Some((registered, since)) if *registered == cookie && now < *since + REGISTERED_FOR => {
                self.registered.remove(name);
                return true;
            }
            _ => {}
        }
        // A change within the clock's grain, with the same length, is seen by whoever misses something.
        for anyway in [false, true] {
            if let Err(error) = self.read(anyway) {
                eprintln!("weft-helper: the configuration cannot be read: {error}");
            }
            if self.configured.get(name).is_some_and(|configured| configured == path) {
                return true;
            }
        }
        false
    }

    /// Reads the file if it has changed, or anyway.
    fn read(&mut self, anyway: bool) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let metadata = fs::metadata(file)?;
        let looks = (metadata.modified()?, metadata.len());
        if !anyway && self.seen == Some(looks) {
            return Ok(());
        }
        if metadata.len() > FILE_LEN_MAX {
            return Err(io::Error::other(format!("expected at most {FILE_LEN_MAX} bytes")));
        }
        let text = fs::read_to_string(file)?;
        self.configured = namespaces(&text, file.parent().unwrap_or(Path::new("")))?;
        self.seen = Some(looks);
        Ok(())
    }
}

/// The namespace of every attachment that a configuration names; paths are relative to `base`. It
/// reads every configuration that `weftd` takes.
///
/// # Errors
/// When it is no configuration.
pub fn namespaces(text: &str, base: &Path) -> io::Result<BTreeMap<Name, PathBuf>> {
    let file: File = toml::from_str(text).map_err(io::Error::other)?;
    let mut found = BTreeMap::new();
    for environment in file.environment {
        for Attachment { name, netns } in environment.attachment {
            let name = (environment.id.clone(), name).try_into().map_err(io::Error::other)?;
            found.insert(name, base.join(netns));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        host = "host-a"
        [[environment]]
        id = "acme"
        subnet = "10.40.0.0/16"
          [[environment.attachment]]
          name = "web-1"
          netns = "/run/netns/web1"
          address = "10.40.0.2"
          [[environment.attachment]]
          name = "web-2"
          netns = "web2"
        [[environment]]
        id = "globex"
    "#;

    fn name(attachment: &str) -> Name {
        ("acme".to_owned(), attachment.to_owned()).try_into().unwrap()
    }

    #[test]
    fn what_the_configuration_names_is_allowed_there_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weft.toml");
        fs::write(&file, TEXT).unwrap();
        let mut permits = Permits::new(Some(file.clone()));
        let now = Instant::now();
        let mut allows = |attachment, path: &Path| permits.allows(now, &name(attachment), path, 7);
        assert!(allows("web-1", Path::new("/run/netns/web1")));
        assert!(allows("web-1", Path::new("/run/netns/web1")), "as often as it likes");
        assert!(allows("web-2", &folder.path().join("web2")), "relative to the file");
        assert!(!allows("web-1", Path::new("/run/netns/web2")));
        assert!(!allows("web-3", Path::new("/run/netns/web1")));
        // Another configuration counts from the next question on; a broken one changes nothing.
        fs::write(&file, TEXT.replace("web-1", "web-3")).unwrap();
        assert!(allows("web-3", Path::new("/run/netns/web1")));
        assert!(!allows("web-1", Path::new("/run/netns/web1")));
        fs::write(&file, "[[environment").unwrap();
        assert!(allows("web-3", Path::new("/run/netns/web1")));
        assert!(!Permits::new(None).allows(now, &name("web-1"), Path::new("/run/netns/web1"), 7));
    }

    #[test]
    fn a_registration_is_of_one_namespace_and_serves_once() {
        let mut permits = Permits::new(None);
        let now = Instant::now();
        let path = Path::new("/proc/4711/ns/net");
        permits.register(now, name("web-1"), 7).unwrap();
        assert!(!permits.allows(now, &name("web-1"), path, 8), "another namespace");
        assert!(!permits.allows(now, &name("web-2"), path, 7), "another name");
        assert!(permits.allows(now, &name("web-1"), path, 7));
        assert!(!permits.allows(now, &name("web-1"), path, 7));
        permits.register(now, name("web-1"), 7).unwrap();
        assert!(!permits.allows(now + REGISTERED_FOR, &name("web-1"), path, 7), "too late");
    }

    #[test]
    fn registrations_are_bounded() {
        let mut permits = Permits::new(None);
        let now = Instant::now();
        for i in 0..REGISTERED_MAX {
            permits.register(now, name(&format!("web-{i}")), 7).unwrap();
        }
        assert!(permits.register(now, name("more"), 7).is_err());
        permits.register(now + REGISTERED_FOR, name("more"), 7).unwrap();
    }
}
