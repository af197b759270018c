//! A proper handshake that breaks off in the middle.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use rustls::{ClientConnection, Stream};

use super::session::exchange;
use super::{SILENCE_LIMIT, tls};
use crate::certificates::Identity;
use crate::namespace::Namespace;

/// A connection on which so many bytes more can be sent.
struct Cut {
    tcp: TcpStream,
    sent: usize,
    max: usize,
}

impl Read for Cut {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (self.max - self.sent).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.tcp.write(&bytes[..room])?;
        self.sent += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// Begins a whole handshake as a client with this certificate, and says nothing more after `max` bytes. Gives
/// the connection, as open as it is, how many bytes were sent, and whether it was done before.
///
/// # Errors
/// When no connection can be made.
pub fn cut(
    ns: &Namespace,
    to: SocketAddr,
    server_name: &str,
    identity: &Identity,
    max: usize,
) -> Result<(TcpStream, usize, bool)> {
    let tcp = ns.enter(|| Ok(TcpStream::connect_timeout(&to, SILENCE_LIMIT)?))?;
    tcp.set_read_timeout(Some(SILENCE_LIMIT))?;
    tcp.set_nodelay(true)?;
    let name = server_name.to_owned().try_into().context("server name")?;
    let mut connection = ClientConnection::new(tls::client(Some(identity))?, name)?;
    let mut cut = Cut { tcp, sent: 0, max };
    let done = exchange(&mut Stream::new(&mut connection, &mut cut)).is_ok();
    Ok((cut.tcp, cut.sent, done))
}
