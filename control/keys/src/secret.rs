//! Key bytes.

use std::fmt;

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, KeyType, Prk},
    rand,
};
use zeroize::Zeroizing;

use crate::aead::parts;

/// Bytes of every key.
pub const KEY_LEN: usize = 32;

/// A key; wiped when dropped. In a block of its own: what is moved leaves a copy of its bytes behind, which
/// nobody would wipe.
pub struct KeyBytes(Box<Zeroizing<[u8; KEY_LEN]>>);

impl KeyBytes {
    /// A new key from the operating system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        Self::filled(|key| rand::fill(key).expect("the kernel has random numbers"))
    }

    /// A key that `fill` writes where it stays.
    #[must_use]
    pub fn filled(fill: impl FnOnce(&mut [u8; KEY_LEN])) -> Self {
        let mut key = Box::new(Zeroizing::new([0; KEY_LEN]));
        fill(&mut key);
        Self(key)
    }

    /// The bytes. Whoever copies them wipes the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// HKDF-Expand (RFC 5869 section 2.3) with this key as the pseudorandom key. Keys are uniformly random,
    /// so there is no extract step (section 3.3). No two lists of parts are one.
    pub(crate) fn expand(&self, info: &[&[u8]]) -> Self {
        struct Len;
        impl KeyType for Len {
            fn len(&self) -> usize {
                KEY_LEN
            }
        }
        let info = parts(info);
        let derived = Self::filled(|out| {
            Prk::new_less_safe(HKDF_SHA256, self.expose())
                .expand(&[&info], Len)
                .and_then(|okm| okm.fill(out))
                .expect("32 bytes: far below 255 hash lengths");
        });
        scrub_stack();
        derived
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(..)")
    }
}

/// Overwrites the part of the stack that work on keys has used: the library's structures hold keys on the
/// way to where they stay, and nobody else would clean up there.
#[inline(never)]
pub(crate) fn scrub_stack() {
    let mut area = [0u8; 16 << 10];
    std::hint::black_box(&mut area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key = KeyBytes::filled(|key| key.fill(7));
        let derived = |info: &[&[u8]]| *key.expand(info).expose();
        assert_ne!(derived(&[b"ab", b"c"]), derived(&[b"a", b"bc"]));
        assert_ne!(derived(&[b"abc"]), derived(&[b"abc", b""]));
        assert_eq!(derived(&[b"ab", b"c"]), derived(&[b"ab", b"c"]));
    }

    #[test]
    fn a_key_that_is_moved_leaves_nothing_behind_and_is_not_shown() {
        let key = KeyBytes::random();
        let place = key.expose().as_ptr();
        let mut slots = [Some(key), None];
        slots.swap(0, 1);
        let moved = slots[1].as_ref().unwrap();
        assert_eq!(moved.expose().as_ptr(), place);
        assert_eq!(format!("{moved:?}"), "KeyBytes(..)");
        assert_ne!(KeyBytes::random().expose(), KeyBytes::random().expose());
    }
}
