//! SHA-256.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use data_encoding::HEXLOWER;

use crate::text::{TextError, json_as_text};

/// How much is read at once, bytes.
const READ_LEN: usize = 64 << 10;

/// A SHA-256 hash; 64 hexadecimal digits as text, as sha256sum(1) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What stands before the first line of all.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let hash = digest(&SHA256, bytes);
        Self(hash.as_ref().try_into().expect("a SHA-256 hash"))
    }

    /// The hash of everything that is read.
    pub(crate) fn of_all(mut from: impl Read) -> io::Result<Self> {
        let (mut context, mut piece) = (Context::new(&SHA256), vec![0; READ_LEN]);
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => context.update(&piece[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(context.finish().as_ref().try_into().expect("a SHA-256 hash")))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let hash = HEXLOWER.decode(text.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
        hash.map(Self).ok_or(TextError { what: "a hash", expected: "64 hexadecimal digits" })
    }
}

json_as_text!(Digest);
