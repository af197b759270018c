//! Connections of the local API, no more than [`CONNECTIONS_MAX`] at a time: the others wait in the
//! kernel's queue, so that callers who forget to hang up do not use up the daemon's descriptors.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Most connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// Pause after the kernel could not give a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of `listener`, each one once there is room for it.
pub(super) fn limited(
    listener: impl Stream<Item = io::Result<UnixStream>>,
) -> impl Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    listener.then(move |accepted| {
        let room = Arc::clone(&room);
        async move {
            match accepted {
                Ok(stream) => {
                    let place = room.acquire_owned().await.map_err(io::Error::other)?;
                    Ok(Connection { stream, _place: place })
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections of the local API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    Err(error)
                }
            }
        }
    })
}

/// A connection that gives its place back when it ends.
pub(super) struct Connection {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_connection_waits_for_another_to_end() {
        let pairs: Vec<_> = (0..=CONNECTIONS_MAX).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, _theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let mut incoming =
            std::pin::pin!(limited(tokio_stream::iter(ours.into_iter().map(io::Result::Ok))));
        let mut taken = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            taken.push(incoming.next().await.unwrap().unwrap());
        }
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, incoming.next()).await.is_err());
        drop(taken.pop());
        assert!(incoming.next().await.unwrap().is_ok());
    }
}
