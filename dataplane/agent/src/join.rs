//! What an operator gives a machine so that it becomes a host.

use std::{fmt, fs, io::Read, path::Path, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

/// Longest file that holds a token, bytes: one has 139 and perhaps a line's end.
const FILE_LEN_MAX: u64 = 1024;
const PREFIX: &str = "weft_join_";
const EXPECTED: &str = "expected weft_join_ and 64 hexadecimal digits, a dot, and 64 more, as made by `weft host token`";

/// Why something is no join token.
#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// It has another form. What it holds is not repeated.
    #[error("is no join token; {EXPECTED}")]
    Form,
}

/// A right to become a host, once, and by what the host knows the installation that it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: Zeroizing<String>,
    authority: [u8; 32],
}

impl JoinToken {
    /// Reads it from a file that holds nothing else.
    ///
    /// # Errors
    /// [`JoinTokenError`].
    pub fn read(path: &Path) -> Result<Self, JoinTokenError> {
        let mut text = Zeroizing::new(String::new());
        let file = fs::File::open(path)?;
        file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(|_| JoinTokenError::Form)?;
        text.trim().parse()
    }

    /// What the control plane is shown.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// SHA-256 of that, hexadecimal: by which a host knows again a token that it has shown.
    pub(crate) fn fingerprint(&self) -> String {
        HEXLOWER.encode(digest(&SHA256, self.secret.as_bytes()).as_ref())
    }

    /// SHA-256 of the certificate of the installation's authority, in DER.
    pub(crate) fn authority(&self) -> &[u8; 32] {
        &self.authority
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let (secret, authority) = text.split_once('.').ok_or(JoinTokenError::Form)?;
        let digits = secret.strip_prefix(PREFIX).ok_or(JoinTokenError::Form)?;
        let bytes = |digits: &str| -> Option<[u8; 32]> {
            HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
        };
        bytes(digits).ok_or(JoinTokenError::Form)?;
        let authority = bytes(authority).ok_or(JoinTokenError::Form)?;
        Ok(Self { secret: Zeroizing::new(secret.to_owned()), authority })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        format!("{PREFIX}{}.{}", "ab".repeat(32), "0c".repeat(32))
    }

    #[test]
    fn a_token_holds_its_secret_and_the_authority() {
        let token: JoinToken = text().parse().unwrap();
        assert_eq!(token.secret(), format!("{PREFIX}{}", "ab".repeat(32)));
        assert_eq!(token.authority(), &[0x0c; 32]);
        assert_eq!(format!("{token:?}"), "JoinToken");
    }

    #[test]
    fn what_has_another_form_is_refused_and_not_repeated() {
        let good = text();
        let cases = [
            String::new(),
            "weft_join_ab.0c".to_owned(),
            good.replace('.', ":"),
            good.replace("weft_join_", "weft_user_"),
            good.to_uppercase(),
            good[..good.len() - 1].to_owned(),
            format!("{good}0"),
        ];
        for case in cases {
            let error = case.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.starts_with("is no join token; expected"), "{error}");
            assert!(!error.contains("abab"));
        }
    }

    #[test]
    fn a_file_may_end_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, format!("{}\n", text())).unwrap();
        assert_eq!(JoinToken::read(&path).unwrap(), text().parse().unwrap());
        fs::write(&path, "x".repeat(1 << 20)).unwrap();
        assert!(matches!(JoinToken::read(&path), Err(JoinTokenError::Form)));
        assert!(matches!(JoinToken::read(&folder.path().join("no")), Err(JoinTokenError::File(_))));
    }
}
