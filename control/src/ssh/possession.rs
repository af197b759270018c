//! Who shows a public key has the private one: a signature in the form of `ssh-keygen -Y sign` (OpenSSH,
//! PROTOCOL.sshsig), verified by what verifies everything else here.

use std::iter::repeat_n;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use ssh_key::{
    Algorithm, HashAlg, SshSig,
    public::{EcdsaPublicKey, KeyData, RsaPublicKey},
};

use super::PublicKey;

/// Longest signature in its armour, bytes: one of an RSA key of 8,192 bits has 3,000.
pub const SIGNATURE_LEN_MAX: usize = 8_192;

/// Why a signature shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Longer than any.
    #[error("has {0} bytes; expected at most {SIGNATURE_LEN_MAX}")]
    Length(usize),
    /// No signature at all.
    #[error(
        "is none of ssh-keygen -Y sign; expected -----BEGIN SSH SIGNATURE----- and what follows"
    )]
    Malformed,
    /// Somebody has signed with another key.
    #[error("is of another key than the one that is to be added")]
    Key,
    /// It was made for something else.
    #[error("is for another purpose; expected the namespace {0} (ssh-keygen -Y sign -n {0})")]
    Namespace(&'static str),
    /// With a hash that collides.
    #[error(
        "is of another kind than its key takes; expected SHA-2, with RSA rsa-sha2-256 or rsa-sha2-512"
    )]
    Algorithm,
    /// It is good for other words, or for none.
    #[error("is not of this message")]
    Message,
}

impl PublicKey {
    /// Whether `armoured` is what the owner of this key has signed, and signed for this.
    ///
    /// # Errors
    /// [`SignatureError`] says what was expected.
    pub fn verify(
        &self,
        namespace: &'static str,
        message: &[u8],
        armoured: &str,
    ) -> Result<(), SignatureError> {
        if armoured.len() > SIGNATURE_LEN_MAX {
            return Err(SignatureError::Length(armoured.len()));
        }
        let signed = SshSig::from_pem(armoured.trim()).map_err(|_| SignatureError::Malformed)?;
        if signed.version() != SshSig::VERSION || !signed.reserved().is_empty() {
            return Err(SignatureError::Malformed);
        }
        if *signed.public_key() != self.data {
            return Err(SignatureError::Key);
        }
        if signed.namespace() != namespace {
            return Err(SignatureError::Namespace(namespace));
        }
        let hash = signed.hash_alg();
        let data = SshSig::signed_data(namespace, hash, message);
        let data = data.map_err(|_| SignatureError::Malformed)?;
        let (algorithm, bytes) = (signed.algorithm(), signed.signature_bytes());
        let verified = match (&self.data, algorithm) {
            (KeyData::Ed25519(key), Algorithm::Ed25519) => {
                UnparsedPublicKey::new(&ED25519, key.0).verify(&data, bytes).is_ok()
            }
            (KeyData::Ecdsa(key), Algorithm::Ecdsa { curve }) if curve == key.curve() => {
                is_by_ecdsa(key, &data, bytes)
            }
            (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(hash) }) => {
                is_by_rsa(key, hash, &data, bytes)
            }
            _ => return Err(SignatureError::Algorithm),
        };
        verified.then_some(()).ok_or(SignatureError::Message)
    }
}

fn is_by_ecdsa(key: &EcdsaPublicKey, data: &[u8], signature: &[u8]) -> bool {
    // RFC 5656 section 6.2.1: the curve says which hash.
    let (algorithm, len): (&'static EcdsaVerificationAlgorithm, _) = match key {
        EcdsaPublicKey::NistP256(_) => (&ECDSA_P256_SHA256_FIXED, 32),
        EcdsaPublicKey::NistP384(_) => (&ECDSA_P384_SHA384_FIXED, 48),
        EcdsaPublicKey::NistP521(_) => (&ECDSA_P521_SHA512_FIXED, 66),
    };
    let Some(fixed) = of_fixed_length(signature, len) else { return false };
    UnparsedPublicKey::new(algorithm, key.as_sec1_bytes()).verify(data, &fixed).is_ok()
}

/// The two numbers of a signature of ECDSA (RFC 5656 section 3.1.2), each in so many bytes.
fn of_fixed_length(mut signature: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut fixed = Vec::with_capacity(2 * len);
    for _ in 0..2 {
        let (number_len, rest) = signature.split_first_chunk::<4>()?;
        let number_len = usize::try_from(u32::from_be_bytes(*number_len)).ok()?;
        let (number, rest) = rest.split_at_checked(number_len)?;
        pad(number, len, &mut fixed)?;
        signature = rest;
    }
    signature.is_empty().then_some(fixed)
}

/// Writes a positive number in so many bytes.
fn pad(number: &[u8], len: usize, to: &mut Vec<u8>) -> Option<()> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    to.extend(repeat_n(0, len.checked_sub(number.len())?));
    to.extend_from_slice(number);
    Some(())
}

fn is_by_rsa(key: &RsaPublicKey, hash: HashAlg, data: &[u8], signature: &[u8]) -> bool {
    let algorithm = match hash {
        HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => return false,
    };
    let (Some(n), Some(e)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else {
        return false;
    };
    // RFC 8332 section 3 lets it be written without leading zeros.
    let mut padded = Vec::with_capacity(n.len());
    if pad(signature, n.len(), &mut padded).is_none() {
        return false;
    }
    RsaPublicKeyComponents { n, e }.verify(algorithm, data, &padded).is_ok()
}

#[cfg(test)]
mod tests;
