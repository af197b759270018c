//! Calls of people about their own accounts, and of operators about others'.

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, account_server::Account, users_server::Users};
use zeroize::Zeroizing;

use super::{Answer, Api, bearer, convert, identity::user};
use crate::{
    app::{self, Proof},
    error::AppError,
};

pub(super) fn proof(password: String, code: String) -> Proof {
    Proof { password: Zeroizing::new(password), code: Zeroizing::new(code) }
}

/// The secret of the session that asks; who asks otherwise has none.
fn session<T>(request: &Request<T>) -> Result<Zeroizing<String>, AppError> {
    let shown = bearer(request)?.ok_or(AppError::Refused)?;
    Ok(Zeroizing::new(shown.to_owned()))
}

fn account(account: app::Account) -> v1::UserAccount {
    v1::UserAccount {
        suspended: account.user.suspended,
        has_second_factor: account.has_second_factor,
        user: Some(user(account.user)),
    }
}

#[async_trait]
impl Account for Api {
    async fn change_password(
        &self,
        request: Request<v1::ChangePasswordRequest>,
    ) -> Answer<v1::ChangePasswordResponse> {
        let shown = session(&request);
        self.call(request, |caller, request| async move {
            let v1::ChangePasswordRequest { password, code, new_password } = request;
            let (proof, new) = (proof(password, code), Zeroizing::new(new_password));
            self.app.change_password(&caller, &shown?, proof, new).await?;
            Ok(v1::ChangePasswordResponse {})
        })
        .await
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Answer<v1::ListSessionsResponse> {
        let shown = session(&request);
        self.call(request, |caller, _| async move {
            let found = self.app.list_sessions(&caller, &shown?).await?;
            let sessions = found.into_iter().map(|(session, is_current)| v1::Session {
                id: session.id.to_string(),
                created_ms: session.created.0,
                expires_ms: session.expires.0,
                is_current,
            });
            Ok(v1::ListSessionsResponse { sessions: sessions.collect() })
        })
        .await
    }

    async fn end_session(
        &self,
        request: Request<v1::EndSessionRequest>,
    ) -> Answer<v1::EndSessionResponse> {
        self.call(request, |caller, request| async move {
            let id = convert::parse("id", &request.id)?;
            self.app.end_session(&caller, &id).await?;
            Ok(v1::EndSessionResponse {})
        })
        .await
    }

    async fn enrol_second_factor(
        &self,
        request: Request<v1::EnrolSecondFactorRequest>,
    ) -> Answer<v1::EnrolSecondFactorResponse> {
        self.call(request, |caller, request| async move {
            let proof = proof(request.password, String::new());
            let new = self.app.enrol_second_factor(&caller, proof).await?;
            let (seed, uri) = (new.seed.to_string(), new.uri.to_string());
            Ok(v1::EnrolSecondFactorResponse { seed, uri })
        })
        .await
    }

    async fn confirm_second_factor(
        &self,
        request: Request<v1::ConfirmSecondFactorRequest>,
    ) -> Answer<v1::ConfirmSecondFactorResponse> {
        self.call(request, |caller, request| async move {
            let codes = self.app.confirm_second_factor(&caller, &request.code).await?;
            let recovery_codes = codes.iter().map(|code| code.to_string()).collect();
            Ok(v1::ConfirmSecondFactorResponse { recovery_codes })
        })
        .await
    }

    async fn disable_second_factor(
        &self,
        request: Request<v1::DisableSecondFactorRequest>,
    ) -> Answer<v1::DisableSecondFactorResponse> {
        self.call(request, |caller, request| async move {
            let proof = proof(request.password, request.code);
            self.app.disable_second_factor(&caller, proof).await?;
            Ok(v1::DisableSecondFactorResponse {})
        })
        .await
    }
}

#[async_trait]
impl Users for Api {
    async fn unlock_user(
        &self,
        request: Request<v1::UnlockUserRequest>,
    ) -> Answer<v1::UserAccount> {
        self.call(request, |caller, request| async move {
            Ok(account(self.app.unlock(&caller, &request.user).await?))
        })
        .await
    }

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Answer<v1::ListUsersResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let found = self.app.list_users(&caller, after, len_max)?;
            let last = found.last().map(|last| last.user.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            Ok(v1::ListUsersResponse { users: found.into_iter().map(account).collect(), page })
        })
        .await
    }

    async fn suspend_user(
        &self,
        request: Request<v1::SuspendUserRequest>,
    ) -> Answer<v1::UserAccount> {
        self.call(request, |caller, request| async move {
            Ok(account(self.app.set_suspended(&caller, &request.user, true).await?))
        })
        .await
    }

    async fn resume_user(
        &self,
        request: Request<v1::ResumeUserRequest>,
    ) -> Answer<v1::UserAccount> {
        self.call(request, |caller, request| async move {
            Ok(account(self.app.set_suspended(&caller, &request.user, false).await?))
        })
        .await
    }

    async fn remove_user(
        &self,
        request: Request<v1::RemoveUserRequest>,
    ) -> Answer<v1::RemoveUserResponse> {
        self.call(request, |caller, request| async move {
            self.app.remove_user(&caller, &request.user).await?;
            Ok(v1::RemoveUserResponse {})
        })
        .await
    }

    async fn reset_second_factor(
        &self,
        request: Request<v1::ResetSecondFactorRequest>,
    ) -> Answer<v1::UserAccount> {
        self.call(request, |caller, request| async move {
            Ok(account(self.app.reset_second_factor(&caller, &request.user).await?))
        })
        .await
    }
}
