//! How a host gets its next certificate of the installation, with another key each time.
//!
//! ```text
//!   made ─▶ renewing ─▶ asked for ─▶ answered ─▶ identity ─▶ used ─▶ the old one counts no more
//!            kept         ▲  │        judged      kept, and renewing goes
//!                         └──┘ the answer is lost: the same key asks again
//! ```
//!
//! The control plane lets both keys in until the new one is used, and the identity is one file with key and
//! certificate. So wherever this stops, what the host finds when it begins again is let in. The old one is kept before the
//! new one takes its place ([`crate::identities`]), for a control plane whose store was restored from a copy of before.

use weft_control_api::v1;
use weft_pki::{
    issue::IssueError,
    request::{self, NewKey},
};

use crate::{
    enrol::{self, EnrolError},
    state::{Identity, State, StateError},
};

/// Why a host has no other certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// No key can be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] IssueError),
    /// It cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is answered is no identity.
    #[error(transparent)]
    Answer(#[from] EnrolError),
    /// It is another installation's.
    #[error("the answer cannot be used: a certificate of another installation")]
    Installation,
}

/// The key for the next certificate, which is on the disk when this returns: the one that was asked with before, or else
/// a new one.
pub(crate) fn next_key(state: &State, shown: &Identity) -> Result<NewKey, RenewError> {
    let kept = match state.renewing() {
        Err(error @ StateError::File { .. }) => return Err(error.into()),
        // Nobody can ask with it any more. A new one takes its place, at the control plane too.
        Err(error) => {
            tracing::warn!(%error, "another key is made for the next certificate");
            None
        }
        // The one that is shown stays there when its host stops at the last moment.
        Ok(kept) => kept.filter(|kept| *kept != shown.key),
    };
    if let Some(key) = kept.and_then(|kept| request::for_key(&kept).ok()) {
        return Ok(key);
    }
    let new = enrol::new_key()?;
    state.keep_renewing(&new.key_pem)?;
    Ok(new)
}

/// Makes the answer this host's identity, if it is of use, and the one that was shown for it the former one. What there was
/// stays otherwise.
pub(crate) fn install(
    state: &State,
    shown: &Identity,
    key: &NewKey,
    answer: v1::RenewHostCertificateResponse,
) -> Result<Identity, RenewError> {
    let v1::RenewHostCertificateResponse { certificate, anchors } = answer;
    let renewed = enrol::judged(&shown.host, key, certificate, anchors)?;
    if renewed.installation != shown.installation {
        return Err(RenewError::Installation);
    }
    state.keep_former(shown)?;
    state.keep_identity(&renewed)?;
    state.forget_renewing();
    Ok(renewed)
}

#[cfg(test)]
pub(crate) mod tests;
