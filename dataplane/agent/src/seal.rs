//! What the host keeps is sealed: whoever has its disk and not its key has nothing.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::files;

/// Bytes of a key.
const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;
/// What a sealed file begins with.
const MAGIC: &[u8] = b"weft sealed 1\n";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be read or made.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{0}: holds no key; expected {KEY_LEN} bytes, as of `head -c 32 /dev/urandom`")]
    Length(PathBuf),
}

/// A key that seals what a host keeps: AES-256-GCM-SIV (RFC 8452), whose random nonces may repeat on a machine that is
/// restored without giving more away than that two contents are equal.
pub struct Seal {
    key: LessSafeKey,
}

impl Seal {
    /// Reads the key that an operator, or a credential of the service manager, has put into a file.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let failed = |cause| SealError::File { path: path.to_owned(), cause };
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LEN + 1));
        let file = fs::File::open(path).map_err(failed)?;
        file.take(KEY_LEN as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() != KEY_LEN {
            return Err(SealError::Length(path.to_owned()));
        }
        Ok(Self::new(&bytes))
    }

    /// Reads the key in a file that this daemon makes if it is missing: whoever has the disk has the key then.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn beside(path: &Path) -> Result<Self, SealError> {
        let failed = |cause| SealError::File { path: path.to_owned(), cause };
        if !path.try_exists().map_err(failed)? {
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            getrandom::fill(&mut *bytes).map_err(|error| failed(io::Error::other(error)))?;
            files::write(path, &*bytes).map_err(failed)?;
        }
        Self::read(path)
    }

    fn new(key: &[u8]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("a key of this cipher's length");
        Self { key: LessSafeKey::new(key) }
    }

    /// Seals `plain`, for this purpose only.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let mut sealed = [MAGIC, &nonce, plain].concat();
        let body = &mut sealed[MAGIC.len() + NONCE_LEN..];
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(purpose.as_bytes()));
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, body);
        sealed.extend_from_slice(tag.map_err(|_| io::ErrorKind::FileTooLarge)?.as_ref());
        Ok(sealed)
    }

    /// What was sealed with this key for this purpose; `None` for everything else.
    pub(crate) fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.strip_prefix(MAGIC)?.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = Zeroizing::new(body.to_vec());
        let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(purpose.as_bytes()));
        let len = self.key.open_in_place(nonce, aad, &mut plain).ok()?.len();
        debug_assert_eq!(len + TAG_LEN, plain.len());
        plain.truncate(len);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_for_the_same_purpose_opens_what_is_unchanged() {
        let seal = Seal::new(&[7; KEY_LEN]);
        let sealed = seal.seal("cache", b"plain").unwrap();
        assert_eq!(**seal.open("cache", &sealed).unwrap(), *b"plain");
        assert!(seal.open("identity", &sealed).is_none());
        assert!(Seal::new(&[8; KEY_LEN]).open("cache", &sealed).is_none());
        assert_ne!(seal.seal("cache", b"plain").unwrap(), sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open("cache", &changed).is_none(), "byte {at}");
            assert!(seal.open("cache", &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_has_its_length() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        let sealed = Seal::beside(&path).unwrap().seal("cache", b"plain").unwrap();
        assert_eq!(**Seal::beside(&path).unwrap().open("cache", &sealed).unwrap(), *b"plain");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for len in [0, 31, 33, 64] {
            fs::write(&path, vec![1; len]).unwrap();
            assert!(matches!(Seal::read(&path), Err(SealError::Length(_))), "{len}");
        }
        assert!(matches!(Seal::read(&folder.path().join("no")), Err(SealError::File { .. })));
    }
}
