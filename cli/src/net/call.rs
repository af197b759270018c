//! Calls to the daemon, and what goes wrong with them as sentences.

use std::{path::Path, time::Duration};

use anyhow::{Result, anyhow};
use tonic::{Code, Response, Status, transport::Channel};
use weft_api::v1::{StatusRequest, StatusResponse, local_api_client::LocalApiClient};

use crate::text::printable;

/// A client of the daemon.
pub(crate) type Client = LocalApiClient<Channel>;

/// How long the daemon may take to answer a question.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the daemon may take to make a change; an interface needs the kernel's help.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the daemon on the socket `path`.
///
/// # Errors
/// A sentence that says whether it runs.
pub(crate) async fn connect(path: &Path) -> Result<Client> {
    Ok(weft_api::client(weft_api::connect(path).await?))
}

/// Waits for the answer of a call at most `timeout`.
///
/// # Errors
/// What the daemon says, or that it says nothing.
pub(crate) async fn answer<T>(
    timeout: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(sentence(&status)),
        Err(_) => Err(anyhow!("weftd did not answer within {} s", timeout.as_secs())),
    }
}

/// The daemon's state.
///
/// # Errors
/// As [`answer`].
pub(crate) async fn status(client: &mut Client, environment: &str) -> Result<StatusResponse> {
    let request = StatusRequest { environment: environment.to_owned() };
    answer(ANSWER_TIMEOUT, client.status(request)).await
}

/// What a refusal means to a person. The daemon's own errors are sentences already.
pub(crate) fn sentence(status: &Status) -> anyhow::Error {
    let message = printable(status.message());
    match status.code() {
        Code::Unimplemented => {
            anyhow!("weftd is of another version than this command and does not know the request")
        }
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal
            if std::error::Error::source(status).is_some() =>
        {
            anyhow!("the connection broke before weftd answered; see whether it still runs")
        }
        code if message.is_empty() => anyhow!("weftd refused: {}", code.description()),
        _ => anyhow!("{message}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refused(status: &Status) -> String {
        sentence(status).to_string()
    }

    #[test]
    fn the_daemon_s_words_are_kept() {
        let status = Status::unavailable("weftd is stopping");
        assert_eq!(refused(&status), "weftd is stopping");
        assert_eq!(refused(&Status::not_found("no\x1b[2J")), "no\u{fffd}[2J");
        assert!(refused(&Status::not_found("")).starts_with("weftd refused: "));
    }

    #[test]
    fn what_the_transport_says_is_put_into_words() {
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert!(refused(&broken).starts_with("the connection broke"));
        assert!(refused(&Status::unimplemented("")).contains("another version"));
    }

    #[tokio::test]
    async fn waiting_ends() {
        let never = std::future::pending::<Result<Response<()>, Status>>();
        let error = answer(Duration::from_millis(1), never).await.unwrap_err();
        assert_eq!(error.to_string(), "weftd did not answer within 0 s");
    }
}
