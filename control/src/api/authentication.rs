//! Calls about SSH keys, and about who shows a key or a token.

use tonic::{Request, async_trait};
use weft_control_api::v1::{
    self, authentication_server::Authentication, resolve_ssh_key_request::Key,
    ssh_keys_server::SshKeys,
};
use weft_model::record::SshKey;
use zeroize::Zeroizing;

use super::{Answer, Api, account::proof, convert};
use crate::{
    app::{Possession, Sight, SshKeyWish},
    error::AppError,
    ssh,
};

fn ssh_key(key: SshKey) -> v1::SshKey {
    v1::SshKey {
        id: key.id.to_string(),
        name: key.name,
        key: key.key,
        fingerprint: ssh::print_fingerprint(&key.fingerprint),
        created_ms: key.created.0,
    }
}

fn asked_fingerprint(key: Option<Key>) -> Result<String, AppError> {
    match key {
        Some(Key::Fingerprint(text)) => ssh::read_fingerprint(&text).ok_or_else(|| {
            AppError::invalid("fingerprint", "expected SHA256:… as OpenSSH prints it")
        }),
        Some(Key::Blob(blob)) => Ok(ssh::fingerprint(&blob)),
        None => Err(AppError::invalid("key", "is missing; expected a fingerprint or a blob")),
    }
}

#[async_trait]
impl SshKeys for Api {
    async fn challenge_ssh_key(
        &self,
        request: Request<v1::ChallengeSshKeyRequest>,
    ) -> Answer<v1::ChallengeSshKeyResponse> {
        self.call(request, |caller, request| async move {
            let told = self.app.challenge_ssh_key(&caller, &request.key).await?;
            let (message, expires_ms) = (told.message, told.expires.0);
            Ok(v1::ChallengeSshKeyResponse { message, expires_ms })
        })
        .await
    }

    async fn add_ssh_key(&self, request: Request<v1::AddSshKeyRequest>) -> Answer<v1::SshKey> {
        self.call(request, |caller, request| async move {
            let v1::AddSshKeyRequest { key, name, password, code, message, signature } = request;
            let possession = Possession { message: &message, signature: &signature };
            let wish = SshKeyWish { line: &key, name: &name, possession };
            let proof = proof(password, code);
            Ok(ssh_key(self.app.add_ssh_key(&caller, wish, proof).await?))
        })
        .await
    }

    async fn list_ssh_keys(
        &self,
        request: Request<v1::ListSshKeysRequest>,
    ) -> Answer<v1::ListSshKeysResponse> {
        self.call(request, |caller, request| async move {
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let found = self.app.list_ssh_keys(&caller, after, len_max)?;
            let last = found.last().map(|last| last.id.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            Ok(v1::ListSshKeysResponse { keys: found.into_iter().map(ssh_key).collect(), page })
        })
        .await
    }

    async fn remove_ssh_key(
        &self,
        request: Request<v1::RemoveSshKeyRequest>,
    ) -> Answer<v1::RemoveSshKeyResponse> {
        self.call(request, |caller, request| async move {
            let id = convert::parse("id", &request.id)?;
            let removed = self.app.remove_ssh_key(&caller, &id).await?;
            let fingerprint = ssh::print_fingerprint(&removed.fingerprint);
            Ok(v1::RemoveSshKeyResponse { fingerprint })
        })
        .await
    }
}

#[async_trait]
impl Authentication for Api {
    async fn resolve_ssh_key(
        &self,
        request: Request<v1::ResolveSshKeyRequest>,
    ) -> Answer<v1::WhoAmIResponse> {
        self.call(request, |caller, request| async move {
            let fingerprint = asked_fingerprint(request.key)?;
            let actor = self.app.resolve_ssh_key(&caller, &fingerprint).await?;
            self.described_actor(actor, &Sight::stored()).await
        })
        .await
    }

    async fn resolve_token(
        &self,
        request: Request<v1::ResolveTokenRequest>,
    ) -> Answer<v1::WhoAmIResponse> {
        self.call(request, |caller, request| async move {
            let secret = Zeroizing::new(request.secret);
            let actor = self.app.resolve_token(&caller, &secret).await?;
            self.described_actor(actor, &Sight::stored()).await
        })
        .await
    }
}
