//! `weft pki show`: what a certificate says, for a person or as JSON.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use weft_pki::{
    describe::{Description, Role, describe},
    format_rfc3339, format_utc,
};

use super::DAY_SECONDS;

#[derive(Args)]
pub(crate) struct Show {
    /// PEM file with one or more certificates
    file: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Show) -> Result<()> {
    let file = &arguments.file;
    let text =
        weft_pki::read_file(file).with_context(|| format!("cannot read {}", file.display()))?;
    let certificates =
        describe(&text).with_context(|| format!("cannot show {}", file.display()))?;
    let now = SystemTime::now();
    let mut out = io::stdout().lock();
    if arguments.json {
        let all: Vec<_> = certificates.iter().map(|c| as_json(c, now)).collect();
        let document = json!({ "file": file.display().to_string(), "certificates": all });
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    for (number, certificate) in certificates.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        write_text(&mut out, certificate, now)?;
    }
    Ok(())
}

/// The parts of an id, where there are any.
struct Names {
    identity: Option<String>,
    installation: Option<String>,
    environment: Option<String>,
    host: Option<String>,
}

fn names(role: &Role) -> Names {
    let (identity, installation, environment, host) = match role {
        Role::Authority(id) => (id.to_string(), &id.installation, &id.environment, None),
        Role::Host(id) => {
            let host = Some(id.host.to_string());
            (id.to_string(), &id.installation, &id.environment, host)
        }
        Role::Other(_) => {
            return Names { identity: None, installation: None, environment: None, host: None };
        }
    };
    Names {
        identity: Some(identity),
        installation: Some(installation.to_string()),
        environment: Some(environment.to_string()),
        host,
    }
}

fn write_text(out: &mut impl Write, certificate: &Description, now: SystemTime) -> io::Result<()> {
    match &certificate.role {
        Role::Authority(id) => writeln!(out, "Authority of environment {}", id.environment)?,
        Role::Host(id) => writeln!(out, "Host {} in environment {}", id.host, id.environment)?,
        Role::Other(reason) => writeln!(out, "Not a certificate that Weft accepts: {reason}")?,
    }
    let names = names(&certificate.role);
    let (from, to) = (certificate.not_before, certificate.not_after);
    let usage = match certificate.usages.as_slice() {
        [] => "none named".to_owned(),
        usages => usages.join(", "),
    };
    let fingerprint = hex(&certificate.fingerprint, ":");
    let rows = [
        ("Subject", Some(certificate.subject.clone())),
        ("Identity", names.identity),
        ("Installation", names.installation),
        ("Environment", names.environment),
        ("Host", names.host),
        ("Valid from", Some(format_utc(from))),
        ("Valid until", Some(format!("{} ({})", format_utc(to), remaining(from, to, now)))),
        ("Key", Some(certificate.key.clone())),
        ("Usage", Some(usage)),
        ("Issuer", Some(certificate.issuer.clone())),
        ("Serial", Some(certificate.serial.clone())),
        ("SHA-256", Some(fingerprint)),
        ("SNI tag", certificate.sni_tag.clone()),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            writeln!(out, "  {name:<13} {value}")?;
        }
    }
    Ok(())
}

fn as_json(certificate: &Description, now: SystemTime) -> Value {
    let (role, problem) = match &certificate.role {
        Role::Authority(_) => ("authority", None),
        Role::Host(_) => ("host", None),
        Role::Other(reason) => ("other", Some(reason)),
    };
    let names = names(&certificate.role);
    let (from, to) = (certificate.not_before, certificate.not_after);
    json!({
        "role": role,
        "problem": problem,
        "subject": certificate.subject,
        "identity": names.identity,
        "installation": names.installation,
        "environment": names.environment,
        "host": names.host,
        "not_before": format_rfc3339(from),
        "not_after": format_rfc3339(to),
        "days_left": days_left(to, now),
        "valid": from <= now && now <= to,
        "key": certificate.key,
        "usages": certificate.usages,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "fingerprint_sha256": hex(&certificate.fingerprint, ""),
        "sni_tag": certificate.sni_tag,
    })
}

/// Whole days until the end, negative after it.
fn days_left(not_after: SystemTime, now: SystemTime) -> i64 {
    let days = |d: Duration| i64::try_from(d.as_secs() / DAY_SECONDS).unwrap_or(i64::MAX);
    match not_after.duration_since(now) {
        Ok(left) => days(left),
        Err(past) => -1 - days(past.duration()),
    }
}

fn remaining(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> String {
    if now < not_before {
        return "not valid yet".to_owned();
    }
    match days_left(not_after, now) {
        0 => "ends within a day".to_owned(),
        1 => "1 day left".to_owned(),
        days if days > 0 => format!("{days} days left"),
        _ => "EXPIRED".to_owned(),
    }
}

fn hex(bytes: &[u8], separator: &str) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(separator)
}
