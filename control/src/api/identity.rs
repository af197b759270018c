//! Calls about people.

use tonic::{Request, Response, Status, async_trait};
use weft_control_api::v1::{
    self, organisations_server::Organisations, sessions_server::Sessions,
    who_am_i_response::Actor as Who,
};
use weft_model::{
    access::{Actor, EnvironmentRole, OrganisationRole},
    record::{Organisation, User},
};
use zeroize::Zeroizing;

use super::{Api, bearer, convert, status::status};
use crate::error::AppError;

fn user(user: User) -> v1::User {
    v1::User {
        id: user.id.to_string(),
        email: user.email,
        name: user.name,
        is_operator: user.operator,
        created_ms: user.created.0,
    }
}

fn organisation(organisation: Organisation, revision: u64) -> v1::Organisation {
    v1::Organisation {
        id: organisation.id.to_string(),
        name: organisation.name.to_string(),
        created_ms: organisation.created.0,
        revision,
    }
}

fn organisation_role(role: OrganisationRole) -> v1::OrganisationRole {
    match role {
        OrganisationRole::Member => v1::OrganisationRole::Member,
        OrganisationRole::Admin => v1::OrganisationRole::Admin,
        OrganisationRole::Owner => v1::OrganisationRole::Owner,
    }
}

fn environment_role(role: EnvironmentRole) -> v1::EnvironmentRole {
    match role {
        EnvironmentRole::Viewer => v1::EnvironmentRole::Viewer,
        EnvironmentRole::Deployer => v1::EnvironmentRole::Deployer,
        EnvironmentRole::Admin => v1::EnvironmentRole::Admin,
    }
}

#[async_trait]
impl Sessions for Api {
    async fn login(
        &self,
        request: Request<v1::LoginRequest>,
    ) -> Result<Response<v1::LoginResponse>, Status> {
        let v1::LoginRequest { email, password } = request.into_inner();
        let login = self.app.login(&email, Zeroizing::new(password)).await.map_err(status)?;
        Ok(Response::new(v1::LoginResponse {
            token: login.secret.to_string(),
            expires_ms: login.session.expires.0,
            user: Some(user(login.user)),
        }))
    }

    async fn logout(
        &self,
        request: Request<v1::LogoutRequest>,
    ) -> Result<Response<v1::LogoutResponse>, Status> {
        if let Some(secret) = bearer(&request).map_err(status)? {
            self.app.logout(secret).await.map_err(status)?;
        }
        Ok(Response::new(v1::LogoutResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let caller = self.caller(&request).await?;
        let mut answer = v1::WhoAmIResponse::default();
        let who = match caller.actor {
            Actor::Nobody => return Err(status(AppError::Unauthenticated)),
            Actor::User { id, organisations, environments, .. } => {
                let organisations = organisations.into_iter().map(|(id, role)| {
                    let role = organisation_role(role).into();
                    v1::OrganisationMembership { organisation: id.to_string(), role }
                });
                answer.organisations = organisations.collect();
                let environments = environments.into_iter().map(|(id, role)| {
                    let role = environment_role(role).into();
                    v1::EnvironmentMembership { environment: id.to_string(), role }
                });
                answer.environments = environments.collect();
                Who::User(user(self.app.user(&id).await.map_err(status)?))
            }
            Actor::Token { id, environment, role } => {
                let (environment, role) = (environment.to_string(), environment_role(role).into());
                answer.environments = vec![v1::EnvironmentMembership { environment, role }];
                Who::Token(id.to_string())
            }
            Actor::Host(id) => Who::Host(id.to_string()),
            Actor::Component(component) => Who::Component(format!("{component:?}").to_lowercase()),
        };
        answer.actor = Some(who);
        Ok(Response::new(answer))
    }

    async fn accept_invitation(
        &self,
        request: Request<v1::AcceptInvitationRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let v1::AcceptInvitationRequest { secret, name, password } = request.into_inner();
        let made = self.app.accept_invitation(&secret, &name, Zeroizing::new(password)).await;
        Ok(Response::new(user(made.map_err(status)?)))
    }
}

#[async_trait]
impl Organisations for Api {
    async fn create_organisation(
        &self,
        request: Request<v1::CreateOrganisationRequest>,
    ) -> Result<Response<v1::CreateOrganisationResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let name = convert::parse("name", &request.name).map_err(status)?;
        let made = self.app.create_organisation(&caller, &name, &request.owner_email).await;
        let (made, invitation) = made.map_err(status)?;
        let found = self.app.get_organisation(&caller, made.id.as_str()).await.map_err(status)?;
        Ok(Response::new(v1::CreateOrganisationResponse {
            organisation: Some(organisation(found.record, found.modified.0)),
            invitation: invitation.to_string(),
        }))
    }

    async fn get_organisation(
        &self,
        request: Request<v1::GetOrganisationRequest>,
    ) -> Result<Response<v1::Organisation>, Status> {
        let caller = self.caller(&request).await?;
        let found = self.app.get_organisation(&caller, &request.get_ref().organisation).await;
        let found = found.map_err(status)?;
        Ok(Response::new(organisation(found.record, found.modified.0)))
    }

    async fn list_organisations(
        &self,
        request: Request<v1::ListOrganisationsRequest>,
    ) -> Result<Response<v1::ListOrganisationsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let (len_max, after) = convert::page(request.get_ref().page.as_ref()).map_err(status)?;
        let found = self.app.list_organisations(&caller, after, len_max).map_err(status)?;
        let last = found.last().map(|last| last.record.id.to_string());
        let page = convert::page_info(found.len(), len_max, last);
        let organisations =
            found.into_iter().map(|found| organisation(found.record, found.modified.0)).collect();
        Ok(Response::new(v1::ListOrganisationsResponse { organisations, page }))
    }
}
