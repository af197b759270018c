//! Calls about who is in organisations and environments.

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, members_server::Members};
use weft_model::{
    access::{EnvironmentRole, OrganisationRole},
    record::{Invitation, InvitedTo, Membership},
};

use super::{
    Answer, Api, convert,
    identity::{environment_role, organisation_role},
};
use crate::{app::Member, error::AppError};

fn asked_organisation_role(role: v1::OrganisationRole) -> Result<OrganisationRole, AppError> {
    match role {
        v1::OrganisationRole::Member => Ok(OrganisationRole::Member),
        v1::OrganisationRole::Admin => Ok(OrganisationRole::Admin),
        v1::OrganisationRole::Owner => Ok(OrganisationRole::Owner),
        v1::OrganisationRole::Unspecified => {
            Err(AppError::invalid("role", "is missing; expected member, admin or owner"))
        }
    }
}

pub(super) fn asked_environment_role(
    role: v1::EnvironmentRole,
) -> Result<EnvironmentRole, AppError> {
    match role {
        v1::EnvironmentRole::Viewer => Ok(EnvironmentRole::Viewer),
        v1::EnvironmentRole::Deployer => Ok(EnvironmentRole::Deployer),
        v1::EnvironmentRole::Admin => Ok(EnvironmentRole::Admin),
        v1::EnvironmentRole::Unspecified => {
            Err(AppError::invalid("role", "is missing; expected viewer, deployer or admin"))
        }
    }
}

fn member(member: Member) -> v1::Member {
    let Member { user, membership } = member;
    let Membership { role, environments, created, .. } = membership;
    let environments =
        environments.into_iter().map(|(environment, role)| v1::EnvironmentMembership {
            environment: environment.to_string(),
            role: environment_role(role).into(),
        });
    v1::Member {
        user: user.id.to_string(),
        email: user.email,
        name: user.name,
        role: organisation_role(role).into(),
        environments: environments.collect(),
        since_ms: created.0,
    }
}

fn environment_member(member: Member, role: EnvironmentRole) -> v1::EnvironmentMember {
    let Member { user, membership } = member;
    v1::EnvironmentMember {
        user: user.id.to_string(),
        email: user.email,
        name: user.name,
        role: environment_role(role).into(),
        by_organisation: membership.role >= OrganisationRole::Admin,
    }
}

fn invitation(invitation: Invitation) -> v1::Invitation {
    let role = match invitation.to {
        InvitedTo::Installation => v1::OrganisationRole::Unspecified,
        InvitedTo::Organisation(_, role) => organisation_role(role),
    };
    v1::Invitation {
        id: invitation.id.to_string(),
        email: invitation.email,
        role: role.into(),
        invited_by: invitation.by.map(|by| by.to_string()).unwrap_or_default(),
        created_ms: invitation.created.0,
        expires_ms: invitation.expires.0,
    }
}

#[async_trait]
impl Members for Api {
    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Answer<v1::ListMembersResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_members(&caller, &request.organisation, after, len_max);
            let found = listed.await?;
            let last = found.last().map(|last| last.user.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let members = found.into_iter().map(member).collect();
            Ok(v1::ListMembersResponse { members, page })
        })
        .await
    }

    async fn invite_member(
        &self,
        request: Request<v1::InviteMemberRequest>,
    ) -> Answer<v1::InviteMemberResponse> {
        self.call(request, |caller, request| async move {
            let role = asked_organisation_role(request.role())?;
            let v1::InviteMemberRequest { organisation, email, .. } = request;
            let invited = self.app.invite_member(&caller, &organisation, &email, role).await;
            let (made, secret) = invited?;
            let secret = secret.to_string();
            Ok(v1::InviteMemberResponse { invitation: Some(invitation(made)), secret })
        })
        .await
    }

    async fn list_invitations(
        &self,
        request: Request<v1::ListInvitationsRequest>,
    ) -> Answer<v1::ListInvitationsResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_invitations(&caller, &request.organisation, after, len_max);
            let found = listed.await?;
            let last = found.last().map(|last| last.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let invitations = found.into_iter().map(invitation).collect();
            Ok(v1::ListInvitationsResponse { invitations, page })
        })
        .await
    }

    async fn revoke_invitation(
        &self,
        request: Request<v1::RevokeInvitationRequest>,
    ) -> Answer<v1::RevokeInvitationResponse> {
        self.call(request, |caller, request| async move {
            let id = convert::parse("id", &request.id)?;
            self.app.revoke_invitation(&caller, &request.organisation, &id).await?;
            Ok(v1::RevokeInvitationResponse {})
        })
        .await
    }

    async fn set_member_role(
        &self,
        request: Request<v1::SetMemberRoleRequest>,
    ) -> Answer<v1::Member> {
        self.call(request, |caller, request| async move {
            let role = asked_organisation_role(request.role())?;
            let v1::SetMemberRoleRequest { organisation, user, .. } = request;
            Ok(member(self.app.set_member_role(&caller, &organisation, &user, role).await?))
        })
        .await
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Answer<v1::RemoveMemberResponse> {
        self.call(request, |caller, request| async move {
            self.app.remove_member(&caller, &request.organisation, &request.user).await?;
            Ok(v1::RemoveMemberResponse {})
        })
        .await
    }

    async fn list_environment_members(
        &self,
        request: Request<v1::ListEnvironmentMembersRequest>,
    ) -> Answer<v1::ListEnvironmentMembersResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_environment_members(&caller, &name, after, len_max);
            let found = listed.await?;
            let last = found.last().map(|(last, _)| last.user.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let members =
                found.into_iter().map(|(member, role)| environment_member(member, role)).collect();
            Ok(v1::ListEnvironmentMembersResponse { members, page })
        })
        .await
    }

    async fn set_environment_role(
        &self,
        request: Request<v1::SetEnvironmentRoleRequest>,
    ) -> Answer<v1::EnvironmentMember> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let role = asked_environment_role(request.role())?;
            let given = self.app.set_environment_role(&caller, &name, &request.user, role);
            let (member, role) = given.await?;
            Ok(environment_member(member, role))
        })
        .await
    }

    async fn remove_environment_role(
        &self,
        request: Request<v1::RemoveEnvironmentRoleRequest>,
    ) -> Answer<v1::RemoveEnvironmentRoleResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            self.app.remove_environment_role(&caller, &name, &request.user).await?;
            Ok(v1::RemoveEnvironmentRoleResponse {})
        })
        .await
    }
}
