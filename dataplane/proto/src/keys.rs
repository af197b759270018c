//! The key schedule: from the secret that TLS exports to the key of one epoch of one lane.
//!
//! ```text
//!  exported ──HKDF(role ‖ lane)──▶ secret₀ ──HKDF──▶ secret₁ ──HKDF──▶ …
//!                                    │ HKDF             │ HKDF
//!                                  key₀, iv₀          key₁, iv₁
//! ```
//! Every step is one-way, and what is behind is wiped: who takes a host's memory learns the
//! present and the future of its sessions until the next handshake, not the past.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs as provider;
#[cfg(not(feature = "aws-lc-rs"))]
use ring as provider;

use provider::hkdf::{HKDF_SHA256, KeyType, Prk};
use weft_types::{Counter, LaneId};
use weft_wire::HEADER_LEN;
use zeroize::Zeroizing;

use crate::aead::{KEY_LEN, Key, NONCE_LEN, OpenError, Suite};

/// Bytes of every secret in the schedule.
pub const SECRET_LEN: usize = 32;

const LABEL_LANE: &[u8] = b"weft v1 lane";
const LABEL_EPOCH: &[u8] = b"weft v1 epoch";
const LABEL_KEY: &[u8] = b"weft v1 key";
const LABEL_IV: &[u8] = b"weft v1 iv";

/// Which end of the TLS connection sends on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The TLS client.
    Client,
    /// The TLS server.
    Server,
}

impl Role {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Client => b'c',
            Self::Server => b's',
        }
    }
}

/// A secret of the schedule; wiped when dropped. In a block of its own: what is moved leaves a copy of its
/// bytes behind, which nobody would wipe.
pub struct Secret(Box<Zeroizing<[u8; SECRET_LEN]>>);

impl Secret {
    /// Takes the secret that TLS exported.
    #[must_use]
    pub fn exported(bytes: &[u8; SECRET_LEN]) -> Self {
        Self::filled(|secret| secret.copy_from_slice(bytes))
    }

    fn filled(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut secret = Box::new(Zeroizing::new([0; SECRET_LEN]));
        fill(&mut **secret);
        Self(secret)
    }

    /// `secret₀` of a lane on which `sender` sends.
    #[must_use]
    pub fn lane(&self, sender: Role, lane: LaneId) -> Self {
        Self::filled(|out| self.expand(&[LABEL_LANE, &[sender.byte(), lane.get()]], out))
    }

    /// The secret of the next epoch.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::filled(|out| self.expand(&[LABEL_EPOCH], out))
    }

    /// The key of this epoch, in a box of its own.
    #[must_use]
    pub fn key(&self, suite: Suite) -> Box<EpochKey> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        self.expand(&[LABEL_KEY], &mut *key);
        self.expand(&[LABEL_IV], &mut *iv);
        let boxed = Box::new(EpochKey { key: Key::new(suite, &key), iv: *iv });
        scrub_stack();
        boxed
    }

    /// The secret, key and IV, for the committed test vectors.
    #[cfg(test)]
    pub(crate) fn material(&self) -> ([u8; SECRET_LEN], [u8; KEY_LEN], [u8; NONCE_LEN]) {
        let (mut key, mut iv) = ([0; KEY_LEN], [0; NONCE_LEN]);
        self.expand(&[LABEL_KEY], &mut key);
        self.expand(&[LABEL_IV], &mut iv);
        (**self.0, key, iv)
    }

    /// HKDF-Expand (RFC 5869) with this secret as the pseudorandom key. The secrets are uniformly
    /// random, so there is no extract step.
    fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        struct Len(usize);
        impl KeyType for Len {
            fn len(&self) -> usize {
                self.0
            }
        }
        Prk::new_less_safe(HKDF_SHA256, &**self.0)
            .expand(info, Len(out.len()))
            .and_then(|okm| okm.fill(out))
            .expect("at most 32 bytes: far below 255 hash lengths");
    }
}

/// The AEAD key and IV of one epoch of one lane.
pub struct EpochKey {
    key: Key,
    iv: [u8; NONCE_LEN],
}

impl EpochKey {
    /// The nonce of a counter: the IV with the counter over its last eight bytes (RFC 8446
    /// section 5.3).
    #[inline]
    fn nonce(&self, counter: Counter) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (n, c) in nonce[4..].iter_mut().zip(counter.0.to_be_bytes()) {
            *n ^= c;
        }
        nonce
    }

    /// Seals `payload ‖ tail`; see [`Key::seal`].
    #[inline]
    pub fn seal(
        &self,
        counter: Counter,
        header: &[u8; HEADER_LEN],
        payload: &[u8],
        tail: &[u8],
        out: &mut [u8],
    ) {
        self.key.seal(self.nonce(counter), header, payload, tail, out);
    }

    /// Opens; see [`Key::open`].
    ///
    /// # Errors
    /// [`OpenError`].
    #[inline]
    pub fn open(
        &self,
        counter: Counter,
        header: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, OpenError> {
        self.key.open(self.nonce(counter), header, sealed, out)
    }
}

impl Drop for EpochKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.iv);
    }
}

/// Overwrites the part of the stack that key expansion has used. A box is filled through the
/// stack, and nobody else would clean up there.
#[inline(never)]
pub fn scrub_stack() {
    let mut area = [0u8; 8192];
    std::hint::black_box(&mut area);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported() -> Secret {
        Secret::exported(&[0x42; SECRET_LEN])
    }

    #[test]
    fn every_lane_role_and_epoch_has_its_own_secret() {
        let mut seen = std::collections::HashSet::new();
        for role in [Role::Client, Role::Server] {
            for lane in 0..64 {
                let mut secret = exported().lane(role, LaneId::new(lane).unwrap());
                for _ in 0..4 {
                    assert!(seen.insert(**secret.0));
                    secret = secret.next();
                }
            }
        }
    }

    #[test]
    fn a_secret_that_is_moved_leaves_nothing_behind() {
        let secret = exported();
        let place = secret.0.as_ptr();
        let mut slots = [Some(secret), None];
        slots.swap(0, 1);
        let moved = slots[1].take().map(|secret| secret.0.as_ptr());
        assert_eq!(moved, Some(place), "it was not copied");
    }

    #[test]
    fn nonce_is_iv_xor_counter() {
        let key = exported().key(Suite::Aes256Gcm);
        let a = key.nonce(Counter(0));
        let b = key.nonce(Counter(0x0102_0304_0506_0708));
        assert_eq!(a[..4], b[..4]);
        for (i, (x, y)) in a[4..].iter().zip(&b[4..]).enumerate() {
            assert_eq!(usize::from(x ^ y), i + 1);
        }
    }
}
