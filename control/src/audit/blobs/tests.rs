//! A log, and a blob store that fails, hangs and lies as a test wants it.

mod changed;
mod fragile;
mod s3;

use std::{fs, path::PathBuf, time::SystemTime};

use tempfile::TempDir;
use weft_audit::{
    Actor, Audit, ObjectKind, ObjectName, Options, Origin, Outcome, RETENTION_DAYS, Running, Word,
    ended, verify,
};
use weft_keys::{KeyFile, Owner};
use weft_model::UnixMs;
use weft_store::{Fault as StoreFault, Memory};

use self::fragile::{Fragile, How, Lie};
use super::*;
use crate::audit::{event, named};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Segments of a few lines.
const SEGMENT_LEN_MAX: u64 = 1_200;

/// A host with its log, and a blob store beyond it.
struct Lab {
    folder: TempDir,
    store: Memory,
    keyring: Arc<Keyring>,
    signer: Signer,
    clock: Clock,
    blobs: Fragile,
    segment_len_max: u64,
}

impl Lab {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let master = folder.path().join("master.key");
        KeyFile::init(&master, SystemTime::now()).unwrap();
        let kms = Arc::new(KeyFile::open(&master).unwrap());
        let keyring = Keyring::open(Arc::new(Memory::default()), kms).await.unwrap();
        keyring.create(&Owner::Installation, SystemTime::now()).await.unwrap();
        let blobs = Fragile::new(&folder.path().join("blobs"), &process());
        Self {
            store: Memory::default(),
            keyring: Arc::new(keyring),
            signer: Signer::from_pkcs8(&Signer::generate()).unwrap(),
            clock: Clock::manual(UnixMs(1_796_000_000_000)),
            blobs,
            segment_len_max: SEGMENT_LEN_MAX,
            folder,
        }
    }

    fn place(&self) -> AuditPlace {
        AuditPlace {
            folder: self.folder.path().join("audit"),
            replica: None,
            machine: "host-a".to_owned(),
            process: process(),
            blobs: None,
        }
    }

    fn log(&self) -> PathBuf {
        self.place().own()
    }

    fn anchors(&self) -> StoreAnchors {
        StoreAnchors::new(Arc::new(self.store.clone()))
    }

    async fn open(&self) -> (Audit, Running) {
        let anchors = Arc::new(self.anchors());
        let clock = self.clock.clone();
        let options = Options {
            clock: Arc::new(move || clock.system_time()),
            segment_len_max: self.segment_len_max,
            ..Options::new(self.log(), process(), self.signer.clone(), anchors)
        };
        Audit::open(options).await.unwrap()
    }

    fn reader_of(&self, blobs: Arc<dyn Blobs>, place: &str) -> BlobReader {
        let (keyring, key) = (Arc::clone(&self.keyring), self.signer.public_key());
        BlobReader::new(blobs, place.to_owned(), keyring, self.anchors(), key)
    }

    fn reader(&self) -> BlobReader {
        self.reader_of(Arc::new(self.blobs.clone()), "s3://bucket/")
    }

    /// One of a process that has just begun.
    fn shipping(&self) -> Shipping {
        self.reader().shipping(&self.place(), self.signer.clone(), self.clock.clone())
    }

    async fn heads(&self) -> Vec<SignedHead> {
        self.anchors().all(&process()).await.unwrap()
    }

    async fn check(&self) -> Result<Position, Finding> {
        self.reader().check(&process(), &self.heads().await).await
    }

    /// The last lines of all segments that have ended.
    fn ends(&self) -> Vec<Position> {
        ended(&self.log(), 0).unwrap()
    }

    /// What is in the store about what is shipped.
    async fn shipped(&self) -> u64 {
        let said = shipped(&self.anchors(), &process(), self.signer.public_key()).await.unwrap();
        said.map_or(0, |said| said.segment)
    }
}

fn process() -> ProcessId {
    "control-a".parse().unwrap()
}

async fn record(audit: &Audit) -> Position {
    let event = event(Actor::System, Origin::Internal, Word::new("tests.call"), named("tests"));
    audit.record(weft_audit::Event { outcome: Outcome::Done, ..event }).await.unwrap()
}

/// Writes until so many segments have ended.
async fn end_segments(audit: &Audit, count: u64) {
    while record(audit).await.segment <= count {}
}

/// A log of which so many segments have ended, and which is closed.
async fn lab_with(count: u64) -> Lab {
    let lab = Lab::new().await;
    let (audit, running) = lab.open().await;
    end_segments(&audit, count).await;
    drop(audit);
    running.finished().await;
    lab
}

/// Every byte that is in the blob store.
fn stored(lab: &Lab) -> Vec<Vec<u8>> {
    let folder = lab.folder.path().join("blobs").join(process().as_str());
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| fs::read(path).unwrap()).collect()
}

#[tokio::test]
async fn what_has_ended_is_shipped_sealed_and_once() {
    let lab = lab_with(3).await;
    let shipping = lab.shipping();
    shipping.pass().await.unwrap();
    let last = *lab.ends().last().unwrap();
    assert_eq!((lab.check().await.unwrap(), lab.shipped().await), (last, 3));
    assert_eq!((shipping.trouble(), lab.blobs.writes().len()), (None, 6));
    // Two objects of each, in the part of the process; the segment that grows is not among them.
    let names = lab.blobs.names().await;
    let hash = lab.ends()[0].hash;
    assert_eq!(names[..2], [format!("0000000001-{hash}.01"), format!("0000000001-{hash}.head")]);
    assert_eq!(names.len(), 6);
    // Nothing of a line or a head is legible there.
    for bytes in stored(&lab) {
        for word in ["tests", "control-a", "seq", "prev", "signature"] {
            assert!(!bytes.windows(word.len()).any(|part| part == word.as_bytes()), "{word}");
        }
    }
    // Neither this process nor the next one writes any of it again.
    shipping.pass().await.unwrap();
    lab.shipping().pass().await.unwrap();
    assert_eq!(lab.blobs.writes().len(), 6);
    let calls = lab.blobs.calls();
    shipping.pass().await.unwrap();
    assert_eq!(lab.blobs.calls(), calls, "nothing is asked when nothing has ended");
}

#[tokio::test]
async fn wherever_it_ends_the_next_one_finishes_and_writes_nothing_twice() {
    for how in [How::NotDone, How::AnswerLost] {
        let mut ended_at = 0;
        for step in 0.. {
            let lab = lab_with(2).await;
            lab.blobs.fail(step, how);
            let first = lab.shipping().pass().await;
            if lab.blobs.heal() {
                first.unwrap();
                break;
            }
            assert!(first.is_err(), "step {step}");
            ended_at = step;
            lab.shipping().pass().await.unwrap();
            assert_eq!(lab.check().await.unwrap().segment, 2, "step {step}");
            let mut writes = lab.blobs.writes();
            let count = writes.len();
            writes.sort();
            writes.dedup();
            assert_eq!((writes.len(), count), (4, 4), "step {step}: {writes:?}");
        }
        assert!(ended_at >= 8, "{ended_at}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_take_how_far_it_is_is_asked_again() {
    for fault in [StoreFault::Unavailable, StoreFault::UnknownMade, StoreFault::UnknownNotMade] {
        let lab = lab_with(2).await;
        lab.store.fail_commit(1, fault);
        let shipping = lab.shipping();
        assert!(matches!(shipping.pass().await, Err(ShipError::Anchors(_))));
        assert!(shipping.trouble().unwrap().starts_with("2 segments wait: how far it is shipped"));
        shipping.pass().await.unwrap();
        assert_eq!((lab.shipped().await, shipping.trouble()), (2, None));
        assert_eq!((lab.check().await.unwrap().segment, lab.blobs.writes().len()), (2, 4));
    }
}

#[tokio::test]
async fn a_blob_store_that_hangs_holds_up_nothing_and_is_said() {
    let lab = Lab::new().await;
    let (audit, running) = lab.open().await;
    end_segments(&audit, 2).await;
    let shipping = Arc::new(lab.shipping());
    lab.blobs.hang(true);
    let passing = {
        let shipping = Arc::clone(&shipping);
        tokio::spawn(async move { shipping.pass().await })
    };
    while lab.blobs.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!shipping.look() && shipping.trouble().is_none());
    lab.clock.advance(LAG_MAX);
    assert!(shipping.look());
    let trouble = shipping.trouble().unwrap();
    assert_eq!(trouble, "2 segments wait: the blob store has not answered yet");
    // What is recorded is not waiting for it, and no second call is made beside the one that hangs.
    end_segments(&audit, 4).await;
    assert!(!shipping.look() && !passing.is_finished());
    assert_eq!(lab.blobs.waiting(), 1);
    lab.blobs.hang(false);
    passing.await.unwrap().unwrap();
    shipping.pass().await.unwrap();
    assert!(shipping.look() && shipping.trouble().is_none());
    assert_eq!(lab.shipped().await, 4);
    drop(audit);
    running.finished().await;
    assert_eq!(lab.check().await.unwrap().segment, 4);
}

#[tokio::test]
async fn a_blob_store_that_lies_is_not_believed() {
    for (lie, said) in [
        (Lie::Forgets, "does not exist"),
        (Lie::Changes, "is there with another content; it is left as it is"),
        (Lie::AnswersOther, "is there with another content; it is left as it is"),
    ] {
        let lab = lab_with(2).await;
        lab.blobs.lie(Some(lie));
        let shipping = lab.shipping();
        let error = shipping.pass().await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(lab.shipped().await, 0);
        assert!(shipping.trouble().unwrap().contains(said));
        lab.blobs.lie(None);
        if lie == Lie::Changes {
            // It stays for somebody to look at, and goes on when they have removed it.
            assert!(shipping.pass().await.unwrap_err().to_string().contains(said));
            let name = error.split("control-a/").nth(1).unwrap().split(' ').next().unwrap();
            lab.blobs.remove(name).await;
        }
        shipping.pass().await.unwrap();
        assert_eq!(lab.check().await.unwrap().segment, 2);
    }
}

#[tokio::test]
async fn what_is_there_with_another_content_is_left_as_it_is() {
    for kind in [ObjectKind::Piece(1), ObjectKind::Head] {
        let lab = lab_with(2).await;
        let Position { segment, hash, .. } = lab.ends()[0];
        let name = ObjectName { segment, hash, kind }.to_string();
        lab.blobs.set(&name, b"somebody else's").await;
        let error = lab.shipping().pass().await.unwrap_err().to_string();
        let said = format!("the blob store: object control-a/{name} is there with another content");
        assert!(error.starts_with(&said), "{error}");
        assert_eq!(lab.blobs.get(&name).await, b"somebody else's"[..]);
        assert_eq!(lab.shipped().await, 0);
    }
}

#[tokio::test]
async fn what_is_damaged_here_is_not_shipped() {
    let lab = lab_with(2).await;
    let path = lab.log().join("0000000002.jsonl");
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let at = whole.windows(5).position(|part| part == b"tests").unwrap();
    changed[at] ^= 1;
    fs::write(&path, changed).unwrap();
    let shipping = lab.shipping();
    let error = shipping.pass().await.unwrap_err();
    assert!(matches!(error, ShipError::Log(_)), "{error}");
    assert_eq!((lab.shipped().await, lab.blobs.names().await.len()), (1, 2));
    fs::write(&path, whole).unwrap();
    shipping.pass().await.unwrap();
    assert_eq!(lab.check().await.unwrap().segment, 2);
}

#[tokio::test]
async fn a_place_that_lost_what_it_had_gets_nothing_and_another_one_everything() {
    let lab = lab_with(3).await;
    lab.shipping().pass().await.unwrap();
    let names = lab.blobs.names().await;
    lab.blobs.remove(names.last().unwrap()).await;
    let (audit, running) = lab.open().await;
    end_segments(&audit, 4).await;
    drop(audit);
    running.finished().await;
    let error = lab.shipping().pass().await.unwrap_err();
    assert!(matches!(error, ShipError::Lost(_)), "{error}");
    assert_eq!(lab.blobs.writes().len(), 6);
    let other = Fragile::new(&lab.folder.path().join("others"), &process());
    let reader = lab.reader_of(Arc::new(other.clone()), "s3://others/");
    let refused = reader.check(&process(), &[]).await.unwrap_err().to_string();
    assert!(refused.contains("it is shipped to s3://bucket/, not to s3://others/"), "{refused}");
    let shipping = reader.shipping(&lab.place(), lab.signer.clone(), lab.clock.clone());
    shipping.pass().await.unwrap();
    assert_eq!(other.writes().len(), 8);
    assert_eq!(reader.check(&process(), &lab.heads().await).await.unwrap().segment, 4);
}

#[tokio::test]
async fn who_has_the_store_only_is_not_believed_about_what_is_shipped() {
    let lab = lab_with(2).await;
    let forged = Shipped {
        process: process(),
        place: "s3://bucket/".to_owned(),
        segment: 9,
        seq: 99,
        hash: weft_audit::Digest::NONE,
        at: "2026-11-30T00:00:00.000000Z".parse().unwrap(),
    };
    let other = Signer::from_pkcs8(&Signer::generate()).unwrap();
    lab.anchors().set_shipped(&other.sign(forged)).await.unwrap();
    lab.shipping().pass().await.unwrap();
    assert_eq!((lab.shipped().await, lab.check().await.unwrap().segment), (2, 2));
}

#[tokio::test]
async fn a_copy_is_a_log_and_nothing_stays_of_one_that_is_wrong() {
    let lab = lab_with(3).await;
    lab.shipping().pass().await.unwrap();
    let to = lab.folder.path().join("copy").join("control-a");
    fs::create_dir(to.parent().unwrap()).unwrap();
    let last = lab.reader().fetch(&process(), &to).await.unwrap();
    assert_eq!(last, *lab.ends().last().unwrap());
    let found = verify(&to, &process(), &[], &[lab.signer.public_key()]).unwrap();
    assert_eq!((found.segments, found.last), (3, last));
    for segment in ["0000000001.jsonl", "0000000003.jsonl"] {
        let (own, copy) = (fs::read(lab.log().join(segment)), fs::read(to.join(segment)));
        assert_eq!(own.unwrap(), copy.unwrap());
    }
    assert!(lab.reader().fetch(&process(), &to).await.is_err(), "there is something already");
    let names = lab.blobs.names().await;
    lab.blobs.remove(&names[2]).await;
    let other = to.with_file_name("other");
    assert!(lab.reader().fetch(&process(), &other).await.is_err());
    let empty = lab.reader().fetch(&"control-b".parse().unwrap(), &other).await.unwrap_err();
    let said = "nothing of the log of control-b is in s3://bucket/";
    assert_eq!(empty.to_string(), said);
    assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_has_expired_may_be_removed_there_and_nothing_else() {
    let lab = Lab::new().await;
    let (audit, running) = lab.open().await;
    for _ in 0..4 {
        record(&audit).await;
        lab.clock.advance(DAY);
    }
    record(&audit).await;
    let shipping = lab.shipping();
    shipping.pass().await.unwrap();
    let names = lab.blobs.names().await;
    lab.clock.advance(DAY * u32::try_from(RETENTION_DAYS - 1).unwrap());
    let stub = audit.expire().await.unwrap().unwrap();
    let expired = stub.unverified().segment;
    assert!((1..4).contains(&expired), "{expired}");
    shipping.pass().await.unwrap();
    drop(audit);
    running.finished().await;
    assert!(lab.blobs.names().await.iter().any(|name| name.ends_with(".expired")));
    let last = lab.check().await.unwrap();
    let is_expired = |name: &&String| name.parse::<ObjectName>().unwrap().segment <= expired;
    for name in names.iter().filter(is_expired) {
        lab.blobs.remove(name).await;
        assert_eq!(lab.check().await.unwrap(), last);
    }
    // The copy has the stub, too.
    let to = lab.folder.path().join("control-a");
    lab.reader().fetch(&process(), &to).await.unwrap();
    let found = verify(&to, &process(), &[], &[lab.signer.public_key()]).unwrap();
    assert_eq!((found.expired, found.last), (stub.unverified().seq, last));
    let stub = lab.blobs.names().await.into_iter().find(|name| name.ends_with(".expired"));
    lab.blobs.remove(&stub.unwrap()).await;
    assert_eq!(lab.check().await.unwrap_err().fault, Fault::Missing(1));
}
