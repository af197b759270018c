use super::*;
use crate::{
    aead::Suite,
    keys::{Role, Secret},
    replay::ReplayError,
};
use std::time::{Duration, Instant};
use weft_types::{Epoch, LaneId, ReceiverIndex};
use weft_wire::{HEADER_LEN, Header, Kind, TAG_LEN};

fn pair(limits: Limits, now: Instant) -> (SendLane, ReceiveLane) {
    let secret = || Secret::exported(&[7; 32]).lane(Role::Client, LaneId::new(0).unwrap());
    let expires = now + Duration::from_secs(7200);
    let send = SendLane::new(ReceiverIndex(9), Suite::Aes256Gcm, secret(), limits, expires);
    (send, ReceiveLane::new(Suite::Aes256Gcm, &secret()))
}

fn sealed(send: &mut SendLane, now: Instant) -> Vec<u8> {
    send.prepare(now, 1).unwrap();
    let mut out = vec![0; SendLane::datagram_len(5, 12)];
    send.seal(Kind::Data, b"hello", &[0; 12], &mut out);
    out
}

fn open(receive: &mut ReceiveLane, now: Instant, datagram: &[u8]) -> Result<Opened, Rejected> {
    let header = Header::decode(datagram).unwrap();
    let (clear, rest) = datagram.split_first_chunk::<HEADER_LEN>().unwrap();
    receive.open(now, &header, clear, rest, &mut [0; 100])
}

fn per_epoch(n: u64) -> Limits {
    Limits { epoch_datagrams_max: n, ..Limits::default() }
}

#[test]
fn a_datagram_opens_once() {
    let now = Instant::now();
    let (mut send, mut receive) = pair(Limits::default(), now);
    let datagram = sealed(&mut send, now);
    assert_eq!(open(&mut receive, now, &datagram), Ok(Opened { len: 17, is_first: true }));
    let again = open(&mut receive, now, &datagram);
    assert_eq!(again, Err(Rejected::Replay(ReplayError::Duplicate)));
    let next = sealed(&mut send, now);
    assert_eq!(open(&mut receive, now, &next), Ok(Opened { len: 17, is_first: false }));
}

#[test]
fn every_flipped_bit_is_refused_and_changes_nothing() {
    let now = Instant::now();
    let (mut send, mut receive) = pair(Limits::default(), now);
    let datagram = sealed(&mut send, now);
    for bit in 0..datagram.len() * 8 {
        let mut bad = datagram.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let Ok(header) = Header::decode(&bad) else {
            continue;
        };
        let (clear, rest) = bad.split_first_chunk::<HEADER_LEN>().unwrap();
        assert!(receive.open(now, &header, clear, rest, &mut [0; 100]).is_err(), "bit {bit}");
    }
    assert_eq!(receive.epoch(), Epoch(0));
    assert!(open(&mut receive, now, &datagram).is_ok());
}

#[test]
fn epochs_follow_the_sender_without_loss() {
    let now = Instant::now();
    let (mut send, mut receive) = pair(per_epoch(3), now);
    for i in 0..3 * 256 {
        let datagram = sealed(&mut send, now);
        assert_eq!(usize::from(send.epoch().0), i / 3);
        assert!(open(&mut receive, now, &datagram).is_ok(), "datagram {i}");
        assert_eq!(receive.epoch(), send.epoch());
    }
    // No epoch number recurs: the 257th is refused, and long before a handshake was asked for.
    assert_eq!(send.prepare(now, 1), Err(SendRefusal::Exhausted));
}

#[test]
fn a_handshake_is_asked_for_before_the_epochs_end() {
    let now = Instant::now();
    let (mut send, _) = pair(per_epoch(1), now);
    for _ in 0..192 {
        assert_eq!(send.prepare(now, 1), Ok(Rekey::NotYet));
        sealed(&mut send, now);
    }
    assert_eq!(send.prepare(now, 1), Ok(Rekey::Soon));
}

#[test]
fn the_previous_epoch_opens_for_three_seconds() {
    let now = Instant::now();
    let (mut send, mut receive) = pair(per_epoch(3), now);
    let datagrams: Vec<_> = (0..4).map(|_| sealed(&mut send, now)).collect();
    assert!(open(&mut receive, now, &datagrams[3]).is_ok());
    let late = now + Duration::from_millis(2999);
    assert!(open(&mut receive, late, &datagrams[0]).is_ok());
    assert_eq!(
        open(&mut receive, late, &datagrams[0]),
        Err(Rejected::Replay(ReplayError::Duplicate))
    );
    let too_late = now + Duration::from_secs(3);
    assert_eq!(open(&mut receive, too_late, &datagrams[1]), Err(Rejected::Epoch));
}

#[test]
fn looks_ahead_over_lost_epochs_but_not_often_and_not_far() {
    let now = Instant::now();
    let (mut send, mut receive) = pair(per_epoch(1), now);
    let datagrams: Vec<_> = (0..20).map(|_| sealed(&mut send, now)).collect();
    assert_eq!(open(&mut receive, now, &datagrams[9]), Err(Rejected::Epoch));
    let mut forged = datagrams[8].clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(open(&mut receive, now, &forged), Err(Rejected::Authentication));
    assert_eq!(receive.epoch(), Epoch(0));
    // The forged one used up the attempt of this tenth of a second.
    assert_eq!(open(&mut receive, now, &datagrams[8]), Err(Rejected::Epoch));
    let later = now + Duration::from_millis(100);
    assert!(open(&mut receive, later, &datagrams[8]).is_ok());
    assert_eq!(receive.epoch(), Epoch(8));
    // The key before was lost with its datagrams; none of another epoch stands in for it.
    assert_eq!(open(&mut receive, later, &datagrams[7]), Err(Rejected::Epoch));
    assert!(open(&mut receive, later, &datagrams[9]).is_ok());
    assert_eq!(open(&mut receive, later, &datagrams[7]), Err(Rejected::Epoch));
}

/// As the protocol has them: 2^28 datagrams, 120 s.
#[test]
fn keys_change_at_the_limits_of_the_protocol() {
    let limits = Limits::default();
    assert_eq!(limits.epoch_datagrams_max, 268_435_456);
    assert_eq!(limits.epoch_age_max, Duration::from_secs(120));
}

#[test]
fn an_epoch_ends_by_age_and_an_idle_lane_says_so() {
    let now = Instant::now();
    let (mut send, _) = pair(Limits::default(), now);
    assert!(!send.wants_new_epoch(now));
    sealed(&mut send, now);
    let aged = now + Duration::from_secs(120);
    assert!(send.wants_new_epoch(aged));
    send.prepare(aged, 1).unwrap();
    assert_eq!(send.epoch(), Epoch(1));
    let mut out = vec![0; HEADER_LEN + 12 + TAG_LEN];
    send.seal(Kind::Control, &[], &[3; 12], &mut out);
    assert!(!send.wants_new_epoch(aged + Duration::from_secs(600)));
}

#[test]
fn a_superpacket_stays_in_one_epoch() {
    let now = Instant::now();
    let (mut send, _) = pair(per_epoch(100), now);
    send.prepare(now, 60).unwrap();
    for _ in 0..60 {
        let mut out = vec![0; SendLane::datagram_len(5, 12)];
        send.seal(Kind::Data, b"hello", &[0; 12], &mut out);
    }
    send.prepare(now, 60).unwrap();
    assert_eq!(send.epoch(), Epoch(1));
}

#[test]
fn nothing_is_sealed_after_expiry() {
    let now = Instant::now();
    let (mut send, _) = pair(Limits::default(), now);
    let end = now + Duration::from_secs(7200);
    assert!(send.prepare(end - Duration::from_nanos(1), 1).is_ok());
    assert_eq!(send.prepare(end, 1), Err(SendRefusal::Expired));
}

#[test]
fn only_what_is_not_authentic_counts_towards_new_keys() {
    let now = Instant::now();
    let (mut send, mut receive) = pair(Limits::default(), now);
    receive.set_failed_opens((1 << 36) - 1);
    let datagram = sealed(&mut send, now);
    assert!(open(&mut receive, now, &datagram).is_ok());
    assert!(open(&mut receive, now, &datagram).is_err(), "a replay");
    let mut elsewhen = datagram.clone();
    elsewhen[1] = 0x80;
    assert_eq!(open(&mut receive, now, &elsewhen), Err(Rejected::Epoch));
    assert!(!receive.wants_rekey());
    let mut forged = sealed(&mut send, now);
    forged[HEADER_LEN] ^= 1;
    assert_eq!(open(&mut receive, now, &forged), Err(Rejected::Authentication));
    assert!(receive.wants_rekey());
}
