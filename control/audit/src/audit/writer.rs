//! The one task that writes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::{BATCH_LEN_MAX, Clock, ExpireError, Refused, Request, Shared};
use crate::{
    anchor::Anchors,
    chain::Position,
    event::{Actor, Event, Fact, Facts, Origin, Outcome, RequestId},
    log::Log,
    replica::Shipper,
    signed::{Expired, Signed, Signer},
    text::{ProcessId, Word},
    time::Timestamp,
};

const EXPIRE: Word = Word::new("audit.expire");
const THROUGH_SEQ: Word = Word::new("through-seq");

/// A second host has so long to take what is new: a piece of a MiB at a time, each synced, after it was away.
const REPLICA_ANSWER_MAX: Duration = Duration::from_secs(10);

type Answer = oneshot::Sender<Result<Position, Refused>>;

/// See the module's text.
pub(super) struct Writer {
    /// Away while a thread works on it; gone when that has failed.
    pub(super) log: Option<Log>,
    pub(super) process: ProcessId,
    pub(super) signer: Signer,
    pub(super) anchors: Arc<dyn Anchors>,
    pub(super) clock: Clock,
    pub(super) shipper: Option<Shipper>,
    pub(super) shared: Arc<Shared>,
    pub(super) heads: watch::Sender<Position>,
}

impl Writer {
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::new();
        while queue.recv_many(&mut requests, BATCH_LEN_MAX).await > 0 {
            let (mut events, mut answers, mut expirations) = (Vec::new(), Vec::new(), Vec::new());
            for request in requests.drain(..) {
                match request {
                    Request::Record(event, answer) => {
                        events.push(event);
                        answers.push(answer);
                    }
                    Request::Expire(answer) => expirations.push(answer),
                }
            }
            if !events.is_empty() {
                let written = self.write(events).await;
                answer_all(answers, &written);
            }
            for answer in expirations {
                let _ = answer.send(self.expire().await);
            }
        }
    }

    /// On the disk, and on the second host.
    async fn write(&mut self, events: Vec<Event>) -> Result<Vec<Position>, Refused> {
        let written = self.try_write(events).await;
        let mut status = self.shared.status();
        if let Ok(positions) = &written
            && let Some(last) = positions.last()
        {
            status.last = *last;
        }
        let refused = written.as_ref().err().cloned();
        if let Some(why) = &refused
            && status.refused.is_none()
        {
            tracing::error!(%why, "nothing can be recorded: all is refused");
        }
        status.refused = refused;
        drop(status);
        written
    }

    async fn try_write(&mut self, events: Vec<Event>) -> Result<Vec<Position>, Refused> {
        if self.shared.is_superseded() {
            return Err(Refused::Superseded);
        }
        let now = Timestamp::of((self.clock)());
        let committed = self.blocking(move |log| log.commit(&events, now)).await?;
        let positions = committed.map_err(|error| Refused::Unwritable(error.to_string()))?;
        self.ship().await?;
        if let Some(last) = positions.last() {
            self.heads.send_replace(*last);
        }
        Ok(positions)
    }

    /// Sends the second host what it lacks.
    pub(super) async fn ship(&mut self) -> Result<(), Refused> {
        let (Some(shipper), Some(log)) = (&mut self.shipper, &self.log) else { return Ok(()) };
        let place = log.place().map_err(|error| Refused::Unwritable(error.to_string()))?;
        let shipped = timeout(REPLICA_ANSWER_MAX, shipper.ship(&self.process, log.folder(), place));
        let late = |_| Refused::Replica("no answer in time".to_owned());
        shipped.await.map_err(late)?.map_err(|error| Refused::Replica(error.to_string()))
    }

    async fn expire(&mut self) -> Result<Option<Signed<Expired>>, ExpireError> {
        if self.shared.is_superseded() {
            return Err(Refused::Superseded.into());
        }
        let now = Timestamp::of((self.clock)());
        let Some(expired) = self.blocking(move |log| log.find_expired(now)).await?? else {
            return Ok(None);
        };
        let mut event = self.expiry(expired.seq);
        self.write(vec![event.clone()]).await?;
        let (seq, stub) = (expired.seq, self.signer.sign(expired));
        let put = stub.clone();
        let removed = self.blocking(move |log| log.expire(&put)).await?;
        removed.map_err(|error| Refused::Unwritable(error.to_string()))?;
        event.outcome = Outcome::Done;
        self.write(vec![event]).await?;
        if let Some(shipper) = &mut self.shipper {
            // Where it does not come, it is found to be missing and sent again.
            let told = timeout(REPLICA_ANSWER_MAX, shipper.expire(&stub)).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::warn!("the second host keeps what has expired until it is back");
            }
        }
        if let Err(error) = self.anchors.forget(&self.process, seq).await {
            tracing::warn!(%error, "heads of lines that expired are still anchored");
        }
        Ok(Some(stub))
    }

    fn expiry(&self, seq: u64) -> Event {
        Event {
            who: Actor::System,
            from: Origin::Internal,
            action: EXPIRE,
            object: format!("audit/{}", self.process).parse().expect("two names"),
            outcome: Outcome::Begun,
            request: RequestId::random(),
            facts: Facts::none().with(THROUGH_SEQ, Fact::Number(seq)),
        }
    }

    /// Works on the files on a thread that may wait for them.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Log) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let gone = || Refused::Unwritable("the writer has failed; restart the process".to_owned());
        let mut log = self.log.take().ok_or_else(gone)?;
        let done = spawn_blocking(move || {
            let result = work(&mut log);
            (log, result)
        });
        let (log, result) = done.await.map_err(|_| gone())?;
        self.log = Some(log);
        Ok(result)
    }
}

fn answer_all(answers: Vec<Option<Answer>>, written: &Result<Vec<Position>, Refused>) {
    for (number, answer) in answers.into_iter().enumerate() {
        let result = written.as_ref().map(|positions| positions[number]).map_err(Clone::clone);
        // Who asked may have gone; the record stays.
        if let Some(answer) = answer {
            let _ = answer.send(result);
        }
    }
}
