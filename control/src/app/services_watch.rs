//! What whoever watches an environment's services is told.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot::error::TryRecvError, watch},
    time::{Instant, sleep_until},
};
use weft_model::{
    OrganisationId,
    access::Action,
    projection::{ServiceCursor, ServiceDocument, ServicePart},
    record::Environment,
};
use weft_store::Revision;
use weft_types::EnvironmentId;

use super::{App, AppError, Caller, EnvironmentReference};
use crate::crowd::{Comer, Crowd, Ousted, Place};

/// How often it is asked who the caller is by now: a session may have ended, a role been taken away.
const RECHECK: Duration = Duration::from_secs(10);
/// Watches of one environment at once.
const WATCHES_MAX: usize = 64;
/// Watches of all environments at once in one process: two for each of the 1,024 that an installation is made for. When
/// there are more, the organisation that has the most loses one: of its environment that has the most, the oldest.
///
/// One whose reader takes nothing is a cursor here, and on its connection one piece of what it is told ([`PART_LEN_MAX`]).
const ALL_WATCHES_MAX: usize = 2_048;
/// Bytes of services in a part of what is told; a single service may have more.
///
/// Worst case: a piece that waits on its connection has two parts, where the first has just not filled 32 KiB, in a buffer
/// that has doubled as it grew: 128 KiB for each watch, 256 MiB for all of them. A service is larger than a part from
/// some 120 instances on: with 1,000 instances of the longest names and four addresses each it has 260 KiB, 0.6 MiB in
/// such a buffer, and 1.2 GiB are so where 32 environments have all the containers that they may in one service and none
/// of all readers reads.
pub const PART_LEN_MAX: usize = 32 << 10;

/// Whose a watch is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Watched {
    organisation: OrganisationId,
    environment: EnvironmentId,
}

impl Comer for Watched {
    type Owner = OrganisationId;

    fn owner(&self) -> &OrganisationId {
        &self.organisation
    }
}

/// Places for watches, by environment.
#[derive(Debug)]
pub(super) struct Watches(Crowd<Watched>);

impl Default for Watches {
    fn default() -> Self {
        Self(Crowd::new(ALL_WATCHES_MAX))
    }
}

impl Watches {
    fn enter(&self, environment: &Environment) -> Result<Watching, AppError> {
        let Environment { organisation, id, .. } = environment;
        let watched = Watched { organisation: organisation.clone(), environment: id.clone() };
        let entered = self.0.enter_below(watched, WATCHES_MAX);
        let (place, ousted) = entered.ok_or_else(|| {
            let problem = format!("the environment's limit of {WATCHES_MAX} watches is reached");
            AppError::Exhausted(problem)
        })?;
        Ok(Watching { ousted: Some(ousted), _place: place })
    }
}

/// A place among those who watch.
#[derive(Debug)]
struct Watching {
    /// `None` when it was.
    ousted: Option<Ousted>,
    _place: Place<Watched>,
}

impl Watching {
    fn is_ousted(&mut self) -> bool {
        let is_ousted = |ousted: &mut Ousted| ousted.try_recv() != Err(TryRecvError::Empty);
        if self.ousted.as_mut().is_none_or(is_ousted) {
            self.ousted = None;
        }
        self.ousted.is_none()
    }

    /// Ends when others need the place.
    async fn ousted(&mut self) {
        if let Some(ousted) = &mut self.ousted {
            let _ = ousted.await;
            self.ousted = None;
        }
    }
}

fn no_place() -> AppError {
    AppError::Exhausted(format!(
        "{ALL_WATCHES_MAX} watches are all that there may be, and of these the organisation has the most: the oldest of \
         its environment that has the most ends"
    ))
}

/// Somebody who watches an environment's services. It makes what it tells when it is asked for it.
pub struct ServicesWatch {
    app: Arc<App>,
    environment: Environment,
    cursor: ServiceCursor,
    changes: watch::Receiver<Revision>,
    /// It has been told nothing yet: the first answer comes at once, also when it is empty.
    is_first: bool,
    recheck: Instant,
    watching: Watching,
}

impl ServicesWatch {
    /// Begins to watch after what the caller has; 0 for nothing.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn begin(
        app: Arc<App>,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Revision,
    ) -> Result<Self, AppError> {
        let found = app.environment(caller, Action::SeeEnvironment, reference).await?;
        let watching = app.watches.enter(&found.record)?;
        // What somebody has done before is in the first answer, by whichever process it was done.
        app.caught_up(&found.record.id, &caller.sight).await?;
        let environment = found.record;
        let (changes, recheck) = (app.view.news_of(&environment.id), Instant::now() + RECHECK);
        let cursor = ServiceCursor::after(after);
        Ok(Self { app, environment, cursor, changes, is_first: true, recheck, watching })
    }

    /// The next part, when something is new; `None` when the process ends. `caller` finds out who the caller is by now;
    /// `convert` makes of a service what is told, and says how many bytes that has.
    ///
    /// # Errors
    /// [`AppError`] when it may not see the environment any more; [`AppError::Exhausted`] when others need its place.
    pub async fn next<T, C>(
        &mut self,
        caller: impl Fn() -> C,
        convert: impl Fn(&ServiceDocument) -> (T, usize),
    ) -> Result<Option<ServicePart<T>>, AppError>
    where
        C: Future<Output = Result<Caller, AppError>>,
    {
        loop {
            self.changes.mark_unchanged();
            if self.watching.is_ousted() {
                return Err(no_place());
            }
            if Instant::now() >= self.recheck {
                caller().await?.may_in(Action::SeeEnvironment, &self.environment)?;
                self.recheck = Instant::now() + RECHECK;
            }
            if let Some(part) = self.look(&convert)? {
                return Ok(Some(part));
            }
            tokio::select! {
                () = self.watching.ousted() => return Err(no_place()),
                changed = self.changes.changed() => if changed.is_err() { return Ok(None) },
                () = sleep_until(self.recheck) => {}
            }
        }
    }

    fn look<T>(
        &mut self,
        convert: impl Fn(&ServiceDocument) -> (T, usize),
    ) -> Result<Option<ServicePart<T>>, AppError> {
        let Self { app, environment, cursor, .. } = self;
        let (id, is_amid) = (&environment.id, cursor.is_amid());
        let part = app.view.read(|state| {
            if state.get::<Environment>(id.as_str())?.is_none() {
                return Err(AppError::NotFound("environment"));
            }
            Ok(state.projection().next_services(id, cursor, PART_LEN_MAX, convert))
        })?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        // A last part is one, also when there is nothing left to say in it.
        Ok(Some(part).filter(|part| is_first || is_amid || part.says_something()))
    }
}
