//! Calls of operators about hosts.

use tonic::{Request, Response, Status, async_trait};
use weft_control_api::v1::{self, hosts_server::Hosts};
use weft_model::record::{Endpoint, Place};

use super::{Api, convert, status::status};
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

#[async_trait]
impl Hosts for Api {
    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let caller = self.caller(&request).await?;
        let new = new_token(request.get_ref()).map_err(status)?;
        let (token, secret) = self.app.create_join_token(&caller, &new).await.map_err(status)?;
        let secret = self.app.join_secret(&secret).map_err(status)?;
        let (id, expires_ms) = (token.id.to_string(), token.expires.0);
        Ok(Response::new(v1::CreateJoinTokenResponse { id, secret, expires_ms }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let caller = self.caller(&request).await?;
        let (len_max, after) = convert::page(request.get_ref().page.as_ref()).map_err(status)?;
        let found = self.app.list_join_tokens(&caller, after, len_max).map_err(status)?;
        let last = found.last().map(|last| last.id.to_string());
        let page = convert::page_info(found.len(), len_max, last);
        let tokens = found.into_iter().map(|token| v1::JoinToken {
            id: token.id.to_string(),
            host: token.host.map(|host| host.to_string()).unwrap_or_default(),
            expires_ms: token.expires.0,
            created_ms: token.created.0,
        });
        Ok(Response::new(v1::ListJoinTokensResponse { tokens: tokens.collect(), page }))
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let caller = self.caller(&request).await?;
        let id = convert::parse("id", &request.get_ref().id).map_err(status)?;
        self.app.revoke_join_token(&caller, &id).await.map_err(status)?;
        Ok(Response::new(v1::RevokeJoinTokenResponse {}))
    }

    async fn get_host(
        &self,
        request: Request<v1::GetHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = self.caller(&request).await?;
        let id = convert::parse("id", &request.get_ref().id).map_err(status)?;
        let found = self.app.get_host(&caller, &id).await.map_err(status)?;
        Ok(Response::new(convert::host(found, self.app.heard(&id))))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let (len_max, after) = convert::page(request.page.as_ref()).map_err(status)?;
        let pod = Some(request.pod.as_str()).filter(|pod| !pod.is_empty());
        let found = self.app.list_hosts(&caller, pod, after, len_max).map_err(status)?;
        let last = found.last().map(|last| last.record.id.to_string());
        let page = convert::page_info(found.len(), len_max, last);
        let hosts = found.into_iter().map(|found| {
            let heard = self.app.heard(&found.record.id);
            convert::host(found, heard)
        });
        Ok(Response::new(v1::ListHostsResponse { hosts: hosts.collect(), page }))
    }

    async fn update_host(
        &self,
        request: Request<v1::UpdateHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let id = convert::parse("id", &request.id).map_err(status)?;
        let change = change(request).map_err(status)?;
        let found = self.app.update_host(&caller, &id, &change).await.map_err(status)?;
        Ok(Response::new(convert::host(found, self.app.heard(&id))))
    }

    async fn set_host_state(
        &self,
        request: Request<v1::SetHostStateRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = self.caller(&request).await?;
        let state = convert::host_state(request.get_ref().state()).map_err(status)?;
        let id = convert::parse("id", &request.get_ref().id).map_err(status)?;
        let found = self.app.set_host_state(&caller, &id, state).await.map_err(status)?;
        Ok(Response::new(convert::host(found, self.app.heard(&id))))
    }
}
