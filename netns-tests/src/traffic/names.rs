//! Asking for names, as a resolver in a container does.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::namespace::Namespace;
use crate::topology::Family;

/// Where names are asked for.
const PORT: u16 = 53;
/// The address of every name outside.
pub const OUTSIDE: &str = "192.0.2.80";
/// The id of every question, so that two answers can be compared byte by byte.
const ID: u16 = 0x5eed;
/// Longest message.
const MESSAGE_LEN_MAX: usize = 65_535;

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A connection.
    Tcp,
}

/// Who asks, and how.
#[derive(Debug, Clone)]
pub struct Resolver<'a> {
    ns: &'a Namespace,
    server: IpAddr,
    transport: Transport,
    limit: Duration,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether there is such a name.
    pub code: ResponseCode,
    /// What the records of the answer say, as text, sorted.
    pub data: Vec<String>,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl<'a> Resolver<'a> {
    /// Asks the gateway of the environment that a container in this namespace is in. All environments of tests
    /// have the same.
    #[must_use]
    pub fn new(ns: &'a Namespace, family: Family, transport: Transport) -> Self {
        let server = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 40, 0, 1)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, 1)),
        };
        Self { ns, server, transport, limit: Duration::from_secs(5) }
    }

    /// Waits so long for an answer.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Whom it asks.
    #[must_use]
    pub fn server(&self) -> IpAddr {
        self.server
    }

    /// Asks for one name.
    ///
    /// # Errors
    /// When no answer to this question comes in time.
    pub fn ask(&self, name: &str, kind: RecordType) -> Result<Answer> {
        let question = question(name, kind)?;
        let server = SocketAddr::new(self.server, PORT);
        let answered = self.ns.enter(|| match self.transport {
            Transport::Udp => over_udp(server, &question, self.limit),
            Transport::Tcp => over_tcp(server, &question, self.limit),
        });
        let bytes = answered.with_context(|| format!("{:?}: {name} {kind}", self.ns))?;
        let message = Message::from_vec(&bytes)?;
        ensure!(message.id == ID && message.metadata.message_type == MessageType::Response);
        let asked = Message::from_vec(&question)?;
        ensure!(message.queries == asked.queries, "an answer to {:?}", message.queries);
        let mut data: Vec<_> =
            message.answers.iter().map(|record| record.data.to_string()).collect();
        data.sort();
        Ok(Answer { code: message.metadata.response_code, data, bytes })
    }
}

/// A question as resolvers put it, byte by byte.
///
/// # Errors
/// When the name is none.
pub fn question(name: &str, kind: RecordType) -> Result<Vec<u8>> {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name)?, kind));
    Ok(message.to_vec()?)
}

/// Answers every question with [`OUTSIDE`], as a server outside does, until it is over; returns how many.
///
/// # Errors
/// When a name of the overlay is asked for.
pub fn serve(socket: &UdpSocket, is_over: &AtomicBool) -> Result<u64> {
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let address: Ipv4Addr = OUTSIDE.parse()?;
    let mut buffer = [0; 2_000];
    let mut answered = 0;
    while !is_over.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let mut message = Message::from_vec(&buffer[..len])?;
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        ensure!(!name.to_ascii().ends_with("internal."), "{name} was asked outside");
        message.add_answer(Record::from_rdata(name, 60, RData::A(address.into())));
        socket.send_to(&message.to_vec()?, from)?;
        answered += 1;
    }
    Ok(answered)
}

fn over_udp(server: SocketAddr, question: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(limit))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = vec![0; MESSAGE_LEN_MAX];
    let len = socket.recv(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

fn over_tcp(server: SocketAddr, question: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let len = u16::try_from(question.len())?.to_be_bytes();
    stream.write_all(&[&len[..], question].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
