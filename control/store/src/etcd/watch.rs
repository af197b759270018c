//! Watches that go on with another member.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tonic::Streaming;

use super::{
    convert::{Names, from_number, revision},
    members::{Member, Members, PAUSE, Retry},
    proto::{Event, WatchRequest, WatchResponse, event::EventType, watch_request::RequestUnion},
};
use crate::{
    entry::Revision,
    error::{StoreError, WatchError},
    watch::{Batch, Change, Watch},
};

pub(super) struct EtcdWatch {
    members: Arc<Members>,
    names: Names,
    prefix: String,
    /// Everything up to here was told, or read and waits in `ready`.
    after: Revision,
    answers: Streaming<WatchResponse>,
    /// Parts of an answer that goes on.
    parts: Vec<Event>,
    ready: VecDeque<Batch>,
    begin: Begin,
}

/// What is known of the revision where a watch began.
enum Begin {
    Unknown,
    /// The member has not seen it yet.
    Future(Revision),
    Past,
}

impl EtcdWatch {
    pub(super) async fn begin(
        members: Arc<Members>,
        names: Names,
        prefix: &str,
        after: Revision,
    ) -> Result<Self, StoreError> {
        let answers = open(&members, &names, prefix, after).await?;
        let (prefix, parts, ready) = (prefix.to_owned(), Vec::new(), VecDeque::new());
        Ok(Self { members, names, prefix, after, answers, parts, ready, begin: Begin::Unknown })
    }

    /// Whether the cluster was at the revision where the watch began, if its member was not: that one may be
    /// behind.
    async fn check_begin(&mut self) -> Result<(), WatchError> {
        if let Begin::Future(after) = self.begin {
            let oldest = self.members.newest().await?;
            if oldest < after {
                return Err(WatchError::Compacted { oldest });
            }
            self.begin = Begin::Past;
        }
        Ok(())
    }

    fn handle(&mut self, answer: WatchResponse) -> Result<Handled, WatchError> {
        if answer.canceled {
            return match answer.compact_revision {
                0 => Ok(Handled::Ended),
                oldest => Err(WatchError::Compacted { oldest: from_number(oldest) }),
            };
        }
        if let Begin::Unknown = self.begin {
            let is_past = revision(answer.header.as_ref()) >= self.after;
            self.begin = if is_past { Begin::Past } else { Begin::Future(self.after) };
        }
        self.parts.extend(answer.events);
        if !answer.fragment {
            let events = std::mem::take(&mut self.parts);
            self.take(events)?;
        }
        Ok(Handled::GoesOn)
    }

    /// Puts whole revisions together.
    fn take(&mut self, events: Vec<Event>) -> Result<(), StoreError> {
        for event in events {
            let kind = event.r#type();
            let Some(found) = event.kv else { continue };
            let revision = from_number(found.mod_revision);
            if revision <= self.after {
                continue;
            }
            let change = match kind {
                EventType::Put => Change::Put(self.names.entry(found)?),
                EventType::Delete => Change::Deleted(self.names.key(&found.key)?),
            };
            match self.ready.back_mut() {
                Some(batch) if batch.revision == revision => batch.changes.push(change),
                _ => self.ready.push_back(Batch { revision, changes: vec![change] }),
            }
        }
        for batch in &mut self.ready {
            batch.changes.sort_by(|a, b| a.key().cmp(b.key()));
        }
        self.after = self.ready.back().map_or(self.after, |last| last.revision);
        Ok(())
    }
}

enum Handled {
    GoesOn,
    /// The member has ended it, for instance because it has no leader.
    Ended,
}

async fn open(
    members: &Members,
    names: &Names,
    prefix: &str,
    after: Revision,
) -> Result<Streaming<WatchResponse>, StoreError> {
    let create = names.watch(prefix, after);
    let watch = |mut member: Member| {
        let create = WatchRequest { request_union: Some(RequestUnion::Create(create.clone())) };
        // The watch lives as long as its requests do not end.
        let requests = tokio_stream::once(create).chain(tokio_stream::pending());
        async move { member.watch.watch(member.request(requests)).await }
    };
    Ok(members.call(Retry::Always, watch).await.0?)
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            self.check_begin().await?;
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let ended = match self.answers.message().await {
                Ok(Some(answer)) => matches!(self.handle(answer)?, Handled::Ended),
                Ok(None) | Err(_) => true,
            };
            if ended {
                self.parts.clear();
                // A member that ends every watch at once is not asked all the time.
                sleep(PAUSE).await;
                self.answers = open(&self.members, &self.names, &self.prefix, self.after).await?;
            }
        }
    }
}
