//! Runs the command.

use std::{
    path::Path,
    process::{Command, Output},
};

/// What a run of the command left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn weft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.env_remove("NO_COLOR");
    command
}

/// Runs `weft net ARGUMENTS --socket SOCKET`.
pub(crate) fn net(socket: &Path, arguments: &str) -> Ran {
    let mut command = weft();
    command.arg("net").args(arguments.split_whitespace()).arg("--socket").arg(socket);
    ran(command.output().unwrap())
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn good(out: &str) -> Ran {
    Ran { code: 0, out: out.to_owned(), err: String::new() }
}

pub(crate) fn bad(err: &str) -> Ran {
    Ran { code: 1, out: String::new(), err: format!("weft: {err}\n") }
}
