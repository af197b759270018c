//! Errors as they are told.

use tonic::{Code, Status};

use crate::error::AppError;

/// What a caller is told. The installation's own trouble is logged and not told.
pub(super) fn status(error: AppError) -> Status {
    let code = match &error {
        AppError::Invalid { .. } => Code::InvalidArgument,
        AppError::Unauthenticated => Code::Unauthenticated,
        AppError::Refused => Code::PermissionDenied,
        AppError::NotFound(_) => Code::NotFound,
        AppError::Exists(_) => Code::AlreadyExists,
        AppError::State(_) => Code::FailedPrecondition,
        AppError::Changed(_) => Code::Aborted,
        AppError::Exhausted(_) => Code::ResourceExhausted,
        AppError::Unavailable
        | AppError::Full
        | AppError::Unrecorded
        | AppError::Unready
        | AppError::Behind
        | AppError::Superseded => Code::Unavailable,
        // Whoever is told "unavailable" asks again.
        AppError::Unknown | AppError::Unseen => Code::Unknown,
        AppError::Internal(trouble) => {
            tracing::error!(%trouble, "a call failed");
            Code::Internal
        }
    };
    Status::new(code, error.to_string())
}
