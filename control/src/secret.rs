//! Random bytes, and secrets that people and machines show.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

/// Bytes of a secret: 256 bits, so that its hash needs no salt and no slowness.
const SECRET_LEN: usize = 32;

/// Random bytes of the kernel.
///
/// # Panics
/// When the kernel has none: then nothing here may go on.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "nothing is safe without random bytes")]
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}

/// A new secret and the hash by which it is known again.
#[must_use]
pub fn new(prefix: &str) -> (Zeroizing<String>, String) {
    let secret = Zeroizing::new(format!("{prefix}_{}", hex(&random::<SECRET_LEN>())));
    let hash = hash(&secret);
    (secret, hash)
}

/// SHA-256 of what somebody shows, hexadecimal.
#[must_use]
pub fn hash(secret: &str) -> String {
    hex(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

/// Bytes as hexadecimal digits in lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_and_made_once() {
        let (one, one_hash) = new("weft_join");
        let (two, two_hash) = new("weft_join");
        assert!(one.starts_with("weft_join_") && one.len() == "weft_join_".len() + 64);
        assert_ne!((&one, &one_hash), (&two, &two_hash));
        assert_eq!(hash(&one), one_hash);
        assert_eq!(hex(&[0, 9, 10, 255]), "00090aff");
    }
}
