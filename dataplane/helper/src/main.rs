//! `weft-helper`, which makes and keeps the interfaces of containers for `weftd`.

use std::{
    env, fs,
    path::{self, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use clap::Parser;
use nix::sys::signal::SigSet;
use weft_helper::{Ids, Service};

/// Makes the interfaces of containers for weftd and keeps them while weftd is replaced.
///
/// weftd starts it; it ends by itself when there is nothing to keep.
#[derive(Debug, Parser)]
#[command(name = "weft-helper", version)]
struct Arguments {
    /// The socket on which weftd asks.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The configuration of weftd: namespaces that it names may be entered.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whom weftd becomes, as numbers; root without.
    #[arg(long, value_name = "UID:GID")]
    user: Option<Ids>,
    /// Stay in the foreground, for a service manager.
    #[arg(long)]
    foreground: bool,
}

/// One of the last that the kernel ends when memory is short (`proc(5)`, `oom_score_adj`).
const OOM_SCORE: &str = "-900";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-helper: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let socket = path::absolute(&arguments.socket)?;
    let config = arguments.config.as_deref().map(path::absolute).transpose()?;
    if !arguments.foreground {
        // Whoever started this program may wait for its end.
        let mut again = Command::new(env::current_exe()?);
        again.arg("--socket").arg(&socket);
        if let Some(config) = &config {
            again.arg("--config").arg(config);
        }
        if let Some(user) = arguments.user {
            again.arg("--user").arg(user.to_string());
        }
        again.arg("--foreground").spawn()?;
        return Ok(());
    }
    // Whoever started it may have held signals back for itself.
    SigSet::all().thread_unblock()?;
    // It outlives whoever started it. The leader of a session or group cannot, and need not, do this.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    if let Err(error) = weft_sys::process::raise_descriptor_limit() {
        eprintln!("weft-helper: the limit on open descriptors stays as it is: {error}");
    }
    // Without the right to ask for it, it is as likely to be ended as any other.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    // The socket may belong to another group, which takes a capability.
    let service = Service::listen(&socket, arguments.user)?;
    weft_helper::confine().context("privileges cannot be given up")?;
    service.serve(config.as_deref())?;
    Ok(())
}
