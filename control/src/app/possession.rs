//! Who adds an SSH key shows that it is theirs: they sign what is told them here.
//!
//! Nothing is kept. What is signed names the installation, the person and the key, and holds when it ends, sealed for
//! this person and this key: nobody else's is taken, none after its time, and none that was not told here.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use weft_control_api::SSH_KEY_NAMESPACE;
use weft_keys::{Owner, Purpose};
use weft_model::{UnixMs, UserId};
use weft_pki::installation;

use super::{App, AppError, Caller, authentication::person};
use crate::ssh::{self, PublicKey};

/// How long somebody has to sign, ms: it may be on another machine.
const LIFE_MS: u64 = 10 * 60 * 1_000;
/// Longest message that is looked at, bytes: ours has 400.
const MESSAGE_LEN_MAX: usize = 1_024;
/// What the last line begins with.
const CHALLENGE: &str = "challenge: ";

/// What somebody has to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChallenge {
    /// Lines of text.
    pub message: String,
    /// Until when it is taken.
    pub expires: UnixMs,
}

/// What shows that a key is somebody's.
#[derive(Debug, Clone, Copy)]
pub struct Possession<'a> {
    /// What they were told.
    pub message: &'a str,
    /// What they made of it.
    pub signature: &'a str,
}

impl App {
    /// What the caller has to sign with this key so that they may add it.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a key that is not taken; [`AppError::Refused`] for who is no person.
    pub async fn challenge_ssh_key(
        &self,
        caller: &Caller,
        line: &str,
    ) -> Result<KeyChallenge, AppError> {
        let user = person(caller)?;
        let key = PublicKey::parse(line).map_err(|problem| AppError::invalid("key", problem))?;
        let expires = UnixMs(self.now().0 + LIFE_MS);
        let (owner, context, end) =
            (Owner::Installation, context(user, &key), expires.0.to_be_bytes());
        let sealed = self.keyring.seal(&owner, Purpose::Identity, &context, &end).await;
        let challenge = BASE64URL_NOPAD.encode(&sealed.map_err(AppError::internal)?);
        Ok(KeyChallenge { message: self.key_message(user, &key, &challenge)?, expires })
    }

    /// The caller has signed with this key what they were told, for themselves and in time.
    pub(super) async fn possesses(
        &self,
        user: &UserId,
        key: &PublicKey,
        shown: Possession<'_>,
    ) -> Result<(), AppError> {
        let refused = |problem| AppError::invalid("message", problem);
        let Possession { message, signature } = shown;
        let expires = self.expiry(user, key, message).await?;
        let expires = expires.ok_or_else(|| {
            refused("is not what was told you for this key; expected that of ChallengeSshKey")
        })?;
        if expires <= self.now() {
            return Err(refused("was told more than ten minutes ago; ask for another one"));
        }
        let verified = key.verify(SSH_KEY_NAMESPACE, message.as_bytes(), signature);
        verified.map_err(|problem| AppError::invalid("signature", problem))
    }

    /// When a message ends that was told this person for this key; nothing for any other.
    async fn expiry(
        &self,
        user: &UserId,
        key: &PublicKey,
        message: &str,
    ) -> Result<Option<UnixMs>, AppError> {
        let last = message.lines().last().filter(|_| message.len() <= MESSAGE_LEN_MAX);
        let Some(challenge) = last.and_then(|line| line.strip_prefix(CHALLENGE)) else {
            return Ok(None);
        };
        if message != self.key_message(user, key, challenge)? {
            return Ok(None);
        }
        let Ok(sealed) = BASE64URL_NOPAD.decode(challenge.as_bytes()) else { return Ok(None) };
        let (owner, context) = (Owner::Installation, context(user, key));
        let opened = self.keyring.open_sealed(&owner, Purpose::Identity, &context, &sealed).await;
        let opened = opened.ok().and_then(|opened| opened.as_slice().try_into().ok());
        Ok(opened.map(|expires| UnixMs(u64::from_be_bytes(expires))))
    }

    fn key_message(
        &self,
        user: &UserId,
        key: &PublicKey,
        challenge: &str,
    ) -> Result<String, AppError> {
        let anchor = installation::anchor(self.anchor.as_bytes()).map_err(AppError::internal)?;
        let authority = HEXLOWER.encode(&installation::fingerprint(&anchor));
        let (installation, key) = (self.installation(), ssh::print_fingerprint(&key.fingerprint));
        Ok(format!(
            "weft ssh-key 1\ninstallation: {installation}\nauthority: {authority}\nuser: {user}\nkey: {key}\n\
             {CHALLENGE}{challenge}\n"
        ))
    }
}

fn context<'a>(user: &'a UserId, key: &'a PublicKey) -> [&'a [u8]; 3] {
    [b"ssh-key", user.as_str().as_bytes(), key.fingerprint.as_bytes()]
}
