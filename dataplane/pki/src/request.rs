//! Requests for certificates: a key that its owner keeps, and the proof that it has it.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKey,
};
use rustls_pki_types::CertificateSigningRequestDer;
use zeroize::Zeroizing;

use crate::{
    certificate::{KeyKind, sha256},
    issue::{IssueError, ZeroizingKey, generate},
};

/// Longest request, bytes of DER. Ours have about 250.
pub const SIGNING_REQUEST_LEN_MAX: usize = 4096;

/// Why bytes are not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too long.
    #[error("has {0} bytes; expected at most {SIGNING_REQUEST_LEN_MAX}")]
    TooLarge(usize),
    /// Not a request, or not signed with its key.
    #[error("cannot be used: {0}; expected a PKCS #10 request in DER, signed with its own key")]
    Malformed(String),
    /// A key that is not accepted.
    #[error("has another kind of key; expected ECDSA P-256, P-384 or Ed25519")]
    Key,
}

/// A public key whose owner has proven to have the private one (RFC 2986). Whatever else the request says is
/// not looked at: who the certificate is for is decided by whoever issues it.
#[derive(Debug, Clone)]
pub struct SigningRequest {
    public_key: PublicKey,
}

impl SigningRequest {
    /// Reads a request and checks its signature.
    ///
    /// # Errors
    /// [`RequestError`] says what was expected.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > SIGNING_REQUEST_LEN_MAX {
            return Err(RequestError::TooLarge(der.len()));
        }
        let request = CertificateSigningRequestDer::from(der);
        let parsed = CertificateSigningRequestParams::from_der(&request)
            .map_err(|e| RequestError::Malformed(e.to_string()))?;
        let accepted = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        if !accepted.contains(&parsed.public_key.algorithm()) {
            return Err(RequestError::Key);
        }
        Ok(Self { public_key: parsed.public_key })
    }

    /// SHA-256 of the key (SubjectPublicKeyInfo in DER).
    #[must_use]
    pub fn key_hash(&self) -> [u8; 32] {
        sha256(&rcgen::PublicKeyData::subject_public_key_info(&self.public_key))
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// A new key with a request for it.
pub struct NewKey {
    /// `BEGIN PRIVATE KEY` (PKCS #8), wiped on drop.
    pub key_pem: Zeroizing<String>,
    /// PKCS #10 in DER.
    pub request: Vec<u8>,
}

/// Makes a key and a request that says nothing but that whoever sends it has the key.
///
/// # Errors
/// [`IssueError::Library`].
pub fn new_key(kind: KeyKind) -> Result<NewKey, IssueError> {
    let key = generate(kind)?;
    let request = CertificateParams::default().serialize_request(&*key)?;
    Ok(NewKey { key_pem: Zeroizing::new(key.serialize_pem()), request: request.der().to_vec() })
}

/// Asks again for a key that is there: the same request says the same.
///
/// # Errors
/// [`IssueError::Library`] when the text is no private key.
pub fn for_key(key_pem: &str) -> Result<NewKey, IssueError> {
    let key = ZeroizingKey(KeyPair::from_pem(key_pem)?);
    let request = CertificateParams::default().serialize_request(&*key)?;
    Ok(NewKey { key_pem: Zeroizing::new(key_pem.to_owned()), request: request.der().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_asked_for_again() {
        let new = new_key(KeyKind::EcdsaP256).unwrap();
        let again = for_key(&new.key_pem).unwrap();
        let hash = |new: &NewKey| SigningRequest::from_der(&new.request).unwrap().key_hash();
        assert_eq!(hash(&new), hash(&again));
        assert!(for_key("no key").is_err());
    }

    #[test]
    fn every_kind_of_key_is_requested() {
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
            let new = new_key(kind).unwrap();
            let request = SigningRequest::from_der(&new.request).unwrap();
            assert_ne!(request.key_hash(), [0; 32]);
        }
    }

    #[test]
    fn no_change_of_a_request_makes_it_one_for_another_key() {
        let new = new_key(KeyKind::EcdsaP256).unwrap();
        let key_hash = SigningRequest::from_der(&new.request).unwrap().key_hash();
        for at in 0..new.request.len() {
            for bit in 0..8 {
                let mut changed = new.request.clone();
                changed[at] ^= 1 << bit;
                // Not every bit of the encoding is signed.
                let other =
                    SigningRequest::from_der(&changed).is_ok_and(|r| r.key_hash() != key_hash);
                assert!(!other, "byte {at}, bit {bit}");
            }
            assert!(SigningRequest::from_der(&new.request[..at]).is_err(), "cut at {at}");
        }
        let long = vec![0x30; SIGNING_REQUEST_LEN_MAX + 1];
        assert_eq!(SigningRequest::from_der(&long).unwrap_err(), RequestError::TooLarge(4097));
    }
}
