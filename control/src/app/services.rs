//! Services of environments, who has which role of them, and what is out of service.

use weft_model::{
    Decoded, ServiceName,
    access::Action,
    placement::Decision,
    projection::ServiceDocument,
    record::{Attachment, Drain, Role, Service},
    registry::{self, RoleWish, ServiceWish},
};
use weft_types::{AttachmentName, EnvironmentId};

use super::{App, AppError, Caller, EnvironmentReference, attachments::Known};

/// A service as it is registered from now on, with the slots and roles that it had.
fn put(before: Option<ServiceDocument>, service: Service) -> ServiceDocument {
    let (instances, roles) =
        before.map(|before| (before.instances, before.roles)).unwrap_or_default();
    let Service { environment, name, ports, metadata, version } = service;
    ServiceDocument { environment, name, version, ports, metadata, instances, roles }
}

impl App {
    /// Says what a service is, if it is at `version`; 0 if nobody has registered it.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn put_service(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        wish: &ServiceWish,
        version: u64,
    ) -> Result<ServiceDocument, AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let existing = self.read::<Service>(&known.path(wish.name.as_str())).await?;
            let path = known.path("");
            let registered =
                self.view.read(|state| state.list::<Service>(&path, None, usize::MAX))?.len();
            let (scene, existing) = (known.scene(), existing.as_ref());
            let decision = registry::put_service(&scene, wish, version, existing, registered)?;
            // From what it is decided from, which is all that there is if it is committed: nobody is refused an answer
            // who may not ask again, or whose service is forgotten by then.
            let before = self.seen(&known.environment.record.id, &wish.name);
            Ok(decision.map(|service| put(before, service)))
        })
    }

    fn seen(&self, id: &EnvironmentId, name: &ServiceName) -> Option<ServiceDocument> {
        let is_it = |service: &&ServiceDocument| service.name == *name;
        self.view.read(|state| state.projection().services(id).find(is_it).cloned())
    }

    /// One service.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_service(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &ServiceName,
    ) -> Result<ServiceDocument, AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let id = &environment.record.id;
        self.caught_up(id, &caller.sight).await?;
        self.seen(id, name).ok_or(AppError::NotFound("service"))
    }

    /// Services of an environment after the one with this name.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_services(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<ServiceDocument>, AppError> {
        let environment = self.environment(caller, Action::SeeEnvironment, reference).await?;
        let is_later =
            |service: &&ServiceDocument| after.is_none_or(|after| service.name.as_str() > after);
        Ok(self.view.read(|state| {
            let services = state.projection().services(&environment.record.id);
            services.filter(is_later).take(len_max).cloned().collect()
        }))
    }

    /// Forgets what was said of a service, if it is at `version`; 0 for any.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn delete_service(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &ServiceName,
        version: u64,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let found = self.read::<Service>(&known.path(name.as_str())).await?;
            let found = found.ok_or(AppError::NotFound("service"))?;
            let filled = self.names_of(&known, name)?.len();
            Ok(registry::delete_service(&known.scene(), &found, version, filled)?)
        })
    }

    /// Names of a service's attachments.
    fn names_of(
        &self,
        known: &Known,
        service: &ServiceName,
    ) -> Result<Vec<AttachmentName>, AppError> {
        let path = known.path("");
        let all = self.view.read(|state| state.list::<Attachment>(&path, None, usize::MAX))?;
        let of_service = all.into_iter().map(|found| found.record);
        let of_service = of_service.filter(|attachment| attachment.slot.service == *service);
        Ok(of_service.map(|attachment| attachment.name).collect())
    }

    /// Gives a role to an attachment, if the role is as it was read. Returns it with its holder's attachment.
    ///
    /// # Errors
    /// [`AppError::Changed`] when somebody was faster.
    pub async fn take_role(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        wish: &RoleWish,
        holder: &AttachmentName,
    ) -> Result<(Role, Attachment), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let found = self.read::<Attachment>(&known.path(holder.as_str())).await?;
            let found = found.ok_or(AppError::NotFound("attachment"))?;
            let names = self.names_of(&known, &wish.service)?;
            let taken = registry::take_role(&known.scene(), wish, &found, &names)?;
            Ok(taken.map(|role| (role, found.record)))
        })
    }

    /// Gives a role up, if it is as it was read.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn release_role(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        wish: &RoleWish,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            Ok(registry::release_role(&known.scene(), wish)?)
        })
    }

    /// Takes an attachment out of service, or back into it; with a generation, only that one.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_drained(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &AttachmentName,
        generation: Option<u64>,
        drained: bool,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Deploy, reference).await?;
            let known = self.known(environment).await?;
            let path = known.path(name.as_str());
            let attachment: Decoded<Attachment> =
                self.read(&path).await?.ok_or(AppError::NotFound("attachment"))?;
            if generation.is_some_and(|generation| generation != attachment.record.generation) {
                return Err(AppError::Changed("attachment"));
            }
            let existing = self.read::<Drain>(&path).await?;
            let (scene, existing) = (known.scene(), existing.as_ref());
            Ok(registry::set_drained(&scene, &attachment, existing, drained, self.now())?)
        })
    }
}
