//! Stubs of segments that expired, and whether one is believed: what acts on one that is not, removes what somebody
//! else wants removed.

use std::path::Path;

use crate::{
    fault::{Fault, Finding},
    log::kept_long_enough,
    segment::{read_stub, stub_path},
    signed::{Expired, PublicKey, Signed},
    text::ProcessId,
};

/// The stub of the log of `process` in `folder`; `None` where there is none.
///
/// # Errors
/// When it cannot be read, or is not believed.
pub fn stub(
    folder: &Path,
    process: &ProcessId,
    trusted: &[PublicKey],
) -> Result<Option<Signed<Expired>>, Finding> {
    let Some(stub) = read_stub(folder)? else { return Ok(None) };
    match check(&stub, process, trusted) {
        Ok(_) => Ok(Some(stub)),
        Err(fault) => Err(Finding::in_file(&stub_path(folder), 0, fault)),
    }
}

/// What a folder's stub says; `None` where there is no stub.
pub(crate) fn believed(
    folder: &Path,
    process: &ProcessId,
    trusted: &[PublicKey],
) -> Result<Option<Expired>, Finding> {
    Ok(stub(folder, process, trusted)?.map(|stub| stub.unverified().clone()))
}

/// What a stub says, if one of `trusted` signed it, of this process, and of lines that were kept long enough.
pub(crate) fn check<'a>(
    stub: &'a Signed<Expired>,
    process: &ProcessId,
    trusted: &[PublicKey],
) -> Result<&'a Expired, Fault> {
    let expired = stub.verify(trusted).map_err(|error| Fault::Statement(error.to_string()))?;
    if expired.process != *process {
        let what = format!("it is of process {}, not {process}", expired.process);
        return Err(Fault::Statement(what));
    }
    match kept_long_enough(expired.latest, expired.at) {
        true => Ok(expired),
        false => Err(Fault::ExpiredEarly),
    }
}
