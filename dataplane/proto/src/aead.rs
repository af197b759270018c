//! The two AEADs of the protocol behind one small type.
//!
//! AES-256-GCM is that of intel-ipsec-mb, where the feature `ipsec-mb` is on and the processor has
//! what it needs. Everything else is of one of two providers with the same interface, which a
//! cargo feature chooses. Those do not wipe their expanded keys: a [`Key`] lives in a box of its
//! own, and `weftd` runs on an allocator that overwrites what it frees.

use weft_wire::{HEADER_LEN, TAG_LEN};

/// Bytes of a key: both AEADs have 256-bit keys.
pub const KEY_LEN: usize = 32;
/// Bytes of a nonce (RFC 5116: 96 bits).
pub const NONCE_LEN: usize = 12;

/// Which AEAD seals a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AES-256-GCM, where both hosts have AES instructions.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439) otherwise.
    ChaCha20Poly1305,
}

/// A datagram did not open: forged, damaged, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenError;

macro_rules! provider {
    ($module:ident, $name:ident, $open:item, $seal:item) => {
        #[doc = concat!("The AEADs of `", stringify!($name), "`.")]
        pub mod $module {
            use super::{HEADER_LEN, KEY_LEN, NONCE_LEN, OpenError, Suite, TAG_LEN};
            use $name::aead::{
                AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
            };

            /// Name of the provider.
            pub const NAME: &str = stringify!($name);

            /// An expanded key.
            pub struct Key(LessSafeKey);

            impl Key {
                /// Expands a key.
                #[must_use]
                pub fn new(suite: Suite, key: &[u8; KEY_LEN]) -> Self {
                    let algorithm = match suite {
                        Suite::Aes256Gcm => &AES_256_GCM,
                        Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
                    };
                    let key = UnboundKey::new(algorithm, key)
                        .expect("both AEADs take keys of 32 bytes");
                    Self(LessSafeKey::new(key))
                }

                /// Seals `payload ‖ tail` into `out`, which has their length and [`TAG_LEN`] more.
                ///
                /// # Panics
                /// When `out` has another length.
                #[inline]
                pub fn seal(
                    &self,
                    nonce: [u8; NONCE_LEN],
                    aad: &[u8; HEADER_LEN],
                    payload: &[u8],
                    tail: &[u8],
                    out: &mut [u8],
                ) {
                    seal(&self.0, nonce, aad, payload, tail, out);
                }

                /// Opens `sealed` (ciphertext and tag) into the front of `out` and gives the
                /// plaintext's length. On failure `out` holds nothing of use.
                ///
                /// # Errors
                /// [`OpenError`] when it does not authenticate or `out` is too small.
                #[inline]
                pub fn open(
                    &self,
                    nonce: [u8; NONCE_LEN],
                    aad: &[u8; HEADER_LEN],
                    sealed: &[u8],
                    out: &mut [u8],
                ) -> Result<usize, OpenError> {
                    let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(OpenError)?;
                    let out = out.get_mut(..text.len()).ok_or(OpenError)?;
                    open(&self.0, nonce, aad, text, tag, out)?;
                    Ok(text.len())
                }
            }

            #[inline]
            $open

            #[inline]
            $seal
        }
    };
}

#[cfg(feature = "aws-lc-rs")]
provider!(
    aws,
    aws_lc_rs,
    fn open(
        key: &LessSafeKey,
        nonce: [u8; NONCE_LEN],
        aad: &[u8; HEADER_LEN],
        text: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.open_separate_gather(nonce, Aad::from(aad), text, tag, out).map_err(|_| OpenError)
    },
    fn seal(
        key: &LessSafeKey,
        nonce: [u8; NONCE_LEN],
        aad: &[u8; HEADER_LEN],
        payload: &[u8],
        tail: &[u8],
        out: &mut [u8],
    ) {
        let (text, rest) = out.split_at_mut(payload.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_out_of_place_scatter(nonce, Aad::from(aad), payload, text, tail, rest)
            .expect("a datagram is far below the AEAD's limit, and there is room for the tag");
    }
);

#[cfg(feature = "ring")]
provider!(
    ring_provider,
    ring,
    fn open(
        key: &LessSafeKey,
        nonce: [u8; NONCE_LEN],
        aad: &[u8; HEADER_LEN],
        text: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        out.copy_from_slice(text);
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.open_in_place_separate_tag(nonce, Aad::from(aad), (*tag).into(), out, 0..)
            .map(|_| ())
            .map_err(|_| OpenError)
    },
    fn seal(
        key: &LessSafeKey,
        nonce: [u8; NONCE_LEN],
        aad: &[u8; HEADER_LEN],
        payload: &[u8],
        tail: &[u8],
        out: &mut [u8],
    ) {
        super::copy_in(payload, tail, out);
        let (text, tag_out) = out.split_at_mut(payload.len() + tail.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
            .expect("a datagram is far below the AEAD's limit");
        tag_out.copy_from_slice(tag.as_ref());
    }
);

#[cfg(feature = "aws-lc-rs")]
use aws as general;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use ring_provider as general;

/// Seals and opens with the fastest provider there is for its suite.
pub struct Key(Provider);

enum Provider {
    #[cfg(all(feature = "ipsec-mb", target_arch = "x86_64"))]
    IpsecMb(weft_gcm::Aes256Gcm),
    /// In a box of its own, so that the other is not as large.
    General(Box<general::Key>),
}

impl Key {
    /// Expands a key.
    #[must_use]
    pub fn new(suite: Suite, key: &[u8; KEY_LEN]) -> Self {
        #[cfg(all(feature = "ipsec-mb", target_arch = "x86_64"))]
        if suite == Suite::Aes256Gcm
            && let Ok(key) = weft_gcm::Aes256Gcm::new(key)
        {
            return Self(Provider::IpsecMb(key));
        }
        Self(Provider::General(Box::new(general::Key::new(suite, key))))
    }

    /// Seals `payload ‖ tail` into `out`, which has their length and [`TAG_LEN`] more. It is
    /// faster without tail.
    ///
    /// # Panics
    /// When `out` has another length.
    #[inline]
    pub fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8; HEADER_LEN],
        payload: &[u8],
        tail: &[u8],
        out: &mut [u8],
    ) {
        match &self.0 {
            #[cfg(all(feature = "ipsec-mb", target_arch = "x86_64"))]
            Provider::IpsecMb(key) => key.seal(&nonce, aad, payload, tail, out),
            Provider::General(key) => key.seal(nonce, aad, payload, tail, out),
        }
    }

    /// Opens `sealed` (ciphertext and tag) into the front of `out` and gives the plaintext's
    /// length. On failure `out` holds nothing of use.
    ///
    /// # Errors
    /// [`OpenError`] when it does not authenticate or `out` is too small.
    #[inline]
    pub fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8; HEADER_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, OpenError> {
        match &self.0 {
            #[cfg(all(feature = "ipsec-mb", target_arch = "x86_64"))]
            Provider::IpsecMb(key) => {
                let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(OpenError)?;
                let out = out.get_mut(..text.len()).ok_or(OpenError)?;
                key.open(&nonce, aad, text, tag, out).map_err(|_| OpenError)?;
                Ok(text.len())
            }
            Provider::General(key) => key.open(nonce, aad, sealed, out),
        }
    }
}

/// Whether this processor has AES instructions; without, AES-GCM is slow and its tables leak by
/// timing.
#[must_use]
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Which library seals in this process, by suite.
#[must_use]
pub fn provider(suite: Suite) -> &'static str {
    match Key::new(suite, &[0; KEY_LEN]).0 {
        #[cfg(all(feature = "ipsec-mb", target_arch = "x86_64"))]
        Provider::IpsecMb(_) => "intel-ipsec-mb",
        Provider::General(_) => general::NAME,
    }
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("weft-proto needs one of the features `aws-lc-rs` and `ring`");

#[cfg(feature = "ring")]
fn copy_in(payload: &[u8], tail: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), payload.len() + tail.len() + TAG_LEN, "room for text and tag");
    out[..payload.len()].copy_from_slice(payload);
    out[payload.len()..payload.len() + tail.len()].copy_from_slice(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
    const AAD: [u8; HEADER_LEN] = [1; HEADER_LEN];

    /// `aes` is a flag of the processor under both names that the kernel has for the list.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn aes_is_known_as_the_kernel_knows_it() {
        let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return };
        let list =
            text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
        let flags = list.and_then(|line| line.split_once(':')).map_or("", |(_, flags)| flags);
        assert_eq!(has_aes(), flags.split_whitespace().any(|flag| flag == "aes"));
    }

    #[test]
    fn the_library_is_named() {
        assert_eq!(provider(Suite::ChaCha20Poly1305), general::NAME);
        let named = provider(Suite::Aes256Gcm);
        assert!([general::NAME, "intel-ipsec-mb"].contains(&named), "{named}");
    }

    #[test]
    fn seals_and_opens_and_notices_every_bit() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let key = Key::new(suite, &[9; KEY_LEN]);
            let mut sealed = [0; 20 + TAG_LEN];
            key.seal(NONCE, &AAD, &[1; 15], &[2; 5], &mut sealed);
            let mut out = [0; 64];
            assert_eq!(key.open(NONCE, &AAD, &sealed, &mut out), Ok(20));
            assert_eq!(out[..15], [1; 15]);
            assert_eq!(out[15..20], [2; 5]);
            for bit in 0..sealed.len() * 8 {
                let mut bad = sealed;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(NONCE, &AAD, &bad, &mut out), Err(OpenError));
            }
            assert_eq!(key.open(NONCE, &[0; HEADER_LEN], &sealed, &mut out), Err(OpenError));
            assert_eq!(key.open(NONCE, &AAD, &sealed[..15], &mut out), Err(OpenError));
            assert_eq!(key.open(NONCE, &AAD, &sealed, &mut out[..19]), Err(OpenError));
        }
    }

    /// Whatever the provider: all must be the same on the wire.
    #[cfg(all(feature = "ring", feature = "aws-lc-rs"))]
    #[test]
    fn providers_agree() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let one = aws::Key::new(suite, &[3; KEY_LEN]);
            let other = ring_provider::Key::new(suite, &[3; KEY_LEN]);
            let chosen = Key::new(suite, &[3; KEY_LEN]);
            // Text that ends within a block, at its end, and with nothing in front of the tail.
            for (payload, tail) in [(88, 12), (1_344, 64), (1_345, 52), (16, 16), (0, 12), (7, 0)] {
                let (payload, tail) = (vec![4; payload], vec![5; tail]);
                let mut a = vec![0; payload.len() + tail.len() + TAG_LEN];
                let (mut b, mut c) = (a.clone(), a.clone());
                one.seal(NONCE, &AAD, &payload, &tail, &mut a);
                other.seal(NONCE, &AAD, &payload, &tail, &mut b);
                chosen.seal(NONCE, &AAD, &payload, &tail, &mut c);
                assert_eq!(a, b);
                assert_eq!(a, c);
                let mut opened = vec![0; payload.len() + tail.len()];
                assert_eq!(other.open(NONCE, &AAD, &a, &mut opened), Ok(opened.len()));
                assert_eq!(opened, [&*payload, &*tail].concat());
                opened.fill(0);
                assert_eq!(chosen.open(NONCE, &AAD, &a, &mut opened), Ok(opened.len()));
                assert_eq!(opened, [payload, tail].concat());
            }
        }
    }
}
