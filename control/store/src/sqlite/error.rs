//! What SQLite says, in the store's words.

use std::{io, path::PathBuf};

use rusqlite::{Error, ErrorCode, ffi};

use crate::error::StoreError;

/// Why a file was not opened as a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is in use by process {owner}; expected to be the only one", path = .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// What that process wrote of itself: its number.
        owner: String,
    },
    /// A newer version of the product wrote it.
    #[error(
        "{path} has schema {found}; this version knows up to {known}: use the version that wrote it",
        path = .path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It is no store's file.
    #[error("{path} is not a store: {what}", path = .path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// The operating system refuses.
    #[error("{path}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a store's file, but it cannot be used.
    #[error("{path}: {source}", path = .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// What SQLite's error means for whoever asked.
pub(super) fn store_error(error: &Error) -> StoreError {
    let text = error.to_string();
    match error {
        Error::SqliteFailure(code, _) => match code.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt(text),
            ErrorCode::DiskFull => StoreError::Full(text),
            // The index of the log, which is a file too, finds no room to grow.
            _ if code.extended_code == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full(text),
            _ => StoreError::Unavailable(text),
        },
        // A table or a column is not what the schema says.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::QueryReturnedNoRows
        | Error::SqlInputError { .. } => StoreError::Corrupt(text),
        _ => StoreError::Unavailable(text),
    }
}

/// For a value that no store has written.
pub(super) fn not_as_written(column: usize, what: &'static str) -> Error {
    Error::FromSqlConversionFailure(column, rusqlite::types::Type::Null, what.into())
}
