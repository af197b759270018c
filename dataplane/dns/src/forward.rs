//! Queries that wait for answers from outside.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};

use crate::{
    limits::{FORWARD_TIMEOUT, FORWARDS_MAX, FORWARDS_PER_SOURCE_MAX, TCP_ANSWER_LEN_MAX},
    message::{Contents, HEADER_LEN, Request, Transport, question},
    server::Asker,
};

/// One try to get an answer: the socket that is opened for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardToken(u64);

/// A query that goes to a server outside.
///
/// It is sent from a socket of its own, bound to a random port and connected to `server`, which is closed as soon
/// as the token is answered or was given up: an answer can then be forged only by who guesses port and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardQuery {
    /// To be handed back with the answer.
    pub token: ForwardToken,
    /// Whom to ask.
    pub server: SocketAddr,
    /// How: over TCP the message is preceded by its length (RFC 1035 section 4.2.2).
    pub transport: Transport,
    /// The message.
    pub message: Vec<u8>,
    /// When it is given up.
    pub deadline: Instant,
}

/// Why what came is not the answer. The query goes on waiting, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardAnswerError {
    /// Nobody waits for it, or not any more: close its socket.
    #[error("nobody waits for this answer")]
    Unknown,
    /// From another address than the server's.
    #[error("an answer of somebody else")]
    Source,
    /// Another id, or not an answer at all.
    #[error("an answer with another id")]
    Id,
    /// To another question.
    #[error("an answer to another question")]
    Question,
    /// Not a message, or longer than any that is taken.
    #[error("an answer that cannot be read")]
    Malformed,
}

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    request: Request,
    id: u16,
    /// Which of the servers was asked.
    tried: usize,
    deadline: Instant,
}

/// What waits, bounded, in the order in which it was asked.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    waiting: BTreeMap<ForwardToken, Waiting>,
    next: u64,
}

impl Forwards {
    /// Whether one more of this asker's may wait.
    pub(crate) fn has_room(&self, asker: &Asker) -> bool {
        let of_source = |waiting: &&Waiting| waiting.asker.address.ip() == asker.address.ip();
        self.waiting.len() < FORWARDS_MAX
            && self.waiting.values().filter(of_source).count() < FORWARDS_PER_SOURCE_MAX
    }

    /// Begins to wait; `None` when the question cannot be asked.
    pub(crate) fn ask(
        &mut self,
        asker: Asker,
        request: Request,
        servers: &[SocketAddr],
        id: u16,
        now: Instant,
    ) -> Option<ForwardQuery> {
        let waiting = Waiting { asker, request, id, tried: 0, deadline: now + FORWARD_TIMEOUT };
        self.try_server(waiting, servers)
    }

    fn try_server(&mut self, waiting: Waiting, servers: &[SocketAddr]) -> Option<ForwardQuery> {
        let query = ForwardQuery {
            token: ForwardToken(self.next),
            server: *servers.get(waiting.tried)?,
            transport: waiting.asker.transport,
            message: question(waiting.id, &waiting.request.question)?,
            deadline: waiting.deadline,
        };
        self.next += 1;
        self.waiting.insert(query.token, waiting);
        Some(query)
    }

    /// Judges what came on the token's socket from `from`. Returns the answer for the asker.
    pub(crate) fn answer(
        &mut self,
        token: ForwardToken,
        from: SocketAddr,
        bytes: &[u8],
        servers: &[SocketAddr],
    ) -> Result<(Asker, Vec<u8>), ForwardAnswerError> {
        let waiting = self.waiting.get(&token).ok_or(ForwardAnswerError::Unknown)?;
        if servers.get(waiting.tried) != Some(&from) {
            return Err(ForwardAnswerError::Source);
        }
        let contents = judge(bytes, waiting)?;
        let waiting = self.waiting.remove(&token).ok_or(ForwardAnswerError::Unknown)?;
        Ok((waiting.asker, waiting.request.write(&contents, true)))
    }

    /// The token's socket failed: the next server is asked, or the asker told.
    pub(crate) fn failed(
        &mut self,
        token: ForwardToken,
        servers: &[SocketAddr],
        id: u16,
        now: Instant,
    ) -> Next {
        let Some(mut waiting) = self.waiting.remove(&token) else { return Next::Nothing };
        waiting.tried += 1;
        waiting.id = id;
        waiting.deadline = now + FORWARD_TIMEOUT;
        if waiting.tried < servers.len() {
            return self.try_server(waiting, servers).map_or(Next::Nothing, Next::Ask);
        }
        let failure = Contents::code(ResponseCode::ServFail);
        Next::Tell(waiting.asker, waiting.request.write(&failure, true))
    }

    /// Any that waits.
    pub(crate) fn first(&self) -> Option<ForwardToken> {
        self.waiting.keys().next().copied()
    }

    /// One that has waited too long.
    pub(crate) fn overdue(&self, now: Instant) -> Option<ForwardToken> {
        self.waiting.iter().find(|(_, waiting)| waiting.deadline <= now).map(|(token, _)| *token)
    }

    /// When the next one will have.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.deadline).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// What follows from a failure.
#[derive(Debug)]
pub(crate) enum Next {
    Nothing,
    Ask(ForwardQuery),
    Tell(Asker, Vec<u8>),
}

/// Whether this is the answer, and what of it is handed on: its records as they are, its code; nothing of its
/// OPT, which is between us and the server.
fn judge(bytes: &[u8], waiting: &Waiting) -> Result<Contents, ForwardAnswerError> {
    let header = bytes.first_chunk::<HEADER_LEN>().ok_or(ForwardAnswerError::Malformed)?;
    let id = u16::from_be_bytes([header[0], header[1]]);
    if id != waiting.id || header[2] & 0x80 == 0 || header[2] & 0x78 != 0 {
        return Err(ForwardAnswerError::Id);
    }
    if bytes.len() > TCP_ANSWER_LEN_MAX {
        return Err(ForwardAnswerError::Malformed);
    }
    if header[4..6] != [0, 1] {
        return Err(ForwardAnswerError::Question);
    }
    let message = Message::from_vec(bytes).map_err(|_| ForwardAnswerError::Malformed)?;
    debug_assert_eq!(message.metadata.message_type, MessageType::Response);
    debug_assert_eq!(message.metadata.op_code, OpCode::Query);
    let asked = &waiting.request.question;
    let is_same = message.queries.first().is_some_and(|question| {
        question.name().eq_case(asked.name())
            && question.query_type() == asked.query_type()
            && question.query_class() == asked.query_class()
    });
    if !is_same {
        return Err(ForwardAnswerError::Question);
    }
    let code = match message.metadata.response_code {
        // Ours to the server cannot be the asker's: it is the server's failure.
        ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS => {
            ResponseCode::ServFail
        }
        code if u16::from(code) < 16 => code,
        _ => ResponseCode::ServFail,
    };
    Ok(Contents {
        code,
        authoritative: false,
        truncated: message.metadata.truncation && waiting.asker.transport == Transport::Udp,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
    })
}
