//! What is issued is what is accepted, and describes itself.

use rustls_pki_types::UnixTime;
use weft_types::{EnvironmentId, InstallationId};

use super::*;
use crate::{
    credentials::Credentials,
    describe::{Role, describe},
    error::ErrorClass,
};

fn environment() -> EnvironmentIdentity {
    EnvironmentIdentity {
        installation: InstallationId::new("weft").unwrap(),
        environment: EnvironmentId::new("acme").unwrap(),
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn authority(days: u32, kind: KeyKind) -> (Authority, Issued) {
    let validity = Validity::days(now(), AUTHORITY_BACKDATE, days);
    let issued = new_authority(&environment(), validity, kind).unwrap();
    let loaded =
        Authority::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
    (loaded, issued)
}

fn request(days: u32, kind: KeyKind) -> HostRequest {
    HostRequest {
        host: HostId::new("host-a").unwrap(),
        validity: Validity::days(now(), HOST_BACKDATE, days),
        key_kind: kind,
        usages: HostUsages::Both,
    }
}

fn credentials(issued: &Issued) -> Result<Credentials, PkiError> {
    Credentials::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes())
}

#[test]
fn every_kind_of_key_issues_and_is_issued() {
    let kinds = [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519];
    for above in kinds {
        let (authority, _) = authority(3650, above);
        for kind in kinds {
            let issued = authority.issue_host(&request(90, kind)).unwrap();
            let own = credentials(&issued).unwrap();
            let peer = own.check(authority.anchor(), UnixTime::now()).unwrap();
            assert_eq!(peer.identity, *own.identity());
            assert_eq!(own.identity().to_string(), "spiffe://weft/env/acme/host/host-a");
            assert_eq!(peer.certificate_hash, own.certificate_hash());
            let described = describe(issued.certificate_pem.as_bytes()).unwrap();
            assert_eq!(described[0].key, kind.to_string());
            assert_eq!(described[0].fingerprint, own.certificate_hash());
        }
    }
}

#[test]
fn a_host_does_not_outlive_its_authority() {
    let (authority, _) = authority(30, KeyKind::EcdsaP256);
    let short = request(29, KeyKind::EcdsaP256);
    assert!(authority.issue_host(&short).is_ok());
    let mut same = request(30, KeyKind::EcdsaP256);
    same.validity.not_after = authority.not_after() + Duration::from_millis(999);
    assert!(authority.issue_host(&same).is_ok(), "the same second");
    let long = request(31, KeyKind::EcdsaP256);
    let error = authority.issue_host(&long);
    assert!(matches!(error, Err(IssueError::OutlivesAuthority { .. })));
    assert!(authority.issue_host_unchecked(&long).is_ok());
}

#[test]
fn impossible_dates_are_refused() {
    let not_before = now();
    for not_after in [not_before, not_before - DAY, not_before + DAY * (DAYS_MAX + 2)] {
        let validity = Validity { not_before, not_after };
        let error = new_authority(&environment(), validity, KeyKind::EcdsaP256);
        assert!(matches!(error, Err(IssueError::Validity(..))));
    }
}

#[test]
fn certificate_and_key_belong_together() {
    let (issuing, one) = authority(30, KeyKind::EcdsaP256);
    let (_, other) = authority(30, KeyKind::EcdsaP256);
    let load = |certificate: &str, key: &str| {
        Authority::from_pem(certificate.as_bytes(), key.as_bytes())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert!(load(&one.certificate_pem, &other.key_pem).contains("does not belong"));
    let swapped = load(&one.key_pem, &one.certificate_pem);
    assert!(swapped.contains("certificate holds a private key"), "{swapped}");

    let host = |kind| issuing.issue_host(&request(9, kind)).unwrap();
    let (a, b) = (host(KeyKind::EcdsaP256), host(KeyKind::Ed25519));
    let mix = |certificate: &Issued, key: &str| {
        Credentials::from_pem(certificate.certificate_pem.as_bytes(), key.as_bytes()).unwrap_err()
    };
    assert_eq!(mix(&a, &b.key_pem), PkiError::KeyMismatch);
    assert_eq!(mix(&b, &a.key_pem), PkiError::KeyMismatch);
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    assert!(matches!(mix(&a, &rsa.serialize_pem()), PkiError::Key(_)));
    assert_eq!(
        format!("{:?}", credentials(&a).unwrap()),
        "Credentials(spiffe://weft/env/acme/host/host-a)"
    );
}

#[test]
fn one_sided_certificates_are_refused_already_when_loaded() {
    let (authority, _) = authority(30, KeyKind::EcdsaP256);
    for usages in [HostUsages::ClientOnly, HostUsages::ServerOnly] {
        let request = HostRequest { usages, ..request(9, KeyKind::EcdsaP256) };
        let issued = authority.issue_host(&request).unwrap();
        let error = credentials(&issued).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        let described = describe(issued.certificate_pem.as_bytes()).unwrap();
        assert!(matches!(&described[0].role, Role::Other(why) if why.contains("only")));
    }
}

#[test]
fn an_authority_describes_itself() {
    let (authority, issued) = authority(30, KeyKind::Ed25519);
    let described = describe(issued.certificate_pem.as_bytes()).unwrap();
    let [only] = described.as_slice() else {
        panic!("expected one certificate");
    };
    assert_eq!(only.role, Role::Authority(environment()));
    assert_eq!(only.sni_tag, Some(authority.anchor().tag().to_string()));
    assert_eq!(only.usages, ["certificate authority"]);
    assert_eq!(only.subject, only.issuer);
    assert!(describe(issued.key_pem.as_bytes()).is_err());
}

#[test]
fn names_cannot_steer_a_terminal() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "a\u{1b}[31mb\nc");
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let described = describe(pem.as_bytes()).unwrap();
    let subject = &described[0].subject;
    assert!(subject.contains("a\u{fffd}[31mb\u{fffd}c"), "{subject:?}");
    assert!(!subject.contains(['\u{1b}', '\n']));
}
