//! Counting the instructions of this program's own runs.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

const VALGRIND: &str = "valgrind";

/// The version of valgrind, or what is missing.
pub(crate) fn version() -> Result<String> {
    let output = Command::new(VALGRIND).arg("--version").output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "the command {VALGRIND} is missing; install the Debian package `valgrind` (`make setup` \
             does)"
        ),
        _ => anyhow::Error::new(error).context("valgrind --version"),
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Instructions that `program` executes with these arguments, from its first to its last.
pub(crate) fn count(program: &Path, arguments: &[&str]) -> Result<u64> {
    let output = Command::new(VALGRIND)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(arguments)
        // Its length would shift the stack.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "{} {} ended with {}:\n{said}",
            program.display(),
            arguments.join(" "),
            output.status
        );
    }
    collected(&said)
        .with_context(|| format!("valgrind gave no count; expected `Collected : N`:\n{said}"))
}

/// The number behind `Collected :`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}
