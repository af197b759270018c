//! Where the programs under test are.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// Names the directory with `weftd` and `weft`.
pub const DIRECTORY_VARIABLE: &str = "WEFT_BIN_DIR";

/// The path of `weftd` or `weft`: from `WEFT_BIN_DIR`, else beside the running executable
/// (`target/<profile>/`), else from the release build next to it.
///
/// # Errors
/// When it is in none of these places; the message says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let mut places = Vec::new();
    if let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE) {
        places.push(PathBuf::from(dir));
    } else if let Ok(own) = std::env::current_exe() {
        // target/<profile>/demo or target/<profile>/deps/pings-0123
        let profile = own.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
        if let Some(profile) = profile {
            places.push(profile.with_file_name("release"));
            places.push(profile.to_owned());
        }
    }
    if let Some(found) = places.iter().map(|dir| dir.join(name)).find(|path| path.is_file()) {
        return Ok(std::path::absolute(found)?);
    }
    bail!(
        "{name} is not in {places:?}; build it with `cargo build --release -p weftd -p weft-helper -p weft` \
         or set {DIRECTORY_VARIABLE}"
    )
}
