//! One-time passwords by time (RFC 6238, RFC 4226), as authenticators make them: HMAC-SHA-1, 6 digits, 30 s.

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

/// Bytes of a seed (RFC 4226 section 4, R6: 160 bits).
pub const SEED_LEN: usize = 20;
/// Digits of a code.
const DIGITS: usize = 6;
/// How many codes there are: ten for each digit.
const CODES: u32 = 1_000_000;

/// What codes are made of; wiped when it is dropped.
pub type Seed = Zeroizing<Vec<u8>>;

/// The code of a step (RFC 4226 section 5.3).
#[must_use]
pub fn code_at(seed: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
    let chosen: [u8; 4] = std::array::from_fn(|n| tag.get(at + n).copied().unwrap_or_default());
    let number = u32::from_be_bytes(chosen) & 0x7fff_ffff;
    format!("{:0DIGITS$}", number % CODES)
}

/// Whether this is the code of a step; how long it takes does not say how much of it is right.
#[must_use]
pub fn is_code_at(seed: &[u8], step: u64, shown: &str) -> bool {
    let code = code_at(seed, step);
    constant_time::verify_slices_are_equal(code.as_bytes(), shown.as_bytes()).is_ok()
}

/// Whether text has the form of a code.
#[must_use]
pub fn is_code(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A seed as people type it into an authenticator.
#[must_use]
pub fn spell(seed: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE32_NOPAD.encode(seed))
}

/// What authenticators read from a picture (Key URI format): `otpauth://totp/weft:you@example.com?…`.
#[must_use]
pub fn uri(issuer: &str, email: &str, seed: &[u8]) -> Zeroizing<String> {
    let account: String = email.bytes().map(escaped).collect();
    let seed = spell(seed);
    Zeroizing::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}",
        seed.as_str()
    ))
}

/// RFC 3986 section 2.1.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_4226_and_rfc_6238() {
        // RFC 4226 appendix D.
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        for (step, code) in (0..).zip(codes) {
            assert_eq!(code_at(SEED, step), code);
        }
        // RFC 6238 appendix B, the last 6 of its 8 digits.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(SEED, seconds / 30), code);
            assert!(is_code_at(SEED, seconds / 30, code) && is_code(code));
        }
        assert!(!is_code_at(SEED, 0, "755225") && !is_code_at(SEED, 0, "") && !is_code("75522"));
    }

    #[test]
    fn an_authenticator_reads_it() {
        let uri = uri("weft", "you+x@example.com", SEED);
        let expected = "otpauth://totp/weft:you%2Bx%40example.com?\
                        secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=weft";
        assert_eq!(uri.as_str(), expected);
    }
}
