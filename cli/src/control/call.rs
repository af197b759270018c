//! Calls of the control plane, and what goes wrong with them as sentences.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use weft_control_api::SEEN_HEADER;

use super::{context::Context, line::Line};
use crate::text::printable;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a control plane, in a session or without.
pub(super) struct Connection {
    line: Line,
    token: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// In the session that there is.
    pub(super) async fn open(context: &Context) -> Result<Self> {
        let line = connect(&context.server, &context.authority).await?;
        let token = format!("Bearer {}", context.token).parse();
        Ok(Self {
            line,
            token: Some(token.context("the session's secret is damaged; log in again")?),
        })
    }

    /// As nobody.
    pub(super) async fn anonymous(server: &str, authority: &str) -> Result<Self> {
        Ok(Self { line: connect(server, authority).await?, token: None })
    }

    /// What a client of a service is made of.
    pub(super) fn channel(&self) -> Line {
        self.line.clone()
    }

    /// A request of this session.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request.set_timeout(ANSWER_TIMEOUT);
        request
    }
}

async fn connect(server: &str, authority: &str) -> Result<Line> {
    let (host, _) = server
        .rsplit_once(':')
        .with_context(|| format!("{server:?} is no server; expected HOST:PORT"))?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .domain_name(host.trim_start_matches('[').trim_end_matches(']'));
    let endpoint = Endpoint::from_shared(format!("https://{server}"))
        .with_context(|| format!("{server:?} is no server; expected HOST:PORT"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tls_config(tls)
        .context("the authority's certificate cannot be used")?;
    let channel = endpoint.connect().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        anyhow!("cannot connect to {server}: {cause}")
    })?;
    Ok(Line::new(channel))
}

/// What a call answers. Where that is not of now, it is said beside it.
pub(super) fn answer<T>(answer: Result<Response<T>, Status>) -> Result<T> {
    let answer = answer.map_err(|status| sentence(&status))?;
    if let Some(note) = age(answer.metadata()) {
        eprintln!("weft: {note}");
    }
    Ok(answer.into_inner())
}

/// That an answer is of what was seen last, and how old that may be.
fn age(metadata: &MetadataMap) -> Option<String> {
    let seconds: u64 = metadata.get(SEEN_HEADER)?.to_str().ok()?.parse().ok()?;
    Some(format!("the store does not answer; this is as it was seen {seconds} s ago at the most"))
}

/// What a call answers; nothing when there is no such thing.
pub(super) fn found<T>(answered: Result<Response<T>, Status>) -> Result<Option<T>> {
    match answered {
        Err(status) if status.code() == Code::NotFound => Ok(None),
        answered => answer(answered).map(Some),
    }
}

/// What a refusal means to a person. The control plane's own errors are sentences already.
fn sentence(status: &Status) -> anyhow::Error {
    let message = printable(status.message());
    match status.code() {
        Code::Unauthenticated => anyhow!("{message}; use weft login"),
        Code::Unimplemented => {
            anyhow!(
                "the control plane is of another version than this command and does not know the request"
            )
        }
        Code::Cancelled | Code::DeadlineExceeded => {
            anyhow!("the control plane did not answer in time")
        }
        Code::Unavailable | Code::Unknown if std::error::Error::source(status).is_some() => {
            anyhow!("the connection broke before the control plane answered")
        }
        code if message.is_empty() => anyhow!("the control plane refused: {}", code.description()),
        _ => anyhow!("{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_now_says_how_old_it_is() {
        let mut metadata = MetadataMap::new();
        assert_eq!(age(&metadata), None);
        metadata.insert(SEEN_HEADER, "12".parse().unwrap());
        let said = "the store does not answer; this is as it was seen 12 s ago at the most";
        assert_eq!(age(&metadata).as_deref(), Some(said));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let said = |status: Status| sentence(&status).to_string();
        assert_eq!(said(Status::not_found("no such environment")), "no such environment");
        assert!(said(Status::unauthenticated("not logged in")).ends_with("; use weft login"));
        assert!(said(Status::unimplemented("")).contains("another version"));
        assert_eq!(said(Status::not_found("a\x1b[2J")), "a\u{fffd}[2J");
    }

    #[test]
    fn what_is_not_there_is_no_refusal() {
        assert_eq!(found(Ok(Response::new(7))).unwrap(), Some(7));
        assert_eq!(found::<u8>(Err(Status::not_found("no such secret"))).unwrap(), None);
        assert!(found::<u8>(Err(Status::permission_denied("not yours"))).is_err());
    }

    #[tokio::test]
    async fn a_server_without_a_port_is_named() {
        let refused = connect("control.example", "").await.unwrap_err().to_string();
        assert_eq!(refused, "\"control.example\" is no server; expected HOST:PORT");
    }
}
