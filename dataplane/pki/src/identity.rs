//! Who a certificate speaks for: SPIFFE ids of environments and hosts.

use std::{fmt, str::FromStr};

use weft_types::{EnvironmentId, HostId, InstallationId, NameError};

const SCHEME: &str = "spiffe://";
/// Longest accepted id: the scheme, three names of 63 bytes, `/env/` and `/host/`.
const URI_LEN_MAX: usize = SCHEME.len() + 3 * weft_types::NAME_LEN_MAX + "/env//host/".len();

/// Why a URI is not an id of Weft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the expected form.
    #[error("{found:?} is not an id; expected {expected}")]
    Form {
        /// What was found, cut to the longest possible id.
        found: String,
        /// The form that was expected.
        expected: &'static str,
    },
    /// A part of it is not a name.
    #[error("the {part} of the id {cause}")]
    Name {
        /// `installation`, `environment` or `host`.
        part: &'static str,
        /// What is wrong with it.
        #[source]
        cause: NameError,
    },
}

/// An environment of an installation; the id of its certificate authority.
///
/// Text form: `spiffe://<installation>/env/<environment>`, nothing else is accepted: no query, no
/// port, no upper case, no trailing slash, no percent encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentIdentity {
    /// The trust domain.
    pub installation: InstallationId,
    /// The environment in it.
    pub environment: EnvironmentId,
}

/// A host in an environment; the id of a host's certificate.
///
/// Text form: `spiffe://<installation>/env/<environment>/host/<host>`, as strict as
/// [`EnvironmentIdentity`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostIdentity {
    /// The trust domain.
    pub installation: InstallationId,
    /// The environment in it.
    pub environment: EnvironmentId,
    /// The host.
    pub host: HostId,
}

impl EnvironmentIdentity {
    const FORM: &str = "spiffe://INSTALLATION/env/ENVIRONMENT";

    /// The id of `host` in this environment.
    #[must_use]
    pub fn host(&self, host: &HostId) -> HostIdentity {
        HostIdentity {
            installation: self.installation.clone(),
            environment: self.environment.clone(),
            host: host.clone(),
        }
    }
}

impl HostIdentity {
    const FORM: &str = "spiffe://INSTALLATION/env/ENVIRONMENT/host/HOST";

    /// The environment that the host is in.
    #[must_use]
    pub fn environment_identity(&self) -> EnvironmentIdentity {
        EnvironmentIdentity {
            installation: self.installation.clone(),
            environment: self.environment.clone(),
        }
    }
}

impl fmt::Display for EnvironmentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/env/{}", self.installation, self.environment)
    }
}

impl fmt::Display for HostIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { installation, environment, host } = self;
        write!(f, "{SCHEME}{installation}/env/{environment}/host/{host}")
    }
}

impl FromStr for EnvironmentIdentity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        match parts(uri).as_deref() {
            Some([installation, "env", environment]) => Ok(Self {
                installation: name("installation", installation)?,
                environment: name("environment", environment)?,
            }),
            _ => Err(form(uri, Self::FORM)),
        }
    }
}

impl FromStr for HostIdentity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        match parts(uri).as_deref() {
            Some([installation, "env", environment, "host", host]) => Ok(Self {
                installation: name("installation", installation)?,
                environment: name("environment", environment)?,
                host: name("host", host)?,
            }),
            _ => Err(form(uri, Self::FORM)),
        }
    }
}

fn parts(uri: &str) -> Option<Vec<&str>> {
    let path = uri.strip_prefix(SCHEME)?;
    (uri.len() <= URI_LEN_MAX).then(|| path.split('/').collect())
}

fn name<T: FromStr<Err = NameError>>(part: &'static str, text: &str) -> Result<T, IdentityError> {
    text.parse().map_err(|cause| IdentityError::Name { part, cause })
}

fn form(uri: &str, expected: &'static str) -> IdentityError {
    IdentityError::Form { found: uri.chars().take(URI_LEN_MAX).collect(), expected }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_round_trip() {
        let uri = "spiffe://weft/env/acme/host/host-a";
        let id: HostIdentity = uri.parse().unwrap();
        assert_eq!((id.environment.as_str(), id.host.as_str()), ("acme", "host-a"));
        assert_eq!(id.to_string(), uri);
        assert_eq!(id.environment_identity().to_string(), "spiffe://weft/env/acme");
        assert_eq!(id.environment_identity().host(&id.host), id);
        let longest =
            format!("spiffe://{0}/env/{0}/host/{0}", "x".repeat(weft_types::NAME_LEN_MAX));
        assert!(longest.parse::<HostIdentity>().is_ok());
    }

    #[test]
    fn nothing_but_the_exact_form_is_an_id() {
        for bad in [
            "",
            "spiffe://",
            "spiffe://weft",
            "spiffe://weft/env/acme",
            "spiffe://weft/env/acme/host",
            "spiffe://weft/env/acme/host/",
            "spiffe://weft/env/acme/host/a/",
            "spiffe://weft/env/acme/host/a/b",
            "spiffe://weft//env/acme/host/a",
            "spiffe:///env/acme/host/a",
            "spiffe://weft/env//host/a",
            "spiffe://weft/ENV/acme/host/a",
            "SPIFFE://weft/env/acme/host/a",
            "spiffe:/weft/env/acme/host/a",
            "https://weft/env/acme/host/a",
            "spiffe://weft:1/env/acme/host/a",
            "spiffe://u@weft/env/acme/host/a",
            "spiffe://weft/env/acme/host/a?x",
            "spiffe://weft/env/acme/host/a#x",
            "spiffe://weft/env/ac%6de/host/a",
            "spiffe://weft/env/acme/host/..",
            "spiffe://weft/env/acme/host/a\0",
            " spiffe://weft/env/acme/host/a",
            "spiffe://weft/env/acme/host/a\n",
            "spiffe://weft/host/a/env/acme",
        ] {
            assert!(bad.parse::<HostIdentity>().is_err(), "{bad:?}");
        }
        assert!("spiffe://weft/env/acme/host/a".parse::<EnvironmentIdentity>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(uri in "(spiffe://)?[a-z0-9/-]{0,40}(/env/)?[a-z/]{0,9}(/host/)?[a-zA-Z.-]{0,9}") {
            if let Ok(id) = uri.parse::<HostIdentity>() {
                prop_assert_eq!(id.to_string(), uri);
            }
        }
    }
}
