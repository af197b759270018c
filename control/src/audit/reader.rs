//! Reading logs: those of all processes that are in the folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{sync::Semaphore, task::spawn_blocking};
use weft_audit::{
    Anchors, Cursor, Finding, Page, ProcessId, PublicKey, Query, QueryError, SignedHead,
    StoreAnchors, Verified, query, verify,
};

use crate::error::AppError;

/// Readers at once: each reads up to 60 MB of a disk that the writer needs.
const READERS_MAX: usize = 2;

/// Reads the logs of one folder.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    anchors: StoreAnchors,
    trusted: PublicKey,
    turns: Arc<Semaphore>,
}

/// How a log is.
#[derive(Debug)]
pub struct Checked {
    /// Whose.
    pub process: ProcessId,
    /// What it is, or the first place where it is not what was written.
    pub found: Result<Verified, Finding>,
    /// The last head that was anchored.
    pub head: Option<SignedHead>,
}

impl Reader {
    pub(super) fn new(folder: PathBuf, anchors: StoreAnchors, trusted: PublicKey) -> Self {
        Self { folder, anchors, trusted, turns: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// By which heads are signed.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.trusted
    }

    /// A part of what is asked for.
    ///
    /// # Errors
    /// [`AppError::State`] when a log is damaged, [`AppError::Invalid`] for a cursor of another log.
    pub async fn page(
        &self,
        asked: Query,
        after: Option<Cursor>,
        len_max: usize,
    ) -> Result<Page, AppError> {
        let folder = self.folder.clone();
        let read = move || {
            let logs = logs(&folder).map_err(AppError::internal)?;
            query(&logs, &asked, after.as_ref(), len_max).map_err(|error| match error {
                QueryError::Damaged(finding) => {
                    tracing::error!(%finding, "the audit is damaged");
                    AppError::State("the audit is damaged; an operator has to verify it".to_owned())
                }
                error => AppError::internal(error),
            })
        };
        self.in_turn(read).await?
    }

    /// Verifies all logs, each against all heads of it that are anchored.
    ///
    /// # Errors
    /// When logs or heads cannot be found; what is wrong with a log is in its place.
    pub async fn verify(&self) -> Result<Vec<Checked>, AppError> {
        let mut checked = Vec::new();
        for (process, folder) in logs(&self.folder).map_err(AppError::internal)? {
            let heads = self.anchors.all(&process).await.map_err(AppError::internal)?;
            let (head, trusted, of) = (heads.last().cloned(), self.trusted, process.clone());
            let found = self.in_turn(move || verify(&folder, &of, &heads, &[trusted])).await?;
            checked.push(Checked { process, found, head });
        }
        Ok(checked)
    }

    /// Who gives up waiting leaves its turn when it is read, not before.
    async fn in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AppError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(AppError::internal)?;
        let read = spawn_blocking(move || {
            let found = read();
            drop(turn);
            found
        });
        read.await.map_err(AppError::internal)
    }
}

/// The logs in a folder, by their processes.
fn logs(folder: &Path) -> io::Result<Vec<(ProcessId, PathBuf)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = process
            && entry.file_type()?.is_dir()
        {
            logs.push((process, entry.path()));
        }
    }
    logs.sort();
    Ok(logs)
}
