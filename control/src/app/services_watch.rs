//! What whoever watches an environment's services is told.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weft_model::{
    ServiceName,
    access::Action,
    projection::{Document, DocumentId, ServiceDocument, Update},
    record::Environment,
};
use weft_store::Revision;
use weft_types::EnvironmentId;

use super::{App, AppError, Caller, EnvironmentReference};
use crate::crowd::{Crowd, Ousted, Place};

/// How often it is asked who the caller is by now: a session may have ended, a role been taken away.
const RECHECK: Duration = Duration::from_secs(10);
/// Watches of one environment at once.
const WATCHES_MAX: usize = 64;
/// Watches of all environments at once in one process: two for each of the 1,024 that an installation is made for. When
/// there are more, the environment that has the most loses its oldest.
///
/// Worst case: one whose reader takes nothing holds what it was to be told, with 1,024 services of 4 KiB of metadata and
/// 32 ports each some 6 MiB. All of them do so where 32 environments have all that they may: 12 GiB.
const ALL_WATCHES_MAX: usize = 2_048;

/// Places for watches, by environment.
#[derive(Debug)]
pub(super) struct Watches(Crowd<EnvironmentId>);

impl Default for Watches {
    fn default() -> Self {
        Self(Crowd::new(ALL_WATCHES_MAX))
    }
}

impl Watches {
    fn enter(&self, environment: &EnvironmentId) -> Result<Watching, AppError> {
        let entered = self.0.enter_below(environment.clone(), WATCHES_MAX);
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
    _place: Place<EnvironmentId>,
}

impl Watching {
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
        "{ALL_WATCHES_MAX} watches are all that there may be, and of these the environment has the most: its oldest ends"
    ))
}

/// What is new of an environment's services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNews {
    /// What the caller has after this.
    pub revision: Revision,
    /// This is everything; what it had before is void.
    pub is_snapshot: bool,
    /// Services as they are now.
    pub services: Vec<ServiceDocument>,
    /// Services that are no more.
    pub removed: Vec<ServiceName>,
}

/// Somebody who watches an environment's services.
pub struct ServicesWatch {
    app: Arc<App>,
    environment: Environment,
    after: Revision,
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
        let watching = app.watches.enter(&found.record.id)?;
        // What somebody has done before is in the first answer, by whichever process it was done.
        let environment = app.known(found).await?.environment.record;
        let (changes, recheck) = (app.view.changes(), Instant::now() + RECHECK);
        Ok(Self { app, environment, after, changes, is_first: true, recheck, watching })
    }

    /// The next news, when there is some. `None` when `gone` is. `caller` finds out who the caller is by now.
    ///
    /// # Errors
    /// [`AppError`] when it may not see the environment any more; [`AppError::Exhausted`] when others need its place.
    pub async fn next<C>(
        &mut self,
        gone: impl Future<Output = ()>,
        caller: impl Fn() -> C,
    ) -> Result<Option<ServiceNews>, AppError>
    where
        C: Future<Output = Result<Caller, AppError>>,
    {
        tokio::pin!(gone);
        loop {
            self.changes.mark_unchanged();
            if Instant::now() >= self.recheck {
                caller().await?.may_in(Action::SeeEnvironment, &self.environment)?;
                self.recheck = Instant::now() + RECHECK;
            }
            if let Some(news) = self.look()? {
                return Ok(Some(news));
            }
            tokio::select! {
                () = &mut gone => return Ok(None),
                () = self.watching.ousted() => return Err(no_place()),
                changed = self.changes.changed() => if changed.is_err() { return Ok(None) },
                () = sleep_until(self.recheck) => {}
            }
        }
    }

    /// Why it ends, once others need its place, also while whoever watches takes nothing of what it is told.
    pub async fn ousted(&mut self) -> AppError {
        self.watching.ousted().await;
        no_place()
    }

    fn look(&mut self) -> Result<Option<ServiceNews>, AppError> {
        let Self { app, environment, after, .. } = self;
        let id = &environment.id;
        let news = app.view.read(|state| {
            if state.get::<Environment>(id.as_str())?.is_none() {
                return Err(AppError::NotFound("environment"));
            }
            let projection = state.projection();
            let revision = projection.revision();
            // A revision of the future is of another store, or of one that was restored.
            let changes = if *after > Revision(0) && *after <= revision {
                projection.service_changes(id, *after).ok()
            } else {
                None
            };
            let is_snapshot = changes.is_none();
            let (mut services, mut removed) = (Vec::new(), Vec::new());
            for update in changes.into_iter().flatten() {
                match update {
                    Update::Put(Document::Service(service)) => services.push(service),
                    Update::Remove(DocumentId::Service(_, name)) => removed.push(name),
                    Update::Put(_) | Update::Remove(_) => {}
                }
            }
            if is_snapshot {
                services.extend(projection.services(id).cloned());
            }
            Ok(ServiceNews { revision, is_snapshot, services, removed })
        })?;
        self.after = news.revision;
        let is_first = std::mem::replace(&mut self.is_first, false);
        let says =
            is_first || news.is_snapshot || !news.services.is_empty() || !news.removed.is_empty();
        Ok(Some(news).filter(|_| says))
    }
}
