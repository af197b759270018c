//! Calls about attachments, slots and grants.

use tonic::{Request, Response, Status, async_trait};
use weft_control_api::v1::{self, attachments_server::Attachments};

use super::{Api, convert, status::status};
use crate::{
    app::{AttachWish, GRANT_SECONDS_MAX, GrantWish, HostWish},
    error::AppError,
};

/// How long a grant may be used unless it is said, seconds.
const GRANT_SECONDS: u32 = 300;

fn host_wish(host: &str, grant: &str) -> Result<HostWish, AppError> {
    Ok(HostWish { id: convert::parse("host", host)?, grant: convert::optional("grant", grant)? })
}

fn wish(request: &v1::CreateAttachmentRequest) -> Result<AttachWish, AppError> {
    Ok(AttachWish {
        name: convert::parse("name", &request.name)?,
        slot: convert::slot(request.slot.as_ref(), &request.name)?,
        host: host_wish(&request.host, &request.grant)?,
        addresses: convert::parse_all("addresses", &request.addresses)?,
        share: convert::share(request.share.as_ref())?,
    })
}

fn grant_wish(request: &v1::CreateGrantRequest) -> Result<GrantWish, AppError> {
    Ok(GrantWish {
        slot: convert::required_slot(request.slot.as_ref())?,
        host: convert::parse("host", &request.host)?,
        attempt: request.attempt,
        lasts: convert::seconds("seconds", request.seconds, GRANT_SECONDS, GRANT_SECONDS_MAX)?,
        secrets: convert::parse_all("secrets", &request.secrets)?.into_iter().collect(),
    })
}

#[async_trait]
impl Attachments for Api {
    async fn create_attachment(
        &self,
        request: Request<v1::CreateAttachmentRequest>,
    ) -> Result<Response<v1::Attachment>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let name = convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let wish = wish(request).map_err(status)?;
        let made = self.app.create_attachment(&caller, &name, &wish).await.map_err(status)?;
        Ok(Response::new(convert::attachment(made, None)))
    }

    async fn get_attachment(
        &self,
        request: Request<v1::GetAttachmentRequest>,
    ) -> Result<Response<v1::Attachment>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let found = self.app.get_attachment(&caller, &environment, &name).await.map_err(status)?;
        Ok(Response::new(convert::attachment(found.0, found.1)))
    }

    async fn list_attachments(
        &self,
        request: Request<v1::ListAttachmentsRequest>,
    ) -> Result<Response<v1::ListAttachmentsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let (len_max, after) = convert::page(request.page.as_ref()).map_err(status)?;
        let listed = self.app.list_attachments(&caller, &environment, after, len_max);
        let found = listed.await.map_err(status)?;
        let last = found.last().map(|(last, _)| last.name.to_string());
        let page = convert::page_info(found.len(), len_max, last);
        let attachments =
            found.into_iter().map(|(found, health)| convert::attachment(found, health)).collect();
        Ok(Response::new(v1::ListAttachmentsResponse { attachments, page }))
    }

    async fn move_attachment(
        &self,
        request: Request<v1::MoveAttachmentRequest>,
    ) -> Result<Response<v1::Attachment>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let to = host_wish(&request.host, &request.grant).map_err(status)?;
        let moved =
            self.app.move_attachment(&caller, &environment, &name, &to).await.map_err(status)?;
        Ok(Response::new(convert::attachment(moved, None)))
    }

    async fn release_attachment(
        &self,
        request: Request<v1::ReleaseAttachmentRequest>,
    ) -> Result<Response<v1::ReleaseAttachmentResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let name = convert::parse("name", &request.name).map_err(status)?;
        let generation = Some(request.generation).filter(|generation| *generation > 0);
        let released = self.app.release_attachment(&caller, &environment, &name, generation);
        released.await.map_err(status)?;
        Ok(Response::new(v1::ReleaseAttachmentResponse {}))
    }

    async fn reserve_slot(
        &self,
        request: Request<v1::ReserveSlotRequest>,
    ) -> Result<Response<v1::Slot>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let slot = convert::required_slot(request.slot.as_ref()).map_err(status)?;
        let addresses = convert::parse_all("addresses", &request.addresses).map_err(status)?;
        let reserved = self.app.reserve_slot(&caller, &environment, &slot, &addresses);
        Ok(Response::new(convert::slot_record(reserved.await.map_err(status)?)))
    }

    async fn unreserve_slot(
        &self,
        request: Request<v1::UnreserveSlotRequest>,
    ) -> Result<Response<v1::UnreserveSlotResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let slot = convert::required_slot(request.slot.as_ref()).map_err(status)?;
        self.app.unreserve_slot(&caller, &environment, &slot).await.map_err(status)?;
        Ok(Response::new(v1::UnreserveSlotResponse {}))
    }

    async fn list_slots(
        &self,
        request: Request<v1::ListSlotsRequest>,
    ) -> Result<Response<v1::ListSlotsResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let (len_max, after) = convert::page(request.page.as_ref()).map_err(status)?;
        let listed = self.app.list_slots(&caller, &environment, after, len_max);
        let found = listed.await.map_err(status)?;
        let last = found.last().map(|last| format!("{}/{}", last.slot.service, last.slot.slot));
        let page = convert::page_info(found.len(), len_max, last);
        let slots = found.into_iter().map(convert::slot_record).collect();
        Ok(Response::new(v1::ListSlotsResponse { slots, page }))
    }

    async fn create_grant(
        &self,
        request: Request<v1::CreateGrantRequest>,
    ) -> Result<Response<v1::Grant>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let wish = grant_wish(request).map_err(status)?;
        let granted = self.app.create_grant(&caller, &environment, &wish);
        Ok(Response::new(convert::grant(granted.await.map_err(status)?)))
    }

    async fn revoke_grant(
        &self,
        request: Request<v1::RevokeGrantRequest>,
    ) -> Result<Response<v1::RevokeGrantResponse>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.get_ref();
        let environment =
            convert::environment_name(request.environment.as_ref()).map_err(status)?;
        let id = convert::parse("id", &request.id).map_err(status)?;
        self.app.revoke_grant(&caller, &environment, &id).await.map_err(status)?;
        Ok(Response::new(v1::RevokeGrantResponse {}))
    }
}
