//! What is shipped to a blob store: how objects are called there, and what is said of how far it has come. Pure.
//!
//! ```text
//!  0000000003-HASH.01 .02 …      segment 3 in pieces; HASH is that of its last line, which vouches for all before it
//!  0000000003-HASH.head          the signed head of that line: it comes last, and says that the segment is whole
//!  0000000002-HASH.expired       the signed stub in place of segments up to 2
//! ```
//!
//! The names are those in the part of a blob store that belongs to one process.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    signed::Statement,
    text::{ProcessId, TextError},
    time::Timestamp,
};

/// Bytes of a piece, and at least one of the last. A piece is read, sealed, sent and compared in memory.
pub const PIECE_OF_SEGMENT_LEN: usize = 4 << 20;
/// Most pieces of a segment: the longest has 64 MiB and the lines of one write.
pub const PIECES_MAX: u8 = 99;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A piece of a segment, from 1 to [`PIECES_MAX`].
    Piece(u8),
    /// The signed head of the segment's last line.
    Head,
    /// The signed stub in place of segments up to this one.
    Expired,
}

/// What an object is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectName {
    /// Which segment it is about.
    pub segment: u64,
    /// SHA-256 of the last line of that.
    pub hash: Digest,
    /// What it is.
    pub kind: ObjectKind,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{}.", self.segment, self.hash)?;
        match self.kind {
            ObjectKind::Piece(number) => write!(f, "{number:02}"),
            ObjectKind::Head => f.write_str("head"),
            ObjectKind::Expired => f.write_str("expired"),
        }
    }
}

impl FromStr for ObjectName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError { what: "the name of an object", expected: "SEGMENT-HASH.PIECE" };
        let (stem, end) = text.split_once('.').ok_or_else(wrong)?;
        let (segment, hash) = stem.split_once('-').ok_or_else(wrong)?;
        let kind = match end {
            "head" => ObjectKind::Head,
            "expired" => ObjectKind::Expired,
            number => ObjectKind::Piece(number.parse().map_err(|_| wrong())?),
        };
        let (segment, hash) = (segment.parse().map_err(|_| wrong())?, hash.parse()?);
        let name = Self { segment, hash, kind };
        let is_there = match kind {
            ObjectKind::Piece(number) => (1..=PIECES_MAX).contains(&number),
            ObjectKind::Head | ObjectKind::Expired => true,
        };
        // There is one way to write it.
        if is_there && segment > 0 && name.to_string() == text { Ok(name) } else { Err(wrong()) }
    }
}

/// How far a log is in the blob store: every segment up to this line's is there, whole, and was read again. In the
/// control plane's store, so that what is taken from the blob store is missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shipped {
    /// Whose log.
    pub process: ProcessId,
    /// Which blob store, as the configuration names it: another one gets everything anew.
    pub place: String,
    /// The last segment that is there.
    pub segment: u64,
    /// The number of its last line.
    pub seq: u64,
    /// SHA-256 of its last line.
    pub hash: Digest,
    /// When this was signed.
    pub at: Timestamp,
}

impl Statement for Shipped {
    const LABEL: &'static str = "weft audit shipped v1";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = ObjectKind> {
        prop_oneof![
            (1..=PIECES_MAX).prop_map(ObjectKind::Piece),
            Just(ObjectKind::Head),
            Just(ObjectKind::Expired),
        ]
    }

    fn names() -> impl Strategy<Value = ObjectName> {
        (1u64.., any::<[u8; 32]>(), kinds()).prop_map(|(segment, hash, kind)| ObjectName {
            segment,
            hash: Digest(hash),
            kind,
        })
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let hash = "0".repeat(64);
        for end in ["01", "99", "head", "expired"] {
            assert!(format!("0000000001-{hash}.{end}").parse::<ObjectName>().is_ok(), "{end}");
        }
        for end in ["", "00", "1", "001", "100", "+1", "Head", "head.", "01.02", "stub"] {
            assert!(format!("0000000001-{hash}.{end}").parse::<ObjectName>().is_err(), "{end}");
        }
        for text in ["", "a", "0000000001-.01", "0000000001.01"] {
            assert!(text.parse::<ObjectName>().is_err(), "{text}");
        }
        for segment in ["0000000000", "1", "00000000001", "+000000001", "-000000001"] {
            assert!(format!("{segment}-{hash}.01").parse::<ObjectName>().is_err(), "{segment}");
        }
    }

    proptest! {
        /// A name says what it is of, and nothing else has it.
        #[test]
        fn names_are_of_one_object_each(one in names(), other in names()) {
            prop_assert_eq!(one.to_string().parse(), Ok(one));
            prop_assert_eq!(one.to_string() == other.to_string(), one == other);
        }

        #[test]
        fn whatever_parses_is_written_the_same(text in "[0-9]{9,11}-[0-9a-f]{64}\\.([0-9]{1,3}|head|expired)") {
            if let Ok(name) = text.parse::<ObjectName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        /// What is listed in the order of names is in the order of segments, and the head stands behind the pieces.
        #[test]
        fn the_order_of_names_is_that_of_pieces(segment in 1u64..9_999_999_999, hash in any::<[u8; 32]>(), piece in 1u8..PIECES_MAX) {
            let of = |segment, kind| ObjectName { segment, hash: Digest(hash), kind }.to_string();
            let piece_of = |number| of(segment, ObjectKind::Piece(number));
            prop_assert!(piece_of(piece) < piece_of(piece + 1));
            prop_assert!(piece_of(piece + 1) < of(segment, ObjectKind::Head));
            prop_assert!(of(segment, ObjectKind::Head) < of(segment + 1, ObjectKind::Piece(piece)));
        }
    }
}
