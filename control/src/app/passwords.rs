//! Passwords: how they are kept, and how much work they are.

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};

use super::{App, AppError};
use crate::secret::random;

/// Shortest password, bytes (NIST SP 800-63B section 3.1.1.2 asks for 15 where it is the only factor, 8 with a second).
const PASSWORD_LEN_MIN: usize = 15;
/// Longest password, bytes.
const PASSWORD_LEN_MAX: usize = 1_024;
/// Bytes of a password's salt (RFC 9106 section 3.1).
const SALT_LEN: usize = 16;

/// The hash of no password: who does not exist takes as long as who does. Of the same parameters as all others.
pub(super) const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$\
                                 1cVoSVFWZaTbFxtZyHx4cuWqXqIGsKD8WCrPFSDKB0Y";

impl App {
    /// What takes tens of milliseconds and 19 MiB: a few at once, and no other call waits for it.
    pub(super) async fn slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AppError> {
        let _turn = self.passwords.acquire().await.map_err(AppError::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(AppError::internal)
    }
}

/// Whether somebody may have this password.
pub(super) fn check_password(field: &'static str, password: &str) -> Result<(), AppError> {
    if (PASSWORD_LEN_MIN..=PASSWORD_LEN_MAX).contains(&password.len()) {
        return Ok(());
    }
    let problem =
        format!("has {} bytes; expected {PASSWORD_LEN_MIN} to {PASSWORD_LEN_MAX}", password.len());
    Err(AppError::invalid(field, problem))
}

/// Argon2id (RFC 9106) with 19 MiB and two passes, as OWASP's cheat sheet on passwords has it.
pub(super) fn hash_password(password: &str) -> Result<String, AppError> {
    let salt = SaltString::encode_b64(&random::<SALT_LEN>());
    let salt = salt.map_err(|error| AppError::internal(error.to_string()))?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| AppError::internal(error.to_string()))
}

pub(super) fn verify(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use argon2::Params;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn whoever_does_not_exist_costs_as_much_as_who_does() {
        let made = hash_password(&Zeroizing::new("a password".to_owned())).unwrap();
        let cost = |hash: &str| {
            let hash = PasswordHash::new(hash).unwrap();
            (
                hash.algorithm.to_string(),
                hash.version,
                Params::try_from(&hash).unwrap(),
                hash.hash.unwrap().len(),
            )
        };
        assert_eq!(cost(NOBODY), cost(&made));
        assert!(verify("a password", &made) && !verify("another", &made) && !verify("", NOBODY));
    }
}
