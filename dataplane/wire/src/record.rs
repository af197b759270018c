//! Datagrams on a stream: how they travel over TCP where UDP does not get through. Pure: bytes in,
//! slices out.
//!
//! ```text
//!  record  0      1             3               5
//!          ┌──────┬─────────────┬───────────────┬─────────────────────────────
//!          │ 0x17 │ 0x03   0x03 │ length u16 BE │ datagram ‖ datagram ‖ …
//!          └──────┴─────────────┴───────────────┴─────────────────────────────
//! ```
//! That is the header of a TLS record of application data (RFC 8446 section 5.1), so that whoever lets
//! nothing but TLS through sees nothing else: the stream began with a TLS handshake. What is behind it is
//! sealed with keys of its session, each datagram with the length that its header says. A datagram is never
//! in two records.

use crate::{DATAGRAM_MIN, HEADER_LEN};

/// Bytes before a record's datagrams.
pub const RECORD_HEADER_LEN: usize = 5;
/// Most bytes behind a record's header: what TLS allows for a ciphertext (RFC 8446 section 5.2).
pub const RECORD_BODY_MAX: usize = 16_384 + 256;

const START: [u8; 3] = [0x17, 0x03, 0x03];

/// Why bytes are no record. Nothing that follows on the stream can be understood then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another type or version.
    #[error("not a record of application data")]
    Start,
    /// Empty, or longer than [`RECORD_BODY_MAX`].
    #[error("a record has {0} bytes; expected {DATAGRAM_MIN} to {RECORD_BODY_MAX}")]
    Length(u16),
    /// A datagram that says another length than it can have.
    #[error("a datagram says that it has {0} bytes, which its record has not")]
    Datagram(u16),
}

/// The first record of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its datagrams.
    pub body: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

/// The first datagrams of a record's body: as many of one length as there are, of which the last may be
/// shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams<'a> {
    /// The length, bytes.
    pub segment: usize,
    /// The datagrams.
    pub run: &'a [u8],
    /// What follows them in the body.
    pub rest: &'a [u8],
}

/// Appends datagrams as records. All but the last have `segment` bytes, the last has at most so many.
///
/// # Panics
/// When `segment` is 0 or more than a record takes.
pub fn write_records(segment: usize, datagrams: &[u8], out: &mut Vec<u8>) {
    let most = RECORD_BODY_MAX / segment * segment;
    for body in datagrams.chunks(most) {
        #[expect(clippy::cast_possible_truncation, reason = "at most RECORD_BODY_MAX")]
        let length = (body.len() as u16).to_be_bytes();
        out.extend_from_slice(&START);
        out.extend_from_slice(&length);
        out.extend_from_slice(body);
    }
}

/// The record at the start of `bytes`; `None` while it is not whole.
///
/// # Errors
/// [`RecordError`] when no bytes that could follow would make it a record.
pub fn split_record(bytes: &[u8]) -> Result<Option<Record<'_>>, RecordError> {
    let known = bytes.len().min(START.len());
    if bytes[..known] != START[..known] {
        return Err(RecordError::Start);
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEADER_LEN>() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]);
    if !(DATAGRAM_MIN..=RECORD_BODY_MAX).contains(&usize::from(length)) {
        return Err(RecordError::Length(length));
    }
    let split = rest.split_at_checked(usize::from(length));
    Ok(split.map(|(body, rest)| Record { body, rest }))
}

/// The datagrams at the start of a record's body.
///
/// # Errors
/// [`RecordError::Datagram`] when the first does not fit.
pub fn split_datagrams(body: &[u8]) -> Result<Datagrams<'_>, RecordError> {
    let segment = datagram_len(body)?;
    let mut end = segment;
    while end < body.len() {
        let next = datagram_len(&body[end..])?;
        if next > segment {
            break;
        }
        end += next;
        if next < segment {
            break;
        }
    }
    let (run, rest) = body.split_at(end);
    Ok(Datagrams { segment, run, rest })
}

/// What the datagram at the start says of its length, if that can be true.
fn datagram_len(body: &[u8]) -> Result<usize, RecordError> {
    let length = match body.split_first_chunk::<HEADER_LEN>() {
        Some((&[_, _, high, low, ..], _)) => u16::from_be_bytes([high, low]),
        None => return Err(RecordError::Datagram(0)),
    };
    if (DATAGRAM_MIN..=body.len()).contains(&usize::from(length)) {
        return Ok(length.into());
    }
    Err(RecordError::Datagram(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagram(len: usize) -> Vec<u8> {
        let mut bytes = vec![0xaa; len];
        bytes[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        bytes
    }

    /// All datagrams of all records, and what is left.
    fn read(mut bytes: &[u8]) -> Result<(Vec<usize>, usize), RecordError> {
        let mut lengths = Vec::new();
        while let Some(Record { mut body, rest }) = split_record(bytes)? {
            while !body.is_empty() {
                let Datagrams { segment, run, rest } = split_datagrams(body)?;
                lengths.extend(run.chunks(segment).map(<[u8]>::len));
                body = rest;
            }
            bytes = rest;
        }
        Ok((lengths, bytes.len()))
    }

    #[test]
    fn a_record_has_these_bytes() {
        let mut out = Vec::new();
        write_records(44, &datagram(44), &mut out);
        assert_eq!(out[..RECORD_HEADER_LEN], [0x17, 3, 3, 0, 44]);
        assert_eq!(out.len(), RECORD_HEADER_LEN + 44);
    }

    #[test]
    fn a_datagram_is_never_in_two_records() {
        let mut out = Vec::new();
        write_records(1452, &datagram(1452).repeat(45), &mut out);
        let Record { body, rest } = split_record(&out).unwrap().unwrap();
        assert_eq!(body.len(), 11 * 1452);
        assert!(!rest.is_empty());
        assert_eq!(read(&out), Ok((vec![1452; 45], 0)));
    }

    #[test]
    fn what_is_no_record_is_refused_at_once() {
        for bytes in [&[0x16][..], &[0x17, 3, 1], &[0x17, 2]] {
            assert_eq!(split_record(bytes), Err(RecordError::Start));
        }
        for length in [0, 43, 16_641, u16::MAX] {
            let [high, low] = length.to_be_bytes();
            assert_eq!(split_record(&[0x17, 3, 3, high, low]), Err(RecordError::Length(length)));
        }
        assert_eq!(split_record(&[0x17, 3, 3, 0x41, 0]), Ok(None));
        assert_eq!(split_record(&[]), Ok(None));
    }

    #[test]
    fn a_datagram_that_lies_about_its_length_is_refused() {
        for (said, len) in [(45_u16, 44), (43, 44), (0, 44), (1000, 200)] {
            let mut bytes = datagram(len);
            bytes[2..4].copy_from_slice(&said.to_be_bytes());
            assert_eq!(split_datagrams(&bytes), Err(RecordError::Datagram(said)));
        }
        let mut cut = datagram(60);
        cut.extend_from_slice(&[0; 15]);
        assert_eq!(split_datagrams(&cut), Err(RecordError::Datagram(0)));
    }

    proptest! {
        #[test]
        fn round_trip(lengths in prop::collection::vec(44_usize..9217, 1..40), cut in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            for len in &lengths {
                write_records(*len, &datagram(*len), &mut out);
            }
            prop_assert_eq!(read(&out), Ok((lengths.clone(), 0)));
            // What is not whole waits.
            let (some, _) = read(&out[..cut.index(out.len())]).unwrap();
            prop_assert_eq!(&some[..], &lengths[..some.len()]);
        }

        #[test]
        fn runs_of_any_lengths_come_apart(lengths in prop::collection::vec(44_usize..400, 1..40)) {
            let body: Vec<u8> = lengths.iter().flat_map(|len| datagram(*len)).collect();
            let mut out = vec![0x17, 3, 3];
            out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            out.extend(body);
            prop_assert_eq!(read(&out), Ok((lengths, 0)));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut behind = vec![0x17, 3, 3, 0, 100];
            behind.extend(bytes);
            let _ = read(&behind);
        }
    }
}
