//! Calls about environments.

use std::time::Duration;

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, environments_server::Environments};
use weft_model::{Decoded, policy::Verdict, record::Environment};

use super::{Answer, Api, account::proof, convert, settings};
use crate::{
    app::{Caller, EnvironmentReference, NewEnvironment, Rotation, StateChange},
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
    ) -> Result<v1::Environment, AppError> {
        let reference: EnvironmentReference = found.record.id.as_str().parse()?;
        // Who may change it may see it.
        Ok(convert::environment(self.app.get_environment(caller, &reference).await?))
    }

    async fn set_state(
        &self,
        caller: &Caller,
        name: Option<&v1::EnvironmentName>,
        change: StateChange,
    ) -> Result<v1::Environment, AppError> {
        let reference = convert::environment_name(name)?;
        let found = self.app.set_environment_state(caller, &reference, change).await?;
        self.described(caller, found).await
    }
}

/// How long something that is deleted can be taken back.
pub(super) fn grace(seconds: Option<u32>) -> Result<Duration, AppError> {
    let seconds = seconds.unwrap_or(GRACE_SECONDS);
    if seconds > GRACE_SECONDS_MAX {
        let problem = format!("{seconds}; expected at most {GRACE_SECONDS_MAX}");
        return Err(AppError::invalid("grace_seconds", problem));
    }
    Ok(Duration::from_secs(seconds.into()))
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
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            let new = new_environment(&request)?;
            let made = self.app.create_environment(&caller, &new).await?;
            self.described(&caller, made).await
        })
        .await
    }

    async fn get_environment(
        &self,
        request: Request<v1::GetEnvironmentRequest>,
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            Ok(convert::environment(self.app.get_environment(&caller, &name).await?))
        })
        .await
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Answer<v1::ListEnvironmentsResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let organisation = Some(request.organisation.as_str()).filter(|text| !text.is_empty());
            let listed = self.app.list_environments(&caller, organisation, after, len_max);
            let found = listed.await?;
            let last = found.last().map(|last| last.environment.record.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let environments = found.into_iter().map(convert::environment).collect();
            Ok(v1::ListEnvironmentsResponse { environments, page })
        })
        .await
    }

    async fn suspend_environment(
        &self,
        request: Request<v1::SuspendEnvironmentRequest>,
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            self.set_state(&caller, request.environment.as_ref(), StateChange::Suspend).await
        })
        .await
    }

    async fn resume_environment(
        &self,
        request: Request<v1::ResumeEnvironmentRequest>,
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            self.set_state(&caller, request.environment.as_ref(), StateChange::Resume).await
        })
        .await
    }

    async fn delete_environment(
        &self,
        request: Request<v1::DeleteEnvironmentRequest>,
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            let v1::DeleteEnvironmentRequest { environment, grace_seconds, password, code } =
                request;
            let (proof, grace) = (proof(password, code), grace(grace_seconds)?);
            let name = convert::environment_name(environment.as_ref())?;
            let found = self.app.delete_environment(&caller, &name, grace, proof).await?;
            self.described(&caller, found).await
        })
        .await
    }

    async fn update_environment(
        &self,
        request: Request<v1::UpdateEnvironmentRequest>,
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let change = settings::change(&request)?;
            let found = self.app.update_environment(&caller, &name, &change).await?;
            self.described(&caller, found).await
        })
        .await
    }

    async fn set_quotas(&self, request: Request<v1::SetQuotasRequest>) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let quotas = convert::quotas(request.quotas.as_ref());
            let found = self.app.set_quotas(&caller, &name, quotas).await?;
            self.described(&caller, found).await
        })
        .await
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Answer<v1::Environment> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let v1::RotateAuthorityRequest { generation, emergency, .. } = request;
            if generation == 0 {
                let problem = "is missing; expected the generation that is to be replaced";
                return Err(AppError::invalid("generation", problem));
            }
            let rotation = Rotation { replaces: generation, is_emergency: emergency };
            let found = self.app.rotate_authority(&caller, &name, rotation).await?;
            self.described(&caller, found).await
        })
        .await
    }

    async fn allow_host(
        &self,
        request: Request<v1::AllowHostRequest>,
    ) -> Answer<v1::AllowHostResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let host = convert::parse("host", &request.host)?;
            let created = self.app.allow_host(&caller, &name, &host).await?;
            Ok(v1::AllowHostResponse { created })
        })
        .await
    }

    async fn deny_host(
        &self,
        request: Request<v1::DenyHostRequest>,
    ) -> Answer<v1::DenyHostResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let host = convert::parse("host", &request.host)?;
            let denied = self.app.deny_host(&caller, &name, &host, request.remove_attachments);
            let attachments_removed = denied.await?;
            Ok(v1::DenyHostResponse { attachments_removed })
        })
        .await
    }

    async fn list_allowed_hosts(
        &self,
        request: Request<v1::ListAllowedHostsRequest>,
    ) -> Answer<v1::ListAllowedHostsResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_allowed_hosts(&caller, &name, after, len_max);
            let found = listed.await?;
            let hosts: Vec<String> = found.iter().map(ToString::to_string).collect();
            let page = convert::page_info(hosts.len(), len_max, hosts.last().cloned());
            Ok(v1::ListAllowedHostsResponse { hosts, page })
        })
        .await
    }
}
