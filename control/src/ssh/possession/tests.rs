//! Signatures of OpenSSH 9.2, and what is none.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use ssh_key::{LineEnding, Mpint, Signature, public::Ed25519PublicKey};

use super::*;

const NAMESPACE: &str = "ssh-key@weft";
const MESSAGE: &[u8] = include_bytes!("vectors/message");

macro_rules! vector {
    ($name:literal) => {
        (
            include_str!(concat!("vectors/", $name, ".pub")),
            include_str!(concat!("vectors/", $name, ".sig")),
        )
    };
}

/// Of each kind of key that is taken its public key, and its signature of the message.
const VECTORS: [(&str, &str); 5] = [
    vector!("ed25519"),
    vector!("ecdsa256"),
    vector!("ecdsa384"),
    vector!("ecdsa521"),
    vector!("rsa3072"),
];

fn key(line: &str) -> PublicKey {
    PublicKey::parse(line).unwrap()
}

#[test]
fn what_ssh_keygen_signs_is_good_for_each_kind_of_key() {
    for (line, signature) in VECTORS {
        assert_eq!(key(line).verify(NAMESPACE, MESSAGE, signature), Ok(()), "{line}");
        // As it may come from elsewhere.
        let crlf = format!("\r\n{}\r\n", signature.replace('\n', "\r\n"));
        assert_eq!(key(line).verify(NAMESPACE, MESSAGE, &crlf), Ok(()), "{line}");
    }
    let sha256 = include_str!("vectors/ed25519-sha256.sig");
    assert_eq!(key(VECTORS[0].0).verify(NAMESPACE, MESSAGE, sha256), Ok(()));
}

#[test]
fn another_message_key_or_purpose_is_not() {
    for (n, (line, signature)) in VECTORS.into_iter().enumerate() {
        let other = key(line).verify(NAMESPACE, b"another message", signature);
        assert_eq!(other, Err(SignatureError::Message), "{line}");
        let (other, _) = VECTORS[(n + 1) % VECTORS.len()];
        let refused = key(other).verify(NAMESPACE, MESSAGE, signature);
        assert_eq!(refused, Err(SignatureError::Key), "{other}");
        let refused = key(line).verify("git", MESSAGE, signature);
        assert_eq!(refused, Err(SignatureError::Namespace("git")), "{line}");
    }
    let for_files = include_str!("vectors/ed25519-file.sig");
    let refused = key(VECTORS[0].0).verify(NAMESPACE, MESSAGE, for_files).unwrap_err();
    let said = "is for another purpose; expected the namespace ssh-key@weft (ssh-keygen -Y sign -n ssh-key@weft)";
    assert_eq!(refused.to_string(), said);
}

#[test]
fn what_is_no_signature_is_none() {
    let (line, signature) = VECTORS[0];
    let body = signature.lines().nth(1).unwrap();
    let cut = signature.replace(body, &body[..body.len() - 4]);
    let changed = signature.replace("U1NIU0lH", "U1NIU0lI");
    for malformed in ["", "-----BEGIN SSH SIGNATURE-----", body, line, &cut, &changed] {
        let refused = key(line).verify(NAMESPACE, MESSAGE, malformed);
        assert_eq!(refused, Err(SignatureError::Malformed), "{malformed}");
    }
    let long = "x".repeat(SIGNATURE_LEN_MAX + 1);
    let refused = key(line).verify(NAMESPACE, MESSAGE, &long);
    assert_eq!(refused, Err(SignatureError::Length(SIGNATURE_LEN_MAX + 1)));
}

/// A signature of `data` in its armour, said to be of this key and kind.
fn armoured(key: &KeyData, algorithm: Algorithm, bytes: &[u8]) -> String {
    let signature = Signature::new(algorithm, bytes).unwrap();
    let signed = SshSig::new(key.clone(), NAMESPACE, HashAlg::Sha512, signature).unwrap();
    signed.to_pem(LineEnding::LF).unwrap()
}

fn line_of(key: KeyData) -> String {
    ssh_key::PublicKey::from(key).to_openssh().unwrap()
}

#[test]
fn a_signature_of_another_kind_than_its_key_is_refused() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let data = KeyData::Ed25519(Ed25519PublicKey(public));
    let signed = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, MESSAGE).unwrap();
    let bytes = pair.sign(&signed);
    let key = key(&line_of(data.clone()));
    let good = armoured(&data, Algorithm::Ed25519, bytes.as_ref());
    assert_eq!(key.verify(NAMESPACE, MESSAGE, &good), Ok(()));
    let rsa = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
    let refused = key.verify(NAMESPACE, MESSAGE, &armoured(&data, rsa, bytes.as_ref()));
    assert_eq!(refused, Err(SignatureError::Algorithm));
    // A signature of hardware says more than what is signed here.
    let flagged = [bytes.as_ref(), &[1, 0, 0, 0, 0]].concat();
    let hardware = armoured(&data, Algorithm::SkEd25519, &flagged);
    let refused = key.verify(NAMESPACE, MESSAGE, &hardware);
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn rsa_is_taken_with_either_hash_of_sha_2() {
    let pair = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
    let public = pair.public_key();
    let number = |bytes: &[u8]| Mpint::from_positive_bytes(bytes).unwrap();
    let data = KeyData::Rsa(RsaPublicKey {
        e: number(public.exponent().big_endian_without_leading_zero()),
        n: number(public.modulus().big_endian_without_leading_zero()),
    });
    let key = key(&line_of(data.clone()));
    let signed = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, MESSAGE).unwrap();
    let kinds: [(&'static dyn RsaEncoding, _); 2] =
        [(&RSA_PKCS1_SHA256, HashAlg::Sha256), (&RSA_PKCS1_SHA512, HashAlg::Sha512)];
    for (encoding, hash) in kinds {
        let mut bytes = vec![0; public.modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), &signed, &mut bytes).unwrap();
        let said = |hash| armoured(&data, Algorithm::Rsa { hash: Some(hash) }, &bytes);
        assert_eq!(key.verify(NAMESPACE, MESSAGE, &said(hash)), Ok(()));
        let other = if hash == HashAlg::Sha256 { HashAlg::Sha512 } else { HashAlg::Sha256 };
        let refused = key.verify(NAMESPACE, MESSAGE, &said(other));
        assert_eq!(refused, Err(SignatureError::Message));
    }
}
