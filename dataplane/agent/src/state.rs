//! What a host keeps of its control plane, in a folder of its own.
//!
//! ```text
//!  enrolling   the key with which it asks to be a host, until it is one     sealed
//!  identity    who it is: certificate and key of the installation          sealed
//!  former      who it was before its last renewal, until that has ended    sealed
//!  renewing    the key with which it asks for its next certificate         sealed
//!  answered    which join token it has shown and was answered              sealed
//!  cache       what it has to know, and its certificates of environments   sealed
//!  bindings    which attachments are where on this host
//!  seal.key    the key, if it is kept on the same disk
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use weft_control_api::v1;
use weft_types::{AttachmentName, EnvironmentId, HostId, InstallationId};
use zeroize::Zeroizing;

use crate::{files, join::JoinToken, seal::Seal};

const ENROLLING: &str = "enrolling";
const IDENTITY: &str = "identity";
const FORMER: &str = "former";
const RENEWING: &str = "renewing";
const ANSWERED: &str = "answered";
const CACHE: &str = "cache";
const BINDINGS: &str = "bindings";
const SEAL_KEY: &str = "seal.key";
/// Longest file that is read, bytes: 1,024 environments with all that they may hold are less.
const FILE_LEN_MAX: u64 = 512 << 20;

/// Why something cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system says no.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is another host's.
    #[error("{path}: the identity is {found}'s; expected this host's")]
    OtherHost {
        /// Which file.
        path: PathBuf,
        /// Whose.
        found: HostId,
    },
    /// It was sealed with another key, or is damaged.
    #[error(
        "{0}: cannot be opened with this key; expected the one that sealed it, or an undamaged file"
    )]
    Sealed(PathBuf),
    /// It is not what this version writes.
    #[error("{path}: {cause}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// Who a host is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// Its id.
    pub(crate) host: HostId,
    /// Whose host it is.
    pub(crate) installation: InstallationId,
    /// Its certificate, PEM.
    pub(crate) certificate: String,
    /// Its key, PEM.
    pub(crate) key: Zeroizing<String>,
    /// Certificates of the installation's authority, PEM.
    pub(crate) anchors: Vec<String>,
}

/// A certificate of an environment as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptLeaf {
    pub(crate) environment: EnvironmentId,
    /// PEM.
    pub(crate) certificate: String,
    /// PEM.
    pub(crate) key: Zeroizing<String>,
    /// Certificates of the authority that were trusted when it came, PEM, the one that issued it first.
    pub(crate) anchors: Vec<String>,
    /// When it is to be renewed, seconds since 1970.
    pub(crate) renew: u64,
}

/// What a host knows without its control plane.
pub(crate) struct Cache {
    /// Everything that it has to know, as one answer.
    pub(crate) snapshot: v1::WatchResponse,
    pub(crate) leaves: Vec<KeptLeaf>,
    /// When the control plane was heard of last, seconds since 1970.
    pub(crate) contact: u64,
    /// The version of the daemon that understood it.
    pub(crate) version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFile {
    snapshot: String,
    leaves: Vec<KeptLeaf>,
    contact: u64,
    version: String,
}

/// Where an attachment is on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Binding {
    pub(crate) environment: EnvironmentId,
    pub(crate) name: AttachmentName,
    pub(crate) generation: u64,
    pub(crate) netns: PathBuf,
    pub(crate) interface: String,
}

/// An attachment that ended here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    pub(crate) environment: EnvironmentId,
    pub(crate) name: AttachmentName,
    pub(crate) generation: u64,
}

/// An attachment that the control plane was asked for and did not have. If the answer is lost, what was granted is given
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) environment: EnvironmentId,
    pub(crate) name: AttachmentName,
}

/// What this host has said of its attachments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bindings {
    pub(crate) bindings: Vec<Binding>,
    /// Those that are to be told to the control plane.
    pub(crate) releases: Vec<Release>,
    /// Left out when there is none, as in files of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) asked: Vec<Asked>,
    /// Those that were told, until it is heard that they are not to be here any more. Left out when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ended: Vec<Release>,
}

impl Bindings {
    /// Where an attachment is.
    pub(crate) fn get(
        &self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.environment == *environment && b.name == *name)
    }

    /// Takes an attachment's place away.
    pub(crate) fn remove(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Option<Binding> {
        let is_it = |b: &Binding| b.environment == *environment && b.name == *name;
        let at = self.bindings.iter().position(is_it)?;
        Some(self.bindings.swap_remove(at))
    }

    /// Whether an attachment was asked for and is unanswered.
    pub(crate) fn was_asked(&self, environment: &EnvironmentId, name: &AttachmentName) -> bool {
        self.asked.iter().any(|a| a.environment == *environment && a.name == *name)
    }

    /// The control plane has answered.
    pub(crate) fn answered(&mut self, environment: &EnvironmentId, name: &AttachmentName) {
        self.asked.retain(|a| a.environment != *environment || a.name != *name);
    }
}

/// The folder.
pub struct State {
    folder: PathBuf,
    seal: Seal,
}

impl State {
    /// Keeps things in `folder`, which is there and belongs to the daemon's user.
    #[must_use]
    pub fn new(folder: &Path, seal: Seal) -> Self {
        Self { folder: folder.to_owned(), seal }
    }

    /// Whether a file of this name is one that is made here.
    #[must_use]
    pub fn is_own_file(name: &str) -> bool {
        let name = name.strip_suffix(".new").unwrap_or(name);
        let sealed = [ENROLLING, IDENTITY, FORMER, RENEWING, ANSWERED, CACHE];
        sealed.contains(&name) || [BINDINGS, SEAL_KEY, "seal"].contains(&name)
    }

    /// Where the key is that is kept on the same disk.
    #[must_use]
    pub fn key_file(folder: &Path) -> PathBuf {
        folder.join(SEAL_KEY)
    }

    /// The key, PEM, with which this host asks to be one.
    pub(crate) fn enrolling(&self) -> Result<Option<Zeroizing<String>>, StateError> {
        let Some(plain) = self.open(ENROLLING)? else { return Ok(None) };
        self.parse(ENROLLING, &plain).map(Some)
    }

    pub(crate) fn keep_enrolling(&self, key: &Zeroizing<String>) -> Result<(), StateError> {
        self.keep(ENROLLING, &self.text(ENROLLING, key)?)
    }

    /// It is a host now.
    pub(crate) fn forget_enrolling(&self) {
        // One that stays is that of the identity, sealed as that is.
        let _ = std::fs::remove_file(self.folder.join(ENROLLING));
    }

    /// Who this host is, if it is one.
    pub(crate) fn identity(&self, host: &HostId) -> Result<Option<Identity>, StateError> {
        self.identity_in(IDENTITY, host)
    }

    fn identity_in(&self, name: &str, host: &HostId) -> Result<Option<Identity>, StateError> {
        let Some(plain) = self.open(name)? else { return Ok(None) };
        let identity: Identity = self.parse(name, &plain)?;
        if identity.host != *host {
            let path = self.folder.join(name);
            return Err(StateError::OtherHost { path, found: identity.host });
        }
        Ok(Some(identity))
    }

    pub(crate) fn keep_identity(&self, identity: &Identity) -> Result<(), StateError> {
        self.keep(IDENTITY, &self.text(IDENTITY, identity)?)
    }

    /// Who this host was before its last renewal.
    pub(crate) fn former(&self, host: &HostId) -> Result<Option<Identity>, StateError> {
        self.identity_in(FORMER, host)
    }

    pub(crate) fn keep_former(&self, identity: &Identity) -> Result<(), StateError> {
        self.keep(FORMER, &self.text(FORMER, identity)?)
    }

    /// Nobody is to be that one any more.
    pub(crate) fn forget_former(&self) {
        if let Err(error) = std::fs::remove_file(self.folder.join(FORMER))
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next daemon tries it again.
            tracing::warn!(%error, "the identity of before cannot be destroyed");
        }
    }

    /// Whether this host has shown a join token and was answered: it is no use any more.
    pub(crate) fn was_answered(&self, token: &JoinToken) -> bool {
        let answered: Result<Option<String>, StateError> = self
            .open(ANSWERED)
            .and_then(|plain| plain.map(|plain| self.parse(ANSWERED, &plain)).transpose());
        // Where that cannot be read the control plane says so again.
        answered.is_ok_and(|answered| answered == Some(token.fingerprint()))
    }

    pub(crate) fn keep_answered(&self, token: &JoinToken) -> Result<(), StateError> {
        self.keep(ANSWERED, &self.text(ANSWERED, &token.fingerprint())?)
    }

    /// The key, PEM, with which this host asks for its next certificate.
    pub(crate) fn renewing(&self) -> Result<Option<Zeroizing<String>>, StateError> {
        let Some(plain) = self.open(RENEWING)? else { return Ok(None) };
        self.parse(RENEWING, &plain).map(Some)
    }

    pub(crate) fn keep_renewing(&self, key: &Zeroizing<String>) -> Result<(), StateError> {
        self.keep(RENEWING, &self.text(RENEWING, key)?)
    }

    /// It is that of the identity now, or of no use.
    pub(crate) fn forget_renewing(&self) {
        // One that stays is seen to be the present one, or asks for the certificate after this.
        let _ = std::fs::remove_file(self.folder.join(RENEWING));
    }

    pub(crate) fn cache(&self) -> Result<Option<Cache>, StateError> {
        let Some(plain) = self.open(CACHE)? else { return Ok(None) };
        let file: CacheFile = self.parse(CACHE, &plain)?;
        let malformed = |cause: String| StateError::Form { path: self.folder.join(CACHE), cause };
        let snapshot = BASE64.decode(file.snapshot.as_bytes());
        let snapshot = snapshot.map_err(|error| malformed(error.to_string()))?;
        let snapshot = v1::WatchResponse::decode(&*snapshot);
        let snapshot = snapshot.map_err(|error| malformed(error.to_string()))?;
        let CacheFile { leaves, contact, version, .. } = file;
        Ok(Some(Cache { snapshot, leaves, contact, version }))
    }

    pub(crate) fn keep_cache(&self, cache: &Cache) -> Result<(), StateError> {
        let snapshot = BASE64.encode(&cache.snapshot.encode_to_vec());
        let (leaves, version) = (cache.leaves.clone(), cache.version.clone());
        let file = CacheFile { snapshot, leaves, contact: cache.contact, version };
        self.keep(CACHE, &self.text(CACHE, &file)?)
    }

    pub(crate) fn bindings(&self) -> Result<Bindings, StateError> {
        let path = self.folder.join(BINDINGS);
        match files::read(&path, FILE_LEN_MAX).map_err(|cause| self.bindings_error(cause))? {
            None => Ok(Bindings::default()),
            Some(text) => self.parse(BINDINGS, &text),
        }
    }

    pub(crate) fn keep_bindings(&self, bindings: &Bindings) -> Result<(), StateError> {
        let path = self.folder.join(BINDINGS);
        let text = self.text(BINDINGS, bindings)?;
        files::write(&path, &text).map_err(|cause| self.bindings_error(cause))
    }

    pub(crate) fn bindings_error(&self, cause: io::Error) -> StateError {
        StateError::File { path: self.folder.join(BINDINGS), cause }
    }

    fn text<T: Serialize>(&self, name: &str, value: &T) -> Result<Zeroizing<Vec<u8>>, StateError> {
        let text = serde_json::to_vec(value).map_err(|error| StateError::Form {
            path: self.folder.join(name),
            cause: error.to_string(),
        })?;
        Ok(Zeroizing::new(text))
    }

    fn parse<T: for<'a> Deserialize<'a>>(&self, name: &str, text: &[u8]) -> Result<T, StateError> {
        serde_json::from_slice(text).map_err(|error| StateError::Form {
            path: self.folder.join(name),
            // The library's sentence may repeat what is there.
            cause: format!(
                "line {}, column {}: not what weftd writes",
                error.line(),
                error.column()
            ),
        })
    }

    fn open(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.folder.join(name);
        let read = files::read(&path, FILE_LEN_MAX);
        let Some(sealed) = read.map_err(|cause| StateError::File { path: path.clone(), cause })?
        else {
            return Ok(None);
        };
        self.seal.open(name, &sealed).map(Some).ok_or(StateError::Sealed(path))
    }

    fn keep(&self, name: &str, plain: &[u8]) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let sealed = self.seal.seal(name, plain);
        sealed
            .and_then(|sealed| files::write(&path, &sealed))
            .map_err(|cause| StateError::File { path, cause })
    }
}

#[cfg(test)]
mod tests {
    use weft_dns::Outside;

    use super::*;
    use crate::documents::Documents;

    fn state(folder: &Path) -> State {
        State::new(folder, Seal::beside(&State::key_file(folder)).unwrap())
    }

    fn host() -> HostId {
        "host-a".parse().unwrap()
    }

    fn identity() -> Identity {
        Identity {
            host: "host-a".parse().unwrap(),
            installation: "weft".parse().unwrap(),
            certificate: "a certificate".to_owned(),
            key: Zeroizing::new("a canary of a key".to_owned()),
            anchors: vec!["an anchor".to_owned()],
        }
    }

    #[test]
    fn what_is_kept_is_found_again_and_not_readable() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        assert!(state.identity(&host()).unwrap().is_none() && state.cache().unwrap().is_none());
        assert_eq!(state.bindings().unwrap(), Bindings::default());
        state.keep_identity(&identity()).unwrap();
        assert_eq!(state.identity(&host()).unwrap().unwrap().certificate, "a certificate");
        let snapshot = v1::WatchResponse { revision: 7, is_snapshot: true, ..Default::default() };
        let leaf = KeptLeaf {
            environment: "acme".parse().unwrap(),
            certificate: String::new(),
            key: Zeroizing::new("a canary of a key".to_owned()),
            anchors: Vec::new(),
            renew: 5,
        };
        state
            .keep_cache(&Cache {
                snapshot,
                leaves: vec![leaf],
                contact: 3,
                version: "1".to_owned(),
            })
            .unwrap();
        let cache = state.cache().unwrap().unwrap();
        assert_eq!((cache.snapshot.revision, cache.leaves.len(), cache.contact), (7, 1, 3));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let shows = bytes.windows(8).any(|part| part == b"a canary");
            assert!(!shows, "{}", path.display());
        }
    }

    /// As it was written before environments said anything of other names.
    #[test]
    fn a_cache_of_before_opens_and_refuses_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        let old: &[u8] = b"\x08\x07\x10\x01\x1a\x25\x0a\x23\
            \x0a\x04acme\x12\x0c10.40.0.0/24\x2a\x09an anchor\x30\x80\xa3\x05";
        let text = format!(
            r#"{{"snapshot":"{}","leaves":[],"contact":3,"version":"0.1.0"}}"#,
            BASE64.encode(old)
        );
        state.keep(CACHE, text.as_bytes()).unwrap();
        let cache = state.cache().unwrap().unwrap();
        let mut documents = Documents::default();
        assert_eq!(documents.take(cache.snapshot), Some(vec![]));
        let acme = &documents.environments()[&"acme".parse::<EnvironmentId>().unwrap()];
        assert_eq!((documents.revision(), acme.settings.subnets.len()), (7, 1));
        assert_eq!(acme.settings.outside, Outside::Refuse);
        assert_eq!(documents.snapshot().encode_to_vec(), old, "and is written as it was");
    }

    #[test]
    fn what_another_key_sealed_is_said_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        state(folder.path()).keep_identity(&identity()).unwrap();
        std::fs::remove_file(State::key_file(folder.path())).unwrap();
        let other = state(folder.path());
        assert!(matches!(other.identity(&host()), Err(StateError::Sealed(_))));
        assert!(folder.path().join(IDENTITY).exists());
    }

    #[test]
    fn places_of_attachments_are_found_by_both_names() {
        let binding = |environment: &str, name: &str| Binding {
            environment: environment.parse().unwrap(),
            name: name.parse().unwrap(),
            generation: 1,
            netns: "/run/netns/web".into(),
            interface: "weft0".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        let all = vec![binding("acme", "web"), binding("beta", "web"), binding("acme", "db")];
        let mut bindings = Bindings { bindings: all, ..Bindings::default() };
        state.keep_bindings(&bindings).unwrap();
        assert_eq!(state.bindings().unwrap(), bindings);
        let (beta, web) = ("beta".parse().unwrap(), "web".parse().unwrap());
        assert_eq!(bindings.get(&beta, &web), Some(&binding("beta", "web")));
        assert_eq!(bindings.remove(&beta, &web), Some(binding("beta", "web")));
        assert_eq!(bindings.remove(&beta, &web), None);
        assert_eq!(bindings.bindings.len(), 2);
    }
}
