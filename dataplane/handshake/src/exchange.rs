//! The frames inside TLS, the same on both sides except for who says *ready*.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weft_types::ReceiverIndex;
use weft_wire::hello::{BODY_LEN_MAX, Frame, HEADER_LEN, Hello};

use crate::{
    error::{HandshakeError, ProtocolError, Step},
    indices::IndexGuard,
    local::{LocalParams, LocalSide},
};

/// What both sides know after their hellos and indices.
pub(crate) struct Agreed {
    pub(crate) local_indices: IndexGuard,
    pub(crate) peer_indices: Vec<ReceiverIndex>,
    pub(crate) peer_params: Hello,
    pub(crate) local_params: Hello,
}

/// What a client wants of a connection.
pub(crate) enum Wish {
    /// A session; it said this of itself.
    Session(Hello),
    /// To send datagrams of this number's lanes on it.
    Stream(u8),
}

/// Frames on a TLS stream.
pub(crate) struct Frames<'a, T> {
    stream: &'a mut T,
    received: Vec<u8>,
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin> Frames<'a, T> {
    pub(crate) fn new(stream: &'a mut T) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Hellos, then indices, both ways; the client's part.
    pub(crate) async fn agree(&mut self, local: &LocalSide) -> Result<Agreed, HandshakeError> {
        self.send(&Frame::Hello(local.params.hello())).await?;
        let peer_params = match self.receive().await? {
            Frame::Hello(hello) => hello,
            other => return Err(unexpected(&other, "hello")),
        };
        self.exchange_indices(local, peer_params).await
    }

    /// What a client wants.
    pub(crate) async fn receive_wish(&mut self) -> Result<Wish, HandshakeError> {
        match self.receive().await? {
            Frame::Hello(hello) => Ok(Wish::Session(hello)),
            Frame::Stream(number) => Ok(Wish::Stream(number)),
            other => Err(unexpected(&other, "hello or stream")),
        }
    }

    /// The server's part, after the client's hello.
    pub(crate) async fn answer(
        &mut self,
        local: &LocalSide,
        peer_params: Hello,
    ) -> Result<Agreed, HandshakeError> {
        self.send(&Frame::Hello(local.params.hello())).await?;
        self.exchange_indices(local, peer_params).await
    }

    /// Asks that the connection carry datagrams of this number's lanes.
    pub(crate) async fn ask_for_stream(&mut self, number: u8) -> Result<(), HandshakeError> {
        self.send(&Frame::Stream(number)).await?;
        self.receive_ready().await
    }

    async fn exchange_indices(
        &mut self,
        local: &LocalSide,
        peer_params: Hello,
    ) -> Result<Agreed, HandshakeError> {
        let local_indices = IndexGuard::allocate(&local.indices, peer_params.lanes)?;
        self.send(&Frame::Indices(local_indices.to_vec())).await?;
        let peer_indices = match self.receive().await? {
            Frame::Indices(indices) => indices,
            other => return Err(unexpected(&other, "indices")),
        };
        if peer_indices.len() != usize::from(local.params.lanes) {
            return Err(HandshakeError::Protocol(ProtocolError::IndexCount {
                found: peer_indices.len(),
                expected: local.params.lanes,
            }));
        }
        let local_params = local.params.hello();
        Ok(Agreed { local_indices, peer_indices, peer_params, local_params })
    }

    /// The server's last word.
    pub(crate) async fn send_ready(&mut self) -> Result<(), HandshakeError> {
        self.send(&Frame::Ready).await
    }

    /// Waits for the server's last word.
    pub(crate) async fn receive_ready(&mut self) -> Result<(), HandshakeError> {
        match self.receive().await? {
            Frame::Ready => Ok(()),
            other => Err(unexpected(&other, "ready")),
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), HandshakeError> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + BODY_LEN_MAX);
        frame.encode(&mut bytes).map_err(HandshakeError::OwnParams)?;
        let stream = &mut self.stream;
        let sent = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        sent.await.map_err(|e| HandshakeError::from_stream(e, Step::Frames, None))
    }

    async fn receive(&mut self) -> Result<Frame, HandshakeError> {
        loop {
            if let Some((frame, length)) =
                Frame::decode(&self.received).map_err(ProtocolError::from)?
            {
                self.received.drain(..length);
                return Ok(frame);
            }
            // `decode` asks for more only below its own limit, so this buffer has one as well.
            let mut chunk = [0; 512];
            let read = self.stream.read(&mut chunk).await;
            match read.map_err(|e| HandshakeError::from_stream(e, Step::Frames, None))? {
                0 => return Err(HandshakeError::Closed(Step::Frames)),
                n => self.received.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

fn unexpected(found: &Frame, expected: &'static str) -> HandshakeError {
    HandshakeError::Protocol(ProtocolError::Unexpected { found: found.name(), expected })
}

impl LocalParams {
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            lanes: self.lanes,
            uso: self.uso,
            datagram_max: self.datagram_max,
            instance: self.instance,
            generation: self.generation,
            no_aes: self.no_aes,
        }
    }
}
