//! `weft net`: what the daemon of this host does, and small changes to it.
//!
//! Everything here asks the daemon's local API; nothing is decided on this side. Text is for
//! people, `--json` for programs; both come from the same answer.

mod arguments;
mod call;
mod change;
mod event;
mod json;
mod rate;
mod screen;
mod status;
mod top;

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

use crate::text::Style;
use arguments::NetCommand;
pub(crate) use arguments::{NetArguments, SocketArgument};
pub(crate) use call::{connect, status as ask_status};

/// Runs one command and writes its result to standard output.
///
/// # Errors
/// A sentence that says what is wrong and, where possible, what to do.
pub(crate) fn run(arguments: NetArguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let terminal = io::stdout().is_terminal();
    let style = Style::detect(terminal);
    let mut out = io::stdout().lock();
    runtime.block_on(async {
        match arguments.command {
            NetCommand::Status(arguments) => status::run(&arguments, style, &mut out).await,
            NetCommand::Attach(arguments) => change::attach(&arguments, &mut out).await,
            NetCommand::Detach(arguments) => change::detach(&arguments, &mut out).await,
            NetCommand::Peer(command) => change::peer(&command, &mut out).await,
            NetCommand::Events(arguments) => event::run(&arguments, style, &mut out).await,
            NetCommand::Top(arguments) if arguments.once || !terminal => {
                top::once(&arguments, style, &mut out).await
            }
            NetCommand::Top(arguments) => top::live(&arguments, style).await,
        }
    })?;
    out.flush()?;
    Ok(())
}
