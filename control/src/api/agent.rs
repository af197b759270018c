//! Calls of hosts about themselves.

use std::{iter, mem, sync::Arc};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, async_trait};
use weft_control_api::v1::{
    self, enrolment_server::Enrolment, host_agent_server::HostAgent, host_update, removed,
};
use weft_model::{
    projection::{Document, DocumentId, Update},
    record::Capacity,
};
use zeroize::Zeroizing;

use super::{
    Answer, Api, convert, policies, reports, settings, status::status, unread::made_as_read,
};
use crate::{
    app::{self, AttachWish, AttachmentHealth, HostWish, News},
    error::AppError,
};

/// What a host is told.
pub(super) type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

/// Updates in one message: of a few hundred bytes each.
const UPDATES_LEN_MAX: usize = 500;
/// Messages that wait for a host that is slow; what is newer is made when these are taken.
const MESSAGES_WAIT_MAX: usize = 2;

#[async_trait]
impl Enrolment for Api {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Answer<v1::EnrolResponse> {
        self.call(request, |caller, request| async move {
            let enrolment = app::Enrolment {
                token: Zeroizing::new(request.token),
                host: convert::optional("host", &request.host)?,
                signing_request: request.signing_request,
                endpoints: convert::parse_all("endpoints", &request.endpoints)?,
                capacity: Capacity {
                    cpu_milli: request.cpu_milli,
                    memory_bytes: request.memory_bytes,
                },
            };
            let enrolled = self.app.enrol(&caller, &enrolment).await?;
            Ok(v1::EnrolResponse {
                host: enrolled.host.to_string(),
                installation: self.app.installation().to_string(),
                certificate: enrolled.certificate,
                anchors: vec![self.app.anchor().to_owned()],
            })
        })
        .await
    }
}

fn attach_wish(
    host: weft_types::HostId,
    request: &v1::AttachRequest,
) -> Result<AttachWish, AppError> {
    Ok(AttachWish {
        name: convert::parse("name", &request.name)?,
        slot: convert::slot(request.slot.as_ref(), &request.name)?,
        host: HostWish { id: host, grant: convert::optional("grant", &request.grant)? },
        addresses: convert::parse_all("addresses", &request.addresses)?,
        share: None,
    })
}

#[async_trait]
impl HostAgent for Api {
    type WatchStream = WatchStream;

    async fn renew_host_certificate(
        &self,
        request: Request<v1::RenewHostCertificateRequest>,
    ) -> Answer<v1::RenewHostCertificateResponse> {
        self.call(request, |caller, request| async move {
            let renewed = self.app.renew_host(&caller, &request.signing_request).await;
            let (certificate, anchors) = (renewed?, vec![self.app.anchor().to_owned()]);
            Ok(v1::RenewHostCertificateResponse { certificate, anchors })
        })
        .await
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<WatchStream> {
        let answer = self.call(request, |caller, request| async move {
            let after = weft_store::Revision(request.revision);
            let (watch, anew) =
                app::HostWatch::begin(Arc::clone(&self.app), &caller, after).await?;
            let (sender, receiver) = mpsc::channel(MESSAGES_WAIT_MAX);
            tokio::spawn(async move {
                tokio::select! {
                    () = tell(watch, &sender) => {}
                    error = anew => {
                        // Who takes nothing is not told why.
                        let _ = sender.try_send(Err(status(error)));
                    }
                }
            });
            Ok(ReceiverStream::new(receiver))
        });
        Ok(made_as_read(answer.await?))
    }

    async fn issue_leaf(
        &self,
        request: Request<v1::IssueLeafRequest>,
    ) -> Answer<v1::IssueLeafResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::parse("environment", &request.environment)?;
            let issued = self.app.issue_leaf(&caller, &environment, &request.signing_request).await;
            let app::Leaf { certificate, anchors } = issued?;
            Ok(v1::IssueLeafResponse { certificate, anchors })
        })
        .await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::Attachment> {
        self.call(request, |caller, request| async move {
            let host = app::App::calling_host(&caller)?.clone();
            let environment = request.environment.parse()?;
            let wish = attach_wish(host, &request)?;
            let made = self.app.attach_here(&caller, &environment, &wish).await?;
            Ok(convert::attachment(made, AttachmentHealth::default()))
        })
        .await
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<v1::ReleaseResponse> {
        self.call(request, |caller, request| async move {
            let environment = convert::parse("environment", &request.environment)?;
            let name = convert::parse("name", &request.name)?;
            let released = self.app.release_here(&caller, &environment, &name, request.generation);
            released.await?;
            Ok(v1::ReleaseResponse {})
        })
        .await
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Answer<v1::ReportResponse> {
        self.call(request, |caller, request| async move {
            let report = reports::read(request)?;
            let app::Heard { next, again } = self.app.report(&caller, report).await?;
            let next_ms = u32::try_from(next.as_millis()).unwrap_or(u32::MAX);
            Ok(v1::ReportResponse { next_ms, again })
        })
        .await
    }
}

/// Tells a host what is new until it has gone.
async fn tell(mut watch: app::HostWatch, to: &mpsc::Sender<Result<v1::WatchResponse, Status>>) {
    loop {
        let news = match watch.next(to.closed()).await {
            Ok(Some(news)) => news,
            Ok(None) => return,
            Err(error) => {
                // Whoever has gone needs no reason.
                let _ = to.send(Err(status(error))).await;
                return;
            }
        };
        for message in messages(news) {
            if to.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }
}

/// News in messages that are not too long, each made when it is its turn; the last one says so.
fn messages(news: News) -> impl Iterator<Item = v1::WatchResponse> {
    let News { revision, is_snapshot, updates } = news;
    let mut updates = updates.into_iter().map(update).peekable();
    let (mut is_first, mut more) = (true, true);
    iter::from_fn(move || {
        if !more {
            return None;
        }
        let part = updates.by_ref().take(UPDATES_LEN_MAX).collect();
        more = updates.peek().is_some();
        let is_snapshot = mem::take(&mut is_first) && is_snapshot;
        Some(v1::WatchResponse { revision: revision.0, is_snapshot, updates: part, more })
    })
}

fn update(update: Update) -> v1::HostUpdate {
    let update = match update {
        Update::Put(document) => put(document),
        Update::Remove(id) => {
            let environment = id.environment().to_string();
            let what = match id {
                DocumentId::Environment(_) => Some(removed::What::All(true)),
                DocumentId::Attachment(_, name) => {
                    Some(removed::What::Attachment(name.to_string()))
                }
                DocumentId::Peer(_, host) => Some(removed::What::Peer(host.to_string())),
                DocumentId::Service(_, name) => Some(removed::What::Service(name.to_string())),
                // A policy goes with its environment only.
                DocumentId::Policy(_) => None,
            };
            host_update::Update::Removed(v1::Removed { environment, what })
        }
    };
    v1::HostUpdate { update: Some(update) }
}

fn put(document: Document) -> host_update::Update {
    match document {
        Document::Environment(d) => host_update::Update::Environment(v1::EnvironmentSettings {
            id: d.id.to_string(),
            subnets: d.subnets.iter().map(ToString::to_string).collect(),
            suspended: d.suspended,
            egress_mbit_max: d.egress_mbit_max.unwrap_or_default(),
            anchors: d.anchors,
            leaf_seconds: d.leaf_seconds,
            other_names: Some(settings::other_names_message(&d.other_names)),
        }),
        Document::Attachment(d) => host_update::Update::Attachment(v1::DesiredAttachment {
            environment: d.environment.to_string(),
            name: d.name.to_string(),
            slot: convert::slot_message(&d.slot),
            addresses: convert::addresses(&d.addresses),
            generation: d.generation,
            share: convert::share_message(d.share),
        }),
        Document::Peer(d) => host_update::Update::Peer(v1::PeerHost {
            environment: d.environment.to_string(),
            host: d.host.to_string(),
            endpoints: d.endpoints.iter().map(ToString::to_string).collect(),
            addresses: convert::addresses(&d.addresses),
        }),
        Document::Service(d) => host_update::Update::Service(convert::service_state(d)),
        Document::Policy(policy) => host_update::Update::Policy(policies::message(policy)),
    }
}
