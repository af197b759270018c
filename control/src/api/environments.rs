//! Calls about environments.

use std::time::Duration;

use tonic::{Request, Response, Status, async_trait};
use weft_control_api::v1::{self, environments_server::Environments};
use weft_model::{Decoded, policy::Verdict, record::Environment};

use super::{Api, convert, status::status};
use crate::{
    app::{Caller, EnvironmentReference, NewEnvironment, StateChange},
    error::AppError,
};

/// How long a deleted environment can be taken back unless it is said.
const GRACE_SECONDS: u32 = 7 * 24 * 3_600;
/// The same at most.
const GRACE_SECONDS_MAX: u32 = 90 * 24 * 3_600;
/// How long leaves are valid unless it is said.
const LEAF_SECONDS: u32 = 24 * 3_600;

impl Api {
    async fn described(
        &self,
        caller: &Caller,
        found: Decoded<Environment>,
    ) -> Result<Response<v1::Environment>, Status> {
        let reference: EnvironmentReference = found.record.id.as_str().parse().map_err(status)?;
        let usage = self.app.get_environment(caller, &reference).await;
        // Who may change it may see it.
        let (found, usage) = usage.map_err(status)?;
        Ok(Response::new(convert::environment(found, usage)))
    }

    async fn set_state(
        &self,
        caller: &Caller,
        name: Option<&v1::EnvironmentName>,
        change: StateChange,
    ) -> Result<Response<v1::Environment>, Status> {
        let reference = convert::environment_name(name).map_err(status)?;
        let found =
            self.app.set_environment_state(caller, &reference, change).await.map_err(status)?;
        self.described(caller, found).await
    }
}

fn new_environment(request: &v1::CreateEnvironmentRequest) -> Result<NewEnvironment, AppError> {
    let leaf_seconds = if request.leaf_seconds == 0 { LEAF_SECONDS } else { request.leaf_seconds };
    Ok(NewEnvironment {
        organisation: request.organisation.clone(),
        name: convert::parse("name", &request.name)?,
        subnets: convert::parse_all("subnets", &request.subnets)?,
        quotas: convert::quotas(request.quotas.as_ref()),
        leaf_seconds,
        default: if request.deny_by_default { Verdict::Deny } else { Verdict::Allow },
    })
}

#[async_trait]
impl Environments for Api {
    async fn create_environment(
        &self,
        request: Request<v1::CreateEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let caller = self.caller(&request).await?;
        let new = new_environment(request.get_ref()).map_err(status)?;
        let made = self.app.create_environment(&caller, &new).await.map_err(status)?;
        self.described(&caller, made).await
    }

    async fn get_environment(
        &self,
        request: Request<v1::GetEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let caller = self.caller(&request).await?;
        let name =
            convert::environment_name(request.get_ref().environment.as_ref()).map_err(status)?;
        let (found, usage) = self.app.get_environment(&caller, &name).await.map_err(status)?;
        Ok(Response::new(convert::environment(found, usage)))
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let (len_max, after) = convert::page(request.page.as_ref()).map_err(status)?;
        let organisation = Some(request.organisation.as_str()).filter(|text| !text.is_empty());
        let listed = self.app.list_environments(&caller, organisation, after, len_max);
        let found = listed.await.map_err(status)?;
        let last = found.last().map(|(last, _)| last.record.id.to_string());
        let page = convert::page_info(found.len(), len_max, last);
        let environments =
            found.into_iter().map(|(found, usage)| convert::environment(found, usage)).collect();
        Ok(Response::new(v1::ListEnvironmentsResponse { environments, page }))
    }

    async fn suspend_environment(
        &self,
        request: Request<v1::SuspendEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let caller = self.caller(&request).await?;
        self.set_state(&caller, request.get_ref().environment.as_ref(), StateChange::Suspend).await
    }

    async fn resume_environment(
        &self,
        request: Request<v1::ResumeEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let caller = self.caller(&request).await?;
        self.set_state(&caller, request.get_ref().environment.as_ref(), StateChange::Resume).await
    }

    async fn delete_environment(
        &self,
        request: Request<v1::DeleteEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let seconds = request.grace_seconds.unwrap_or(GRACE_SECONDS);
        if seconds > GRACE_SECONDS_MAX {
            let problem = format!("{seconds}; expected at most {GRACE_SECONDS_MAX}");
            return Err(status(AppError::invalid("grace_seconds", problem)));
        }
        let change = StateChange::Delete { grace: Duration::from_secs(seconds.into()) };
        self.set_state(&caller, request.environment.as_ref(), change).await
    }

    async fn set_quotas(
        &self,
        request: Request<v1::SetQuotasRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let caller = self.caller(&request).await?;
        let name =
            convert::environment_name(request.get_ref().environment.as_ref()).map_err(status)?;
        let quotas = convert::quotas(request.get_ref().quotas.as_ref());
        let found = self.app.set_quotas(&caller, &name, quotas).await.map_err(status)?;
        self.described(&caller, found).await
    }

    async fn allow_host(
        &self,
        request: Request<v1::AllowHostRequest>,
    ) -> Result<Response<v1::AllowHostResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let name = convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let host = convert::parse("host", &request.host).map_err(status)?;
        let created = self.app.allow_host(&caller, &name, &host).await.map_err(status)?;
        Ok(Response::new(v1::AllowHostResponse { created }))
    }

    async fn deny_host(
        &self,
        request: Request<v1::DenyHostRequest>,
    ) -> Result<Response<v1::DenyHostResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let name = convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let host = convert::parse("host", &request.host).map_err(status)?;
        let denied = self.app.deny_host(&caller, &name, &host, request.remove_attachments);
        let attachments_removed = denied.await.map_err(status)?;
        Ok(Response::new(v1::DenyHostResponse { attachments_removed }))
    }

    async fn list_allowed_hosts(
        &self,
        request: Request<v1::ListAllowedHostsRequest>,
    ) -> Result<Response<v1::ListAllowedHostsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let name = convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let (len_max, after) = convert::page(request.page.as_ref()).map_err(status)?;
        let listed = self.app.list_allowed_hosts(&caller, &name, after, len_max);
        let found = listed.await.map_err(status)?;
        let hosts: Vec<String> = found.iter().map(ToString::to_string).collect();
        let page = convert::page_info(hosts.len(), len_max, hosts.last().cloned());
        Ok(Response::new(v1::ListAllowedHostsResponse { hosts, page }))
    }
}
