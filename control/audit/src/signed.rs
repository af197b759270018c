//! What is signed: heads, which say how far a log had come, and stubs, which stand for segments that expired.
//!
//! ```text
//!  {"statement":{"process":"control-a","segment":3,"seq":1002,"hash":"…","at":"…"},
//!   "key":"…64 digits…","signature":"…128 digits…"}
//! ```
//!
//! The signature is Ed25519 (RFC 8032) over a label, a newline and the bytes of the statement as they stand
//! there. Like a line, it is JSON in one way of writing only.

use std::{fmt, str::FromStr, sync::Arc};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    chain::Position,
    digest::Digest,
    text::{ProcessId, TextError, json_as_text},
    time::Timestamp,
};

/// Longest signed statement, bytes.
pub const SIGNED_LEN_MAX: usize = 2 << 10;

/// What can be signed.
pub trait Statement: Clone + Serialize + DeserializeOwned {
    /// Stands before it when it is signed, so that none is taken for another.
    const LABEL: &'static str;
}

/// How far a log had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Whose log.
    pub process: ProcessId,
    /// The segment of the last line.
    pub segment: u64,
    /// The number of the last line.
    pub seq: u64,
    /// SHA-256 of the last line.
    pub hash: Digest,
    /// When this was signed.
    pub at: Timestamp,
}

impl Head {
    pub(crate) fn position(&self) -> Position {
        Position { segment: self.segment, seq: self.seq, hash: self.hash }
    }
}

impl Statement for Head {
    const LABEL: &'static str = "weft audit head v1";
}

/// What stands in place of segments that expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// Whose log.
    pub process: ProcessId,
    /// The last of the segments that were removed; all before it were too.
    pub segment: u64,
    /// The number of its last line.
    pub seq: u64,
    /// SHA-256 of its last line: the first line of the next segment has it.
    pub hash: Digest,
    /// The latest time of a line that was removed.
    pub latest: Timestamp,
    /// When this was signed.
    pub at: Timestamp,
}

impl Expired {
    pub(crate) fn position(&self) -> Position {
        Position { segment: self.segment, seq: self.seq, hash: self.hash }
    }
}

impl Statement for Expired {
    const LABEL: &'static str = "weft audit expired v1";
}

/// Who verifies knows these: an Ed25519 public key, 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let key = HEXLOWER.decode(text.as_bytes()).ok().and_then(|key| key.try_into().ok());
        key.map(Self).ok_or(TextError { what: "a public key", expected: "64 hexadecimal digits" })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature([u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Signature {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(TextError { what: "a signature", expected: "128 hexadecimal digits" })
    }
}

json_as_text!(PublicKey);
json_as_text!(Signature);

/// The installation's key that signs heads and stubs. Cheap to clone.
#[derive(Clone)]
pub struct Signer(Arc<Ed25519KeyPair>);

/// The private key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit's private key cannot be used; expected an Ed25519 key in PKCS #8")]
pub struct SignerError;

impl Signer {
    /// A new private key in PKCS #8 (RFC 8410), to be sealed and kept.
    #[must_use]
    pub fn generate() -> Zeroizing<Vec<u8>> {
        let key = Ed25519KeyPair::generate().expect("the kernel has random numbers");
        Zeroizing::new(key.to_pkcs8().expect("a key that was just made").as_ref().to_vec())
    }

    /// From what [`Signer::generate`] made.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn from_pkcs8(private_key: &[u8]) -> Result<Self, SignerError> {
        let key = Ed25519KeyPair::from_pkcs8(private_key).map_err(|_| SignerError)?;
        Ok(Self(Arc::new(key)))
    }

    /// For who verifies.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let key = self.0.public_key().as_ref();
        PublicKey(key.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Signs a statement.
    #[must_use]
    pub fn sign<T: Statement>(&self, statement: T) -> Signed<T> {
        let signature = self.0.sign(&signed_bytes(&statement));
        let signature = signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes");
        Signed { statement, key: self.public_key(), signature: Signature(signature) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key())
    }
}

/// A statement that somebody signed; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound = "T: Statement")]
pub struct Signed<T> {
    statement: T,
    key: PublicKey,
    signature: Signature,
}

/// A signed head.
pub type SignedHead = Signed<Head>;

/// Why a signed statement is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Not JSON, or not with these fields, or not written as Weft writes it.
    #[error("a signed statement cannot be read")]
    Malformed,
    /// By a key that is not trusted.
    #[error("a statement is signed by {0}, which is not trusted")]
    Untrusted(PublicKey),
    /// By nobody.
    #[error("a signature does not fit its statement")]
    Forged,
}

impl<T: Statement> Signed<T> {
    /// Reads what [`Signed::encode`] wrote; believes nothing.
    ///
    /// # Errors
    /// [`SignedError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SignedError> {
        if bytes.len() > SIGNED_LEN_MAX {
            return Err(SignedError::Malformed);
        }
        let signed: Self = serde_json::from_slice(bytes).map_err(|_| SignedError::Malformed)?;
        if signed.encode() == bytes { Ok(signed) } else { Err(SignedError::Malformed) }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers")
    }

    /// What was signed, if one of `trusted` did it.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<&T, SignedError> {
        if !trusted.contains(&self.key) {
            return Err(SignedError::Untrusted(self.key));
        }
        UnparsedPublicKey::new(&ED25519, self.key.0)
            .verify(&signed_bytes(&self.statement), &self.signature.0)
            .map_err(|_| SignedError::Forged)?;
        Ok(&self.statement)
    }

    /// What it says, whoever signed it.
    #[must_use]
    pub fn unverified(&self) -> &T {
        &self.statement
    }
}

fn signed_bytes<T: Statement>(statement: &T) -> Vec<u8> {
    let text = serde_json::to_string(statement).expect("texts and numbers");
    format!("{}\n{text}", T::LABEL).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let at = "2026-11-30T06:48:10.123456Z".parse().unwrap();
        let hash = Digest::of(b"x");
        Head { process: "control-a".parse().unwrap(), segment: 3, seq: 1002, hash, at }
    }

    #[test]
    fn nothing_of_a_signed_statement_can_be_changed() {
        let signer = Signer::from_pkcs8(&Signer::generate()).unwrap();
        let signed = signer.sign(head());
        let bytes = signed.encode();
        let trusted = [signer.public_key()];
        assert_eq!(Signed::<Head>::parse(&bytes).unwrap().verify(&trusted), Ok(&head()));
        for at in 0..bytes.len() {
            for change in [1, 2, 0x20] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let verified =
                    Signed::<Head>::parse(&changed).and_then(|s| s.verify(&trusted).cloned());
                assert!(verified.is_err(), "byte {at}");
            }
        }
        assert!(Signed::<Head>::parse(&[&bytes[..], b" "].concat()).is_err());
        assert!(Signed::<Expired>::parse(&bytes).is_err());
    }

    #[test]
    fn only_trusted_keys_count() {
        let signer = Signer::from_pkcs8(&Signer::generate()).unwrap();
        let other = Signer::from_pkcs8(&Signer::generate()).unwrap();
        let error = signer.sign(head()).verify(&[other.public_key()]).unwrap_err();
        assert_eq!(error, SignedError::Untrusted(signer.public_key()));
        let posed = Signed { key: other.public_key(), ..signer.sign(head()) };
        assert_eq!(posed.verify(&[other.public_key()]), Err(SignedError::Forged));
        assert!(Signer::from_pkcs8(b"x").is_err());
        assert_eq!(format!("{signer:?}"), format!("Signer({})", signer.public_key()));
    }
}
