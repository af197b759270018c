//! Paths: other authorities, intermediates, rotation, dates of the authority itself.

use std::{slice, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Extended, IsCa,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};
use rustls_pki_types::CertificateDer;

use super::lab::{ENVIRONMENT, HOST, Lab, authority, dns, host, judged_at, now, uri};
use crate::{
    anchor::{AUTHORITIES_MAX, SniTag, TrustAnchor},
    error::{ErrorClass, PkiError, Subject},
    verify::{VerifiedPeer, verify_peer},
};

const DAY: Duration = Duration::from_secs(86_400);

fn judge(lab: &Lab, chain: &[CertificateDer<'_>]) -> Result<VerifiedPeer, PkiError> {
    verify_peer(&lab.anchor(), chain, judged_at(now()))
}

#[track_caller]
fn class(result: Result<VerifiedPeer, PkiError>) -> ErrorClass {
    result.unwrap_err().class()
}

#[test]
fn another_authority_is_untrusted_whatever_it_says() {
    // The same names in every field; only the key differs.
    let (ours, theirs) = (Lab::new(), Lab::new());
    let leaf = theirs.issue(&host());
    let untrusted = class(judge(&ours, slice::from_ref(&leaf)));
    assert_eq!(untrusted, ErrorClass::Untrusted);
    // Sending the authority along does not help.
    let with_authority = [leaf, theirs.certificate.clone()];
    assert_eq!(class(judge(&ours, &with_authority)), ErrorClass::Untrusted);

    // Whatever else is wrong with it, it is untrusted first.
    let mut worse = host();
    worse.extended_key_usages = vec![Extended::ClientAuth];
    worse.subject_alt_names = vec![dns("x")];
    let worse = theirs.issue(&worse);
    assert_eq!(class(judge(&ours, &[worse])), ErrorClass::Untrusted);
}

#[test]
fn two_environments_do_not_accept_each_other() {
    let environment = |name: &str| {
        let mut params = authority();
        params.subject_alt_names = vec![uri(&format!("spiffe://weft/env/{name}"))];
        Lab::with(params)
    };
    let of = |name: &str| {
        let mut params = host();
        params.subject_alt_names = vec![uri(&format!("spiffe://weft/env/{name}/host/host-a"))];
        params
    };
    let (acme, globex) = (environment("acme"), environment("globex"));
    assert!(judge(&acme, &[acme.issue(&of("acme"))]).is_ok());
    let foreign = globex.issue(&of("globex"));
    assert_eq!(class(judge(&acme, &[foreign])), ErrorClass::Untrusted);
    let pretending = globex.issue(&of("acme"));
    assert_eq!(class(judge(&acme, &[pretending])), ErrorClass::Untrusted);
    let misissued = acme.issue(&of("globex"));
    assert_eq!(class(judge(&acme, &[misissued])), ErrorClass::Identity);
}

#[test]
fn an_authority_that_is_not_valid_now_is_not_used() {
    let lab = Lab::new();
    let mut params = host();
    params.not_before = (now() - 99 * DAY).into();
    params.not_after = (now() + 99 * DAY).into();
    let leaf = lab.issue(&params);
    let at = |time| verify_peer(&lab.anchor(), slice::from_ref(&leaf), judged_at(time));
    assert_eq!(at(now()).unwrap().not_after, now() + 9 * DAY);
    assert_eq!(
        at(now() + 10 * DAY),
        Err(PkiError::Expired { subject: Subject::Authority, not_after: now() + 9 * DAY })
    );
    assert!(matches!(
        at(now() - 10 * DAY),
        Err(PkiError::NotYetValid { subject: Subject::Authority, .. })
    ));
}

#[test]
fn authorities_rotate() {
    let mut old = authority();
    old.not_after = (now() + DAY).into();
    let (old, new) = (Lab::with(old), Lab::new());
    let both = TrustAnchor::from_pem(format!("{}{}", old.pem, new.pem).as_bytes()).unwrap();
    let tags: Vec<_> = both.tags().collect();
    assert_eq!(tags, [old.anchor().tag(), new.anchor().tag()]);
    assert_eq!((both.tag(), both.not_after()), (tags[0], now() + 9 * DAY));

    let mut params = host();
    params.not_after = (now() + 99 * DAY).into();
    let judge = |lab: &Lab, at| verify_peer(&both, &[lab.issue(&params)], judged_at(at));
    assert_eq!(judge(&old, now()).unwrap().not_after, now() + DAY);
    assert_eq!(judge(&new, now()).unwrap().not_after, now() + 9 * DAY);
    let later = now() + 2 * DAY;
    assert!(judge(&old, later).is_err());
    assert!(judge(&new, later).is_ok());
}

#[test]
fn intermediates_are_followed_within_limits() {
    let lab = Lab::new();
    let mut params = authority();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_after = (now() + DAY / 2).into();
    let through = |params: &CertificateParams| {
        let middle = lab.below(params.clone());
        judge(&lab, &[middle.issue(&host()), middle.certificate])
    };
    let good = through(&params).unwrap();
    assert_eq!(good.not_after, now() + DAY / 2, "the earliest end counts");

    let mut clients_only = params.clone();
    clients_only.extended_key_usages = vec![Extended::ClientAuth];
    assert_eq!(class(through(&clients_only)), ErrorClass::Usage);
    let mut no_sign = params.clone();
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(class(through(&no_sign)), ErrorClass::Usage);
    // A host's certificate is no authority, even if it signs.
    assert!(through(&host()).is_err());

    let middle = lab.below(params);
    let leaf = middle.issue(&host());
    let alone = class(judge(&lab, slice::from_ref(&leaf)));
    assert_eq!(alone, ErrorClass::Untrusted);
    // The chain is short, whatever is in it.
    let long = [vec![leaf], vec![middle.certificate; 4]].concat();
    assert!(matches!(judge(&lab, &long), Err(PkiError::TooLarge { found: 5, .. })));
    assert!(judge(&lab, &[]).is_err());
}

#[test]
fn an_authority_limits_the_path_below_it() {
    let mut params = authority();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let lab = Lab::with(params);
    assert!(judge(&lab, &[lab.issue(&host())]).is_ok());
    let middle = lab.below(authority());
    let chain = [middle.issue(&host()), middle.certificate.clone()];
    assert_eq!(class(judge(&lab, &chain)), ErrorClass::Usage);
}

#[test]
fn an_anchor_is_the_authority_of_one_environment() {
    let parse = |pem: &str| TrustAnchor::from_pem(pem.as_bytes());
    let anchor = parse(&Lab::new().pem).unwrap();
    assert_eq!(anchor.environment().to_string(), ENVIRONMENT);

    let refused = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = authority();
        change(&mut params);
        parse(&Lab::with(params).pem).unwrap_err().class()
    };
    use ErrorClass::{Identity, Usage};
    assert_eq!(refused(&|p| p.is_ca = IsCa::ExplicitNoCa), Usage);
    assert_eq!(refused(&|p| p.is_ca = IsCa::NoCa), Usage);
    let crl_only = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(refused(&|p| p.key_usages = crl_only.clone()), Usage);
    assert_eq!(refused(&|p| p.subject_alt_names.clear()), Identity);
    assert_eq!(refused(&|p| p.subject_alt_names.push(dns("x"))), Identity);
    assert_eq!(refused(&|p| p.subject_alt_names = vec![uri(HOST)]), Identity);

    let mut other = authority();
    other.subject_alt_names = vec![uri("spiffe://weft/env/globex")];
    let two = format!("{}{}", Lab::new().pem, Lab::with(other).pem);
    assert_eq!(parse(&two).unwrap_err().class(), Identity);
    let many = Lab::new().pem.repeat(AUTHORITIES_MAX + 1);
    assert!(matches!(parse(&many), Err(PkiError::TooLarge { .. })));
    let with_key = format!("{}{}", Lab::new().pem, Lab::new().key.serialize_pem());
    assert!(matches!(parse(&with_key), Err(PkiError::Pem(_))));
    let rsa = Lab::with_key(authority(), &PKCS_RSA_SHA256);
    assert_eq!(parse(&rsa.pem).unwrap_err().class(), Usage);
}

#[test]
fn the_valid_authorities_change_when_one_begins_or_ends() {
    const SECOND: Duration = Duration::from_secs(1);
    let dated = |from: Duration, to: Duration| {
        let mut params = authority();
        params.not_before = (now() + from).into();
        params.not_after = (now() + to).into();
        Lab::with(params).pem
    };
    let anchor = [dated(DAY, 5 * DAY), dated(3 * DAY, 7 * DAY)].concat();
    let anchor = TrustAnchor::from_pem(anchor.as_bytes()).unwrap();
    for (at, until) in [
        (Duration::ZERO, DAY - SECOND),
        (DAY, 3 * DAY - SECOND),
        (3 * DAY, 5 * DAY),
        (5 * DAY, 5 * DAY),
        (5 * DAY + SECOND, 7 * DAY),
    ] {
        assert_eq!(anchor.unchanged_until(now() + at), now() + until, "{at:?}");
    }
}

#[test]
fn the_tag_is_the_hash_of_the_public_key() {
    // Computed apart: printf 'weft sni v1' and the DER of the public key, through sha256sum.
    let expected = "w34c94891954fb1162ecead67f7846e7d9950561e";
    let anchor = TrustAnchor::from_pem(include_bytes!("../../../vectors/ca.pem")).unwrap();
    assert_eq!(anchor.tag().as_str(), expected);
    let name = anchor.tag().server_name();
    assert_eq!(name.to_str(), format!("{expected}.weft.invalid"));
    assert_eq!(SniTag::from_server_name(&name.to_str()), Some(anchor.tag()));
    for other in [
        "",
        expected,
        "w34c94891954fb1162ecead67f7846e7d9950561.weft.invalid",
        "x34c94891954fb1162ecead67f7846e7d9950561e.weft.invalid",
        "w34C94891954fb1162ecead67f7846e7d9950561e.weft.invalid",
        "w34c94891954fb1162ecead67f7846e7d9950561e.weft.invalid.",
        "w34c94891954fb1162ecead67f7846e7d9950561g.weft.invalid",
    ] {
        assert_eq!(SniTag::from_server_name(other), None, "{other}");
    }
}
