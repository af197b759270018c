//! Policies of environments.

use weft_model::{
    Decoded, Record,
    access::Action,
    placement::Decision,
    policy::{Policy, Rule, Verdict},
};
use weft_store::Transaction;

use super::{App, AppError, Caller, EnvironmentReference, environments::rests_on};

impl App {
    /// An environment's policy.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_policy(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
    ) -> Result<Policy, AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let id = environment.record.id;
        let found: Option<Decoded<Policy>> = self.look_up(&caller.sight, id.as_str()).await?;
        Ok(found.map_or_else(|| Policy::open(id), |found| found.record))
    }

    /// Replaces an environment's policy, if it is at `version`.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_policy(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        version: u64,
        default: Verdict,
        rules: Vec<Rule>,
    ) -> Result<Policy, AppError> {
        transact!(self, {
            let environment =
                self.environment(caller, Action::ManageEnvironment, reference).await?;
            let id = &environment.record.id;
            let found: Option<Decoded<Policy>> = self.read(id.as_str()).await?;
            if found.as_ref().map_or(0, |found| found.record.version) != version {
                return Err(AppError::Changed("policy"));
            }
            let policy = Policy {
                environment: id.clone(),
                version: version + 1,
                default,
                rules: rules.clone(),
            };
            policy.check()?;
            let transaction = rests_on(Transaction::new(), &environment)?;
            let transaction = match &found {
                Some(found) => rests_on(transaction, found)?,
                None => transaction.absent(policy.key()?),
            };
            Ok(Decision::Commit(transaction.put(policy.key()?, policy.encode()?), policy))
        })
    }
}
