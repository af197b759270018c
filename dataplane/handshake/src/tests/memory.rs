//! After a handshake no secret of TLS is left in the process: not on the heap, not on the stack.

use std::{
    cell::RefCell,
    hint::black_box,
    sync::{Arc, Barrier, Once},
};

use tokio::sync::Mutex;
use weft_types::ReceiverIndex;

use super::lab::{Indices, Lab, Outcome, deadline, host, pipe, serve, side};
use crate::{
    Exhausted, IndexAllocator, LocalSide, ServerEnvironments, accept, connect, connect_stream,
    stream::{accept_tls, connect_tls},
    test_hooks::{EXPORTER_SECRET, occurrences_in_process, set_key_log},
};

type Captured = Arc<std::sync::Mutex<Vec<Vec<u8>>>>;

thread_local! {
    /// Complements of the exporter secrets of the handshakes on this thread, and on those that
    /// share its list.
    static CAPTURED: RefCell<Captured> = RefCell::default();
}

/// A search copies what it reads: only one at a time.
static SEARCH: Mutex<()> = Mutex::const_new(());

/// The list of this thread, from now on.
fn capture() -> Captured {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_key_log(|label, complement| {
            if label == EXPORTER_SECRET {
                CAPTURED.with_borrow(|all| all.lock().unwrap().push(complement.to_vec()));
            }
        });
    });
    CAPTURED.with_borrow(Arc::clone)
}

fn occurrences(complement: &[u8]) -> Vec<(u64, String)> {
    occurrences_in_process(std::process::id(), complement).unwrap()
}

#[tokio::test]
async fn the_search_finds_a_secret_while_tls_lives() {
    let captured = capture();
    let _alone = SEARCH.lock().await;
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let environments = ServerEnvironments::new([b]).unwrap();
    let (near, far) = pipe();
    let name = host("host-b");
    let (client, server) = tokio::join!(
        connect_tls(near, &a, &name, deadline()),
        accept_tls(far, &environments, || true, deadline())
    );
    let captured = captured.lock().unwrap().clone();
    assert_eq!(captured.len(), 2, "one for each side");
    assert_eq!(captured[0], captured[1]);
    assert!(occurrences(&captured[0]).len() >= 2, "both sides hold it");
    drop((client, server));
}

#[tokio::test]
async fn no_exporter_secret_remains() {
    let captured = capture();
    let _alone = SEARCH.lock().await;
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (near, far) = pipe();
    let indices = Indices::new();
    let (name, left, right) = (host("host-b"), side(2, &indices), side(2, &indices));
    let (client, server) =
        tokio::join!(connect(near, &a, &name, &left, deadline()), serve(far, [b], right));
    let captured = captured.lock().unwrap().clone();
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

#[tokio::test]
async fn none_remains_while_a_connection_stays() {
    let captured = capture();
    let _alone = SEARCH.lock().await;
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (near, far) = pipe();
    let (indices, name) = (Indices::new(), host("host-b"));
    let (environments, local) = (ServerEnvironments::new([b]).unwrap(), side(2, &indices));
    let streams = tokio::join!(
        connect_stream(near, &a, &name, 0, deadline()),
        accept(far, &environments, || true, |_, _| Some(local), deadline())
    );
    assert!(streams.0.is_ok() && streams.1.is_ok());
    let captured = captured.lock().unwrap().clone();
    assert_eq!(captured.len(), 2);
    assert_eq!(occurrences(&captured[0]), [], "the exporter secret is still in memory");
    drop(streams);
}

/// A task may go on on another thread each time it is polled: all their stacks count.
#[test]
fn no_exporter_secret_remains_on_any_thread() {
    let captured = capture();
    let of_threads = Arc::clone(&captured);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .on_thread_start(move || CAPTURED.set(Arc::clone(&of_threads)))
        .build()
        .unwrap();
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    runtime.block_on(async {
        let _alone = SEARCH.lock().await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (near, far) = pipe();
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            let indices = Indices::new();
            let (left, right) = (side(2, &indices), side(2, &indices));
            tasks.spawn(async move {
                let name = host("host-b");
                connect(near, &a, &name, &left, deadline()).await.is_ok()
            });
            tasks.spawn(async move { serve(far, [b], right).await.is_ok() });
        }
        assert!(tasks.join_all().await.into_iter().all(|done| done));
        let mut captured = captured.lock().unwrap().clone();
        captured.sort();
        captured.dedup();
        assert_eq!(captured.len(), 4);
        for complement in captured {
            assert_eq!(occurrences(&complement), []);
        }
    });
}

/// Is called in the middle of a handshake, and leaves a secret of its own on the stack.
struct Untidy {
    complement: [u8; 32],
    indices: Arc<Indices>,
}

impl Untidy {
    #[inline(never)]
    fn leave_secret(&self) {
        let mut stack = [0u8; 64 * 1024];
        for copy in stack.as_chunks_mut::<32>().0 {
            *copy = self.complement.map(|byte| !byte);
        }
        black_box(&mut stack);
    }
}

impl IndexAllocator for Untidy {
    fn allocate(&self, lanes: u8) -> Result<Vec<ReceiverIndex>, Exhausted> {
        self.leave_secret();
        self.indices.allocate(lanes)
    }

    fn release(&self, indices: &[ReceiverIndex]) {
        self.indices.release(indices);
    }
}

/// Each side has a thread, and so a stack, of its own, which is still there when it is searched.
#[test]
fn what_a_handshake_leaves_on_the_stack_is_overwritten() {
    let _alone = SEARCH.blocking_lock();
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (near, far) = pipe();
    let complements =
        [0x35, 0xc9].map(|key: u8| std::array::from_fn(|i| key ^ (i * 5).to_le_bytes()[0]));
    let [left, right] = complements.map(|complement| {
        let indices = Indices::new();
        let params = side(1, &indices).params;
        LocalSide { params, indices: Arc::new(Untidy { complement, indices }) }
    });
    let (done, searched) = (&Barrier::new(3), &Barrier::new(3));
    let on_this_stack = |handshake: &mut dyn FnMut(&tokio::runtime::Runtime) -> Outcome| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let is_ok = handshake(&runtime).is_ok();
        done.wait();
        searched.wait();
        is_ok
    };
    let found = std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            let (name, mut stream) = (host("host-b"), Some(near));
            on_this_stack(&mut |runtime| {
                let stream = stream.take().unwrap();
                runtime.block_on(connect(stream, &a, &name, &left, deadline()))
            })
        });
        let server = scope.spawn(move || {
            let mut stream = Some((far, b, right));
            on_this_stack(&mut |runtime| {
                let (stream, b, right) = stream.take().unwrap();
                runtime.block_on(serve(stream, [b], right))
            })
        });
        done.wait();
        let found = complements.map(|complement| occurrences(&complement));
        searched.wait();
        assert!(client.join().unwrap() && server.join().unwrap());
        found
    });
    assert_eq!(found, [vec![], vec![]]);
}
