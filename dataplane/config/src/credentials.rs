//! The certificates of an environment, read and judged as a peer would judge them.

use std::path::{Path, PathBuf};

use weft_pki::{Credentials, PkiError, TrustAnchor, UnixTime, read_file};
use weft_types::{EnvironmentId, HostId};

use crate::{
    account::unreadable,
    problem::{At, Report},
};

/// How certificates are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Files {
    /// Not at all: only the text of the configuration is checked.
    Ignored,
    /// From disk, and judged at this time.
    JudgedAt(UnixTime),
}

/// Reads `ca`, `cert` and `key` and checks that they belong to this environment and host, to each
/// other, and that they are valid. `None` when anything is wrong or the files are ignored.
pub(crate) fn load(
    files: Files,
    id: Option<&EnvironmentId>,
    host: Option<&HostId>,
    [ca, cert, key]: [&Option<At<PathBuf>>; 3],
    report: &mut Report,
) -> Option<(TrustAnchor, Credentials)> {
    let Files::JudgedAt(now) = files else {
        return None;
    };
    let anchor = ca.as_ref().and_then(|ca| anchor(ca, id, report));
    let cert_pem = cert.as_ref().and_then(|cert| read(cert, report));
    let key_pem = key.as_ref().and_then(|key| read(key, report));
    let (cert, key) = (cert.as_ref()?, key.as_ref()?);
    let own = match Credentials::from_pem(&cert_pem?, &key_pem?) {
        Ok(own) => own,
        Err(error) => {
            // A fault of the pair is the key's: the certificate could be read.
            let blamed = match error {
                PkiError::KeyMismatch | PkiError::Key(_) => key,
                _ => cert,
            };
            report.about(blamed, say(&blamed.value, &error));
            return None;
        }
    };
    let mut good = true;
    let found = own.identity();
    if let Some(id) = id
        && *id != found.environment
    {
        let found = &found.environment;
        report.about(cert, say(&cert.value, &format!("is of environment {found}; expected {id}")));
        good = false;
    }
    if let Some(host) = host
        && *host != found.host
    {
        let found = &found.host;
        report.about(cert, say(&cert.value, &format!("is of host {found}; expected {host}")));
        good = false;
    }
    let anchor = anchor?;
    // One fault is enough: a certificate of another environment is of another authority as well.
    if good && let Err(error) = own.check(&anchor, now) {
        report.about(cert, say(&cert.value, &error));
        good = false;
    }
    good.then_some((anchor, own))
}

fn anchor(
    ca: &At<PathBuf>,
    id: Option<&EnvironmentId>,
    report: &mut Report,
) -> Option<TrustAnchor> {
    let anchor = match TrustAnchor::from_pem(&read(ca, report)?) {
        Ok(anchor) => anchor,
        Err(error) => {
            report.about(ca, say(&ca.value, &error));
            return None;
        }
    };
    let found = &anchor.environment().environment;
    match id {
        Some(id) if id != found => {
            report.about(ca, say(&ca.value, &format!("is of environment {found}; expected {id}")));
            None
        }
        _ => Some(anchor),
    }
}

fn read(at: &At<PathBuf>, report: &mut Report) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    match read_file(&at.value) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            report.about(at, say(&at.value, &unreadable(&error)));
            None
        }
    }
}

fn say(path: &Path, what: &dyn std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}
