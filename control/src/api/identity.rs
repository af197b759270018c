//! Calls about people.

use tonic::{Request, async_trait};
use weft_control_api::v1::{
    self, organisations_server::Organisations, sessions_server::Sessions,
    who_am_i_response::Actor as Who,
};
use weft_model::{
    access::{Actor, EnvironmentRole, OrganisationRole},
    record::{Organisation, User},
};
use zeroize::Zeroizing;

use super::{Answer, Api, account::proof, bearer, convert, environments::grace};
use crate::{app::Sight, error::AppError};

pub(super) fn user(user: User) -> v1::User {
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
        purge_ms: organisation.purge.map(|purge| purge.0).unwrap_or_default(),
        environments_max: organisation.environments_max(),
    }
}

pub(super) fn organisation_role(role: OrganisationRole) -> v1::OrganisationRole {
    match role {
        OrganisationRole::Member => v1::OrganisationRole::Member,
        OrganisationRole::Admin => v1::OrganisationRole::Admin,
        OrganisationRole::Owner => v1::OrganisationRole::Owner,
    }
}

pub(super) fn environment_role(role: EnvironmentRole) -> v1::EnvironmentRole {
    match role {
        EnvironmentRole::Viewer => v1::EnvironmentRole::Viewer,
        EnvironmentRole::Deployer => v1::EnvironmentRole::Deployer,
        EnvironmentRole::Admin => v1::EnvironmentRole::Admin,
    }
}

impl Api {
    /// Who somebody is and what they may do.
    pub(super) async fn described_actor(
        &self,
        actor: Actor,
        sight: &Sight,
    ) -> Result<v1::WhoAmIResponse, AppError> {
        let mut answer = v1::WhoAmIResponse::default();
        let who = match actor {
            Actor::Nobody => return Err(AppError::Unauthenticated),
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
                Who::User(user(self.app.user_seen(&id, sight).await?))
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
        Ok(answer)
    }
}

#[async_trait]
impl Sessions for Api {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Answer<v1::LoginResponse> {
        self.call(request, |caller, request| async move {
            let v1::LoginRequest { email, password, code } = request;
            let login = self.app.login(&caller, &email, proof(password, code)).await?;
            Ok(v1::LoginResponse {
                token: login.secret.to_string(),
                expires_ms: login.session.expires.0,
                user: Some(user(login.user)),
            })
        })
        .await
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Answer<v1::LogoutResponse> {
        let shown = bearer(&request).map(|shown| shown.map(|it| Zeroizing::new(it.to_owned())));
        self.call(request, |caller, _| async move {
            if let Some(secret) = shown? {
                self.app.logout(&caller, &secret).await?;
            }
            Ok(v1::LogoutResponse {})
        })
        .await
    }

    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        self.call(request, |caller, _| async move {
            self.described_actor(caller.actor, &caller.sight).await
        })
        .await
    }

    async fn accept_invitation(
        &self,
        request: Request<v1::AcceptInvitationRequest>,
    ) -> Answer<v1::User> {
        self.call(request, |caller, request| async move {
            let v1::AcceptInvitationRequest { secret, name, password } = request;
            let made =
                self.app.accept_invitation(&caller, &secret, &name, Zeroizing::new(password)).await;
            Ok(user(made?))
        })
        .await
    }

    async fn join_by_invitation(
        &self,
        request: Request<v1::JoinByInvitationRequest>,
    ) -> Answer<v1::User> {
        self.call(request, |caller, request| async move {
            let joined = self.app.join_by_invitation(&caller, &request.secret).await?;
            Ok(user(joined))
        })
        .await
    }
}

#[async_trait]
impl Organisations for Api {
    async fn create_organisation(
        &self,
        request: Request<v1::CreateOrganisationRequest>,
    ) -> Answer<v1::CreateOrganisationResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::parse("name", &request.name)?;
            let made = self.app.create_organisation(&caller, &name, &request.owner_email).await;
            let (made, invitation) = made?;
            let found = self.app.get_organisation(&caller, made.id.as_str()).await?;
            Ok(v1::CreateOrganisationResponse {
                organisation: Some(organisation(found.record, found.modified.0)),
                invitation: invitation.to_string(),
            })
        })
        .await
    }

    async fn get_organisation(
        &self,
        request: Request<v1::GetOrganisationRequest>,
    ) -> Answer<v1::Organisation> {
        self.call(request, |caller, request| async move {
            let found = self.app.get_organisation(&caller, &request.organisation).await;
            let found = found?;
            Ok(organisation(found.record, found.modified.0))
        })
        .await
    }

    async fn list_organisations(
        &self,
        request: Request<v1::ListOrganisationsRequest>,
    ) -> Answer<v1::ListOrganisationsResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let found = self.app.list_organisations(&caller, after, len_max)?;
            let last = found.last().map(|last| last.record.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let organisations = found
                .into_iter()
                .map(|found| organisation(found.record, found.modified.0))
                .collect();
            Ok(v1::ListOrganisationsResponse { organisations, page })
        })
        .await
    }

    async fn rename_organisation(
        &self,
        request: Request<v1::RenameOrganisationRequest>,
    ) -> Answer<v1::Organisation> {
        self.call(request, |caller, request| async move {
            let name = convert::parse("name", &request.name)?;
            let renamed =
                self.app.rename_organisation(&caller, &request.organisation, &name).await?;
            Ok(organisation(renamed.record, renamed.modified.0))
        })
        .await
    }

    async fn set_organisation_quotas(
        &self,
        request: Request<v1::SetOrganisationQuotasRequest>,
    ) -> Answer<v1::Organisation> {
        self.call(request, |caller, request| async move {
            let v1::SetOrganisationQuotasRequest { organisation: of, environments_max } = request;
            let set = self.app.set_environments_max(&caller, &of, environments_max).await?;
            Ok(organisation(set.record, set.modified.0))
        })
        .await
    }

    async fn delete_organisation(
        &self,
        request: Request<v1::DeleteOrganisationRequest>,
    ) -> Answer<v1::Organisation> {
        self.call(request, |caller, request| async move {
            let grace = grace(request.grace_seconds)?;
            let going = self.app.delete_organisation(&caller, &request.organisation, grace).await?;
            Ok(organisation(going.record, going.modified.0))
        })
        .await
    }

    async fn restore_organisation(
        &self,
        request: Request<v1::RestoreOrganisationRequest>,
    ) -> Answer<v1::Organisation> {
        self.call(request, |caller, request| async move {
            let stays = self.app.restore_organisation(&caller, &request.organisation).await?;
            Ok(organisation(stays.record, stays.modified.0))
        })
        .await
    }
}
