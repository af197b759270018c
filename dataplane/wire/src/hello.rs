//! Frames that two hosts exchange inside TLS before their first sealed datagram. Pure: bytes in,
//! values out.
//!
//! ```text
//!  client                          server
//!    │ Hello ─────────────────────▶ │   lanes, limits, instance
//!    │ ◀───────────────────── Hello │
//!    │ Indices ───────────────────▶ │   one receiver index per lane of the other side
//!    │ ◀─────────────────── Indices │
//!    │ ◀───────────────────── Ready │   only after the client's Indices
//!
//!    │ Stream ────────────────────▶ │   instead of all that: the connection stays, for datagrams
//!    │ ◀───────────────────── Ready │   the last byte of TLS
//!
//!  frame   0        1         2               4
//!          ┌────────┬─────────┬───────────────┬──────────────
//!          │ type   │ version │ body length   │ body
//!          │ u8     │ u8 = 1  │ u16 BE ≤ 1024 │
//!          └────────┴─────────┴───────────────┴──────────────
//!  Hello   1: lanes u8 (1..=64) │ flags u8 │ datagram_max u16 BE (≥ 1232) │ instance 16 B │ generation u32 BE
//!  Indices 2: count u8 (1..=64) │ count × index u32 BE
//!  Ready   3: empty
//!  Stream  4: number u8 (0..=63)
//! ```
//!
//! Everything that is not exactly of this form is an error: unknown types and versions, lengths
//! that do not fit, values out of range, an index twice. Flag bits without a meaning are sent as 0
//! and ignored when read, so that a later version can use them.

use weft_types::{LANES_MAX, ReceiverIndex};

/// Version of these frames and of the exporter context.
pub const VERSION: u8 = 1;
/// Bytes before a frame's body.
pub const HEADER_LEN: usize = 4;
/// Largest body that a frame may announce, in bytes. The largest in use is 257 (64 indices).
pub const BODY_LEN_MAX: usize = 1024;
/// Smallest permitted [`Hello::datagram_max`] in bytes: what IPv6's minimum MTU of 1280 leaves
/// after 40 bytes of IPv6 and 8 bytes of UDP header.
pub const DATAGRAM_MAX_MIN: u16 = 1232;

const HELLO_LEN: usize = 24;
const INDEX_LEN: usize = 4;
const FLAG_USO: u8 = 1 << 0;
const FLAG_NO_AES: u8 = 1 << 1;

const TYPE_HELLO: u8 = 1;
const TYPE_INDICES: u8 = 2;
const TYPE_READY: u8 = 3;
const TYPE_STREAM: u8 = 4;

const INDICES_LEN_MAX: usize = 1 + LANES_MAX as usize * INDEX_LEN;
const _: () = assert!(INDICES_LEN_MAX <= BODY_LEN_MAX);

/// What one side tells of itself first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Lanes on which it sends, 1 to [`LANES_MAX`]; the other side gives it as many indices.
    pub lanes: u8,
    /// Whether it can write UDP superpackets (USO) to its interfaces.
    pub uso: bool,
    /// Largest UDP payload that it accepts, in bytes, at least [`DATAGRAM_MAX_MIN`].
    pub datagram_max: u16,
    /// Random per process and peer. Another value than before means that the peer restarted and
    /// that sessions made before are dead.
    pub instance: [u8; 16],
    /// Counts the handshakes of two hosts: the client sends one more than the greatest it knows,
    /// and that is the session's. What the server sends means nothing.
    pub generation: u32,
    /// Whether its processor has no AES instructions; ChaCha20-Poly1305 is used if either says so.
    pub no_aes: bool,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First frame of each side.
    Hello(Hello),
    /// Second frame of each side: the sender's receiver indices, by lane of the other side.
    Indices(Vec<ReceiverIndex>),
    /// Last frame of the server: it has verified the client, and knows its indices if it asked for a
    /// session.
    Ready,
    /// Only frame of a client that asks for no session: the connection is to carry datagrams of the two
    /// hosts in this environment (see [`crate::record`]), those of lane `number` of either.
    Stream(u8),
}

/// Why bytes are not a frame, or a frame cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No such type.
    #[error("frame type {0} is unknown; expected 1 to 4")]
    Type(u8),
    /// Another version.
    #[error("frame version {0} is unknown; expected {VERSION}")]
    Version(u8),
    /// The length does not fit the type.
    #[error("{frame} frame has a body of {found} bytes; expected {expected}")]
    Length {
        /// Name of the type.
        frame: &'static str,
        /// Length announced.
        found: u16,
        /// Length or lengths that fit.
        expected: &'static str,
    },
    /// A number of lanes out of range.
    #[error("number of lanes is {0}; expected 1 to {LANES_MAX}")]
    Lanes(u8),
    /// Too small a datagram limit.
    #[error("datagram limit is {0} bytes; expected at least {DATAGRAM_MAX_MIN}")]
    DatagramMax(u16),
    /// The count does not agree with the body's length.
    #[error("{count} indices are announced in a body of {found} bytes")]
    Count {
        /// Announced count.
        count: u8,
        /// Body length.
        found: u16,
    },
    /// An index whose top byte is no worker.
    #[error("index {0:?} names no worker; expected a top byte of 0 to 63")]
    Worker(ReceiverIndex),
    /// A stream's number out of range.
    #[error("number of a stream is {0}; expected 0 to 63")]
    Stream(u8),
    /// An index twice.
    #[error("index {0:?} occurs twice")]
    Repeated(ReceiverIndex),
}

impl Frame {
    /// Name of its type, for errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Indices(_) => "indices",
            Self::Ready => "ready",
            Self::Stream(_) => "stream",
        }
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// The same that [`Frame::decode`] would have with the result; `out` is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.check()?;
        match self {
            Self::Hello(hello) => {
                put_header(out, TYPE_HELLO, HELLO_LEN);
                out.push(hello.lanes);
                out.push(flag(hello.uso, FLAG_USO) | flag(hello.no_aes, FLAG_NO_AES));
                out.extend_from_slice(&hello.datagram_max.to_be_bytes());
                out.extend_from_slice(&hello.instance);
                out.extend_from_slice(&hello.generation.to_be_bytes());
            }
            Self::Indices(indices) => {
                put_header(out, TYPE_INDICES, 1 + indices.len() * INDEX_LEN);
                #[expect(clippy::cast_possible_truncation, reason = "at most 64, checked above")]
                out.push(indices.len() as u8);
                for index in indices {
                    out.extend_from_slice(&index.0.to_be_bytes());
                }
            }
            Self::Ready => put_header(out, TYPE_READY, 0),
            Self::Stream(number) => {
                put_header(out, TYPE_STREAM, 1);
                out.push(*number);
            }
        }
        Ok(())
    }

    /// Reads the frame at the start of `bytes` and says how many bytes it took; `None` when more
    /// bytes are needed. What cannot become a frame is refused as soon as it is seen, so at most
    /// [`HEADER_LEN`] + [`BODY_LEN_MAX`] bytes are ever waited for.
    ///
    /// # Errors
    /// [`FrameError`] when no bytes that could follow would make it a frame.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&[kind, version, high, low], rest)) = bytes.split_first_chunk::<HEADER_LEN>()
        else {
            return Ok(None);
        };
        let length = u16::from_be_bytes([high, low]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        check_length(kind, length)?;
        let Some(body) = rest.get(..usize::from(length)) else {
            return Ok(None);
        };
        let frame = match kind {
            TYPE_HELLO => Self::Hello(decode_hello(body, length)?),
            TYPE_INDICES => Self::Indices(decode_indices(body, length)?),
            TYPE_STREAM => match *body {
                [number] => Self::Stream(number),
                _ => {
                    return Err(FrameError::Length {
                        frame: "stream",
                        found: length,
                        expected: "1",
                    });
                }
            },
            _ => Self::Ready,
        };
        frame.check()?;
        Ok(Some((frame, HEADER_LEN + usize::from(length))))
    }

    /// The rules about values, the same for both directions.
    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Hello(hello) => {
                if !(1..=LANES_MAX).contains(&hello.lanes) {
                    return Err(FrameError::Lanes(hello.lanes));
                }
                if hello.datagram_max < DATAGRAM_MAX_MIN {
                    return Err(FrameError::DatagramMax(hello.datagram_max));
                }
                Ok(())
            }
            Self::Indices(indices) => check_indices(indices),
            Self::Ready => Ok(()),
            Self::Stream(number) if *number >= LANES_MAX => Err(FrameError::Stream(*number)),
            Self::Stream(_) => Ok(()),
        }
    }
}

fn check_indices(indices: &[ReceiverIndex]) -> Result<(), FrameError> {
    let count = u8::try_from(indices.len()).unwrap_or(u8::MAX);
    if !(1..=LANES_MAX).contains(&count) {
        return Err(FrameError::Lanes(count));
    }
    // At most 64 × 63 / 2 comparisons.
    for (position, index) in indices.iter().enumerate() {
        if index.worker().is_err() {
            return Err(FrameError::Worker(*index));
        }
        if indices[..position].contains(index) {
            return Err(FrameError::Repeated(*index));
        }
    }
    Ok(())
}

fn check_length(kind: u8, length: u16) -> Result<(), FrameError> {
    let body = usize::from(length);
    let (frame, fits, expected) = match kind {
        TYPE_HELLO => ("hello", body == HELLO_LEN, "24"),
        TYPE_INDICES => {
            let whole = body % INDEX_LEN == 1;
            let fits = whole && (1 + INDEX_LEN..=INDICES_LEN_MAX).contains(&body);
            ("indices", fits, "1 + 4 × 1 to 64")
        }
        TYPE_READY => ("ready", body == 0, "0"),
        TYPE_STREAM => ("stream", body == 1, "1"),
        _ => return Err(FrameError::Type(kind)),
    };
    if fits {
        return Ok(());
    }
    Err(FrameError::Length { frame, found: length, expected })
}

fn decode_hello(body: &[u8], length: u16) -> Result<Hello, FrameError> {
    let wrong = FrameError::Length { frame: "hello", found: length, expected: "24" };
    let (&[lanes, flags, high, low], rest) = body.split_first_chunk::<4>().ok_or(wrong)?;
    let (instance, generation) = rest.split_first_chunk::<16>().ok_or(wrong)?;
    Ok(Hello {
        lanes,
        uso: flags & FLAG_USO != 0,
        datagram_max: u16::from_be_bytes([high, low]),
        instance: *instance,
        generation: u32::from_be_bytes(generation.try_into().map_err(|_| wrong)?),
        no_aes: flags & FLAG_NO_AES != 0,
    })
}

fn decode_indices(body: &[u8], length: u16) -> Result<Vec<ReceiverIndex>, FrameError> {
    let (&count, rest) = body.split_first().ok_or(FrameError::Lanes(0))?;
    let (chunks, remainder) = rest.as_chunks::<INDEX_LEN>();
    if chunks.len() != usize::from(count) || !remainder.is_empty() {
        return Err(FrameError::Count { count, found: length });
    }
    Ok(chunks.iter().map(|chunk| ReceiverIndex(u32::from_be_bytes(*chunk))).collect())
}

fn flag(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn put_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    debug_assert!(length <= BODY_LEN_MAX);
    #[expect(clippy::cast_possible_truncation, reason = "at most 1024")]
    let [high, low] = (length as u16).to_be_bytes();
    out.extend_from_slice(&[kind, VERSION, high, low]);
}

#[cfg(test)]
mod tests;
