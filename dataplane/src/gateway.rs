//! What answers at environments' gateway addresses: a thread of its own, with one task for each environment.
//!
//! ```text
//!  workers ─▶ Inlet: a queue per environment ─▶ Task: weft_dns::Gateway ─▶ Outlet ─▶ a worker ─▶ attachment
//!  node ────▶ Settings: zone, other names ────▶   │    ▲
//!                                                 ▼    │
//!                                       a socket for each query outside
//! ```
//! Tasks share the thread and nothing else: no queue, no table, no counter. Each has a turn of [`TURN_MAX`] packets,
//! then all others that have something to do have theirs. Nothing here can make a worker wait: what finds no room
//! in a queue, either way, is dropped and counted.

mod ask;
mod task;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle as TaskHandle,
};
use weft_dns::{DropReason, Gateway, Limits, Outside, SettingsError, Zone};
use weft_proto::{Counter64, Unanswered};

use task::Task;

/// Packets that wait for an environment's task: what comes in 50 ms at the rate that is answered. With
/// [`weft_proto::GATEWAY_PACKET_LEN_MAX`] bytes each they take 512 KiB at most.
const PACKETS_MAX: usize = 256;
/// Packets that a task takes before others have their turn: some 200 µs.
const TURN_MAX: usize = 16;

/// Where a task's packets go; gives whether they are taken.
pub(crate) type Outlet = Box<dyn FnMut(Vec<u8>) -> bool + Send>;

/// What an environment's gateway answers.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) zone: Arc<Zone>,
    pub(crate) outside: Outside,
}

/// Where a worker puts what attachments of one environment send to its gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inlet(mpsc::Sender<Vec<u8>>);

impl Inlet {
    /// One behind which nobody is.
    #[cfg(test)]
    pub(crate) fn closed() -> Self {
        Self(mpsc::channel(1).0)
    }

    /// Puts `header ‖ payload`, one packet.
    pub(crate) fn put(&self, header: &[u8], payload: &[u8]) -> Result<(), Unanswered> {
        // Room first: what finds none costs no memory.
        let room = self.0.try_reserve().map_err(|_| Unanswered)?;
        room.send([header, payload].concat());
        Ok(())
    }
}

/// What an environment's gateway did. Its task is the only writer.
#[derive(Debug, Default)]
pub(crate) struct GatewayCounters {
    /// Packets from attachments.
    received: Counter64,
    /// Packets to attachments.
    sent: Counter64,
    /// Packets for which a worker had no room.
    unsent: Counter64,
    queries: Counter64,
    /// Queries to servers outside.
    forwarded: Counter64,
    drops: [Counter64; DropReason::ALL.len()],
}

/// What an environment's gateway did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Packets from attachments.
    pub received: u64,
    /// Packets to attachments.
    pub sent: u64,
    /// Packets to attachments for which a worker had no room.
    pub unsent: u64,
    /// Queries within the rates.
    pub queries: u64,
    /// Queries that servers outside were asked.
    pub forwarded: u64,
    /// Packets that came to nothing, all causes.
    pub drops: Vec<(DropReason, u64)>,
}

impl GatewayCounters {
    fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    fn status(&self) -> GatewayStatus {
        let drops = DropReason::ALL.into_iter().zip(&self.drops);
        GatewayStatus {
            received: self.received.get(),
            sent: self.sent.get(),
            unsent: self.unsent.get(),
            queries: self.queries.get(),
            forwarded: self.forwarded.get(),
            drops: drops.map(|(reason, count)| (reason, count.get())).collect(),
        }
    }
}

/// One environment's gateway as the node has it.
#[derive(Debug)]
pub(crate) struct Answering {
    settings: watch::Sender<Settings>,
    counters: Arc<GatewayCounters>,
    task: TaskHandle<()>,
}

impl Answering {
    /// The zone that is answered from.
    pub(crate) fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.settings.borrow().zone)
    }

    /// Answers from this zone from now on.
    pub(crate) fn set_zone(&self, zone: Arc<Zone>) {
        self.settings.send_modify(|settings| settings.zone = zone);
    }

    /// Says this of other names from now on.
    pub(crate) fn set_outside(&self, outside: Outside) {
        self.settings.send_modify(|settings| settings.outside = outside);
    }

    /// What it did so far.
    pub(crate) fn status(&self) -> GatewayStatus {
        self.counters.status()
    }

    /// Ends it. Afterwards nothing of it comes out of the outlet any more.
    pub(crate) async fn close(self) {
        drop(self.settings);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "what answered an environment's names had ended");
        }
    }
}

/// The thread on which all of them are.
#[derive(Debug)]
pub(crate) struct Gateways {
    handle: Handle,
    /// Before it is started.
    idle: Option<Runtime>,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Gateways {
    /// Makes what the thread waits with.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(crate) fn prepare() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Self { handle: runtime.handle().clone(), idle: Some(runtime), thread: None })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let Some(runtime) = self.idle.take() else { return Ok(()) };
        let (stop, stopped) = oneshot::channel();
        // An end of the other side is a stop, too.
        let run = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name("weft-names".into()).spawn(run)?;
        self.thread = Some((stop, thread));
        Ok(())
    }

    /// Begins to answer for one environment. Its answers go to `outlet`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub(crate) fn open(
        &self,
        settings: Settings,
        outlet: Outlet,
    ) -> Result<(Answering, Inlet), SettingsError> {
        let Settings { zone, outside } = settings.clone();
        let random = Box::new(random);
        let gateway = Gateway::new(zone, outside, Limits::default(), random, Instant::now())?;
        let (inlet, packets) = mpsc::channel(PACKETS_MAX);
        let (settings, changes) = watch::channel(settings);
        let counters = Arc::<GatewayCounters>::default();
        let task = Task::new(gateway, changes, packets, outlet, Arc::clone(&counters));
        let task = self.handle.spawn(task.run());
        Ok((Answering { settings, counters, task }, Inlet(inlet)))
    }

    /// Ends the thread with all that runs there.
    pub(crate) fn stop(&mut self) {
        let Some((stop, thread)) = self.thread.take() else { return };
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the thread that answers names panicked");
        }
    }
}

impl Drop for Gateways {
    fn drop(&mut self) {
        // A runtime must not wait for its end inside of another.
        if let Some(idle) = self.idle.take() {
            idle.shutdown_background();
        }
    }
}

/// A number that nobody can guess. Should the kernel give none, the library has some from before.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests;
