//! Every kind of wrong certificate, on either side.

use std::{sync::Arc, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Extended, IsCa, SanType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::lab::{
    DAY, Indices, Lab, Pair, deadline, host, pipe, serve, shake, side, strange_server, stranger,
};
use crate::{HandshakeError, connect};

/// A bad certificate, and the label of the error that it must cause.
type Bad = (&'static str, Pair, &'static str);

fn bad_ones(lab: &Lab, name: &str) -> Vec<Bad> {
    let spoilt = |spoil: &dyn Fn(&mut CertificateParams)| {
        let mut params = lab.params(name);
        spoil(&mut params);
        lab.issue(&params)
    };
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let now = SystemTime::now();
    let foreign = Lab::new("acme");
    let globex = Lab::new("globex");
    vec![
        ("wrong authority", foreign.issue(&foreign.params(name)), "certificate_untrusted"),
        ("other environment", globex.issue(&globex.params(name)), "certificate_untrusted"),
        ("other environment's name", lab.issue(&globex.params(name)), "certificate_identity"),
        ("expired", spoilt(&|p| p.not_after = (now - DAY / 2).into()), "certificate_expired"),
        (
            "not yet valid",
            spoilt(&|p| p.not_before = (now + DAY / 2).into()),
            "certificate_not_yet_valid",
        ),
        (
            "clients only",
            spoilt(&|p| p.extended_key_usages = vec![Extended::ClientAuth]),
            "certificate_usage",
        ),
        (
            "servers only",
            spoilt(&|p| p.extended_key_usages = vec![Extended::ServerAuth]),
            "certificate_usage",
        ),
        (
            "authority",
            spoilt(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "certificate_usage",
        ),
        (
            "a second name",
            spoilt(&|p| {
                p.subject_alt_names.push(SanType::DnsName("x".try_into().unwrap()));
            }),
            "certificate_identity",
        ),
        (
            "a second uri",
            spoilt(&|p| {
                p.subject_alt_names.push(uri("spiffe://weft/env/acme/host/host-z"));
            }),
            "certificate_identity",
        ),
        (
            "no host",
            spoilt(&|p| p.subject_alt_names = vec![uri("spiffe://weft/env/acme")]),
            "certificate_identity",
        ),
    ]
}

#[tokio::test]
async fn a_server_refuses_them_and_says_nothing_of_weft() {
    let lab = Lab::new("acme");
    let server = lab.host("host-b");
    for (what, pair, label) in bad_ones(&lab, "host-a") {
        let indices = Indices::new();
        let (near, far) = pipe();
        let connector = TlsConnector::from(Arc::new(stranger(Some(&pair))));
        let client = async {
            // In TLS 1.3 the client is done before the server has seen its certificate.
            let mut tls = connector.connect(lab.server_name(), near).await.unwrap();
            let mut said = Vec::new();
            let error = tls.read_to_end(&mut said).await;
            (said, error.is_err())
        };
        let (refused, (said, alerted)) =
            tokio::join!(serve(far, [Arc::clone(&server)], side(1, &indices)), client);
        assert_eq!(refused.unwrap_err().label(), label, "{what}");
        assert_eq!(said, b"", "{what}: the server sent application data");
        assert!(alerted, "{what}: no alert");
        assert_eq!(indices.ever_given(), 0, "{what}: indices were taken");
    }
}

#[tokio::test]
async fn a_client_refuses_them_and_says_nothing_of_weft() {
    let lab = Lab::new("acme");
    let client = lab.host("host-a");
    for (what, pair, label) in bad_ones(&lab, "host-b") {
        let indices = Indices::new();
        let (near, far) = pipe();
        let acceptor = TlsAcceptor::from(Arc::new(strange_server(&pair)));
        let (name, local) = (host("host-b"), side(1, &indices));
        let (refused, server) =
            tokio::join!(connect(near, &client, &name, &local, deadline()), acceptor.accept(far));
        assert_eq!(refused.unwrap_err().label(), label, "{what}");
        assert!(server.is_err(), "{what}: the client finished TLS");
        assert_eq!(indices.ever_given(), 0, "{what}: indices were taken");
    }
}

#[tokio::test]
async fn a_client_refuses_another_host_of_its_environment() {
    let lab = Lab::new("acme");
    let (client, server) = shake(&lab.host("host-a"), "host-b", &[lab.host("host-c")]).await;
    assert_eq!(client.unwrap_err().label(), "certificate_identity");
    assert!(matches!(server, Err(HandshakeError::Refused(_))));
}

#[tokio::test]
async fn a_server_refuses_a_host_that_is_no_peer() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let environments = crate::ServerEnvironments::new([b]).unwrap();
    let (near, far) = pipe();
    let (indices, name) = (Indices::new(), host("host-b"));
    let local = side(1, &indices);
    let (client, server) = tokio::join!(
        connect(near, &a, &name, &local, deadline()),
        crate::accept(far, &environments, || true, |_, _| None, deadline())
    );
    assert!(matches!(server, Err(HandshakeError::UnknownPeer(who)) if who.ends_with("/host-a")));
    assert_eq!(client.unwrap_err().label(), "closed");
    assert_eq!(indices.ever_given(), 0);
}

#[tokio::test]
async fn a_host_does_not_shake_hands_with_itself() {
    let lab = Lab::new("acme");
    let own = lab.host("host-a");
    let (_, server) = shake(&own, "host-a", &[Arc::clone(&own)]).await;
    assert_eq!(server.unwrap_err().label(), "unknown_peer");
}

#[tokio::test]
async fn a_client_knows_that_its_own_certificate_is_no_good() {
    let lab = Lab::new("acme");
    let mut params = lab.params("host-a");
    params.not_after = (SystemTime::now() - DAY / 2).into();
    let expired = lab.join(&lab.issue(&params), crate::KeyExchange::default());
    let (mut near, far) = pipe();
    let (indices, name) = (Indices::new(), host("host-b"));
    let local = side(1, &indices);
    let error = connect(far, &expired, &name, &local, deadline()).await;
    let error = error.unwrap_err();
    assert_eq!((error.label(), error.fault()), ("own_certificate", crate::Fault::Own));
    assert_eq!(near.read(&mut [0; 16]).await.unwrap(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let lab = Lab::new("acme");
    let indices = Indices::new();
    let (near, far) = pipe();
    let connector = TlsConnector::from(Arc::new(stranger(None)));
    let client = async {
        let mut tls = connector.connect(lab.server_name(), near).await.unwrap();
        let _ = tls.write_all(b"\x01\x01\x00\x14").await;
        let mut said = Vec::new();
        let _ = tls.read_to_end(&mut said).await;
        said
    };
    let (refused, said) = tokio::join!(serve(far, [lab.host("host-b")], side(1, &indices)), client);
    assert_eq!(refused.unwrap_err().label(), "tls");
    assert_eq!((said.len(), indices.ever_given()), (0, 0));
}
