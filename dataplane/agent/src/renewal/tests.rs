//! A host that stops wherever it may, beside what its control plane decides.

use std::{fs, path::Path, time::SystemTime};

use tempfile::TempDir;
use weft_model::record::{Capacity, Host, HostKey, HostState, Place, UnixMs};
use weft_pki::{
    KeyKind, SigningRequest,
    installation::{self, HOST_DAYS, InstallationAuthority, Member},
    issue::{self, AUTHORITY_DAYS, Validity},
};
use weft_types::HostId;

use super::*;
use crate::seal::Seal;

/// What the control plane knows of the host, and what it issues.
pub(crate) struct Plane {
    authority: InstallationAuthority,
    anchor: String,
    pub(crate) host: Host,
}

fn hash(request: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&SigningRequest::from_der(request).unwrap().key_hash())
}

/// The key of an identity, as the control plane has it.
pub(crate) fn own(identity: &Identity) -> String {
    hash(&request::for_key(&identity.key).unwrap().request)
}

pub(crate) fn id() -> HostId {
    "host-a".parse().unwrap()
}

impl Plane {
    /// With a host that has just joined.
    fn new(installation: &str) -> (Self, Identity) {
        let now = SystemTime::now();
        let validity = Validity::days(now, issue::AUTHORITY_BACKDATE, AUTHORITY_DAYS);
        let name = installation.parse().unwrap();
        let made = installation::new_authority(&name, validity, KeyKind::EcdsaP256).unwrap();
        let (certificate, key) = (made.certificate_pem.as_bytes(), made.key_pem.as_bytes());
        let authority = InstallationAuthority::from_pem(certificate, key).unwrap();
        let key = enrol::new_key().unwrap();
        let host = Host {
            id: id(),
            state: HostState::Active,
            place: Place::default(),
            labels: [].into(),
            endpoints: Vec::new(),
            capacity: Capacity::default(),
            key_hash: hash(&key.request),
            next_key_hash: None,
            created: UnixMs(0),
        };
        let plane = Self { authority, anchor: made.certificate_pem.clone(), host };
        let v1::RenewHostCertificateResponse { certificate, anchors } =
            plane.issue(&id(), &key.request);
        let identity = enrol::judged(&id(), &key, certificate, anchors).unwrap();
        (plane, identity)
    }

    fn issue(&self, host: &HostId, request: &[u8]) -> v1::RenewHostCertificateResponse {
        let key = SigningRequest::from_der(request).unwrap();
        let validity = Validity::days(SystemTime::now(), issue::HOST_BACKDATE, HOST_DAYS);
        let issued = self.authority.issue(&Member::Host(host.clone()), &key, validity, &[]);
        let anchors = vec![self.anchor.clone()];
        v1::RenewHostCertificateResponse { certificate: issued.unwrap(), anchors }
    }

    pub(crate) fn renew(
        &mut self,
        shown: &Identity,
        request: &[u8],
    ) -> v1::RenewHostCertificateResponse {
        self.host = self.host.renewed(&own(shown), &hash(request)).unwrap();
        self.issue(&id(), request)
    }

    pub(crate) fn admits(&self, shown: &Identity) -> Option<HostKey> {
        self.host.admits(&own(shown))
    }

    pub(crate) fn called(&mut self, shown: &Identity) {
        self.host = self.host.used(&own(shown)).unwrap();
    }
}

pub(crate) fn state(folder: &Path) -> State {
    State::new(folder, Seal::beside(&State::key_file(folder)).unwrap())
}

/// A control plane, a host that has joined, and its folder.
pub(crate) fn joined() -> (Plane, Identity, TempDir) {
    let (plane, first) = Plane::new("weft");
    let folder = tempfile::tempdir().unwrap();
    state(folder.path()).keep_identity(&first).unwrap();
    (plane, first, folder)
}

/// Where a machine loses its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    WhileTheKeyIsKept,
    BeforeItIsAskedFor,
    BeforeTheAnswer,
    WhileTheFormerOneIsKept,
    WhileTheIdentityIsKept,
    BeforeTheKeyIsForgotten,
    BeforeItIsUsed,
}

impl Stop {
    pub(crate) const ALL: [Self; 7] = [
        Self::WhileTheKeyIsKept,
        Self::BeforeItIsAskedFor,
        Self::BeforeTheAnswer,
        Self::WhileTheFormerOneIsKept,
        Self::WhileTheIdentityIsKept,
        Self::BeforeTheKeyIsForgotten,
        Self::BeforeItIsUsed,
    ];
}

#[test]
fn wherever_a_host_stops_what_it_finds_is_let_in_and_goes_on() {
    for stop in Stop::ALL {
        let (mut plane, first, folder) = joined();
        let before = stop_at(stop, &mut plane, &first, folder.path());

        // It begins again.
        let state = state(folder.path());
        let found = state.identity(&id()).unwrap().unwrap();
        let is_new = stop >= Stop::BeforeTheKeyIsForgotten;
        assert_eq!(own(&found) != own(&first), is_new, "{stop:?}");
        let expected = if is_new { HostKey::Next } else { HostKey::Present };
        assert_eq!(plane.admits(&found), Some(expected), "{stop:?}");
        plane.called(&found);
        assert_eq!(plane.admits(&first).is_some(), !is_new, "{stop:?}");

        // Its next renewal is with the key that it has asked with before, if it may have been granted, and comes to its end.
        let key = next_key(&state, &found).unwrap();
        let goes_on = (Stop::BeforeItIsAskedFor..=Stop::WhileTheIdentityIsKept).contains(&stop);
        assert_eq!(Some(hash(&key.request)) == before, goes_on, "{stop:?}");
        assert_ne!(hash(&key.request), own(&found), "{stop:?}");
        let answer = plane.renew(&found, &key.request);
        let renewed = install(&state, &found, &key, answer).unwrap();
        plane.called(&renewed);
        assert_eq!((plane.admits(&first), plane.admits(&found)), (None, None), "{stop:?}");
        assert_eq!(own(&state.identity(&id()).unwrap().unwrap()), own(&renewed));
        assert!(state.renewing().unwrap().is_none(), "{stop:?}");
    }
}

/// Leaves the folder as it is when a machine stops there; the key that is on the way, if there is one.
pub(crate) fn stop_at(
    stop: Stop,
    plane: &mut Plane,
    first: &Identity,
    folder: &Path,
) -> Option<String> {
    let (state, half) = (state(folder), b"half a fi");
    if stop == Stop::WhileTheKeyIsKept {
        fs::write(folder.join("renewing.new"), half).unwrap();
        return None;
    }
    let key = next_key(&state, first).unwrap();
    let kept = fs::read(folder.join("renewing")).unwrap();
    let on_the_way = Some(hash(&key.request));
    if stop == Stop::BeforeItIsAskedFor {
        return on_the_way;
    }
    let answer = plane.renew(first, &key.request);
    if stop == Stop::WhileTheFormerOneIsKept {
        fs::write(folder.join("former.new"), half).unwrap();
    }
    if stop == Stop::WhileTheIdentityIsKept {
        state.keep_former(first).unwrap();
        fs::write(folder.join("identity.new"), half).unwrap();
    }
    if stop < Stop::BeforeTheKeyIsForgotten {
        return on_the_way;
    }
    install(&state, first, &key, answer).unwrap();
    if stop == Stop::BeforeTheKeyIsForgotten {
        fs::write(folder.join("renewing"), kept).unwrap();
    }
    on_the_way
}

/// What is on the way in both files: nothing is asked, or given up, that could not be kept.
#[test]
fn what_cannot_be_kept_leaves_everything_as_it_was() {
    let (mut plane, first, folder) = joined();
    let state = state(folder.path());
    let in_the_way = folder.path().join("renewing.new");
    fs::create_dir(&in_the_way).unwrap();
    let unkept = next_key(&state, &first).err().unwrap();
    assert!(matches!(unkept, RenewError::State(StateError::File { .. })), "{unkept}");
    fs::remove_dir(in_the_way).unwrap();

    let key = next_key(&state, &first).unwrap();
    for unkept_file in ["former.new", "identity.new"] {
        let answer = plane.renew(&first, &key.request);
        let in_the_way = folder.path().join(unkept_file);
        fs::create_dir(&in_the_way).unwrap();
        let unkept = install(&state, &first, &key, answer).err().unwrap();
        assert!(matches!(unkept, RenewError::State(StateError::File { .. })), "{unkept}");
        assert_eq!(own(&state.identity(&id()).unwrap().unwrap()), own(&first));
        fs::remove_dir(in_the_way).unwrap();
    }
    let again = next_key(&state, &first).unwrap();
    assert_eq!(hash(&again.request), hash(&key.request));
}

#[test]
fn an_answer_that_is_of_no_use_changes_nothing() {
    let (plane, first, folder) = joined();
    let (other, _) = Plane::new("other");
    let state = state(folder.path());
    let key = next_key(&state, &first).unwrap();
    let another = enrol::new_key().unwrap();
    let garbage = v1::RenewHostCertificateResponse {
        certificate: "garbage".to_owned(),
        anchors: vec![plane.anchor.clone()],
    };
    let cases = [
        ("nothing", v1::RenewHostCertificateResponse::default()),
        ("garbage", garbage),
        ("another key's", plane.issue(&id(), &another.request)),
        ("another host's", plane.issue(&"host-b".parse().unwrap(), &key.request)),
        ("another installation's", other.issue(&id(), &key.request)),
    ];
    for (what, answer) in cases {
        assert!(install(&state, &first, &key, answer).is_err(), "{what}");
        assert_eq!(own(&state.identity(&id()).unwrap().unwrap()), own(&first), "{what}");
        assert!(state.renewing().unwrap().is_some(), "{what}");
    }
    install(&state, &first, &key, plane.issue(&id(), &key.request)).unwrap();
}

#[test]
fn a_key_that_is_damaged_is_replaced() {
    let (_, first, folder) = joined();
    let state = state(folder.path());
    let key = next_key(&state, &first).unwrap();
    fs::write(folder.path().join("renewing"), b"damaged").unwrap();
    let other = next_key(&state, &first).unwrap();
    assert_ne!(hash(&other.request), hash(&key.request));
    assert_eq!(hash(&next_key(&state, &first).unwrap().request), hash(&other.request));
}

#[test]
fn the_next_key_and_the_former_are_kept_as_the_present_one_is() {
    use std::os::unix::fs::PermissionsExt;

    let (_, first, folder) = joined();
    let state = state(folder.path());
    next_key(&state, &first).unwrap();
    state.keep_former(&first).unwrap();
    for name in ["renewing", "former"] {
        let path = folder.path().join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        let kept = fs::read(&path).unwrap();
        assert!(!kept.windows(7).any(|part| part == b"PRIVATE"), "{name} is sealed");
        assert!(State::is_own_file(name) && State::is_own_file(&format!("{name}.new")), "{name}");
    }
}
