//! Passwords: hashed with memory that is kept for the next. What is allocated anew for each, 19 MiB on many threads, an
//! allocator gives back to nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{Output, ParamsString, PasswordHash, Salt, SaltString},
};
use tokio::sync::Semaphore;
use weft_audit::Origin;
use zeroize::{Zeroize, Zeroizing};

use super::{AppError, Caller};
use crate::{
    crowd::{Comer, Crowd, Source},
    secret::random,
};

/// Shortest password, bytes (NIST SP 800-63B section 3.1.1.2 asks for 15 where it is the only factor, 8 with a second).
const PASSWORD_LEN_MIN: usize = 15;
/// Longest password, bytes.
pub(super) const PASSWORD_LEN_MAX: usize = 1_024;
/// Passwords that are worked on at once, each with 19 MiB.
const AT_ONCE_MAX: usize = 4;
/// Passwords that wait for that: some seconds of work. Of whoever has most the oldest gives way.
const WAITING_MAX: usize = 256;
/// Bytes of a password's salt (RFC 9106 section 3.1).
const SALT_LEN: usize = 16;
/// The hash of no password: who does not exist takes as long as who does. Of the same parameters as all others.
pub(super) const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$\
                      1cVoSVFWZaTbFxtZyHx4cuWqXqIGsKD8WCrPFSDKB0Y";

/// Work on passwords: a few at once, and no other call waits for it.
#[derive(Debug)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Crowd<Asker>,
    idle: Arc<Mutex<Vec<Memory>>>,
}

/// Who asks for work: whoever is at one address, or this process itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asker(Option<Source>);

impl Comer for Asker {
    type Owner = Self;

    fn owner(&self) -> &Self {
        self
    }
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Self {
        Self(match caller.call.origin() {
            Origin::Address(address) => Some((*address).into()),
            Origin::Local | Origin::Internal => None,
        })
    }
}

/// What a password is hashed in. It holds nothing between two.
struct Memory(Vec<Block>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Memory").field(&self.0.len()).finish()
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            waiting: Crowd::new(WAITING_MAX),
            idle: Arc::default(),
        }
    }
}

impl Passwords {
    /// Argon2id (RFC 9106) with 19 MiB and two passes, as OWASP's cheat sheet on passwords has it; in the PHC string
    /// format.
    ///
    /// # Errors
    /// [`AppError::Exhausted`] when too many wait; [`AppError::Internal`].
    pub(super) async fn hash(
        &self,
        by: Asker,
        password: Zeroizing<String>,
    ) -> Result<String, AppError> {
        let made = self.slowly(by, move |memory| memory.hash(&password)).await?;
        made.map_err(|error| AppError::internal(error.to_string()))
    }

    /// Whether this is the password of which that is the hash.
    ///
    /// # Errors
    /// As [`Passwords::hash`]; a hash that cannot be read is of no password.
    pub(super) async fn matches(
        &self,
        by: Asker,
        password: Zeroizing<String>,
        hash: String,
    ) -> Result<bool, AppError> {
        self.slowly(by, move |memory| memory.matches(&password, &hash).unwrap_or(false)).await
    }

    async fn slowly<T: Send + 'static>(
        &self,
        by: Asker,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AppError> {
        let (place, ousted) = self.waiting.enter(by);
        let turn = tokio::select! {
            turn = Arc::clone(&self.turns).acquire_owned() => turn.map_err(AppError::internal)?,
            _ = ousted => {
                let problem = "too many passwords are waited for; ask again".to_owned();
                return Err(AppError::Exhausted(problem));
            }
        };
        drop(place);
        let idle = Arc::clone(&self.idle);
        let worked = tokio::task::spawn_blocking(move || {
            // Also when nobody waits for it any more, so there are never more than turns.
            let _turn = turn;
            let mut memory = lock(&idle).pop().unwrap_or(Memory(Vec::new()));
            let result = work(&mut memory);
            memory.0.iter_mut().for_each(Zeroize::zeroize);
            lock(&idle).push(memory);
            result
        });
        worked.await.map_err(AppError::internal)
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

fn lock(idle: &Mutex<Vec<Memory>>) -> MutexGuard<'_, Vec<Memory>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    fn work(
        &mut self,
        argon2: &Argon2<'_>,
        password: &str,
        salt: &[u8],
    ) -> Result<Output, argon2::password_hash::Error> {
        let params = argon2.params();
        let blocks = params.block_count();
        if self.0.len() < blocks {
            self.0.resize(blocks, Block::default());
        }
        let mut output = Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
        argon2.hash_password_into_with_memory(
            password.as_bytes(),
            salt,
            &mut output[..],
            &mut self.0[..blocks],
        )?;
        Output::new(&output[..])
    }

    fn hash(&mut self, password: &str) -> Result<String, argon2::password_hash::Error> {
        let argon2 = Argon2::default();
        let salt_bytes = random::<SALT_LEN>();
        let salt = SaltString::encode_b64(&salt_bytes)?;
        let output = self.work(&argon2, password, &salt_bytes)?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(argon2.params())?,
            salt: Some(salt.as_salt()),
            hash: Some(output),
        };
        Ok(hash.to_string())
    }

    fn matches(
        &mut self,
        password: &str,
        hash: &str,
    ) -> Result<bool, argon2::password_hash::Error> {
        let hash = PasswordHash::new(hash)?;
        let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else { return Ok(false) };
        let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
        let algorithm = Algorithm::try_from(hash.algorithm)?;
        let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash)?);
        let mut salt_bytes = [0; Salt::MAX_LENGTH];
        let salt_bytes = salt.decode_b64(&mut salt_bytes)?;
        // Compared in constant time.
        Ok(self.work(&argon2, password, salt_bytes)? == expected)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    fn nobody() -> Asker {
        Asker(None)
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn hashes_are_as_the_library_has_them_and_memory_is_kept_empty() {
        let passwords = Passwords::default();
        let made = passwords.hash(nobody(), secret("a password")).await.unwrap();
        let parsed = PasswordHash::new(&made).unwrap();
        Argon2::default().verify_password(b"a password", &parsed).unwrap();
        let salt = SaltString::encode_b64(&[7; SALT_LEN]).unwrap();
        let theirs = Argon2::default().hash_password(b"a password", &salt).unwrap().to_string();
        for hash in [&made, &theirs] {
            assert!(passwords.matches(nobody(), secret("a password"), hash.clone()).await.unwrap());
            assert!(!passwords.matches(nobody(), secret("another"), hash.clone()).await.unwrap());
        }
        assert!(!passwords.matches(nobody(), secret(""), NOBODY.to_owned()).await.unwrap());
        assert!(!passwords.matches(nobody(), secret(""), "nonsense".to_owned()).await.unwrap());
        let idle = lock(&passwords.idle);
        assert_eq!(idle.len(), 1, "one after the other takes one");
        assert!(idle[0].0.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
    }

    #[tokio::test]
    async fn however_many_there_are_a_few_are_worked_on_at_once() {
        let passwords = Arc::new(Passwords::default());
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..3 * AT_ONCE_MAX {
            let passwords = Arc::clone(&passwords);
            all.spawn(async move { passwords.hash(nobody(), secret("a password")).await.unwrap() });
        }
        all.join_all().await;
        assert!(lock(&passwords.idle).len() <= AT_ONCE_MAX);
    }

    #[tokio::test]
    async fn whoever_does_not_exist_costs_as_much_as_who_does() {
        let made = Passwords::default().hash(nobody(), secret("a password")).await.unwrap();
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
    }

    #[tokio::test]
    async fn who_asks_in_great_numbers_loses_its_own() {
        let passwords = Arc::new(Passwords::default());
        let from = |n: u8| Asker(Some(std::net::IpAddr::from([192, 0, 2, n]).into()));
        // Nobody has a turn meanwhile.
        let all = passwords.turns.acquire_many(4).await.unwrap();
        let ask = |by: Asker| {
            let passwords = Arc::clone(&passwords);
            tokio::spawn(async move { passwords.hash(by, secret("a password")).await })
        };
        let good = ask(from(1));
        tokio::task::yield_now().await;
        let flood: Vec<_> = (0..2 * WAITING_MAX).map(|_| ask(from(2))).collect();
        while flood.iter().filter(|asked| asked.is_finished()).count() <= WAITING_MAX {
            tokio::task::yield_now().await;
        }
        drop(all);
        good.await.unwrap().unwrap();
        let first = flood.into_iter().next().unwrap().await.unwrap();
        assert!(matches!(first, Err(AppError::Exhausted(_))), "{first:?}");
    }
}
