//! For tests only: learn a handshake's exporter secret, to look for it in memory afterwards.
//!
//! Built for this crate's own tests and under the feature `test-hooks`, which refuses to compile
//! without debug assertions, so that no release build can have it. A daemon under test calls
//! [`set_key_log`] before its first handshake; what it is given is the *complement* of each
//! secret, so that the log itself is not found by a search for the secret:
//!
//! ```text
//!  set_key_log(|label, complement| append_to_a_file(label, hex(complement)))
//!  … handshake …
//!  occurrences_in_process(pid, &secret) == 0
//! ```

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

use rustls::{KeyLog, NoKeyLog};

#[cfg(all(feature = "test-hooks", not(debug_assertions)))]
compile_error!("the feature test-hooks logs TLS secrets and is not for release builds");

/// Label of the secret from which the exporter derives everything.
pub const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

type Sink = Box<dyn Fn(&str, &[u8]) + Send + Sync>;

static SINK: OnceLock<Arc<ComplementLog>> = OnceLock::new();

struct ComplementLog(Sink);

/// Sends the complement of every later handshake's secrets, with the label that `SSLKEYLOGFILE`
/// gives them, to `sink`. The first call in a process wins.
pub fn set_key_log(sink: impl Fn(&str, &[u8]) + Send + Sync + 'static) {
    let _ = SINK.set(Arc::new(ComplementLog(Box::new(sink))));
}

pub(crate) fn key_log() -> Arc<dyn KeyLog> {
    match SINK.get() {
        Some(log) => Arc::clone(log) as Arc<dyn KeyLog>,
        None => Arc::new(NoKeyLog),
    }
}

impl KeyLog for ComplementLog {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let complement: Vec<u8> = secret.iter().map(|byte| !byte).collect();
        (self.0)(label, &complement);
    }
}

impl std::fmt::Debug for ComplementLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ComplementLog")
    }
}

/// Where the secret whose complement is given occurs in the writable memory of a process: address
/// and mapping. The process may be the caller's own; the search's buffer does not count.
///
/// # Errors
/// Those of reading `/proc/PID/maps` and `/proc/PID/mem`, which needs the right to trace.
pub fn occurrences_in_process(pid: u32, complement: &[u8]) -> io::Result<Vec<(u64, String)>> {
    const CHUNK: usize = 1 << 20;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut buffer = vec![0; CHUNK + complement.len() - 1];
    let own = pid == std::process::id();
    let begin = buffer.as_ptr().addr() as u64;
    let buffer_range = begin..begin + buffer.len() as u64;
    let mut found = Vec::new();
    for line in maps.lines() {
        let Some((start, end)) = writable_range(line) else { continue };
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            // Some mappings cannot be read; there is nothing of ours in them.
            let Ok(read @ 1..) = memory.read_at(&mut buffer[..wanted], at) else { break };
            for offset in matches(&buffer[..read], complement) {
                let address = at + offset as u64;
                if !(own && buffer_range.contains(&address)) {
                    found.push((address, line.to_owned()));
                }
            }
            // Chunks overlap by one byte less than a secret, so that each place is seen once.
            at += read.min(CHUNK) as u64;
        }
    }
    buffer.fill(0);
    Ok(found)
}

/// Where the inverse of `complement` is, without ever building it.
fn matches<'a>(memory: &'a [u8], complement: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = complement.first().map_or(0, |byte| !byte);
    let is_inverse = move |window: &[u8]| window.iter().zip(complement).all(|(m, c)| *m == !*c);
    let candidates = memory.iter().enumerate().filter(move |(_, byte)| **byte == first);
    candidates.map(|(offset, _)| offset).filter(move |offset| {
        memory.get(*offset..offset + complement.len()).is_some_and(is_inverse)
    })
}

fn writable_range(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !fields.next()?.starts_with("rw") {
        return None;
    }
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}
