//! The file: what is in it, checked from its first to its last byte. Sans-IO.
//!
//! ```text
//!   "weft-store-export 1\n"
//!   per entry:  key length u32 │ value length u32 │ key │ value      lengths big-endian, keys ascending
//!   end:        0 u32 │ number of entries u64
//!   SHA-256 of everything before it
//! ```

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use bytes::Bytes;

use crate::{key::Key, limits::VALUE_LEN_MAX};

const NAME: &[u8] = b"weft-store-export ";
const VERSION: u32 = 1;
/// Digits of a version at most.
const VERSION_LEN_MAX: usize = 9;

/// Why a file is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It begins like another kind of file.
    #[error("it is not an export of a store")]
    NotAnExport,
    /// A newer version of the product wrote it.
    #[error("it has version {0}; this version knows up to {VERSION}")]
    NewerVersion(u32),
    /// It was cut off or changed.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Writes an export piece by piece.
pub(super) struct Encoder {
    digest: Context,
    count: u64,
}

impl Encoder {
    /// With the first bytes of the file.
    pub(super) fn begin() -> (Self, Vec<u8>) {
        let mut digest = Context::new(&SHA256);
        let head = [NAME, VERSION.to_string().as_bytes(), b"\n"].concat();
        digest.update(&head);
        (Self { digest, count: 0 }, head)
    }

    /// The bytes of the next entry.
    pub(super) fn entry(&mut self, key: &Key, value: &[u8]) -> Vec<u8> {
        let key = key.as_str().as_bytes();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let bytes = [&len(key)[..], &len(value)[..], key, value].concat();
        self.digest.update(&bytes);
        self.count += 1;
        bytes
    }

    /// The last bytes of the file.
    pub(super) fn end(mut self) -> Vec<u8> {
        let mut bytes = [&0_u32.to_be_bytes()[..], &self.count.to_be_bytes()[..]].concat();
        self.digest.update(&bytes);
        bytes.extend_from_slice(self.digest.finish().as_ref());
        bytes
    }
}

/// A body with the checksum that belongs to it.
#[must_use]
pub fn seal(mut body: Vec<u8>) -> Bytes {
    let sum = digest(&SHA256, &body);
    body.extend_from_slice(sum.as_ref());
    body.into()
}

/// An export of these entries, which are in the order of their keys.
#[must_use]
pub fn encode(entries: &[(Key, Bytes)]) -> Bytes {
    let (mut encoder, mut file) = Encoder::begin();
    for (key, value) in entries {
        file.extend(encoder.entry(key, value));
    }
    file.extend(encoder.end());
    file.into()
}

/// What an export has, when all of it is as it was written.
///
/// # Errors
/// [`FormatError`] says what it is instead.
pub fn decode(file: &Bytes) -> Result<Vec<(Key, Bytes)>, FormatError> {
    let damaged = |what: &str| FormatError::Damaged(what.to_owned());
    let head_len = check_head(file)?;
    let Some(end) = file.len().checked_sub(SHA256_OUTPUT_LEN).filter(|end| *end >= head_len) else {
        return Err(damaged("it is cut off"));
    };
    let mut rest = file.slice(head_len..end);
    if digest(&SHA256, &file[..end]).as_ref() != &file[end..] {
        return Err(damaged("its checksum is another one, or it is cut off"));
    }
    let mut entries: Vec<(Key, Bytes)> = Vec::new();
    loop {
        let key_len = take_u32(&mut rest).ok_or_else(|| damaged("it has no end"))?;
        if key_len == 0 {
            break;
        }
        let value_len = take_u32(&mut rest).ok_or_else(|| damaged("an entry is cut off"))?;
        let mut part = |len: u32| {
            let len = usize::try_from(len).ok().filter(|len| *len <= rest.len())?;
            Some(rest.split_to(len))
        };
        let (key, value) = part(key_len)
            .and_then(|key| Some((key, part(value_len)?)))
            .ok_or_else(|| damaged("an entry is cut off"))?;
        if value.len() > VALUE_LEN_MAX {
            return Err(FormatError::Damaged(format!("a value of {} bytes", value.len())));
        }
        let text = std::str::from_utf8(&key).map_err(|e| FormatError::Damaged(e.to_string()))?;
        let key = Key::new(text).map_err(|e| FormatError::Damaged(format!("a key {e}")))?;
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err(FormatError::Damaged(format!("{key} is out of order")));
        }
        entries.push((key, value));
    }
    if rest.as_ref() != (entries.len() as u64).to_be_bytes() {
        return Err(damaged("it has another number of entries than it says"));
    }
    Ok(entries)
}

/// Says how long the head is.
fn check_head(file: &[u8]) -> Result<usize, FormatError> {
    let rest = file.strip_prefix(NAME).ok_or(FormatError::NotAnExport)?;
    let len = rest.iter().take(VERSION_LEN_MAX + 1).position(|byte| *byte == b'\n');
    let text = len.and_then(|len| std::str::from_utf8(&rest[..len]).ok());
    let version = text.and_then(|text| text.parse::<u32>().ok());
    // Written in one way only: no sign, no zeros before it.
    match version.filter(|version| text.is_some_and(|text| version.to_string() == text)) {
        Some(VERSION) => Ok(NAME.len() + len.unwrap_or_default() + 1),
        Some(newer) if newer > VERSION => Err(FormatError::NewerVersion(newer)),
        _ => Err(FormatError::NotAnExport),
    }
}

fn take_u32(rest: &mut Bytes) -> Option<u32> {
    let (number, _) = rest.split_first_chunk::<4>()?;
    let number = u32::from_be_bytes(*number);
    drop(rest.split_to(4));
    Some(number)
}

#[cfg(test)]
mod tests;
