//! Whatever is done to a log afterwards is found.

use std::{collections::BTreeMap, fs};

use proptest::prelude::*;

use super::*;
use crate::{
    fault::Fault,
    signed::{Signed, SignedHead},
};

/// Logs of two processes with the anchors of the first, in memory.
#[derive(Debug, Clone, PartialEq)]
struct Logs {
    own: BTreeMap<u64, Vec<Vec<u8>>>,
    other: BTreeMap<u64, Vec<Vec<u8>>>,
    anchors: Vec<Vec<u8>>,
    key: PublicKey,
}

impl Logs {
    /// Whether there is something at every place that a tampering may choose.
    fn is_dense(&self) -> bool {
        let numbers = 1..=self.own.len() as u64;
        let lines = self.own.values().all(|lines| !lines.is_empty());
        let bytes = self.own.values().flatten().all(|line| !line.is_empty());
        !self.own.is_empty() && lines && bytes && numbers.eq(self.own.keys().copied())
    }
}

impl Logs {
    /// Takes bytes from the end of the last segment.
    fn cut_off(&mut self, bytes: usize) {
        let Some(mut last) = self.own.last_entry() else { return };
        if let Some(line) = last.get_mut().last_mut() {
            line.truncate(line.len() - bytes);
        }
    }
}

fn read(folder: &std::path::Path) -> BTreeMap<u64, Vec<Vec<u8>>> {
    let segment = |segment| {
        let bytes = fs::read(path_of(folder, segment)).unwrap();
        (segment, bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
    };
    list(folder).unwrap().into_iter().map(segment).collect()
}

fn logs() -> &'static Logs {
    static LOGS: std::sync::OnceLock<Logs> = std::sync::OnceLock::new();
    LOGS.get_or_init(|| {
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let lab = Lab::with_short_segments();
                let other = Lab {
                    store: lab.store.clone(),
                    signer: lab.signer.clone(),
                    ..Lab::with_short_segments()
                };
                let mut foreign = other.options();
                foreign.process = "control-b".parse().unwrap();
                let foreign = Audit::open_on(foreign, Box::new(other.disk.clone())).await.unwrap();
                for _ in 0..3 {
                    let log = lab.open().await;
                    for _ in 0..5 {
                        log.0.record(event("a")).await.unwrap();
                        foreign.0.record(event("a")).await.unwrap();
                    }
                    lab.close(log).await;
                    lab.pass(DAY_SECONDS);
                }
                other.close(foreign).await;
                let anchors = lab.anchors().all(&process()).await.unwrap();
                Logs {
                    own: read(&lab.folder),
                    other: read(&other.folder),
                    anchors: anchors.iter().map(Signed::encode).collect(),
                    key: lab.signer.public_key(),
                }
            })
        })
        .join()
        .unwrap()
    })
}

fn check(logs: &Logs) -> Result<Verified, String> {
    let folder = tempfile::tempdir().unwrap();
    for (segment, lines) in &logs.own {
        fs::write(path_of(folder.path(), *segment), lines.concat()).unwrap();
    }
    let anchors: Result<Vec<SignedHead>, _> =
        logs.anchors.iter().map(|bytes| Signed::parse(bytes)).collect();
    let anchors = anchors.map_err(|error| error.to_string())?;
    verify(folder.path(), &process(), &anchors, &[logs.key]).map_err(|found| found.to_string())
}

/// One thing that somebody does; indices are taken modulo what there is.
#[derive(Debug, Clone)]
enum Tampering {
    FlipBit(usize, usize, usize, u8),
    InsertByte(usize, usize, usize, u8),
    RemoveByte(usize, usize, usize),
    RemoveLine(usize, usize),
    RepeatLine(usize, usize),
    SwapLines(usize, usize, usize),
    MoveLine(usize, usize, usize, usize),
    CutOff(usize, usize),
    RemoveSegment(usize),
    RemoveLast(usize),
    SwapSegments(usize, usize),
    CopySegment(usize, usize),
    ForeignSegment(usize),
    ForeignLine(usize, usize),
    FlipAnchor(usize, usize, u8),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    use Tampering as T;
    let n = any::<usize>;
    prop_oneof![
        4 => (n(), n(), n(), 0..8u8).prop_map(|(a, b, c, d)| T::FlipBit(a, b, c, d)),
        2 => (n(), n(), n(), any::<u8>()).prop_map(|(a, b, c, d)| T::InsertByte(a, b, c, d)),
        2 => (n(), n(), n()).prop_map(|(a, b, c)| T::RemoveByte(a, b, c)),
        1 => (n(), n()).prop_map(|(a, b)| T::RemoveLine(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| T::RepeatLine(a, b)),
        1 => (n(), n(), n()).prop_map(|(a, b, c)| T::SwapLines(a, b, c)),
        1 => (n(), n(), n(), n()).prop_map(|(a, b, c, d)| T::MoveLine(a, b, c, d)),
        1 => (n(), n()).prop_map(|(a, b)| T::CutOff(a, b)),
        1 => n().prop_map(T::RemoveSegment),
        1 => n().prop_map(T::RemoveLast),
        1 => (n(), n()).prop_map(|(a, b)| T::SwapSegments(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| T::CopySegment(a, b)),
        1 => n().prop_map(T::ForeignSegment),
        1 => (n(), n()).prop_map(|(a, b)| T::ForeignLine(a, b)),
        2 => (n(), n(), 0..8u8).prop_map(|(a, b, c)| T::FlipAnchor(a, b, c)),
    ]
}

impl Tampering {
    fn apply(&self, logs: &mut Logs) {
        let count = logs.own.len() as u64;
        let nth = |number: usize| number as u64 % count + 1;
        match *self {
            Self::FlipBit(segment, line, byte, bit) => {
                let line = pick(logs.own.get_mut(&nth(segment)).unwrap(), line);
                *pick(line, byte) ^= 1 << bit;
            }
            Self::InsertByte(segment, line, at, byte) => {
                let line = pick(logs.own.get_mut(&nth(segment)).unwrap(), line);
                line.insert(at % (line.len() + 1), byte);
            }
            Self::RemoveByte(segment, line, at) => {
                let line = pick(logs.own.get_mut(&nth(segment)).unwrap(), line);
                line.remove(at % line.len());
            }
            Self::RemoveLine(segment, line) => {
                let lines = logs.own.get_mut(&nth(segment)).unwrap();
                lines.remove(line % lines.len());
            }
            Self::RepeatLine(segment, line) => {
                let lines = logs.own.get_mut(&nth(segment)).unwrap();
                let at = line % lines.len();
                lines.insert(at, lines[at].clone());
            }
            Self::SwapLines(segment, a, b) => {
                let lines = logs.own.get_mut(&nth(segment)).unwrap();
                let len = lines.len();
                lines.swap(a % len, b % len);
            }
            Self::MoveLine(from, line, to, at) => {
                let lines = logs.own.get_mut(&nth(from)).unwrap();
                let line = lines.remove(line % lines.len());
                let lines = logs.own.get_mut(&nth(to)).unwrap();
                lines.insert(at % (lines.len() + 1), line);
            }
            Self::CutOff(segment, line) => {
                let lines = logs.own.get_mut(&nth(segment)).unwrap();
                lines.truncate(line % lines.len());
            }
            Self::RemoveSegment(segment) => {
                logs.own.remove(&nth(segment));
            }
            Self::RemoveLast(number) => {
                for _ in 0..=number % 3 {
                    logs.own.pop_last();
                }
            }
            Self::SwapSegments(a, b) => {
                let (a, b) = (nth(a), nth(b));
                let (first, second) = (logs.own[&a].clone(), logs.own[&b].clone());
                logs.own.insert(a, second);
                logs.own.insert(b, first);
            }
            Self::CopySegment(from, to) => {
                let segment = logs.own[&nth(from)].clone();
                logs.own.insert(to as u64 % (count + 1) + 1, segment);
            }
            Self::ForeignSegment(segment) => {
                let at = nth(segment);
                if let Some(foreign) = logs.other.get(&at) {
                    logs.own.insert(at, foreign.clone());
                }
            }
            Self::ForeignLine(segment, line) => {
                let at = nth(segment);
                if let Some(foreign) = logs.other.get(&at) {
                    let lines = logs.own.get_mut(&at).unwrap();
                    let number = line % lines.len();
                    if let Some(foreign) = foreign.get(number) {
                        lines[number] = foreign.clone();
                    }
                }
            }
            Self::FlipAnchor(anchor, byte, bit) => {
                let anchor = pick(&mut logs.anchors, anchor);
                *pick(anchor, byte) ^= 1 << bit;
            }
        }
    }
}

fn pick<T>(all: &mut [T], number: usize) -> &mut T {
    let len = all.len();
    &mut all[number % len]
}

#[test]
fn the_logs_are_good_before_anything_is_done_to_them() {
    let logs = logs();
    assert!(logs.own.len() >= 6 && logs.other.len() >= 4 && logs.anchors.len() >= 3);
    let verified = check(logs).unwrap();
    assert_eq!(verified.anchored, verified.last.seq);
}

/// Every byte, once.
#[test]
fn a_change_of_any_byte_is_found() {
    let logs = logs();
    let folder = tempfile::tempdir().unwrap();
    let anchors: Vec<SignedHead> =
        logs.anchors.iter().map(|bytes| Signed::parse(bytes).unwrap()).collect();
    let path = |segment| path_of(folder.path(), segment);
    for (segment, lines) in &logs.own {
        fs::write(path(*segment), lines.concat()).unwrap();
    }
    for (segment, lines) in &logs.own {
        let mut bytes = lines.concat();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            fs::write(path(*segment), &bytes).unwrap();
            let found = verify(folder.path(), &process(), &anchors, &[logs.key]).unwrap_err();
            // What the last line says is vouched for by the first of the next segment.
            let next = found.file == Some(path(segment + 1)) && found.line <= 1;
            assert!(next || found.file == Some(path(*segment)), "byte {at}: {found}");
            bytes[at] ^= 1;
        }
        fs::write(path(*segment), &bytes).unwrap();
    }
    assert!(verify(folder.path(), &process(), &anchors, &[logs.key]).is_ok());
}

#[test]
fn what_is_found_is_said_with_its_place() {
    let said = |tampering: &[Tampering]| {
        let mut changed = logs().clone();
        tampering.iter().for_each(|tampering| tampering.apply(&mut changed));
        let said = check(&changed).unwrap_err();
        said.rsplit('/').next().unwrap().to_owned()
    };
    let swapped = said(&[Tampering::SwapLines(1, 1, 2)]);
    assert!(swapped.starts_with("0000000002.jsonl, line 2: the line has number"), "{swapped}");
    let missing = said(&[Tampering::RemoveSegment(1)]);
    assert_eq!(missing, "0000000003.jsonl: segment 2 is missing");
    let foreign = said(&[Tampering::ForeignSegment(0)]);
    assert_eq!(
        foreign,
        "0000000001.jsonl, line 1: the segment is of another process, or was another segment"
    );
    let end = said(&[Tampering::RemoveLast(0)]);
    assert!(end.contains("the log ends at line") && end.contains("the end was cut off"), "{end}");
    let anchor = said(&[Tampering::FlipAnchor(0, 200, 0)]);
    assert!(anchor.starts_with("an anchor") || anchor.contains("signed statement"), "{anchor}");
}

/// Who has the disk and writes a good chain anew lacks the anchor's line.
#[tokio::test]
async fn a_log_that_is_written_anew_is_not_the_one_that_was_anchored() {
    let lab = Lab::new();
    let log = lab.open().await;
    log.0.record(event("a")).await.unwrap();
    lab.close(log).await;
    let anchors = lab.anchors().all(&process()).await.unwrap();
    let forged = Lab { signer: lab.signer.clone(), ..Lab::new() };
    let log = forged.open().await;
    log.0.record(event("b")).await.unwrap();
    log.0.record(event("c")).await.unwrap();
    forged.close(log).await;
    let error = verify(&forged.folder, &process(), &anchors, &lab.trusted()).unwrap_err();
    assert_eq!((error.fault, error.line), (Fault::Anchor, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    /// Whatever somebody does, in whatever order: it is found, unless every line is as it was. What comes after
    /// the last line without an end is told as unfinished.
    #[test]
    fn any_tampering_is_found(all in proptest::collection::vec(tampering(), 1..4)) {
        let mut changed = logs().clone();
        for tampering in &all {
            if changed.is_dense() {
                tampering.apply(&mut changed);
            }
        }
        if let Ok(verified) = check(&changed) {
            changed.cut_off(usize::try_from(verified.unfinished).unwrap());
            prop_assert_eq!(&changed, logs());
        }
    }
}
