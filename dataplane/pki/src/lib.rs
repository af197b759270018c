//! Certificates of Weft environments: issue, load, verify.
//!
//! Every environment has a certificate authority of its own, and every host one certificate per
//! environment. Who a host is stands in exactly one place, the URI SAN of its certificate
//! (`spiffe://<installation>/env/<environment>/host/<host>`); common names, DNS names and name
//! constraints decide nothing.
//!
//! ```text
//!  ca.pem ──▶ TrustAnchor ─┐
//!                          ├─▶ verify_peer(chain, now) ─▶ VerifiedPeer
//!  HOST.pem + HOST.key ──▶ Credentials (own chain, signing key)
//! ```
//!
//! The installation has an authority of its own, whose certificates say who may ask the control plane for what
//! ([`installation`]). It is trusted for no environment.
//!
//! There is no function that takes the roots of two environments at once, so no certificate can
//! be judged by another environment's authority.

mod anchor;
mod certificate;
mod clock;
mod credentials;
pub mod describe;
mod error;
mod files;
mod identity;
pub mod installation;
pub mod issue;
mod pem;
pub mod request;
mod verify;

pub use anchor::{AUTHORITIES_MAX, SNI_SUFFIX, SniTag, TrustAnchor};
pub use certificate::{CERTIFICATE_LEN_MAX, KeyKind};
pub use clock::{format_rfc3339, format_utc};
pub use credentials::Credentials;
pub use error::{ErrorClass, PkiError, Subject};
pub use files::{FileError, NewFile, write_new_files};
pub use identity::{EnvironmentIdentity, HostIdentity, IdentityError};
pub use pem::{PEM_LEN_MAX, read_file};
pub use request::{SIGNING_REQUEST_LEN_MAX, SigningRequest};
pub use rustls_pki_types::{CertificateDer, UnixTime};
pub use verify::{CHAIN_LEN_MAX, SIGNATURE_ALGORITHMS, VerifiedPeer, verify_peer};
