//! Organisations: their names and their end.

use std::time::Duration;

use tonic::{Code, Status, transport::Channel};
use weft_control::Clock;
use weft_control_api::v1::{
    self, OrganisationRole, audit_client::AuditClient, environments_client::EnvironmentsClient,
    organisations_client::OrganisationsClient,
};

use crate::site::{PASSWORD, Site, code, deletion, name, said, with};

const OWNER: &str = "owner@acme.example";

struct Office {
    clock: Clock,
    site: Site,
    organisations: OrganisationsClient<Channel>,
    environments: EnvironmentsClient<Channel>,
    owner: String,
}

impl Office {
    async fn new() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let owner = site.organisation("acme").await;
        let organisations = OrganisationsClient::new(site.connect(None).await);
        let environments = EnvironmentsClient::new(site.connect(None).await);
        Self { clock, site, organisations, environments, owner }
    }

    async fn delete(&self, by: &str) -> Result<v1::Organisation, Status> {
        let (organisation, grace_seconds) = ("acme".to_owned(), Some(60));
        let delete = v1::DeleteOrganisationRequest { organisation, grace_seconds };
        Ok(self.organisations.clone().delete_organisation(with(delete, by)).await?.into_inner())
    }

    async fn restore(&self) -> Result<v1::Organisation, Status> {
        let restore = v1::RestoreOrganisationRequest { organisation: "acme".to_owned() };
        let mut organisations = self.organisations.clone();
        let restored = organisations.restore_organisation(with(restore, &self.owner)).await?;
        Ok(restored.into_inner())
    }

    async fn rename(&self, by: &str, from: &str, to: &str) -> Result<v1::Organisation, Status> {
        let (organisation, name) = (from.to_owned(), to.to_owned());
        let rename = v1::RenameOrganisationRequest { organisation, name };
        Ok(self.organisations.clone().rename_organisation(with(rename, by)).await?.into_inner())
    }

    async fn delete_environment(&self, grace_seconds: u32) {
        let delete = deletion("acme/shop", grace_seconds);
        self.environments.clone().delete_environment(with(delete, &self.owner)).await.unwrap();
    }

    async fn make_environment(&self) -> Result<v1::Environment, Status> {
        let make = v1::CreateEnvironmentRequest {
            organisation: "acme".to_owned(),
            name: "other".to_owned(),
            subnets: vec!["10.41.0.0/24".to_owned()],
            ..Default::default()
        };
        let made = self.environments.clone().create_environment(with(make, &self.owner)).await?;
        Ok(made.into_inner())
    }

    async fn tidy(&self) {
        for _ in 0..3 {
            self.site.tidy().await;
        }
    }

    /// Keys of the store in which this is.
    async fn with(&self, text: &str) -> Vec<String> {
        let page = weft_store::Store::list(&*self.site.store, "", None, 1_000).await.unwrap();
        let all = page.entries.into_iter();
        let with = all.filter(|entry| {
            entry.key.as_str().contains(text)
                || String::from_utf8_lossy(&entry.value).contains(text)
        });
        with.map(|entry| entry.key.to_string()).collect()
    }
}

#[tokio::test]
async fn an_organisation_goes_with_its_people_when_its_environments_are_gone() {
    let office = Office::new().await;
    let site = &office.site;
    site.environment(&office.owner, "acme", "shop").await;
    let member =
        site.member(&office.owner, "acme", "m@acme.example", OrganisationRole::Admin).await;
    site.invite(&member, "acme", "x@acme.example", OrganisationRole::Member).await.unwrap();
    let not_yours = (Code::PermissionDenied, "this is not yours to do".to_owned());
    assert_eq!(said(office.delete(&member).await), not_yours);
    assert_eq!(said(office.delete(&site.operator).await), not_yours);
    let stays = "it has 1 environments that stay: delete them first".to_owned();
    assert_eq!(said(office.delete(&office.owner).await), (Code::FailedPrecondition, stays));
    office.delete_environment(600).await;
    let going = office.delete(&office.owner).await.unwrap();
    assert_eq!(going.purge_ms, office.clock.now().0 + 60_000);

    // Nobody comes into it, nothing is made in it.
    let going_away = (Code::FailedPrecondition, "the organisation is being deleted".to_owned());
    let invited = site.invite(&office.owner, "acme", "y@acme.example", OrganisationRole::Member);
    assert_eq!(said(invited.await), going_away);
    assert_eq!(said(office.make_environment().await), going_away);
    let resume = v1::ResumeEnvironmentRequest { environment: name("acme/shop") };
    let resumed = office.environments.clone().resume_environment(with(resume, &office.owner)).await;
    let first = "the organisation is being deleted: restore it first".to_owned();
    assert_eq!(said(resumed), (Code::FailedPrecondition, first));
    // It does not go before its environments.
    office.clock.advance(Duration::from_secs(61));
    office.tidy().await;
    assert_eq!(site.who(&office.owner).await.unwrap().organisations.len(), 1);
    office.clock.advance(Duration::from_secs(600));
    office.tidy().await;
    assert_eq!(office.with(&going.id).await, Vec::<String>::new());
    let who = site.who(&office.owner).await.unwrap();
    assert!(who.organisations.is_empty());
    let get = v1::GetOrganisationRequest { organisation: going.id.clone() };
    let got = office.organisations.clone().get_organisation(with(get, &site.operator)).await;
    assert_eq!(code(got), Code::NotFound);
    // People stay, and the name is free.
    assert!(site.login("m@acme.example", PASSWORD).await.is_ok());
    let make =
        v1::CreateOrganisationRequest { name: "acme".to_owned(), owner_email: OWNER.to_owned() };
    let made = office.organisations.clone().create_organisation(with(make, &site.operator)).await;
    assert_ne!(made.unwrap().into_inner().organisation.unwrap().id, going.id);
    let mut audit = AuditClient::new(site.connect(None).await);
    let read = v1::ListAuditRecordsRequest {
        action: "organisations.purge".to_owned(),
        ..Default::default()
    };
    let read = audit.list_audit_records(with(read, &site.operator)).await.unwrap().into_inner();
    assert_eq!(read.records.len(), 2, "begun and done");
    assert!(read.records.iter().all(|r| r.object == format!("organisation/{}", going.id)));
}

#[tokio::test]
async fn an_organisation_is_taken_back_in_time() {
    let office = Office::new().await;
    office.delete(&office.owner).await.unwrap();
    office.clock.advance(Duration::from_secs(59));
    office.tidy().await;
    assert_eq!(office.restore().await.unwrap().purge_ms, 0);
    office.clock.advance(Duration::from_secs(2));
    office.tidy().await;
    assert!(office.make_environment().await.is_ok());
    let delete = v1::DeleteOrganisationRequest {
        organisation: "acme".to_owned(),
        grace_seconds: Some(90 * 24 * 3_600 + 1),
    };
    let mut organisations = office.organisations.clone();
    let refused = said(organisations.delete_organisation(with(delete, &office.owner)).await);
    let why = "grace_seconds: 7776001; expected at most 7776000".to_owned();
    assert_eq!(refused, (Code::InvalidArgument, why));
}

#[tokio::test]
async fn an_organisation_has_another_name_and_its_environments_with_it() {
    let office = Office::new().await;
    let shop = office.site.environment(&office.owner, "acme", "shop").await;
    office.site.organisation("globex").await;
    let taken = said(office.rename(&office.owner, "acme", "globex").await);
    assert_eq!(taken, (Code::AlreadyExists, "there is an organisation globex already".to_owned()));
    let operator = &office.site.operator;
    let refused = said(office.rename(operator, "acme", "initech").await);
    assert_eq!(refused.0, Code::PermissionDenied);
    let renamed = office.rename(&office.owner, "acme", "initech").await.unwrap();
    assert_eq!((renamed.name.as_str(), &renamed.id), ("initech", &shop.organisation));
    let get = |called: &str| v1::GetEnvironmentRequest { environment: name(called) };
    let mut environments = office.environments.clone();
    let found = environments.get_environment(with(get("initech/shop"), &office.owner)).await;
    assert_eq!(found.unwrap().into_inner().id, shop.id);
    let gone = environments.get_environment(with(get("acme/shop"), &office.owner)).await;
    assert_eq!(code(gone), Code::NotFound);
    let make = v1::CreateOrganisationRequest {
        name: "acme".to_owned(),
        owner_email: "new@acme.example".to_owned(),
    };
    let made = office.organisations.clone().create_organisation(with(make, operator)).await;
    assert!(made.is_ok(), "the old name is free");
}
