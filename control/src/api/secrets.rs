//! Calls about secrets. Values are moved, never copied, and wiped where they end.

use tonic::{Request, Response, Status, async_trait};
use weft_control_api::v1::{self, secrets_server::Secrets};
use weft_model::record::Secret;

use super::{Api, convert, status::status};
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
    async fn put_secret(
        &self,
        mut request: Request<v1::PutSecretRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let value = request.get_mut().value.as_mut().map(v1::SecretValue::take);
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let missing = || status(AppError::invalid("value", "is missing"));
        let value = value.ok_or_else(missing)?;
        let put = self.app.put_secret(&caller, &environment, &name, request.version, &value).await;
        Ok(Response::new(message(put.map_err(status)?)))
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let (len_max, after) = convert::page(request.page.as_ref()).map_err(status)?;
        let listed = self.app.list_secrets(&caller, &environment, after, len_max).await;
        let found = listed.map_err(status)?;
        let last = found.last().map(|last| last.name.to_string());
        let page = convert::page_info(found.len(), len_max, last);
        let secrets = found.into_iter().map(message).collect();
        Ok(Response::new(v1::ListSecretsResponse { secrets, page }))
    }

    async fn get_secret_metadata(
        &self,
        request: Request<v1::GetSecretMetadataRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let found = self.app.get_secret(&caller, &environment, &name).await.map_err(status)?;
        Ok(Response::new(message(found)))
    }

    async fn release_secret(
        &self,
        request: Request<v1::ReleaseSecretRequest>,
    ) -> Result<Response<v1::ReleaseSecretResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let grant = convert::optional("grant", &request.grant).map_err(status)?;
        let released =
            self.app.release_secret(&caller, &environment, &name, request.version, grant.as_ref());
        Ok(Response::new(released_message(released.await.map_err(status)?)))
    }

    async fn destroy_secret_versions(
        &self,
        request: Request<v1::DestroySecretVersionsRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let destroyed =
            self.app.destroy_secret_versions(&caller, &environment, &name, &request.versions);
        Ok(Response::new(message(destroyed.await.map_err(status)?)))
    }

    async fn delete_secret(
        &self,
        request: Request<v1::DeleteSecretRequest>,
    ) -> Result<Response<v1::DeleteSecretResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let deleted = self.app.delete_secret(&caller, &environment, &name, request.version);
        deleted.await.map_err(status)?;
        Ok(Response::new(v1::DeleteSecretResponse {}))
    }
}
