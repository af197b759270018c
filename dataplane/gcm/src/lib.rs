//! AES-256-GCM (NIST SP 800-38D) of [intel-ipsec-mb], the library that DPDK and VPP encrypt
//! packets with, behind a safe interface.
//!
//! It chooses its instructions (SSE, AVX2, AVX-512 with VAES) by the processor that it runs on, and
//! runs in constant time on each that has AES instructions; on others it is [`Unavailable`].
//!
//! [intel-ipsec-mb]: https://github.com/intel/intel-ipsec-mb

mod library;

use std::fmt;

use subtle::ConstantTimeEq;

use library::Expanded;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a nonce (SP 800-38D section 8.2.1: 96 bits).
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// Why the library cannot be used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// No memory for its setup.
    Memory,
    /// The processor has no instructions for AES or carry-less multiplication.
    Instructions,
    /// It found in its own test that it computes wrongly.
    SelfTest,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "intel-ipsec-mb: no memory",
            Self::Instructions => "intel-ipsec-mb: the processor has no instructions for AES-GCM",
            Self::SelfTest => "intel-ipsec-mb: its self-test failed",
        })
    }
}

impl std::error::Error for Unavailable {}

/// A message did not authenticate, or the buffer for its text has another length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenError;

/// A key, ready to seal and open; wiped when dropped.
pub struct Aes256Gcm(Expanded);

impl Aes256Gcm {
    /// Expands a key.
    ///
    /// # Errors
    /// [`Unavailable`]; the same for every key of a process.
    pub fn new(key: &[u8; KEY_LEN]) -> Result<Self, Unavailable> {
        Expanded::new(key).map(Self)
    }

    /// Encrypts `text ‖ tail` and adds the tag. One nonce seals once: a second message under it
    /// gives both away (SP 800-38D section 8). Without tail it is faster.
    ///
    /// # Panics
    /// When `out` has not the length of text and tail and [`TAG_LEN`] more.
    #[inline]
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        tail: &[u8],
        out: &mut [u8],
    ) {
        self.0.seal(nonce, aad, text, tail, out);
    }

    /// Decrypts `text` into `out`, which has its length.
    ///
    /// # Errors
    /// [`OpenError`]; `out` is all zeros then.
    #[inline]
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        if out.len() != text.len() {
            out.fill(0);
            return Err(OpenError);
        }
        let expected = self.0.decrypt(nonce, aad, text, out);
        // As one number: byte by byte it takes some ten nanoseconds longer.
        if bool::from(u128::from_ne_bytes(expected).ct_eq(&u128::from_ne_bytes(*tag))) {
            return Ok(());
        }
        out.fill(0);
        Err(OpenError)
    }
}

/// Whether keys can be made on this machine.
///
/// # Errors
/// [`Unavailable`].
pub fn check() -> Result<(), Unavailable> {
    library::ready()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use proptest::prelude::*;

    fn by_aws_lc(key: &[u8; KEY_LEN], nonce: [u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        let mut out = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut out).unwrap();
        out
    }

    /// In front of and behind every buffer, to notice a write beyond it.
    const GUARD: usize = 64;

    fn check_one(
        key: [u8; KEY_LEN],
        nonce: [u8; 12],
        aad: &[u8],
        text: &[u8],
        cut: usize,
        at: usize,
    ) {
        let expected = by_aws_lc(&key, nonce, aad, text);
        let key = Aes256Gcm::new(&key).unwrap();
        let mut room = vec![0xa5; at + text.len() + TAG_LEN + GUARD];
        let end = at + text.len() + TAG_LEN;
        let (head, tail) = text.split_at(cut);
        key.seal(&nonce, aad, head, tail, &mut room[at..end]);
        assert_eq!(room[at..end], expected, "length {} cut at {cut}", text.len());
        assert!(room[..at].iter().chain(&room[end..]).all(|byte| *byte == 0xa5));

        let (sealed, tag) = expected.split_last_chunk::<TAG_LEN>().unwrap();
        let mut room = vec![0xa5; at + text.len() + GUARD];
        let end = at + text.len();
        assert_eq!(key.open(&nonce, aad, sealed, tag, &mut room[at..end]), Ok(()));
        assert_eq!(room[at..end], *text);
        assert!(room[..at].iter().chain(&room[end..]).all(|byte| *byte == 0xa5));
    }

    /// Every length of a datagram on a path of 1,500 bytes: the assembly has code of its own for
    /// many of them.
    #[test]
    fn every_length_is_as_another_implementation_has_it() {
        let text: Vec<u8> = (0..=250).cycle().take(1_600).collect();
        for (len, seed) in (0..text.len()).zip((0..=u8::MAX).cycle()) {
            let cut = if len % 2 == 0 { len } else { len - len.min(76) };
            check_one([seed; KEY_LEN], [seed; 12], &[1; 16], &text[..len], cut, len % 64);
        }
    }

    proptest! {
        #[test]
        fn any_message_is_as_another_implementation_has_it(
            key: [u8; KEY_LEN],
            nonce: [u8; 12],
            aad in prop::collection::vec(any::<u8>(), 0..64),
            text in prop::collection::vec(any::<u8>(), 0..66_000),
            cut: prop::sample::Index,
            at in 0..64_usize,
        ) {
            check_one(key, nonce, &aad, &text, cut.index(text.len() + 1), at);
        }
    }

    /// Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega).
    #[test]
    fn a_published_vector() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                .collect()
        };
        let key: Vec<u8> =
            bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let text = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let sealed = bytes(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
             76fc6ece0f4e1768cddf8853bb2d551b",
        );
        let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let nonce: [u8; 12] = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
        let key = Aes256Gcm::new(&key.try_into().unwrap()).unwrap();
        let mut out = vec![0; sealed.len()];
        key.seal(&nonce, &aad, &text, &[], &mut out);
        assert_eq!(out, sealed);
        key.seal(&nonce, &aad, &text[..20], &text[20..], &mut out);
        assert_eq!(out, sealed);
    }

    #[test]
    fn every_changed_bit_is_noticed_and_nothing_is_given_out() {
        let (key, nonce, aad) = (Aes256Gcm::new(&[9; KEY_LEN]).unwrap(), [7; NONCE_LEN], [1; 16]);
        let mut sealed = [0; 40 + TAG_LEN];
        key.seal(&nonce, &aad, &[3; 40], &[], &mut sealed);
        let mut out = [0; 40];
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed;
            bad[bit / 8] ^= 1 << (bit % 8);
            let (text, tag) = bad.split_last_chunk().unwrap();
            out.fill(0xa5);
            assert_eq!(key.open(&nonce, &aad, text, tag, &mut out), Err(OpenError));
            assert_eq!(out, [0; 40]);
        }
        let (text, tag) = sealed.split_last_chunk().unwrap();
        assert_eq!(key.open(&nonce, &[2; 16], text, tag, &mut out), Err(OpenError));
        assert_eq!(key.open(&[8; 12], &aad, text, tag, &mut out), Err(OpenError));
        assert_eq!(key.open(&nonce, &aad, text, tag, &mut out[..39]), Err(OpenError));
        assert_eq!(key.open(&nonce, &aad, text, tag, &mut out), Ok(()));
        assert_eq!(out, [3; 40]);
    }

    #[test]
    fn keys_are_used_from_many_threads() {
        fn is_shared<T: Send + Sync>(_: &T) {}
        let key = Aes256Gcm::new(&[5; KEY_LEN]).unwrap();
        is_shared(&key);
        std::thread::scope(|scope| {
            for worker in 0..4_u8 {
                let key = &key;
                scope.spawn(move || {
                    for round in 0..200_u8 {
                        let (nonce, text) = ([worker ^ round; 12], vec![round; 1_424]);
                        let mut out = vec![0; text.len() + TAG_LEN];
                        key.seal(&nonce, &[1; 16], &text, &[], &mut out);
                        assert_eq!(out, by_aws_lc(&[5; KEY_LEN], nonce, &[1; 16], &text));
                    }
                });
            }
        });
    }
}
