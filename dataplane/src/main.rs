//! `weftd`, the network daemon of one host.

use std::{
    env, io, net,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal as Number};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinHandle,
};
use weft_agent::{Agent, AgentHandle, Dataplane as _};
use weft_config::{Account, Config, Control, ControlUrl, STATE_DEFAULT, Seal, User};
use weft_helper::{Client, Ids, socket_beside, state_beside};
use weft_sys::alloc::WipingAllocator;
use weftd::{
    api,
    confine::{Confinement, Places, confine},
    kept::Kept,
    logging,
    managed::{self, ManagedNode},
    metrics,
    node::{self, Ending, NodeHandle, Prepared},
};

/// From the signal to the end of the process, whatever happens: the contract's 2 s, less what the
/// kernel needs to notice and to clean up.
const STOP_MAX: Duration = Duration::from_millis(1_700);
/// How long the node may take to tell its peers and remove its interfaces. With the four below it
/// stays under [`STOP_MAX`].
const NODE_STOP_MAX: Duration = Duration::from_millis(1_100);
/// How long the agent may take to keep what it knows.
const AGENT_STOP_MAX: Duration = Duration::from_millis(150);
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
    /// Follow this control plane, https://HOST:PORT, whatever the configuration says.
    #[arg(long, value_name = "URL")]
    control: Option<ControlUrl>,
    /// The file with the token with which the host joins; needed once.
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// The file with the key that seals what the host keeps, or "disk".
    #[arg(long, value_name = "FILE")]
    seal: Option<PathBuf>,
}

impl Arguments {
    /// What the command line says goes before what the file says.
    fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        if self.control.is_none() && self.join_token_file.is_none() && self.seal.is_none() {
            return Ok(());
        }
        let seal = self.seal.clone().map(|path| match path.as_os_str() == "disk" {
            true => Seal::Disk,
            false => Seal::File(path),
        });
        let control = match (config.control.take(), &self.control) {
            (Some(known), _) => known,
            (None, Some(url)) => {
                ensure!(
                    config.environments.is_empty(),
                    "--control: the configuration has environments; a host that follows a control plane \
                     has none of its own"
                );
                ensure!(
                    !config.listen.ip().is_unspecified(),
                    "--control: listen names no address of this host; expected [control] with \
                     endpoints in the configuration"
                );
                Control {
                    url: url.clone(),
                    join_token: None,
                    state: STATE_DEFAULT.into(),
                    seal: seal.clone().context(
                        "--seal is missing; expected the file with the key that seals what the host \
                         keeps, or disk",
                    )?,
                    endpoints: vec![config.listen],
                }
            }
            (None, None) => bail!(
                "--control is missing; --join-token-file and --seal are of a host that follows one"
            ),
        };
        config.control = Some(Control {
            url: self.control.clone().unwrap_or(control.url),
            join_token: self.join_token_file.clone().or(control.join_token),
            seal: seal.unwrap_or(control.seal),
            ..control
        });
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut config = match weft_config::load(&arguments.config) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = arguments.apply(&mut config) {
        eprintln!("weftd: {error:#}");
        return ExitCode::FAILURE;
    }
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
    let program = match &arguments.helper {
        Some(program) => program.clone(),
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
    let result = runtime.block_on(serve(ground, confinement, arguments, held));
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
    managed: Option<Managed>,
}

/// What a host that follows a control plane has beside its node.
struct Managed {
    agent: Agent,
    node: ManagedNode,
}

impl Ground {
    fn lay(
        mut config: Config,
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
        let agent = config.control.as_ref().map(|c| managed::open(&config.host, c, user));
        let agent = agent.transpose()?;
        // What it knew last, until it hears more.
        let desired = agent.as_ref().map(Agent::desired).unwrap_or_default();
        config.environments.extend(desired.environments);
        let policies = desired.policies;
        let node = node::prepare(config.clone(), policies.clone(), Arc::clone(&helper), kept)?;
        let managed = agent.map(|agent| {
            let node = ManagedNode::new(node.handle.clone(), agent.handle(), config, policies);
            Managed { agent, node }
        });
        Ok(Self { api, metrics, node, helper, managed })
    }
}

async fn serve(
    ground: Ground,
    confinement: Confinement,
    arguments: Arguments,
    held: HeldSignals,
) -> anyhow::Result<()> {
    let mut end = EndSignals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    held.release()?;
    let handle = ground.node.handle.clone();
    let agent = ground.managed.as_ref().map(|managed| managed.agent.handle());
    let servers = Servers::start(ground.api, ground.metrics, &handle, agent)?;
    let managed = ground.managed.as_ref().map(|managed| managed.node.clone());
    let following = Following::start(ground.managed);
    let (stop, stopped) = oneshot::channel();
    let mut node = tokio::spawn(async move {
        // A log may block: not before signals are handled.
        confinement.log();
        ground.node.run(stopped).await
    });
    let reloading = tokio::spawn(reload_on(hangup, handle, managed, arguments));
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
    following.stop().await;
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

/// The task that follows the control plane, if there is one.
struct Following(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Following {
    fn start(managed: Option<Managed>) -> Self {
        Self(managed.map(|Managed { agent, node }| {
            let (stop, stopped) = oneshot::channel();
            let following = async move {
                let known = agent.desired();
                if let Err(error) = node.apply(known).await {
                    tracing::error!(error, "what is kept of the control plane is not carried out");
                }
                agent.run(node, async move { drop(stopped.await) }).await;
            };
            (stop, tokio::spawn(following))
        }))
    }

    /// Gives it a moment to keep what it knows.
    async fn stop(self) {
        if let Some((stop, running)) = self.0 {
            drop(stop);
            if tokio::time::timeout(AGENT_STOP_MAX, running).await.is_err() {
                tracing::warn!("what the control plane said last may not be kept");
            }
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
        agent: Option<AgentHandle>,
    ) -> io::Result<Self> {
        let (api, metrics) = (api.listen()?, metrics.map(TcpListener::from_std).transpose()?);
        let (stop_api, stopped) = watch::channel(());
        let serving = api::serve(api, node.clone(), agent.clone(), stopped);
        let api = tokio::spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the local API has ended");
            }
        });
        let metrics = metrics.map(|m| tokio::spawn(metrics::serve(m, node.clone(), agent)));
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
async fn reload_on(
    mut hangup: Signal,
    node: NodeHandle,
    managed: Option<ManagedNode>,
    arguments: Arguments,
) {
    while hangup.recv().await.is_some() {
        let file = arguments.config.clone();
        match tokio::task::spawn_blocking(move || weft_config::reload(&file)).await {
            Ok(Ok(mut config)) => {
                if let Err(error) = arguments.apply(&mut config) {
                    node.refuse_reload(&format!("{error:#}"));
                    continue;
                }
                let reloaded = match &managed {
                    Some(managed) => managed.reload(config).await,
                    None => node.reload(Box::new(config)).await.map(drop),
                };
                if let Err(error) = reloaded {
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
