//! The local API: converts what is asked, asks the node, converts what it answers. Nothing is
//! decided here.
//!
//! ```text
//!  weft net, agent ─▶ weftd.sock ─▶ Service ─▶ NodeHandle
//!                                     └─ one Watch per reader ◀─ events
//! ```

mod event;
mod incoming;
pub mod request;
mod status;
mod watch;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait, transport::Server};
use weft_agent::AgentHandle;
use weft_api::{
    Listener, MESSAGE_BYTES_MAX,
    v1::{
        AddPeerRequest, AddPeerResponse, AttachRequest, AttachResponse, DetachRequest,
        DetachResponse, Event, RemovePeerRequest, RemovePeerResponse, SetRoutesRequest,
        SetRoutesResponse, StatusRequest, StatusResponse, WatchEventsRequest,
        local_api_server::{LocalApi, LocalApiServer},
    },
};

use crate::node::{NodeHandle, RequestError};
use watch::Watch;

/// Largest request in bytes: 65,536 addresses of one peer with 41 bytes each are 2.7 MB.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Requests and readers of events that one connection may have at a time.
const STREAMS_MAX: u32 = 32;

/// Serves the local API on `listener` until the sender of `stopped` is dropped. From then on the
/// socket is gone, calls that run are finished, and readers of events get those that wait and the
/// end of their stream. With an agent, that decides about attachments.
///
/// # Errors
/// When the server cannot go on; a broken connection is no such case.
pub async fn serve(
    listener: Listener,
    node: NodeHandle,
    agent: Option<AgentHandle>,
    mut stopped: tokio::sync::watch::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let service = LocalApiServer::new(Service { node, agent, stopped: stopped.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let stop = async move {
        let _ = stopped.changed().await;
    };
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .serve_with_incoming_shutdown(service, incoming::limited(listener), stop)
        .await
}

struct Service {
    node: NodeHandle,
    /// Of a host that follows a control plane.
    agent: Option<AgentHandle>,
    stopped: tokio::sync::watch::Receiver<()>,
}

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    /// Peers and routes are the control plane's where there is one.
    fn may_route(&self) -> Result<(), Status> {
        self.agent.as_ref().map_or(Ok(()), |agent| {
            let url = agent.status().url;
            Err(Status::failed_precondition(format!(
                "this host follows {url}, which decides who its peers are and what lives there"
            )))
        })
    }
}

#[async_trait]
impl LocalApi for Service {
    type WatchEventsStream = ReceiverStream<Result<Event, Status>>;

    async fn attach(&self, request: Request<AttachRequest>) -> Reply<AttachResponse> {
        let (environment, spec) = request::attach(request.into_inner())?;
        let created = match &self.agent {
            None => self.node.attach(environment, spec).await.map_err(refusal)?,
            Some(agent) => {
                agent.attach(request::managed(environment, spec)?).await.map_err(refusal)?
            }
        };
        Ok(Response::new(AttachResponse { created }))
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Reply<DetachResponse> {
        let (environment, name) = request::detach(&request.into_inner())?;
        match &self.agent {
            None => self.node.detach(environment, name).await.map_err(refusal)?,
            Some(agent) => agent.detach(environment, name).await.map_err(refusal)?,
        }
        Ok(Response::new(DetachResponse {}))
    }

    async fn add_peer(&self, request: Request<AddPeerRequest>) -> Reply<AddPeerResponse> {
        self.may_route()?;
        let (environment, spec) = request::add_peer(&request.into_inner())?;
        let created = self.node.add_peer(environment, spec).await.map_err(refusal)?;
        Ok(Response::new(AddPeerResponse { created }))
    }

    async fn remove_peer(&self, request: Request<RemovePeerRequest>) -> Reply<RemovePeerResponse> {
        self.may_route()?;
        let (environment, host) = request::remove_peer(&request.into_inner())?;
        self.node.remove_peer(environment, host).await.map_err(refusal)?;
        Ok(Response::new(RemovePeerResponse {}))
    }

    async fn set_routes(&self, request: Request<SetRoutesRequest>) -> Reply<SetRoutesResponse> {
        self.may_route()?;
        let (environment, host, addresses) = request::set_routes(&request.into_inner())?;
        self.node.set_routes(environment, host, addresses).await.map_err(refusal)?;
        Ok(Response::new(SetRoutesResponse {}))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Reply<StatusResponse> {
        let environment = request::filter(&request.into_inner().environment)?;
        let status = self.node.status(environment).await.map_err(refusal)?;
        let control = self.agent.as_ref().map(AgentHandle::status);
        Ok(Response::new(status::status(&status, control.as_ref())))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let environment = request::filter(&request.into_inner().environment)?;
        // First of all, so that nothing is missed after the answer.
        let events = self.node.subscribe();
        if let Some(environment) = &environment {
            self.node.status(Some(environment.clone())).await.map_err(refusal)?;
        }
        Ok(Response::new(Watch::new(events, environment, self.stopped.clone()).start()))
    }
}

/// The status that stands for a refusal, as the protocol says.
fn refusal(error: RequestError) -> Status {
    let message = error.to_string();
    match error {
        RequestError::Invalid(_) => Status::invalid_argument(message),
        RequestError::NotFound(_) => Status::not_found(message),
        RequestError::Exists(_) => Status::already_exists(message),
        RequestError::Precondition(_) => Status::failed_precondition(message),
        RequestError::Limit(_) => Status::resource_exhausted(message),
        RequestError::Unavailable(_) | RequestError::Stopping => Status::unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn every_refusal_has_the_code_of_the_protocol_and_its_own_words() {
        let because = || "because".to_owned();
        for (error, code) in [
            (RequestError::Invalid(because()), Code::InvalidArgument),
            (RequestError::NotFound(because()), Code::NotFound),
            (RequestError::Exists(because()), Code::AlreadyExists),
            (RequestError::Precondition(because()), Code::FailedPrecondition),
            (RequestError::Limit(because()), Code::ResourceExhausted),
            (RequestError::Unavailable(because()), Code::Unavailable),
        ] {
            let status = refusal(error);
            assert_eq!((status.code(), status.message()), (code, "because"));
        }
        let status = refusal(RequestError::Stopping);
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the daemon stops"));
    }
}
