//! The audit in a blob store: segments that have ended, sealed, outside of the hosts.
//!
//! ```text
//!   FOLDER/control-a ─▶ Shipping ─▶ BLOBS/control-a/0000000001-HASH.01 …      each part is of one process
//!                          └ signed: shipped through ─▶ the control plane's store
//!   BlobReader: verify what is there, or copy it to a folder
//! ```

mod check;
mod lag;
mod place;
mod shelf;
mod shipping;

use std::{io, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use weft_audit::{
    AnchorError, Anchors as _, Expired, Fault, Finding, NewLog, Position, ProcessId, PublicKey,
    Shipped, Signed, SignedHead, Signer, StoreAnchors,
};
use weft_keys::Keyring;

use self::{
    check::{Check, Nothing, Sink},
    shelf::Shelf,
};
pub use self::{
    lag::LAG_MAX,
    place::{BlobPlace, BlobUrl, Blobs, CREDENTIALS_LEN_MAX, S3Access},
    shelf::ShelfError,
    shipping::{ShipError, Shipping},
};
use super::AuditPlace;
use crate::clock::Clock;

/// The blob store, for who reads it.
#[derive(Debug, Clone)]
pub struct BlobReader {
    blobs: Arc<dyn Blobs>,
    /// As the configuration names it.
    place: String,
    keyring: Arc<Keyring>,
    anchors: StoreAnchors,
    trusted: PublicKey,
}

impl BlobReader {
    /// Reads what processes have shipped to `blobs`, which the configuration names `place`, if `trusted` says so.
    #[must_use]
    pub fn new(
        blobs: Arc<dyn Blobs>,
        place: String,
        keyring: Arc<Keyring>,
        anchors: StoreAnchors,
        trusted: PublicKey,
    ) -> Self {
        Self { blobs, place, keyring, anchors, trusted }
    }

    /// What ships the log of `process`, which is in `folder`, to the same place. `signer` has the key that is trusted.
    #[must_use]
    pub fn shipping(&self, place: &AuditPlace, signer: Signer, clock: Clock) -> Shipping {
        Shipping {
            folder: place.own(),
            process: place.process.clone(),
            signer,
            anchors: self.anchors.clone(),
            clock,
            keyring: Arc::clone(&self.keyring),
            blobs: Arc::clone(&self.blobs),
            place: self.place.clone(),
            state: tokio::sync::Mutex::default(),
            progress: std::sync::Mutex::default(),
        }
    }

    /// Whether what is there of a process is what was written, and everything that was said to be there is, against
    /// heads that are anchored. Returns the last line of it.
    ///
    /// # Errors
    /// The first place where something is wrong; also that the blob store does not answer.
    pub async fn check(
        &self,
        process: &ProcessId,
        heads: &[SignedHead],
    ) -> Result<Position, Finding> {
        self.read(process, heads, &mut Nothing).await
    }

    /// Copies the log of a process to the new folder `to`, as far as it is there, and verifies it; nothing stays of a
    /// copy that fails. Returns its last line.
    ///
    /// # Errors
    /// What is wrong with what is there, or what cannot be written.
    pub async fn fetch(&self, process: &ProcessId, to: &Path) -> anyhow::Result<Position> {
        let heads = self.anchors.all(process).await.context("the heads that are anchored")?;
        let what = || format!("cannot write {}", to.display());
        let mut log = NewLog::create(to).with_context(what)?;
        let last = self.read(process, &heads, &mut log).await?;
        ensure!(last.seq > 0, "nothing of the log of {process} is in {}", self.place);
        log.finish().with_context(what)?;
        Ok(last)
    }

    async fn read(
        &self,
        process: &ProcessId,
        heads: &[SignedHead],
        sink: &mut dyn Sink,
    ) -> Result<Position, Finding> {
        let wrong = |fault| Finding { file: None, line: 0, fault };
        let io = |error: &dyn std::fmt::Display| wrong(Fault::Io(error.to_string()));
        let shipped = shipped(&self.anchors, process, self.trusted).await;
        let shipped = shipped.map_err(|error| io(&error))?;
        if let Some(elsewhere) = shipped.as_ref().filter(|shipped| shipped.place != self.place) {
            let what = format!("it is shipped to {}, not to {}", elsewhere.place, self.place);
            return Err(wrong(Fault::Statement(what)));
        }
        let blobs = self.blobs.of(process).await.map_err(|error| io(&error))?;
        let shelf = Shelf::new(process.clone(), blobs, Arc::clone(&self.keyring));
        let trusted = &[self.trusted];
        let shipped = shipped.as_ref();
        Check { shelf: &shelf, process, heads, trusted, shipped }.run(sink).await
    }
}

/// How far the log of a process is said to be shipped, by whoever has the key.
pub(super) async fn shipped(
    anchors: &StoreAnchors,
    process: &ProcessId,
    trusted: PublicKey,
) -> Result<Option<Shipped>, AnchorError> {
    let said = anchors.shipped(process).await?;
    let said = said.and_then(|said| said.verify(&[trusted]).ok().cloned());
    Ok(said.filter(|said| said.process == *process))
}

impl Sink for NewLog {
    fn stub(&mut self, stub: &Signed<Expired>) -> io::Result<()> {
        self.put_stub(stub)
    }

    fn bytes(&mut self, segment: u64, bytes: &[u8]) -> io::Result<()> {
        self.append(segment, bytes)
    }
}

#[cfg(test)]
mod tests;
