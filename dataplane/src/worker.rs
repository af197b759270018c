//! A worker: one thread that owns one queue of every TUN, two UDP sockets and one engine,
//! and shares nothing but counters.
//!
//! ```text
//!   commands ─▶┐                        ┌─▶ events
//!              ▼                        │
//!   TUN queues ─▶ Driver ─▶ proto::Engine ─▶ PacketIo ─▶ TUN queues
//!   UDP group, lane ─▶                             └──▶ UDP lane (batched)
//! ```

mod command;
mod counters;
mod desk;
mod engine;
mod epoll;
mod pace;
mod packet_io;
mod streams;
mod uring;

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use weft_config::Latency;
use weft_proto::{Engine, EnvironmentCounters, Event};
use weft_sys::{poll::Waker, thread, udp::UdpSocket};
use weft_types::{WORKERS_MAX, WorkerId};

pub use command::Command;
pub use counters::WorkerCounters;
pub use engine::{EngineChoice, EngineKind, choose_engine};
pub use pace::Wait;
pub use streams::StreamKey;

use epoll::EpollDriver;
use pace::Pace;
use packet_io::PacketIo;
use streams::Streams;
use uring::UringDriver;
use weft_proto::AttachmentSlot;

/// Commands that wait for a worker; it takes all of them at every wake-up.
const COMMANDS_MAX: usize = 4096;

/// What a worker reports.
#[derive(Debug, Clone, Copy)]
pub enum WorkerEvent {
    /// The engine has something to say.
    Engine(Event),
    /// An attachment's interface is gone: its namespace was deleted.
    QueueLost(AttachmentSlot),
    /// A connection that carried datagrams has ended, not by a command.
    StreamLost(StreamKey),
}

/// How a worker waits for packets and moves them; one implementation per kernel interface.
pub trait Driver {
    /// Does what there is to do. When there is nothing and `wait` allows it, sleeps until there is
    /// something or the engine's timeout is over.
    ///
    /// # Errors
    /// When waiting itself fails; the worker cannot go on then.
    fn turn(&mut self, engine: &mut Engine, wait: Wait) -> io::Result<Turn>;

    /// The next interface or stream that is gone without a command, if any.
    fn poll_lost(&mut self) -> Option<WorkerEvent>;
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing was there.
    Idle,
    /// There was something, at that time, and it is done.
    Worked(Instant),
    /// The worker is to stop.
    Stop,
}

/// The sockets and queues of one worker, made by the daemon.
pub struct WorkerSetup {
    /// Its number.
    pub id: WorkerId,
    /// Core to pin it to, if any.
    pub cpu: Option<usize>,
    /// How it moves packets.
    pub engine: EngineKind,
    /// How it waits.
    pub latency: Latency,
    /// Its socket in the group on the listening port.
    pub group: UdpSocket,
    /// The socket that it sends from.
    pub lane: UdpSocket,
    /// Where its events go.
    pub events: mpsc::Sender<(WorkerId, WorkerEvent)>,
}

/// A worker that does not run yet. It has everything for which privilege may be needed.
pub struct IdleWorker {
    worker: Worker,
    run: Box<dyn FnOnce() -> io::Result<JoinHandle<()>> + Send>,
}

impl IdleWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn start(self) -> io::Result<Worker> {
        Ok(Worker { thread: Some((self.run)()?), ..self.worker })
    }
}

/// A running worker.
pub struct Worker {
    /// Core that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Port that it sends from.
    pub lane_port: u16,
    /// What it did.
    pub counters: Arc<WorkerCounters>,
    /// Drops that belong to no environment.
    pub unattributed: Arc<EnvironmentCounters>,
    door: Door,
    thread: Option<JoinHandle<()>>,
}

/// Where a worker takes commands. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    commands: SyncSender<Command>,
    waker: Waker,
}

impl Door {
    fn send(&self, command: Command) {
        // A worker that has ended has nothing left to do.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }

    /// Hands a command over unless so many wait that the caller would have to. Gives whether it did.
    pub(crate) fn try_send(&self, command: Command) -> bool {
        let is_taken = self.commands.try_send(command).is_ok();
        if is_taken {
            self.waker.wake();
        }
        is_taken
    }
}

impl Worker {
    /// Makes what the worker waits with.
    ///
    /// # Errors
    /// When the kernel gives no epoll or buffers.
    pub fn prepare(setup: WorkerSetup) -> io::Result<IdleWorker> {
        let (commands, inbox) = sync_channel(COMMANDS_MAX);
        let waker = Waker::new()?;
        let counters = Arc::<WorkerCounters>::default();
        let unattributed = Arc::<EnvironmentCounters>::default();
        let cpu = setup.cpu;
        let lane_port = setup.lane.local_addr()?.port();
        let number = u8::try_from(setup.id.as_usize()).unwrap_or(WORKERS_MAX);
        let streams = Streams::new(number)?;
        let listen = setup.group.try_clone()?;
        let io = PacketIo::new(setup.lane, listen, streams, Arc::clone(&counters));
        let inbox = Inbox { inbox, waker: waker.clone() };
        let engine = Engine::new(setup.id, Arc::clone(&unattributed));
        let place = Place { id: setup.id, cpu, latency: setup.latency, events: setup.events };
        let run: Box<dyn FnOnce() -> io::Result<JoinHandle<()>> + Send> = match setup.engine {
            EngineKind::Epoll => {
                let driver = EpollDriver::new(setup.group, io, inbox)?;
                Box::new(|| place.spawn(driver, engine))
            }
            EngineKind::Uring => {
                let driver = UringDriver::new(setup.group, io, inbox)?;
                Box::new(|| place.spawn(driver, engine))
            }
        };
        let door = Door { commands, waker };
        let worker = Self { cpu, lane_port, counters, unattributed, door, thread: None };
        Ok(IdleWorker { worker, run })
    }

    /// Hands a command over; commands are carried out in order.
    pub fn send(&self, command: Command) {
        self.door.send(command);
    }

    /// For others who have commands for it.
    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    /// Stops the thread and waits for its end.
    pub fn stop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("worker panicked");
        }
    }
}

/// Where a driver finds its commands.
struct Inbox {
    inbox: Receiver<Command>,
    waker: Waker,
}

/// Where a worker runs and whom it tells.
struct Place {
    id: WorkerId,
    cpu: Option<usize>,
    latency: Latency,
    events: mpsc::Sender<(WorkerId, WorkerEvent)>,
}

impl Place {
    fn spawn(
        self,
        mut driver: impl Driver + Send + 'static,
        mut engine: Engine,
    ) -> io::Result<JoinHandle<()>> {
        let id = self.id;
        std::thread::Builder::new().name(format!("weft-worker-{id}")).spawn(move || {
            if let Some(cpu) = self.cpu
                && let Err(error) = thread::pin_current_thread(cpu)
            {
                tracing::warn!(worker = %id, cpu, %error, "worker is not pinned");
            }
            self.run(&mut driver, &mut engine);
        })
    }

    fn run(&self, driver: &mut impl Driver, engine: &mut Engine) {
        let mut pace = Pace::new(self.latency);
        let mut wait = Wait::Sleep;
        loop {
            match driver.turn(engine, wait) {
                Ok(Turn::Worked(at)) => {
                    pace.worked(at);
                    wait = pace.wait(at);
                }
                Ok(Turn::Idle) if wait == Wait::Look => {
                    std::thread::yield_now();
                    wait = pace.wait(Instant::now());
                }
                Ok(Turn::Idle) => {}
                Ok(Turn::Stop) => return,
                Err(error) => {
                    tracing::error!(worker = %self.id, %error, "worker cannot wait for packets");
                    return;
                }
            }
            while let Some(event) = engine.poll_event() {
                report(self.id, &self.events, WorkerEvent::Engine(event));
            }
            while let Some(event) = driver.poll_lost() {
                report(self.id, &self.events, event);
            }
        }
    }
}

/// How long a turn may sleep; `None`: for ever.
fn timeout(engine: &Engine, wait: Wait) -> Option<Duration> {
    match wait {
        Wait::Look => Some(Duration::ZERO),
        Wait::Sleep => engine.poll_timeout().map(|at| at.saturating_duration_since(Instant::now())),
    }
}

fn report(id: WorkerId, events: &mpsc::Sender<(WorkerId, WorkerEvent)>, event: WorkerEvent) {
    // The daemon is slow only when it is stopping or swamped; the cause of an event repeats it.
    if events.try_send((id, event)).is_err() {
        tracing::debug!(worker = %id, ?event, "event lost");
    }
}
