//! Public keys of SSH: which are taken, by what they are known, and who shows that one is theirs.

mod possession;

use aws_lc_rs::digest;
use data_encoding::BASE64_NOPAD;
use ssh_key::public::KeyData;
use weft_audit::{Fact, Name};

pub use self::possession::{SIGNATURE_LEN_MAX, SignatureError};
use crate::secret::hex;

/// Shortest RSA key, bits (NIST SP 800-57 part 1, table 2: 128 bits of strength).
pub const RSA_BITS_MIN: usize = 3_072;
/// Longest RSA key, bits: signatures of longer ones are not looked at, since that takes long.
pub const RSA_BITS_MAX: usize = 8_192;
/// Longest line with a key, bytes: an RSA key of 8,192 bits has 1,400, beside its comment.
pub const LINE_LEN_MAX: usize = 8_192;
/// What a fingerprint begins with, as OpenSSH prints it.
const SHA256: &str = "SHA256:";

/// Why a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshKeyError {
    /// Longer than any key.
    #[error("has {0} bytes; expected at most {LINE_LEN_MAX}")]
    Length(usize),
    /// A private key: nobody should have it but its owner.
    #[error("is a private key, which is to stay where it is; expected the public one (.pub)")]
    Private,
    /// No public key at all.
    #[error("is no public key of OpenSSH; expected a line as ssh-ed25519 AAAA…")]
    Malformed,
    /// Too short to be safe.
    #[error("is an RSA key of {0} bits; expected at least {RSA_BITS_MIN}")]
    Short(usize),
    /// Longer than what is verified.
    #[error("is an RSA key of {0} bits; expected at most {RSA_BITS_MAX}")]
    Long(usize),
    /// Of another kind.
    #[error("is of the kind {0}; expected ed25519, ecdsa, or RSA of at least {RSA_BITS_MIN} bits")]
    Kind(String),
}

/// A key that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// SHA-256 of the key as it goes over the wire, hexadecimal.
    pub fingerprint: String,
    /// A line of OpenSSH without a comment.
    pub line: String,
    /// What the line says after the key.
    pub comment: String,
    data: KeyData,
}

impl PublicKey {
    /// Reads a line such as `ssh-ed25519 AAAA… you@laptop`.
    ///
    /// # Errors
    /// [`SshKeyError`] says what was expected.
    pub fn parse(line: &str) -> Result<Self, SshKeyError> {
        if line.len() > LINE_LEN_MAX {
            return Err(SshKeyError::Length(line.len()));
        }
        if line.contains("PRIVATE KEY") {
            return Err(SshKeyError::Private);
        }
        let key = ssh_key::PublicKey::from_openssh(line.trim());
        let mut key = key.map_err(|_| SshKeyError::Malformed)?;
        match key.key_data() {
            KeyData::Ed25519(_) | KeyData::Ecdsa(_) => {}
            KeyData::Rsa(rsa) => {
                let bits = bits(rsa.n.as_positive_bytes().unwrap_or_default());
                if bits < RSA_BITS_MIN {
                    return Err(SshKeyError::Short(bits));
                }
                if bits > RSA_BITS_MAX {
                    return Err(SshKeyError::Long(bits));
                }
            }
            other => return Err(SshKeyError::Kind(other.algorithm().as_str().to_owned())),
        }
        let comment = key.comment().to_owned();
        key.set_comment("");
        let blob = key.to_bytes().map_err(|_| SshKeyError::Malformed)?;
        let line = key.to_openssh().map_err(|_| SshKeyError::Malformed)?;
        let line = line.trim_end().to_owned();
        Ok(Self { fingerprint: fingerprint(&blob), line, comment, data: key.key_data().clone() })
    }
}

/// Bits of a number, the highest byte first.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let len = significant.clone().count();
    let first = significant.copied().next().unwrap_or_default();
    (len * 8).saturating_sub(first.leading_zeros() as usize)
}

/// SHA-256 of a key as it goes over the wire, hexadecimal.
#[must_use]
pub fn fingerprint(blob: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, blob).as_ref())
}

/// Digits of a fingerprint in the audit, whose names have 63 characters at most: 248 of 256 bits.
const AUDITED_LEN: usize = 62;

/// A hexadecimal fingerprint as the audit has it: its first digits.
#[must_use]
pub fn audited(hexadecimal: &str) -> Fact {
    Fact::Name(Name::asked(hexadecimal.get(..AUDITED_LEN).unwrap_or_default()))
}

/// A fingerprint as OpenSSH prints it, `SHA256:` and base 64, as hexadecimal; nothing when it is none.
#[must_use]
pub fn read_fingerprint(text: &str) -> Option<String> {
    let bytes = BASE64_NOPAD.decode(text.strip_prefix(SHA256)?.as_bytes()).ok()?;
    (bytes.len() == digest::SHA256_OUTPUT_LEN).then(|| hex(&bytes))
}

/// A hexadecimal fingerprint as OpenSSH prints it.
#[must_use]
pub fn print_fingerprint(hexadecimal: &str) -> String {
    let bytes = data_encoding::HEXLOWER.decode(hexadecimal.as_bytes()).unwrap_or_default();
    format!("{SHA256}{}", BASE64_NOPAD.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    /// A string of RFC 4251 section 5.
    fn string(bytes: &[u8]) -> Vec<u8> {
        let len = u32::try_from(bytes.len()).unwrap();
        [&len.to_be_bytes(), bytes].concat()
    }

    fn line(kind: &str, parts: &[Vec<u8>]) -> String {
        let blob = [string(kind.as_bytes()), parts.concat()].concat();
        format!("{kind} {} you@laptop", BASE64.encode(&blob))
    }

    fn rsa(bits: usize) -> String {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = 0xff >> ((8 - bits % 8) % 8);
        if modulus[0] & 0x80 != 0 {
            modulus.insert(0, 0);
        }
        line("ssh-rsa", &[string(&[1, 0, 1]), string(&modulus)])
    }

    fn refused(line: &str) -> String {
        PublicKey::parse(line).unwrap_err().to_string()
    }

    #[test]
    fn ed25519_ecdsa_and_long_rsa_are_taken() {
        let point = [&[4][..], &[7; 64]].concat();
        let ecdsa = line("ecdsa-sha2-nistp256", &[string(b"nistp256"), string(&point)]);
        let lines = [line("ssh-ed25519", &[string(&[7; 32])]), ecdsa, rsa(3_072), rsa(8_192)];
        for line in lines {
            let key = PublicKey::parse(&line).unwrap();
            assert_eq!(key.comment, "you@laptop");
            assert_eq!(format!("{} you@laptop", key.line), line);
            let blob = line.split(' ').nth(1).unwrap();
            assert_eq!(key.fingerprint, fingerprint(&BASE64.decode(blob.as_bytes()).unwrap()));
            let printed = print_fingerprint(&key.fingerprint);
            assert_eq!(read_fingerprint(&printed), Some(key.fingerprint));
        }
    }

    #[test]
    fn others_are_not_and_the_refusal_says_why() {
        assert_eq!(refused(&rsa(3_071)), "is an RSA key of 3071 bits; expected at least 3072");
        assert_eq!(refused(&rsa(8_193)), "is an RSA key of 8193 bits; expected at most 8192");
        assert_eq!(refused(&rsa(2_048)), "is an RSA key of 2048 bits; expected at least 3072");
        let number = || string(&[1; 20]);
        let dsa = refused(&line("ssh-dss", &[number(), number(), number(), number()]));
        assert!(
            dsa.starts_with("is of the kind ssh-dss; expected ed25519, ecdsa, or RSA"),
            "{dsa}"
        );
        let hardware = line("sk-ssh-ed25519@openssh.com", &[string(&[7; 32]), string(b"ssh:")]);
        assert!(refused(&hardware).starts_with("is of the kind sk-ssh-ed25519@openssh.com"));
        for malformed in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 !", "a b c"] {
            assert!(refused(malformed).starts_with("is no public key"), "{malformed}");
        }
        let short = line("ssh-ed25519", &[string(&[7; 31])]);
        assert!(refused(&short).starts_with("is no public key"));
        assert!(refused("-----BEGIN OPENSSH PRIVATE KEY-----").starts_with("is a private key"));
        assert!(refused(&"x".repeat(LINE_LEN_MAX + 1)).starts_with("has 8193 bytes"));
    }

    #[test]
    fn the_audit_has_as_much_of_a_fingerprint_as_a_name_can_be() {
        let whole = fingerprint(b"a key");
        assert_eq!(audited(&whole).to_string(), whole[..62]);
        assert_eq!(audited("").to_string(), "_");
    }

    #[test]
    fn what_is_no_fingerprint_is_none() {
        for text in ["", "SHA256:", "SHA256:AAAA", "MD5:00", &"0".repeat(64)] {
            assert_eq!(read_fingerprint(text), None, "{text}");
        }
    }
}
