//! Two good hosts agree, in memory and over TCP, and nothing is left open.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::UnixTime;
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::lab::{DAY, Indices, Lab, Outcome, deadline, host, params, pipe, serve, shake, side};
use crate::{
    Environment, EnvironmentError, HandshakeError, KeyExchange, Role, ServerEnvironments,
    TrustedTime, connect, dial,
    stream::{accept_tls, connect_tls},
};

#[tokio::test]
async fn both_sides_agree_on_everything() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (client, server) = shake(&a, "host-b", &[Arc::clone(&b)]).await;
    let (client, server) = (client.unwrap(), server.unwrap());

    assert_eq!(client.secret.expose(), server.secret.expose());
    assert_ne!(client.secret.expose(), &[0; 32]);
    assert_eq!((client.role, server.role), (Role::Client, Role::Server));
    assert_eq!(client.environment, server.environment);
    assert_eq!(client.peer.identity, *b.credentials().identity());
    assert_eq!(server.peer.identity, *a.credentials().identity());
    // The client has 2 lanes, the server 3: each gives as many indices as the other has lanes.
    assert_eq!((client.local_indices.len(), client.peer_indices.len()), (3, 2));
    assert_eq!(*client.local_indices, server.peer_indices[..]);
    assert_eq!(*server.local_indices, client.peer_indices[..]);
    assert_eq!(client.peer_params, params(3).hello());
    assert_eq!(server.peer_params, params(2).hello());
    assert_eq!((client.generation, server.generation), (102, 102), "the client's");
    assert_eq!(client.not_after, server.not_after);
    assert!(client.not_after < SystemTime::now() + DAY);
}

/// The first certificate to end ends the session, whosever it is and wherever in the chain.
#[tokio::test]
async fn a_session_ends_with_the_first_of_both_chains() {
    let (lab, now) = (Lab::new("acme"), SystemTime::now());
    let ends_first = async |a: Arc<Environment>, b: Arc<Environment>| {
        let (client, server) = shake(&a, "host-b", &[b]).await;
        [client, server].map(|side| {
            let left = side.unwrap().not_after.duration_since(now).unwrap();
            // Certificates count whole seconds.
            (DAY / 4 - Duration::from_secs(1)..=DAY / 4).contains(&left)
        })
    };
    let ending = |name: &str, after: Duration| {
        let mut params = lab.params(name);
        params.not_after = (now + after).into();
        lab.join(&lab.issue(&params), KeyExchange::default())
    };
    for (a, b) in [(DAY / 4, DAY / 2), (DAY / 2, DAY / 4)] {
        let first = ends_first(ending("host-a", a), ending("host-b", b)).await;
        assert_eq!(first, [true, true]);
    }
    // While authorities rotate only the one that signed counts.
    let old = Lab::ending("acme", now + DAY / 4);
    let anchor = old.anchor_with(&lab);
    let host_of = |lab: &Lab, name: &str| {
        let credentials = lab.host(name).credentials().clone();
        Arc::new(Environment::new(anchor.clone(), credentials, KeyExchange::default()).unwrap())
    };
    for (a, b) in [(&old, &lab), (&lab, &old)] {
        let first = ends_first(host_of(a, "host-a"), host_of(b, "host-b")).await;
        assert_eq!(first, [true, true]);
    }
}

/// A judgement of the own chain is kept; not longer than it would come out the same.
#[test]
fn the_own_chain_is_judged_again_when_time_has_changed_something() {
    const SECOND: Duration = Duration::from_secs(1);
    let (lab, now) = (Lab::new("acme"), SystemTime::now());
    let at = |time: SystemTime| {
        UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap())
    };
    let mut params = lab.params("host-a");
    params.not_after = (now + DAY / 4).into();
    let own = lab.join(&lab.issue(&params), KeyExchange::default());
    let end = own.own_chain_end(at(now)).unwrap();
    assert_eq!(own.own_chain_end(at(now + SECOND)).unwrap(), end);
    assert_eq!(own.own_chain_end(at(end)).unwrap(), end);
    assert!(own.own_chain_end(at(end + SECOND)).is_err(), "ended");
    assert!(own.own_chain_end(at(now - 2 * DAY)).is_err(), "the clock went back");

    // The authority has two certificates, and the one that is tried first ends first.
    let first = lab.renewed(now + DAY / 8);
    let anchor = first.anchor_with(&lab);
    let credentials = own.credentials().clone();
    let own = Environment::new(anchor, credentials, KeyExchange::default()).unwrap();
    let first_end = own.own_chain_end(at(now)).unwrap();
    assert!(first_end < now + DAY / 8 + SECOND);
    assert_eq!(own.own_chain_end(at(first_end + SECOND)).unwrap(), end);
}

/// As if the wall clock had been set back by two days: the environment knows better.
#[tokio::test]
async fn whatever_the_clock_says_a_certificate_that_has_ended_is_refused() {
    let now = SystemTime::now();
    let lab = Lab::ending("acme", now + 10 * DAY);
    let mut params = lab.params("host-a");
    params.not_after = (now + 5 * DAY).into();
    let host_a = lab.issue(&params);
    // It ends in a day.
    let b = lab.host("host-b");
    let a = || lab.join(&host_a, KeyExchange::default());
    let (client, _) = shake(&a(), "host-b", &[Arc::clone(&b)]).await;
    client.unwrap();
    let a = Arc::into_inner(a()).unwrap();
    let a = Arc::new(a.with_time(Arc::new(TrustedTime::since(now + 2 * DAY))));
    let (client, _) = shake(&a, "host-b", &[Arc::clone(&b)]).await;
    assert_eq!(client.unwrap_err().label(), "certificate_expired");
    // A server knows as well as a client.
    let (_, server) = shake(&b, "host-a", &[a]).await;
    assert_eq!(server.unwrap_err().label(), "certificate_expired");
}

#[tokio::test]
async fn every_handshake_has_its_own_secret() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let mut secrets = std::collections::HashSet::new();
    for _ in 0..4 {
        let (client, _) = shake(&a, "host-b", &[Arc::clone(&b)]).await;
        assert!(secrets.insert(*client.unwrap().secret.expose()));
    }
}

#[tokio::test]
async fn works_over_tcp_and_closes_the_connection() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let lab = Lab::new("acme");
        let (a, b) = (lab.host("host-a"), lab.host("host-b"));
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint: SocketAddr = listener.local_addr().unwrap();
        let (ours, theirs) = (Indices::new(), Indices::new());
        let (left, right) = (side(64, &ours), side(1, &theirs));
        let name = host("host-b");
        let client = async {
            let stream = dial(endpoint, None, deadline()).await.unwrap();
            connect(stream, &a, &name, &left, deadline()).await
        };
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, [b], right).await
        };
        let (client, server): (Outcome, Outcome) = tokio::join!(client, server);
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.secret.expose(), server.secret.expose());
        assert_eq!(server.local_indices.len(), 64);
    }
}

#[tokio::test]
async fn the_stream_ends_when_the_handshake_does() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (mut near, client_end) = pipe();
    let (mut far, server_end) = pipe();
    let indices = Indices::new();
    let (left, right) = (side(2, &indices), side(2, &indices));
    let name = host("host-b");
    let relay = async {
        // An error is the write of a close alert to a side that has closed already.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        let ended = [near.read(&mut [0; 9]).await, far.read(&mut [0; 9]).await];
        ended.map(|end| end.is_ok_and(|bytes| bytes == 0))
    };
    let (client, server, relayed) = tokio::join!(
        connect(client_end, &a, &name, &left, deadline()),
        serve(server_end, [b], right),
        relay
    );
    // The results are still held here: the relay ended because both streams were closed.
    assert!(client.is_ok() && server.is_ok());
    assert_eq!(relayed, [true, true]);
}

#[tokio::test]
async fn indices_are_released_unless_they_are_kept() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (ours, theirs) = (Indices::new(), Indices::new());
    let (left, right) = (side(2, &ours), side(3, &theirs));
    let (near, far) = pipe();
    let name = host("host-b");
    let (client, server) =
        tokio::join!(connect(near, &a, &name, &left, deadline()), serve(far, [b], right));
    assert_eq!((ours.outstanding(), theirs.outstanding()), (3, 2));
    drop(server);
    let kept = client.unwrap().local_indices.keep();
    assert_eq!(kept.len(), 3);
    assert_eq!((ours.outstanding(), theirs.outstanding()), (3, 0));
}

#[tokio::test]
async fn the_key_exchange_is_hybrid() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let environments = ServerEnvironments::new([b]).unwrap();
    let (near, far) = pipe();
    let name = host("host-b");
    let (client, server) = tokio::join!(
        connect_tls(near, &a, &name, deadline()),
        accept_tls(far, &environments, || true, deadline())
    );
    for stream in [client.unwrap().1, server.unwrap().2] {
        let common = stream.get_ref().1;
        let group = common.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(common.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let suite = common.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    }
}

#[tokio::test]
async fn policy_decides_about_classical_key_exchange() {
    let lab = Lab::new("acme");
    let pair = lab.issue(&lab.params("host-a"));
    let classical =
        super::lab::stranger_with(Some(&pair), &[rustls::crypto::aws_lc_rs::kx_group::X25519]);
    let classical = Arc::new(classical);
    for (policy, works) in
        [(KeyExchange::HybridOrClassical, true), (KeyExchange::HybridOnly, false)]
    {
        let server = lab.join(&lab.issue(&lab.params("host-b")), policy);
        let environments = ServerEnvironments::new([server]).unwrap();
        let (near, far) = pipe();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&classical));
        let (client, server) = tokio::join!(
            connector.connect(lab.server_name(), near),
            accept_tls(far, &environments, || true, deadline())
        );
        assert_eq!((client.is_ok(), server.is_ok()), (works, works), "{policy:?}");
    }
}

#[tokio::test]
async fn the_environment_is_chosen_by_tag() {
    let (acme, globex) = (Lab::new("acme"), Lab::new("globex"));
    let hosts = [acme.host("host-b"), globex.host("host-b")];
    for lab in [&acme, &globex] {
        let (client, server) = shake(&lab.host("host-a"), "host-b", &hosts).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.environment, lab.anchor().environment().environment);
        assert_eq!(client.environment, server.environment);
    }
}

#[tokio::test]
async fn environments_are_replaced_as_a_whole() {
    let (acme, globex) = (Lab::new("acme"), Lab::new("globex"));
    let environments = ServerEnvironments::new([acme.host("host-b")]).unwrap();
    let shake = async |lab: &Lab| {
        let (near, far) = pipe();
        let (ours, theirs) = (Indices::new(), Indices::new());
        let (left, right) = (side(1, &ours), side(1, &theirs));
        let (a, name) = (lab.host("host-a"), host("host-b"));
        let admit = |_: &_, _: &_| Some(right);
        let (_, server) = tokio::join!(
            connect(near, &a, &name, &left, deadline()),
            crate::accept(far, &environments, || true, admit, deadline())
        );
        server.map(|_| ()).map_err(|e| e.label())
    };
    assert_eq!(shake(&acme).await, Ok(()));
    assert_eq!(shake(&globex).await, Err("unknown_environment"));
    environments.replace([globex.host("host-b")]).unwrap();
    assert_eq!(shake(&globex).await, Ok(()));
    assert_eq!(shake(&acme).await, Err("unknown_environment"));

    // One key for two environments would let one judge for the other.
    let twice = [acme.host("host-b"), acme.host("host-c")];
    assert!(matches!(environments.replace(twice), Err(EnvironmentError::SharedAuthority(..))));
    assert_eq!(shake(&globex).await, Ok(()));
}

#[test]
fn authority_and_credentials_are_of_one_environment() {
    let (acme, globex) = (Lab::new("acme"), Lab::new("globex"));
    let mixed = crate::Environment::new(
        acme.anchor(),
        globex.host("host-a").credentials().clone(),
        KeyExchange::default(),
    );
    assert!(matches!(mixed, Err(EnvironmentError::Mismatch(_))));
}

#[test]
fn labels_are_complete() {
    let error = HandshakeError::UnknownEnvironment;
    assert!(HandshakeError::LABELS.contains(&error.label()));
    let mut labels = HandshakeError::LABELS.to_vec();
    labels.dedup();
    assert_eq!(labels.len(), HandshakeError::LABELS.len());
}
