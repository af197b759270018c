//! `weft-control`: makes an installation, and serves it.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing_subscriber::EnvFilter;
use weft_audit::{ProcessId, Timestamp};
use weft_control::{
    Clock, Config,
    background::Background,
    backup::{Part, back_up, restore},
    init,
    master_key::{self, MasterKeys},
    serve,
    transfer::{Which, bring_in, take_out},
};
use weft_keys::MasterKeyId;
use weft_model::UnixMs;
use weft_types::InstallationId;

/// How long the end of the program waits for the audit's last head.
const AUDIT_CLOSE_MAX: Duration = Duration::from_secs(10);
/// Descriptors that are not connections: files of the store and the audit, etcd.
const DESCRIPTORS_OF_FILES: u64 = 256;

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
    /// Copy store, keyring or audit to new files, while a server runs or not
    Backup(Files),
    /// Make store, keyring or audit of copies, where there is none
    Restore(Files),
    /// Write all that is in store or keyring to new files, by which another kind of store is filled
    Export(Stores),
    /// Fill an empty store or keyring, of whatever kind, from such files
    Import(Stores),
    /// Copy the audit log of a process from the blob store to a new folder, as far as it is there; it is verified
    FetchAudit {
        /// Whose: its `process` in the configuration
        #[arg(long)]
        process: ProcessId,
        /// The new folder; weft audit verify wants it to be named as the process is
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Print the certificate of the installation's authority, by which clients know this control plane
    Authority,
    /// Say that the clock of this machine is right, where it is far ahead of what was agreed on; stop the server for this
    ConfirmTime {
        /// Only say what the clock shows and what was agreed on
        #[arg(long)]
        dry_run: bool,
    },
    /// Replace the master key, step by step: list, add, rotate, remove
    #[command(subcommand)]
    MasterKey(MasterKey),
}

#[derive(Debug, Subcommand)]
enum MasterKey {
    /// List master keys, the newest last, and how many keys each of them wraps
    List,
    /// Make one more, which wraps from now on; while a server runs or not
    Add,
    /// Wrap everything with the newest one; may be stopped and begun again
    Rotate,
    /// Take one out of the file that wraps nothing any more
    Remove {
        /// Its id
        id: MasterKeyId,
        /// Only say whether it may go
        #[arg(long)]
        dry_run: bool,
    },
}

impl MasterKey {
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        match self {
            Self::List => {
                for key in MasterKeys::open(config).await?.list().await? {
                    let newest = if key.is_newest { ", the newest" } else { "" };
                    println!("{} wraps {} keys{newest}", key.id, key.wraps);
                }
            }
            Self::Add => println!("{}", master_key::add(&config.master_key)?),
            Self::Rotate => {
                let done = MasterKeys::open(config).await?.rotate().await?;
                println!("keys wrapped anew: {}, as they were: {}", done.changed, done.unchanged);
            }
            Self::Remove { id, dry_run } => {
                let keys = MasterKeys::open(config).await?;
                keys.remove(&config.master_key, &id, dry_run).await?;
                let went = if dry_run { "wraps nothing and may go" } else { "is gone" };
                println!("master key {id} {went}");
            }
        }
        Ok(())
    }
}

/// Files with copies.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Files {
    /// Copy of the store
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Copy of the keyring; keep the newest only, apart from the store's
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Copy of this process's audit log, a folder; no older than the store's
    #[arg(long, value_name = "FOLDER")]
    audit: Option<PathBuf>,
}

impl Files {
    fn each(&self) -> impl Iterator<Item = (Part, &PathBuf)> {
        let parts = [
            (Part::Store, &self.store),
            (Part::Keyring, &self.keyring),
            (Part::Audit, &self.audit),
        ];
        parts.into_iter().filter_map(|(part, file)| file.as_ref().map(|file| (part, file)))
    }
}

/// Files with what is in a store.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Stores {
    /// What is in the store
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// What is in the keyring, apart from the store's
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

impl Stores {
    fn each(&self) -> impl Iterator<Item = (Which, &PathBuf)> {
        let both = [(Which::Store, &self.store), (Which::Keyring, &self.keyring)];
        both.into_iter().filter_map(|(which, file)| file.as_ref().map(|file| (which, file)))
    }
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

/// Lets the process open as many descriptors as it may ever: one for each connection, and some for files.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = serve::CONNECTIONS_MAX as u64 + DESCRIPTORS_OF_FILES;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of descriptors is not raised");
    }
    if limit.maximum.is_some_and(|most| most < wanted) {
        tracing::warn!(
            most = limit.maximum,
            wanted,
            "fewer descriptors than connections; expected LimitNOFILE to allow them"
        );
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
        Command::Backup(files) => {
            files.each().try_for_each(|(part, to)| back_up(&config, part, to))
        }
        Command::Restore(files) => {
            files.each().try_for_each(|(part, from)| restore(&config, part, from))
        }
        Command::Export(stores) => {
            for (which, to) in stores.each() {
                let count = take_out(&config, which, to).await?;
                println!("{count} entries are in {}", to.display());
            }
            Ok(())
        }
        Command::Import(stores) => {
            for (which, from) in stores.each() {
                let count = bring_in(&config, which, from).await?;
                println!("{count} entries are taken from {}", from.display());
            }
            Ok(())
        }
        Command::FetchAudit { process, to } => {
            let last = init::fetch_audit(&config, &process, &to).await?;
            let (line, segment) = (last.seq, last.segment);
            println!(
                "the log of {process} is in {} up to line {line}, segment {segment}",
                to.display()
            );
            Ok(())
        }
        Command::Authority => {
            let opened = init::open_stores(&config).await?;
            print!("{}", opened.installation().await?.certificate);
            Ok(())
        }
        Command::ConfirmTime { dry_run } => {
            let confirmed = init::confirm_time(&config, dry_run).await?;
            let text = |at: UnixMs| Timestamp::of(UNIX_EPOCH + Duration::from_millis(at.0));
            match confirmed.before {
                Some(before) => println!("agreed on: {}", text(before)),
                None => println!("agreed on: nothing yet"),
            }
            let is = if dry_run { "the clock shows" } else { "from now on" };
            println!("{is}: {}", text(confirmed.now));
            Ok(())
        }
        Command::MasterKey(command) => command.run(&config).await,
        Command::Serve => {
            raise_descriptor_limit();
            let opened = init::open_stores(&config).await?;
            let (app, auditing) = opened.app(Clock::default(), &config.audit).await?;
            let app = Arc::new(app);
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
            let background = Background::start(Arc::clone(&app));
            let served = serve::serve(listener, app, &config.server_names, stop).await;
            background.stop().await;
            // The head of the last line is anchored, unless a call that is given up still holds the log.
            let _ = timeout(AUDIT_CLOSE_MAX, auditing.finished()).await;
            served
        }
    }
}
