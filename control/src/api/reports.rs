//! What hosts report, and what operators see of it.

use prost::Message;
use weft_control_api::v1;
use weft_model::{
    record::{HealthState, Interface, PeerSession, Peering},
    reports::{ATTACHMENTS_MAX, ENVIRONMENTS_MAX, ERROR_LEN_MAX, PEERS_MAX, printable},
};
use weft_types::HostId;

use super::{Api, convert};
use crate::{
    app::{Caller, EnvironmentReport, Report, ReportedHealth, ReportedPeers},
    error::AppError,
};

/// An answer ends with the environment that takes it to this many bytes or more: what people's programs take is four
/// times as much, and an environment with 1,024 attachments and as many sessions has 2 MiB at most.
const PAGE_BYTES_MAX: usize = 1 << 20;

fn limited(field: &'static str, found: usize, max: usize) -> Result<(), AppError> {
    if found > max {
        return Err(AppError::invalid(field, format!("{found} of them; expected at most {max}")));
    }
    Ok(())
}

/// An error that is not too long, as people may read it.
fn error(field: &'static str, text: &str) -> Result<String, AppError> {
    if text.len() > ERROR_LEN_MAX {
        let problem = format!("{} bytes; expected at most {ERROR_LEN_MAX}", text.len());
        return Err(AppError::invalid(field, problem));
    }
    Ok(printable(text))
}

/// What a host says, if it is not too much.
pub(super) fn read(request: v1::ReportRequest) -> Result<Report, AppError> {
    limited("attachments", request.attachments.len(), ATTACHMENTS_MAX)?;
    limited("peers", request.peers.len(), PEERS_MAX)?;
    limited("without_peers", request.without_peers.len(), ENVIRONMENTS_MAX)?;
    let health = request.attachments.iter().filter_map(|actual| health(actual).transpose());
    let health = health.collect::<Result<_, _>>()?;
    let mut peers = ReportedPeers::new();
    for environment in &request.without_peers {
        peers.entry(convert::parse("without_peers", environment)?).or_default();
    }
    for actual in &request.peers {
        let environment = convert::parse("peers.environment", &actual.environment)?;
        let host: HostId = convert::parse("peers.host", &actual.host)?;
        let session = PeerSession {
            is_up: actual.is_established,
            key_age_ms: actual.key_age_ms,
            error: error("peers.error", &actual.error)?,
        };
        peers.entry(environment).or_default().insert(host, session);
    }
    let v1::ReportRequest { revision, version, .. } = request;
    Ok(Report { version, revision, health, peers })
}

fn health(actual: &v1::ActualAttachment) -> Result<Option<ReportedHealth>, AppError> {
    let error = error("attachments.error", &actual.error)?;
    let state = match actual.health() {
        v1::HealthState::Unspecified => None,
        v1::HealthState::Starting => Some(HealthState::Starting),
        v1::HealthState::Healthy => Some(HealthState::Healthy),
        v1::HealthState::Unhealthy => Some(HealthState::Unhealthy),
    };
    let interface = match actual.interface() {
        v1::InterfaceState::Unspecified => None,
        v1::InterfaceState::Pending => Some(Interface::Pending),
        v1::InterfaceState::Up => Some(Interface::Up),
        v1::InterfaceState::Failed => Some(Interface::Failed { error }),
    };
    if state.is_none() && interface.is_none() {
        return Ok(None);
    }
    Ok(Some(ReportedHealth {
        environment: convert::parse("attachments.environment", &actual.environment)?,
        attachment: convert::parse("attachments.name", &actual.name)?,
        generation: actual.generation,
        state,
        interface,
    }))
}

fn message(report: EnvironmentReport) -> v1::EnvironmentReport {
    let EnvironmentReport { environment, attachments, peering } = report;
    let attachments = attachments.into_iter();
    let (reported_ms, peers) =
        peering.map(|Peering { at, peers, .. }| (at.0, peers)).unwrap_or_default();
    let sessions = peers.into_iter().map(|(host, session)| v1::PeerSession {
        host: host.to_string(),
        is_established: session.is_up,
        key_age_ms: session.key_age_ms,
        error: session.error,
    });
    v1::EnvironmentReport {
        environment: environment.to_string(),
        attachments: attachments
            .map(|(found, health)| convert::attachment(found, health))
            .collect(),
        sessions: sessions.collect(),
        reported_ms,
    }
}

impl Api {
    /// What a host has, as much as an answer may have of it.
    pub(super) async fn report_of(
        &self,
        caller: &Caller,
        request: &v1::GetHostReportRequest,
    ) -> Result<v1::GetHostReportResponse, AppError> {
        let id = convert::parse("id", &request.id)?;
        let (len_max, after) = convert::page(request.page.as_ref())?;
        let after = convert::optional("page.after", after.unwrap_or_default())?;
        let (mut environments, mut bytes, mut is_full) = (Vec::new(), 0, false);
        let take = |report| {
            let message = message(report);
            bytes += message.encoded_len();
            environments.push(message);
            is_full = environments.len() >= len_max || bytes >= PAGE_BYTES_MAX;
            is_full
        };
        self.app.host_report(caller, &id, after.as_ref(), take).await?;
        let last = environments.last().map(|last| last.environment.clone());
        let next = last.filter(|_| is_full).unwrap_or_default();
        Ok(v1::GetHostReportResponse { environments, page: Some(v1::PageInfo { next }) })
    }
}
