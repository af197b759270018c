use std::collections::HashSet;

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

fn key_of(owner: &str, byte: u8) -> OwnerKey {
    let key = KeyBytes::filled(|key| key.fill(byte));
    OwnerKey(Arc::new(Slot::new(owner.parse().unwrap(), key)))
}

fn acme() -> OwnerKey {
    key_of("environment/acme", 0x42)
}

/// `docs/vectors/sealed.json`; `WEFT_VECTORS_WRITE=1` writes it anew.
#[test]
fn the_format_is_as_the_vectors_have_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors/sealed.json");
    let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let mut made = Vec::new();
    for (owner, purpose, context, plaintext) in [
        ("installation", Purpose::Audit, vec![], "".as_bytes()),
        ("environment/acme", Purpose::Secret, vec!["db-password", "3"], b"correct horse"),
        ("environment/acme", Purpose::CertificateAuthority, vec!["ca"], &[7; 70]),
    ] {
        let slot = Slot::new(owner.parse().unwrap(), KeyBytes::filled(|out| *out = key));
        let owner_key = OwnerKey(Arc::new(slot));
        let parts: Vec<&[u8]> = context.iter().map(|part| part.as_bytes()).collect();
        let nonce = std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap());
        let sealed = owner_key.seal_with(nonce, purpose, &parts, plaintext).unwrap();
        assert_eq!(*owner_key.open(purpose, &parts, &sealed).unwrap(), plaintext);
        made.push(serde_json::json!({
            "owner": owner,
            "owner_key": HEXLOWER.encode(&key),
            "purpose": purpose.label(),
            "context": context,
            "nonce": HEXLOWER.encode(&nonce),
            "plaintext": HEXLOWER.encode(plaintext),
            "seal_key": HEXLOWER.encode(owner_key.seal_key(purpose).unwrap().expose()),
            "sealed": HEXLOWER.encode(&sealed),
            "derived": HEXLOWER.encode(owner_key.derive(purpose, &parts).unwrap().expose()),
        }));
    }
    if std::env::var_os("WEFT_VECTORS_WRITE").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(path, text).unwrap();
    }
    let committed: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(made, committed);
}

#[test]
fn every_flip_of_a_bit_is_refused_in_the_same_way() {
    let key = acme();
    for plaintext in [b"".as_slice(), b"a", b"a secret of some length"] {
        let sealed = key.seal(Purpose::Secret, &[b"x"], plaintext).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = key.open(Purpose::Secret, &[b"x"], &changed);
            assert_eq!(opened, Err(OpenError::Refused), "bit {bit}");
        }
        for len in 0..sealed.len() {
            let opened = key.open(Purpose::Secret, &[b"x"], &sealed[..len]);
            assert_eq!(opened, Err(OpenError::Refused), "cut to {len}");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(key.open(Purpose::Secret, &[b"x"], &longer), Err(OpenError::Refused));
    }
}

#[test]
fn no_other_purpose_context_owner_or_key_opens() {
    let sealed = acme().seal(Purpose::Secret, &[b"ab", b"c"], b"secret").unwrap();
    let refused = |key: &OwnerKey, purpose, context: &[&[u8]]| {
        assert_eq!(key.open(purpose, context, &sealed), Err(OpenError::Refused), "{context:?}");
    };
    for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Secret) {
        refused(&acme(), purpose, &[b"ab", b"c"]);
    }
    let contexts: [&[&[u8]]; 6] =
        [&[], &[b"ab"], &[b"abc"], &[b"a", b"bc"], &[b"c", b"ab"], &[b"ab", b"c", b""]];
    for context in contexts {
        refused(&acme(), Purpose::Secret, context);
    }
    // The owner counts also where the key's bytes are the same.
    refused(&key_of("environment/globex", 0x42), Purpose::Secret, &[b"ab", b"c"]);
    refused(&key_of("installation", 0x42), Purpose::Secret, &[b"ab", b"c"]);
    refused(&key_of("environment/acme", 0x43), Purpose::Secret, &[b"ab", b"c"]);
    refused(&acme(), Purpose::Secret, &[&[0; CONTEXT_LEN_MAX + 1]]);
    assert!(acme().open(Purpose::Secret, &[b"ab", b"c"], &sealed).is_ok());
}

#[test]
fn every_purpose_and_thing_has_a_key_of_its_own() {
    let labels: HashSet<_> = Purpose::ALL.iter().map(|purpose| purpose.label()).collect();
    assert_eq!(labels.len(), Purpose::ALL.len());
    let mut seen = HashSet::new();
    for owner in [acme(), key_of("environment/globex", 0x42), key_of("environment/acme", 1)] {
        for purpose in Purpose::ALL {
            assert!(seen.insert(*owner.seal_key(purpose).unwrap().expose()));
            for context in [&[][..], &[b"1".as_slice()], &[b"2"], &[b"1", b"2"]] {
                assert!(seen.insert(*owner.derive(purpose, context).unwrap().expose()));
            }
        }
    }
}

#[test]
fn bounds_are_said_and_held() {
    let long = vec![0; PLAINTEXT_LEN_MAX + 1];
    let error = acme().seal(Purpose::Backup, &[], &long).unwrap_err();
    assert_eq!(error.to_string(), "the plaintext has 16777217 bytes; expected at most 16777216");
    assert!(acme().seal(Purpose::Backup, &[], &long[1..]).is_ok());
    let context = [0; CONTEXT_LEN_MAX + 1];
    let error = acme().seal(Purpose::Backup, &[&context], b"").unwrap_err();
    assert_eq!(error.to_string(), "the context has 4097 bytes; expected at most 4096");
    assert_eq!(acme().derive(Purpose::Backup, &[&context]).unwrap_err(), error);
    assert!(acme().seal(Purpose::Backup, &[&context[1..]], b"").is_ok());
}

#[test]
fn a_withdrawn_key_is_gone_for_all_who_have_it() {
    let key = acme();
    let sealed = key.seal(Purpose::Log, &[], b"x").unwrap();
    let kept = key.clone();
    key.0.withdraw();
    assert_eq!(kept.seal(Purpose::Log, &[], b"x"), Err(SealError::Withdrawn));
    assert_eq!(kept.open(Purpose::Log, &[], &sealed), Err(OpenError::Withdrawn));
    assert_eq!(kept.derive(Purpose::Log, &[]).unwrap_err(), SealError::Withdrawn);
    assert_eq!(format!("{kept:?}"), "OwnerKey(environment/acme)");
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        plaintext in proptest::collection::vec(any::<u8>(), 0..300),
        context in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..4),
        purpose in proptest::sample::select(&Purpose::ALL[..]),
    ) {
        let context: Vec<&[u8]> = context.iter().map(Vec::as_slice).collect();
        let sealed = acme().seal(purpose, &context, &plaintext).unwrap();
        prop_assert_eq!(sealed.len(), plaintext.len() + SEALED_OVERHEAD);
        prop_assert_eq!(&*acme().open(purpose, &context, &sealed).unwrap(), &plaintext);
        let again = acme().seal(purpose, &context, &plaintext).unwrap();
        prop_assert_ne!(again, sealed, "nonces are random");
    }
}
