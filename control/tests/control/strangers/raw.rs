//! Calls as bytes, so that whatever the protocol has is asked in one way, and everything that comes back is looked at.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf, BufMut};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::Channel,
};

use crate::site::with;

/// Every call is answered within this time.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Of an answer, what is another one each time.
const ITS_OWN: [&str; 2] = ["date", "weft-request-id"];

#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Everything that a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: Code,
    message: String,
    /// Headers, and trailers of an error.
    metadata: BTreeMap<String, Vec<u8>>,
    /// The answer, or the details of an error.
    pub(super) answer: Vec<u8>,
}

fn metadata(map: &MetadataMap) -> BTreeMap<String, Vec<u8>> {
    let headers = map.clone().into_headers();
    let told = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    told.filter(|(name, _)| !ITS_OWN.contains(&name.as_str())).collect()
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            metadata: metadata(status.metadata()),
            answer: status.details().to_vec(),
        }
    }
}

impl Outcome {
    /// Whether something of this is in it.
    pub(super) fn tells(&self, what: &str) -> bool {
        let all = [self.message.as_bytes(), &self.answer].into_iter();
        let mut all = all.chain(self.metadata.values().map(Vec::as_slice));
        all.any(|told| told.windows(what.len()).any(|part| part == what.as_bytes()))
    }
}

/// Asks, and waits for the answer; of a stream, for the first one.
pub(super) async fn ask(
    channel: &Channel,
    token: Option<&str>,
    call: &str,
    message: Vec<u8>,
) -> Outcome {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path: PathAndQuery = format!("/weft.control.v1.{call}").parse().unwrap();
    let request = match token {
        Some(token) => with(message, token),
        None => Request::new(message),
    };
    let asked = async {
        // An answer of one message is a stream of one.
        let answer = client.server_streaming(request, path, Raw).await?;
        let metadata = metadata(answer.metadata());
        let answer = answer.into_inner().message().await?.unwrap_or_default();
        Ok::<_, Status>(Outcome { code: Code::Ok, message: String::new(), metadata, answer })
    };
    let outcome = timeout(ANSWER_MAX, asked).await;
    outcome.unwrap_or_else(|_| panic!("{call} is not answered")).unwrap_or_else(Outcome::from)
}
