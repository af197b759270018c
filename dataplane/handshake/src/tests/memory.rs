//! After a handshake no secret of TLS is left in the process: not on the heap, not on the stack.

use std::{cell::RefCell, sync::Once};

use super::lab::{Indices, Lab, deadline, host, pipe, serve, side};
use crate::{
    ServerEnvironments, connect,
    establish::{accept_tls, connect_tls},
    test_hooks::{EXPORTER_SECRET, occurrences_in_process, set_key_log},
};

thread_local! {
    /// Complements of the exporter secrets of this thread's handshakes.
    static CAPTURED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_key_log(|label, complement| {
            if label == EXPORTER_SECRET {
                CAPTURED.with_borrow_mut(|all| all.push(complement.to_vec()));
            }
        });
    });
}

fn occurrences(complement: &[u8]) -> Vec<(u64, String)> {
    occurrences_in_process(std::process::id(), complement).unwrap()
}

#[tokio::test]
async fn the_search_finds_a_secret_while_tls_lives() {
    capture();
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let environments = ServerEnvironments::new([b]).unwrap();
    let (near, far) = pipe();
    let name = host("host-b");
    let (client, server) = tokio::join!(
        connect_tls(near, &a, &name, deadline()),
        accept_tls(far, &environments, deadline())
    );
    let captured = CAPTURED.take();
    assert_eq!(captured.len(), 2, "one for each side");
    assert_eq!(captured[0], captured[1]);
    assert!(occurrences(&captured[0]).len() >= 2, "both sides hold it");
    drop((client, server));
}

#[tokio::test]
async fn no_exporter_secret_remains() {
    capture();
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (near, far) = pipe();
    let indices = Indices::new();
    let (name, left, right) = (host("host-b"), side(2, &indices), side(2, &indices));
    let (client, server) = tokio::join!(
        connect(near, &a, &name, &left, deadline()),
        serve(far, [b], right)
    );
    let captured = CAPTURED.take();
    assert_eq!(captured.len(), 2);
    let found = occurrences(&captured[0]);
    assert_eq!(found, [], "the exporter secret is still in memory");

    // The exported secret itself is there, once for each side: nothing copied it on the way.
    let (client, server) = (client.unwrap(), server.unwrap());
    let complement: Vec<u8> = client.secret.expose().iter().map(|byte| !byte).collect();
    let found = occurrences(&complement);
    assert_eq!(found.len(), 2, "{found:#x?}");
    drop((client, server));
    assert_eq!(occurrences(&complement), [], "wiped on drop");
}
