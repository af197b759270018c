//! Closing a connection so that the peer learns why.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// Longest wait for a refused peer to close its side.
const LINGER: Duration = Duration::from_millis(500);
/// Most bytes that a refused peer may still send.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Ends a connection on which an alert was sent. Closing a TCP socket with unread bytes resets the
/// connection, which can destroy the alert on its way; so this says that nothing more comes, and
/// reads what the peer had sent already.
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, deadline: Instant) {
    let until = deadline.min(Instant::now() + LINGER);
    let close = async {
        let mut rest = LINGER_BYTES_MAX;
        let mut buffer = [0; 1024];
        if stream.shutdown().await.is_err() {
            return;
        }
        while rest > 0 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => rest = rest.saturating_sub(n),
            }
        }
    };
    // However it ends, the connection is dropped.
    let _ = timeout_at(until, close).await;
}
