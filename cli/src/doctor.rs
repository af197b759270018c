//! `weft doctor`: whether this host can run the daemon, and what to do where it cannot.

mod config;
mod host;
mod place;
mod privileges;
mod underlay;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::text::{Line, Style, Tone};

/// Arguments of `weft doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The daemon's configuration: what it needs of this host is checked as well
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// It works, and could be better; or it could not be checked.
    Advice,
    /// The daemon cannot do its work.
    Problem,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Advice => "advice",
            Self::Problem => "problem",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Good => Tone::Good,
            Self::Advice => Tone::Busy,
            Self::Problem => Tone::Bad,
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    level: Level,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, finding: impl Into<String>) -> Self {
        Self { check, level: Level::Good, finding: finding.into(), remedy: None }
    }

    fn advice(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (finding, remedy) = (finding.into(), Some(remedy.into()));
        Self { check, level: Level::Advice, finding, remedy }
    }

    fn problem(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::advice(check, finding, remedy) }
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: &'static str,
    findings: &'a [Finding],
}

/// Checks everything, and fails when something is a problem.
pub(crate) fn run(arguments: &DoctorArguments) -> Result<()> {
    let mut findings = Vec::new();
    let config = arguments.config.as_deref().and_then(|path| config::load(path, &mut findings));
    findings.splice(0..0, host::check(config.as_ref()));
    if let Some(config) = &config {
        config::check(config, &mut findings);
    }
    let mut out = io::stdout().lock();
    if arguments.json {
        let report = Report { version: env!("CARGO_PKG_VERSION"), findings: &findings };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write_text(&findings, Style::detect(io::stdout().is_terminal()), &mut out)?;
    }
    out.flush()?;
    match findings.iter().filter(|finding| finding.level == Level::Problem).count() {
        0 => Ok(()),
        1 => bail!("1 problem"),
        count => bail!("{count} problems"),
    }
}

fn write_text(findings: &[Finding], style: Style, out: &mut impl Write) -> Result<()> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let Finding { check, level, finding, remedy } = finding;
        let line = Line::default()
            .and(level.tone(), format!("{:<7}  ", level.word()))
            .and(Tone::Strong, format!("{check:<width$}  "))
            .and(Tone::Normal, finding);
        writeln!(out, "{}", line.paint(style, usize::MAX))?;
        if let Some(remedy) = remedy {
            let indent = 7 + 2 + width + 2;
            let line = Line::default().and(Tone::Faint, format!("{:indent$}{remedy}", ""));
            writeln!(out, "{}", line.paint(style, usize::MAX))?;
        }
    }
    Ok(())
}
