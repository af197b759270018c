//! Secrets: who gets them, and that nothing else has them.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tonic::{Code, Status, transport::Channel};
use tracing_subscriber::fmt::MakeWriter;
use weft_control::{
    AppError, Clock,
    app::{Caller, EnvironmentReference, GrantWish},
};
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, environments_client::EnvironmentsClient,
    secrets_client::SecretsClient,
};
use weft_keys::{Owner, Purpose, UseError};
use weft_model::{
    Record, SlotName,
    access::{Actor, Component, EnvironmentRole},
    record::{Grant, SealedSecret, Secret, SlotKey},
};
use weft_store::{Entry, Store};
use zeroize::Zeroizing;

use crate::site::{Host, Site, deletion, name, said, with};

const CANARY: &str = "hunter2-canary-value";

/// A site with an environment `acme/shop`.
struct Vault {
    site: Site,
    owner: String,
    id: String,
    secrets: SecretsClient<Channel>,
}

impl Vault {
    async fn open() -> Self {
        Self::open_at(Clock::default()).await
    }

    async fn open_at(clock: Clock) -> Self {
        let site = Site::start_at(clock).await;
        let owner = site.organisation("acme").await;
        let id = site.environment(&owner, "acme", "shop").await.id;
        let secrets = SecretsClient::new(site.connect(None).await);
        Self { site, owner, id, secrets }
    }

    async fn put(&mut self, secret: &str, version: u64, value: &str) -> Result<v1::Secret, Status> {
        let put = v1::PutSecretRequest {
            environment: name(&self.id),
            name: secret.to_owned(),
            value: Some(v1::SecretValue { data: value.as_bytes().to_vec() }),
            version,
        };
        Ok(self.secrets.put_secret(with(put, &self.owner)).await?.into_inner())
    }

    async fn release(&mut self, secret: &str, version: u64) -> Result<(u64, String), Status> {
        let release = release(&self.id, secret, version, "");
        let released = self.secrets.release_secret(with(release, &self.owner)).await?;
        Ok(text(released.into_inner()))
    }

    async fn destroy(&mut self, secret: &str, versions: &[u64]) -> Result<v1::Secret, Status> {
        let destroy = v1::DestroySecretVersionsRequest {
            environment: name(&self.id),
            name: secret.to_owned(),
            versions: versions.to_vec(),
        };
        Ok(self.secrets.destroy_secret_versions(with(destroy, &self.owner)).await?.into_inner())
    }

    fn reference(&self) -> EnvironmentReference {
        self.id.parse().unwrap()
    }

    /// The scheduler's leave for `db` on a host, with these secrets.
    async fn grant(&self, host: &str, secrets: &[&str]) -> Grant {
        let wish = GrantWish {
            slot: SlotKey { service: "db".parse().unwrap(), slot: SlotName::Stable(0) },
            host: host.parse().unwrap(),
            attempt: 1,
            lasts: Duration::from_secs(300),
            secrets: secrets.iter().map(|name| name.parse().unwrap()).collect(),
        };
        let scheduler = self.site.component(Component::Scheduler);
        self.site.app.create_grant(&scheduler, &self.reference(), &wish).await.unwrap()
    }

    async fn entries(&self) -> Vec<Entry> {
        self.site.store.list("", None, 1_000).await.unwrap().entries
    }
}

fn release(environment: &str, secret: &str, version: u64, grant: &str) -> v1::ReleaseSecretRequest {
    let (environment, name) = (name(environment), secret.to_owned());
    v1::ReleaseSecretRequest { environment, name, version, grant: grant.to_owned() }
}

fn text(released: v1::ReleaseSecretResponse) -> (u64, String) {
    let value = released.value.unwrap();
    (released.version, String::from_utf8(value.data.clone()).unwrap())
}

#[tokio::test]
async fn a_secret_is_written_read_destroyed_and_deleted() {
    let mut vault = Vault::open().await;
    let first = vault.put("PASSWORD", 0, "one").await.unwrap();
    assert_eq!((first.version, first.versions[0].bytes), (1, 3));
    let changed = (Code::Aborted, "secret has changed since it was read".to_owned());
    assert_eq!(said(vault.put("PASSWORD", 0, "other").await), changed);
    let second = vault.put("PASSWORD", 1, "two").await.unwrap();
    assert_eq!(vault.release("PASSWORD", 0).await.unwrap(), (2, "two".to_owned()));
    assert_eq!(vault.release("PASSWORD", 1).await.unwrap(), (1, "one".to_owned()));
    vault.put("EMPTY", 0, "").await.unwrap();
    assert_eq!(vault.release("EMPTY", 0).await.unwrap(), (1, String::new()));

    let list = v1::ListSecretsRequest { environment: name(&vault.id), page: None };
    let listed = vault.secrets.list_secrets(with(list, &vault.owner)).await.unwrap().into_inner();
    let names: Vec<_> = listed.secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["EMPTY", "PASSWORD"]);
    let (environment, secret) = (name(&vault.id), "PASSWORD".to_owned());
    let get = v1::GetSecretMetadataRequest { environment, name: secret };
    let found = vault.secrets.get_secret_metadata(with(get, &vault.owner)).await.unwrap();
    assert_eq!(found.into_inner(), second);

    let destroyed = vault.destroy("PASSWORD", &[2]).await.unwrap();
    assert!(destroyed.versions[1].destroyed_ms > 0 && destroyed.versions[0].destroyed_ms == 0);
    let gone = (Code::FailedPrecondition, "version 2 is destroyed".to_owned());
    assert_eq!(said(vault.release("PASSWORD", 0).await), gone);
    let unknown = (Code::NotFound, "no such version".to_owned());
    assert_eq!(said(vault.release("PASSWORD", 3).await), unknown);
    assert_eq!(said(vault.destroy("PASSWORD", &[1, 9]).await), unknown);

    let many = (Code::InvalidArgument, "versions: 101 of them; expected at most 100".to_owned());
    assert_eq!(said(vault.destroy("PASSWORD", &[1; 101]).await), many);

    let delete = |version| v1::DeleteSecretRequest {
        environment: name("acme/shop"),
        name: "PASSWORD".to_owned(),
        version,
    };
    assert_eq!(said(vault.secrets.delete_secret(with(delete(1), &vault.owner)).await), changed);
    vault.secrets.delete_secret(with(delete(2), &vault.owner)).await.unwrap();
    let absent = (Code::NotFound, "no such secret".to_owned());
    assert_eq!(said(vault.release("PASSWORD", 1).await), absent);
    let left = vault.entries().await.into_iter();
    let left: Vec<_> = left.map(|entry| entry.key.to_string()).collect();
    assert!(!left.iter().any(|key| key.contains("PASSWORD")), "{left:?}");
}

#[tokio::test]
async fn what_a_secret_is_called_can_be_recorded() {
    let mut vault = Vault::open().await;
    let longest = "A".repeat(63);
    for called in ["DATABASE_URL", "tls.key", "_x-1", &longest] {
        called.parse::<weft_audit::Name>().unwrap();
        vault.put(called, 0, "value").await.unwrap();
    }
    let why = "name: has small and capital letters; expected either, as in DATABASE_URL or tls.key";
    let refused = said(vault.put("databaseUrl", 0, "value").await);
    assert_eq!(refused, (Code::InvalidArgument, why.to_owned()));
}

#[tokio::test]
async fn a_value_is_whatever_bytes_up_to_the_limit() {
    let mut vault = Vault::open().await;
    let data: Vec<u8> = (0..64 << 10).map(|n: u32| n.to_le_bytes()[0]).collect();
    let put = |data: &[u8]| v1::PutSecretRequest {
        environment: name("acme/shop"),
        name: "KEY".to_owned(),
        value: Some(v1::SecretValue { data: data.to_vec() }),
        version: 0,
    };
    let long = [&data[..], b"x"].concat();
    let refused = vault.secrets.put_secret(with(put(&long), &vault.owner)).await;
    let why = "value: 65537 bytes; expected at most 65536".to_owned();
    assert_eq!(said(refused), (Code::InvalidArgument, why));
    let none = v1::PutSecretRequest { value: None, ..put(&data) };
    let refused = vault.secrets.put_secret(with(none, &vault.owner)).await;
    assert_eq!(said(refused), (Code::InvalidArgument, "value: is missing".to_owned()));
    vault.secrets.put_secret(with(put(&data), &vault.owner)).await.unwrap();
    let released = release(&vault.id, "KEY", 0, "");
    let released = vault.secrets.release_secret(with(released, &vault.owner)).await.unwrap();
    assert!(released.into_inner().value.unwrap().data == data);
}

#[tokio::test]
async fn who_writes_secrets_does_not_read_them_and_who_looks_sees_none() {
    let mut vault = Vault::open().await;
    vault.put("PASSWORD", 0, CANARY).await.unwrap();
    let (app, reference) = (Arc::clone(&vault.site.app), vault.reference());
    let secret = "PASSWORD".parse().unwrap();
    let value = Zeroizing::new(b"new".to_vec());
    for (role, sees, writes, reads) in [
        (EnvironmentRole::Viewer, false, false, false),
        (EnvironmentRole::Deployer, true, true, false),
        (EnvironmentRole::Admin, true, true, true),
    ] {
        let caller = vault.site.machine(&vault.id, role);
        let found = app.get_secret(&caller, &reference, &secret).await;
        let version = found.as_ref().map_or(0, |found| found.version);
        let listed = app.list_secrets(&caller, &reference, None, 10).await;
        let written = app.put_secret(&caller, &reference, &secret, version, &value).await;
        let read = app.release_secret(&caller, &reference, &secret, 0, None).await;
        let destroyed = app.destroy_secret_versions(&caller, &reference, &secret, &[1]).await;
        assert_eq!((found.is_ok(), listed.is_ok()), (sees, sees), "{role:?}");
        assert_eq!((written.is_ok(), destroyed.is_ok()), (writes, writes), "{role:?}");
        match read {
            Ok(_) => assert!(reads, "{role:?}"),
            Err(refused) => assert!(!reads && matches!(refused, AppError::Refused), "{refused}"),
        }
    }
    // The scheduler names secrets in grants and reads none; an operator runs the installation and reads none.
    for caller in [Component::Scheduler, Component::Edge].map(|c| vault.site.component(c)) {
        let read = app.release_secret(&caller, &reference, &secret, 0, None).await;
        assert!(matches!(read, Err(AppError::Refused)));
    }
    let operator = vault.site.operator.clone();
    let read = release(&vault.id, "PASSWORD", 0, "");
    let refused = said(vault.secrets.release_secret(with(read, &operator)).await);
    assert_eq!(refused.0, Code::PermissionDenied);
}

async fn ask(
    site: &Site,
    host: &Host,
    request: v1::ReleaseSecretRequest,
) -> Result<(u64, String), Status> {
    let mut secrets = SecretsClient::new(site.connect(Some(host)).await);
    Ok(text(secrets.release_secret(request).await?.into_inner()))
}

#[tokio::test]
async fn a_host_gets_what_its_grant_names_while_its_attachment_is_there() {
    let clock = Clock::manual(Clock::default().now());
    let mut vault = Vault::open_at(clock.clone()).await;
    vault.put("PASSWORD", 0, CANARY).await.unwrap();
    vault.put("OTHER", 0, "of another service").await.unwrap();
    let (a, b) = (vault.site.enrol("host-a").await, vault.site.enrol("host-b").await);
    let grant = vault.grant("host-a", &["PASSWORD", "MISSING"]).await.id.to_string();
    let id = vault.id.clone();
    let (no_environment, no_secret) = (
        (Code::NotFound, "no such environment".to_owned()),
        (Code::NotFound, "no such secret".to_owned()),
    );
    let site = &vault.site;

    // Before the attachment is made, so that its container has them from its start.
    let read = ask(site, &a, release(&id, "PASSWORD", 0, &grant)).await.unwrap();
    assert_eq!(read, (1, CANARY.to_owned()));
    for unnamed in ["OTHER", "MISSING", "NOTHING"] {
        let refused = said(ask(site, &a, release(&id, unnamed, 0, &grant)).await);
        assert_eq!(refused, no_secret, "{unnamed}: one that is there looks as one that is not");
    }
    for (host, environment, grant) in [
        (&b, id.as_str(), grant.as_str()),
        (&a, id.as_str(), "grt-aaaaaaaaaaaaaaaa"),
        (&a, id.as_str(), ""),
        (&a, "env-aaaaaaaaaaaaaaaa", grant.as_str()),
    ] {
        let refused = said(ask(site, host, release(environment, "PASSWORD", 0, grant)).await);
        assert_eq!(refused, no_environment);
    }

    let attach = v1::AttachRequest {
        environment: id.clone(),
        name: "db".to_owned(),
        grant: grant.clone(),
        ..Default::default()
    };
    site.agent(&a).await.attach(attach).await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    // After a restart, long after the grant could be used: the attachment that rests on it is there.
    assert!(ask(site, &a, release(&id, "PASSWORD", 0, &grant)).await.is_ok());
    assert_eq!(said(ask(site, &b, release(&id, "PASSWORD", 0, &grant)).await), no_environment);
    let mut attachments = AttachmentsClient::new(site.connect(None).await);
    let ends = v1::ReleaseAttachmentRequest {
        environment: name(&id),
        name: "db".to_owned(),
        generation: 0,
    };
    let owner = site.login("owner@acme.example", crate::site::PASSWORD).await.unwrap();
    attachments.release_attachment(with(ends, &owner)).await.unwrap();
    assert_eq!(said(ask(site, &a, release(&id, "PASSWORD", 0, &grant)).await), no_environment);

    let unused = vault.grant("host-a", &["PASSWORD"]).await.id.to_string();
    clock.advance(Duration::from_secs(300));
    let late = said(ask(&vault.site, &a, release(&id, "PASSWORD", 0, &unused)).await);
    assert_eq!(late, no_environment);
}

#[tokio::test]
async fn a_grant_names_so_many_secrets_and_is_the_schedulers_to_give() {
    let vault = Vault::open().await;
    vault.site.enrol("host-a").await;
    let wish = |count: usize| GrantWish {
        slot: SlotKey { service: "db".parse().unwrap(), slot: SlotName::Stable(0) },
        host: "host-a".parse().unwrap(),
        attempt: 1,
        lasts: Duration::from_secs(300),
        secrets: (0..count).map(|n| format!("S{n}").parse().unwrap()).collect::<BTreeSet<_>>(),
    };
    let give = async |caller: &Caller, count| {
        vault.site.app.create_grant(caller, &vault.reference(), &wish(count)).await
    };
    let scheduler = vault.site.component(Component::Scheduler);
    assert_eq!(give(&scheduler, 64).await.unwrap().secrets.len(), 64);
    let refused = give(&scheduler, 65).await.unwrap_err().to_string();
    assert_eq!(refused, "secrets: 65 of them; expected at most 64");
    // No deployer gives itself, by a host of its own, what it may not read.
    let deployer = vault.site.machine(&vault.id, EnvironmentRole::Admin);
    assert!(matches!(give(&deployer, 1).await, Err(AppError::Refused)));
    let host = vault.site.caller(Actor::Host("host-a".parse().unwrap()));
    assert!(matches!(give(&host, 1).await, Err(AppError::NotFound("environment"))));
}

/// Where everything goes that is logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_value_is_in_no_log_no_refusal_and_nowhere_in_the_store() {
    let log = Log::default();
    let everything = || {
        let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        everything.with_writer(log.clone()).finish()
    };
    // Where there is one subscriber only, what another test's thread comes upon first is never told to it.
    let _second = tracing::Dispatch::new(everything());
    // The control plane runs on this thread, too.
    let guard = tracing::subscriber::set_default(everything());
    let mut vault = Vault::open().await;
    vault.put("PASSWORD", 0, CANARY).await.unwrap();
    let mut refusals = vec![
        vault.put("PASSWORD", 7, CANARY).await.unwrap_err(),
        vault.put("PASS WORD", 0, CANARY).await.unwrap_err(),
        vault.put("LONG", 0, &CANARY.repeat(4_000)).await.unwrap_err(),
    ];
    vault.release("PASSWORD", 0).await.unwrap();
    // What is damaged does not open, and says nothing of itself.
    let id = vault.id.parse().unwrap();
    let path = SealedSecret::path_of(&id, &"PASSWORD".parse().unwrap(), 1);
    let key = SealedSecret::key_at(&path).unwrap();
    let entry = vault.site.store.get(&key).await.unwrap().unwrap();
    let sealed = SealedSecret::decode(&entry).unwrap().record;
    let mut bytes = data_encoding::BASE64.decode(sealed.sealed.as_bytes()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let flipped = data_encoding::BASE64.encode(&bytes);
    assert_ne!(flipped, sealed.sealed);
    let damaged = SealedSecret { sealed: flipped, ..sealed.clone() };
    let write = weft_store::Transaction::new().put(key, damaged.encode().unwrap());
    vault.site.store.commit(write).await.unwrap();
    refusals.push(vault.release("PASSWORD", 0).await.unwrap_err());
    let entries = vault.entries().await;
    drop(guard);

    for refusal in refusals {
        assert!(!format!("{refusal:?}").contains("canary"), "{refusal:?}");
    }
    let log = log.0.lock().unwrap();
    assert!(log.len() > 1_000, "something is logged");
    let found = |bytes: &[u8], what: &str| bytes.windows(what.len()).any(|w| w == what.as_bytes());
    let base_64 = data_encoding::BASE64.encode(CANARY.as_bytes());
    for what in [CANARY, &base_64[..base_64.len() - 4]] {
        assert!(!found(&log, what), "in the log");
        for entry in &entries {
            assert!(!found(&entry.value, what), "in {}", entry.key);
        }
    }
    assert!(!format!("{sealed:?}").contains(&sealed.sealed));
}

#[tokio::test]
async fn with_the_environments_key_its_secrets_are_gone_in_every_copy() {
    let clock = Clock::manual(Clock::default().now());
    let mut vault = Vault::open_at(clock.clone()).await;
    vault.put("PASSWORD", 0, CANARY).await.unwrap();
    // What a backup of the store has.
    let copy = vault.entries().await;
    let entry = |prefix: String| copy.iter().find(|entry| entry.key.has_prefix(&prefix)).unwrap();
    let secret = Secret::decode(entry(Secret::prefix(""))).unwrap().record;
    let sealed = SealedSecret::decode(entry(SealedSecret::prefix(""))).unwrap().record;
    let sealed = data_encoding::BASE64.decode(sealed.sealed.as_bytes()).unwrap();
    let owner = Owner::Environment(secret.environment.clone());
    let context = secret.context(1);
    let context = context.each_ref().map(Vec::as_slice);
    let open =
        async || vault.site.keyring.open_sealed(&owner, Purpose::Secret, &context, &sealed).await;
    assert_eq!(open().await.unwrap().as_slice(), CANARY.as_bytes());

    let mut environments = EnvironmentsClient::new(vault.site.connect(None).await);
    environments.delete_environment(with(deletion(&vault.id, 60), &vault.owner)).await.unwrap();
    clock.advance(Duration::from_secs(60));
    for _ in 0..2 {
        vault.site.tidy().await;
    }
    assert!(matches!(open().await, Err(UseError::Keyring(_))));
    let left = vault.entries().await.into_iter();
    let left: Vec<_> = left.map(|entry| entry.key.to_string()).collect();
    assert!(!left.iter().any(|key| key.contains(&vault.id)), "{left:?}");
    let absent = (Code::NotFound, "no such environment".to_owned());
    assert_eq!(said(vault.release("PASSWORD", 0).await), absent);
}

#[tokio::test]
async fn a_secret_whose_key_is_destroyed_is_as_one_that_is_not_there() {
    let mut vault = Vault::open().await;
    vault.put("PASSWORD", 0, CANARY).await.unwrap();
    let owner = Owner::Environment(vault.id.parse().unwrap());
    vault.site.keyring.destroy(&owner, SystemTime::now()).await.unwrap();
    let absent = (Code::NotFound, "no such secret".to_owned());
    assert_eq!(said(vault.release("PASSWORD", 0).await), absent);
    assert_eq!(said(vault.put("PASSWORD", 1, CANARY).await), absent, "nor is anything sealed anew");
}

#[tokio::test]
async fn the_live_copy_of_the_store_holds_no_values() {
    let mut vault = Vault::open().await;
    vault.put("PASSWORD", 0, CANARY).await.unwrap();
    let another = vault.site.another_process().await;
    for app in [&vault.site.app, &another] {
        app.view().ready().await.unwrap();
        let path = format!("{}/PASSWORD", vault.id);
        let read = app.view().read(|state| {
            let values = state.list::<SealedSecret>(&format!("{path}/"), None, 10);
            (values.is_err(), state.get::<Secret>(&path).unwrap().is_some())
        });
        assert_eq!(read, (true, true), "values are empty and no records");
    }
    assert_eq!(vault.release("PASSWORD", 0).await.unwrap().1, CANARY);
}
