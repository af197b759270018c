//! What keeps a replica up to date.
//!
//! ```text
//!  here    ═══════════════════════════════│═════│── ─ ─
//!  there   ═══════════════│═══════════│▒▒▒          ▒ torn: cut off at the end of the last whole line that is ours
//!                      floor        whole
//! ```
//!
//! Nothing is cut off before the floor, which it has acknowledged, and no whole line of another.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    Held, PIECE_LEN_MAX, Replica, ReplicaError, TAIL_LEN_MAX, folder::prefix, unavailable,
};
use crate::{
    line::Line,
    log::{Place, len_of},
    segment::{path_of, read_stub},
    signed::{Expired, PublicKey, Signed},
    stub::believed,
    text::ProcessId,
};

/// Keeps a replica up to date.
#[derive(Debug)]
pub(crate) struct Shipper {
    replica: Arc<dyn Replica>,
    trusted: Vec<PublicKey>,
    /// How far the replica is; it is asked when that is not known.
    place: Option<Place>,
    /// How far it was when it last said so; what is before is not torn.
    acknowledged: Option<Place>,
    /// How far this log was anchored when it was opened.
    anchored: Place,
}

impl Shipper {
    pub(crate) fn new(replica: Arc<dyn Replica>, trusted: Vec<PublicKey>, anchored: Place) -> Self {
        Self { replica, trusted, place: None, acknowledged: None, anchored }
    }

    /// Sends everything up to `target`.
    pub(crate) async fn ship(
        &mut self,
        process: &ProcessId,
        folder: &Path,
        target: Place,
    ) -> Result<(), ReplicaError> {
        let mut place = match self.place.take() {
            Some(place) => place,
            None => self.find(process, folder, target).await?,
        };
        self.acknowledged = Some(place);
        while place < target {
            let (at, bytes) = next_piece(folder.to_owned(), place, target).await?;
            let len = bytes.len() as u64;
            self.replica.append(process, at, bytes).await?;
            place = Place { segment: at.segment, len: at.len + len };
            self.acknowledged = Some(place);
        }
        self.place = Some(place);
        Ok(())
    }

    pub(crate) async fn expire(&mut self, stub: &Signed<Expired>) -> Result<(), ReplicaError> {
        // Where this fails, or nobody waits for its end, the replica hears of the stub when it is found again.
        let place = self.place.take();
        self.replica.expire(stub).await?;
        self.place = place;
        Ok(())
    }

    /// Where the replica is, after it was away or at first.
    async fn find(
        &self,
        process: &ProcessId,
        folder: &Path,
        target: Place,
    ) -> Result<Place, ReplicaError> {
        let (of, own, trusted) = (process.clone(), folder.to_owned(), self.trusted.clone());
        let stub = blocking(move || {
            let expired = believed(&own, &of, &trusted).map_err(unavailable)?;
            let stub = read_stub(&own).map_err(unavailable)?;
            Ok(stub.zip(expired))
        });
        let stub = stub.await?;
        if let Some((stub, _)) = &stub {
            self.replica.expire(stub).await?;
        }
        let held = self.replica.held(process).await?;
        if held.place > target {
            return Err(ReplicaError::Diverged);
        }
        let expired = stub.map_or(0, |(_, expired)| expired.segment);
        if held.place.segment <= expired {
            return Ok(held.place);
        }
        let path = path_of(folder, held.place.segment);
        let len = held.place.len;
        let own = blocking(move || prefix(&path, len).map_err(unavailable)).await?;
        match own == held.digest {
            true => Ok(held.place),
            false => self.cut(process, folder, held).await,
        }
    }

    /// Cuts off what was torn there; where it is then.
    async fn cut(
        &self,
        process: &ProcessId,
        folder: &Path,
        held: Held,
    ) -> Result<Place, ReplicaError> {
        let Place { segment, len } = held.place;
        let from = Place { segment, len: len.saturating_sub(TAIL_LEN_MAX as u64) };
        let theirs = self.replica.read(process, from).await?;
        let path = path_of(folder, segment);
        let common = blocking(move || {
            let mut own = File::open(&path).map_err(unavailable)?;
            own.seek(SeekFrom::Start(from.len)).map_err(unavailable)?;
            let mut ours = Vec::new();
            own.take(theirs.len() as u64).read_to_end(&mut ours).map_err(unavailable)?;
            let whole = whole_in_common(&ours, &theirs).ok_or(ReplicaError::Diverged)?;
            if whole == 0 && from.len > 0 {
                return Err(ReplicaError::Diverged);
            }
            let place = Place { segment, len: from.len + whole as u64 };
            Ok(Held { place, digest: prefix(&path, place.len).map_err(unavailable)? })
        });
        let common = common.await?;
        let floor = match self.acknowledged {
            Some(acknowledged) => acknowledged,
            // One that has less was lost, or is new, and what it has was being sent to it again.
            None if held.place >= self.anchored => self.anchored,
            None => Place::default(),
        };
        if common.place < floor {
            return Err(ReplicaError::Diverged);
        }
        self.replica.cut(process, held, common).await?;
        let bytes = len - common.place.len;
        tracing::warn!(segment, bytes, "what was torn on the audit's second host was cut off");
        Ok(common.place)
    }
}

/// How much of what a replica has is of whole lines that are ours. `None` when there is a whole line of another
/// behind: nobody has torn that.
fn whole_in_common(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    let same = ours.iter().zip(theirs).take_while(|(our, their)| our == their).count();
    let whole = theirs[..same].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut at = whole;
    for line in theirs[whole..].split_inclusive(|byte| *byte == b'\n') {
        let our = ours.get(at..at + line.len());
        if our != Some(line) && Line::parse(line).is_ok() {
            return None;
        }
        at += line.len();
    }
    Some(whole)
}

/// The next piece after `place`, and where it belongs.
async fn next_piece(
    folder: PathBuf,
    place: Place,
    target: Place,
) -> Result<(Place, Bytes), ReplicaError> {
    let read = move || {
        let end = |segment| match segment == target.segment {
            true => Ok(target.len),
            false => len_of(&folder, segment),
        };
        let mut at = place;
        while at.len >= end(at.segment)? {
            at = Place { segment: at.segment + 1, len: 0 };
        }
        let len = (end(at.segment)? - at.len).min(PIECE_LEN_MAX as u64);
        let mut file = File::open(path_of(&folder, at.segment))?;
        file.seek(SeekFrom::Start(at.len))?;
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok::<_, io::Error>((at, Bytes::from(bytes)))
    };
    blocking(move || read().map_err(unavailable)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReplicaError> + Send + 'static,
) -> Result<T, ReplicaError> {
    spawn_blocking(work).await.map_err(unavailable)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::Position,
        line::{Body, Open},
    };

    #[test]
    fn only_what_is_no_line_is_torn() {
        let open = |process: &str| {
            let open = Open::new(process.parse().unwrap(), 1);
            let at = "2026-11-30T06:48:10.123456Z".parse().unwrap();
            Position::START.next(at, Body::Open(open)).encode()
        };
        let (ours, other) = (open("control-a"), open("control-b"));
        let twice = [&ours[..], &ours[..]].concat();
        let whole = Some(ours.len());
        let with = |tail: &[u8]| whole_in_common(&twice, &[&ours[..], tail].concat());
        assert_eq!((with(b""), with(&ours[..9]), with(&[0; 70])), (whole, whole, whole));
        assert_eq!(with(&[&ours[..20], b"\0\0\n"].concat()), whole);
        assert_eq!(with(&other), None);
        // Also behind what was torn; ours, at its place, is not another's.
        assert_eq!(with(&[b"\0\0\0\n", &other[..]].concat()), None);
        let torn = [&[0; 10][..], &ours[10..], &ours[..]].concat();
        let (longer, tail) = ([&twice[..], &ours[..]].concat(), [&ours[..], &torn[..]].concat());
        assert_eq!(whole_in_common(&longer, &tail), whole);
    }
}
