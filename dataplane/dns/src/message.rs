//! Reading queries and writing answers.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder},
};

use crate::limits::{PLAIN_ANSWER_LEN_MAX, QUERY_LEN_MAX, TCP_ANSWER_LEN_MAX, UDP_ANSWER_LEN_MAX};

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// Length of a message's header (RFC 1035 section 4.1.1).
pub(crate) const HEADER_LEN: usize = 12;
/// What we take over UDP, as OPT says it.
const PAYLOAD_LEN: u16 = 1_232;
/// Types that stand for no records (RFC 6895 section 3.1), but for `ANY`.
const META_TYPES: std::ops::RangeInclusive<u16> = 128..=254;
const IXFR: u16 = 251;

/// A query that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) question: Query,
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    /// What the asker takes over UDP, if it said so.
    edns: Option<u16>,
    transport: Transport,
}

/// What there is to say instead of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRequest {
    /// Nothing: too short for an answer, or an answer itself, which must never be answered.
    Silence,
    /// This message.
    Reply(Vec<u8>),
}

impl Request {
    /// Reads a message. `recurses` is what answers say of recursion.
    pub(crate) fn read(
        bytes: &[u8],
        transport: Transport,
        recurses: bool,
    ) -> Result<Self, NoRequest> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(NoRequest::Silence);
        };
        if header[2] & 0x80 != 0 {
            return Err(NoRequest::Silence);
        }
        if header[2] & 0x78 != 0 {
            return Err(refusal(header, ResponseCode::NotImp));
        }
        // One question (RFC 9619) and no records but additional ones. Counts are read before anything is
        // allocated for them.
        if header[4..10] != [0, 1, 0, 0, 0, 0] || bytes.len() > QUERY_LEN_MAX {
            return Err(refusal(header, ResponseCode::FormErr));
        }
        let mut decoder = BinDecoder::new(bytes);
        let message = match Message::read(&mut decoder) {
            Ok(message) if decoder.is_empty() => message,
            _ => return Err(refusal(header, ResponseCode::FormErr)),
        };
        let edns = message.edns;
        let version = edns.as_ref().map(Edns::version);
        let Some(question) = message.queries.into_iter().next() else {
            return Err(refusal(header, ResponseCode::FormErr));
        };
        let request = Self {
            id: message.metadata.id,
            recursion_desired: message.metadata.recursion_desired,
            checking_disabled: message.metadata.checking_disabled,
            edns: edns.map(|edns| edns.max_payload()),
            question,
            transport,
        };
        let code = match (version, request.question.query_class(), request.question.query_type()) {
            (Some(1..), ..) => ResponseCode::BADVERS,
            (_, class, _) if class != DNSClass::IN => ResponseCode::Refused,
            (_, _, RecordType::AXFR) => ResponseCode::Refused,
            (_, _, kind) if u16::from(kind) == IXFR => ResponseCode::Refused,
            (_, _, RecordType::ZERO | RecordType::OPT) => ResponseCode::FormErr,
            (_, _, kind) if META_TYPES.contains(&kind.into()) => ResponseCode::NotImp,
            _ => return Ok(request),
        };
        Err(NoRequest::Reply(request.write(&Contents::code(code), recurses)))
    }

    /// Longest answer that the asker takes.
    pub(crate) fn answer_len_max(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => TCP_ANSWER_LEN_MAX,
            (Transport::Udp, None) => PLAIN_ANSWER_LEN_MAX,
            (Transport::Udp, Some(len)) => {
                usize::from(len).clamp(PLAIN_ANSWER_LEN_MAX, UDP_ANSWER_LEN_MAX)
            }
        }
    }

    /// The answer's bytes, never longer than [`Request::answer_len_max`]: additional records go first, then
    /// everything, and the answer says that it was cut. The question is repeated as it was asked, letter by
    /// letter, since resolvers hide random bits in upper and lower case.
    pub(crate) fn write(&self, contents: &Contents, recurses: bool) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.authoritative = contents.authoritative;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = recurses;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.response_code = contents.code;
        message.metadata.truncation = contents.truncated;
        message.queries = vec![self.question.clone()];
        message.answers.clone_from(&contents.answers);
        message.authorities.clone_from(&contents.authorities);
        message.additionals.clone_from(&contents.additionals);
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD_LEN);
            message.edns = Some(edns);
        }
        let fits = |bytes: &Vec<u8>| bytes.len() <= self.answer_len_max();
        if let Some(bytes) = encode(&message).filter(fits) {
            return bytes;
        }
        message.additionals.clear();
        if let Some(bytes) = encode(&message).filter(fits) {
            return bytes;
        }
        if self.transport == Transport::Tcp {
            message.metadata.response_code = ResponseCode::ServFail;
        } else {
            message.metadata.truncation = true;
        }
        message.answers.clear();
        message.authorities.clear();
        encode(&message).filter(fits).unwrap_or_default()
    }
}

/// What an answer says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Contents {
    pub(crate) fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

/// A query for somebody else, with nothing of the asker's but the question.
pub(crate) fn question(id: u16, question: &Query) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries = vec![question.clone()];
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_LEN);
    message.edns = Some(edns);
    encode(&message)
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PLAIN_ANSWER_LEN_MAX);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::MAX);
    message.emit(&mut encoder).ok()?;
    Some(bytes)
}

/// An answer that is nothing but a header: to what could not be read far enough for more.
fn refusal(header: &[u8; HEADER_LEN], code: ResponseCode) -> NoRequest {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..2].copy_from_slice(&header[..2]);
    // The opcode and whether recursion was desired are kept.
    bytes[2] = 0x80 | header[2] & 0x79;
    bytes[3] = code.low();
    NoRequest::Reply(bytes)
}
