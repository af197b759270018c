//! Packets that come in pieces, because the path carries none of their length: link-specific
//! fragmentation below the overlay's IP layer, as RFC 8200 section 5 asks of links that carry less than
//! 1,280 bytes.

use std::time::{Duration, Instant};

use weft_wire::{Ecn, Metadata, PIECED_LEN_MAX, VirtioHeader};

use super::join::PacketId;
use crate::DropReason;

/// Packets of one lane of which some pieces are there. The pieces of a packet are sent at once: more
/// packets than these are incomplete only if the path reorders by whole packets, or loses.
const PARTIAL_MAX: usize = 4;
/// How long a packet waits for its pieces. Later its sender has sent it again.
const PIECES_WAIT: Duration = Duration::from_secs(1);

/// A packet of which some pieces are there.
struct Partial {
    id: PacketId,
    virtio: VirtioHeader,
    count: u8,
    since: Instant,
    outer: Ecn,
    /// Which pieces are missing, a bit each.
    missing: u8,
    bytes: Box<[u8]>,
    len: usize,
}

/// A packet of which all pieces are there.
pub(super) struct Pieced {
    pub(super) metadata: Metadata,
    pub(super) outer: Ecn,
    pub(super) bytes: Box<[u8]>,
    pub(super) len: usize,
}

/// What came of a piece.
pub(super) struct Added {
    pub(super) whole: Option<Pieced>,
    /// Packets that were given up for this one.
    pub(super) given_up: usize,
}

/// The incomplete packets of one lane, oldest first.
#[derive(Default)]
pub(super) struct Pieces(Vec<Partial>);

impl Pieces {
    /// Adds a piece. That it is one, and which, its metadata says ([`Metadata::is_piece`]).
    ///
    /// # Errors
    /// What makes the piece impossible; it is to be dropped.
    pub(super) fn add(
        &mut self,
        now: Instant,
        id: PacketId,
        metadata: &Metadata,
        outer: Ecn,
        piece: &[u8],
    ) -> Result<Added, DropReason> {
        let Metadata { virtio, chunk, count } = *metadata;
        let size = usize::from(virtio.gso_size);
        let is_last = chunk + 1 == count;
        let fits = if is_last { (1..=size).contains(&piece.len()) } else { piece.len() == size };
        let at = usize::from(chunk) * size;
        let end = at + piece.len();
        // Of a packet that is too long no piece is kept, whichever comes first.
        let least = usize::from(count - 1) * size + 1;
        if !fits || virtio.hdr_len != 0 || least.max(end) > PIECED_LEN_MAX {
            return Err(DropReason::Segmentation);
        }
        let known = self.0.iter().position(|partial| partial.id == id);
        let mut given_up = 0;
        let known = if let Some(known) = known {
            known
        } else {
            if self.0.len() == PARTIAL_MAX {
                self.0.remove(0);
                given_up = 1;
            }
            self.0.push(Partial {
                id,
                virtio,
                count,
                since: now,
                outer,
                missing: u8::MAX >> (8 - count),
                bytes: vec![0; usize::from(count) * size].into(),
                len: 0,
            });
            self.0.len() - 1
        };
        let partial = &mut self.0[known];
        if partial.virtio != virtio || partial.count != count {
            return Err(DropReason::Segmentation);
        }
        // No piece comes twice: its place in the packet follows from its counter.
        partial.bytes[at..end].copy_from_slice(piece);
        partial.missing &= !(1 << chunk);
        partial.len += piece.len();
        // RFC 3168 section 5.3: a mark on any piece is a mark on the packet.
        partial.outer = match (partial.outer, outer) {
            (Ecn::Ce, _) | (_, Ecn::Ce) => Ecn::Ce,
            (one, other) if one == other => one,
            _ => Ecn::NotEct,
        };
        if partial.missing != 0 {
            return Ok(Added { whole: None, given_up });
        }
        let Partial { virtio, outer, bytes, len, .. } = self.0.remove(known);
        let virtio = VirtioHeader { gso_size: 0, ..virtio };
        let metadata = Metadata { virtio, chunk: 0, count: 1 };
        Ok(Added { whole: Some(Pieced { metadata, outer, bytes, len }), given_up })
    }

    /// Gives up packets that have waited too long, and says how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.0.len();
        self.0.retain(|partial| now.saturating_duration_since(partial.since) < PIECES_WAIT);
        before - self.0.len()
    }
}
