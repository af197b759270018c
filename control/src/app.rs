//! What calls do. Every function here begins with whether the caller may, decides from what is stored, and commits
//! with the conditions that the decision rests on.

/// Decides with `$decide`, an expression of `Result<Decision<_>, AppError>`, and commits; decides anew when something
/// that the decision rests on has changed.
macro_rules! transact {
    ($app:expr, $decide:expr) => {{
        let mut attempts = $app.attempts();
        loop {
            let decided: Result<Decision<_>, AppError> = async { $decide }.await;
            match decided {
                Err(error) => break Err(error),
                Ok(decision) => match attempts.settle(decision).await {
                    Err(error) => break Err(error),
                    Ok(Some(outcome)) => break Ok(outcome),
                    Ok(None) => {}
                },
            }
        }
    }};
}

mod account;
mod attachments;
mod audit;
mod authentication;
mod authorities;
mod environments;
mod grants;
mod health;
mod host_keys;
mod hosts;
mod invitations;
mod leaves;
mod lockout;
mod members;
mod names;
mod organisations;
mod passwords;
mod peerings;
mod policies;
mod possession;
mod proof;
mod reports;
mod secrets;
mod services;
mod services_watch;
mod sessions;
mod settings;
mod sight;
mod sources;
mod standing;
mod tidy;
mod time;
mod tokens;
mod turn;
mod users;
mod watch;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch::Sender,
    time::{Instant, sleep},
};
use weft_keys::Keyring;
use weft_model::{
    Decoded, Record, UnixMs,
    access::{Access, Action, Actor, Object},
    liveness::{Heartbeats, Watchman},
    placement::Decision,
    rate::Rates,
    record::Environment,
    settled::Timekeeper,
};
use weft_pki::installation::InstallationAuthority;
use weft_store::{CommitError, LIST_LEN_MAX, Store, Transaction};
use weft_types::{EnvironmentId, HostId, InstallationId};

pub use self::{
    account::NewFactor,
    attachments::{AttachWish, Host as HostWish},
    audit::{AuditPage, AuditScope, Seen},
    authentication::SshKeyWish,
    authorities::Rotation,
    environments::{Described, NewEnvironment, StateChange},
    grants::{GRANT_SECONDS_MAX, GrantWish},
    health::{AttachmentHealth, ReportedHealth},
    hosts::{Enrolled, Enrolment, HostChange, JOIN_TOKEN_SECONDS_MAX, NewJoinToken},
    leaves::Leaf,
    members::Member,
    names::EnvironmentReference,
    peerings::{EnvironmentReport, ReportedPeers},
    possession::{KeyChallenge, Possession},
    proof::Proof,
    reports::{Heard, Report, Signs},
    secrets::{Released, SecretValue},
    services_watch::{PART_LEN_MAX, ServicesWatch},
    sessions::Login,
    sight::{HOSTS_SEEN_MAX, PEOPLE_SEEN_MAX, Sight},
    standing::{STANDING_INTERVAL, STORE_AWAY_MAX},
    time::Confirmed,
    tokens::{NewToken, TOKEN_SECONDS},
    turn::{Holder, TURN_LOOK, TURN_RENEW, TURN_TTL, Turn},
    users::Account,
    watch::{HostWatch, News},
};
use self::{lockout::Lockout, passwords::Passwords, services_watch::Watches, sight::Contact};
use crate::{
    audit::{Call, Log, Reader, Recorder, Shipping},
    clock::Clock,
    crowd::Crowd,
    error::AppError,
    view::{Behind, View, decode},
};

/// How often something is decided anew because somebody else was faster.
const ATTEMPTS_MAX: u32 = 16;
/// Hosts that listen at once to one process, each once: more than an installation is made for.
const LISTENING_MAX: usize = 8_192;
/// Longest pause between two attempts is this times their number.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(4);

/// Who calls, and which call it is.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) of the certificate that was shown, hexadecimal.
    pub key_hash: Option<String>,
    /// The call, as the audit has it.
    pub call: Arc<Call>,
    /// Where it looks.
    pub sight: Sight,
}

/// The application: everything that calls need.
pub struct App {
    store: Arc<dyn Store>,
    /// When that has answered last.
    contact: Contact,
    keyring: Arc<Keyring>,
    view: View,
    clock: Clock,
    recorder: Arc<Recorder>,
    reader: Reader,
    /// What ships the audit, where there is a blob store.
    shipping: Option<Arc<Shipping>>,
    authority: InstallationAuthority,
    /// The authority's certificate, PEM.
    anchor: String,
    /// What this process is called.
    process: String,
    /// Turns for work on passwords.
    passwords: Passwords,
    /// Where passwords were wrong, by the account that they were for.
    lockout: Mutex<Lockout>,
    /// What hosts said last to this process.
    heard: Mutex<Heartbeats>,
    /// How often health is kept, by host, and by environment on it.
    healths: Mutex<Rates<(HostId, Option<EnvironmentId>)>>,
    /// How often something of a host's sessions is kept.
    peerings: Mutex<Rates<HostId>>,
    /// For how long hosts have said nothing.
    watchman: Mutex<Watchman>,
    /// Which time is believed.
    timekeeper: Mutex<Timekeeper>,
    /// Why this process is not to be asked.
    standing: Sender<Option<String>>,
    /// Turns for those who watch services.
    watches: Watches,
    /// The same for hosts that listen, one each.
    listening: Crowd<HostId>,
}

impl App {
    /// Puts it together; `view` follows `store`, what is done is recorded in `log`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        view: View,
        clock: Clock,
        log: Log,
        authority: InstallationAuthority,
        anchor: String,
    ) -> Self {
        let recorder = Arc::new(Recorder::new(log.audit, clock.clone()));
        let passwords = Passwords::default();
        let (lockout, watches) = (Mutex::default(), Watches::default());
        let (heard, healths, watchman) = (Mutex::default(), Mutex::default(), Mutex::default());
        let peerings = Mutex::default();
        let (timekeeper, standing) = (Mutex::default(), Sender::default());
        let (reader, shipping) = (log.reader, log.shipping);
        let process = log.process.to_string();
        Self {
            store,
            contact: Contact::default(),
            keyring,
            view,
            clock,
            recorder,
            reader,
            shipping,
            authority,
            anchor,
            process,
            passwords,
            lockout,
            heard,
            healths,
            peerings,
            watchman,
            timekeeper,
            standing,
            watches,
            listening: Crowd::new(LISTENING_MAX),
        }
    }

    /// The live copy of the store.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whose it is.
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        self.authority.installation()
    }

    /// Forgets keys that are destroyed by another process, as long as it is polled.
    pub async fn follow_keys(&self) -> std::convert::Infallible {
        self.keyring.follow().await
    }

    /// Looks again and again whether this process has the master keys that it takes, as long as it is polled.
    pub async fn follow_master_keys(&self) -> std::convert::Infallible {
        self.keyring.follow_masters().await
    }

    /// What records calls.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// What time it is.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The certificate of the installation's authority, PEM.
    #[must_use]
    pub fn anchor(&self) -> &str {
        &self.anchor
    }

    fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// A record as it is in the store itself.
    async fn read<R: Record>(&self, path: &str) -> Result<Option<Decoded<R>>, AppError> {
        let (key, asked) = (R::key_at(path)?, Instant::now());
        let found = self.store.get(&key).await;
        self.contact.note(asked, &found);
        Ok(decode(found?)?)
    }

    /// Records whose paths begin with `path`, as they are in the store itself: a right that was taken away is none.
    async fn stored<R: Record>(&self, path: &str) -> Result<Vec<Decoded<R>>, AppError> {
        let prefix = R::prefix(path);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let asked = Instant::now();
            let page = self.store.list(&prefix, after.as_ref(), LIST_LEN_MAX).await;
            self.contact.note(asked, &page);
            let page = page?;
            for entry in &page.entries {
                found.push(R::decode(entry)?);
            }
            after = page.entries.into_iter().next_back().map(|entry| entry.key);
            if !page.more || after.is_none() {
                return Ok(found);
            }
        }
    }

    fn attempts(&self) -> Attempts<'_> {
        Attempts { app: self, made: 0 }
    }

    /// Commits, and waits until it is in the view. Whether it is there: it was made in either case.
    async fn commit(&self, transaction: Transaction) -> Result<Result<(), Behind>, CommitError> {
        let revision = self.store.commit(transaction).await?;
        Ok(self.view.reached(revision).await)
    }
}

/// How often something was decided.
struct Attempts<'a> {
    app: &'a App,
    made: u32,
}

impl Attempts<'_> {
    /// Commits what was decided; `None` when something that it rests on has changed, so that it is to be decided anew.
    /// What is committed is in the view when this returns.
    async fn settle<T>(&mut self, decision: Decision<T>) -> Result<Option<T>, AppError> {
        let (transaction, outcome) = match decision {
            Decision::Already(outcome) => return Ok(Some(outcome)),
            Decision::Commit(transaction, outcome) => (transaction, outcome),
        };
        match self.app.commit(transaction).await {
            Ok(Ok(())) => return Ok(Some(outcome)),
            Ok(Err(Behind)) => return Err(AppError::Unseen),
            Err(CommitError::Conflict { key }) => {
                tracing::debug!(%key, made = self.made, "decides anew");
            }
            Err(error) => return Err(error.into()),
        }
        self.made += 1;
        if self.made >= ATTEMPTS_MAX {
            return Err(AppError::Unavailable);
        }
        // Not all at once again.
        let part = u32::from(crate::secret::random::<1>()[0]);
        sleep(ATTEMPT_PAUSE * self.made * part / 256).await;
        Ok(None)
    }
}

impl Caller {
    /// Goes on if the caller may.
    ///
    /// # Errors
    /// [`AppError::Refused`], or as if the object were not there.
    pub fn may(&self, action: Action, object: Object<'_>) -> Result<(), AppError> {
        match self.actor.access(action, object) {
            Access::Allowed => Ok(()),
            Access::Refused if self.actor == Actor::Nobody => Err(AppError::Unauthenticated),
            Access::Refused => Err(AppError::Refused),
            Access::Hidden => Err(AppError::NotFound(match object {
                Object::Installation => "installation",
                Object::Organisation(_) => "organisation",
                Object::Environment(..) => "environment",
                Object::Host(_) => "host",
            })),
        }
    }

    fn may_in(&self, action: Action, environment: &Environment) -> Result<(), AppError> {
        self.may(action, Object::Environment(&environment.id, &environment.organisation))
    }
}
