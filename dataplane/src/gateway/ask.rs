//! Asking servers outside: a socket for each query, closed as soon as it is answered or given up.
//!
//! They are sockets of the daemon in its own namespace, from a port that the kernel picks at random. Which answer
//! is the right one the gateway decides; here only the server's address counts, to which a socket is connected.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::mpsc,
    task::AbortHandle,
};
use weft_dns::{ForwardQuery, ForwardToken, TCP_ANSWER_LEN_MAX, Transport};

/// Messages that wait for the gateway; who has more waits with them.
const CAME_MAX: usize = 64;
/// Longest message that is read over UDP, bytes. Servers are told to send 1,232 at most; what is cut here cannot
/// be read.
const UDP_MESSAGE_LEN_MAX: usize = 4_096;

/// What came of a query.
pub(super) enum Came {
    /// Something from the server that was asked.
    Answer { token: ForwardToken, from: SocketAddr, message: Vec<u8> },
    /// Nothing more comes.
    Over(ForwardToken),
}

/// The sockets of one environment.
pub(super) struct Asking {
    sender: mpsc::Sender<Came>,
    came: mpsc::Receiver<Came>,
    sockets: HashMap<ForwardToken, AbortHandle>,
}

impl Asking {
    pub(super) fn new() -> Self {
        let (sender, came) = mpsc::channel(CAME_MAX);
        Self { sender, came, sockets: HashMap::new() }
    }

    /// The next thing that comes.
    pub(super) async fn came(&mut self) -> Option<Came> {
        self.came.recv().await
    }

    /// Sends a query. There are so many at a time as the gateway has waiting, and those of servers that it has
    /// just given up.
    pub(super) fn open(&mut self, query: ForwardQuery) {
        let token = query.token;
        let asking = tokio::spawn(ask(query, self.sender.clone()));
        self.sockets.insert(token, asking.abort_handle());
    }

    /// Nothing of this query is wanted any more.
    pub(super) fn close(&mut self, token: ForwardToken) {
        if let Some(socket) = self.sockets.remove(&token) {
            socket.abort();
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.sockets.values().for_each(AbortHandle::abort);
    }
}

async fn ask(query: ForwardQuery, came: mpsc::Sender<Came>) {
    let token = query.token;
    let asked = async {
        match query.transport {
            Transport::Udp => ask_udp(&query, &came).await,
            Transport::Tcp => ask_tcp(&query, &came).await,
        }
    };
    if let Ok(Err(error)) = tokio::time::timeout_at(query.deadline.into(), asked).await {
        tracing::debug!(server = %query.server, %error, "a name server is not asked");
    }
    // Without a gateway nobody waits for it.
    let _ = came.send(Came::Over(token)).await;
}

/// Goes on receiving, because what comes may be forged.
async fn ask_udp(query: &ForwardQuery, came: &mpsc::Sender<Came>) -> io::Result<()> {
    let any = match query.server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(query.server).await?;
    socket.send(&query.message).await?;
    let mut buffer = vec![0; UDP_MESSAGE_LEN_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        answer(query, buffer[..len].to_vec(), came).await;
    }
}

/// One message, after its length (RFC 1035 section 4.2.2).
async fn ask_tcp(query: &ForwardQuery, came: &mpsc::Sender<Came>) -> io::Result<()> {
    let mut stream = TcpStream::connect(query.server).await?;
    let len = u16::try_from(query.message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), &query.message[..]].concat()).await?;
    let len = usize::from(stream.read_u16().await?);
    if len > TCP_ANSWER_LEN_MAX {
        let error = format!("an answer of {len} bytes; expected {TCP_ANSWER_LEN_MAX} at most");
        return Err(io::Error::other(error));
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    answer(query, message, came).await;
    Ok(())
}

async fn answer(query: &ForwardQuery, message: Vec<u8>, came: &mpsc::Sender<Came>) {
    let came_back = Came::Answer { token: query.token, from: query.server, message };
    // Without a gateway nobody waits for it.
    let _ = came.send(came_back).await;
}
