//! Calls that run beside the agent's task, and how they end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::task::spawn_blocking;
use tonic::{Status, transport::Channel};
use weft_control_api::v1::{self, host_agent_client::HostAgentClient};
use weft_pki::{
    KeyKind,
    request::{self, NewKey},
};
use weft_types::{EnvironmentId, HostId};

use super::{NewAttachment, chance};
use crate::{
    leaves::Leaf,
    renewal,
    state::{Identity, Release, State},
};

/// How long an answer may take.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection as calls need it.
pub(super) type Client = HostAgentClient<Channel>;

/// How a call ended.
pub(super) enum Done {
    Leaf(EnvironmentId, Result<Box<Leaf>, String>),
    Attached(NewAttachment, Box<Result<v1::Attachment, Status>>),
    Released(Release, Result<(), Status>),
    /// How soon it is told again, and whether everything.
    Reported(Result<(Duration, bool), Status>),
    Renewed(Result<Box<(NewKey, v1::RenewHostCertificateResponse)>, String>),
}

fn call<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_MAX);
    request
}

/// Asks for a certificate of an environment with a key that is made for it.
pub(super) async fn leaf(mut client: Client, environment: EnvironmentId, host: HostId) -> Done {
    let issued = async {
        let new = request::new_key(KeyKind::EcdsaP256).map_err(|error| error.to_string())?;
        let request = v1::IssueLeafRequest {
            environment: environment.to_string(),
            signing_request: new.request,
        };
        let issued = client.issue_leaf(call(request)).await;
        let issued = issued.map_err(|status| status.message().to_owned())?.into_inner();
        let whose = (&environment, &host);
        let now = SystemTime::now();
        let v1::IssueLeafResponse { certificate, anchors } = issued;
        let leaf = Leaf::new(whose, certificate, new.key_pem, anchors, now, chance());
        leaf.map(Box::new).map_err(|error| format!("the certificate {error}"))
    };
    let issued = issued.await;
    Done::Leaf(environment, issued)
}

pub(super) async fn attach(mut client: Client, new: NewAttachment) -> Done {
    let request = v1::AttachRequest {
        environment: new.environment.to_string(),
        name: new.name.to_string(),
        slot: None,
        grant: String::new(),
        addresses: new.addresses.iter().map(ToString::to_string).collect(),
    };
    let attached = client.attach(call(request)).await.map(tonic::Response::into_inner);
    Done::Attached(new, Box::new(attached))
}

pub(super) async fn release(mut client: Client, release: Release) -> Done {
    let request = v1::ReleaseRequest {
        environment: release.environment.to_string(),
        name: release.name.to_string(),
        generation: release.generation,
    };
    let released = client.release(call(request)).await.map(drop);
    Done::Released(release, released)
}

pub(super) async fn report(mut client: Client, report: v1::ReportRequest) -> Done {
    let reported = client.report(call(report)).await;
    Done::Reported(reported.map(|answer| {
        let v1::ReportResponse { next_ms, again } = answer.into_inner();
        (Duration::from_millis(next_ms.into()), again)
    }))
}

/// Asks for the next certificate of the installation, with a key that is kept before anybody hears of it.
pub(super) async fn renew(mut client: Client, state: Arc<State>, shown: Identity) -> Done {
    let renewed = async {
        let kept = spawn_blocking(move || renewal::next_key(&state, &shown)).await;
        let key = kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let request = v1::RenewHostCertificateRequest { signing_request: key.request.clone() };
        let answer = client.renew_host_certificate(call(request)).await;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        Ok(Box::new((key, answer)))
    };
    Done::Renewed(renewed.await)
}
