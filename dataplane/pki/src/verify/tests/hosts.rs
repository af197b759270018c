//! Wrong host certificates of the right authority.

use std::{net::IpAddr, slice, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose as Extended,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, SanType,
};

use super::lab::{HOST, Lab, authority, dns, host, judged_at, now, uri};
use crate::{
    certificate::sha256,
    error::{ErrorClass, PkiError, Subject},
    verify::verify_peer,
};

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn refused(params: &CertificateParams, class: ErrorClass) -> String {
    let error = Lab::new().judge(params).unwrap_err();
    assert_eq!(error.class(), class, "{error}");
    error.to_string()
}

#[test]
fn a_good_one_is_accepted_with_each_kind_of_key() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let lab = Lab::with_key(authority(), algorithm);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = lab.issue_to(&host(), &key);
        let peer = verify_peer(&lab.anchor(), slice::from_ref(&leaf), judged_at(now())).unwrap();
        assert_eq!(peer.identity.to_string(), HOST);
        assert_eq!(peer.not_after, now() + DAY);
        assert_eq!(peer.certificate_hash, sha256(&leaf));
    }
}

#[test]
fn dates_count_to_the_second() {
    let lab = Lab::new();
    assert!(lab.judge_at(&host(), now() - DAY).is_ok());
    assert!(lab.judge_at(&host(), now() + DAY).is_ok());
    assert_eq!(
        lab.judge_at(&host(), now() - DAY - SECOND),
        Err(PkiError::NotYetValid { subject: Subject::Host, not_before: now() - DAY })
    );
    assert_eq!(
        lab.judge_at(&host(), now() + DAY + SECOND),
        Err(PkiError::Expired { subject: Subject::Host, not_after: now() + DAY })
    );
}

#[test]
fn both_usages_are_needed() {
    for (usages, text) in [
        (vec![Extended::ClientAuth], "clients only"),
        (vec![Extended::ServerAuth], "servers only"),
        (vec![Extended::CodeSigning], "neither"),
        (vec![Extended::Any], "neither"),
        (vec![], "neither"),
    ] {
        let mut params = host();
        params.extended_key_usages = usages;
        let error = refused(&params, ErrorClass::Usage);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn an_authority_is_not_a_host() {
    let mut params = host();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    refused(&params, ErrorClass::Usage);

    let lab = Lab::new();
    let own = [lab.certificate.clone()];
    assert!(verify_peer(&lab.anchor(), &own, judged_at(now())).is_err());
}

#[test]
fn key_usage_must_be_to_sign_handshakes_only() {
    let mut params = host();
    params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    assert!(refused(&params, ErrorClass::Usage).contains("digitalSignature"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    assert!(refused(&params, ErrorClass::Usage).contains("sign certificates"));
    params.key_usages = vec![];
    assert_eq!(Lab::new().judge(&params), Ok(()));
}

#[test]
fn exactly_one_uri_is_the_name() {
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    for names in [
        vec![],
        vec![dns("host-a")],
        vec![uri(HOST), dns("host-a")],
        vec![dns("host-a"), uri(HOST)],
        vec![uri(HOST), uri("spiffe://weft/env/other/host/host-a")],
        vec![uri(HOST), uri(HOST)],
        vec![uri(HOST), SanType::IpAddress(address)],
        vec![uri(HOST), SanType::Rfc822Name("a@b".try_into().unwrap())],
    ] {
        let mut params = host();
        params.subject_alt_names = names;
        let error = refused(&params, ErrorClass::Identity);
        assert!(error.contains("expected exactly one URI"), "{error}");
    }
}

#[test]
fn the_name_is_a_host_of_this_environment() {
    for name in [
        "spiffe://weft/env/acme",
        "spiffe://weft/env/globex/host/host-a",
        "spiffe://other/env/acme/host/host-a",
        "spiffe://weft/env/acme/host/host-a/",
        "spiffe://weft/env/Acme/host/host-a",
        "https://weft/env/acme/host/host-a",
    ] {
        let mut params = host();
        params.subject_alt_names = vec![uri(name)];
        refused(&params, ErrorClass::Identity);
    }
}

#[test]
fn the_common_name_is_nothing() {
    let mut params = host();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let other = "spiffe://weft/env/acme/host/host-b";
    params.distinguished_name.push(rcgen::DnType::CommonName, other);
    let lab = Lab::new();
    let leaf = lab.issue(&params);
    let peer = verify_peer(&lab.anchor(), &[leaf], judged_at(now())).unwrap();
    assert_eq!(peer.identity.to_string(), HOST);
}

#[test]
fn other_kinds_of_key_are_refused() {
    for algorithm in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P521_SHA512] {
        let lab = Lab::new();
        let leaf = lab.issue_to(&host(), &KeyPair::generate_for(algorithm).unwrap());
        let error = verify_peer(&lab.anchor(), &[leaf], judged_at(now())).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage, "{error}");
    }
}

#[test]
fn unknown_critical_extensions_and_repeated_ones_are_refused() {
    let mut params = host();
    let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    params.custom_extensions = vec![unknown.clone()];
    assert_eq!(Lab::new().judge(&params), Ok(()));
    unknown.set_criticality(true);
    params.custom_extensions = vec![unknown];
    refused(&params, ErrorClass::Malformed);

    // A second subjectAltName: each parser could believe another one.
    let second = vec![0x30, 0x03, 0x82, 0x01, b'x'];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], second)];
    refused(&params, ErrorClass::Malformed);
}

#[test]
fn large_certificates_are_refused() {
    let mut params = host();
    params.custom_extensions =
        vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0; 4096])];
    assert!(matches!(Lab::new().judge(&params), Err(PkiError::TooLarge { .. })));
}

#[test]
fn no_changed_or_shortened_certificate_is_accepted() {
    let lab = Lab::new();
    let good = lab.issue(&host());
    let anchor = lab.anchor();
    let accepted = |der: Vec<u8>| verify_peer(&anchor, &[der.into()], judged_at(now())).is_ok();
    assert!(accepted(good.to_vec()));
    for at in 0..good.len() {
        assert!(!accepted(good[..at].to_vec()), "cut at {at}");
        let mut changed = good.to_vec();
        changed[at] ^= 1 << (at % 8);
        assert!(!accepted(changed), "bit flipped at {at}");
    }
    assert!(!accepted([&good[..], &[0]].concat()), "a byte more");
}
