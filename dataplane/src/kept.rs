//! What the local API made and the configuration does not know, so that the next daemon knows it.
//!
//! One file for each attachment and peer, with the request that would make it, in a folder beside the
//! API's socket: a restart of the host forgets them, as it forgets the containers.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, lchown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use prost::Message as _;
use rustix::process::geteuid;
use weft_api::v1;
use weft_config::Account;
use weft_helper::state_beside;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use crate::{
    api::request,
    model::{AttachSpec, PeerSpec},
};

/// Only the daemon reads and writes there.
const FOLDER_MODE: u32 = 0o700;
/// Ends the name of a file that is still being written.
const UNFINISHED: &str = ".new";
const ATTACHMENT: &str = "attachment";
const PEER: &str = "peer";
const TIME: &str = "time";

/// One thing that was kept.
#[derive(Debug, PartialEq, Eq)]
pub enum Thing {
    /// An attachment of an environment.
    Attachment(EnvironmentId, AttachSpec),
    /// A peer of an environment.
    Peer(EnvironmentId, PeerSpec),
}

impl Thing {
    /// Reads what [`Thing::encode`] wrote; `kind` is how the file's name ends.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn parse(kind: &str, bytes: &[u8]) -> Result<Self, String> {
        let malformed = |error: prost::DecodeError| error.to_string();
        let refused = |status: tonic::Status| status.message().to_owned();
        match kind {
            ATTACHMENT => {
                let request = v1::AttachRequest::decode(bytes).map_err(malformed)?;
                let (environment, spec) = request::attach(request).map_err(refused)?;
                Ok(Self::Attachment(environment, spec))
            }
            PEER => {
                let request = v1::AddPeerRequest::decode(bytes).map_err(malformed)?;
                let (environment, spec) = request::add_peer(&request).map_err(refused)?;
                Ok(Self::Peer(environment, spec))
            }
            _ => Err("expected the name of an attachment or a peer".to_owned()),
        }
    }

    /// The end of the file's name, and what is in it.
    #[must_use]
    pub fn encode(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Attachment(environment, spec) => (ATTACHMENT, attachment(environment, spec)),
            Self::Peer(environment, spec) => (PEER, peer(environment, spec)),
        }
    }
}

/// The folder.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Makes the folder beside the API's socket if it is missing, and gives it to the user that the daemon
    /// becomes, or to root.
    ///
    /// # Errors
    /// When the operating system refuses, or the user does not reach it.
    pub fn open(socket: &Path, user: Option<&Account>) -> anyhow::Result<Self> {
        let kept = Self { folder: state_beside(socket) };
        let folder = kept.folder.display();
        private_folder(&kept.folder, user)
            .with_context(|| format!("cannot make the folder {folder}"))?;
        if let Some(user) = user {
            let reached = user.run(|| fs::read_dir(&kept.folder)).and_then(|reached| reached);
            reached.with_context(|| {
                format!("user {user} does not reach {folder}; expected a way to it for everybody")
            })?;
        }
        Ok(kept)
    }

    /// All that is kept. What cannot be read is said and removed.
    pub(crate) fn load(&self) -> Vec<Thing> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == TIME) {
                continue;
            }
            match read(&path) {
                Ok(thing) => found.push(thing),
                Err(error) => {
                    tracing::warn!(path = %path.display(), error, "kept file is no use, removed");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        found
    }

    /// Keeps an attachment.
    pub(crate) fn attachment(
        &self,
        environment: &EnvironmentId,
        spec: &AttachSpec,
    ) -> io::Result<()> {
        self.write(&self.attachment_file(environment, &spec.name), &attachment(environment, spec))
    }

    /// Keeps a peer.
    pub(crate) fn peer(&self, environment: &EnvironmentId, spec: &PeerSpec) -> io::Result<()> {
        self.write(&self.peer_file(environment, &spec.host), &peer(environment, spec))
    }

    /// Keeps what is known of the time in an environment.
    pub(crate) fn time(&self, environment: &EnvironmentId, known: SystemTime) -> io::Result<()> {
        let seconds = known.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.write(&self.time_file(environment), seconds.to_string().as_bytes())
    }

    /// What was known of the time in an environment.
    pub(crate) fn known_time(&self, environment: &EnvironmentId) -> Option<SystemTime> {
        let text = fs::read_to_string(self.time_file(environment)).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok()?))
    }

    /// Forgets an attachment; one that was not kept is forgotten already.
    pub(crate) fn forget_attachment(&self, environment: &EnvironmentId, name: &AttachmentName) {
        remove(&self.attachment_file(environment, name));
    }

    /// Forgets a peer; one that was not kept is forgotten already.
    pub(crate) fn forget_peer(&self, environment: &EnvironmentId, host: &HostId) {
        remove(&self.peer_file(environment, host));
    }

    /// Forgets everything. The empty folder is the helper's to remove.
    pub(crate) fn clear(&self) {
        let forget = || fs::read_dir(&self.folder)?.try_for_each(|e| fs::remove_file(e?.path()));
        if let Err(error) = forget() {
            tracing::warn!(%error, "what the local API made may come back");
        }
    }

    fn time_file(&self, environment: &EnvironmentId) -> PathBuf {
        self.folder.join(format!("{environment}.{TIME}"))
    }

    fn attachment_file(&self, environment: &EnvironmentId, name: &AttachmentName) -> PathBuf {
        self.folder.join(format!("{environment}.{name}.{ATTACHMENT}"))
    }

    fn peer_file(&self, environment: &EnvironmentId, host: &HostId) -> PathBuf {
        self.folder.join(format!("{environment}.{host}.{PEER}"))
    }

    /// The file is there whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let written = File::create(&unfinished)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            remove(Path::new(&unfinished));
        }
        written
    }
}

/// Makes a folder for the daemon alone if it is missing, and gives it with what is in it to the user that the daemon
/// becomes, or to root.
///
/// # Errors
/// When the operating system refuses.
pub fn private_folder(folder: &Path, user: Option<&Account>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let (uid, gid) = user.map_or((0, 0), |user| (user.uid(), user.gid()));
    if geteuid().is_root() { give_to(folder, uid, gid) } else { Ok(()) }
}

/// Gives a folder and what is in it to a user.
fn give_to(folder: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if (found.uid(), found.gid()) == (uid, gid) {
        return Ok(());
    }
    // Whoever had it can change nothing from now on.
    lchown(folder, Some(0), Some(0))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = fs::symlink_metadata(&path)?;
        // What has another name elsewhere may be something else than it looks.
        if found.is_file() && found.nlink() == 1 {
            lchown(&path, Some(uid), Some(gid))?;
        } else if !found.is_dir() {
            fs::remove_file(&path)?;
        }
    }
    lchown(folder, Some(uid), Some(gid))
}

fn attachment(environment: &EnvironmentId, spec: &AttachSpec) -> Vec<u8> {
    let request = v1::AttachRequest {
        environment: environment.to_string(),
        name: spec.name.to_string(),
        netns: spec.netns.to_string_lossy().into_owned(),
        interface: spec.interface.clone(),
        addresses: spec.addresses.iter().map(ToString::to_string).collect(),
        share: Some(v1::Share {
            weight: spec.share.weight.into(),
            egress_mbit_max: spec.share.egress_mbit_max.unwrap_or(0),
        }),
    };
    request.encode_to_vec()
}

fn peer(environment: &EnvironmentId, spec: &PeerSpec) -> Vec<u8> {
    let seconds = spec.keepalive.map_or(0, |keepalive| keepalive.as_secs());
    let request = v1::AddPeerRequest {
        environment: environment.to_string(),
        host: spec.host.to_string(),
        endpoint: spec.endpoint.to_string(),
        alternative_endpoints: spec.alternatives.iter().map(ToString::to_string).collect(),
        addresses: spec.addresses.iter().map(ToString::to_string).collect(),
        keepalive_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
    };
    request.encode_to_vec()
}

fn read(path: &Path) -> Result<Thing, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let kind = path.extension().and_then(|extension| extension.to_str());
    Thing::parse(kind.unwrap_or_default(), &bytes)
}

fn remove(path: &Path) {
    // What stays is found to be in the way, and said, at the next start.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> AttachSpec {
        AttachSpec {
            name: "web-1".parse().unwrap(),
            netns: "/run/netns/web1".into(),
            interface: "weft0".into(),
            addresses: vec!["10.40.0.2".parse().unwrap(), "fd40::2".parse().unwrap()],
            share: weft_config::Share { weight: 300, egress_mbit_max: Some(20) },
        }
    }

    fn peer() -> PeerSpec {
        PeerSpec {
            host: "host-b".parse().unwrap(),
            endpoint: "192.0.2.2:5820".parse().unwrap(),
            alternatives: vec!["192.0.2.3:5820".parse().unwrap()],
            addresses: vec!["10.40.0.3".parse().unwrap()],
            keepalive: Some(Duration::from_secs(25)),
        }
    }

    #[test]
    fn what_is_kept_is_loaded_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(&folder.path().join("weftd.sock"), None).unwrap();
        assert!(kept.load().is_empty());
        let environment: EnvironmentId = "acme".parse().unwrap();
        kept.attachment(&environment, &attachment()).unwrap();
        kept.peer(&environment, &peer()).unwrap();
        let mut found = kept.load();
        found.sort_by_key(|thing| matches!(thing, Thing::Peer(..)));
        let expected = [
            Thing::Attachment(environment.clone(), attachment()),
            Thing::Peer(environment.clone(), peer()),
        ];
        assert_eq!(found, expected);
        kept.forget_attachment(&environment, &attachment().name);
        kept.forget_peer(&environment, &peer().host);
        assert!(kept.load().is_empty());
        kept.peer(&environment, &peer()).unwrap();
        kept.clear();
        assert_eq!(
            fs::read_dir(state_beside(&folder.path().join("weftd.sock"))).unwrap().count(),
            0
        );
    }

    /// Needs root.
    #[test]
    fn the_folder_goes_from_one_user_to_another_with_what_is_of_use() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(&folder.path().join("weftd.sock"), None).unwrap();
        let environment: EnvironmentId = "acme".parse().unwrap();
        kept.peer(&environment, &peer()).unwrap();
        let (foreign, linked) = (folder.path().join("foreign"), folder.path().join("linked"));
        fs::write(&foreign, "").unwrap();
        fs::write(&linked, "").unwrap();
        let state = folder.path().join("weftd.sock.state");
        for (uid, gid) in [(65_534, 65_533), (1, 2), (0, 0)] {
            std::os::unix::fs::symlink(&foreign, state.join("acme.a.peer")).unwrap();
            fs::hard_link(&linked, state.join("acme.b.peer")).unwrap();
            give_to(&kept.folder, uid, gid).unwrap();
            let owner = |path: &Path| {
                let found = fs::symlink_metadata(path).unwrap();
                (found.uid(), found.gid())
            };
            assert_eq!(owner(&state), (uid, gid));
            assert_eq!(owner(&state.join("acme.host-b.peer")), (uid, gid));
            assert_eq!((owner(&foreign), owner(&linked)), ((0, 0), (0, 0)));
            assert_eq!(kept.load(), [Thing::Peer(environment.clone(), peer())]);
            assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_cannot_be_read_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(&folder.path().join("weftd.sock"), None).unwrap();
        let environment: EnvironmentId = "acme".parse().unwrap();
        kept.peer(&environment, &peer()).unwrap();
        let state = folder.path().join("weftd.sock.state");
        fs::write(state.join("acme.web-1.attachment"), b"\xff").unwrap();
        fs::write(state.join("acme.web-2.attachment.new"), b"").unwrap();
        fs::write(state.join("acme.web-3.attachment"), b"").unwrap();
        assert_eq!(kept.load(), [Thing::Peer(environment, peer())]);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        let environment: EnvironmentId = "acme".parse().unwrap();
        let known = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        kept.time(&environment, known).unwrap();
        assert_eq!(kept.load().len(), 1, "the time is not taken for something else");
        assert_eq!(kept.known_time(&environment), Some(known));
        fs::write(state.join("acme.time"), "soon").unwrap();
        assert_eq!(kept.known_time(&environment), None);
    }
}
