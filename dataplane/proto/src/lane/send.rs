//! The sending end of a lane.

use std::time::{Duration, Instant};

use weft_types::{Counter, Epoch, ReceiverIndex};
use weft_wire::{HEADER_LEN, Header, Kind, TAG_LEN};

use crate::{
    aead::Suite,
    keys::{EpochKey, Secret},
};

/// Datagrams sealed with one key, at most: 2^28 keeps AES-GCM's distinguishing advantage below
/// 2^-57 for datagrams of up to 2^11 bytes (RFC 9001 appendix B.1, with 2^7 blocks each).
pub const EPOCH_DATAGRAMS_MAX: u64 = 1 << 28;
/// Length above which a datagram is *long*, bytes.
pub const LONG_DATAGRAM: usize = 1 << 11;
/// The same limit for a lane that may carry [long](LONG_DATAGRAM) datagrams, up to 2^16 bytes: 2^12
/// blocks each make as many blocks under one key.
pub const EPOCH_LONG_DATAGRAMS_MAX: u64 = 1 << 23;
/// How long a key is used before the next.
pub const EPOCH_AGE_MAX: Duration = Duration::from_secs(120);
/// From this epoch on a new handshake is asked for: a quarter of the session's epochs are left.
const EPOCH_REKEY: Epoch = Epoch(192);

/// When keys change. Never looser than the protocol's limits; tests and cautious operators set
/// them lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams per epoch, at most [`EPOCH_DATAGRAMS_MAX`]; a lane for long datagrams never
    /// exceeds [`EPOCH_LONG_DATAGRAMS_MAX`], whatever is said here.
    pub epoch_datagrams_max: u64,
    /// Age of an epoch, at most [`EPOCH_AGE_MAX`].
    pub epoch_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { epoch_datagrams_max: EPOCH_DATAGRAMS_MAX, epoch_age_max: EPOCH_AGE_MAX }
    }
}

/// Whether the session goes on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rekey {
    /// Yes.
    NotYet,
    /// It still works, but a new handshake should begin.
    Soon,
}

/// The lane seals nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendRefusal {
    /// All epochs or all counters are used up.
    Exhausted,
    /// The session is older than its keys may be.
    Expired,
}

/// The sending end: seals datagrams in order, changes epochs between superpackets.
pub struct SendLane {
    index: ReceiverIndex,
    suite: Suite,
    limits: Limits,
    expires: Instant,
    /// Of the current epoch.
    secret: Secret,
    key: Box<EpochKey>,
    epoch: Epoch,
    next_counter: Counter,
    /// Datagrams sealed in this epoch, and when the first of them was.
    sealed: u64,
    first_sealed: Option<Instant>,
    /// Whether data (not only control messages) went out in this epoch.
    carried_data: bool,
}

impl SendLane {
    /// A lane that the peer knows as `index`; nothing is sealed from `expires` on.
    #[must_use]
    pub fn new(
        index: ReceiverIndex,
        suite: Suite,
        secret: Secret,
        limits: Limits,
        expires: Instant,
    ) -> Self {
        let key = secret.key(suite);
        Self {
            index,
            suite,
            limits,
            expires,
            secret,
            key,
            epoch: Epoch(0),
            next_counter: Counter(0),
            sealed: 0,
            first_sealed: None,
            carried_data: false,
        }
    }

    /// Says how long datagrams may be, which bounds how many of them one key seals. To be called
    /// before the first is sealed.
    pub fn carry_datagrams_of(&mut self, len_max: usize) {
        if len_max > LONG_DATAGRAM {
            let bound = &mut self.limits.epoch_datagrams_max;
            *bound = (*bound).min(EPOCH_LONG_DATAGRAMS_MAX);
        }
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What it keeps to.
    #[cfg(test)]
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// When the current key was first used, if it was.
    #[must_use]
    pub fn key_used_since(&self) -> Option<Instant> {
        self.first_sealed
    }

    /// Makes ready to seal `datagrams` datagrams under one key: a superpacket never spans two
    /// epochs. To be called before each packet.
    ///
    /// # Errors
    /// [`SendRefusal`]; nothing may be sealed then.
    #[inline]
    pub fn prepare(&mut self, now: Instant, datagrams: u64) -> Result<Rekey, SendRefusal> {
        if now >= self.expires {
            return Err(SendRefusal::Expired);
        }
        if self.next_counter.0.saturating_add(datagrams) >= Counter::REJECT_AFTER.0 {
            return Err(SendRefusal::Exhausted);
        }
        if self.sealed > 0
            && (self.sealed + datagrams > self.limits.epoch_datagrams_max || self.is_aged(now))
        {
            self.advance()?;
        }
        if self.first_sealed.is_none() {
            self.first_sealed = Some(now);
        }
        Ok(if self.epoch >= EPOCH_REKEY { Rekey::Soon } else { Rekey::NotYet })
    }

    /// Seals `payload ‖ tail` as the next datagram into `out`, which has
    /// [`SendLane::datagram_len`] bytes, and gives its counter. [`SendLane::prepare`] must have
    /// allowed it.
    #[inline]
    pub fn seal(&mut self, kind: Kind, payload: &[u8], tail: &[u8], out: &mut [u8]) -> Counter {
        let counter = self.next_counter;
        #[expect(clippy::cast_possible_truncation, reason = "a datagram is below 2^16 bytes")]
        let length = out.len() as u16;
        let header =
            Header { kind, epoch: self.epoch, length, index: self.index, counter }.encode();
        let (head, body) = out.split_at_mut(HEADER_LEN);
        head.copy_from_slice(&header);
        self.key.seal(counter, &header, payload, tail, body);
        self.next_counter.0 += 1;
        self.sealed += 1;
        self.carried_data |= kind == Kind::Data;
        counter
    }

    /// Length of a datagram with so many bytes of payload and tail.
    #[must_use]
    pub const fn datagram_len(payload: usize, tail: usize) -> usize {
        HEADER_LEN + payload + tail + TAG_LEN
    }

    /// Whether an idle lane should send an empty datagram in a new epoch, so that the peer can
    /// wipe the key under which data went.
    #[must_use]
    pub fn wants_new_epoch(&self, now: Instant) -> bool {
        self.carried_data && self.is_aged(now)
    }

    fn is_aged(&self, now: Instant) -> bool {
        self.first_sealed
            .is_some_and(|first| now.saturating_duration_since(first) >= self.limits.epoch_age_max)
    }

    fn advance(&mut self) -> Result<(), SendRefusal> {
        let epoch = self.epoch.next().ok_or(SendRefusal::Exhausted)?;
        self.secret = self.secret.next();
        self.key = self.secret.key(self.suite);
        self.epoch = epoch;
        self.sealed = 0;
        self.first_sealed = None;
        self.carried_data = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Role;
    use weft_types::LaneId;

    fn lane(now: Instant, limits: Limits) -> SendLane {
        let secret = Secret::exported(&[7; 32]).lane(Role::Client, LaneId::new(0).unwrap());
        let expires = now + Duration::from_secs(1);
        SendLane::new(ReceiverIndex(1), Suite::Aes256Gcm, secret, limits, expires)
    }

    #[test]
    fn long_datagrams_are_fewer_under_one_key() {
        let now = Instant::now();
        // As the protocol has them: 2^28 datagrams of up to 2^11 bytes, 2^23 longer ones.
        for (length, most) in [(2_048, 268_435_456), (2_049, 8_388_608)] {
            let mut lane = lane(now, Limits::default());
            lane.carry_datagrams_of(length);
            lane.sealed = most - 44;
            lane.prepare(now, 44).unwrap();
            assert_eq!(lane.epoch(), Epoch(0));
            lane.prepare(now, 45).unwrap();
            assert_eq!(lane.epoch(), Epoch(1));
        }
        let strict = Limits { epoch_datagrams_max: 7, ..Limits::default() };
        let mut strict = lane(now, strict);
        strict.carry_datagrams_of(usize::MAX);
        assert_eq!(strict.limits.epoch_datagrams_max, 7);
    }

    #[test]
    fn a_counter_never_wraps() {
        let now = Instant::now();
        let mut lane = lane(now, Limits::default());
        // 2^64 − 2^13 − 1, and three before it.
        let last: u64 = 0xffff_ffff_ffff_dfff;
        lane.next_counter = Counter(last - 3);
        assert_eq!(lane.prepare(now, 3), Err(SendRefusal::Exhausted));
        assert_eq!(lane.prepare(now, u64::MAX), Err(SendRefusal::Exhausted));
        assert!(lane.prepare(now, 2).is_ok());
        for _ in 0..2 {
            lane.seal(Kind::Data, &[], &[0; 12], &mut [0; HEADER_LEN + 12 + TAG_LEN]);
        }
        assert_eq!(lane.prepare(now, 1), Err(SendRefusal::Exhausted));
    }
}
