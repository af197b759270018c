//! Calls of operators about hosts.

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, hosts_server::Hosts};
use weft_model::{
    Decoded,
    record::{Endpoint, Host, Place},
};

use super::{Answer, Api, convert};
use crate::{
    app::{HostChange, JOIN_TOKEN_SECONDS_MAX, NewJoinToken},
    error::AppError,
};

/// How long a join token is good unless it is said, seconds.
const JOIN_TOKEN_SECONDS: u32 = 3_600;

fn new_token(request: &v1::CreateJoinTokenRequest) -> Result<NewJoinToken, AppError> {
    Ok(NewJoinToken {
        host: convert::optional("host", &request.host)?,
        place: Place {
            pod: request.pod.clone(),
            zone: request.zone.clone(),
            region: request.region.clone(),
        },
        labels: request.labels.clone().into_iter().collect(),
        lasts: convert::seconds(
            "seconds",
            request.seconds,
            JOIN_TOKEN_SECONDS,
            JOIN_TOKEN_SECONDS_MAX,
        )?,
    })
}

fn change(request: &v1::UpdateHostRequest) -> Result<HostChange, AppError> {
    let endpoints = request.endpoints.iter().map(|endpoint| {
        let pod = Some(endpoint.pod.clone()).filter(|pod| !pod.is_empty());
        Ok(Endpoint { address: convert::parse("endpoints.address", &endpoint.address)?, pod })
    });
    Ok(HostChange {
        revision: weft_store::Revision(request.revision),
        place: Place {
            pod: request.pod.clone(),
            zone: request.zone.clone(),
            region: request.region.clone(),
        },
        labels: request.labels.clone().into_iter().collect(),
        endpoints: endpoints.collect::<Result<_, AppError>>()?,
    })
}

impl Api {
    fn described_host(&self, found: Decoded<Host>) -> Result<v1::Host, AppError> {
        let signs = self.app.signs(&found.record.id)?;
        Ok(convert::host(found, signs))
    }
}

#[async_trait]
impl Hosts for Api {
    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        self.call(request, |caller, request| async move {
            let new = new_token(&request)?;
            let (token, secret) = self.app.create_join_token(&caller, &new).await?;
            let secret = self.app.join_secret(&secret)?;
            let (id, expires_ms) = (token.id.to_string(), token.expires.0);
            Ok(v1::CreateJoinTokenResponse { id, secret, expires_ms })
        })
        .await
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Answer<v1::ListJoinTokensResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let found = self.app.list_join_tokens(&caller, after, len_max)?;
            let last = found.last().map(|last| last.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let tokens = found.into_iter().map(|token| v1::JoinToken {
                id: token.id.to_string(),
                host: token.host.map(|host| host.to_string()).unwrap_or_default(),
                expires_ms: token.expires.0,
                created_ms: token.created.0,
            });
            Ok(v1::ListJoinTokensResponse { tokens: tokens.collect(), page })
        })
        .await
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Answer<v1::RevokeJoinTokenResponse> {
        self.call(request, |caller, request| async move {
            let id = convert::parse("id", &request.id)?;
            self.app.revoke_join_token(&caller, &id).await?;
            Ok(v1::RevokeJoinTokenResponse {})
        })
        .await
    }

    async fn get_host(&self, request: Request<v1::GetHostRequest>) -> Answer<v1::Host> {
        self.call(request, |caller, request| async move {
            let id = convert::parse("id", &request.id)?;
            let found = self.app.get_host(&caller, &id).await?;
            self.described_host(found)
        })
        .await
    }

    async fn get_host_report(
        &self,
        request: Request<v1::GetHostReportRequest>,
    ) -> Answer<v1::GetHostReportResponse> {
        self.call(request, |caller, request| async move { self.report_of(&caller, &request).await })
            .await
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Answer<v1::ListHostsResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let pod = Some(request.pod.as_str()).filter(|pod| !pod.is_empty());
            let found = self.app.list_hosts(&caller, pod, after, len_max)?;
            let last = found.last().map(|last| last.record.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let hosts = found.into_iter().map(|found| self.described_host(found));
            let hosts = hosts.collect::<Result<_, _>>()?;
            Ok(v1::ListHostsResponse { hosts, page })
        })
        .await
    }

    async fn update_host(&self, request: Request<v1::UpdateHostRequest>) -> Answer<v1::Host> {
        self.call(request, |caller, request| async move {
            let id = convert::parse("id", &request.id)?;
            let change = change(&request)?;
            let found = self.app.update_host(&caller, &id, &change).await?;
            self.described_host(found)
        })
        .await
    }

    async fn set_host_state(&self, request: Request<v1::SetHostStateRequest>) -> Answer<v1::Host> {
        self.call(request, |caller, request| async move {
            let state = convert::host_state(request.state())?;
            let id = convert::parse("id", &request.id)?;
            let found = self.app.set_host_state(&caller, &id, state).await?;
            self.described_host(found)
        })
        .await
    }
}
