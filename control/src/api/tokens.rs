//! Calls about tokens of machines.

use std::{collections::BTreeSet, mem};

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, tokens_server::Tokens};
use weft_model::record::{Token, TokenUse};

use super::{
    Answer, Api, account::proof, convert, identity::environment_role,
    members::asked_environment_role,
};
use crate::{app::NewToken, error::AppError};

/// How long a token is good unless it is said.
const TOKEN_SECONDS: u32 = 90 * 24 * 3_600;

fn asked_use(used: i32) -> Result<TokenUse, AppError> {
    match v1::TokenUse::try_from(used) {
        Ok(v1::TokenUse::Api) => Ok(TokenUse::Api),
        Ok(v1::TokenUse::Edge) => Ok(TokenUse::Edge),
        Ok(v1::TokenUse::Git) => Ok(TokenUse::Git),
        Ok(v1::TokenUse::Registry) => Ok(TokenUse::Registry),
        Ok(v1::TokenUse::Unspecified) | Err(_) => {
            Err(AppError::invalid("uses", format!("{used}; expected api, edge, git or registry")))
        }
    }
}

fn token_use(used: TokenUse) -> v1::TokenUse {
    match used {
        TokenUse::Api => v1::TokenUse::Api,
        TokenUse::Edge => v1::TokenUse::Edge,
        TokenUse::Git => v1::TokenUse::Git,
        TokenUse::Registry => v1::TokenUse::Registry,
    }
}

fn token(token: Token) -> v1::Token {
    v1::Token {
        id: token.id.to_string(),
        name: token.name,
        role: environment_role(token.role).into(),
        uses: token.uses.into_iter().map(|used| token_use(used).into()).collect(),
        created_by: token.created_by.to_string(),
        created_ms: token.created.0,
        expires_ms: token.expires.0,
        used_ms: token.used.map(|used| used.0).unwrap_or_default(),
    }
}

fn new_token(request: &v1::CreateTokenRequest) -> Result<NewToken, AppError> {
    let uses: Result<BTreeSet<_>, _> = request.uses.iter().map(|used| asked_use(*used)).collect();
    Ok(NewToken {
        name: request.name.clone(),
        role: asked_environment_role(request.role())?,
        uses: uses?,
        seconds: if request.seconds == 0 { TOKEN_SECONDS } else { request.seconds },
    })
}

#[async_trait]
impl Tokens for Api {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Answer<v1::CreateTokenResponse> {
        self.call(request, |caller, mut request| async move {
            let proof = proof(mem::take(&mut request.password), mem::take(&mut request.code));
            let name = convert::environment_name(request.environment.as_ref())?;
            let new = new_token(&request)?;
            let (made, secret) = self.app.create_token(&caller, &name, &new, proof).await?;
            let secret = secret.to_string();
            Ok(v1::CreateTokenResponse { token: Some(token(made)), secret })
        })
        .await
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Answer<v1::ListTokensResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let found = self.app.list_tokens(&caller, &name, after, len_max).await?;
            let last = found.last().map(|last| last.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let tokens = found.into_iter().map(token).collect();
            Ok(v1::ListTokensResponse { tokens, page })
        })
        .await
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Answer<v1::RevokeTokenResponse> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let id = convert::parse("id", &request.id)?;
            self.app.revoke_token(&caller, &name, &id).await?;
            Ok(v1::RevokeTokenResponse {})
        })
        .await
    }
}
