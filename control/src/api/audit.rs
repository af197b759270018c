//! Calls about the audit.

use std::time::{Duration, SystemTime};

use tonic::{Request, async_trait};
use weft_audit::{Fact, Found, Outcome, Query, Timestamp, Word};
use weft_control_api::v1::{self, audit_server::Audit};

use super::{Answer, Api, convert};
use crate::{
    app::{AuditScope, Seen},
    audit::{COUNT, Checked, MADE, Source},
    error::AppError,
};

fn scope(request: &v1::ListAuditRecordsRequest) -> Result<AuditScope, AppError> {
    match (request.organisation.as_str(), &request.environment) {
        ("", None) => Ok(AuditScope::Installation),
        ("", environment) => {
            convert::environment_name(environment.as_ref()).map(AuditScope::Environment)
        }
        (organisation, None) => Ok(AuditScope::Organisation(organisation.to_owned())),
        (_, Some(_)) => Err(AppError::invalid(
            "organisation",
            "is given with environment; expected one of them",
        )),
    }
}

fn time(ms: u64) -> Option<Timestamp> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    // What is after all times is as no bound.
    time.filter(|_| ms > 0).map(Timestamp::of)
}

fn query(request: &v1::ListAuditRecordsRequest) -> Result<Query, AppError> {
    Ok(Query {
        from: time(request.from_ms),
        until: time(request.until_ms),
        who: convert::optional("actor", &request.actor)?,
        object: convert::optional("object", &request.object)?,
        action: convert::optional("action", &request.action)?,
        outcome: match request.outcome() {
            v1::AuditOutcome::Unspecified => None,
            v1::AuditOutcome::Begun => Some(Word::new("begun")),
            v1::AuditOutcome::Done => Some(Word::new("done")),
            v1::AuditOutcome::Denied => Some(Word::new("denied")),
            v1::AuditOutcome::Failed => Some(Word::new("failed")),
            v1::AuditOutcome::Unknown => Some(Word::new("unknown")),
        },
        request: convert::optional("request", &request.request)?,
    })
}

fn record(seen: Seen, reads_all: bool) -> v1::AuditRecord {
    let Seen { found: Found { process, seq, at, event }, tells_source } = seen;
    let since = at.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (outcome, reason) = match event.outcome {
        Outcome::Begun => (v1::AuditOutcome::Begun, None),
        Outcome::Done => (v1::AuditOutcome::Done, None),
        Outcome::Denied(why) => (v1::AuditOutcome::Denied, Some(why)),
        Outcome::Failed(why) => (v1::AuditOutcome::Failed, Some(why)),
        Outcome::Unknown => (v1::AuditOutcome::Unknown, None),
    };
    // Those two have fields of their own.
    let others = event.facts.all().filter(|(about, _)| **about != MADE && **about != COUNT);
    v1::AuditRecord {
        facts: others.map(|(about, fact)| (about.to_string(), fact.to_string())).collect(),
        process: if reads_all { process.to_string() } else { String::new() },
        sequence: if reads_all { seq } else { 0 },
        time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        actor: event.who.to_string(),
        source: if tells_source { event.from.to_string() } else { String::new() },
        action: event.action.to_string(),
        object: event.object.to_string(),
        outcome: outcome.into(),
        reason: reason.map(|why| why.to_string()).unwrap_or_default(),
        request: event.request.to_string(),
        made: match event.facts.get(&MADE) {
            Some(Fact::Name(made)) => made.as_str().to_owned(),
            _ => String::new(),
        },
        count: match event.facts.get(&COUNT) {
            Some(Fact::Number(count)) => *count,
            _ => 0,
        },
    }
}

fn log(checked: Checked) -> v1::AuditLog {
    let head = checked.head.map(|head| String::from_utf8_lossy(&head.encode()).into_owned());
    let source = match checked.source {
        Source::Log => v1::AuditLogSource::Log,
        Source::Copy => v1::AuditLogSource::Copy,
        Source::None => v1::AuditLogSource::Unspecified,
    };
    let mut log = v1::AuditLog {
        process: checked.process.to_string(),
        fault: checked.fault.map(|finding| finding.to_string()).unwrap_or_default(),
        head: head.unwrap_or_default(),
        source: source.into(),
        elsewhere: checked.elsewhere.unwrap_or_default(),
        compared: checked.compared,
        shipped: checked.shipped,
        unshipped: checked.unshipped.unwrap_or_default(),
        ..Default::default()
    };
    if let Some(found) = checked.found {
        (log.segments, log.lines, log.expired) = (found.segments, found.lines, found.expired);
        (log.last, log.anchored) = (found.last.seq, found.anchored);
    }
    log
}

#[async_trait]
impl Audit for Api {
    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Answer<v1::ListAuditRecordsResponse> {
        self.call(request, |caller, request| async move {
            let (scope, asked) = (scope(&request)?, query(&request)?);
            let (len_max, after) = convert::page(request.page.as_ref())?;
            let page = self.app.audit_records(&caller, &scope, asked, after, len_max).await?;
            let reads_all = page.reads_all;
            let records = page.found.into_iter().map(|seen| record(seen, reads_all)).collect();
            let missing = page.missing.iter().filter(|_| reads_all).map(ToString::to_string);
            Ok(v1::ListAuditRecordsResponse {
                records,
                partial: page.is_partial,
                missing: missing.collect(),
                page: Some(v1::PageInfo { next: page.next.unwrap_or_default() }),
            })
        })
        .await
    }

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Answer<v1::VerifyAuditResponse> {
        self.call(request, |caller, request| async move {
            let logs =
                self.app.verify_audit(&caller, request.blobs).await?.into_iter().map(log).collect();
            let public_key = self.app.reader().public_key().to_string();
            Ok(v1::VerifyAuditResponse { logs, public_key })
        })
        .await
    }
}
