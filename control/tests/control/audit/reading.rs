//! Who reads what of the log, and how damage is found.

use std::fs;

use tonic::{Code, Status};
use weft_control_api::v1::{
    self, audit_client::AuditClient, environments_client::EnvironmentsClient,
    sessions_client::SessionsClient,
};

use crate::site::{Site, code, name, said, with};

/// What somebody reads of a scope, part after part.
pub(super) async fn read(
    site: &Site,
    token: &str,
    asked: v1::ListAuditRecordsRequest,
) -> Result<Vec<v1::AuditRecord>, Status> {
    let mut audit = AuditClient::new(site.connect(None).await);
    let (mut records, mut after) = (Vec::new(), String::new());
    loop {
        let page = Some(v1::PageRequest { size: 3, after });
        let request = v1::ListAuditRecordsRequest { page, ..asked.clone() };
        let part = audit.list_audit_records(with(request, token)).await?.into_inner();
        assert!(part.records.len() <= 3);
        records.extend(part.records);
        after = part.page.unwrap().next;
        if after.is_empty() {
            return Ok(records);
        }
    }
}

pub(super) fn organisation(name: &str) -> v1::ListAuditRecordsRequest {
    v1::ListAuditRecordsRequest { organisation: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn an_organisation_reads_what_was_done_in_it_and_nothing_else() {
    let site = Site::start().await;
    let (acme, globex) = (site.organisation("acme").await, site.organisation("globex").await);
    let shop = site.environment(&acme, "acme", "shop").await;
    let other = site.environment(&globex, "globex", "shop").await;
    site.enrol("host-a").await;
    site.allow(&shop.id, "host-a").await;
    site.allow(&other.id, "host-a").await;
    // A stranger is at it, by name and by id.
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    for called in ["acme/shop", &shop.id] {
        let delete =
            v1::DeleteEnvironmentRequest { environment: name(called), grace_seconds: None };
        let deleted = environments.delete_environment(with(delete, &globex)).await;
        assert_eq!(code(deleted), Code::NotFound);
    }

    let mut sessions = SessionsClient::new(site.connect(None).await);
    let me = sessions.who_am_i(with(v1::WhoAmIRequest {}, &acme)).await.unwrap().into_inner();
    let Some(v1::who_am_i_response::Actor::User(me)) = me.actor else { panic!("no person") };
    let me = format!("user/{}", me.id);
    let own = read(&site, &acme, organisation("acme")).await.unwrap();
    let whole = format!("organisation/{}", shop.organisation);
    assert!(own.iter().all(|record| record.object.starts_with(&whole)), "{own:?}");
    let denied = own.iter().filter(|record| record.outcome() == v1::AuditOutcome::Denied);
    assert_eq!(denied.count(), 2);
    let allowed = own.iter().filter(|record| record.action == "environments.allow-host");
    assert_eq!(allowed.count(), 2, "begun and done");
    // Where its own people come from is told; where operators and strangers do is not.
    let (own_people, others) = own.iter().partition::<Vec<_>, _>(|record| record.actor == me);
    assert!(!own_people.is_empty() && own_people.iter().all(|told| told.source == "127.0.0.1"));
    let strangers = others.iter().filter(|told| told.outcome() == v1::AuditOutcome::Denied);
    assert_eq!((strangers.count(), others.len() > 4), (2, true));
    assert!(others.iter().all(|told| told.source.is_empty()), "{others:?}");
    // How much others do, and where the platform is, is not told.
    assert!(own.iter().all(|record| record.sequence == 0 && record.process.is_empty()));
    let in_shop = v1::ListAuditRecordsRequest {
        environment: name("acme/shop"),
        object: "host/host-a".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        ..Default::default()
    };
    let found = read(&site, &acme, in_shop.clone()).await.unwrap();
    assert_eq!((found.len(), found[0].action.as_str()), (1, "environments.allow-host"));

    // To others it is as what is not there.
    let absent = organisation("nothing");
    for (asked, absent) in [
        (organisation("acme"), absent),
        (
            in_shop,
            v1::ListAuditRecordsRequest { environment: name("acme/no"), ..Default::default() },
        ),
    ] {
        let foreign = said(read(&site, &globex, asked).await);
        assert_eq!(foreign.0, Code::NotFound);
        assert_eq!(foreign, said(read(&site, &globex, absent).await));
    }
    let everything = v1::ListAuditRecordsRequest::default();
    let refused = read(&site, &acme, everything.clone()).await;
    assert_eq!(code(refused), Code::PermissionDenied);

    // An operator reads everything, that it was read as well.
    let all = read(&site, &site.operator, everything).await.unwrap();
    assert!(all.len() > own.len() && all.iter().all(|record| record.sequence > 0));
    let reads = all.iter().filter(|record| record.action == "audit.list-audit-records");
    assert!(reads.count() >= 4);
    assert!(read(&site, &site.operator, organisation("acme")).await.unwrap().len() >= own.len());
}

#[tokio::test]
async fn a_page_of_one_scope_does_not_go_on_in_another() {
    let site = Site::start().await;
    let (acme, globex) = (site.organisation("acme").await, site.organisation("globex").await);
    site.environment(&acme, "acme", "shop").await;
    let mut audit = AuditClient::new(site.connect(None).await);
    let page = |after: &str| Some(v1::PageRequest { size: 1, after: after.to_owned() });
    let first = v1::ListAuditRecordsRequest { page: page(""), ..organisation("acme") };
    let first = audit.list_audit_records(with(first, &acme)).await.unwrap().into_inner();
    let next = first.page.unwrap().next;
    for (token, scope, after) in [
        (&globex, "globex", next.as_str()),
        (&acme, "acme", "control=1.0"),
        (&acme, "acme", "AAAA"),
    ] {
        let forged = v1::ListAuditRecordsRequest { page: page(after), ..organisation(scope) };
        let refused = said(audit.list_audit_records(with(forged, token)).await);
        assert_eq!(refused.0, Code::InvalidArgument, "{refused:?}");
        assert!(refused.1.starts_with("page.after: "), "{refused:?}");
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_read_names_its_field() {
    let site = Site::start().await;
    let acme = site.organisation("acme").await;
    let asked = || organisation("acme");
    for (asked, field) in [
        (v1::ListAuditRecordsRequest { actor: "me".to_owned(), ..asked() }, "actor: "),
        (v1::ListAuditRecordsRequest { object: "a//b".to_owned(), ..asked() }, "object: "),
        (v1::ListAuditRecordsRequest { object: "a/b/c/d/e/f/g".to_owned(), ..asked() }, "object: "),
        (v1::ListAuditRecordsRequest { action: "A B".to_owned(), ..asked() }, "action: "),
        (v1::ListAuditRecordsRequest { request: "7".to_owned(), ..asked() }, "request: "),
        (
            v1::ListAuditRecordsRequest { environment: name("acme/shop"), ..asked() },
            "organisation: is given with environment",
        ),
    ] {
        let refused = said(read(&site, &acme, asked).await);
        assert_eq!(refused.0, Code::InvalidArgument);
        assert!(refused.1.starts_with(field), "{refused:?}");
    }
}

#[tokio::test]
async fn what_was_changed_on_the_disk_is_found() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let mut audit = AuditClient::new(site.connect(None).await);
    let refused = audit.verify_audit(with(v1::VerifyAuditRequest {}, &owner)).await;
    assert_eq!(code(refused), Code::PermissionDenied);
    let verify = || with(v1::VerifyAuditRequest {}, &site.operator);
    let whole = audit.verify_audit(verify()).await.unwrap().into_inner();
    let [log] = whole.logs.as_slice() else { panic!("{whole:?}") };
    assert_eq!((log.process.as_str(), log.fault.as_str()), ("control", ""));
    assert!(log.last > 5 && log.lines == log.last && log.anchored > 0, "{log:?}");
    assert!(log.head.contains(&whole.public_key), "{log:?}");

    let segment = site.audit.own().join("0000000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("127.0.0.1", "127.0.0.2", 1)).unwrap();
    let changed = audit.verify_audit(verify()).await.unwrap().into_inner();
    assert!(changed.logs[0].fault.contains("0000000001.jsonl, line "), "{changed:?}");
    let read = read(&site, &site.operator, v1::ListAuditRecordsRequest::default()).await;
    assert_eq!(code(read), Code::FailedPrecondition);
}
