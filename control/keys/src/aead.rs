//! AES-256-GCM-SIV of aws-lc-rs, the only place that calls it.
//!
//! GCM-SIV (RFC 8452) and not GCM: nonces are random and chosen by many processes that cannot count together,
//! and restored machines may even repeat their random numbers. A repeated nonce of GCM gives the
//! authentication key away; here it shows no more than that two messages are equal. Random nonces are good for
//! far more messages under one key than any owner has (section 9: 2^32 and more).

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{
    sealed::{NONCE_LEN, TAG_LEN},
    secret::{KeyBytes, scrub_stack},
};

/// Encrypts `in_out`; returns the tag.
pub(crate) fn seal(
    key: &KeyBytes,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    in_out: &mut [u8],
) -> [u8; TAG_LEN] {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = cipher(key)
        .seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)
        .expect("the length is below the cipher's bound");
    scrub_stack();
    tag.as_ref().try_into().expect("a tag of this cipher")
}

/// Decrypts into `out`, which has the ciphertext's length. `None` leaves nothing of the plaintext in it.
pub(crate) fn open(
    key: &KeyBytes,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8; TAG_LEN],
    out: &mut [u8],
) -> Option<()> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = cipher(key).open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, out);
    scrub_stack();
    if opened.is_err() {
        out.fill(0);
    }
    opened.ok()
}

fn cipher(key: &KeyBytes) -> LessSafeKey {
    let key =
        UnboundKey::new(&AES_256_GCM_SIV, key.expose()).expect("a key of this cipher's length");
    LessSafeKey::new(key)
}

/// Parts as one string of bytes, each with its length (8 bytes, big endian) before it, so that no two lists
/// are one string.
pub(crate) fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        all.extend((part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 8452 appendix C.2, the second test of AEAD_AES_256_GCM_SIV.
    #[test]
    fn it_is_the_cipher_of_the_rfc() {
        let key = KeyBytes::filled(|key| {
            key[0] = 1;
        });
        let mut nonce = [0; NONCE_LEN];
        nonce[0] = 3;
        let mut data: [u8; 8] = hex("0100000000000000");
        let tag = seal(&key, nonce, b"", &mut data);
        assert_eq!(data, hex("c2ef328e5c71c83b"));
        assert_eq!(tag, hex("843122130f7364b761e0b97427e3df28"));
        let mut out = [0; 8];
        assert!(open(&key, nonce, b"", &data, &tag, &mut out).is_some());
        assert_eq!(out, hex("0100000000000000"));
        assert!(open(&key, nonce, b"x", &data, &tag, &mut out).is_none());
        assert_eq!(out, [0; 8], "nothing is left of what does not open");
    }
}
