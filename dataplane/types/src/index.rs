//! Small numbers of the protocol, each a type of its own.

use std::fmt;

/// Most workers of a daemon, and so most lanes of a session in one direction. A lane number and a
/// worker number each fit six bits with room to spare in their byte on the wire.
pub const WORKERS_MAX: u8 = 64;
/// Most lanes of a session in one direction.
pub const LANES_MAX: u8 = WORKERS_MAX;
/// Epochs of one lane in one session. The epoch is sent as one byte and must not recur, so a
/// session ends (with a new handshake) before its 256th.
pub const EPOCHS_PER_SESSION_MAX: u16 = 256;

/// A worker or lane number beyond [`WORKERS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is out of range; expected 0 to 63")]
pub struct IndexError(pub usize);

macro_rules! small_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u8);

        impl $name {
            /// Checks that `value` is below [`WORKERS_MAX`].
            ///
            /// # Errors
            /// [`IndexError`] when it is not.
            pub const fn new(value: usize) -> Result<Self, IndexError> {
                if value < WORKERS_MAX as usize {
                    #[expect(clippy::cast_possible_truncation, reason = "below 64")]
                    Ok(Self(value as u8))
                } else {
                    Err(IndexError(value))
                }
            }

            /// The number, 0 to 63.
            #[must_use]
            pub const fn get(self) -> u8 {
                self.0
            }

            /// The number as an index into a table of this daemon.
            #[must_use]
            pub const fn as_usize(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

small_id! {
    /// A worker thread of this daemon.
    WorkerId
}
small_id! {
    /// One direction of one session on one sending worker: own key, counter and replay window.
    LaneId
}

/// Which key of a lane seals a datagram. Counts up from 0 and never recurs within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u8);

impl Epoch {
    /// The epoch after this one, or `None` after the last of a session.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(e) => Some(Self(e)),
            None => None,
        }
    }
}

/// A datagram's number on its lane; the AEAD nonce is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Counter(pub u64);

impl Counter {
    /// From here on nothing is sealed: 2^64 − 2^13 − 1, as WireGuard's `REJECT_AFTER_MESSAGES`,
    /// so that the replay window never has to think about wrapping.
    pub const REJECT_AFTER: Self = Self(u64::MAX - (1 << 13));
}

/// Names a session and a lane to the host that receives on it, which chose it: the top byte is
/// the receiving worker, the other 24 bits are random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiverIndex(pub u32);

impl ReceiverIndex {
    /// Joins a worker and 24 random bits (upper bits of `random` are ignored).
    #[must_use]
    pub const fn new(worker: WorkerId, random: u32) -> Self {
        Self((worker.get() as u32) << 24 | random & 0x00ff_ffff)
    }

    /// The worker that receives it; an error when a forged index names none.
    ///
    /// # Errors
    /// [`IndexError`] when the top byte is no worker number.
    pub const fn worker(self) -> Result<WorkerId, IndexError> {
        WorkerId::new((self.0 >> 24) as usize)
    }
}

impl fmt::Debug for ReceiverIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_numbers_are_bounded() {
        assert_eq!(WorkerId::new(63).unwrap().get(), 63);
        assert_eq!(WorkerId::new(64), Err(IndexError(64)));
    }

    #[test]
    fn receiver_index_carries_its_worker() {
        let index = ReceiverIndex::new(WorkerId::new(5).unwrap(), 0xffab_cdef);
        assert_eq!(index.0, 0x05ab_cdef);
        assert_eq!(index.worker().unwrap().get(), 5);
        assert!(ReceiverIndex(0xff00_0000).worker().is_err());
    }

    #[test]
    fn epochs_end() {
        assert_eq!(Epoch(254).next(), Some(Epoch(255)));
        assert_eq!(Epoch(255).next(), None);
    }
}
