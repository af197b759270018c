//! The line to the control plane, which says on a terminal that it waits.

use std::{
    future::Future,
    io::{self, IsTerminal as _, Write},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    transport::{Channel, Error},
};

/// What takes longer than this says so, and again each time.
const PERIOD: Duration = Duration::from_secs(1);
/// Goes back to the beginning of a terminal's line and clears it (ECMA-48: CR, EL).
const CLEAR: &str = "\r\x1b[K";

/// A connection.
#[derive(Debug, Clone)]
pub(super) struct Line(Channel);

impl Line {
    pub(super) fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = BoxFuture<Self::Response, Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            if io::stderr().is_terminal() {
                waited(answer, PERIOD, &mut io::stderr()).await
            } else {
                answer.await
            }
        })
    }
}

/// Waits for `work`, and says for how long already in one line of `out`, which is clear again afterwards.
async fn waited<F: Future>(work: F, period: Duration, out: &mut impl Write) -> F::Output {
    let (mut work, begun) = (pin!(work), Instant::now());
    let mut is_said = false;
    loop {
        tokio::select! {
            done = &mut work => {
                if is_said {
                    say(out, CLEAR);
                }
                return done;
            }
            () = sleep(period) => {
                let seconds = begun.elapsed().as_secs();
                say(out, &format!("{CLEAR}weft: the control plane works on it, {seconds} s"));
                is_said = true;
            }
        }
    }
}

/// Nothing depends on whether anybody sees it.
fn say(out: &mut impl Write, text: &str) {
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said_in(work: Duration) -> String {
        let mut out = Vec::new();
        let done = waited(
            async {
                sleep(work).await;
                7
            },
            Duration::from_millis(50),
            &mut out,
        );
        assert_eq!(done.await, 7);
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn what_takes_long_says_so_and_leaves_nothing_behind() {
        assert_eq!(said_in(Duration::ZERO).await, "");
        let said = said_in(Duration::from_millis(500)).await;
        assert!(said.matches("works on it, 0 s").count() > 1, "{said:?}");
        assert!(said.ends_with(CLEAR), "{said:?}");
    }
}
