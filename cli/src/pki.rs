//! `weft pki`: make the authority of an environment, issue certificates to its hosts, look at
//! either. Works on files alone; no daemon is needed.

mod show;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum, value_parser};
use weft_pki::{
    EnvironmentIdentity, FileError, KeyKind, NewFile, format_utc,
    issue::{self, Authority, HostRequest, HostUsages, IssueError, Validity},
    write_new_files,
};
use weft_types::{EnvironmentId, HostId, InstallationId};

const CERTIFICATE_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Certificates of environments and hosts.
#[derive(Subcommand)]
pub(crate) enum PkiCommand {
    /// Make the certificate authority of an environment: ca.pem and ca.key
    Init(Init),
    /// Issue a certificate to a host of an environment: HOST.pem and HOST.key
    Issue(Issue),
    /// Show what a certificate says: whose it is, for how long, for what
    Show(show::Show),
}

#[derive(Args)]
pub(crate) struct Init {
    /// Environment, 1 to 63 of a-z, 0-9 and '-'
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: EnvironmentId,
    /// Directory to write to; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Installation that the environment is part of
    #[arg(long, value_name = "NAME", default_value = "weft")]
    installation: InstallationId,
    /// Days until the authority expires
    #[arg(long, default_value_t = issue::AUTHORITY_DAYS, value_parser = days())]
    days: u32,
    /// Kind of key
    #[arg(long, value_name = "KIND", default_value = "ecdsa-p256")]
    key_type: KeyType,
}

#[derive(Args)]
pub(crate) struct Issue {
    /// Environment; has to be the authority's
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: EnvironmentId,
    /// Host that the certificate is for, 1 to 63 of a-z, 0-9 and '-'
    #[arg(long)]
    host: HostId,
    /// Directory with the authority's ca.pem and ca.key
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Directory to write to; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days until the certificate expires; at most until the authority does
    #[arg(long, default_value_t = issue::HOST_DAYS, value_parser = days())]
    days: u32,
    /// Kind of key
    #[arg(long, value_name = "KIND", default_value = "ecdsa-p256")]
    key_type: KeyType,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeyType {
    EcdsaP256,
    Ed25519,
}

impl From<KeyType> for KeyKind {
    fn from(key: KeyType) -> Self {
        match key {
            KeyType::EcdsaP256 => Self::EcdsaP256,
            KeyType::Ed25519 => Self::Ed25519,
        }
    }
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=i64::from(issue::DAYS_MAX))
}

/// Runs one of the commands.
///
/// # Errors
/// A sentence for the person at the terminal: what is wrong, where, and what to do.
pub(crate) fn run(command: PkiCommand) -> Result<()> {
    match command {
        PkiCommand::Init(arguments) => init(&arguments),
        PkiCommand::Issue(arguments) => issue_host(&arguments),
        PkiCommand::Show(arguments) => show::run(&arguments),
    }
}

fn init(arguments: &Init) -> Result<()> {
    let Init { environment, out, installation, days, key_type } = arguments;
    let identity = EnvironmentIdentity {
        installation: installation.clone(),
        environment: environment.clone(),
    };
    let validity = Validity::days(SystemTime::now(), issue::AUTHORITY_BACKDATE, *days);
    let authority = issue::new_authority(&identity, validity, (*key_type).into())?;
    write_pair(out, "ca", &authority)?;

    let (out, until) = (out.display(), format_utc(validity.not_after));
    writeln!(
        io::stdout(),
        "Made the authority of environment {environment}, valid until {until}:\n  \
         {out}/ca.pem  certificate, goes to every host of the environment\n  \
         {out}/ca.key  private key, stays here: whoever has it can be any host of {environment}\n\
         Next: weft pki issue --env {environment} --host HOST --ca {out} --out DIR"
    )?;
    Ok(())
}

fn issue_host(arguments: &Issue) -> Result<()> {
    let Issue { environment, host, ca, out, days, key_type } = arguments;
    let authority = read_authority(ca)?;
    let found = &authority.anchor().environment().environment;
    if found != environment {
        bail!(
            "{} is the authority of environment {found}; expected {environment}, as given with \
             --env. Use --env {found} or the --ca directory of {environment}",
            ca.join("ca.pem").display()
        );
    }
    let now = SystemTime::now();
    let validity = Validity::days(now, issue::HOST_BACKDATE, *days);
    let request = HostRequest {
        host: host.clone(),
        validity,
        key_kind: (*key_type).into(),
        usages: HostUsages::Both,
    };
    let issued = authority.issue_host(&request).map_err(|error| advise(error, now))?;
    write_pair(out, host.as_str(), &issued)?;

    let (out, until) = (out.display(), format_utc(validity.not_after));
    writeln!(
        io::stdout(),
        "Issued a certificate to host {host} in environment {environment}, valid until {until}:\n  \
         {out}/{host}.pem  certificate\n  \
         {out}/{host}.key  private key, for {host} only"
    )?;
    Ok(())
}

fn read_authority(directory: &Path) -> Result<Authority> {
    let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
    let hint = "expected a directory that `weft pki init` wrote, given with --ca";
    let certificate_pem = weft_pki::read_file(&certificate)
        .with_context(|| format!("cannot read {}; {hint}", certificate.display()))?;
    let key_pem = weft_pki::read_file(&key)
        .with_context(|| format!("cannot read {}; {hint}", key.display()))?;
    Authority::from_pem(&certificate_pem, &key_pem)
        .with_context(|| format!("cannot use the authority in {}", directory.display()))
}

/// Says what to ask for instead.
fn advise(error: IssueError, now: SystemTime) -> anyhow::Error {
    let IssueError::OutlivesAuthority { authority, .. } = &error else {
        return error.into();
    };
    let left = authority.duration_since(now).unwrap_or_default();
    match left.as_secs() / DAY_SECONDS {
        0 => anyhow!("{error}. Make a new authority with `weft pki init`"),
        days => anyhow!("{error}. Ask for at most --days {days}"),
    }
}

fn write_pair(directory: &Path, name: &str, issued: &issue::Issued) -> Result<()> {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let files = [
        NewFile { name: &key, content: issued.key_pem.as_bytes(), mode: KEY_MODE },
        NewFile {
            name: &certificate,
            content: issued.certificate_pem.as_bytes(),
            mode: CERTIFICATE_MODE,
        },
    ];
    write_new_files(directory, &files).map_err(|error| match error {
        FileError::Exists(_) => anyhow!("{error}. Choose another --out or move it away first"),
        FileError::Io { .. } => anyhow!(error).context("cannot write the certificate and its key"),
    })
}
