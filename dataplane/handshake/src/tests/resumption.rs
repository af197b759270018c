//! There is none: every handshake checks both certificates and makes fresh keys.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rustls::{
    HandshakeKind,
    client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls13ClientSessionValue},
    server::ServerSessionMemoryCache,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_wire::hello::Frame;

use super::lab::{
    Indices, Lab, deadline, host, params, pipe, serve, side, strange_server, stranger,
};
use crate::connect;

/// Keeps tickets like the real one, and counts them.
#[derive(Debug)]
struct Counting(ClientSessionMemoryCache, AtomicUsize);

impl ClientSessionStore for Counting {
    fn set_kx_hint(&self, name: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(name)
    }

    fn set_tls12_session(
        &self,
        _: ServerName<'static>,
        _: rustls::client::Tls12ClientSessionValue,
    ) {
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

#[tokio::test]
async fn our_server_gives_no_tickets_to_a_client_that_wants_them() {
    let lab = Lab::new("acme");
    let pair = lab.issue(&lab.params("host-a"));
    let server = lab.host("host-b");
    let store = Arc::new(Counting(ClientSessionMemoryCache::new(32), AtomicUsize::new(0)));
    let mut config = stranger(Some(&pair));
    config.resumption = Resumption::store(Arc::clone(&store) as Arc<dyn ClientSessionStore>);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..3 {
        let (near, far) = pipe();
        let connector = TlsConnector::from(Arc::clone(&config));
        let client = async {
            let mut tls = connector.connect(lab.server_name(), near).await.unwrap();
            let mut frames = Vec::new();
            Frame::Hello(params(1).hello()).encode(&mut frames).unwrap();
            Frame::Indices(vec![weft_types::ReceiverIndex(1)]).encode(&mut frames).unwrap();
            tls.write_all(&frames).await.unwrap();
            let mut rest = Vec::new();
            tls.read_to_end(&mut rest).await.unwrap();
            let common = tls.get_ref().1;
            (common.handshake_kind(), common.tls13_tickets_received(), rest)
        };
        let indices = Indices::new();
        let (established, (kind, tickets, rest)) =
            tokio::join!(serve(far, [Arc::clone(&server)], side(1, &indices)), client);
        assert!(established.is_ok());
        assert_eq!((kind, tickets), (Some(HandshakeKind::Full), 0));
        assert!(rest.ends_with(&[3, 1, 0, 0]), "ready");
    }
    assert_eq!(store.1.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn our_client_does_not_resume_with_a_server_that_offers_it() {
    let lab = Lab::new("acme");
    let client = lab.host("host-a");
    let mut config = strange_server(&lab.issue(&lab.params("host-b")));
    config.session_storage = ServerSessionMemoryCache::new(32);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    config.send_tls13_tickets = 4;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for _ in 0..3 {
        let (near, far) = pipe();
        let (name, indices) = (host("host-b"), Indices::new());
        let local = side(1, &indices);
        let server = async {
            let mut tls = acceptor.accept(far).await.unwrap();
            let mut frames = Vec::new();
            Frame::Hello(params(1).hello()).encode(&mut frames).unwrap();
            Frame::Indices(vec![weft_types::ReceiverIndex(1)]).encode(&mut frames).unwrap();
            Frame::Ready.encode(&mut frames).unwrap();
            tls.write_all(&frames).await.unwrap();
            let mut rest = Vec::new();
            let _ = tls.read_to_end(&mut rest).await;
            tls.get_ref().1.handshake_kind()
        };
        let (established, kind) =
            tokio::join!(connect(near, &client, &name, &local, deadline()), server);
        assert!(established.is_ok(), "{established:?}");
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
}
