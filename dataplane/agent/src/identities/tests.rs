//! A host whose control plane knows less than it did.

use std::{fs, path::Path};

use weft_model::record::HostKey;

use super::*;
use crate::{
    renewal::{
        install, next_key,
        tests::{Plane, Stop, id, joined, own, state, stop_at},
    },
    state::State,
};

fn open(state: &State) -> Identities {
    Identities::open(state, &id(), SystemTime::now()).unwrap()
}

/// With the renewal of a host that has joined; what the control plane knew before.
fn renewed() -> (Plane, Identity, tempfile::TempDir) {
    let (mut plane, first, folder) = joined();
    let copy = plane.host.clone();
    stop_at(Stop::BeforeItIsUsed, &mut plane, &first, folder.path());
    let renewed = state(folder.path()).identity(&id()).unwrap().unwrap();
    plane.called(&renewed);
    assert_eq!(plane.admits(&first), None, "who knows the newer key takes no former one");
    plane.host = copy;
    (plane, first, folder)
}

/// What a daemon that begins there shows and is let in with.
fn let_in(plane: &Plane, folder: &Path) -> (Identities, Identity) {
    let mut identities = open(&state(folder));
    let present = identities.present.clone().unwrap();
    if plane.admits(&present).is_some() {
        return (identities, present);
    }
    let Fallback::Former(former) = identities.fallback(Instant::now()) else {
        panic!("nothing to fall back to")
    };
    assert!(plane.admits(&former).is_some());
    identities.former_is_accepted(Instant::now());
    assert_eq!(own(identities.shown().unwrap()), own(&former));
    (identities, *former)
}

/// Renews with what the host is let in with, after which nothing of before counts.
fn comes_to_its_end(plane: &mut Plane, folder: &Path, before: &[&Identity], what: &str) {
    let state = state(folder);
    let (mut identities, shown) = let_in(plane, folder);
    plane.called(&shown);
    let present = identities.present.clone().unwrap();
    let key = next_key(&state, &shown).unwrap();
    let answer = plane.renew(&shown, &key.request);
    let renewed = install(&state, &shown, &key, answer).unwrap();
    identities.renewed(renewed.clone());
    assert_eq!(own(identities.shown().unwrap()), own(&renewed), "{what}");
    assert_eq!(plane.admits(&renewed), Some(HostKey::Next), "{what}");
    plane.called(&renewed);
    for old in before.iter().copied().chain([&present, &shown]) {
        assert!(own(old) == own(&renewed) || plane.admits(old).is_none(), "{what}");
    }
    let kept = open(&state);
    assert_eq!(own(&kept.present.unwrap()), own(&renewed), "{what}");
    assert_eq!(own(&kept.former.unwrap().identity), own(&shown), "{what}");
}

#[test]
fn wherever_a_host_stops_a_control_plane_of_before_lets_it_in() {
    for stop in Stop::ALL {
        let (mut plane, first, folder) = joined();
        let copy = plane.host.clone();
        stop_at(stop, &mut plane, &first, folder.path());
        plane.host = copy;
        let (_, shown) = let_in(&plane, folder.path());
        assert_eq!(own(&shown), own(&first), "{stop:?}");
        comes_to_its_end(&mut plane, folder.path(), &[&first], &format!("{stop:?}"));
    }
}

#[test]
fn wherever_it_stops_while_it_renews_with_the_former_one_it_is_let_in() {
    for stop in Stop::ALL {
        let (mut plane, first, folder) = renewed();
        let (_, shown) = let_in(&plane, folder.path());
        assert_eq!(own(&shown), own(&first));
        stop_at(stop, &mut plane, &shown, folder.path());
        comes_to_its_end(&mut plane, folder.path(), &[&first], &format!("{stop:?}"));
    }
}

#[test]
fn the_former_one_is_destroyed_when_its_certificate_has_ended() {
    let (_, first, folder) = renewed();
    let (state, file) = (state(folder.path()), folder.path().join("former"));
    let end = enrol::end(&first).unwrap();
    let mut identities = open(&state);
    identities.destroy_ended(&state, end - Duration::from_secs(1));
    assert!(matches!(identities.fallback(Instant::now()), Fallback::Former(_)) && file.exists());
    identities.destroy_ended(&state, end);
    assert!(matches!(identities.fallback(Instant::now()), Fallback::Nothing) && !file.exists());
    // So it is by a daemon that begins after that.
    state.keep_former(&first).unwrap();
    let identities = Identities::open(&state, &id(), end).unwrap();
    assert!(matches!(identities.fallback(Instant::now()), Fallback::Nothing) && !file.exists());
}

#[test]
fn a_former_one_that_is_of_no_use_is_destroyed() {
    let (_, first, folder) = renewed();
    let (state, file) = (state(folder.path()), folder.path().join("former"));
    let present = state.identity(&id()).unwrap().unwrap();
    let unread = Identity { certificate: "garbage".to_owned(), ..first.clone() };
    let anothers = Identity { host: "host-b".parse().unwrap(), ..first };
    for (what, kept) in [("present", &present), ("unread", &unread), ("another's", &anothers)] {
        state.keep_former(kept).unwrap();
        let identities = open(&state);
        assert!(matches!(identities.fallback(Instant::now()), Fallback::Nothing), "{what}");
        assert!(!file.exists(), "{what}");
    }
    fs::write(&file, b"damaged").unwrap();
    assert!(open(&state).former.is_none() && !file.exists());
}

#[test]
fn a_former_one_that_was_accepted_waits_until_it_is_shown_again() {
    let (_, first, folder) = renewed();
    let state = state(folder.path());
    let (mut identities, now) = (open(&state), Instant::now());
    identities.former_is_accepted(now);
    identities.renewed(first);
    let before = now + FORMER_PAUSE.saturating_sub(Duration::from_millis(1));
    assert!(matches!(identities.fallback(before), Fallback::Waits));
    assert!(matches!(identities.fallback(now + FORMER_PAUSE), Fallback::Former(_)));
}

#[test]
fn who_joins_has_no_former_one() {
    let (_, first, folder) = renewed();
    let mut identities = open(&state(folder.path()));
    identities.former_is_accepted(Instant::now());
    identities.joined(first.clone());
    assert!(matches!(identities.fallback(Instant::now()), Fallback::Nothing));
    assert_eq!(own(identities.shown().unwrap()), own(&first));
}
