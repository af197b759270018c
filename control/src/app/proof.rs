//! Proving who one is: by password, and by a code where there is a second factor.

use data_encoding::BASE64;
use weft_keys::{Owner, Purpose};
use weft_model::{
    Decoded, Record, UnixMs, UserId,
    record::{EMAIL_LEN_MAX, SecondFactor, User, UserEmail},
    second_factor::{self, Shown},
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{
    App, AppError, Caller,
    authentication::person,
    environments::rests_on,
    lockout::Counted,
    passwords::{NOBODY, PASSWORD_LEN_MAX},
    sessions::email_hash,
};
use crate::{
    secret,
    totp::{self, SEED_LEN, Seed},
};

/// What somebody shows.
pub struct Proof {
    /// The password.
    pub password: Zeroizing<String>,
    /// A code of the second factor, or a recovery code; empty where there is none.
    pub code: Zeroizing<String>,
}

impl Proof {
    /// Without what is too long to be right.
    fn of_good_length(self) -> Self {
        let shortened = |text: Zeroizing<String>, len_max| {
            if text.len() > len_max { Zeroizing::default() } else { text }
        };
        Self {
            password: shortened(self.password, PASSWORD_LEN_MAX),
            code: shortened(self.code, CODE_LEN_MAX),
        }
    }
}

/// Longest code that is looked at, bytes: recovery codes with blanks between are shorter.
const CODE_LEN_MAX: usize = 64;

/// Somebody who has shown what they should, as it is in the store now.
pub(super) struct Proved {
    /// Who.
    pub(super) user: Decoded<User>,
    /// What it rests on.
    pub(super) conditions: Transaction,
    /// The second factor, which takes the same code no more.
    pub(super) spent: Option<SecondFactor>,
}

impl Proved {
    /// A transaction after which the code is taken.
    pub(super) fn spend(self) -> Result<(User, Transaction), AppError> {
        let mut transaction = self.conditions;
        if let Some(spent) = &self.spent {
            transaction = transaction.put(spent.key()?, spent.encode()?);
        }
        Ok((self.user.record, transaction))
    }
}

/// A second factor with its seed; where there is none, another seed.
pub(super) struct Opened {
    pub(super) factor: Option<Decoded<SecondFactor>>,
    pub(super) seed: Seed,
}

impl Opened {
    /// The second factor after a code was taken. It is not asked for one that is not confirmed, which takes as long.
    fn take(&self, code: &str, now: UnixMs) -> Result<Option<SecondFactor>, AppError> {
        let confirmed = self.factor.as_ref().map(|found| &found.record).filter(|f| f.confirmed);
        let none = SecondFactor {
            user: UserId::from_random(&[0; 10]),
            sealed_seed: String::new(),
            confirmed: false,
            last_step: 0,
            recovery: Vec::new(),
            created: now,
        };
        let is_of = |step| totp::is_code_at(&self.seed, step, code);
        let recovery = recovery_hash(code);
        let shown =
            if totp::is_code(code) { Shown::Code(&is_of) } else { Shown::Recovery(&recovery) };
        let taken = second_factor::take(confirmed.unwrap_or(&none), shown, now);
        match confirmed {
            Some(_) => taken.map(Some).ok_or(AppError::Unauthenticated),
            None => Ok(None),
        }
    }
}

/// By what a recovery code is known, however it is written.
pub(super) fn recovery_hash(code: &str) -> String {
    let letters: String = code.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    secret::hash(&letters.to_lowercase())
}

impl App {
    /// Looks at what somebody shows for the account with this address, and returns whose it is when all of it is good.
    /// Whatever is wrong, it is counted, and the answer is the same and as slow.
    pub(super) async fn prove(
        &self,
        caller: &Caller,
        email: &str,
        proof: Proof,
    ) -> Result<User, AppError> {
        // What is too long is nobody's, and is not kept while it waits.
        let email = if email.len() > EMAIL_LEN_MAX { "" } else { email };
        let proof = proof.of_good_length();
        let address = email_hash(email);
        let nobody = UserId::from_random(&[0; 10]);
        let found = match self.read::<UserEmail>(&address).await? {
            Some(known) => self.read::<User>(known.record.id.as_str()).await?,
            // As many steps.
            None => self.read::<User>(nobody.as_str()).await?,
        };
        let user = found.map(|user| user.record);
        let opened = self.open_factor(user.as_ref().map_or(&nobody, |user| &user.id)).await?;
        let hash =
            user.as_ref().map_or_else(|| NOBODY.to_owned(), |user| user.password_hash.clone());
        let whose = user.as_ref().map_or(&nobody, |user| &user.id);
        let counted = self.counted(caller, &address, whose).await?;
        let Proof { password, code } = proof;
        let matches = self.passwords.matches(caller.into(), password, hash).await?;
        let is_taken = opened.take(&code, self.now()).is_ok();
        let is_good = matches & is_taken & user.as_ref().is_some_and(|user| !user.suspended);
        self.count_proof(&counted, is_good)?;
        user.ok_or(AppError::Unauthenticated)
    }

    /// Locked or wrong says as much.
    pub(super) fn count_proof(&self, counted: &Counted, is_good: bool) -> Result<(), AppError> {
        let (mut lockout, now) = (self.lockout(), self.now());
        if lockout.is_locked(counted, now) {
            return Err(AppError::Unauthenticated);
        }
        if !is_good {
            // What is tried while it is locked prolongs nothing.
            lockout.fail(counted, now);
            return Err(AppError::Unauthenticated);
        }
        lockout.succeed(counted);
        Ok(())
    }

    /// Somebody who has proved who they are, if all of that holds yet: nothing of it was changed, and nobody else has
    /// used the code since.
    pub(super) async fn proved(&self, by: &User, code: &str) -> Result<Proved, AppError> {
        let user: Decoded<User> =
            self.read(by.id.as_str()).await?.ok_or(AppError::Unauthenticated)?;
        if user.record.password_hash != by.password_hash || user.record.suspended {
            return Err(AppError::Unauthenticated);
        }
        let opened = self.open_factor(&by.id).await?;
        let spent = opened.take(code, self.now())?;
        let conditions = rests_on(Transaction::new(), &user)?;
        let conditions = match &opened.factor {
            Some(found) => rests_on(conditions, found)?,
            None => conditions.absent(SecondFactor::key_at(by.id.as_str())?),
        };
        Ok(Proved { user, conditions, spent })
    }

    /// What the caller shows beside its session is good: the session alone makes nothing that outlasts it. Which part of
    /// it is not is not said.
    ///
    /// # Errors
    /// [`AppError::Invalid`]; [`AppError::Refused`] for who is no person.
    pub(super) async fn prove_caller(
        &self,
        caller: &Caller,
        proof: Proof,
    ) -> Result<User, AppError> {
        let user = self.user(person(caller)?).await?;
        self.prove(caller, &user.email, proof).await.map_err(not_proved)
    }

    /// [`App::proved`] for whom [`App::prove_caller`] has found.
    pub(super) async fn caller_proved(&self, by: &User, code: &str) -> Result<Proved, AppError> {
        self.proved(by, code).await.map_err(not_proved)
    }

    /// Somebody's second factor. That there is none takes as long.
    pub(super) async fn open_factor(&self, user: &UserId) -> Result<Opened, AppError> {
        let factor: Option<Decoded<SecondFactor>> = self.read(user.as_str()).await?;
        let seed = match &factor {
            Some(found) => {
                let sealed = BASE64.decode(found.record.sealed_seed.as_bytes());
                let sealed = sealed.map_err(AppError::internal)?;
                let context = [user.as_str().as_bytes()];
                let owner = Owner::Installation;
                let opened =
                    self.keyring.open_sealed(&owner, Purpose::Identity, &context, &sealed).await;
                opened.map_err(AppError::internal)?
            }
            None => {
                let seed = Zeroizing::new(vec![0; SEED_LEN]);
                self.seal_seed(user, &seed).await?;
                seed
            }
        };
        Ok(Opened { factor, seed })
    }

    /// A seed, sealed for this person, base 64.
    pub(super) async fn seal_seed(&self, user: &UserId, seed: &Seed) -> Result<String, AppError> {
        let context = [user.as_str().as_bytes()];
        let owner = Owner::Installation;
        let sealed = self.keyring.seal(&owner, Purpose::Identity, &context, seed).await;
        Ok(BASE64.encode(&sealed.map_err(AppError::internal)?))
    }
}

/// Who calls has a session, and is told that what they show beside it is wrong; not, which part of it.
fn not_proved(error: AppError) -> AppError {
    match error {
        AppError::Unauthenticated => {
            AppError::invalid("password", "is wrong, or the code is; or both were too often")
        }
        other => other,
    }
}
