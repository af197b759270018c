//! The turns of one environment's gateway.

use std::{mem, sync::Arc, time::Instant};

use tokio::sync::{mpsc, watch};
use weft_dns::{ForwardAnswerError, Gateway};

use super::{
    GatewayCounters, Outlet, Settings, TURN_MAX,
    ask::{Asking, Came},
};

pub(super) struct Task {
    gateway: Gateway,
    settings: watch::Receiver<Settings>,
    packets: mpsc::Receiver<Vec<u8>>,
    asking: Asking,
    outlet: Outlet,
    counters: Arc<GatewayCounters>,
}

impl Task {
    pub(super) fn new(
        gateway: Gateway,
        settings: watch::Receiver<Settings>,
        packets: mpsc::Receiver<Vec<u8>>,
        outlet: Outlet,
        counters: Arc<GatewayCounters>,
    ) -> Self {
        Self { gateway, settings, packets, asking: Asking::new(), outlet, counters }
    }

    /// Answers until nobody has settings for it any more.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(TURN_MAX);
        loop {
            let due = self.gateway.next_timeout(Instant::now());
            // In no order: none of them keeps another from its turn.
            tokio::select! {
                changed = self.settings.changed() => match changed {
                    Ok(()) => self.change(),
                    Err(_) => return,
                },
                Some(came) = self.asking.came() => self.take(came),
                () = sleep_until(due) => self.gateway.handle_timeout(Instant::now()),
                1.. = self.packets.recv_many(&mut batch, TURN_MAX) => {
                    for packet in batch.drain(..) {
                        self.counters.received.add(1);
                        if let Err(reason) = self.gateway.handle_packet(&packet, Instant::now()) {
                            self.counters.dropped(reason);
                        }
                        self.send();
                    }
                }
            }
            self.send();
            // Others have their turn.
            tokio::task::yield_now().await;
        }
    }

    fn change(&mut self) {
        let Settings { zone, outside } = self.settings.borrow_and_update().clone();
        let changed = self.gateway.set_zone(zone);
        // What was asked under the old policy is answered by the new one: nobody waits for its sockets.
        let changed = changed.and_then(|()| self.gateway.set_outside(outside, Instant::now()));
        if let Err(error) = changed {
            tracing::error!(%error, "an environment's names stay as they were");
        }
    }

    fn take(&mut self, came: Came) {
        match came {
            Came::Answer { token, from, message } => {
                let now = Instant::now();
                match self.gateway.handle_forward_answer(token, from, &message, now) {
                    Ok(()) | Err(ForwardAnswerError::Unknown) => self.asking.close(token),
                    // Somebody else's, or a late one: the right one may still come.
                    Err(error) => tracing::debug!(server = %from, %error, "not the answer"),
                }
            }
            Came::Over(token) => {
                self.asking.close(token);
                self.gateway.handle_forward_failed(token, Instant::now());
            }
        }
    }

    /// Hands out what the gateway has to say.
    fn send(&mut self) {
        // Who has an answer finds its query counted.
        self.counters.queries.set(self.gateway.queries());
        let mut packet = Vec::new();
        while self.gateway.poll_packet(&mut packet) {
            let is_taken = (self.outlet)(mem::take(&mut packet));
            let counter = if is_taken { &self.counters.sent } else { &self.counters.unsent };
            counter.add(1);
        }
        while let Some(query) = self.gateway.poll_forward() {
            self.counters.forwarded.add(1);
            self.asking.open(query);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
