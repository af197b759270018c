//! Authorities of environments: how they are made, and give way to their next generation.
//!
//! Somebody's call begins it, or the end of an authority that comes near; background work goes on with it when its time
//! has come. What is decided is in [`weft_model::rotation`].

use data_encoding::BASE64;
use weft_audit::{Fact, Facts, Word};
use weft_keys::{Owner, Purpose};
use weft_model::{
    Decoded, Record,
    access::Action,
    placement::Decision,
    record::{
        Attachment, Authority, AuthorityState, Environment, EnvironmentState, Heartbeat, HostState,
    },
    rotation::{AUTHORITY_DAYS, Generations, Step, Wanted},
};
use weft_pki::{
    EnvironmentIdentity, KeyKind,
    issue::{self, Validity},
};
use weft_store::{LIST_LEN_MAX, Revision, Transaction};
use weft_types::EnvironmentId;

use super::{App, AppError, Caller, EnvironmentReference, Turn};
use crate::{audit, view::State};

/// A new generation is trusted: the end of the present one comes near.
const PREPARE: Word = Word::new("environments.prepare-authority");
/// The next generation issues.
const SWITCH: Word = Word::new("environments.switch-authority");
/// Earlier generations are forgotten.
const RETIRE: Word = Word::new("environments.retire-authority");
/// Which generation issues then, or is trusted.
const GENERATION: Word = Word::new("generation");

/// What an environment's authority is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The generation that is to be replaced, as it was seen.
    pub replaces: u32,
    /// Its key is stolen: nothing of it, or of any before, is trusted any more from this moment on.
    pub is_emergency: bool,
}

/// All generations of an environment's authority, as they are in the live copy.
///
/// # Errors
/// [`weft_model::RecordError`] when one is damaged.
pub(super) fn generations(
    state: &State,
    environment: &EnvironmentId,
) -> Result<Generations, weft_model::RecordError> {
    state.list::<Authority>(&format!("{environment}/"), None, usize::MAX).map(Generations::new)
}

impl App {
    pub(super) async fn new_authority(
        &self,
        environment: &Environment,
        generation: u32,
        state: AuthorityState,
    ) -> Result<Authority, AppError> {
        let time = self.clock.system_time();
        let owner = Owner::Environment(environment.id.clone());
        self.keyring.create(&owner, time).await?;
        let identity = EnvironmentIdentity {
            installation: self.authority.installation().clone(),
            environment: environment.id.clone(),
        };
        let validity = Validity::days(time, issue::AUTHORITY_BACKDATE, AUTHORITY_DAYS);
        let issued = issue::new_authority(&identity, validity, KeyKind::EcdsaP256)?;
        let context = generation.to_be_bytes();
        let sealed = self
            .keyring
            .seal(&owner, Purpose::CertificateAuthority, &[&context], issued.key_pem.as_bytes())
            .await
            .map_err(AppError::internal)?;
        Ok(Authority {
            environment: environment.id.clone(),
            generation,
            state,
            certificate: issued.certificate_pem,
            sealed_key: BASE64.encode(&sealed),
            created: self.now(),
            since: None,
        })
    }

    /// As they are in the store itself.
    async fn read_generations(&self, environment: &EnvironmentId) -> Result<Generations, AppError> {
        let prefix = Authority::prefix(&format!("{environment}/"));
        let page = self.store.list(&prefix, None, LIST_LEN_MAX).await?;
        let all = page.entries.iter().map(Authority::decode).collect::<Result<_, _>>()?;
        Ok(Generations::new(all))
    }

    /// Begins to replace an environment's authority, or replaces it at once. Asked again, nothing more happens.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn rotate_authority(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        rotation: Rotation,
    ) -> Result<Decoded<Environment>, AppError> {
        transact!(self, {
            let found = self.environment(caller, Action::ManageEnvironment, reference).await?;
            if !matches!(found.record.state, EnvironmentState::Active | EnvironmentState::Suspended)
            {
                return Err(AppError::State("the environment is being deleted".to_owned()));
            }
            let known = self.read_generations(&found.record.id).await?;
            let transaction = self.decide_rotation(&found, &known, rotation).await?;
            Ok(match transaction {
                None => Decision::Already(()),
                Some(transaction) => Decision::Commit(transaction, ()),
            })
        })?;
        self.environment(caller, Action::ManageEnvironment, reference).await
    }

    async fn decide_rotation(
        &self,
        environment: &Decoded<Environment>,
        known: &Generations,
        rotation: Rotation,
    ) -> Result<Option<Transaction>, AppError> {
        let Rotation { replaces, is_emergency } = rotation;
        let wanted =
            if is_emergency { known.wanted_at_once(replaces)? } else { known.wanted(replaces)? };
        let state = if is_emergency { AuthorityState::Current } else { AuthorityState::Next };
        Ok(match wanted {
            Wanted::Already => None,
            Wanted::Distrust => Some(known.distrust(replaces)?),
            Wanted::New(generation) => {
                let new = self.new_authority(&environment.record, generation, state).await?;
                Some(if is_emergency {
                    known.replace(environment, &new)?
                } else {
                    known.begin(environment, &new)?
                })
            }
        })
    }

    /// Goes on with rotations whose time has come, and begins those of authorities that end soon.
    ///
    /// # Errors
    /// [`AppError::Superseded`], or [`AppError::Internal`] when a record is damaged. Where something else fails it is done
    /// the next time.
    pub async fn go_on_with_rotations(&self, turn: &Turn) -> Result<(), AppError> {
        // A key that was forgotten too early does not come back.
        if self.time().doubt.is_some() {
            return Ok(());
        }
        let environments =
            self.view.read(|state| state.list::<Environment>("", None, usize::MAX))?;
        for environment in environments {
            if matches!(
                environment.record.state,
                EnvironmentState::Active | EnvironmentState::Suspended
            ) {
                match self.go_on_with(turn, &environment).await {
                    Err(AppError::Superseded) => return Err(AppError::Superseded),
                    Err(error) => {
                        // Others' go on.
                        let environment = &environment.record.id;
                        tracing::warn!(%environment, %error, "a rotation does not go on yet");
                    }
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    async fn go_on_with(
        &self,
        turn: &Turn,
        environment: &Decoded<Environment>,
    ) -> Result<(), AppError> {
        let (id, now) = (&environment.record.id, self.now());
        let lives = environment.record.lifetimes;
        let (known, everybody) = self.view.read(|state| {
            let known = generations(state, id)?;
            let everybody = match known.next() {
                Some(next) => has_everybody(state, id, next.modified)?,
                None => true,
            };
            Ok::<_, AppError>((known, everybody))
        })?;
        let (word, generation, transaction) = if let Some(step) = known.due(lives, everybody, now) {
            let word = match step {
                Step::Switch => SWITCH,
                Step::Retire => RETIRE,
            };
            let issues = match (step, known.next()) {
                (Step::Switch, Some(next)) => next.record.generation,
                _ => known.current()?.record.generation,
            };
            (word, issues, known.step(step, lives, now)?)
        } else if known.ends_soon(now) {
            let replaces = known.current()?.record.generation;
            let Wanted::New(generation) = known.wanted(replaces)? else { return Ok(()) };
            let new =
                self.new_authority(&environment.record, generation, AuthorityState::Next).await?;
            (PREPARE, generation, known.begin(environment, &new)?)
        } else {
            return Ok(());
        };
        let call =
            self.recorder.own(word, audit::environment(id, &environment.record.organisation));
        call.begin().await?;
        let made = match self.commit_in(turn, transaction).await {
            Ok(true) => Ok(()),
            // Somebody has rotated it meanwhile: the next time.
            Ok(false) => Err(AppError::Changed("authority")),
            Err(error) => Err(error),
        };
        let facts = Facts::none().with(GENERATION, Fact::Number(generation.into()));
        call.end(made.as_ref().map(|()| facts)).await?;
        match made {
            Err(AppError::Changed(_)) => Ok(()),
            made => made,
        }
    }
}

/// Whether every host that has an attachment in an environment has carried out what was so at `revision`.
fn has_everybody(
    state: &State,
    environment: &EnvironmentId,
    revision: Revision,
) -> Result<bool, weft_model::RecordError> {
    let attachments = state.list::<Attachment>(&format!("{environment}/"), None, usize::MAX)?;
    for attachment in attachments {
        let host = attachment.record.host;
        let known = state.projection().host(&host);
        if known.is_none_or(|known| known.state == HostState::Revoked) {
            continue;
        }
        let said = state.get::<Heartbeat>(host.as_str())?;
        if said.is_none_or(|said| said.record.revision < revision.0) {
            return Ok(false);
        }
    }
    Ok(true)
}
