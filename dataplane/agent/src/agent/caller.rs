//! Calls the control plane: becomes a host if it is none, connects, asks what there is to know.
//!
//! ```text
//!  present identity ──unknown──▶ former one, if there is one ──unknown──▶ join token, if there is a new one
//!      └─ accepted                   └─ accepted: renewed at once            └─ joined: shown from the next call on
//! ```
//!
//! Each is tried once in a call. Only an answer that says that the host is not known goes on to the next; a control plane
//! that is not reached, or says anything else, is called again as ever.

use std::{sync::Arc, time::SystemTime};

use tokio::time::{Instant, timeout};
use tonic::Streaming;
use weft_control_api::{MESSAGE_BYTES_MAX, v1, v1::host_agent_client::HostAgentClient};

use super::{
    Settings,
    session::SessionError,
    task::{ANSWER_MAX, Client},
};
use crate::{
    connection::{self, Ways},
    enrol::{self, Candidate, EnrolError},
    identities::{Fallback, Identities},
    join::JoinToken,
    state::{Identity, State},
};

/// Whoever calls. A clone calls while the agent does something else.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) settings: Settings,
    pub(super) candidate: Candidate,
    pub(super) state: Arc<State>,
    pub(super) identities: Identities,
    pub(super) ways: Ways,
}

/// A connection, as it begins.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) identity: Identity,
    /// What there is to know.
    pub(super) news: Streaming<v1::WatchResponse>,
}

impl Caller {
    /// Connects, and asks for everything after a revision.
    pub(super) async fn call(&mut self, revision: u64) -> Result<Connected, SessionError> {
        let present = self.become_host().await?;
        self.identities.show_present();
        let called = self.call_as(present, revision).await;
        let Err(SessionError::NotAccepted) = called else { return called };
        let former = match self.identities.fallback(Instant::now()) {
            Fallback::Former(former) => *former,
            Fallback::Waits => return called,
            Fallback::Nothing => return Err(self.join_again().await),
        };
        match self.call_as(former, revision).await {
            Err(SessionError::NotAccepted) => Err(self.join_again().await),
            called => {
                if called.is_ok() {
                    self.identities.former_is_accepted(Instant::now());
                    tracing::warn!(
                        "the control plane knows this host by its certificate of before only; it is renewed"
                    );
                }
                called
            }
        }
    }

    async fn call_as(&self, identity: Identity, revision: u64) -> Result<Connected, SessionError> {
        let Identity { anchors, certificate, key, .. } = &identity;
        let tls = connection::as_host(anchors, certificate, key)?;
        let channel = connection::connect(&self.settings.url, &self.ways, tls).await?;
        let mut client = HostAgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let watching = timeout(ANSWER_MAX, client.watch(v1::WatchRequest { revision })).await;
        let news = watching.map_err(|_| SessionError::Ended)??.into_inner();
        Ok(Connected { client, identity, news })
    }

    /// When the certificate ended that this host has.
    pub(super) fn end_of_old(&self, now: SystemTime) -> Option<SystemTime> {
        enrol::end(self.identities.present.as_ref()?).filter(|end| *end <= now)
    }

    /// The identity that there is, or a new one by a join token. One that has run out is no use to anybody; it stays until
    /// there is another, and what this host has stays as it is.
    async fn become_host(&mut self) -> Result<Identity, SessionError> {
        let ended = self.end_of_old(SystemTime::now());
        if let Some(identity) = &self.identities.present
            && ended.is_none()
        {
            return Ok(identity.clone());
        }
        let Some(ended) = ended else { return self.join(SessionError::NoToken).await };
        let ended = weft_pki::format_utc(ended);
        let joined = self.join(SessionError::NoNewToken).await;
        if joined.is_ok() {
            tracing::info!(ended, "it has joined again: the certificate of before had ended");
        }
        joined.map_err(|why| SessionError::Over { ended, why: Box::new(why) })
    }

    /// Becomes this host again by a token that was not shown before; why the connection ends in either case. Without one it
    /// goes on as it is.
    async fn join_again(&mut self) -> SessionError {
        match self.join(SessionError::NoNewToken).await {
            Ok(_) => SessionError::JoinedAgain,
            Err(why) => {
                let host = self.settings.host.clone();
                SessionError::ShutOut { host, why: Box::new(why) }
            }
        }
    }

    async fn join(&mut self, no_token: SessionError) -> Result<Identity, SessionError> {
        let Some(token) = &self.settings.join_token else { return Err(no_token) };
        let token = JoinToken::read(token)?;
        let is_host = self.identities.present.is_some();
        if is_host && self.state.was_answered(&token) {
            return Err(no_token);
        }
        // The same key asks again when an answer was lost.
        let key = match self.state.enrolling()? {
            Some(key) => weft_pki::request::for_key(&key).map_err(EnrolError::from)?,
            None => enrol::new_key().map_err(EnrolError::from)?,
        };
        self.state.keep_enrolling(&key.key_pem)?;
        let way = (&self.settings.url, &self.ways);
        let enrolled = enrol::enrol(way, &token, &self.candidate, &key).await;
        if is_host && matches!(enrolled, Err(EnrolError::Refused(_))) {
            self.has_answered(&token);
        }
        let identity = enrolled?;
        self.state.keep_identity(&identity)?;
        self.has_answered(&token);
        self.state.forget_enrolling();
        self.state.forget_renewing();
        self.state.forget_former();
        tracing::info!(host = %identity.host, installation = %identity.installation, "joined");
        self.identities.joined(identity.clone());
        Ok(identity)
    }

    fn has_answered(&self, token: &JoinToken) {
        if let Err(error) = self.state.keep_answered(token) {
            // It is shown once more, perhaps, and refused.
            tracing::warn!(%error, "which join token was shown is not kept");
        }
    }
}
