//! Whole handshakes, beside what plain rustls gives with the same certificates, the same key
//! exchange, the same pipe and the same allocator.
//!
//! ```text
//!  both sides   weft: connect ◀──pipe──▶ accept       rustls: connector ◀──pipe──▶ acceptor
//!  server       weft: [client] ◀──pipe──▶ accept      rustls: [client] ◀──pipe──▶ acceptor
//! ```
//! Both ends run on one thread; of the client in brackets nothing counts. It is plain rustls with
//! the frames of a handshake in it, because between two hosts of ours the key exchange is always
//! the hybrid one: X25519 is what a peer without it gets.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_handshake::{
    DEADLINE, Exhausted, IndexAllocator, LocalParams, LocalSide, ServerEnvironments, accept,
    connect,
};
use weft_types::{ReceiverIndex, WorkerId};
use weft_wire::hello::Frame;

use crate::cpu::{CpuTime, used};
use crate::tls::{GROUPS, Hosts};

/// Room for every flight of a handshake, bytes.
const PIPE: usize = 64 * 1024;
/// Lanes of each side.
const LANES: u8 = 2;

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without sockets");
    let hosts = Hosts::new();
    both_sides(criterion, &runtime, &hosts);
    server(criterion, &runtime, &hosts);
}

fn both_sides(criterion: &mut Criterion<CpuTime>, runtime: &Runtime, hosts: &Hosts) {
    let mut group = criterion.benchmark_group("handshake/both sides");
    group.throughput(Throughput::Elements(1));
    let environments = environments(hosts);
    group.bench_function("X25519MLKEM768/weft", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let (near, far) = duplex(PIPE);
                let server = accept(far, &environments, |_, _| Some(side()), deadline());
                let (local, name) = (side(), &hosts.server.host().clone());
                let client = connect(near, &hosts.client, name, &local, deadline());
                let (client, server) = tokio::join!(client, server);
                (client.expect("a good server"), server.expect("a good client"))
            })
        });
    });
    for (name, kx) in GROUPS {
        let connector = TlsConnector::from(hosts.client_config(kx));
        let acceptor = TlsAcceptor::from(hosts.server_config(kx));
        group.bench_function(format!("{name}/rustls"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let (near, far) = duplex(PIPE);
                    let client = connector.connect(hosts.server_name(), near);
                    let (client, server) = tokio::join!(client, acceptor.accept(far));
                    (client.expect("a good server"), server.expect("a good client"))
                })
            });
        });
    }
    group.finish();
}

fn server(criterion: &mut Criterion<CpuTime>, runtime: &Runtime, hosts: &Hosts) {
    let mut group = criterion.benchmark_group("handshake/server");
    group.throughput(Throughput::Elements(1));
    let environments = environments(hosts);
    for (name, kx) in GROUPS {
        let connector = TlsConnector::from(hosts.client_config(kx));
        group.bench_function(format!("{name}/weft"), |bencher| {
            bencher.iter_custom(|count| {
                total(count, || {
                    runtime.block_on(async {
                        let (near, far) = duplex(PIPE);
                        let server = accept(far, &environments, |_, _| Some(side()), deadline());
                        let client = speak_frames(&connector, hosts, near);
                        let ((), (server, took)) = tokio::join!(client, timed(server));
                        server.expect("a good client");
                        took
                    })
                })
            });
        });
        let acceptor = TlsAcceptor::from(hosts.server_config(kx));
        group.bench_function(format!("{name}/rustls"), |bencher| {
            bencher.iter_custom(|count| {
                total(count, || {
                    runtime.block_on(async {
                        let (near, far) = duplex(PIPE);
                        let client = connector.connect(hosts.server_name(), near);
                        let (client, (server, took)) =
                            tokio::join!(client, timed(acceptor.accept(far)));
                        client.expect("a good server");
                        server.expect("a good client");
                        took
                    })
                })
            });
        });
    }
    group.finish();
}

fn total(count: u64, mut one: impl FnMut() -> Duration) -> Duration {
    (0..count).map(|_| one()).sum()
}

/// Runs `work` and gives the CPU time that it took, without what its peer took meanwhile.
async fn timed<F: Future>(work: F) -> (F::Output, Duration) {
    let mut work = pin!(work);
    let mut took = Duration::ZERO;
    let output = poll_fn(|context| {
        let begun = used();
        let polled = work.as_mut().poll(context);
        took += used().saturating_sub(begun);
        polled
    });
    (output.await, took)
}

/// A client that is plain rustls and says what a host says.
async fn speak_frames(connector: &TlsConnector, hosts: &Hosts, stream: DuplexStream) {
    let mut stream = connector.connect(hosts.server_name(), stream).await.expect("a good server");
    let side = side();
    let hello = weft_handshake::Hello {
        lanes: side.params.lanes,
        uso: side.params.uso,
        datagram_max: side.params.datagram_max,
        instance: side.params.instance,
        generation: side.params.generation,
        no_aes: side.params.no_aes,
    };
    let indices = Indices.allocate(LANES).expect("never exhausted");
    let mut bytes = Vec::new();
    for frame in [Frame::Hello(hello), Frame::Indices(indices)] {
        frame.encode(&mut bytes).expect("a good frame");
    }
    stream.write_all(&bytes).await.expect("the server reads");
    stream.flush().await.expect("the server reads");
    // Up to its end; a server that just closes is as good as one that says so.
    let _ = stream.read_to_end(&mut bytes).await;
}

fn environments(hosts: &Hosts) -> ServerEnvironments {
    ServerEnvironments::new([Arc::clone(&hosts.server)]).expect("one environment")
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + DEADLINE
}

fn side() -> LocalSide {
    let params = LocalParams {
        lanes: LANES,
        uso: true,
        datagram_max: 1472,
        instance: [1; 16],
        generation: 1,
        no_aes: false,
    };
    LocalSide { params, indices: Arc::new(Indices) }
}

/// Gives the same indices to everybody: nothing is received by them.
struct Indices;

impl IndexAllocator for Indices {
    fn allocate(&self, lanes: u8) -> Result<Vec<ReceiverIndex>, Exhausted> {
        let worker = WorkerId::new(0).map_err(|_| Exhausted)?;
        Ok((0..lanes).map(|lane| ReceiverIndex::new(worker, lane.into())).collect())
    }

    fn release(&self, _: &[ReceiverIndex]) {}
}
