//! What our TLS offers and takes, and what is taken out of it.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::{
    CipherSuite, NamedGroup, SupportedCipherSuite,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{cipher_suite as suite, default_provider},
    },
    server::Acceptor,
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use super::lab::{Indices, Lab, deadline, host, pipe, serve, side, stranger_of};
use crate::{
    KeyExchange, Role, ServerEnvironments, connect,
    stream::{accept_tls, connect_tls, export},
};

#[tokio::test]
async fn a_client_offers_this_and_no_more() {
    let lab = Lab::new("acme");
    let hybrid = NamedGroup::X25519MLKEM768;
    for (policy, groups) in [
        (KeyExchange::HybridOrClassical, &[hybrid, NamedGroup::X25519][..]),
        (KeyExchange::HybridOnly, &[hybrid]),
    ] {
        let client = lab.join(&lab.issue(&lab.params("host-a")), policy);
        let (near, far) = pipe();
        let (name, local) = (host("host-b"), side(1, &Indices::new()));
        let server = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), far).await.unwrap();
            let hello = start.client_hello();
            // The last is RFC 5746's signal, which is no suite.
            let suites: Vec<_> = hello
                .cipher_suites()
                .iter()
                .filter(|s| **s != CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV)
                .copied()
                .collect();
            assert_eq!(
                suites,
                [
                    CipherSuite::TLS13_AES_256_GCM_SHA384,
                    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                ]
            );
            assert_eq!(hello.named_groups(), Some(groups), "{policy:?}");
            assert_eq!(hello.alpn().unwrap().collect::<Vec<_>>(), [b"weft/1"]);
            let name = format!("{}.weft.invalid", lab.anchor().tag());
            assert_eq!(hello.server_name(), Some(&*name));
        };
        let (refused, ()) = tokio::join!(connect(near, &client, &name, &local, deadline()), server);
        assert!(refused.is_err());
    }
}

#[tokio::test]
async fn a_server_takes_two_cipher_suites_and_no_third() {
    let lab = Lab::new("acme");
    let pair = lab.issue(&lab.params("host-a"));
    let suites: [(SupportedCipherSuite, bool); 3] = [
        (suite::TLS13_AES_256_GCM_SHA384, true),
        (suite::TLS13_CHACHA20_POLY1305_SHA256, true),
        (suite::TLS13_AES_128_GCM_SHA256, false),
    ];
    for (suite, works) in suites {
        let provider = CryptoProvider { cipher_suites: vec![suite], ..default_provider() };
        let config = Arc::new(stranger_of(Some(&pair), Arc::new(provider)));
        let environments = ServerEnvironments::new([lab.host("host-b")]).unwrap();
        let (near, far) = pipe();
        let (client, server) = tokio::join!(
            TlsConnector::from(config).connect(lab.server_name(), near),
            accept_tls(far, &environments, || true, deadline())
        );
        assert_eq!((client.is_ok(), server.is_ok()), (works, works), "{suite:?}");
    }
}

/// Both sides could agree on a secret that is bound to nothing: here label and context are written
/// out once more.
#[tokio::test]
async fn the_secret_is_exported_with_this_label_and_context() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-bb"));
    let environments = ServerEnvironments::new([Arc::clone(&b)]).unwrap();
    let (near, far) = pipe();
    let name = host("host-bb");
    let (client, server) = tokio::join!(
        connect_tls(near, &a, &name, deadline()),
        accept_tls(far, &environments, || true, deadline())
    );
    let ((seen_b, client), (_, seen_a, server)) = (client.unwrap(), server.unwrap());
    let mut context = b"\x00\x01\x04acme\x06host-a\x07host-bb".to_vec();
    for own in [&a, &b] {
        let certificate = &own.credentials().chain()[0];
        context.extend_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    }
    let label = b"EXPORTER-weft-v1";
    let expected = match &client {
        TlsStream::Client(tls) => {
            tls.get_ref().1.export_keying_material([0; 32], label, Some(&context)).unwrap()
        }
        TlsStream::Server(_) => panic!("this end connected"),
    };
    assert_eq!(export(&client, &a, &seen_b, Role::Client).unwrap().expose(), &expected);
    assert_eq!(export(&server, &b, &seen_a, Role::Server).unwrap().expose(), &expected);
}

#[tokio::test]
async fn one_host_without_aes_instructions_decides_for_both() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let name = host("host-b");
    for lacks in [[false, false], [true, false], [false, true], [true, true]] {
        let (near, far) = pipe();
        let indices = Indices::new();
        let [left, right] = lacks.map(|no_aes| {
            let mut side = side(1, &indices);
            side.params.no_aes = no_aes;
            side
        });
        let (client, server) = tokio::join!(
            connect(near, &a, &name, &left, deadline()),
            serve(far, [Arc::clone(&b)], right)
        );
        let either = lacks.contains(&true);
        assert_eq!((client.unwrap().no_aes, server.unwrap().no_aes), (either, either), "{lacks:?}");
    }
}
