//! Settings of environments, and what requests and answers say of them.

use weft_control_api::v1;
use weft_model::settings::Change;

use crate::error::AppError;

/// What is to be changed.
pub(super) fn change(request: &v1::UpdateEnvironmentRequest) -> Result<Change, AppError> {
    let change = Change { leaf_seconds: Some(request.leaf_seconds).filter(|seconds| *seconds > 0) };
    if change.is_empty() {
        return Err(AppError::invalid("leaf_seconds", "is missing; expected what is to change"));
    }
    Ok(change)
}
