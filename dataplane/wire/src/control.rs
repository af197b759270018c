//! Messages between the two daemons of a session, sealed like data in datagrams of their own kind.

/// Bytes of a control message, the padding of a [`Control::Probe`] aside.
pub const CONTROL_LEN: usize = 12;

/// Why a control message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not [`CONTROL_LEN`] bytes, or longer and no [`Control::Probe`].
    #[error("wrong length")]
    Length,
    /// A type that this version does not know, or bytes that are not zero and should be.
    #[error("unknown type")]
    Unknown,
}

/// A control message: byte 0 is the type, bytes 1 and 2 a length or zero, bytes 3 to 10 a number or zero,
/// byte 11 is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The TLS client says that the session works in its direction; sent until answered.
    Confirm,
    /// The TLS server's answer to [`Control::Confirm`].
    Confirmed,
    /// Says nothing but that the lane has a new epoch, so that old keys can be wiped.
    Epoch,
    /// The sender has forgotten this session.
    Close,
    /// Whether a datagram as long as this one arrives. Zeros before the message make it so long.
    Probe,
    /// A [`Control::Probe`] of so many bytes, as its datagram's header has them, has arrived.
    Arrived(u16),
    /// Whether the peer is where this goes: it is to send the number back.
    Challenge(u64),
    /// The number of a [`Control::Challenge`].
    Answer(u64),
    /// Of the datagrams that were lately sent on a lane, so many came and did not authenticate: something on
    /// the way damages them.
    Damaged {
        /// Datagrams that did not authenticate.
        refused: u32,
        /// Datagrams that were sent meanwhile.
        sent: u32,
    },
}

impl Control {
    /// Writes the message.
    #[must_use]
    pub const fn encode(self) -> [u8; CONTROL_LEN] {
        let (kind, len, number) = match self {
            Self::Confirm => (1, 0, 0),
            Self::Confirmed => (2, 0, 0),
            Self::Epoch => (3, 0, 0),
            Self::Close => (4, 0, 0),
            Self::Probe => (5, 0, 0),
            Self::Arrived(len) => (6, len, 0),
            Self::Challenge(number) => (7, 0, number),
            Self::Answer(number) => (8, 0, number),
            Self::Damaged { refused, sent } => (9, 0, (refused as u64) << 32 | sent as u64),
        };
        let [high, low] = len.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
        [kind, high, low, a, b, c, d, e, f, g, h, 0]
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`ControlError`]; the datagram is counted and dropped.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        let (padding, message) =
            bytes.split_last_chunk::<CONTROL_LEN>().ok_or(ControlError::Length)?;
        let [kind, high, low, number @ .., reserved] = message;
        let number = u64::from_be_bytes(*number);
        let control = match (kind, u16::from_be_bytes([*high, *low]), number) {
            (1, 0, 0) => Self::Confirm,
            (2, 0, 0) => Self::Confirmed,
            (3, 0, 0) => Self::Epoch,
            (4, 0, 0) => Self::Close,
            (5, 0, 0) => Self::Probe,
            (6, len, 0) => Self::Arrived(len),
            (7, 0, number) => Self::Challenge(number),
            (8, 0, number) => Self::Answer(number),
            (9, 0, number) => {
                #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
                let (refused, sent) = ((number >> 32) as u32, number as u32);
                Self::Damaged { refused, sent }
            }
            _ => return Err(ControlError::Unknown),
        };
        if !padding.is_empty() && control != Self::Probe {
            return Err(ControlError::Length);
        }
        if *reserved != 0 || padding.iter().any(|byte| *byte != 0) {
            return Err(ControlError::Unknown);
        }
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_nothing_else() {
        let lengths = [0, 44, 1_472, u16::MAX].map(Control::Arrived);
        let others =
            [Control::Confirm, Control::Confirmed, Control::Epoch, Control::Close, Control::Probe];
        let numbers = [0, 7, u64::MAX];
        let numbered =
            numbers.map(Control::Challenge).into_iter().chain(numbers.map(Control::Answer));
        let damaged = [(0, 0), (7, 9), (u32::MAX, 1)];
        let damaged = damaged.map(|(refused, sent)| Control::Damaged { refused, sent });
        for control in others.into_iter().chain(lengths).chain(numbered).chain(damaged) {
            assert_eq!(Control::decode(&control.encode()), Ok(control));
        }
        for kind in (0..=255).filter(|k| !(1..=9).contains(k)) {
            let mut bytes = [0; CONTROL_LEN];
            bytes[0] = kind;
            assert_eq!(Control::decode(&bytes), Err(ControlError::Unknown));
        }
        for control in others {
            let mut bytes = control.encode();
            bytes[2] = 1;
            assert_eq!(Control::decode(&bytes), Err(ControlError::Unknown), "{control:?}");
        }
        let mut bytes = Control::Close.encode();
        bytes[11] = 1;
        assert_eq!(Control::decode(&bytes), Err(ControlError::Unknown));
        assert_eq!(Control::decode(&bytes[..11]), Err(ControlError::Length));
    }

    #[test]
    fn only_a_probe_is_padded_and_only_with_zeros() {
        let padded = |control: Control| [&[0; 1_000][..], &control.encode()].concat();
        assert_eq!(Control::decode(&padded(Control::Probe)), Ok(Control::Probe));
        for other in [Control::Confirm, Control::Close, Control::Arrived(1_472), Control::Answer(7)]
        {
            assert_eq!(Control::decode(&padded(other)), Err(ControlError::Length));
        }
        let mut dirty = padded(Control::Probe);
        dirty[500] = 1;
        assert_eq!(Control::decode(&dirty), Err(ControlError::Unknown));
    }
}
