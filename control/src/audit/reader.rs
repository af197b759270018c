//! Reading logs: those of all processes, as far as they are here.
//!
//! ```text
//!   processes that have anchored a head ─▶ FOLDER/control-a      the own log, or a copy that another host sends here
//!                                          REPLICA/control-b     the second host's: copies, or its own log
//!                                          neither               on another machine, or gone
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::spawn_blocking;
use weft_audit::{
    Anchors, Audit, Compared, Cursor, Fault, Finding, Home, Page, ProcessId, PublicKey, Query,
    QueryError, SignedHead, StoreAnchors, Verified, compare, query, verify,
};

use super::{
    AuditPlace, BlobReader, Shipping, blobs,
    turns::{Party, Turns},
};
use crate::error::AppError;

/// Reads logs.
#[derive(Debug)]
pub struct Reader {
    place: AuditPlace,
    audit: Audit,
    anchors: StoreAnchors,
    trusted: PublicKey,
    blobs: Option<BlobReader>,
    shipping: Option<Arc<Shipping>>,
    turns: Turns,
}

/// A part of what was asked for.
#[derive(Debug)]
pub struct Part {
    /// It.
    pub page: Page,
    /// Whether the logs of some processes were not read.
    pub is_partial: bool,
    /// Of which it is known that they were not.
    pub missing: Vec<ProcessId>,
}

/// What was read of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What is in the folder of this machine.
    Log,
    /// The second host's copy only.
    Copy,
    /// Nothing.
    None,
}

/// How a log is.
#[derive(Debug)]
pub struct Checked {
    /// Whose.
    pub process: ProcessId,
    /// What was read.
    pub source: Source,
    /// What is there.
    pub found: Option<Verified>,
    /// The first place where something is wrong.
    pub fault: Option<Finding>,
    /// The last line that the second host's copy has as well; 0 without one.
    pub compared: u64,
    /// The last line that is in the blob store, as far as it was said; 0 without one.
    pub shipped: u64,
    /// Why segments that have ended are not there yet, of this process's own log.
    pub unshipped: Option<String>,
    /// Where it is, when nothing is wrong and nothing was read.
    pub elsewhere: Option<String>,
    /// The last head that was anchored.
    pub head: Option<SignedHead>,
}

impl Reader {
    pub(super) fn new(
        place: AuditPlace,
        audit: Audit,
        anchors: StoreAnchors,
        trusted: PublicKey,
        blobs: Option<BlobReader>,
        shipping: Option<Arc<Shipping>>,
    ) -> Self {
        let turns = Turns::default();
        Self { place, audit, anchors, trusted, blobs, shipping, turns }
    }

    /// By which heads are signed.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.trusted
    }

    /// A part of what is asked for, of all logs that are here.
    ///
    /// # Errors
    /// [`AppError::State`] when a log is damaged, [`AppError::Invalid`] for a cursor of another log.
    pub async fn page(
        &self,
        party: &Party,
        asked: Query,
        after: Option<Cursor>,
        len_max: usize,
    ) -> Result<Part, AppError> {
        let anchored = self.anchors.processes().await;
        if let Err(error) = &anchored {
            tracing::warn!(%error, "it is not known whose audit there is");
        }
        let is_known = anchored.is_ok();
        let (place, anchored) = (self.place.clone(), anchored.unwrap_or_default());
        let read = move || {
            let Here { logs, missing } = here(&place, anchored).map_err(AppError::internal)?;
            let page =
                query(&logs, &asked, after.as_ref(), len_max).map_err(|error| match error {
                    QueryError::Damaged(finding) => {
                        tracing::error!(%finding, "the audit is damaged");
                        AppError::State(
                            "the audit is damaged; an operator has to verify it".to_owned(),
                        )
                    }
                    error => AppError::internal(error),
                })?;
            Ok(Part { page, is_partial: !is_known || !missing.is_empty(), missing })
        };
        self.in_turn(party, read).await?
    }

    /// Verifies the logs of all processes, each against all heads of it that are anchored, and against the second
    /// host's copy; what is in the blob store, too, if that is asked for.
    ///
    /// # Errors
    /// When heads or folders cannot be read, or there is no blob store; what is wrong with a log is in its place.
    pub async fn verify(&self, reads_blobs: bool) -> Result<Vec<Checked>, AppError> {
        let blobs = self.blobs.as_ref().filter(|_| reads_blobs);
        if reads_blobs && blobs.is_none() {
            let problem =
                "this server has no blob store; expected audit.blobs in its configuration";
            return Err(AppError::invalid("blobs", problem));
        }
        let anchored = self.anchors.processes().await.map_err(AppError::internal)?;
        let place = self.place.clone();
        let processes = move || processes(&place, anchored);
        let processes = self.in_turn(&Party::Verifying, processes).await?;
        let mut checked = Vec::new();
        for process in processes.map_err(AppError::internal)? {
            let heads = self.anchors.all(&process).await.map_err(AppError::internal)?;
            let home = self.anchors.home(&process).await.map_err(AppError::internal)?;
            // Nobody is believed about where a log is but who has the key.
            let home = home.and_then(|home| home.verify(&[self.trusted]).ok().cloned());
            let check = Check {
                place: self.place.clone(),
                home: home.filter(|home| home.process == process),
                heads: heads.clone(),
                trusted: [self.trusted],
                // What is answered is on both hosts.
                written: self.audit.status().last.seq,
                process: process.clone(),
            };
            let mut log = self.in_turn(&Party::Verifying, move || check.run()).await?;
            let shipped = blobs::shipped(&self.anchors, &process, self.trusted).await;
            log.shipped = shipped.map_err(AppError::internal)?.map_or(0, |shipped| shipped.seq);
            if process == self.place.process {
                log.unshipped = self.shipping.as_ref().and_then(|shipping| shipping.trouble());
            }
            if let Some(blobs) = blobs.filter(|_| log.fault.is_none()) {
                log.fault = self.check_blobs(blobs.clone(), process, heads).await?;
            }
            checked.push(log);
        }
        Ok(checked)
    }

    /// What is wrong with what is in the blob store. Who gives up waiting leaves its turn when all is read.
    async fn check_blobs(
        &self,
        blobs: BlobReader,
        process: ProcessId,
        heads: Vec<SignedHead>,
    ) -> Result<Option<Finding>, AppError> {
        let turn = self.turns.take(&Party::Verifying).await?;
        let check = tokio::spawn(async move {
            let checked = blobs.check(&process, &heads).await;
            drop(turn);
            checked
        });
        Ok(check.await.map_err(AppError::internal)?.err())
    }

    /// Who gives up waiting leaves its turn when it is read, not before.
    async fn in_turn<T: Send + 'static>(
        &self,
        party: &Party,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AppError> {
        let turn = self.turns.take(party).await?;
        let read = spawn_blocking(move || {
            let found = read();
            drop(turn);
            found
        });
        read.await.map_err(AppError::internal)
    }
}

/// What is known of one log before it is read.
struct Check {
    place: AuditPlace,
    process: ProcessId,
    home: Option<Home>,
    heads: Vec<SignedHead>,
    trusted: [PublicKey; 1],
    /// The last line of this process's own log that was answered for.
    written: u64,
}

impl Check {
    fn run(self) -> Checked {
        let mut checked = Checked {
            process: self.process.clone(),
            source: Source::None,
            found: None,
            fault: None,
            compared: 0,
            shipped: 0,
            unshipped: None,
            elsewhere: None,
            head: self.heads.last().cloned(),
        };
        let copy = self.place.replica.as_ref().map(|replica| replica.join(self.process.as_str()));
        let copy_here = copy.clone().filter(|copy| copy.is_dir());
        let should_be = self.should_be();
        let read = match (self.here(), copy_here, &should_be) {
            (Some(folder), copy_here, _) => {
                checked.source = Source::Log;
                let copy = if self.is_own() { copy } else { copy_here };
                self.verify(&folder).and_then(|found| {
                    if let Some(copy) = copy {
                        checked.compared = self.compare(&folder, &copy, &found)?;
                    }
                    Ok(Some(found))
                })
            }
            (None, Some(copy), _) => {
                checked.source = Source::Copy;
                self.verify(&copy).map(Some)
            }
            (None, None, None) => {
                let home = self.home.as_ref();
                checked.elsewhere = home.map(|home| format!("{}:{}", home.machine, home.folder));
                Ok(None)
            }
            (None, None, Some(_)) => Ok(None),
        };
        match read {
            Ok(found) => checked.found = found,
            Err(finding) => checked.fault = Some(finding),
        }
        if let (Some(folder), None, None) = (should_be, self.here(), &checked.fault) {
            checked.fault = Some(Finding { file: Some(folder), line: 0, fault: Fault::Absent });
        }
        checked
    }

    fn is_own(&self) -> bool {
        self.process == self.place.process
    }

    /// Where the log is here.
    fn here(&self) -> Option<PathBuf> {
        let folder = self.place.folder.join(self.process.as_str());
        let home = self.home.as_ref().filter(|home| home.machine == self.place.machine);
        let home = home.map(|home| PathBuf::from(&home.folder));
        [Some(folder), home].into_iter().flatten().find(|folder| folder.is_dir())
    }

    /// Where the log should be here; `None` when it is known to be on another machine.
    fn should_be(&self) -> Option<PathBuf> {
        match &self.home {
            _ if self.is_own() => Some(self.place.own()),
            Some(home) if home.machine == self.place.machine => Some(PathBuf::from(&home.folder)),
            Some(_) => None,
            None => Some(self.place.folder.join(self.process.as_str())),
        }
    }

    fn verify(&self, folder: &Path) -> Result<Verified, Finding> {
        verify(folder, &self.process, &self.heads, &self.trusted)
    }

    /// Through which line both have the same.
    fn compare(&self, folder: &Path, copy: &Path, found: &Verified) -> Result<u64, Finding> {
        let required = if self.is_own() { self.written } else { found.anchored };
        let compared = compare(folder, copy, &self.process, &self.trusted, required)?;
        match compared {
            Compared { ahead: Some(finding), .. } if self.is_own() => Err(finding),
            // Of the log of another machine, this is the copy.
            Compared { through, .. } => Ok(through),
        }
    }
}

/// What can be read here.
struct Here {
    /// Logs and where they are.
    logs: Vec<(ProcessId, PathBuf)>,
    /// Processes that have one, which is not here.
    missing: Vec<ProcessId>,
}

/// Where the logs of all processes are read. The second host is asked for those only that are not in the folder.
fn here(place: &AuditPlace, anchored: Vec<ProcessId>) -> io::Result<Here> {
    let mut logs: BTreeMap<_, _> = folders(&place.folder)?.into_iter().collect();
    let mut missing = Vec::new();
    for process in anchored.into_iter().chain([place.process.clone()]).collect::<BTreeSet<_>>() {
        if logs.contains_key(&process) {
            continue;
        }
        let copy = place.replica.as_ref().map(|replica| replica.join(process.as_str()));
        match copy.filter(|copy| copy.is_dir()) {
            Some(copy) => {
                logs.insert(process, copy);
            }
            None => missing.push(process),
        }
    }
    Ok(Here { logs: logs.into_iter().collect(), missing })
}

/// All processes of which something is known.
fn processes(place: &AuditPlace, anchored: Vec<ProcessId>) -> io::Result<BTreeSet<ProcessId>> {
    let mut processes: BTreeSet<_> = anchored.into_iter().collect();
    processes.insert(place.process.clone());
    for folder in [Some(&place.folder), place.replica.as_ref()].into_iter().flatten() {
        processes.extend(folders(folder)?.into_iter().map(|(process, _)| process));
    }
    Ok(processes)
}

/// The logs in a folder, by their processes; none where it is not there.
fn folders(folder: &Path) -> io::Result<Vec<(ProcessId, PathBuf)>> {
    let mut logs = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(logs),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = process
            && entry.file_type()?.is_dir()
        {
            logs.push((process, entry.path()));
        }
    }
    Ok(logs)
}
