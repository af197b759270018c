//! Section `[control]`: the control plane that the host follows.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use weft_pki::installation::ServerName;

use crate::{
    document::Table,
    host::{endpoint, path},
    limits::ALTERNATIVES_MAX,
    problem::{At, Report},
};

/// Where the host keeps what it is told unless the file says otherwise.
pub const STATE_DEFAULT: &str = "/var/lib/weft";
/// Instead of a path: the key is kept beside what it seals.
const DISK: &str = "disk";

/// The control plane that a host follows, in place of environments of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Where it is.
    pub url: ControlUrl,
    /// The file with a join token, which is needed until the host has joined.
    pub join_token: Option<PathBuf>,
    /// The folder where the host keeps its identity and what it was told.
    pub state: PathBuf,
    /// With what that is sealed.
    pub seal: Seal,
    /// Where other hosts reach this one, best first; 1 to 8.
    pub endpoints: Vec<SocketAddr>,
}

/// Where the key is that seals what a host keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// In a file that the operator or the service manager puts there at every boot.
    File(PathBuf),
    /// On the same disk: whoever has the disk has the host's certificates.
    Disk,
}

/// Why something is no place of a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlError;

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected https://HOST:PORT")
    }
}

impl std::error::Error for UrlError {}

/// Where a control plane is: `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlUrl {
    host: String,
    port: u16,
}

impl ControlUrl {
    /// Its name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// HOST:PORT, as it is called.
    #[must_use]
    pub fn address(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether its host is a name, which is looked up for every connection.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }
}

impl FromStr for ControlUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let address = text.strip_prefix("https://").ok_or(UrlError)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or(UrlError)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or(UrlError)?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or(UrlError)?,
            None if host.contains(':') => return Err(UrlError),
            None => host,
        };
        host.parse::<ServerName>().map_err(|_| UrlError)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.address())
    }
}

/// Reads the section; `None` when anything in it is wrong.
pub(crate) fn read(
    mut table: Table<'_>,
    base: &Path,
    listen: Option<&At<SocketAddr>>,
    report: &mut Report,
) -> Option<Control> {
    let url = table.text("url", "https://HOST:PORT", report, ControlUrl::from_str);
    let join_token = table.text_if_any("join_token", "a path", report, |s| path(s, base));
    let state = match table.has("state") {
        true => table.text("state", "the path of a folder", report, |s| path(s, base)),
        false => {
            table.optional("state");
            Some(table.here().with(STATE_DEFAULT.into()))
        }
    };
    let seal = table.text("seal", "the path of a key, or \"disk\"", report, |text| match text {
        DISK => Ok(Seal::Disk),
        other => path(other, base).map(Seal::File),
    });
    let endpoints = endpoints(&mut table, listen, report);
    table.finish(report);
    Some(Control {
        url: url?.value,
        join_token: join_token.map(|at| at.value),
        state: state?.value,
        seal: seal?.value,
        endpoints: endpoints?,
    })
}

/// Where others reach this host: where it listens, unless that is everywhere.
fn endpoints(
    table: &mut Table<'_>,
    listen: Option<&At<SocketAddr>>,
    report: &mut Report,
) -> Option<Vec<SocketAddr>> {
    const NAME: &str = "endpoints";
    const EXPECTED: &str = "an array of ADDRESS:PORT or [IPv6]:PORT";
    let all_addresses = listen.is_some_and(|listen| listen.value.ip().is_unspecified());
    if !table.has(NAME) && !all_addresses {
        // `texts` would call it missing; it is known all the same.
        table.optional(NAME);
        return Some(vec![listen?.value]);
    }
    let given = table.texts(NAME, EXPECTED, ALTERNATIVES_MAX + 1, report, endpoint);
    for place in given.iter().filter(|place| place.value.ip().is_unspecified()) {
        let found = place.value.ip();
        report.about(place, format_args!("{found} names no host; expected an address of it"));
    }
    (!given.is_empty()).then(|| given.into_iter().map(|at| at.value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_a_scheme_a_host_and_a_port() {
        for (text, address, is_name) in [
            ("https://control.example:7443", "control.example:7443", true),
            ("https://control.example:7443/", "control.example:7443", true),
            ("https://192.0.2.1:1", "192.0.2.1:1", false),
            ("https://[2001:db8::1]:65535", "[2001:db8::1]:65535", false),
        ] {
            let url: ControlUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
            assert_eq!((url.address().as_str(), url.is_name()), (address, is_name));
        }
        for text in [
            "",
            "control.example:7443",
            "http://control.example:7443",
            "https://control.example",
            "https://:7443",
            "https://control.example:0",
            "https://control.example:65536",
            "https://2001:db8::1:7443",
            "https://[2001:db8::1:7443",
            "https://control.example:7443/v1",
            "https://someone@control.example:7443",
            "https://con trol:7443",
        ] {
            assert_eq!(text.parse::<ControlUrl>(), Err(UrlError), "{text}");
        }
    }
}
