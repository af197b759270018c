//! What the environments of one file share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use weft_types::EnvironmentId;

use crate::{credentials::Files, host::Host};

/// What the environments of one file share.
pub(crate) struct Context<'a> {
    /// The folder of the file.
    pub(crate) base: &'a Path,
    /// How certificates are read.
    pub(crate) files: Files,
    /// The daemon's own fields.
    pub(crate) host: &'a Host,
    /// Every id so far, with the field that has it.
    pub(crate) ids: HashMap<EnvironmentId, String>,
    /// Every namespace and interface so far, with the field that has it.
    pub(crate) interfaces: HashMap<(PathBuf, String), String>,
}
