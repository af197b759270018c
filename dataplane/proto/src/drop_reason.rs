//! Why packets are dropped: one list for code, metrics and status.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a packet or datagram was dropped. Nothing is answered; the count is all that
        /// remains of it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name,)*];
            /// How many reasons there are.
            pub const COUNT: usize = [$($label,)*].len();

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// An inner packet whose IP header cannot be read.
    Malformed = "malformed",
    /// An inner packet whose length fields are false.
    Length = "length",
    /// Checksum offload fields that do not fit the packet.
    Checksum = "checksum_offload",
    /// Segmentation offload fields that do not fit the packet.
    Segmentation = "segmentation_offload",
    /// More segments than a superpacket may have.
    Segments = "segments",
    /// A source address that its sender does not own.
    Source = "source_not_owned",
    /// A group or broadcast destination.
    Group = "group_destination",
    /// The environment's policy forbids it.
    Policy = "policy",
    /// A destination that no attachment has.
    NoRoute = "no_route",
    /// To the gateway's address, faster than it takes packets.
    GatewayBusy = "gateway_busy",
    /// Larger than the path carries, or than what the gateway's address takes.
    TooBig = "too_big",
    /// No session yet, and no room to wait for one.
    NoSession = "no_session",
    /// The path is slower than the containers, and this flow asks for the most.
    Congestion = "congestion",
    /// The session's keys are used up or too old.
    KeysUsedUp = "keys_used_up",
    /// The container's interface did not take the packet.
    Undeliverable = "undeliverable",
    /// A datagram from a peer to an address that is not attached here.
    Destination = "destination_not_here",
    /// Congestion marked on a packet that is not ECN-capable (RFC 6040).
    Ecn = "ecn",
    /// A datagram that is not of this protocol.
    Header = "header",
    /// A receiver index that names no session.
    UnknownSession = "unknown_session",
    /// A receiver index of another worker.
    WrongWorker = "wrong_worker",
    /// An epoch whose key is not to be had.
    Epoch = "epoch",
    /// Seen before, or too old to tell.
    Replay = "replay",
    /// Forged or damaged.
    Authentication = "authentication",
    /// Authentic, but its metadata makes no sense.
    Metadata = "metadata",
    /// A packet of which pieces did not come.
    Incomplete = "incomplete",
    /// An unknown control message.
    Control = "control",
    /// A message longer than the receive buffer.
    Truncated = "truncated",
}

impl From<weft_wire::FrameError> for DropReason {
    fn from(error: weft_wire::FrameError) -> Self {
        use weft_wire::{FrameError, InnerError};
        match error {
            FrameError::Inner(InnerError::Length) | FrameError::Length => Self::Length,
            FrameError::Inner(_) => Self::Malformed,
            FrameError::Checksum => Self::Checksum,
            FrameError::Segmentation => Self::Segmentation,
            FrameError::Segments => Self::Segments,
        }
    }
}

impl From<crate::lane::Rejected> for DropReason {
    fn from(rejected: crate::lane::Rejected) -> Self {
        use crate::lane::Rejected;
        match rejected {
            Rejected::Epoch => Self::Epoch,
            Rejected::Replay(_) => Self::Replay,
            Rejected::Authentication => Self::Authentication,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_numbers_are_indices() {
        let labels: std::collections::HashSet<_> =
            DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
