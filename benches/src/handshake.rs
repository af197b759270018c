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

mod compare;
mod plain;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_handshake::{
    DEADLINE, Exhausted, Hello, IndexAllocator, LocalParams, LocalSide, ServerEnvironments, accept,
    connect,
};
use weft_types::{ReceiverIndex, WorkerId};
use weft_wire::hello::Frame;

pub use compare::{Comparison, FIGURE, RATIO_MIN};

use crate::cpu_time::used;
use plain::Hosts;

/// Room for every flight of a handshake, bytes.
const PIPE: usize = 64 * 1024;
/// Lanes of each side.
const LANES: u8 = 2;

/// A key exchange; plain rustls offers no other then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// X25519MLKEM768.
    Hybrid,
    /// X25519.
    Classical,
}

impl Group {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hybrid, Self::Classical];

    /// As TLS calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hybrid => "X25519MLKEM768",
            Self::Classical => "X25519",
        }
    }
}

/// Two hosts of one environment, and the same two as plain rustls.
pub struct Bench {
    runtime: Runtime,
    hosts: Hosts,
    environments: ServerEnvironments,
    side: LocalSide,
    plain: [Plain; 2],
}

/// Both ends of plain rustls.
struct Plain {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// Makes certificates and configurations.
    ///
    /// # Panics
    /// When that fails, and so does every handshake below: a benchmark of refusals measures
    /// nothing.
    #[must_use]
    pub fn new() -> Self {
        let hosts = Hosts::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let environments = ServerEnvironments::new([Arc::clone(&hosts.server)]);
        let plain = Group::ALL.map(|group| Plain {
            connector: TlsConnector::from(hosts.client_config(group)),
            acceptor: TlsAcceptor::from(hosts.server_config(group)),
        });
        Self {
            runtime: runtime.expect("a runtime without sockets"),
            environments: environments.expect("one environment"),
            hosts,
            side: side(),
            plain,
        }
    }

    fn plain(&self, group: Group) -> &Plain {
        &self.plain[group as usize]
    }

    /// Two hosts of ours, both sides.
    pub fn both_weft(&self) {
        self.runtime.block_on(async {
            let (near, far) = duplex(PIPE);
            let admit = |_: &_, _: &_| Some(self.side.clone());
            let server = accept(far, &self.environments, || true, admit, deadline());
            let name = self.hosts.server.host();
            let client = connect(near, &self.hosts.client, name, &self.side, deadline());
            let (client, server) = tokio::join!(client, server);
            drop((client.expect("a good server"), server.expect("a good client")));
        });
    }

    /// Plain rustls, both sides.
    pub fn both_rustls(&self, group: Group) {
        let Plain { connector, acceptor } = self.plain(group);
        self.runtime.block_on(async {
            let (near, far) = duplex(PIPE);
            let client = connector.connect(self.hosts.server_name(), near);
            let (client, server) = tokio::join!(client, acceptor.accept(far));
            drop((client.expect("a good server"), server.expect("a good client")));
        });
    }

    /// A server of ours; what it took alone.
    #[must_use]
    pub fn server_weft(&self, group: Group) -> Duration {
        self.runtime.block_on(async {
            let (near, far) = duplex(PIPE);
            let admit = |_: &_, _: &_| Some(self.side.clone());
            let server = accept(far, &self.environments, || true, admit, deadline());
            let client = self.speak_frames(&self.plain(group).connector, near);
            let ((), (server, took)) = tokio::join!(client, timed(server));
            server.expect("a good client");
            took
        })
    }

    /// A server that is plain rustls; what it took alone.
    #[must_use]
    pub fn server_rustls(&self, group: Group) -> Duration {
        let Plain { connector, acceptor } = self.plain(group);
        self.runtime.block_on(async {
            let (near, far) = duplex(PIPE);
            let client = connector.connect(self.hosts.server_name(), near);
            let (client, (server, took)) = tokio::join!(client, timed(acceptor.accept(far)));
            client.expect("a good server");
            server.expect("a good client");
            took
        })
    }

    /// A client that is plain rustls and says what a host says.
    async fn speak_frames(&self, connector: &TlsConnector, stream: DuplexStream) {
        let name = self.hosts.server_name();
        let mut stream = connector.connect(name, stream).await.expect("a good server");
        let params = &self.side.params;
        let hello = Hello {
            lanes: params.lanes,
            uso: params.uso,
            datagram_max: params.datagram_max,
            instance: params.instance,
            generation: params.generation,
            no_aes: params.no_aes,
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
