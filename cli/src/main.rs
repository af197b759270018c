//! `weft`, the command that people use.

mod bench;
mod control;
mod doctor;
mod format;
mod net;
mod pki;
mod text;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

#[derive(Parser)]
#[command(version, about = "Encrypted overlay networks, one for each environment")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and inspect the certificates of environments and hosts
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Look at and change the running network daemon of this host
    Net(net::NetArguments),
    /// Measure between two machines or containers
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    #[command(flatten)]
    Control(control::ControlCommand),
    /// Check whether this host can run the network daemon, and say what to do where it cannot
    Doctor(doctor::DoctorArguments),
    /// Print what a shell needs to complete this command: `source <(weft completion bash)`
    Completion {
        /// The shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Pki(command) => pki::run(command),
        Command::Net(arguments) => net::run(arguments),
        Command::Bench(command) => bench::run(&command),
        Command::Control(command) => control::run(command),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completion { shell } => complete(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn complete(shell: Shell) -> anyhow::Result<()> {
    // The library panics when its output goes nowhere.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
