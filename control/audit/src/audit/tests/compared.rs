//! The log beside the second host's copy.

use std::{fs, path::Path};

use super::{replicated::with_host, *};
use crate::{
    compare::{Compared, compare},
    fault::Fault,
};

/// Takes the last line away.
fn shorten(folder: &Path) {
    let last = path_of(folder, *list(folder).unwrap().last().unwrap());
    let bytes = fs::read(&last).unwrap();
    let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    fs::write(&last, &bytes[..=end]).unwrap();
}

#[tokio::test]
async fn what_the_second_host_has_otherwise_or_lacks_is_named_by_its_number() {
    let (lab, host) = with_host(Lab::with_short_segments());
    let log = lab.open().await;
    let mut last = log.0.status().last;
    for _ in 0..10 {
        last = log.0.record(event("a")).await.unwrap();
    }
    lab.close(log).await;
    let there = host.folder.folder_of(&process());
    let compare = |required| compare(&lab.folder, &there, &process(), &lab.trusted(), required);
    let same = Compared { through: last.seq, ahead: None };
    assert_eq!(compare(last.seq).unwrap(), same);
    let whole = there.with_extension("whole");
    crate::copy(&there, &whole).unwrap();
    let restore = || {
        fs::remove_dir_all(&there).unwrap();
        crate::copy(&whole, &there).unwrap();
    };

    shorten(&there);
    assert_eq!(compare(last.seq).unwrap_err().fault, Fault::Lacks(last.seq));
    let on_its_way = compare(last.seq - 1).unwrap();
    assert_eq!(on_its_way, Compared { through: last.seq - 1, ahead: None });
    restore();

    // A line of each segment, in turn.
    let mut seq = 0;
    for segment in list(&there).unwrap() {
        let path = path_of(&there, segment);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        fs::write(&path, changed).unwrap();
        assert_eq!(compare(0).unwrap_err().fault, Fault::Differs(seq + 1));
        fs::remove_file(&path).unwrap();
        let error = compare(last.seq).unwrap_err();
        assert_eq!((error.fault, error.file.unwrap()), (Fault::Lacks(seq + 1), path.clone()));
        fs::write(&path, &bytes).unwrap();
        seq += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    fs::remove_dir_all(&there).unwrap();
    assert_eq!(compare(0).unwrap_err().fault, Fault::Absent);
}

#[tokio::test]
async fn what_was_taken_from_the_log_and_is_on_the_second_host_is_found() {
    let (lab, host) = with_host(Lab::with_short_segments());
    let log = lab.open().await;
    let mut last = log.0.status().last;
    while last.segment < 3 {
        last = log.0.record(event("a")).await.unwrap();
    }
    let last = log.0.record(event("a")).await.unwrap();
    lab.close(log).await;
    let there = host.folder.folder_of(&process());
    let ahead = || {
        let compared = compare(&lab.folder, &there, &process(), &lab.trusted(), 0).unwrap();
        compared.ahead.map(|finding| finding.fault)
    };
    assert_eq!(ahead(), None);
    shorten(&lab.folder);
    assert_eq!(ahead(), Some(Fault::Ahead(last.seq)));
    fs::remove_file(path_of(&lab.folder, 3)).unwrap();
    assert_eq!(ahead(), Some(Fault::Ahead(last.seq - 2)));
}
