//! `weftd`, the network daemon of one host.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use weft_config::Config;
use weft_sys::alloc::WipingAllocator;
use weftd::{
    logging,
    node::{self, NodeHandle},
};

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
    match run(config, arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weftd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, path: PathBuf) -> anyhow::Result<()> {
    harden();
    // Two threads: one for the node, one for the signatures of handshakes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weft-control")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config, path))
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

async fn serve(config: Config, path: PathBuf) -> anyhow::Result<()> {
    // Before anything is made, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let prepared = node::prepare(config).await?;
    let handle = prepared.handle.clone();
    let (stop, stopped) = oneshot::channel();
    let mut node = tokio::spawn(prepared.run(stopped));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&handle, &path).await,
            ended = &mut node => return ended.context("the node panicked")?,
        }
    }
    let _ = stop.send(());
    node.await.context("the node panicked")?
}

async fn reload(handle: &NodeHandle, path: &std::path::Path) {
    match weft_config::load(path) {
        Ok(config) => {
            if let Err(error) = handle.reload(Box::new(config)).await {
                tracing::error!(%error, "configuration not reloaded");
            }
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!(%problem, "configuration not reloaded");
            }
        }
    }
}
