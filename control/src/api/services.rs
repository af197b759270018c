//! Calls about services, roles, and what is out of service.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::stream;
use prost::Message;
use tonic::{Request, async_trait, codegen::BoxStream};
use weft_control_api::v1::{self, services_server::Services};
use weft_model::{
    ServiceName,
    projection::{InstanceState, RoleHolder, ServiceDocument, ServicePart},
    record::{Port, Protocol},
    registry::{RoleWish, ServiceWish},
};

use super::{Answer, Api, convert, shown_key, status::status, unread::made_as_read};
use crate::{
    app::{Caller, ServicesWatch, Sight},
    audit::Call,
    error::AppError,
};

/// Most services of a page: each has up to 4 KiB of metadata, 32 ports, and instances of which an environment has
/// a thousand.
const PAGE_LEN_MAX: usize = 100;

fn ports(ports: &[v1::ServicePort]) -> Result<BTreeMap<ServiceName, Port>, AppError> {
    let mut by_name = BTreeMap::new();
    for port in ports {
        let name: ServiceName = convert::parse("ports.name", &port.name)?;
        let protocol = match port.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Unspecified => {
                return Err(AppError::invalid("ports.protocol", "is missing; expected TCP or UDP"));
            }
        };
        let number = u16::try_from(port.port);
        let number = number.map_err(|_| {
            AppError::invalid("ports.port", format!("{}; expected 1 to 65535", port.port))
        })?;
        if by_name.insert(name.clone(), Port { protocol, port: number }).is_some() {
            return Err(AppError::invalid("ports.name", format!("{name} is there twice")));
        }
    }
    Ok(by_name)
}

/// A port as it is sent.
pub(super) fn port_message(name: &ServiceName, port: Port) -> v1::ServicePort {
    let protocol = match port.protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
    };
    v1::ServicePort { name: name.to_string(), protocol: protocol.into(), port: port.port.into() }
}

/// How an instance is, as it is sent.
pub(super) fn state_message(state: InstanceState) -> v1::InstanceState {
    match state {
        InstanceState::Starting => v1::InstanceState::Starting,
        InstanceState::Healthy => v1::InstanceState::Healthy,
        InstanceState::Unhealthy => v1::InstanceState::Unhealthy,
        InstanceState::Drained => v1::InstanceState::Drained,
    }
}

fn role_message(role: &ServiceName, holder: &RoleHolder) -> v1::Role {
    v1::Role {
        role: role.to_string(),
        slot: holder.slot.to_string(),
        holder: holder.attachment.to_string(),
        epoch: holder.epoch,
    }
}

fn message(service: &ServiceDocument) -> v1::Service {
    let instances = service.instances.iter().map(|(slot, instance)| v1::Instance {
        slot: slot.to_string(),
        attachment: instance.attachment.to_string(),
        generation: instance.generation,
        addresses: convert::addresses(&instance.addresses),
        state: state_message(instance.state).into(),
    });
    v1::Service {
        environment: service.environment.to_string(),
        name: service.name.to_string(),
        ports: service.ports.iter().map(|(name, port)| port_message(name, *port)).collect(),
        metadata: service.metadata.clone().into_iter().collect(),
        instances: instances.collect(),
        roles: service.roles.iter().map(|(role, holder)| role_message(role, holder)).collect(),
        revision: service.version,
    }
}

fn service_wish(request: &v1::PutServiceRequest) -> Result<ServiceWish, AppError> {
    Ok(ServiceWish {
        name: convert::parse("name", &request.name)?,
        ports: ports(&request.ports)?,
        metadata: request.metadata.clone().into_iter().collect(),
    })
}

fn role_wish(service: &str, role: &str, epoch: u64) -> Result<RoleWish, AppError> {
    let (service, role) = (convert::parse("service", service)?, convert::parse("role", role)?);
    Ok(RoleWish { service, role, epoch })
}

/// An epoch at which somebody has the role.
fn present(epoch: u64) -> Result<u64, AppError> {
    if epoch == 0 {
        return Err(AppError::invalid("epoch", "is missing; expected the role's present one"));
    }
    Ok(epoch)
}

/// A service as it is sent, and how long that is.
fn measured(service: &ServiceDocument) -> (v1::Service, usize) {
    let message = message(service);
    let len = message.encoded_len();
    (message, len)
}

fn part_message(part: ServicePart<v1::Service>) -> v1::WatchServicesResponse {
    v1::WatchServicesResponse {
        revision: part.revision.0,
        is_snapshot: part.is_snapshot,
        services: part.services,
        removed: part.removed.iter().map(ToString::to_string).collect(),
        more: part.more,
    }
}

/// Tells whoever watches, as long as it may. A part is made when the one before has gone: there is none that waits here.
fn tell(watch: ServicesWatch, api: Api, shown: Request<()>, call: Arc<Call>) -> ServicesStream {
    let shown = Arc::new(shown);
    Box::pin(stream::unfold(Some(watch), move |watch| {
        let (api, shown, call) = (api.clone(), Arc::clone(&shown), Arc::clone(&call));
        async move {
            let mut watch = watch?;
            let caller = || async {
                let sight = Sight::seen();
                let actor = api.actor(&shown, &sight).await?;
                let (key_hash, call) = (shown_key(&shown), Arc::clone(&call));
                Ok(Caller { actor, key_hash, call, sight })
            };
            match watch.next(caller, measured).await {
                Ok(part) => Some((Ok(part_message(part?)), Some(watch))),
                Err(error) => Some((Err(status(error)), None)),
            }
        }
    }))
}

impl Api {
    async fn take_role(
        &self,
        caller: &Caller,
        environment: Option<&v1::EnvironmentName>,
        wish: &RoleWish,
        holder: &str,
    ) -> Result<v1::Role, AppError> {
        let environment = convert::environment_name(environment)?;
        let holder = convert::parse("holder", holder)?;
        let (role, attachment) = self.app.take_role(caller, &environment, wish, &holder).await?;
        let (slot, attachment) = (attachment.slot.slot, attachment.name);
        let holder = RoleHolder { slot, attachment, epoch: role.epoch };
        Ok(role_message(&role.role, &holder))
    }
}

/// What whoever watches services is told.
pub(super) type ServicesStream = BoxStream<v1::WatchServicesResponse>;

#[async_trait]
impl Services for Api {
    type WatchServicesStream = ServicesStream;

    async fn put_service(&self, request: Request<v1::PutServiceRequest>) -> Answer<v1::Service> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let wish = service_wish(&request)?;
            let put = self.app.put_service(&caller, &environment, &wish, request.revision).await;
            Ok(message(&put?))
        })
        .await
    }

    async fn get_service(&self, request: Request<v1::GetServiceRequest>) -> Answer<v1::Service> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let found = self.app.get_service(&caller, &environment, &name).await?;
            Ok(message(&found))
        })
        .await
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Answer<v1::ListServicesResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let len_max = len_max.min(PAGE_LEN_MAX);
            let listed = self.app.list_services(&caller, &environment, after, len_max).await;
            let found = listed?;
            let last = found.last().map(|last| last.name.to_string());
            let page = convert::page_info(found.len(), len_max, last);
            let services = found.iter().map(message).collect();
            Ok(v1::ListServicesResponse { services, page })
        })
        .await
    }

    async fn delete_service(
        &self,
        request: Request<v1::DeleteServiceRequest>,
    ) -> Answer<v1::DeleteServiceResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("name", &request.name)?;
            let deleted = self.app.delete_service(&caller, &environment, &name, request.revision);
            deleted.await?;
            Ok(v1::DeleteServiceResponse {})
        })
        .await
    }

    async fn watch_services(
        &self,
        request: Request<v1::WatchServicesRequest>,
    ) -> Answer<ServicesStream> {
        // What the caller has shown says later on, too, who it is.
        let (metadata, extensions) = (request.metadata().clone(), request.extensions().clone());
        let shown = Request::from_parts(metadata, extensions, ());
        let answer = self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let after = weft_store::Revision(request.revision);
            let watch = ServicesWatch::begin(Arc::clone(&self.app), &caller, &environment, after);
            Ok(tell(watch.await?, self.clone(), shown, caller.call))
        });
        Ok(made_as_read(answer.await?))
    }

    async fn set_drained(
        &self,
        request: Request<v1::SetDrainedRequest>,
    ) -> Answer<v1::SetDrainedResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let name = convert::parse("attachment", &request.attachment)?;
            let generation = Some(request.generation).filter(|generation| *generation > 0);
            let set =
                self.app.set_drained(&caller, &environment, &name, generation, request.drained);
            set.await?;
            Ok(v1::SetDrainedResponse {})
        })
        .await
    }

    async fn acquire_role(&self, request: Request<v1::AcquireRoleRequest>) -> Answer<v1::Role> {
        self.call(request, |caller, request| async move {
            let wish = role_wish(&request.service, &request.role, 0)?;
            self.take_role(&caller, request.environment.as_ref(), &wish, &request.holder).await
        })
        .await
    }

    async fn transfer_role(&self, request: Request<v1::TransferRoleRequest>) -> Answer<v1::Role> {
        self.call(request, |caller, request| async move {
            let wish = role_wish(&request.service, &request.role, present(request.epoch)?)?;
            self.take_role(&caller, request.environment.as_ref(), &wish, &request.holder).await
        })
        .await
    }

    async fn release_role(
        &self,
        request: Request<v1::ReleaseRoleRequest>,
    ) -> Answer<v1::ReleaseRoleResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::environment_name(request.environment.as_ref())?;
            let epoch = present(request.epoch)?;
            let wish = role_wish(&request.service, &request.role, epoch)?;
            self.app.release_role(&caller, &environment, &wish).await?;
            Ok(v1::ReleaseRoleResponse {})
        })
        .await
    }
}
