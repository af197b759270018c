//! What people do with their own accounts: password, sessions, second factor.

use data_encoding::BASE32_NOPAD;
use weft_model::{
    Decoded, Record,
    id::SessionId,
    placement::Decision,
    record::{SecondFactor, Session, User},
    second_factor::{self, Shown},
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{
    App, AppError, Caller, Proof, authentication::person, environments::rests_on,
    passwords::check_password, proof::recovery_hash, sessions::email_hash, sources::Before,
};
use crate::{
    secret::{self, random},
    totp::{self, SEED_LEN, Seed},
};

/// Recovery codes of a second factor.
const RECOVERY_CODES: usize = 10;
/// Bytes of a recovery code: 80 bits, so that its hash needs no salt and no slowness.
const RECOVERY_LEN: usize = 10;

/// A second factor that is not confirmed yet.
pub struct NewFactor {
    /// What is typed into an authenticator.
    pub seed: Zeroizing<String>,
    /// What an authenticator reads from a picture.
    pub uri: Zeroizing<String>,
}

impl App {
    /// The caller has another password, and no session but this one, which has the secret `shown`.
    ///
    /// # Errors
    /// [`AppError::Invalid`] when what is shown is wrong.
    pub async fn change_password(
        &self,
        caller: &Caller,
        shown: &str,
        proof: Proof,
        new: Zeroizing<String>,
    ) -> Result<(), AppError> {
        check_password("new_password", &new)?;
        let code = proof.code.clone();
        let by = self.prove_caller(caller, proof).await?;
        let password_hash = self.passwords.hash(caller.into(), new).await?;
        let session = secret::hash(shown);
        transact!(self, {
            let (user, transaction) = self.caller_proved(&by, &code).await?.spend()?;
            let forgotten = Before::Forgotten;
            let transaction = self.remember_source(caller, &user, forgotten, transaction).await?;
            let own: Decoded<Session> =
                self.read(&session).await?.ok_or(AppError::Unauthenticated)?;
            let era = user.era + 1;
            let after = User { password_hash: password_hash.clone(), era, ..user };
            let kept = Session { era, ..own.record.clone() };
            let transaction = rests_on(transaction, &own)?
                .put(after.key()?, after.encode()?)
                .put(kept.key()?, kept.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })
    }

    /// The caller's sessions, and whether each is the one with this secret.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_sessions(
        &self,
        caller: &Caller,
        shown: &str,
    ) -> Result<Vec<(Session, bool)>, AppError> {
        let user = self.user_seen(person(caller)?, &caller.sight).await?;
        let own = secret::hash(shown);
        let listed = self.sessions_of(&user)?.into_iter().map(|found| found.record);
        let mut listed: Vec<_> = listed
            .map(|session| {
                let is_own = session.secret_hash == own;
                (session, is_own)
            })
            .collect();
        listed.sort_by(|(one, _), (other, _)| {
            (one.created, &one.id).cmp(&(other.created, &other.id))
        });
        Ok(listed)
    }

    pub(super) fn sessions_of(&self, user: &User) -> Result<Vec<Decoded<Session>>, AppError> {
        let now = self.now();
        let is_good = |session: &Session| session.era == user.era && session.expires > now;
        Ok(self.view.read(|state| state.owned(&user.id, None, is_good, usize::MAX))?)
    }

    /// One of the caller's sessions ends.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub async fn end_session(&self, caller: &Caller, id: &SessionId) -> Result<(), AppError> {
        let user = self.user(person(caller)?).await?;
        let mut own = self.sessions_of(&user)?.into_iter();
        let found = own.find(|found| found.record.id == *id);
        let found = found.ok_or(AppError::NotFound("session"))?;
        let key = found.record.key()?;
        transact!(self, Ok(Decision::Commit(Transaction::new().delete(key.clone()), ())))
    }

    /// Makes a second factor, which counts once it is confirmed; in place of one that was not.
    ///
    /// # Errors
    /// [`AppError::State`] where there is one already.
    pub async fn enrol_second_factor(
        &self,
        caller: &Caller,
        proof: Proof,
    ) -> Result<NewFactor, AppError> {
        let id = person(caller)?;
        let found: Option<Decoded<SecondFactor>> = self.read(id.as_str()).await?;
        if found.is_some_and(|found| found.record.confirmed) {
            return Err(there_is_one());
        }
        let code = proof.code.clone();
        let by = self.prove_caller(caller, proof).await?;
        let seed: Seed = Zeroizing::new(random::<SEED_LEN>().to_vec());
        let sealed_seed = self.seal_seed(id, &seed).await?;
        transact!(self, {
            let proved = self.caller_proved(&by, &code).await?;
            if proved.spent.is_some() {
                return Err(there_is_one());
            }
            let factor = SecondFactor {
                user: id.clone(),
                sealed_seed: sealed_seed.clone(),
                confirmed: false,
                last_step: 0,
                recovery: Vec::new(),
                created: self.now(),
            };
            let transaction = proved.conditions.put(factor.key()?, factor.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        let uri = totp::uri(self.installation().as_str(), &by.email, &seed);
        Ok(NewFactor { seed: totp::spell(&seed), uri })
    }

    /// The caller has shown that their second factor works: from now on it counts. Returns its recovery codes.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for another code.
    pub async fn confirm_second_factor(
        &self,
        caller: &Caller,
        code: &str,
    ) -> Result<Vec<Zeroizing<String>>, AppError> {
        let id = person(caller)?;
        let address = email_hash(&self.user(id).await?.email);
        let counted = self.counted(caller, &address, id).await?;
        let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let recovery: Vec<String> = codes.iter().map(|code| recovery_hash(code)).collect();
        transact!(self, {
            let opened = self.open_factor(id).await?;
            let found = opened.factor.filter(|found| !found.record.confirmed);
            let found = found.ok_or_else(|| AppError::State("there is none to confirm".into()))?;
            let is_of = |step| totp::is_code_at(&opened.seed, step, code);
            let taken = second_factor::take(&found.record, Shown::Code(&is_of), self.now());
            let wrong = |_| AppError::invalid("code", "is not the one of now: is the clock right?");
            self.count_proof(&counted, taken.is_some()).map_err(wrong)?;
            let taken = taken.ok_or(AppError::Unauthenticated)?;
            let after = SecondFactor { confirmed: true, recovery: recovery.clone(), ..taken };
            let transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        Ok(codes)
    }

    /// The caller has no second factor any more.
    ///
    /// # Errors
    /// [`AppError::Invalid`] when what is shown is wrong.
    pub async fn disable_second_factor(
        &self,
        caller: &Caller,
        proof: Proof,
    ) -> Result<(), AppError> {
        let id = person(caller)?;
        let code = proof.code.clone();
        let by = self.prove_caller(caller, proof).await?;
        transact!(self, {
            let proved = self.caller_proved(&by, &code).await?;
            let transaction = proved.conditions.delete(SecondFactor::key_at(id.as_str())?);
            Ok(Decision::Commit(transaction, ()))
        })
    }
}

fn there_is_one() -> AppError {
    AppError::State("there is a second factor already; disable it first".into())
}

/// Four groups of four characters.
fn recovery_code() -> Zeroizing<String> {
    let letters = Zeroizing::new(BASE32_NOPAD.encode(&random::<RECOVERY_LEN>()).to_lowercase());
    let groups: Vec<&str> = (0..4).filter_map(|n| letters.get(n * 4..n * 4 + 4)).collect();
    Zeroizing::new(groups.join("-"))
}
