//! What is sealed, as bytes.
//!
//! ```text
//!  0        1      2       14           14 + n        30 + n
//!  │ version │ suite │ nonce │ ciphertext, n │ tag        │
//! ```
//!
//! | Bytes | Field |
//! |---|---|
//! | 0 | version of this format: 1 |
//! | 1 | suite: 1 is AES-256-GCM-SIV (RFC 8452) with keys by HKDF-SHA256 (RFC 5869) |
//! | 2 to 13 | nonce, random |
//! | 14 to 13 + n | ciphertext, as long as the plaintext |
//! | the last 16 | tag |
//!
//! Nothing in it says whose it is or what for: owner, purpose and context are the opener's to know. The
//! additional data are these parts, each with its length in 8 bytes, big endian, before it: the text
//! `weft v1 sealed`, version and suite, owner, purpose, and the parts of the context. The key is
//! HKDF-Expand(owner's key, the parts `weft v1 seal`, owner, purpose).

/// Bytes of a nonce (RFC 8452 section 4).
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag (RFC 8452 section 4).
pub const TAG_LEN: usize = 16;
/// What sealing adds to the plaintext, bytes.
pub const SEALED_OVERHEAD: usize = HEADER_LEN + NONCE_LEN + TAG_LEN;
/// Longest plaintext, bytes: secrets, keys and certificates are far shorter; bulk data has its own formats.
pub const PLAINTEXT_LEN_MAX: usize = 16 << 20;

const HEADER_LEN: usize = 2;
const VERSION: u8 = 1;
const SUITE_AES_256_GCM_SIV: u8 = 1;

/// Version and suite of what is written now.
pub(crate) const HEADER: [u8; HEADER_LEN] = [VERSION, SUITE_AES_256_GCM_SIV];

/// Why bytes are nothing that was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// Too short or too long.
    #[error(
        "sealed data have {0} bytes; expected {SEALED_OVERHEAD} to {max}",
        max = SEALED_OVERHEAD + PLAINTEXT_LEN_MAX
    )]
    Length(usize),
    /// Made by a later release, or something else.
    #[error("sealed data have version {0}; expected {VERSION}")]
    Version(u8),
    /// Made by a later release, or something else.
    #[error("sealed data have suite {0}; expected {SUITE_AES_256_GCM_SIV}")]
    Suite(u8),
}

/// The fields of sealed data; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The nonce.
    pub nonce: [u8; NONCE_LEN],
    /// As long as the plaintext.
    pub ciphertext: &'a [u8],
    /// The tag over everything.
    pub tag: [u8; TAG_LEN],
}

impl<'a> Sealed<'a> {
    /// Finds the fields. That they can be read says nothing of whether it opens.
    ///
    /// # Errors
    /// [`SealedError`] says what was expected.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SealedError> {
        let length = SealedError::Length(bytes.len());
        if bytes.len() > SEALED_OVERHEAD + PLAINTEXT_LEN_MAX {
            return Err(length);
        }
        let (&[version, suite], rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(length)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(length)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(length)?;
        match (version, suite) {
            (VERSION, SUITE_AES_256_GCM_SIV) => Ok(Self { nonce: *nonce, ciphertext, tag: *tag }),
            (VERSION, other) => Err(SealedError::Suite(other)),
            (other, _) => Err(SealedError::Version(other)),
        }
    }

    /// The bytes that [`Sealed::parse`] reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&HEADER, &self.nonce[..], self.ciphertext, &self.tag].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_say_what_was_expected() {
        let text = |bytes: &[u8]| Sealed::parse(bytes).unwrap_err().to_string();
        assert_eq!(text(&[1; 29]), "sealed data have 29 bytes; expected 30 to 16777246");
        assert_eq!(text(&[2; 30]), "sealed data have version 2; expected 1");
        assert_eq!(
            text(&[[1, 2].as_slice(), &[0; 28]].concat()),
            "sealed data have suite 2; expected 1"
        );
        assert!(Sealed::parse(&[1; 30]).is_ok());
        let longest = [HEADER.as_slice(), &vec![0; PLAINTEXT_LEN_MAX + 28]].concat();
        assert!(Sealed::parse(&longest).is_ok());
        assert!(Sealed::parse(&[longest, vec![0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = [&HEADER[..], &bytes].concat();
            if let Ok(sealed) = Sealed::parse(&bytes) {
                prop_assert_eq!(sealed.encode(), bytes);
            }
        }
    }
}
