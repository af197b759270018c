//! Environments' policies: compiled here, handed to all workers, and what they deny told.

use std::{sync::Arc, time::Instant};

use weft_proto::{
    Denial, Direction,
    policy::{Guard, Rules},
};
use weft_types::EnvironmentId;

use super::{EventKind, Node, NodeEvent, RequestError};
use crate::worker::Command;

impl Node {
    /// Judges an environment's packets by these rules from now on; without any everything is allowed. What
    /// runs and is allowed goes on.
    pub(super) fn set_policy(
        &mut self,
        id: &EnvironmentId,
        rules: Option<&Rules>,
    ) -> Result<(), RequestError> {
        let workers = self.workers.len();
        let state = self.environment_mut(id)?;
        let guard = match rules {
            Some(rules) => Some(Arc::new(next_guard(state.guard.as_deref(), rules, workers)?)),
            None => None,
        };
        state.guard.clone_from(&guard);
        let slot = state.place.slot;
        self.command_all(|_| Command::SetPolicy(slot, guard.clone()));
        self.publish(NodeEvent::new(EventKind::EnvironmentChanged, "policy changed").of(id));
        Ok(())
    }

    /// A worker has denied a packet. It says so of few, and counts all.
    pub(super) fn handle_denied(&self, denial: &Denial) {
        let of = |state: &&_| -> bool {
            let state: &super::environment::EnvironmentState = state;
            state.place.slot == denial.environment
        };
        let Some((id, state)) = self.environments.iter().find(|(_, state)| of(state)) else {
            return;
        };
        let guard = state.guard.as_ref().filter(|g| g.generation() == denial.generation);
        let (source, destination) = endpoints(denial);
        tracing::info!(
            environment = id.as_str(),
            rule = guard.map(|guard| guard.name(denial.ground)),
            %source,
            %destination,
            protocol = %denial.tuple.protocol,
            direction = match denial.direction {
                Direction::Out => "out",
                Direction::In => "in",
            },
            "a packet is denied by policy"
        );
    }
}

/// What workers judge by from now on, after what they judge by now.
fn next_guard(
    present: Option<&Guard>,
    rules: &Rules,
    workers: usize,
) -> Result<Guard, RequestError> {
    let policy = rules.compile().map_err(|error| RequestError::Invalid(error.to_string()))?;
    if let Some(present) = present {
        return Ok(present.replaced_by(policy));
    }
    let no_random = |error| RequestError::Precondition(format!("no random number: {error}"));
    let seed = getrandom::u64().map_err(no_random)?;
    Ok(Guard::new(Instant::now(), policy, workers, seed))
}

/// Source and destination, with ports where there are any.
fn endpoints(denial: &Denial) -> (String, String) {
    let tuple = &denial.tuple;
    match tuple.ports {
        Some((from, to)) => (
            std::net::SocketAddr::new(tuple.source, from).to_string(),
            std::net::SocketAddr::new(tuple.destination, to).to_string(),
        ),
        None => (tuple.source.to_string(), tuple.destination.to_string()),
    }
}
