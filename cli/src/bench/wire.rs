//! What client and server say to each other: one line of JSON first, then filler or an answer.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of this protocol.
pub(super) const VERSION: u32 = 1;
/// Longest line, bytes.
const LINE_MAX: u64 = 1_024;
/// Bytes of one echoed message.
pub(super) const ECHO_LEN: usize = 64;
/// How long either side waits for the other before it gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The first line on a connection, from the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// [`VERSION`].
    pub(super) version: u32,
    /// What the server is to do.
    pub(super) what: What,
}

/// What the server is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Count what comes until the client ends its direction, then tell [`Counted`].
    Receive,
    /// Send as fast as possible for so many milliseconds, then close.
    Send { milliseconds: u64 },
    /// Send back messages of [`ECHO_LEN`] bytes until the client closes.
    Echo,
    /// Tell [`Usage`].
    Usage,
}

/// Answer to [`What::Receive`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Bytes received.
    pub(super) bytes: u64,
    /// Seconds from the first byte to the last.
    pub(super) seconds: f64,
}

/// CPU time so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// Seconds of CPU time that this side's daemon has used, or why that is not known.
    pub(super) daemon_seconds: Result<f64, String>,
    /// Seconds of CPU time that all programs and the kernel of this machine have used.
    pub(super) machine_seconds: f64,
}

/// A connection whose first line is still to come.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Sends one line.
pub(super) fn put(stream: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).context("the other side stopped listening")
}

/// Receives one line and not a byte more.
pub(super) fn get<T: DeserializeOwned>(stream: impl Read) -> Result<T> {
    let mut line = Vec::new();
    // One byte at a time: what follows the line is not ours.
    let mut limited = BufReader::with_capacity(1, stream.take(LINE_MAX));
    limited.read_until(b'\n', &mut line).context("no answer")?;
    match line.pop() {
        Some(b'\n') => serde_json::from_slice(&line).context("not a line of weft bench"),
        None => bail!("the other side closed the connection"),
        Some(_) => bail!("not a line of weft bench: no end within {LINE_MAX} bytes"),
    }
}

impl Request {
    /// Asks for this.
    pub(super) fn new(what: What) -> Self {
        Self { version: VERSION, what }
    }

    /// Refuses what this version does not know.
    pub(super) fn check(self) -> Result<What> {
        let version = self.version;
        ensure!(version == VERSION, "version {version} of weft bench: expected {VERSION}");
        Ok(self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_leave_the_rest() {
        let mut bytes = Vec::new();
        let request = Request::new(What::Send { milliseconds: 5 });
        put(&mut bytes, &request).unwrap();
        bytes.extend(b"rest");
        let mut rest = bytes.as_slice();
        assert_eq!(get::<Request>(&mut rest).unwrap(), request);
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn strangers_are_refused() {
        let refused = |bytes: &[u8]| format!("{:#}", get::<Request>(bytes).unwrap_err());
        assert!(refused(b"").contains("closed"));
        assert!(refused(b"GET / HTTP/1.1\r\n").contains("not a line"));
        assert!(refused(&[b'x'; 5_000]).contains("no end"));
        let other = Request { version: 2, what: What::Echo };
        assert!(other.check().unwrap_err().to_string().contains("expected 1"));
    }

    #[test]
    fn unknown_cpu_time_travels_with_its_reason() {
        let usage = Usage { daemon_seconds: Err("no".into()), machine_seconds: 1.5 };
        let mut bytes = Vec::new();
        put(&mut bytes, &usage).unwrap();
        assert_eq!(get::<Usage>(bytes.as_slice()).unwrap(), usage);
    }
}
