//! What is changed about environments after they were made.

use weft_model::{
    Decoded, Record,
    access::Action,
    placement::Decision,
    record::{Environment, EnvironmentState},
    settings::Change,
};
use weft_store::Transaction;

use super::{App, AppError, Caller, EnvironmentReference, environments::rests_on};

impl App {
    /// Changes settings of an environment; what is not said stays.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn update_environment(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        change: &Change,
    ) -> Result<Decoded<Environment>, AppError> {
        transact!(self, {
            let found = self.environment(caller, Action::SeeEnvironment, reference).await?;
            let before = &found.record;
            if !change.is_allowed(|action| caller.may_in(action, before).is_ok()) {
                return Err(AppError::Refused);
            }
            if !matches!(before.state, EnvironmentState::Active | EnvironmentState::Suspended) {
                return Err(AppError::State("the environment is being deleted".to_owned()));
            }
            let after = change.of(before, self.now())?;
            if after == *before {
                return Ok(Decision::Already(()));
            }
            let transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        self.environment(caller, Action::SeeEnvironment, reference).await
    }
}
