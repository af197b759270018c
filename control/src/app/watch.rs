//! What a host is told, as long as it listens.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use weft_model::{
    access::{Action, Object},
    projection::Update,
};
use weft_store::Revision;
use weft_types::HostId;

use super::{App, AppError, Caller};
use crate::crowd::{Comer, Place};

impl Comer for HostId {
    type Owner = Self;

    fn owner(&self) -> &Self {
        self
    }
}

/// How often it is looked whether the host may still listen, when there is no news.
pub(super) const RECHECK: Duration = Duration::from_secs(10);

/// What a host is told that listens a second time.
const ANEW: &str = "the host listens anew: what it began before ends";

/// What is new for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What it has after this.
    pub revision: Revision,
    /// This is everything; what it had before is void.
    pub is_snapshot: bool,
    /// In this order.
    pub updates: Vec<Update>,
}

/// A host that listens.
pub struct HostWatch {
    app: Arc<App>,
    host: HostId,
    key_hash: String,
    after: Revision,
    news: watch::Receiver<Revision>,
    /// It has been told nothing yet: the first answer comes at once, also when it is empty.
    is_first: bool,
    _place: Place<HostId>,
    /// This process did not see what is stored when it was last looked.
    was_blind: bool,
}

impl HostWatch {
    /// Begins to listen after what the host has; 0 for nothing. With a key that counts since just now it waits until the
    /// view knows that, too. With it comes what ends when the host listens anew, with the reason: to each process a host
    /// listens once.
    ///
    /// # Errors
    /// [`AppError`]: [`AppError::Behind`] when another process may tell it more.
    pub async fn begin(
        app: Arc<App>,
        caller: &Caller,
        after: Revision,
    ) -> Result<(Self, impl Future<Output = AppError> + Send + use<>), AppError> {
        let host = App::calling_host(caller)?.clone();
        caller.may(Action::ActAsHost, Object::Host(&host))?;
        if is_blind(&app) {
            return Err(AppError::Behind);
        }
        let key_hash = caller.key_hash.clone().ok_or(AppError::Unauthenticated)?;
        let known = app.host_by_key(&host, &key_hash).await?;
        app.view.reached(known.modified).await?;
        let news = app.view.news(&host);
        let (place, ousted) = app.listening.enter_own(host.clone(), 1);
        let (is_first, was_blind) = (true, false);
        let (whose, by) = ((Arc::clone(&app), host.clone()), key_hash.clone());
        let watch = Self { app, host, key_hash, after, news, is_first, was_blind, _place: place };
        Ok((watch, async move {
            drop(ousted.await);
            let (app, host) = whose;
            let known = app.view.read(|state| state.projection().host(&host).cloned());
            match known.and_then(|known| known.admits(&by)) {
                Some(_) => AppError::Exhausted(ANEW.to_owned()),
                None => AppError::Unauthenticated,
            }
        }))
    }

    /// The next news, when there is some. `None` when `gone` is.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] when the host is shut out, or another of its keys has taken over; [`AppError::Behind`]
    /// when this process does not see what is stored, for longer than a moment, or hears nothing of the store for
    /// [`super::HOSTS_SEEN_MAX`]: the host calls another one then.
    pub async fn next(&mut self, gone: impl Future<Output = ()>) -> Result<Option<News>, AppError> {
        tokio::pin!(gone);
        loop {
            self.news.mark_unchanged();
            if let Some(news) = self.look()? {
                return Ok(Some(news));
            }
            tokio::select! {
                () = &mut gone => return Ok(None),
                changed = self.news.changed() => if changed.is_err() { return Ok(None) },
                () = sleep(RECHECK) => {
                    let is_blind = is_blind(&self.app);
                    let was_blind = std::mem::replace(&mut self.was_blind, is_blind);
                    if was_blind && is_blind || self.app.is_cut_off() {
                        return Err(AppError::Behind);
                    }
                }
            }
        }
    }

    fn look(&mut self) -> Result<Option<News>, AppError> {
        let Self { app, host, key_hash, after, .. } = self;
        let looked = app.view.read(|state| {
            let projection = state.projection();
            if projection.host(host).and_then(|host| host.admits(key_hash)).is_none() {
                return Err(AppError::Unauthenticated);
            }
            let revision = projection.revision();
            // A revision of the future is of another store, or of one that was restored.
            let changes = if *after > Revision(0) && *after <= revision {
                projection.changes(host, *after).ok()
            } else {
                None
            };
            Ok(match changes {
                Some(updates) => News { revision, is_snapshot: false, updates },
                None => News { revision, is_snapshot: true, updates: projection.snapshot(host) },
            })
        })?;
        self.after = looked.revision;
        let is_first = std::mem::replace(&mut self.is_first, false);
        Ok(Some(looked).filter(|news| is_first || news.is_snapshot || !news.updates.is_empty()))
    }
}

fn is_blind(app: &App) -> bool {
    app.view.trouble().borrow().is_some()
}
