//! Messages between the two daemons of a session, sealed like data in datagrams of their own kind.

/// Bytes of a control message.
pub const CONTROL_LEN: usize = 12;

/// Why a control message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not [`CONTROL_LEN`] bytes.
    #[error("wrong length")]
    Length,
    /// A type that this version does not know, or reserved bytes that are not zero.
    #[error("unknown type")]
    Unknown,
}

/// A control message: byte 0 is the type, bytes 1 to 11 are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Control {
    /// The TLS client says that the session works in its direction; sent until answered.
    Confirm = 1,
    /// The TLS server's answer to [`Control::Confirm`].
    Confirmed = 2,
    /// Says nothing but that the lane has a new epoch, so that old keys can be wiped.
    Epoch = 3,
    /// The sender has forgotten this session.
    Close = 4,
}

impl Control {
    /// Writes the message.
    #[must_use]
    pub const fn encode(self) -> [u8; CONTROL_LEN] {
        let mut out = [0; CONTROL_LEN];
        out[0] = self as u8;
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`ControlError`]; the datagram is counted and dropped.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        let bytes: &[u8; CONTROL_LEN] = bytes.try_into().map_err(|_| ControlError::Length)?;
        let [kind, reserved @ ..] = bytes;
        if reserved.iter().any(|b| *b != 0) {
            return Err(ControlError::Unknown);
        }
        match kind {
            1 => Ok(Self::Confirm),
            2 => Ok(Self::Confirmed),
            3 => Ok(Self::Epoch),
            4 => Ok(Self::Close),
            _ => Err(ControlError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_nothing_else() {
        for control in [Control::Confirm, Control::Confirmed, Control::Epoch, Control::Close] {
            assert_eq!(Control::decode(&control.encode()), Ok(control));
        }
        for kind in (0..=255).filter(|k| !(1..=4).contains(k)) {
            let mut bytes = [0; CONTROL_LEN];
            bytes[0] = kind;
            assert_eq!(Control::decode(&bytes), Err(ControlError::Unknown));
        }
        let mut bytes = Control::Close.encode();
        bytes[11] = 1;
        assert_eq!(Control::decode(&bytes), Err(ControlError::Unknown));
        assert_eq!(Control::decode(&bytes[..11]), Err(ControlError::Length));
    }
}
