//! The one secret that is taken out of TLS, and what it is bound to.

use std::fmt;

use weft_types::{EnvironmentId, HostId};
use weft_wire::hello::VERSION;
use zeroize::Zeroizing;

/// TLS exporter label (RFC 8446, section 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-weft-v1";

/// Everything that the exported secret is bound to, besides the TLS transcript: the exporter
/// alone does not cover the client's certificate.
///
/// ```text
///  u16 BE protocol version = 1
///  for environment, client host, server host:  u8 length ‖ bytes
///  SHA-256 of the client's certificate ‖ SHA-256 of the server's certificate
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ExporterContext<'a> {
    /// The environment of both hosts.
    pub environment: &'a EnvironmentId,
    /// The TLS client's host.
    pub client: &'a HostId,
    /// The TLS server's host.
    pub server: &'a HostId,
    /// SHA-256 of the client's own certificate in DER.
    pub client_certificate: &'a [u8; 32],
    /// SHA-256 of the server's own certificate in DER.
    pub server_certificate: &'a [u8; 32],
}

impl ExporterContext<'_> {
    /// The context's bytes, at most 258.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = u16::from(VERSION).to_be_bytes().to_vec();
        let names = [self.environment.as_str(), self.client.as_str(), self.server.as_str()];
        for name in names {
            #[expect(clippy::cast_possible_truncation, reason = "names have at most 63 bytes")]
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.extend_from_slice(self.client_certificate);
        bytes.extend_from_slice(self.server_certificate);
        bytes
    }
}

/// The exported secret. It lives on the heap and stays where it is, so that moving a session
/// leaves no copies; it is wiped on drop and never printed.
pub struct SessionSecret(Box<Zeroizing<[u8; 32]>>);

impl SessionSecret {
    /// A secret made of zeros, to be filled in place.
    pub(crate) fn empty() -> Self {
        Self(Box::new(Zeroizing::new([0; 32])))
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut **self.0
    }

    /// The secret itself, for deriving the lanes' first secrets and nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_has_these_bytes() {
        let context = ExporterContext {
            environment: &EnvironmentId::new("acme").unwrap(),
            client: &HostId::new("host-a").unwrap(),
            server: &HostId::new("host-bb").unwrap(),
            client_certificate: &[0xc1; 32],
            server_certificate: &[0x5e; 32],
        };
        let mut expected = b"\x00\x01\x04acme\x06host-a\x07host-bb".to_vec();
        expected.extend([0xc1; 32]);
        expected.extend([0x5e; 32]);
        assert_eq!(context.encode(), expected);
    }

    #[test]
    fn names_cannot_be_shifted_into_each_other() {
        let context = |environment: &str, client: &str| {
            ExporterContext {
                environment: &EnvironmentId::new(environment).unwrap(),
                client: &HostId::new(client).unwrap(),
                server: &HostId::new("s").unwrap(),
                client_certificate: &[0; 32],
                server_certificate: &[0; 32],
            }
            .encode()
        };
        assert_ne!(context("ab", "c"), context("a", "bc"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut secret = SessionSecret::empty();
        secret.as_mut().fill(0xab);
        assert_eq!(format!("{secret:?}"), "SessionSecret(..)");
        assert_eq!(secret.expose(), &[0xab; 32]);
    }
}
