//! A death at every step, with and without what was not synced.

use std::{fs, io::Write as _};

use super::*;
use crate::digest::Digest;

/// Some records over several segments; what was acknowledged.
async fn work(lab: &Lab) -> Vec<Position> {
    let Ok(log) = lab.try_open().await else { return Vec::new() };
    let mut acknowledged = Vec::new();
    for number in 0..8 {
        if let Ok(position) = log.0.record(event(&format!("a{number}"))).await {
            acknowledged.push(position);
        }
    }
    lab.close(log).await;
    acknowledged
}

async fn all_there(lab: &Lab, acknowledged: &[Position], when: &str) {
    let log = lab.try_open().await.unwrap_or_else(|error| panic!("{when}: {error}"));
    log.0.record(event("after")).await.unwrap();
    lab.close(log).await;
    let verified = lab.try_verify().await.unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(verified.anchored, verified.last.seq);
    let hashes: Vec<_> = lab.lines().iter().map(|line| Digest::of(&line.encode())).collect();
    for position in acknowledged {
        let at = usize::try_from(position.seq).unwrap() - 1;
        assert_eq!(hashes.get(at), Some(&position.hash), "{when}: line {}", position.seq);
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_death_at_any_step() {
    for keep in 0..=4 {
        let mut died_at = 0;
        for step in 0.. {
            let lab = Lab::with_short_segments();
            lab.disk.die_at(step);
            let acknowledged = work(&lab).await;
            if !lab.disk.heal() {
                break;
            }
            died_at = step;
            lab.disk.lose_power(&lab.folder, keep);
            all_there(&lab, &acknowledged, &format!("step {step}, {keep}/4 kept")).await;
        }
        assert!(died_at > 20, "{died_at} steps");
    }
}

/// The process dies, and only later the power fails: what the next process has found must be on the disk
/// before its head is anchored and before anything follows it.
#[tokio::test]
async fn what_is_found_after_a_death_outlives_a_later_loss_of_power() {
    for step in 0.. {
        let lab = Lab::with_short_segments();
        lab.disk.die_at(step);
        let mut acknowledged = work(&lab).await;
        if !lab.disk.heal() {
            break;
        }
        let log = lab.open().await;
        if step % 2 == 0 {
            acknowledged.push(log.0.record(event("b")).await.unwrap());
        }
        lab.close(log).await;
        lab.disk.lose_power(&lab.folder, 0);
        all_there(&lab, &acknowledged, &format!("step {step}")).await;
    }
}

/// A log with a torn line at its end.
async fn torn(lab: &Lab, tail: &[u8]) -> u64 {
    let log = lab.open().await;
    log.0.record(event("a")).await.unwrap();
    lab.close(log).await;
    let path = path_of(&lab.folder, 1);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(tail).unwrap();
    fs::metadata(&path).unwrap().len() - tail.len() as u64
}

fn cuts(lab: &Lab) -> Vec<crate::line::Cut> {
    let cut = |line: Line| match line.body {
        Body::Cut(cut) => Some(cut),
        _ => None,
    };
    lab.lines().into_iter().filter_map(cut).collect()
}

#[tokio::test]
async fn a_torn_line_is_cut_off_and_that_is_recorded() {
    for tail in [b"{".as_slice(), b"{\"seq\":4,\"prev\":\"00", &[0; 700]] {
        let lab = Lab::new();
        torn(&lab, tail).await;
        assert_eq!(lab.verify().await.unfinished, tail.len() as u64);
        lab.close(lab.open().await).await;
        let [cut] = &cuts(&lab)[..] else { panic!("one cut") };
        assert_eq!((cut.bytes, cut.sha256), (tail.len() as u64, Digest::of(tail)));
        assert!(!lab.folder.join("cut.json").exists());
        lab.close(lab.open().await).await;
        assert_eq!(cuts(&lab).len(), 1, "once");
        assert_eq!(lab.verify().await.unfinished, 0);
    }
}

#[tokio::test]
async fn a_cut_outlives_a_death_at_any_step_of_it() {
    for keep in 0..=4 {
        let mut died_at = 0;
        for step in 0.. {
            let lab = Lab::new();
            torn(&lab, b"{\"seq\":4").await;
            lab.disk.settle();
            lab.disk.die_at(step);
            if let Ok(log) = lab.try_open().await {
                lab.close(log).await;
            }
            if !lab.disk.heal() {
                break;
            }
            died_at = step;
            lab.disk.lose_power(&lab.folder, keep);
            let when = format!("step {step}, {keep}/4 kept");
            all_there(&lab, &[], &when).await;
            let cuts = cuts(&lab);
            // Cutting may itself tear the line that says so.
            assert!((1..=2).contains(&cuts.len()), "{when}");
            let torn = Digest::of(b"{\"seq\":4");
            assert!(cuts.iter().any(|cut| (cut.bytes, cut.sha256) == (8, torn)), "{when}");
        }
        assert!(died_at > 5, "{died_at} steps");
    }
}

#[tokio::test]
async fn anything_else_that_is_damaged_is_refused_and_named() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    for _ in 0..8 {
        log.0.record(event("a")).await.unwrap();
    }
    lab.close(log).await;
    let last = *list(&lab.folder).unwrap().last().unwrap();
    let path = path_of(&lab.folder, last);
    let whole = fs::read(&path).unwrap();
    let refused = async |what: &str| {
        let error = lab.try_open().await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains(what), "{error}");
    };
    let text = String::from_utf8(whole.clone()).unwrap();
    fs::write(&path, text.replace("alice", "mallo")).unwrap();
    refused("the line does not follow the one before").await;
    fs::write(&path, [&whole[..], b"{}\n"].concat()).unwrap();
    refused("cannot be read").await;
    fs::write(&path, b"").unwrap();
    refused("not expected here").await;
    fs::write(&path, &whole).unwrap();
    let before = path_of(&lab.folder, last - 1);
    let kept = fs::read(&before).unwrap();
    fs::write(&before, &kept[..kept.len() - 1]).unwrap();
    refused("the segment before was cut off").await;
    fs::remove_file(&before).unwrap();
    refused(&format!("segment {} is missing", last - 1)).await;
    fs::write(&before, &kept).unwrap();
    fs::write(lab.folder.join("x1.jsonl"), b"").unwrap();
    refused("the name is not one of a segment").await;
    fs::remove_file(lab.folder.join("x1.jsonl")).unwrap();
    assert!(lab.try_open().await.is_ok());
}
