//! Calls about secrets. Values are moved, never copied, and wiped where they end.

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, secrets_server::Secrets};
use weft_model::record::Secret;

use super::{Answer, Api, convert};
use crate::{app::Released, error::AppError};

fn message(secret: Secret) -> v1::Secret {
    let versions = secret.versions.into_iter().map(|known| v1::SecretVersion {
        version: known.version,
        bytes: known.bytes,
        created_ms: known.created.0,
        destroyed_ms: known.destroyed.map_or(0, |destroyed| destroyed.0),
    });
    v1::Secret {
        environment: secret.environment.to_string(),
        name: secret.name.to_string(),
        version: secret.version,
        versions: versions.collect(),
        created_ms: secret.created.0,
    }
}

fn released_message(released: Released) -> v1::ReleaseSecretResponse {
    let Released { version, mut value } = released;
    let data = std::mem::take(&mut *value);
    v1::ReleaseSecretResponse { version, value: Some(v1::SecretValue { data }) }
}

#[async_trait]
impl Secrets for Api {
    async fn put_secret(&self, request: Request<v1::PutSecretRequest>) -> Answer<v1::Secret> {
        self.call(request, |caller, mut request| async move {
            let value = request.value.as_mut().map(v1::SecretValue::take);
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let value = value.ok_or_else(|| AppError::invalid("value", "is missing"))?;
            let put = self.app.put_secret(&caller, &environment, &name, request.version, &value);
            Ok(message(put.await?))
        })
        .await
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Answer<v1::ListSecretsResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_secrets(&caller, &environment, after, len_max).await;
            let found = listed?;
            let last = found.last().map(|last| last.name.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let secrets = found.into_iter().map(message).collect();
            Ok(v1::ListSecretsResponse { secrets, page })
        })
        .await
    }

    async fn get_secret_metadata(
        &self,
        request: Request<v1::GetSecretMetadataRequest>,
    ) -> Answer<v1::Secret> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let found = self.app.get_secret(&caller, &environment, &name).await?;
            Ok(message(found))
        })
        .await
    }

    async fn release_secret(
        &self,
        request: Request<v1::ReleaseSecretRequest>,
    ) -> Answer<v1::ReleaseSecretResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let grant = convert::optional("grant", &request.grant)?;
            let released = self.app.release_secret(
                &caller,
                &environment,
                &name,
                request.version,
                grant.as_ref(),
            );
            Ok(released_message(released.await?))
        })
        .await
    }

    async fn destroy_secret_versions(
        &self,
        request: Request<v1::DestroySecretVersionsRequest>,
    ) -> Answer<v1::Secret> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let destroyed =
                self.app.destroy_secret_versions(&caller, &environment, &name, &request.versions);
            Ok(message(destroyed.await?))
        })
        .await
    }

    async fn delete_secret(
        &self,
        request: Request<v1::DeleteSecretRequest>,
    ) -> Answer<v1::DeleteSecretResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let deleted = self.app.delete_secret(&caller, &environment, &name, request.version);
            deleted.await?;
            Ok(v1::DeleteSecretResponse {})
        })
        .await
    }
}
