//! `weftd`, the network daemon of one host.

use std::{
    env, io, net,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use nix::sys::signal::{SigSet, Signal as Number};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinHandle,
};
use weft_config::{Account, Config, User};
use weft_helper::{Client, Ids, socket_beside, state_beside};
use weft_sys::alloc::WipingAllocator;
use weftd::{
    api,
    confine::{Confinement, Places, confine},
    kept::Kept,
    logging, metrics,
    node::{self, Ending, NodeHandle, Prepared},
};

/// From the signal to the end of the process, whatever happens: the contract's 2 s, less what the
/// kernel needs to notice and to clean up.
const STOP_MAX: Duration = Duration::from_millis(1_700);
/// How long the node may take to tell its peers and remove its interfaces. With the three below it
/// stays under [`STOP_MAX`].
const NODE_STOP_MAX: Duration = Duration::from_millis(1_250);
/// How long the helper may take to remove what this process may not.
const LEAVE_MAX: Duration = Duration::from_millis(100);
/// How long readers of the API may take for what they were sent last.
const API_STOP_MAX: Duration = Duration::from_millis(200);
/// How long tasks may take to end.
const RUNTIME_STOP_MAX: Duration = Duration::from_millis(100);

/// Every block of memory is overwritten when it is freed, so that no key outlives its use.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// Gives every container of this host its own address on its environment's encrypted network.
#[derive(Debug, Parser)]
#[command(name = "weftd", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The program that makes and keeps interfaces; without, weft-helper beside this program.
    #[arg(long, value_name = "FILE")]
    helper: Option<PathBuf>,
    /// Check the configuration, print everything that is wrong with it, and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match weft_config::load(&arguments.config) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        println!("{}: no problems", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    logging::start(config.log);
    match run(config, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weftd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, arguments: Arguments) -> anyhow::Result<()> {
    // Before anything is made, so that no signal finds the default action.
    let held = HeldSignals::hold()?;
    harden();
    if let Err(error) = weft_sys::process::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit on open descriptors stays as it is");
    }
    let user = config.user.as_ref().map(User::account).transpose();
    let user = user.map_err(anyhow::Error::msg).context("user")?;
    let places = Places::of(&config, &arguments.config, &state_beside(&config.api));
    let program = match arguments.helper {
        Some(program) => program,
        None => env::current_exe().context("weft-helper")?.with_file_name("weft-helper"),
    };
    let ground = Ground::lay(config, &program, &arguments.config, user.as_ref())?;
    // Threads inherit it.
    let confinement = confine(&places, user)?;
    // Two threads: one for the node, one for the signatures of handshakes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weft-control")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(ground, confinement, arguments.config, held));
    // Whatever still waits for the kernel or the disk must not hold up the end.
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    result
}

/// Keeps keys out of core dumps and swap. The daemon runs without, but says so.
fn harden() {
    if let Err(error) = weft_sys::process::set_nondumpable() {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
    if let Err(error) = weft_sys::process::lock_memory() {
        tracing::warn!(%error, "memory cannot be locked; keys may reach swap");
    }
}

/// Everything that the configuration names and another process may have, and for which privilege may
/// be needed. Nobody has heard of this daemon before all that is there.
struct Ground {
    api: weft_api::Bound,
    metrics: Option<net::TcpListener>,
    node: Prepared,
    helper: Arc<Client>,
}

impl Ground {
    fn lay(
        config: Config,
        helper: &Path,
        file: &Path,
        user: Option<&Account>,
    ) -> anyhow::Result<Self> {
        let api = weft_api::bind(&config.api).context("api")?;
        let metrics = match config.metrics {
            Some(address) => {
                let bound = metrics::bind(address);
                Some(bound.with_context(|| format!("metrics: cannot listen on TCP {address}"))?)
            }
            None => None,
        };
        let ids = user.map(|user| Ids { uid: user.uid(), gid: user.gid() });
        let helper = Client::connect(&socket_beside(&config.api), helper, Some(file), ids)?;
        let helper = Arc::new(helper);
        let kept = Kept::open(&config.api, user)?;
        let node = node::prepare(config, Arc::clone(&helper), kept)?;
        Ok(Self { api, metrics, node, helper })
    }
}

async fn serve(
    ground: Ground,
    confinement: Confinement,
    path: PathBuf,
    held: HeldSignals,
) -> anyhow::Result<()> {
    let mut end = EndSignals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    held.release()?;
    let handle = ground.node.handle.clone();
    let servers = Servers::start(ground.api, ground.metrics, &handle)?;
    let (stop, stopped) = oneshot::channel();
    let mut node = tokio::spawn(async move {
        // A log may block: not before signals are handled.
        confinement.log();
        ground.node.run(stopped).await
    });
    let reloading = tokio::spawn(reload_on(hangup, handle, path));
    let ended = tokio::select! {
        ended = &mut node => Ok(ended),
        ending = end.received() => Err(ending),
    };
    reloading.abort();
    let ended = match ended {
        Ok(ended) => Ok(ended),
        Err(ending) => {
            end_in_any_case();
            // The node may be gone at this very moment: fine.
            let _ = stop.send(ending);
            tokio::time::timeout(NODE_STOP_MAX, node).await
        }
    };
    leave(ground.helper).await;
    servers.stop().await;
    match ended {
        Ok(ended) => ended.context("the node panicked")?,
        Err(_) => {
            tracing::warn!("the node did not stop in time; peers may not have been told");
            Ok(())
        }
    }
}

/// Lets the helper remove the socket of the API while nobody else can have taken its place.
async fn leave(helper: Arc<Client>) {
    let leaving = tokio::task::spawn_blocking(move || helper.leave());
    // What stays is in nobody's way.
    let _ = tokio::time::timeout(LEAVE_MAX, leaving).await;
}

/// Signals wait until somebody handles them. The thread that holds them releases them.
struct HeldSignals(SigSet);

impl HeldSignals {
    fn hold() -> anyhow::Result<Self> {
        let signals: SigSet =
            [Number::SIGTERM, Number::SIGINT, Number::SIGHUP].into_iter().collect();
        signals.thread_block().context("cannot hold signals back")?;
        Ok(Self(signals))
    }

    fn release(self) -> anyhow::Result<()> {
        self.0.thread_unblock().context("cannot let signals through")
    }
}

/// SIGTERM, after which another daemon is expected, and SIGINT, after which none is.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Keep,
            _ = self.interrupt.recv() => Ending::Remove,
        }
    }
}

/// Ends the process at the deadline even when threads hang, for example in a log that nobody
/// reads. The helper has the interfaces, and does with them what it was told.
fn end_in_any_case() {
    let deadline = || {
        thread::sleep(STOP_MAX);
        process::exit(0);
    };
    if let Err(error) = thread::Builder::new().name("weft-deadline".into()).spawn(deadline) {
        tracing::warn!(%error, "nothing enforces the deadline for stopping");
    }
}

/// What answers others about this daemon.
struct Servers {
    api: JoinHandle<()>,
    stop_api: watch::Sender<()>,
    metrics: Option<JoinHandle<()>>,
}

impl Servers {
    fn start(
        api: weft_api::Bound,
        metrics: Option<net::TcpListener>,
        node: &NodeHandle,
    ) -> io::Result<Self> {
        let (api, metrics) = (api.listen()?, metrics.map(TcpListener::from_std).transpose()?);
        let (stop_api, stopped) = watch::channel(());
        let serving = api::serve(api, node.clone(), stopped);
        let api = tokio::spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the local API has ended");
            }
        });
        let metrics = metrics.map(|m| tokio::spawn(metrics::serve(m, node.clone())));
        Ok(Self { api, stop_api, metrics })
    }

    /// Gives readers of the API a moment for what they were sent last.
    async fn stop(self) {
        let Self { mut api, stop_api, metrics } = self;
        drop(stop_api);
        if let Some(metrics) = metrics {
            metrics.abort();
        }
        if tokio::time::timeout(API_STOP_MAX, &mut api).await.is_err() {
            api.abort();
            // Its end removes the socket.
            let _ = api.await;
        }
    }
}

/// Reloads at every SIGHUP; several that come while one is handled are one more.
async fn reload_on(mut hangup: Signal, node: NodeHandle, path: PathBuf) {
    while hangup.recv().await.is_some() {
        let file = path.clone();
        match tokio::task::spawn_blocking(move || weft_config::reload(&file)).await {
            Ok(Ok(config)) => {
                if let Err(error) = node.reload(Box::new(config)).await {
                    tracing::error!(%error, "configuration not reloaded");
                }
            }
            Ok(Err(problems)) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                node.refuse_reload(&problems.join("; "));
            }
            Err(error) => node.refuse_reload(&error.to_string()),
        }
    }
}
