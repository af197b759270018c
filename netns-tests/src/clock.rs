//! Clocks of one daemon that a test sets while it runs; nobody else's change.
//!
//! The machine's own clock must stay as it is, and a time namespace has no wall clock of its own. So a few
//! lines of C stand between the process and its clocks.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::run_ok;

const SOURCE: &str = include_str!("clock/skew.c");
const COMPILE_LIMIT: Duration = Duration::from_secs(30);

/// What one process takes for the time.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Clock {
    /// Builds the library in `dir`. The clocks are right at first.
    ///
    /// # Errors
    /// Without a C compiler.
    pub fn new(dir: &Path) -> Result<Self> {
        let (source, library, path) =
            (dir.join("skew.c"), dir.join("skew.so"), dir.join("skew.seconds"));
        std::fs::write(&source, SOURCE)?;
        let mut compile = Command::new("cc");
        compile.args(["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
        run_ok(compile.arg(&library).arg(&source).arg("-ldl"), COMPILE_LIMIT)?;
        std::fs::write(&path, [0; 16])?;
        let file = File::options().write(true).open(&path)?;
        Ok(Self { library, path, file })
    }

    /// What the process must have in its environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, OsString)> {
        vec![
            ("LD_PRELOAD".into(), self.library.clone().into()),
            ("WEFT_SKEW".into(), self.path.clone().into()),
        ]
    }

    /// Sets the wall clock to what it really is and so many seconds more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_wall(&self, ahead: i64) -> Result<()> {
        Ok(self.file.write_all_at(&ahead.to_ne_bytes(), 0)?)
    }

    /// Sets the monotonic clock ahead, as if the process had stood still for so long.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn pass(&self, seconds: i64) -> Result<()> {
        Ok(self.file.write_all_at(&seconds.to_ne_bytes(), 8)?)
    }
}
