//! One reader of events: a task that filters and converts, and counts what the reader was too slow
//! for.
//!
//! ```text
//!  node ─▶ broadcast (loses the oldest) ─▶ Watch ─▶ queue ─▶ connection
//! ```
//! The queue is short and waited for: a reader that stands still makes the broadcast lose events,
//! not memory grow.

use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc, watch,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_api::v1;
use weft_types::EnvironmentId;

use super::event;
use crate::node::NodeEvent;

/// Events between the task and the connection.
const QUEUE_MAX: usize = 16;

pub(super) struct Watch {
    events: broadcast::Receiver<NodeEvent>,
    environment: Option<EnvironmentId>,
    stopped: watch::Receiver<()>,
    missed: u64,
}

impl Watch {
    /// A reader of `events`, or only of those of `environment`, until the sender of `stopped` is
    /// dropped.
    pub(super) fn new(
        events: broadcast::Receiver<NodeEvent>,
        environment: Option<EnvironmentId>,
        stopped: watch::Receiver<()>,
    ) -> Self {
        Self { events, environment, stopped, missed: 0 }
    }

    /// Starts the task. It ends with the stream.
    pub(super) fn start(mut self) -> ReceiverStream<Result<v1::Event, Status>> {
        let (queue, stream) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = self.next() => event,
                    () = queue.closed() => None,
                };
                let Some(event) = event else { return };
                if queue.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(stream)
    }

    /// The next event; none once the daemon has stopped and all that happened before was read.
    /// Lost events of other environments are counted too, since nobody knows whose they were.
    async fn next(&mut self) -> Option<v1::Event> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.events.recv() => received,
                _ = self.stopped.changed() => return None,
            };
            match received {
                Ok(event) if self.wants(&event) => {
                    return Some(event::event(event, std::mem::take(&mut self.missed)));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => self.missed += count,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&self, event: &NodeEvent) -> bool {
        self.environment.is_none() || self.environment == event.environment
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::node::EventKind;

    fn of(environment: Option<&str>, message: &str) -> NodeEvent {
        NodeEvent {
            kind: EventKind::PeerAdded,
            time: UNIX_EPOCH + Duration::from_millis(7),
            environment: environment.map(|e| e.parse().unwrap()),
            attachment: None,
            host: Some("host-b".parse().unwrap()),
            message: message.to_owned(),
        }
    }

    async fn messages(watch: Watch) -> Vec<(String, u64)> {
        let events: Vec<_> = watch.start().map(Result::unwrap).collect().await;
        events.into_iter().map(|e| (e.message, e.missed)).collect()
    }

    #[tokio::test]
    async fn events_come_converted_and_end_with_the_daemon() {
        let (events, receiver) = broadcast::channel(4);
        let (stop, stopped) = watch::channel(());
        let mut stream = Watch::new(receiver, None, stopped).start();
        events.send(of(Some("acme"), "first")).unwrap();
        let expected = v1::Event {
            kind: v1::EventKind::PeerAdded.into(),
            time_ms: 7,
            environment: "acme".into(),
            attachment: String::new(),
            host: "host-b".into(),
            message: "first".into(),
            missed: 0,
        };
        assert_eq!(stream.next().await.unwrap().unwrap(), expected);
        events.send(of(None, "the daemon stops")).unwrap();
        drop(stop);
        assert_eq!(stream.next().await.unwrap().unwrap().message, "the daemon stops");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_filter_leaves_out_what_is_of_others_and_of_nobody() {
        let (events, receiver) = broadcast::channel(4);
        let (stop, stopped) = watch::channel(());
        for (environment, message) in [(Some("globex"), "1"), (Some("acme"), "2"), (None, "3")] {
            events.send(of(environment, message)).unwrap();
        }
        drop(stop);
        let watch = Watch::new(receiver, Some("acme".parse().unwrap()), stopped);
        assert_eq!(messages(watch).await, [("2".to_owned(), 0)]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let (events, receiver) = broadcast::channel(4);
        let (stop, stopped) = watch::channel(());
        for n in 0..10 {
            events.send(of(Some(if n == 6 { "globex" } else { "acme" }), &n.to_string())).unwrap();
        }
        drop(stop);
        let watch = Watch::new(receiver, Some("acme".parse().unwrap()), stopped);
        // Four are kept; the count comes with the first that is wanted, and only once.
        let expected = [("7", 6), ("8", 0), ("9", 0)].map(|(m, n)| (m.to_owned(), n));
        assert_eq!(messages(watch).await, expected);
    }

    #[tokio::test]
    async fn the_task_ends_with_its_reader() {
        let (events, receiver) = broadcast::channel(4);
        let (_stop, stopped) = watch::channel(());
        drop(Watch::new(receiver, None, stopped).start());
        let gone = async {
            while events.receiver_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    }
}
