//! Moving filler over a connection, and round trips over another.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::wire::{Counted, ECHO_LEN};

/// Bytes of one write or read.
const BLOCK: usize = 128 << 10;
/// A paced sender looks at the clock this often; what is due then goes in one write.
const PACE: Duration = Duration::from_millis(1);

/// Sends for `time`, at most `rate` bits per second (`None`: as fast as possible). Gives the bytes
/// that were sent.
pub(super) fn send(stream: &mut TcpStream, time: Duration, rate: Option<f64>) -> io::Result<u64> {
    let block = vec![0x5a; BLOCK];
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(sent);
        }
        let due = rate.map_or(u64::MAX, |rate| whole(elapsed.as_secs_f64() * rate / 8.0));
        let length = usize::try_from(due.saturating_sub(sent)).unwrap_or(BLOCK).min(BLOCK);
        if length == 0 {
            std::thread::sleep(PACE);
        } else {
            sent += stream.write(&block[..length])? as u64;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as wanted")]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Receives until the other side ends.
pub(super) fn receive(stream: &mut TcpStream) -> io::Result<Counted> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    let mut first = None;
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(count) => {
                first.get_or_insert_with(Instant::now);
                bytes += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let seconds = first.map_or(0.0, |first: Instant| first.elapsed().as_secs_f64());
    Ok(Counted { bytes, seconds })
}

/// Sends back every message until the other side closes.
pub(super) fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut message = [0; ECHO_LEN];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Round trips of one message every `interval` for `time`.
pub(super) fn round_trips(
    stream: &mut TcpStream,
    time: Duration,
    interval: Duration,
) -> io::Result<Vec<Duration>> {
    let mut message = [0; ECHO_LEN];
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        let took = sent.elapsed();
        times.push(took);
        std::thread::sleep(interval.saturating_sub(took));
    }
    Ok(times)
}
