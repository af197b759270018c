//! The receiving end of a lane.

use std::time::{Duration, Instant};

use weft_types::Epoch;
use weft_wire::{HEADER_LEN, Header};

use crate::{
    aead::Suite,
    keys::{EpochKey, Secret},
    replay::{ReplayError, Window},
};

/// How long the key before the current one still opens late datagrams.
const PREVIOUS_KEEP: Duration = Duration::from_secs(3);
/// How many epochs a sender can be ahead when all datagrams of some epochs were lost.
const LOOK_AHEAD_MAX: u8 = 8;
/// Look-ahead costs key derivations for a datagram that is probably forged: at most one in this
/// time per lane.
const LOOK_AHEAD_PAUSE: Duration = Duration::from_millis(100);
/// Failed opens under one key after which it should be replaced: AES-GCM's integrity limit is
/// 2^36 (RFC 9001 section 6.6 has 2^52 for shorter packets; ChaCha20-Poly1305 has 2^36).
const FAILED_OPENS_MAX: u64 = 1 << 36;

/// How often it is looked for damage.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Datagrams that did not authenticate between two looks, below which it is nothing.
const DAMAGED_LEAST: u64 = 32;
/// And below this part of what was sent.
const DAMAGED_SHARE: u64 = 100;

/// What a lane counts.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    sent: u64,
    opened: u64,
    refused: u64,
}

/// Datagrams of a lane that something on the way has damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Those that did not authenticate.
    pub refused: u32,
    /// All that were sent.
    pub sent: u32,
}

/// Why a datagram was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// An epoch whose key is gone or not to be had.
    Epoch,
    /// Its counter was seen or is too old.
    Replay(ReplayError),
    /// It does not authenticate.
    Authentication,
}

/// An opened datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of plaintext at the front of the output.
    pub len: usize,
    /// Whether this was the first datagram of the lane that opened.
    pub is_first: bool,
}

struct Generation {
    key: Box<EpochKey>,
    window: Box<Window>,
}

impl Generation {
    fn new(secret: &Secret, suite: Suite) -> Self {
        Self { key: secret.key(suite), window: Box::default() }
    }

    /// Check, open, mark: the one place where a datagram becomes plaintext.
    #[inline]
    fn open(
        &mut self,
        header: &Header,
        clear: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Rejected> {
        self.window.check(header.counter.0).map_err(Rejected::Replay)?;
        let len = self
            .key
            .open(header.counter, clear, sealed, out)
            .map_err(|_| Rejected::Authentication)?;
        self.window.mark(header.counter.0);
        Ok(len)
    }
}

/// The receiving end: opens datagrams of the previous, the current and the next epochs.
pub struct ReceiveLane {
    suite: Suite,
    epoch: Epoch,
    /// Secret of epoch + 1, from which everything ahead follows.
    next_secret: Option<Secret>,
    previous: Option<(Generation, Instant)>,
    current: Generation,
    next: Option<Generation>,
    opened_any: bool,
    failed_opens: u64,
    /// Datagrams that opened.
    opened: u64,
    /// One more than the greatest counter that opened: so many were sent, at least.
    sent: u64,
    /// When it was last looked for damage, and all three then.
    looked: Option<(Instant, Counts)>,
    last_look_ahead: Option<Instant>,
}

impl ReceiveLane {
    /// A lane whose sender starts in epoch 0 with `secret`.
    #[must_use]
    pub fn new(suite: Suite, secret: &Secret) -> Self {
        let next_secret = secret.next();
        Self {
            suite,
            epoch: Epoch(0),
            previous: None,
            current: Generation::new(secret, suite),
            next: Some(Generation::new(&next_secret, suite)),
            next_secret: Some(next_secret),
            opened_any: false,
            failed_opens: 0,
            opened: 0,
            sent: 0,
            looked: None,
            last_look_ahead: None,
        }
    }

    /// The newest epoch of which a datagram opened.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether so many datagrams failed to open that the keys should be replaced. Closing the
    /// session instead would hand an attacker a lever.
    #[must_use]
    pub fn wants_rekey(&self) -> bool {
        self.failed_opens >= FAILED_OPENS_MAX
    }

    /// Opens a datagram into the front of `out`.
    ///
    /// `clear` are the header's bytes as they came, `sealed` what follows them.
    ///
    /// # Errors
    /// [`Rejected`]; the lane's keys and windows are then unchanged.
    #[inline]
    pub fn open(
        &mut self,
        now: Instant,
        header: &Header,
        clear: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<Opened, Rejected> {
        let result = match header.epoch.0.wrapping_sub(self.epoch.0) {
            0 => self.current.open(header, clear, sealed, out),
            1 => self.open_next(now, header, clear, sealed, out),
            0xff => self.open_previous(now, header, clear, sealed, out),
            2..=LOOK_AHEAD_MAX => self.open_ahead(now, header, clear, sealed, out),
            _ => Err(Rejected::Epoch),
        };
        if result == Err(Rejected::Authentication) {
            self.failed_opens += 1;
        }
        let len = result?;
        self.opened += 1;
        self.sent = self.sent.max(header.counter.0.saturating_add(1));
        let is_first = !std::mem::replace(&mut self.opened_any, true);
        Ok(Opened { len, is_first })
    }

    /// Looks whether something on the way damages datagrams, since the last look: many did not authenticate, and
    /// about as many are missing. Forgeries are not missing.
    pub fn look_for_damage(&mut self, now: Instant) -> Option<Damage> {
        let (last, before) = self.looked.unwrap_or((now, Counts::default()));
        if self.looked.is_some() && now < last + LOOK_EVERY {
            return None;
        }
        let counts = Counts { sent: self.sent, opened: self.opened, refused: self.failed_opens };
        self.looked = Some((now, counts));
        let sent = counts.sent - before.sent;
        let opened = counts.opened - before.opened;
        let refused = counts.refused - before.refused;
        let missing = sent.saturating_sub(opened);
        let is_much = refused >= DAMAGED_LEAST && refused >= sent / DAMAGED_SHARE;
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        (is_much && missing >= refused / 2)
            .then(|| Damage { refused: small(refused), sent: small(sent) })
    }

    /// Wipes the previous epoch's key when its time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.previous.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.previous = None;
        }
    }

    /// Whether the previous epoch's key is still in memory.
    #[cfg(test)]
    pub(crate) fn holds_previous_key(&self) -> bool {
        self.previous.is_some()
    }

    /// As if so many datagrams had failed to open.
    #[cfg(test)]
    pub(crate) fn set_failed_opens(&mut self, count: u64) {
        self.failed_opens = count;
    }

    fn open_previous(
        &mut self,
        now: Instant,
        header: &Header,
        clear: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Rejected> {
        self.handle_timeout(now);
        let (previous, _) = self.previous.as_mut().ok_or(Rejected::Epoch)?;
        previous.open(header, clear, sealed, out)
    }

    fn open_next(
        &mut self,
        now: Instant,
        header: &Header,
        clear: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Rejected> {
        // The epoch after 255 does not exist: `next` is then `None`.
        let next = self.next.as_mut().ok_or(Rejected::Epoch)?;
        let len = next.open(header, clear, sealed, out)?;
        if let (Some(next), Some(secret)) = (self.next.take(), self.next_secret.take()) {
            self.commit(now, header.epoch, next, &secret);
        }
        Ok(len)
    }

    /// Datagrams of all epochs between were lost: derives the key of an epoch further ahead, and
    /// keeps it only if the datagram opens.
    #[cold]
    fn open_ahead(
        &mut self,
        now: Instant,
        header: &Header,
        clear: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Rejected> {
        let steps = header.epoch.0.checked_sub(self.epoch.0).ok_or(Rejected::Epoch)?;
        if self.last_look_ahead.is_some_and(|last| now < last + LOOK_AHEAD_PAUSE) {
            return Err(Rejected::Epoch);
        }
        self.last_look_ahead = Some(now);
        let mut secret = self.next_secret.as_ref().ok_or(Rejected::Epoch)?.next();
        for _ in 2..steps {
            secret = secret.next();
        }
        let mut generation = Generation::new(&secret, self.suite);
        let len = generation.open(header, clear, sealed, out)?;
        self.commit(now, header.epoch, generation, &secret);
        // What the old current key sealed is more than one epoch behind now.
        self.previous = None;
        Ok(len)
    }

    /// Moves to `epoch`, whose secret is `secret`, and makes the one after it ready.
    fn commit(&mut self, now: Instant, epoch: Epoch, generation: Generation, secret: &Secret) {
        let old = std::mem::replace(&mut self.current, generation);
        self.previous = Some((old, now + PREVIOUS_KEEP));
        self.epoch = epoch;
        self.next_secret = epoch.next().map(|_| secret.next());
        self.next = self.next_secret.as_ref().map(|s| Generation::new(s, self.suite));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Role;
    use weft_types::{Counter, LaneId, ReceiverIndex};
    use weft_wire::Kind;

    /// At the AEAD's integrity limit new keys are wanted, and the old ones go on: closing would
    /// be an attacker's lever.
    #[test]
    fn many_failed_opens_ask_for_new_keys_and_close_nothing() {
        let now = Instant::now();
        let secret = Secret::exported(&[7; 32]).lane(Role::Client, LaneId::new(0).unwrap());
        let mut lane = ReceiveLane::new(Suite::Aes256Gcm, &secret);
        let header = Header {
            kind: Kind::Data,
            epoch: Epoch(0),
            length: 44,
            index: ReceiverIndex(1),
            counter: Counter(0),
        };
        let clear = header.encode();
        let mut sealed = [0; 28];
        secret.key(Suite::Aes256Gcm).seal(Counter(0), &clear, &[], &[0; 12], &mut sealed);
        let mut forged = sealed;
        forged[0] ^= 1;
        lane.failed_opens = (1 << 36) - 1;
        assert!(!lane.wants_rekey());
        let mut open = |bytes: &[u8]| lane.open(now, &header, &clear, bytes, &mut [0; 64]);
        assert_eq!(open(&forged), Err(Rejected::Authentication));
        assert!(open(&sealed).is_ok());
        assert!(lane.wants_rekey());
    }
}
