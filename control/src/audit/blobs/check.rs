//! Whether what is in a blob store is what was written: from the first segment that is kept to the last one that was
//! said to be shipped, against the heads that are anchored.

use std::path::{Path, PathBuf};

use weft_audit::{
    Digest, Expired, Fault, Finding, LINE_LEN_MAX, ObjectKind, ObjectName, Position, ProcessId,
    PublicKey, Shipped, Signed, SignedHead, Verification,
};

use super::shelf::{Everything, Objects, Shelf, ShelfError, object};

/// What a finding names instead of a folder.
const BLOB_STORE: &str = "blob store";

/// What is known of a log before the blob store is read.
pub(super) struct Check<'c> {
    pub(super) shelf: &'c Shelf,
    pub(super) process: &'c ProcessId,
    pub(super) heads: &'c [SignedHead],
    pub(super) trusted: &'c [PublicKey],
    /// How far it has to be there.
    pub(super) shipped: Option<&'c Shipped>,
}

/// Takes what was found to be good.
pub(super) trait Sink: Send {
    /// The stub in place of what has expired.
    fn stub(&mut self, stub: &Signed<Expired>) -> std::io::Result<()>;
    /// The next bytes of a segment; that its end is missing may be found later.
    fn bytes(&mut self, segment: u64, bytes: &[u8]) -> std::io::Result<()>;
}

/// Keeps nothing.
pub(super) struct Nothing;

impl Sink for Nothing {
    fn stub(&mut self, _: &Signed<Expired>) -> std::io::Result<()> {
        Ok(())
    }

    fn bytes(&mut self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

impl Check<'_> {
    /// Reads everything; returns the last line that is there.
    ///
    /// # Errors
    /// The first place where something is missing, changed, swapped or not ours.
    pub(super) async fn run(&self, sink: &mut dyn Sink) -> Result<Position, Finding> {
        let everything = self.shelf.everything().await.map_err(|error| self.wrong(None, error))?;
        let stub = self.stub(&everything).await?;
        let verification = Verification::new(self.process, self.heads, self.trusted, stub.as_ref());
        let mut verification = verification.map_err(|fault| self.blame(None, 0, fault))?;
        if let Some(stub) = &stub {
            sink.stub(stub).map_err(|error| self.blame(None, 0, Fault::Io(error.to_string())))?;
        }
        let begin = verification.begin().segment;
        for ((segment, hash), objects) in &everything {
            // What has expired may be there until somebody removes it.
            if *segment <= begin || *objects == (Objects { has_stub: true, ..Objects::default() }) {
                continue;
            }
            let head = object(*segment, Digest(*hash), ObjectKind::Head);
            if verification.last().segment == *segment {
                return Err(self.blame(Some(&head), 0, Fault::Twice(*segment)));
            }
            if !objects.has_head && self.shipped.is_none_or(|shipped| shipped.segment < *segment) {
                // On its way: nothing was said of it.
                break;
            }
            let begun = verification.begin_segment(*segment);
            begun.map_err(|fault| self.blame(Some(&head), 0, fault))?;
            self.segment(&mut verification, &head, objects, sink).await?;
        }
        let last = verification.last();
        match self.shipped {
            Some(shipped) if last.segment < shipped.segment => {
                Err(self.blame(None, 0, Fault::Missing(last.segment + 1)))
            }
            _ => Ok(last),
        }
    }

    /// The last stub.
    async fn stub(&self, everything: &Everything) -> Result<Option<Signed<Expired>>, Finding> {
        let last = everything.iter().rev().find(|(_, objects)| objects.has_stub);
        let Some(((segment, hash), _)) = last else { return Ok(None) };
        let name = object(*segment, Digest(*hash), ObjectKind::Expired);
        let bytes = self.read(&name).await?;
        let unread = |_| self.blame(Some(&name), 0, Fault::Unopened);
        let stub = Signed::<Expired>::parse(&bytes).map_err(unread)?;
        let expired = stub.unverified();
        match (expired.segment, expired.hash) == (name.segment, name.hash) {
            true => Ok(Some(stub)),
            false => Err(self.blame(Some(&name), 0, Fault::NotShipped)),
        }
    }

    async fn segment(
        &self,
        verification: &mut Verification,
        head: &ObjectName,
        objects: &Objects,
        sink: &mut dyn Sink,
    ) -> Result<(), Finding> {
        if let Some(number) = objects.beyond_gap {
            let gap = ObjectKind::Piece((objects.pieces + 1).min(number));
            let gap = ObjectName { kind: gap, ..*head };
            return Err(self.blame(Some(&gap), 0, Fault::ObjectMissing));
        }
        let (mut line, mut count) = (Vec::new(), 0);
        for number in 1..=objects.pieces {
            let name = ObjectName { kind: ObjectKind::Piece(number), ..*head };
            let bytes = self.read(&name).await?;
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if !line.ends_with(b"\n") && line.len() <= LINE_LEN_MAX {
                    continue;
                }
                count += 1;
                let accepted = verification.accept(&line);
                accepted.map_err(|fault| self.blame(Some(&name), count, fault))?;
                line.clear();
            }
            let written = sink.bytes(head.segment, &bytes);
            written.map_err(|error| self.blame(Some(&name), 0, Fault::Io(error.to_string())))?;
        }
        let last = verification.last();
        if !line.is_empty() || !verification.is_closed() {
            let next = ObjectKind::Piece(objects.pieces + 1);
            let next = ObjectName { kind: next, ..*head };
            return Err(self.blame(Some(&next), 0, Fault::ObjectMissing));
        }
        let shipped = self.shipped.filter(|shipped| shipped.segment == head.segment);
        let is_shipped = shipped.is_none_or(|shipped| shipped.hash == last.hash);
        if last.hash != head.hash || !is_shipped {
            return Err(self.blame(Some(head), 0, Fault::NotShipped));
        }
        self.head(head, last).await
    }

    /// The head says the same of the last line as the lines do.
    async fn head(&self, name: &ObjectName, last: Position) -> Result<(), Finding> {
        let bytes = self.read(name).await?;
        let statement = |error: weft_audit::SignedError| Fault::Statement(error.to_string());
        let head = SignedHead::parse(&bytes).map_err(statement);
        let head = head.and_then(|head| head.verify(self.trusted).cloned().map_err(statement));
        let head = head.map_err(|fault| self.blame(Some(name), 0, fault))?;
        let is_same = head.process == *self.process
            && (head.segment, head.seq, head.hash) == (last.segment, last.seq, last.hash);
        if is_same { Ok(()) } else { Err(self.blame(Some(name), 0, Fault::NotShipped)) }
    }

    async fn read(&self, name: &ObjectName) -> Result<zeroize::Zeroizing<Vec<u8>>, Finding> {
        self.shelf.read(name).await.map_err(|error| self.wrong(Some(name), error))
    }

    fn wrong(&self, name: Option<&ObjectName>, error: ShelfError) -> Finding {
        use weft_providers::ProviderError::{Absent, Corrupt};
        let fault = match error {
            ShelfError::Unopened(_) | ShelfError::Provider(Corrupt(_)) => Fault::Unopened,
            ShelfError::Provider(Absent(_)) if name.is_some() => Fault::ObjectMissing,
            other => Fault::Io(other.to_string()),
        };
        self.blame(name, 0, fault)
    }

    fn blame(&self, name: Option<&ObjectName>, line: u64, fault: Fault) -> Finding {
        let name = name.map_or_else(|| self.process.to_string(), |name| self.shelf.full_name(name));
        let file: PathBuf = Path::new(BLOB_STORE).join(name);
        Finding { file: Some(file), line, fault }
    }
}
