//! What whoever has the bucket can do, and that it is found.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::*;

/// Everything of a log of five segments, in the order of names.
async fn shipped_lab() -> (Lab, Vec<String>) {
    let lab = lab_with(5).await;
    lab.shipping().pass().await.unwrap();
    assert_eq!(lab.check().await.unwrap().segment, 5);
    let names = lab.blobs.names().await;
    assert_eq!(names.len(), 10);
    (lab, names)
}

async fn fault(lab: &Lab) -> Fault {
    lab.check().await.unwrap_err().fault
}

#[tokio::test]
async fn whatever_is_removed_is_missed() {
    let (lab, names) = shipped_lab().await;
    for name in &names {
        let bytes = lab.blobs.get(name).await;
        lab.blobs.remove(name).await;
        let finding = lab.check().await.unwrap_err();
        assert_eq!(finding.fault, Fault::ObjectMissing, "{name}");
        let said = format!("blob store/control-a/{name}: the object is missing");
        assert_eq!(finding.to_string(), said);
        lab.blobs.set(name, &bytes).await;
        lab.check().await.unwrap();
    }
    // Whole segments: the first, one between others, the last ones, and all of them.
    for (from, until, missing) in [(0, 2, 1), (4, 6, 3), (6, 10, 4), (8, 10, 5), (0, 10, 1)] {
        let mut kept = Vec::new();
        for name in &names[from..until] {
            kept.push((name, lab.blobs.get(name).await));
            lab.blobs.remove(name).await;
        }
        assert_eq!(fault(&lab).await, Fault::Missing(missing));
        for (name, bytes) in kept {
            lab.blobs.set(name, &bytes).await;
        }
        lab.check().await.unwrap();
    }
}

#[tokio::test]
async fn whatever_is_swapped_or_changed_does_not_open() {
    let (lab, names) = shipped_lab().await;
    let mut all = Vec::new();
    for name in &names {
        all.push(lab.blobs.get(name).await);
    }
    for (at, name) in names.iter().enumerate() {
        let other = &all[(at + 2) % all.len()];
        let own = &all[at];
        let mut flipped = own.clone();
        flipped[own.len() / 2] ^= 1;
        let longer = [&own[..], b"x"].concat();
        for bytes in [other, &flipped, &own[..own.len() - 1].to_vec(), &longer, &Vec::new()] {
            lab.blobs.set(name, bytes).await;
            assert_eq!(fault(&lab).await, Fault::Unopened, "{name}");
        }
        lab.blobs.set(name, own).await;
    }
    lab.check().await.unwrap();
    let lens: BTreeSet<_> = all.iter().map(Vec::len).collect();
    assert!(lens.len() > 1, "{lens:?}");
}

#[tokio::test]
async fn what_is_put_there_beside_is_found() {
    let (lab, names) = shipped_lab().await;
    let other = names[2].replace(&lab.ends()[1].hash.to_string(), &"f".repeat(64));
    let bytes = lab.blobs.get(&names[2]).await;
    lab.blobs.set(&other, &bytes).await;
    assert_eq!(fault(&lab).await, Fault::Twice(2));
    lab.blobs.remove(&other).await;
    lab.blobs.set("0000000002.jsonl", b"x").await;
    let error = lab.check().await.unwrap_err().to_string();
    assert!(error.contains("object control-a/0000000002.jsonl has a name that none"), "{error}");
    lab.blobs.remove("0000000002.jsonl").await;
    // A piece more of a segment that is whole.
    let more = names[2].replace(".01", ".02");
    lab.blobs.set(&more, &bytes).await;
    assert_eq!(fault(&lab).await, Fault::Unopened);
    lab.blobs.remove(&more).await;
    // What is on its way has no head yet.
    let next = format!("0000000006-{}.01", "0".repeat(64));
    lab.blobs.set(&next, &bytes).await;
    assert_eq!(lab.check().await.unwrap().segment, 5);
}

/// Who has the keys as well, but not the store: another log that fits in itself.
#[tokio::test]
async fn another_log_that_fits_in_itself_is_not_the_one_that_is_anchored() {
    let (lab, _) = shipped_lab().await;
    let other = Lab { signer: lab.signer.clone(), ..Lab::new().await };
    let other = Lab { keyring: Arc::clone(&lab.keyring), ..other };
    let (audit, running) = other.open().await;
    end_segments(&audit, 5).await;
    drop(audit);
    running.finished().await;
    other.shipping().pass().await.unwrap();
    // Its objects, the heads of the one.
    let reader = BlobReader { anchors: lab.anchors(), ..other.reader() };
    let found = reader.check(&process(), &lab.heads().await).await.unwrap_err();
    assert_eq!(found.fault, Fault::NotShipped);
    let none = reader.check(&process(), &[]).await.unwrap_err();
    assert_eq!(none.fault, Fault::NotShipped);
}

#[tokio::test]
async fn what_another_process_shipped_does_not_open_here() {
    let (lab, names) = shipped_lab().await;
    // As control-b's, the same bytes under the same names.
    let other: ProcessId = "control-b".parse().unwrap();
    let beside = Fragile::new(&lab.folder.path().join("blobs"), &other);
    for name in &names {
        let bytes = lab.blobs.get(name).await;
        beside.set(name, &bytes).await;
    }
    let found = lab.reader().check(&other, &[]).await.unwrap_err();
    assert_eq!(found.fault, Fault::Unopened);
    assert!(found.to_string().starts_with("blob store/control-b/0000000001-"), "{found}");
}

#[tokio::test]
async fn without_the_installations_key_nothing_opens() {
    let (lab, _) = shipped_lab().await;
    let stranger = Lab::new().await;
    let reader = BlobReader { keyring: Arc::clone(&stranger.keyring), ..lab.reader() };
    let found = reader.check(&process(), &lab.heads().await).await.unwrap_err();
    assert_eq!(found.fault, Fault::Unopened);
}

#[tokio::test]
async fn a_long_segment_goes_in_pieces_and_each_of_them_is_missed() {
    let lab = Lab { segment_len_max: 9 << 19, ..Lab::new().await };
    let (audit, running) = lab.open().await;
    while audit.status().last.segment < 2 {
        let mut writing = JoinSet::new();
        for _ in 0..256 {
            let audit = audit.clone();
            writing.spawn(async move { record(&audit).await });
        }
        writing.join_all().await;
    }
    drop(audit);
    running.finished().await;
    lab.shipping().pass().await.unwrap();
    assert_eq!(lab.check().await.unwrap(), lab.ends()[0]);
    let names = lab.blobs.names().await;
    let ends: Vec<_> = names.iter().map(|name| name.rsplit('.').next().unwrap()).collect();
    assert_eq!(ends, ["01", "02", "head"]);
    let (first, second) = (lab.blobs.get(&names[0]).await, lab.blobs.get(&names[1]).await);
    for (name, bytes) in [(&names[0], &first), (&names[1], &second)] {
        lab.blobs.remove(name).await;
        let said = format!("blob store/control-a/{name}: the object is missing");
        assert_eq!(lab.check().await.unwrap_err().to_string(), said);
        lab.blobs.set(name, bytes).await;
    }
    lab.blobs.set(&names[0], &second).await;
    lab.blobs.set(&names[1], &first).await;
    assert_eq!(fault(&lab).await, Fault::Unopened);
    lab.blobs.set(&names[0], &first).await;
    lab.blobs.set(&names[1], &second).await;
    let to = lab.folder.path().join("control-a");
    lab.reader().fetch(&process(), &to).await.unwrap();
    let own = fs::read(lab.log().join("0000000001.jsonl")).unwrap();
    assert!(fs::read(to.join("0000000001.jsonl")).unwrap() == own);
}
