//! Where a store is, as text.

use std::{fmt, path::PathBuf, str::FromStr};

/// What keys begin with in etcd unless it is said.
pub const ETCD_PREFIX_DEFAULT: &str = "weft/";

/// Where a store is: `sqlite:PATH` or `etcd://HOST:PORT,HOST:PORT/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A cluster.
    Etcd {
        /// `host:port` of each member.
        endpoints: Vec<String>,
        /// What all keys begin with; ends with a slash.
        prefix: String,
    },
}

/// Why text does not say where a store is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store {text:?}: {what}")]
pub struct UrlError {
    text: String,
    what: String,
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let parsed = match text.split_once(':') {
            Some(("sqlite", path)) => sqlite(path),
            Some(("etcd", rest)) => etcd(rest),
            _ => Err("expected sqlite:PATH or etcd://HOST:PORT,HOST:PORT/PREFIX".to_owned()),
        };
        parsed.map_err(|what| UrlError { text: text.to_owned(), what })
    }
}

fn sqlite(path: &str) -> Result<StoreUrl, String> {
    if path.is_empty() || path.ends_with('/') {
        return Err("expected the path of a file after sqlite:".to_owned());
    }
    if path.starts_with("//") {
        return Err("expected sqlite:PATH without slashes before the path".to_owned());
    }
    if path.contains('\0') {
        return Err("the path has a zero byte".to_owned());
    }
    Ok(StoreUrl::Sqlite(path.into()))
}

fn etcd(rest: &str) -> Result<StoreUrl, String> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err("expected two slashes after etcd:".to_owned());
    };
    let (endpoints, path) = rest.split_once('/').unwrap_or((rest, ""));
    let endpoints: Vec<String> = endpoints.split(',').map(str::to_owned).collect();
    for (at, endpoint) in endpoints.iter().enumerate() {
        check_endpoint(endpoint)?;
        if endpoints[..at].contains(endpoint) {
            return Err(format!("endpoint {endpoint:?} is named twice"));
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if let Some(c) = path.chars().find(|c| !is_name(*c)) {
        return Err(format!("the prefix has {c:?}; expected letters, digits, '-', '_', '.', '/'"));
    }
    let prefix = match path.trim_end_matches('/') {
        "" => ETCD_PREFIX_DEFAULT.to_owned(),
        path => format!("{path}/"),
    };
    Ok(StoreUrl::Etcd { endpoints, prefix })
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let expected = || format!("endpoint {endpoint:?}; expected HOST:PORT");
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(expected)?;
    let is_digits = port.chars().all(|c| c.is_ascii_digit());
    if !is_digits || !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(format!("endpoint {endpoint:?}: expected a port from 1 to 65535"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_name),
    };
    if is_host { Ok(()) } else { Err(expected()) }
}

/// Whether what is sent to `host:port` stays on this machine.
#[cfg(feature = "etcd")]
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Etcd { endpoints, prefix } => {
                write!(f, "etcd://{}/{prefix}", endpoints.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    fn etcd(endpoints: &[&str], prefix: &str) -> StoreUrl {
        let endpoints = endpoints.iter().map(|e| (*e).to_owned()).collect();
        StoreUrl::Etcd { endpoints, prefix: prefix.to_owned() }
    }

    #[test]
    fn both_kinds_are_understood_and_said_again() {
        for (text, url) in [
            ("sqlite:/var/lib/weft/store.db", StoreUrl::Sqlite("/var/lib/weft/store.db".into())),
            ("sqlite:a:b c?.db", StoreUrl::Sqlite("a:b c?.db".into())),
            ("etcd://10.0.0.1:2379/", etcd(&["10.0.0.1:2379"], "weft/")),
            ("etcd://a.b:1,[::1]:65535/prod/x_1", etcd(&["a.b:1", "[::1]:65535"], "prod/x_1/")),
            ("etcd://localhost:2379", etcd(&["localhost:2379"], "weft/")),
        ] {
            assert_eq!(parsed(text), url, "{text}");
            assert_eq!(parsed(&url.to_string()), url);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("", "expected sqlite:PATH or etcd://"),
            ("/var/lib/store.db", "expected sqlite:PATH or etcd://"),
            ("http://a:1", "expected sqlite:PATH or etcd://"),
            ("sqlite:", "expected the path of a file"),
            ("sqlite:/var/", "expected the path of a file"),
            ("sqlite:///var/store.db", "without slashes before"),
            ("sqlite:a\0b", "a zero byte"),
            ("etcd:a:1", "two slashes"),
            ("etcd://", "endpoint \"\"; expected HOST:PORT"),
            ("etcd://a", "endpoint \"a\"; expected HOST:PORT"),
            ("etcd://a:1,", "endpoint \"\"; expected HOST:PORT"),
            ("etcd://:1", "endpoint \":1\"; expected HOST:PORT"),
            ("etcd://user@a:1", "endpoint \"user@a:1\"; expected HOST:PORT"),
            ("etcd://::1:1", "expected HOST:PORT"),
            ("etcd://a:0", "from 1 to 65535"),
            ("etcd://a:+1", "from 1 to 65535"),
            ("etcd://a:65536", "from 1 to 65535"),
            ("etcd://a:1,b:1,a:1", "\"a:1\" is named twice"),
            ("etcd://a:1/p?tls=no", "the prefix has '?'"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn loopback_is_what_does_not_leave_the_machine() {
        for endpoint in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"] {
            assert!(is_loopback(endpoint), "{endpoint}");
        }
        for endpoint in ["10.0.0.1:1", "[2001:db8::1]:1", "localhost.example:1", "a:1"] {
            assert!(!is_loopback(endpoint), "{endpoint}");
        }
    }
}
