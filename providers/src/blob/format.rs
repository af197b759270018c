//! How a blob is stored: its content, then what it is compared with when it is read.
//!
//! ```text
//!  ┌─────────┬─────────┬─────┬────────────────────┬──────────────────────────────────────────────┐
//!  │ block 0 │ block 1 │  …  │ digests, 32 B each │ length 8 B ‖ etag 32 B ‖ magic 8 B ‖ sum 8 B │
//!  └─────────┴─────────┴─────┴────────────────────┴──────────────────────────────────────────────┘
//!     1 MiB     1 MiB  shorter                       56 B
//! ```
//!
//! A digest is SHA-256 of the block's number and its bytes; the etag is SHA-256 of all digests and the length; the
//! sum is the first bytes of SHA-256 of what precedes it in the trailer. So any part can be read and compared without
//! reading the rest. This finds damage by accident; who can write to the storage can write digests too, and is kept
//! out by encryption above.

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::ETag;
use crate::error::ProviderError;

/// Bytes of content that are compared at once.
pub const BLOCK_LEN: usize = 1 << 20;
/// Longest blob, bytes. While it is written its digests are held: 2 MiB for the longest.
pub const BLOB_LEN_MAX: u64 = 64 << 30;

pub(super) const DIGEST_LEN: usize = 32;
pub(super) const TRAILER_LEN: usize = 56;
const MAGIC: [u8; 8] = *b"weftblb1";

/// Takes content and says what follows it.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Of the block that is not whole yet.
    block: Vec<u8>,
    digests: Vec<u8>,
    len: u64,
}

impl Writer {
    /// One more piece of the content, which goes to the storage as it is.
    pub(super) fn update(&mut self, mut piece: &[u8]) -> Result<(), ProviderError> {
        self.len += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if self.len > BLOB_LEN_MAX {
            return Err(ProviderError::Invalid(format!(
                "content: longer than expected; expected at most {BLOB_LEN_MAX} bytes"
            )));
        }
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(BLOCK_LEN - self.block.len()));
            self.block.extend_from_slice(now);
            piece = later;
            if self.block.len() == BLOCK_LEN {
                self.end_block();
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let number = u64::try_from(self.digests.len() / DIGEST_LEN).unwrap_or(u64::MAX);
        self.digests.extend_from_slice(&block_digest(number, &self.block));
        self.block.clear();
    }

    /// What follows the content.
    pub(super) fn finish(mut self) -> (Trailer, Vec<u8>) {
        if !self.block.is_empty() {
            self.end_block();
        }
        let mut all = Context::new(&SHA256);
        all.update(&self.digests);
        all.update(&self.len.to_be_bytes());
        let mut etag = [0; DIGEST_LEN];
        etag.copy_from_slice(all.finish().as_ref());
        let trailer = Trailer { len: self.len, etag: ETag(etag) };
        let mut bytes = self.digests;
        bytes.extend_from_slice(&trailer.encode());
        (trailer, bytes)
    }
}

/// What a blob ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) len: u64,
    pub(super) etag: ETag,
}

impl Trailer {
    fn encode(self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[..8].copy_from_slice(&self.len.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.etag.0);
        bytes[40..48].copy_from_slice(&MAGIC);
        let sum = digest(&SHA256, &bytes[..48]);
        bytes[48..].copy_from_slice(&sum.as_ref()[..8]);
        bytes
    }

    /// Reads the last bytes of what is stored, `stored_len` bytes altogether. `None`: they are no trailer of that.
    pub(super) fn decode(tail: &[u8], stored_len: u64) -> Option<Self> {
        let bytes = tail.last_chunk::<TRAILER_LEN>()?;
        let len = u64::from_be_bytes(*bytes.first_chunk()?);
        let trailer = Self { len, etag: ETag(*bytes[8..40].first_chunk()?) };
        let is_whole =
            trailer.encode() == *bytes && len <= BLOB_LEN_MAX && trailer.stored_len() == stored_len;
        is_whole.then_some(trailer)
    }

    fn stored_len(&self) -> u64 {
        self.digests_at(self.blocks()) + TRAILER_LEN as u64
    }

    fn blocks(&self) -> u64 {
        self.len.div_ceil(BLOCK_LEN as u64)
    }

    /// Where the digest of a block is stored.
    pub(super) fn digests_at(&self, block: u64) -> u64 {
        self.len + block * DIGEST_LEN as u64
    }

    /// The blocks that have bytes from `start` to before `end`.
    pub(super) fn blocks_of(start: u64, end: u64) -> std::ops::Range<u64> {
        if start >= end {
            return 0..0;
        }
        start / BLOCK_LEN as u64..end.div_ceil(BLOCK_LEN as u64)
    }

    /// Where a block is stored.
    pub(super) fn block_at(&self, block: u64) -> std::ops::Range<u64> {
        let start = block * BLOCK_LEN as u64;
        start..(start + BLOCK_LEN as u64).min(self.len)
    }
}

/// Whether a block is what was written.
pub(super) fn is_block(number: u64, block: &[u8], expected: &[u8]) -> bool {
    block_digest(number, block) == *expected
}

fn block_digest(number: u64, block: &[u8]) -> [u8; DIGEST_LEN] {
    let mut context = Context::new(&SHA256);
    context.update(&number.to_be_bytes());
    context.update(block);
    let mut out = [0; DIGEST_LEN];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(content: &[u8], piece_len: usize) -> (Trailer, Vec<u8>) {
        let mut writer = Writer::default();
        for piece in content.chunks(piece_len.max(1)) {
            writer.update(piece).unwrap();
        }
        let (trailer, tail) = writer.finish();
        (trailer, [content, &tail].concat())
    }

    #[test]
    fn pieces_do_not_matter_and_every_length_reads_back() {
        for len in [0, 1, BLOCK_LEN - 1, BLOCK_LEN, BLOCK_LEN + 1, 3 * BLOCK_LEN] {
            let content: Vec<u8> = (0..len).map(|n| n.to_le_bytes()[0]).collect();
            let (trailer, bytes) = stored(&content, 777_777);
            assert_eq!(stored(&content, BLOCK_LEN).1, bytes);
            let stored_len = bytes.len() as u64;
            assert_eq!(Trailer::decode(&bytes, stored_len), Some(trailer));
            assert_eq!(Trailer::decode(&bytes, stored_len + 1), None);
            for block in Trailer::blocks_of(0, trailer.len) {
                let range = trailer.block_at(block);
                let range =
                    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                let at = usize::try_from(trailer.digests_at(block)).unwrap();
                assert!(is_block(block, &bytes[range.clone()], &bytes[at..at + DIGEST_LEN]));
                assert!(!is_block(block + 1, &bytes[range], &bytes[at..at + DIGEST_LEN]));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut writer = Writer { len: BLOB_LEN_MAX - 1, ..Writer::default() };
        assert!(writer.update(&[1]).is_ok());
        assert!(matches!(writer.update(&[1]), Err(ProviderError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn a_changed_trailer_is_none(at in 0usize..TRAILER_LEN, bit in 0u8..8) {
            let (_, mut bytes) = stored(b"content", 3);
            let at = bytes.len() - TRAILER_LEN + at;
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Trailer::decode(&bytes, bytes.len() as u64), None);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(Trailer::decode(&bytes, bytes.len() as u64), None);
        }
    }
}
