//! Requests and responses over one TCP connection: 64 bytes there, 64 bytes back, the next one as
//! soon as the answer is there, as a database or a cache is used.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_tests::Namespace;
use socket2::SockRef;

/// Bytes of a request, and of a response.
pub const SIZE: usize = 64;
/// How long a connection or an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends requests for `time` and gives how long each answer took, microseconds.
///
/// # Errors
/// When there is no connection, or an answer takes more than 10 seconds.
pub fn run(from: &Namespace, to: (&Namespace, IpAddr), time: Duration) -> Result<Vec<f64>> {
    let (server, address) = to;
    let listener = server.enter(|| Ok(TcpListener::bind(SocketAddr::new(address, 0))?))?;
    let address = listener.local_addr()?;
    let client = from.enter(|| Ok(TcpStream::connect_timeout(&address, LIMIT)?));
    exchange(&listener, client.with_context(|| format!("connect to {address}"))?, time)
}

fn exchange(listener: &TcpListener, client: TcpStream, time: Duration) -> Result<Vec<f64>> {
    // This is the limit of `accept`, too.
    SockRef::from(listener).set_read_timeout(Some(LIMIT))?;
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| answer(listener));
        let asked = ask(client, time);
        let answered = answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let times = asked.context("requests")?;
        answered.context("responses")?;
        Ok(times)
    })
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream.set_write_timeout(Some(LIMIT))?)
}

/// Takes the connection, whose end is the end of the measurement.
fn ask(mut stream: TcpStream, time: Duration) -> Result<Vec<f64>> {
    prepare(&stream)?;
    let mut times = Vec::new();
    let mut bytes = [0x5a; SIZE];
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

fn answer(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    prepare(&stream)?;
    let mut bytes = [0; SIZE];
    loop {
        match stream.read_exact(&mut bytes) {
            Ok(()) => stream.write_all(&bytes)?,
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let times = exchange(&listener, client, Duration::from_millis(50)).unwrap();
        assert!(!times.is_empty());
        assert!(times.iter().all(|time| *time > 0.0));
    }
}
