//! What the installation issues is what it accepts.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::UnixTime;

use super::*;
use crate::request::new_key;

fn authority(name: &str) -> (InstallationAuthority, Issued) {
    let validity =
        Validity::days(SystemTime::now(), issue::AUTHORITY_BACKDATE, issue::AUTHORITY_DAYS);
    let issued = new_authority(&name.parse().unwrap(), validity, KeyKind::EcdsaP256).unwrap();
    let (certificate, key) = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
    (InstallationAuthority::from_pem(certificate, key).unwrap(), issued)
}

fn validity(days: u32) -> Validity {
    Validity::days(SystemTime::now(), issue::HOST_BACKDATE, days)
}

fn issue(
    authority: &InstallationAuthority,
    member: &Member,
    names: &[&str],
) -> CertificateDer<'static> {
    let request = SigningRequest::from_der(&new_key(KeyKind::EcdsaP256).unwrap().request).unwrap();
    let names: Vec<ServerName> = names.iter().map(|name| name.parse().unwrap()).collect();
    let issued = authority.issue(member, &request, validity(1), &names).unwrap();
    let der = anchor(issued.as_bytes()).unwrap();
    assert_eq!(super::member(&der).unwrap().key_hash, request.key_hash());
    der
}

fn host() -> Member {
    Member::Host("host-a".parse().unwrap())
}

fn component() -> Member {
    Member::Component("control".parse().unwrap())
}

/// Whether a TLS server, a TLS client take it.
fn accepted(root: &Issued, certificate: &CertificateDer<'_>, name: &str) -> (bool, bool) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(anchor(root.certificate_pem.as_bytes()).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let server =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let client = WebPkiServerVerifier::builder_with_provider(roots, provider);
    let as_client = server.build().unwrap().verify_client_cert(certificate, &[], UnixTime::now());
    let name = name.to_owned().try_into().unwrap();
    let as_server =
        client.build().unwrap().verify_server_cert(certificate, &[], &name, &[], UnixTime::now());
    (as_client.is_ok(), as_server.is_ok())
}

#[test]
fn a_host_is_a_client_and_a_component_both() {
    let (weft, root) = authority("weft");
    let a_host = issue(&weft, &host(), &["control.example"]);
    assert_eq!(accepted(&root, &a_host, "control.example"), (true, false));
    let identity = member(&a_host).unwrap().identity;
    assert_eq!(identity.to_string(), "spiffe://weft/host/host-a");
    assert_eq!(identity.to_string().parse(), Ok(identity));
    let control = issue(&weft, &component(), &["control.example", "192.0.2.1", "2001:db8::1"]);
    for name in ["control.example", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(accepted(&root, &control, name), (true, true), "{name}");
    }
    assert_eq!(accepted(&root, &control, "other.example"), (true, false));
    assert_eq!(member(&control).unwrap().identity.member, component());
}

#[test]
fn another_installation_and_an_environment_are_nobody_here() {
    let (other, _) = authority("other");
    let (_, root) = authority("weft");
    assert_eq!(
        accepted(&root, &issue(&other, &component(), &["a.example"]), "a.example"),
        (false, false)
    );
    for uri in
        ["spiffe://weft", "spiffe://weft/env/acme/host/a", "spiffe://weft/user/a", "weft/host/a"]
    {
        assert!(uri.parse::<MemberIdentity>().is_err(), "{uri}");
    }
    let ca = anchor(root.certificate_pem.as_bytes()).unwrap();
    assert!(member(&ca).is_err());
}

#[test]
fn an_authority_is_whole_or_refused() {
    let (_, one) = authority("weft");
    let (_, two) = authority("weft");
    let load = |certificate: &str, key: &str| {
        InstallationAuthority::from_pem(certificate.as_bytes(), key.as_bytes()).map(|_| ())
    };
    assert!(matches!(load(&one.certificate_pem, &two.key_pem), Err(IssueError::AuthorityKey)));
    let both = format!("{}{}", one.certificate_pem, two.certificate_pem);
    let refused = load(&both, &one.key_pem).unwrap_err().to_string();
    assert!(refused.contains("holds 2 certificates"), "{refused}");
    let (weft, _) = authority("weft");
    let request = SigningRequest::from_der(&new_key(KeyKind::Ed25519).unwrap().request).unwrap();
    let beyond = weft.issue(&host(), &request, validity(issue::AUTHORITY_DAYS + 9), &[]);
    assert!(matches!(beyond, Err(IssueError::OutlivesAuthority { .. })));
    assert!(matches!("not a name".parse::<ServerName>(), Err(IssueError::ServerName(_))));
}
