//! Calls about attachments, slots and grants.

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, attachments_server::Attachments};

use super::{Answer, Api, convert};
use crate::{
    app::{AttachWish, AttachmentHealth, GRANT_SECONDS_MAX, GrantWish, HostWish},
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
    ) -> Answer<v1::Attachment> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let wish = wish(&request)?;
            let made = self.app.create_attachment(&caller, &name, &wish).await?;
            Ok(convert::attachment(made, AttachmentHealth::default()))
        })
        .await
    }

    async fn get_attachment(
        &self,
        request: Request<v1::GetAttachmentRequest>,
    ) -> Answer<v1::Attachment> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let found = self.app.get_attachment(&caller, &environment, &name).await?;
            Ok(convert::attachment(found.0, found.1))
        })
        .await
    }

    async fn list_attachments(
        &self,
        request: Request<v1::ListAttachmentsRequest>,
    ) -> Answer<v1::ListAttachmentsResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_attachments(&caller, &environment, after, len_max);
            let found = listed.await?;
            let last = found.last().map(|(last, _)| last.name.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let attachments = found
                .into_iter()
                .map(|(found, health)| convert::attachment(found, health))
                .collect();
            Ok(v1::ListAttachmentsResponse { attachments, page })
        })
        .await
    }

    async fn move_attachment(
        &self,
        request: Request<v1::MoveAttachmentRequest>,
    ) -> Answer<v1::Attachment> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let to = host_wish(&request.host, &request.grant)?;
            let moved = self.app.move_attachment(&caller, &environment, &name, &to).await?;
            Ok(convert::attachment(moved, AttachmentHealth::default()))
        })
        .await
    }

    async fn release_attachment(
        &self,
        request: Request<v1::ReleaseAttachmentRequest>,
    ) -> Answer<v1::ReleaseAttachmentResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let generation = Some(request.generation).filter(|generation| *generation > 0);
            let released = self.app.release_attachment(&caller, &environment, &name, generation);
            released.await?;
            Ok(v1::ReleaseAttachmentResponse {})
        })
        .await
    }

    async fn reserve_slot(&self, request: Request<v1::ReserveSlotRequest>) -> Answer<v1::Slot> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let slot = convert::required_slot(request.slot.as_ref())?;
            let addresses = convert::parse_all("addresses", &request.addresses)?;
            let reserved = self.app.reserve_slot(&caller, &environment, &slot, &addresses);
            Ok(convert::slot_record(reserved.await?))
        })
        .await
    }

    async fn unreserve_slot(
        &self,
        request: Request<v1::UnreserveSlotRequest>,
    ) -> Answer<v1::UnreserveSlotResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let slot = convert::required_slot(request.slot.as_ref())?;
            self.app.unreserve_slot(&caller, &environment, &slot).await?;
            Ok(v1::UnreserveSlotResponse {})
        })
        .await
    }

    async fn list_slots(
        &self,
        request: Request<v1::ListSlotsRequest>,
    ) -> Answer<v1::ListSlotsResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let listed = self.app.list_slots(&caller, &environment, after, len_max);
            let found = listed.await?;
            let last = found.last().map(|last| format!("{}/{}", last.slot.service, last.slot.slot));
            let page = convert::page_info(found.len(), len_max, last);
            let slots = found.into_iter().map(convert::slot_record).collect();
            Ok(v1::ListSlotsResponse { slots, page })
        })
        .await
    }

    async fn create_grant(&self, request: Request<v1::CreateGrantRequest>) -> Answer<v1::Grant> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let wish = grant_wish(&request)?;
            Ok(convert::grant(self.app.create_grant(&caller, &environment, &wish).await?))
        })
        .await
    }

    async fn revoke_grant(
        &self,
        request: Request<v1::RevokeGrantRequest>,
    ) -> Answer<v1::RevokeGrantResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let id = convert::parse("id", &request.id)?;
            self.app.revoke_grant(&caller, &environment, &id).await?;
            Ok(v1::RevokeGrantResponse {})
        })
        .await
    }
}
