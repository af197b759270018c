//! A disk that fills, dies at a step, and loses at a loss of power what was not synced.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use crate::disk::{Disk, RealDisk};

#[derive(Debug, Default)]
struct State {
    /// Bytes that may still be written.
    room: Option<usize>,
    /// Steps until it dies.
    steps: Option<usize>,
    dead: bool,
    sync_fails: bool,
    syncs: usize,
    /// What is on the disk of each file, by its number.
    synced: HashMap<u64, u64>,
    /// New names that a loss of power forgets.
    renamed: Vec<(PathBuf, PathBuf)>,
}

/// See the module's text. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct BrokenDisk(Arc<Mutex<State>>);

impl BrokenDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// There is room for so many bytes.
    pub(super) fn fill_after(&self, bytes: usize) {
        self.state().room = Some(bytes);
    }

    pub(super) fn fail_syncs(&self, fail: bool) {
        self.state().sync_fails = fail;
    }

    /// The step with this number fails, in its middle if it is a write, and all after it.
    pub(super) fn die_at(&self, step: usize) {
        self.state().steps = Some(step);
    }

    /// All that there is now is on the disk.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        state.synced.clear();
        state.renamed.clear();
    }

    /// All is well again; says whether it had died.
    pub(super) fn heal(&self) -> bool {
        let mut state = self.state();
        state.room = None;
        state.steps = None;
        std::mem::take(&mut state.dead)
    }

    /// Forgets what was not synced: of each file the part after `keep` of 4 quarters of it, and new names
    /// where `keep` is even.
    pub(super) fn lose_power(&self, folder: &Path, keep: u64) {
        let mut state = self.state();
        for (from, to) in state.renamed.drain(..).rev() {
            if keep.is_multiple_of(2) && to.exists() {
                fs::rename(to, from).unwrap();
            }
        }
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let found = fs::metadata(&path).unwrap();
            let Some(synced) = state.synced.get(&found.ino()) else { continue };
            let unsynced = found.len().saturating_sub(*synced);
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(found.len() - unsynced + unsynced * keep / 4).unwrap();
        }
    }

    fn step(&self) -> io::Result<bool> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::other("dead"));
        }
        let died = match &mut state.steps {
            Some(0) => true,
            Some(steps) => {
                *steps -= 1;
                false
            }
            None => false,
        };
        state.dead |= died;
        Ok(died)
    }

    fn whole_step(&self) -> io::Result<()> {
        if self.step()? { Err(io::Error::other("dies")) } else { Ok(()) }
    }
}

impl Disk for BrokenDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.whole_step()?;
        let file = RealDisk.create(path)?;
        self.state().synced.insert(file.metadata()?.ino(), 0);
        Ok(file)
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        if self.step()? {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::other("dies"));
        }
        let room = self.state().room.unwrap_or(usize::MAX);
        if bytes.len() > room {
            file.write_all(&bytes[..room])?;
            self.state().room = Some(0);
            return Err(io::Error::from_raw_os_error(28));
        }
        if let Some(room) = &mut self.state().room {
            *room -= bytes.len();
        }
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.whole_step()?;
        let mut state = self.state();
        if state.sync_fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        state.syncs += 1;
        let found = file.metadata()?;
        state.synced.insert(found.ino(), found.len());
        Ok(())
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.whole_step()?;
        file.set_len(len)?;
        let mut state = self.state();
        let synced = state.synced.entry(file.metadata()?.ino()).or_insert(len);
        *synced = (*synced).min(len);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole_step()?;
        let replaces = to.exists();
        RealDisk.rename(from, to)?;
        if !replaces {
            self.state().renamed.push((from.to_owned(), to.to_owned()));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.whole_step()?;
        RealDisk.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.whole_step()?;
        self.state().renamed.clear();
        Ok(())
    }
}
