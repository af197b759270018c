//! Who a host is, and who it was before its last renewal.
//!
//! ```text
//!  present  shown first, always                          refused as unknown ──┐
//!  former   shown once then, and renewed with at once ◀───────────────────────┘
//! ```
//!
//! A control plane whose store was restored from a copy knows the key of before. One that knows the newer key accepts no
//! former one, so what is tried in vain gives nothing away. It is destroyed when its certificate ends.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use weft_types::HostId;

use crate::{
    enrol,
    state::{Identity, State, StateError},
};

/// How soon after it was accepted the former identity may be shown again: where processes of a control plane disagree
/// about a host, it does not go to and fro between them.
pub(crate) const FORMER_PAUSE: Duration = Duration::from_secs(60);

/// What a host can show.
#[derive(Clone)]
pub(crate) struct Identities {
    /// `None` until it has joined.
    pub(crate) present: Option<Identity>,
    former: Option<Former>,
    is_former_shown: bool,
    /// When the former one may be shown again that was accepted.
    former_after: Option<Instant>,
}

#[derive(Clone)]
struct Former {
    identity: Identity,
    end: SystemTime,
}

/// What there is for a host whose present identity is refused as unknown.
pub(crate) enum Fallback {
    /// The identity of before.
    Former(Box<Identity>),
    /// It was shown a short time ago.
    Waits,
    /// There is none.
    Nothing,
}

impl Identities {
    /// What the host has kept. A former identity that is of no use is destroyed.
    ///
    /// # Errors
    /// [`StateError`], of the present one.
    pub(crate) fn open(state: &State, host: &HostId, now: SystemTime) -> Result<Self, StateError> {
        let present = state.identity(host)?;
        let kept = state.former(host).unwrap_or_else(|error| {
            tracing::warn!(%error, "the identity of before is no use");
            None
        });
        // It stays beside the present one when its host stops at the wrong moment.
        let is_present = |kept: &Identity| present.as_ref().is_some_and(|p| p.key == kept.key);
        let former = kept.filter(|kept| !is_present(kept)).and_then(Former::new);
        if former.is_none() {
            state.forget_former();
        }
        let mut identities = Self { present, former, is_former_shown: false, former_after: None };
        identities.destroy_ended(state, now);
        Ok(identities)
    }

    /// Destroys the former identity once its certificate has ended.
    pub(crate) fn destroy_ended(&mut self, state: &State, now: SystemTime) {
        if self.former.take_if(|former| former.end <= now).is_some() {
            state.forget_former();
            tracing::info!("the identity of before has ended and is destroyed");
        }
    }

    /// The one that the connection shows.
    pub(crate) fn shown(&self) -> Option<&Identity> {
        match self.is_former_shown {
            true => self.former.as_ref().map(|former| &former.identity),
            false => self.present.as_ref(),
        }
    }

    /// Whether that is the former one.
    pub(crate) fn is_former_shown(&self) -> bool {
        self.is_former_shown
    }

    /// A connection begins: it shows the present one.
    pub(crate) fn show_present(&mut self) {
        self.is_former_shown = false;
    }

    /// What is shown after the present one was refused as unknown.
    pub(crate) fn fallback(&self, now: Instant) -> Fallback {
        match &self.former {
            None => Fallback::Nothing,
            Some(_) if self.former_after.is_some_and(|after| now < after) => Fallback::Waits,
            Some(former) => Fallback::Former(Box::new(former.identity.clone())),
        }
    }

    /// The former one is accepted.
    pub(crate) fn former_is_accepted(&mut self, now: Instant) {
        self.is_former_shown = true;
        self.former_after = Some(now + FORMER_PAUSE);
    }

    /// Another one takes the place of the present one; the one that was shown to get it is the former one.
    pub(crate) fn renewed(&mut self, renewed: Identity) {
        self.former = self.shown().cloned().and_then(Former::new);
        self.is_former_shown = false;
        self.present = Some(renewed);
    }

    /// The host has joined: nothing of before counts.
    pub(crate) fn joined(&mut self, identity: Identity) {
        self.former = None;
        self.is_former_shown = false;
        self.present = Some(identity);
    }
}

impl Former {
    /// `None` for one whose end cannot be read.
    fn new(identity: Identity) -> Option<Self> {
        let end = enrol::end(&identity)?;
        Some(Self { identity, end })
    }
}

#[cfg(test)]
mod tests;
