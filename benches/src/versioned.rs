//! JSON documents with a version: how they are read and written.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Reads a document of `kind`, in this version only.
///
/// # Errors
/// When it is no JSON of this kind, or of another version; the message says which.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, kind: &str, version: u32) -> Result<T> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head =
        serde_json::from_str(text).with_context(|| format!("no document of {kind}"))?;
    let found = head.version;
    ensure!(found == version, "version: expected {version}, found {found}");
    Ok(serde_json::from_str(text)?)
}

/// Reads a file with `parse`; errors name the file.
///
/// # Errors
/// As `parse`, and when the file cannot be read.
pub(crate) fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let text = std::fs::read_to_string(path);
    text.map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| path.display().to_string())
}

/// Writes a document to a file, whose directory is made when it is missing.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(document: &impl Serialize, path: &Path) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let json = serde_json::to_string_pretty(document)?;
    std::fs::write(path, json).with_context(|| path.display().to_string())
}
