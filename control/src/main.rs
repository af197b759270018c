//! `weft-control`: makes an installation, and serves it.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;
use weft_control::{Clock, Config, init, serve};
use weft_types::InstallationId;

#[derive(Debug, Parser)]
#[command(name = "weft-control", version, about = "The control plane of Weft")]
struct Arguments {
    /// The configuration file
    #[arg(long, default_value = "/etc/weft-control/control.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the master key, the installation and its authority, and invite its first operator
    Init {
        /// Name of the installation, a DNS label; part of every certificate
        #[arg(long)]
        name: InstallationId,
        /// E-mail address of the first operator
        #[arg(long)]
        operator: String,
    },
    /// Serve the API
    Serve,
    /// Print the certificate of the installation's authority, by which clients know this control plane
    Authority,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    match arguments.command {
        Command::Init { name, operator } => {
            let invitation = init::init(&config, &name, &operator).await?;
            println!("installation {name} is made; invitation for {operator}:");
            println!("{}", *invitation);
            Ok(())
        }
        Command::Authority => {
            let opened = init::open_stores(&config).await?;
            print!("{}", opened.installation().await?.certificate);
            Ok(())
        }
        Command::Serve => {
            let opened = init::open_stores(&config).await?;
            let app = Arc::new(opened.app(Clock::default()).await?);
            let listener = TcpListener::bind(config.listen)
                .await
                .with_context(|| format!("listen: {}", config.listen))?;
            tracing::info!(listen = %config.listen, installation = %app.installation(), "serving");
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let stop = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            serve::serve(listener, app, &config.server_names, stop).await
        }
    }
}
