//! What calls leave in the audit, and that nothing is done without.
//!
//! ```text
//!   Change      begin ─▶ decide, commit ─▶ finish ─▶ answer
//!   Admission            decide ─▶ begin ─▶ commit ─▶ finish ─▶ answer     begun when the secret was good
//!   Sensitive            decide ─▶ record ─▶ answer
//!   Plain, Seen          decide ─▶ answer                                  recorded when refused
//! ```
//!
//! When something cannot be recorded it is not done. Refusals, and what fails by the fault of who calls, are bounded, so
//! that nobody fills the disk with them; how many were left out is recorded in turn. What is done is bounded by how often
//! somebody may do something.

mod blobs;
mod bounds;
mod installed;
mod payers;
mod reader;
mod turns;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_audit::{
    Actor as Who, Audit, Event, ExpireError, Fact, Facts, Name, Object, Origin, Outcome, Pending,
    Refused, RequestId, Word,
};
use weft_model::{
    OrganisationId,
    access::Actor,
    rate::{Rate, Rates},
};
use weft_types::{EnvironmentId, HostId};

pub use self::{
    blobs::{
        BlobPlace, BlobReader, BlobUrl, Blobs, CREDENTIALS_LEN_MAX, LAG_MAX, S3Access, ShelfError,
        ShipError, Shipping,
    },
    bounds::{
        ACTOR_REFUSALS_MAX, ADDRESS_REFUSALS_MAX, BOUNDS_INTERVAL, PART_REFUSALS_MAX,
        STRANGERS_REFUSALS_MAX,
    },
    installed::{AuditPlace, Log, machine, open, open_blobs},
    payers::{ACTOR_RATE, ADDRESS_RATE, ORGANISATION_RATE, PART_RATE, Standing},
    reader::{Checked, Part, Reader, Source},
    turns::{OPERATORS_READERS_MAX, ORGANISATIONS_READERS_MAX, Party},
};
use self::{
    bounds::Bounds,
    payers::{Payer, payers},
};
use crate::{app::Sight, clock::Clock, error::AppError};

/// What a call has made: the id of it.
pub(crate) const MADE: Word = Word::new("made");
/// Which key: an SSH key, or a host's.
pub(crate) const FINGERPRINT: &str = "fingerprint";
/// How many refusals were left out.
pub(crate) const COUNT: Word = Word::new("count");
/// Refusals were left out.
const LEFT_OUT: Word = Word::new("audit.left-out");

/// Whether the audit takes something again.
const LOOK: Word = Word::new("audit.look");

/// How a call is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It changes something, for whoever has shown who it is: recorded before it is decided, and what came of it.
    Change,
    /// It changes something for whoever shows a secret: recorded once that is good, before anything is done; as
    /// refused when it is not.
    Admission,
    /// It tells what is sensitive: recorded before it does.
    Sensitive,
    /// It tells what is not: recorded when it is refused.
    Plain,
    /// The same, or what hosts say every few seconds, and it goes on while the store is away, by what was seen last.
    Seen,
}

impl Manner {
    /// Where a call looks that is recorded so.
    pub(crate) fn sight(self) -> Sight {
        match self {
            Self::Seen => Sight::seen(),
            Self::Change | Self::Admission | Self::Sensitive | Self::Plain => Sight::stored(),
        }
    }
}

/// Records what calls do.
#[derive(Debug)]
pub struct Recorder {
    audit: Audit,
    clock: Clock,
    bounds: Mutex<Bounds>,
    rates: Mutex<Rates<Payer>>,
}

impl Recorder {
    /// Records in `audit`.
    #[must_use]
    pub fn new(audit: Audit, clock: Clock) -> Self {
        Self { audit, clock, bounds: Mutex::default(), rates: Mutex::default() }
    }

    /// Removes what was kept long enough.
    ///
    /// # Errors
    /// [`ExpireError`].
    pub async fn expire(&self) -> Result<(), ExpireError> {
        if let Some(stub) = self.audit.expire().await? {
            let expired = stub.unverified();
            tracing::info!(segment = expired.segment, line = expired.seq, "old audit is removed");
        }
        Ok(())
    }

    /// Why nothing can be recorded now, as far as it is known; when the last record was refused, one more is tried.
    pub async fn look(&self) -> Option<Refused> {
        self.audit.status().refused.as_ref()?;
        let event = event(Who::System, Origin::Internal, LOOK, named("audit"));
        self.audit.record(Event { outcome: Outcome::Done, ..event }).await.err()
    }

    /// A call that is to be recorded as `event`, whose outcome does not matter. Whoever makes it pays for it, and the
    /// organisation of which they are, if it is about that one.
    #[must_use]
    pub fn call(self: &Arc<Self>, manner: Manner, event: Event, standing: Standing) -> Call {
        Call { payers: payers(&event, standing), ..self.unpaid(manner, event) }
    }

    /// The same for what nobody outside asks for, or what is a part of what was paid.
    fn unpaid(self: &Arc<Self>, manner: Manner, event: Event) -> Call {
        let (recorder, payers) = (Arc::clone(self), Vec::new());
        Call { recorder, manner, event, payers, pending: tokio::sync::Mutex::default() }
    }

    /// What a command on this machine does.
    #[must_use]
    pub fn command(self: &Arc<Self>, action: Word, object: Object) -> Call {
        let user = rustix::process::getuid().as_raw().to_string();
        let who = Who::Operator(Name::asked(&user));
        self.unpaid(Manner::Change, event(who, Origin::Local, action, object))
    }

    /// What the control plane does by itself.
    #[must_use]
    pub fn own(self: &Arc<Self>, action: Word, object: Object) -> Call {
        self.unpaid(Manner::Change, event(Who::System, Origin::Internal, action, object))
    }

    /// What somebody does by calling at all, whatever for.
    #[must_use]
    pub fn by_calling(
        self: &Arc<Self>,
        who: &Actor,
        from: Origin,
        action: Word,
        object: Object,
        facts: Facts,
    ) -> Call {
        let event = event(self::who(who), from, action, object);
        self.unpaid(Manner::Change, Event { facts, ..event })
    }

    /// Records how many refusals were left out since the last time, if there were any.
    ///
    /// # Errors
    /// [`Refused`]; they are counted on.
    pub async fn record_left_out(&self) -> Result<(), Refused> {
        let count = self.bounds().left_out();
        if count == 0 {
            return Ok(());
        }
        let event = event(Who::System, Origin::Internal, LEFT_OUT, named("audit"));
        let facts = Facts::none().with(COUNT, Fact::Number(count));
        self.audit.record(Event { outcome: Outcome::Done, facts, ..event }).await?;
        self.bounds().told(count);
        Ok(())
    }

    fn bounds(&self) -> MutexGuard<'_, Bounds> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rates(&self) -> MutexGuard<'_, Rates<Payer>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call, as the audit has it.
#[derive(Debug)]
pub struct Call {
    recorder: Arc<Recorder>,
    manner: Manner,
    event: Event,
    /// On whose accounts it is; on nobody's when there are none.
    payers: Vec<(Payer, Rate)>,
    /// What is recorded as begun, and has no outcome yet.
    pending: tokio::sync::Mutex<Option<Pending>>,
}

impl Call {
    /// What is done to something else by the same call, which has a record of its own there.
    #[must_use]
    pub fn part(&self, action: Word, object: Object, facts: Facts) -> Self {
        let outcome = Outcome::Begun;
        let event = Event { action, object, outcome, facts, ..self.event.clone() };
        self.recorder.unpaid(Manner::Change, event)
    }

    /// From where it comes.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.event.from
    }

    /// Goes on unless who calls is refused, or does something, all the time.
    ///
    /// # Errors
    /// [`AppError::Exhausted`], which says when to come again.
    pub fn hear(&self) -> Result<(), AppError> {
        if self.manner == Manner::Change
            && !self.recorder.bounds().is_heard(&self.event, self.now())
        {
            return Err(AppError::Exhausted("refused too often; wait a minute".to_owned()));
        }
        let passed = self.recorder.clock.passed();
        let taken = self.recorder.rates().take(self.payers.iter().cloned(), passed);
        taken.map_err(|wait| {
            let seconds = wait.as_millis().div_ceil(1_000);
            AppError::Exhausted(format!(
                "too many calls that are recorded; come again in {seconds} s"
            ))
        })
    }

    /// Records that something is about to be done; once is enough.
    ///
    /// # Errors
    /// [`AppError::Unrecorded`]: do not do it. [`AppError::Exhausted`] as by [`Call::hear`].
    pub async fn begin(&self) -> Result<(), AppError> {
        let mut pending = self.pending.lock().await;
        if pending.is_some() {
            return Ok(());
        }
        self.hear()?;
        *pending = Some(self.recorder.audit.begin(self.event.clone()).await?);
        Ok(())
    }

    /// Records what came of it, with what is known now and was not before.
    ///
    /// # Errors
    /// [`AppError::Unrecorded`], or [`AppError::Unknown`] when something may have been done: do not answer with
    /// success.
    pub async fn end(&self, ended: Result<Facts, &AppError>) -> Result<(), AppError> {
        let (known, error) = match ended {
            Err(AppError::Unrecorded) => return Ok(()),
            Err(error) => (Facts::none(), Some(error)),
            Ok(known) => (known, None),
        };
        let outcome = outcome(error);
        if let Some(pending) = self.pending.lock().await.take() {
            if error.is_some_and(is_callers) {
                // It is recorded, whatever the bound says; the next one may not be begun.
                self.recorder.bounds().count(&self.event, self.now());
            }
            return pending.with(known).finish(outcome).await.map(|_| ()).map_err(|refused| {
                tracing::error!(%refused, "what came of a call is not recorded");
                AppError::Unknown
            });
        }
        let is_bounded = match (self.manner, &outcome) {
            (Manner::Sensitive, Outcome::Done) => false,
            (Manner::Admission | Manner::Change, _) | (_, Outcome::Denied(_)) => true,
            _ => return Ok(()),
        };
        if is_bounded && !self.recorder.bounds().admits(&self.event, self.now()) {
            return Ok(());
        }
        let event = self.event.clone();
        let facts = event.facts.clone().and(known);
        let recorded = self.recorder.audit.record(Event { outcome, facts, ..event }).await;
        if recorded.is_err() && is_bounded {
            self.recorder.bounds().leave_out();
        }
        recorded.map(|_| ()).map_err(AppError::from)
    }

    fn now(&self) -> weft_model::UnixMs {
        self.recorder.clock.now()
    }
}

impl From<Refused> for AppError {
    fn from(refused: Refused) -> Self {
        tracing::error!(%refused, "the audit takes no records");
        Self::Unrecorded
    }
}

fn event(who: Who, from: Origin, action: Word, object: Object) -> Event {
    let (outcome, request, facts) = (Outcome::Begun, RequestId::random(), Facts::none());
    Event { who, from, action, object, outcome, request, facts }
}

/// All of a kind.
#[must_use]
pub fn named(kind: &str) -> Object {
    Object::named(&Name::asked(kind))
}

/// An organisation.
#[must_use]
pub fn organisation(id: &OrganisationId) -> Object {
    named("organisation").with(&Name::asked(id.as_str()))
}

/// An environment.
#[must_use]
pub fn environment(id: &EnvironmentId, of: &OrganisationId) -> Object {
    organisation(of).with(&Name::asked("environment")).with(&Name::asked(id.as_str()))
}

/// A host.
#[must_use]
pub fn host(id: &HostId) -> Object {
    named("host").with(&Name::asked(id.as_str()))
}

/// Who, as the audit has it.
#[must_use]
pub fn who(actor: &Actor) -> Who {
    match actor {
        Actor::Nobody => Who::Anonymous,
        Actor::User { id, .. } => Who::User(Name::asked(id.as_str())),
        Actor::Token { id, .. } => Who::Token(Name::asked(id.as_str())),
        Actor::Host(id) => Who::Host(Name::asked(id.as_str())),
        Actor::Component(component) => {
            Who::Service(Name::asked(&format!("{component:?}").to_lowercase()))
        }
    }
}

/// Whether it is for who calls to do better: such calls can be made without end, and change nothing.
fn is_callers(error: &AppError) -> bool {
    match error {
        AppError::Unauthenticated
        | AppError::Refused
        | AppError::NotFound(_)
        | AppError::Invalid { .. }
        | AppError::Exists(_)
        | AppError::State(_)
        | AppError::Changed(_)
        | AppError::Exhausted(_) => true,
        AppError::Unavailable
        | AppError::Full
        | AppError::Unrecorded
        | AppError::Unready
        | AppError::Behind
        | AppError::Superseded
        | AppError::Unknown
        | AppError::Unseen
        | AppError::Internal(_) => false,
    }
}

fn outcome(error: Option<&AppError>) -> Outcome {
    let Some(error) = error else { return Outcome::Done };
    match error {
        AppError::Unauthenticated => Outcome::Denied(Word::new("unauthenticated")),
        AppError::Refused => Outcome::Denied(Word::new("permission-denied")),
        AppError::NotFound(_) => Outcome::Denied(Word::new("not-found")),
        AppError::Invalid { .. } => Outcome::Failed(Word::new("invalid-argument")),
        AppError::Exists(_) => Outcome::Failed(Word::new("already-exists")),
        AppError::State(_) => Outcome::Failed(Word::new("failed-precondition")),
        AppError::Changed(_) | AppError::Superseded => Outcome::Failed(Word::new("aborted")),
        AppError::Exhausted(_) => Outcome::Failed(Word::new("resource-exhausted")),
        AppError::Unavailable
        | AppError::Full
        | AppError::Unrecorded
        | AppError::Unready
        | AppError::Behind => Outcome::Failed(Word::new("unavailable")),
        AppError::Unknown => Outcome::Unknown,
        AppError::Unseen => Outcome::Done,
        AppError::Internal(_) => Outcome::Failed(Word::new("internal")),
    }
}
