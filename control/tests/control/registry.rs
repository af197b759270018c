//! Services, roles, and whoever watches them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tempfile::TempDir;
use tonic::{Code, transport::Channel};
use weft_control::{
    App, AppError,
    app::{Caller, EnvironmentReference},
};
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, host_update::Update,
    services_client::ServicesClient,
};
use weft_model::{
    access::EnvironmentRole,
    registry::{RoleWish, ServiceWish},
};
use weft_store::{Sqlite, SqliteOptions, export, sqlite};

use crate::site::{Site, name, next, said, with};

mod watching;

/// A site with an environment `acme/shop` whose `db-0` and `db-1` are on two hosts.
struct Shop {
    site: Site,
    owner: String,
    id: String,
    services: ServicesClient<Channel>,
}

impl Shop {
    async fn open() -> Self {
        let site = Site::start().await;
        let owner = site.organisation("acme").await;
        let id = site.environment(&owner, "acme", "shop").await.id;
        for n in 0..2 {
            let host = site.enrol(&format!("host-{n}")).await;
            site.allow(&id, &host.id).await;
        }
        let services = ServicesClient::new(site.connect(None).await);
        let mut shop = Self { site, owner, id, services };
        for n in 0..2 {
            shop.attach(&format!("db-{n}"), &format!("host-{n}"), n).await;
        }
        shop
    }

    async fn attach(&mut self, name: &str, host: &str, slot: u32) {
        let mut attachments = AttachmentsClient::new(self.site.connect(None).await);
        let create = v1::CreateAttachmentRequest {
            environment: self.name(),
            name: name.to_owned(),
            slot: Some(v1::SlotName { service: "db".to_owned(), slot: slot.to_string() }),
            host: host.to_owned(),
            ..Default::default()
        };
        attachments.create_attachment(with(create, &self.owner)).await.unwrap();
    }

    async fn release(&mut self, name: &str) {
        let mut attachments = AttachmentsClient::new(self.site.connect(None).await);
        let (environment, name) = (self.name(), name.to_owned());
        let release = v1::ReleaseAttachmentRequest { environment, name, generation: 0 };
        attachments.release_attachment(with(release, &self.owner)).await.unwrap();
    }

    fn name(&self) -> Option<v1::EnvironmentName> {
        name(&self.id)
    }

    async fn get(&mut self) -> v1::Service {
        let get = v1::GetServiceRequest { environment: self.name(), name: "db".to_owned() };
        self.services.get_service(with(get, &self.owner)).await.unwrap().into_inner()
    }

    async fn put(&mut self, revision: u64, note: &str) -> Result<v1::Service, tonic::Status> {
        let protocol = v1::Protocol::Tcp.into();
        let put = v1::PutServiceRequest {
            environment: self.name(),
            name: "db".to_owned(),
            ports: vec![v1::ServicePort { name: "sql".to_owned(), protocol, port: 5432 }],
            metadata: [("note".to_owned(), note.to_owned())].into(),
            revision,
        };
        Ok(self.services.put_service(with(put, &self.owner)).await?.into_inner())
    }

    async fn acquire(&mut self, holder: &str) -> Result<v1::Role, tonic::Status> {
        let acquire = v1::AcquireRoleRequest {
            environment: self.name(),
            service: "db".to_owned(),
            role: "primary".to_owned(),
            holder: holder.to_owned(),
        };
        Ok(self.services.acquire_role(with(acquire, &self.owner)).await?.into_inner())
    }

    async fn transfer(&mut self, holder: &str, epoch: u64) -> Result<v1::Role, tonic::Status> {
        let transfer = v1::TransferRoleRequest {
            environment: self.name(),
            service: "db".to_owned(),
            role: "primary".to_owned(),
            holder: holder.to_owned(),
            epoch,
        };
        Ok(self.services.transfer_role(with(transfer, &self.owner)).await?.into_inner())
    }

    async fn watch(&mut self, revision: u64) -> tonic::Streaming<v1::WatchServicesResponse> {
        let watch = v1::WatchServicesRequest { environment: self.name(), revision };
        self.services.watch_services(with(watch, &self.owner)).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn a_service_is_registered_replaced_listed_and_deleted() {
    let mut shop = Shop::open().await;
    let implied = shop.get().await;
    assert_eq!((implied.revision, implied.instances.len()), (0, 2), "it has slots only");
    let first = shop.put(0, "one").await.unwrap();
    assert_eq!(shop.put(0, "one").await.unwrap(), first, "asked again, nothing changes");
    let changed = (Code::Aborted, "service has changed since it was read".to_owned());
    assert_eq!(said(shop.put(0, "two").await), changed);
    let second = shop.put(first.revision, "two").await.unwrap();
    assert!(second.revision > first.revision);
    assert_eq!((second.metadata["note"].as_str(), second.ports[0].port), ("two", 5432));
    assert_eq!(second.instances[1].attachment, "db-1");

    let put = v1::PutServiceRequest {
        environment: shop.name(),
        name: "cache".to_owned(),
        ..Default::default()
    };
    shop.services.put_service(with(put, &shop.owner)).await.unwrap();
    let page = |after: &str| Some(v1::PageRequest { size: 1, after: after.to_owned() });
    let list =
        |after| v1::ListServicesRequest { environment: name("acme/shop"), page: page(after) };
    let one = shop.services.list_services(with(list(""), &shop.owner)).await.unwrap().into_inner();
    assert_eq!(
        (one.services[0].name.as_str(), one.page.unwrap().next.as_str()),
        ("cache", "cache")
    );
    let two = shop.services.list_services(with(list("cache"), &shop.owner)).await.unwrap();
    assert_eq!(two.into_inner().services, std::slice::from_ref(&second));

    let delete = |revision| v1::DeleteServiceRequest {
        environment: name("acme/shop"),
        name: "db".to_owned(),
        revision,
    };
    let refused = shop.services.delete_service(with(delete(0), &shop.owner)).await;
    let filled = "attachments fill 2 slots of db: release them first".to_owned();
    assert_eq!(said(refused), (Code::FailedPrecondition, filled));
    for name in ["db-0", "db-1"] {
        shop.release(name).await;
    }
    let stale = shop.services.delete_service(with(delete(first.revision), &shop.owner)).await;
    assert_eq!(said(stale), changed);
    shop.services.delete_service(with(delete(second.revision), &shop.owner)).await.unwrap();
    let get = v1::GetServiceRequest { environment: shop.name(), name: "db".to_owned() };
    let gone = shop.services.get_service(with(get, &shop.owner)).await;
    assert_eq!(said(gone), (Code::NotFound, "no such service".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_with_a_service_is_said() {
    let mut shop = Shop::open().await;
    let port = |name: &str, protocol: v1::Protocol, port| v1::ServicePort {
        name: name.to_owned(),
        protocol: protocol.into(),
        port,
    };
    let tcp = v1::Protocol::Tcp;
    for (ports, why) in [
        (
            vec![port("sql", v1::Protocol::Unspecified, 1)],
            "ports.protocol: is missing; expected TCP or UDP",
        ),
        (vec![port("sql", tcp, 65_536)], "ports.port: 65536; expected 1 to 65535"),
        (vec![port("sql", tcp, 0)], "ports.port: 0; expected 1 to 65535"),
        (vec![port("a", tcp, 1), port("a", tcp, 2)], "ports.name: a is there twice"),
        (vec![port("80", tcp, 80)], "ports.name: 80; expected at most 15 characters with a letter"),
    ] {
        let put = v1::PutServiceRequest {
            environment: shop.name(),
            name: "db".to_owned(),
            ports,
            ..Default::default()
        };
        let refused = shop.services.put_service(with(put, &shop.owner)).await;
        assert_eq!(said(refused), (Code::InvalidArgument, why.to_owned()));
    }
    let absent = shop.acquire("db-7").await;
    assert_eq!(said(absent), (Code::NotFound, "no such attachment".to_owned()));
    let epoch = shop.transfer("db-0", 0).await;
    let why = "epoch: is missing; expected the role's present one".to_owned();
    assert_eq!(said(epoch), (Code::InvalidArgument, why));
}

#[tokio::test]
async fn a_failover_is_one_step_and_hosts_are_told() {
    let mut shop = Shop::open().await;
    let host = shop.site.enrol("host-9").await;
    shop.site.allow(&shop.id.clone(), "host-9").await;
    let mut agent = shop.site.agent(&host).await;
    let attach = v1::AttachRequest {
        environment: shop.id.clone(),
        name: "web".to_owned(),
        ..Default::default()
    };
    agent.attach(attach).await.unwrap();
    let mut told = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut told).await.unwrap();
    let db = |news: v1::WatchResponse| {
        let mut services = news.updates.into_iter().filter_map(|update| match update.update {
            Some(Update::Service(service)) if service.name == "db" => Some(service),
            _ => None,
        });
        services.next_back().unwrap()
    };

    let first = shop.acquire("db-0").await.unwrap();
    assert_eq!((first.slot.as_str(), first.holder.as_str()), ("0", "db-0"));
    let role = &db(next(&mut told).await.unwrap()).roles[0];
    assert_eq!((role.slot.as_str(), role.epoch), ("0", first.epoch));
    let changed = (Code::Aborted, "role has changed since it was read".to_owned());
    assert_eq!(said(shop.acquire("db-1").await), changed);
    let second = shop.transfer("db-1", first.epoch).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(said(shop.transfer("db-0", first.epoch).await), changed, "the old holder is late");
    let role = &db(next(&mut told).await.unwrap()).roles[0];
    assert_eq!((role.slot.as_str(), role.epoch), ("1", second.epoch));

    // Out of service, and gone: with the attachment its role, in one step.
    let drain = v1::SetDrainedRequest {
        environment: shop.name(),
        attachment: "db-1".to_owned(),
        generation: 0,
        drained: true,
    };
    shop.services.set_drained(with(drain, &shop.owner)).await.unwrap();
    let instance = &db(next(&mut told).await.unwrap()).instances[1];
    assert_eq!((instance.state(), instance.healthy), (v1::InstanceState::Drained, false));
    shop.release("db-1").await;
    let left = db(next(&mut told).await.unwrap());
    assert_eq!((left.instances.len(), left.roles.len()), (1, 0));
    let third = shop.acquire("db-0").await.unwrap();
    assert!(third.epoch > second.epoch);
}

#[tokio::test]
async fn a_role_stays_behind_when_its_holder_moves() {
    let mut shop = Shop::open().await;
    let held = shop.acquire("db-0").await.unwrap();
    let mut attachments = AttachmentsClient::new(shop.site.connect(None).await);
    let moves = v1::MoveAttachmentRequest {
        environment: shop.name(),
        name: "db-0".to_owned(),
        host: "host-1".to_owned(),
        grant: String::new(),
    };
    attachments.move_attachment(with(moves, &shop.owner)).await.unwrap();
    assert!(shop.get().await.roles.is_empty());
    assert!(shop.acquire("db-0").await.unwrap().epoch > held.epoch);
}

#[tokio::test]
async fn what_is_registered_is_answered_though_it_is_forgotten_at_once() {
    let shop = Shop::open().await;
    let reference: EnvironmentReference = shop.id.parse().unwrap();
    let cache: weft_model::ServiceName = "cache".parse().unwrap();
    let wish =
        ServiceWish { name: cache.clone(), ports: BTreeMap::new(), metadata: BTreeMap::new() };
    let other = shop.site.another_process().await;
    let caller = || shop.site.machine(&shop.id, EnvironmentRole::Deployer);
    let forget = {
        let (caller, reference) = (caller(), reference.clone());
        tokio::spawn(async move {
            loop {
                // It is not there yet, or somebody else is at work there.
                let _ = other.delete_service(&caller, &reference, &cache, 0).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let caller = caller();
    for _ in 0..100 {
        match shop.site.app.put_service(&caller, &reference, &wish, 0).await {
            Ok(service) => assert!(service.version > 0 && service.name == wish.name),
            Err(AppError::Changed(_) | AppError::Unavailable) => {}
            Err(error) => panic!("{error}"),
        }
    }
    forget.abort();
}

#[tokio::test]
async fn an_epoch_is_not_given_again_after_a_backup_is_brought_back() {
    let shop = Shop::open().await;
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (live, copy, restored) = (file("live.db"), file("copy.db"), file("restored.db"));
    let open = |path: &Path| Arc::new(Sqlite::open(path, SqliteOptions::default()).unwrap());
    let store = open(&live);
    export::export(&*shop.site.store, &file("all")).await.unwrap();
    export::import(&*store, &file("all")).await.unwrap();
    let (caller, reference) =
        (shop.site.machine(&shop.id, EnvironmentRole::Deployer), shop.id.parse().unwrap());
    let take = async |app: &App, epoch, holder: &str| {
        let wish =
            RoleWish { service: "db".parse().unwrap(), role: "primary".parse().unwrap(), epoch };
        let taken = app.take_role(&caller, &reference, &wish, &holder.parse().unwrap()).await;
        taken.unwrap().0.epoch
    };
    let app = shop.site.process_over(store).await;
    sqlite::backup(&live, &copy).unwrap();
    let first = take(&app, 0, "db-0").await;
    let second = take(&app, first, "db-1").await;
    sqlite::restore(&copy, &restored).unwrap();
    let app = shop.site.process_over(open(&restored)).await;
    assert!(take(&app, 0, "db-0").await > second, "whoever holds {second} is fenced out");
}

/// Several processes of a control plane over one store; in each, somebody takes, hands over and gives up the role as
/// fast as they can.
#[tokio::test]
async fn processes_that_race_for_a_role_never_give_one_epoch_twice() {
    let shop = Shop::open().await;
    let mut tasks = Vec::new();
    for n in 0..4_u64 {
        let app = shop.site.another_process().await;
        let (id, caller) =
            (shop.id.clone(), shop.site.machine(&shop.id, EnvironmentRole::Deployer));
        tasks.push(tokio::spawn(async move { race(&app, &caller, &id, n).await }));
    }
    let mut won: BTreeMap<u64, String> = BTreeMap::new();
    for task in tasks {
        let mut before = 0;
        for (epoch, holder) in task.await.unwrap() {
            assert!(epoch > before, "epochs grow for each of them");
            before = epoch;
            assert_eq!(won.insert(epoch, holder), None, "epoch {epoch} was given twice");
        }
    }
    assert!(won.len() >= 4, "{won:?}");
}

async fn race(app: &Arc<App>, caller: &Caller, id: &str, n: u64) -> Vec<(u64, String)> {
    let reference: EnvironmentReference = id.parse().unwrap();
    let mut won = Vec::new();
    for turn in 0..20 {
        let db = "db".parse().unwrap();
        let service = app.get_service(caller, &reference, &db).await.unwrap();
        let role: weft_model::ServiceName = "primary".parse().unwrap();
        let epoch = service.roles.get(&role).map_or(0, |held| held.epoch);
        let wish = RoleWish { service: "db".parse().unwrap(), role, epoch };
        if epoch > 0 && (turn + n).is_multiple_of(3) {
            match app.release_role(caller, &reference, &wish).await {
                Ok(()) | Err(AppError::Changed(_) | AppError::Unavailable) => continue,
                Err(error) => panic!("{error}"),
            }
        }
        let holder = format!("db-{}", (turn + n) % 2);
        match app.take_role(caller, &reference, &wish, &holder.parse().unwrap()).await {
            Ok((role, _)) => won.push((role.epoch, holder)),
            Err(AppError::Changed(_) | AppError::Unavailable) => {}
            Err(error) => panic!("{error}"),
        }
    }
    won
}
