//! Calls the control plane: becomes a host if it is none, connects, asks what there is to know.

use std::{sync::Arc, time::SystemTime};

use tokio::time::timeout;
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
    join::JoinToken,
    state::{Identity, State},
};

/// Whoever calls. A clone calls while the agent does something else.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) settings: Settings,
    pub(super) candidate: Candidate,
    pub(super) state: Arc<State>,
    pub(super) identity: Option<Identity>,
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
        let identity = self.become_host().await?;
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
        enrol::end(self.identity.as_ref()?).filter(|end| *end <= now)
    }

    /// The identity that there is, or a new one by a join token. One that has run out is no use to anybody; it stays until
    /// there is another, and what this host has stays as it is.
    async fn become_host(&mut self) -> Result<Identity, SessionError> {
        let ended = self.end_of_old(SystemTime::now());
        if let Some(identity) = &self.identity
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

    async fn join(&mut self, no_token: SessionError) -> Result<Identity, SessionError> {
        let token = self.settings.join_token.as_ref().ok_or(no_token)?;
        let token = JoinToken::read(token)?;
        // The same key asks again when an answer was lost.
        let key = match self.state.enrolling()? {
            Some(key) => weft_pki::request::for_key(&key).map_err(EnrolError::from)?,
            None => enrol::new_key().map_err(EnrolError::from)?,
        };
        self.state.keep_enrolling(&key.key_pem)?;
        let way = (&self.settings.url, &self.ways);
        let identity = enrol::enrol(way, &token, &self.candidate, &key).await?;
        self.state.keep_identity(&identity)?;
        self.state.forget_enrolling();
        self.state.forget_renewing();
        tracing::info!(host = %identity.host, installation = %identity.installation, "joined");
        self.identity = Some(identity.clone());
        Ok(identity)
    }
}
