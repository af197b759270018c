//! A second host whose disk hangs, or has torn what it did not acknowledge.

use std::{
    fs::{self, OpenOptions},
    sync::mpsc,
    thread,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    replicated::{same, with_host},
    *,
};
use crate::segment::stub_path;

/// As a disk of a network that is away: what opens this file waits for as long as it likes.
#[test]
fn a_disk_of_the_second_host_that_hangs_holds_up_nothing_else() {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        // One thread hangs; the other one is for the log.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(2);
        runtime.build().unwrap().block_on(hang());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(60)).expect("everything hangs");
}

async fn hang() {
    let (lab, host) = with_host(Lab::new());
    let log = lab.open().await;
    log.0.record(event("a")).await.unwrap();
    let hanging = stub_path(&host.folder.folder_of(&process()));
    mknodat(CWD, &hanging, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for _ in 0..4 {
        let audit = log.0.clone();
        let refused = tokio::spawn(async move { audit.record(event("b")).await });
        while !refused.is_finished() {
            tokio::time::advance(Duration::from_secs(1)).await;
            thread::sleep(Duration::from_millis(1));
        }
        let late = Refused::Replica("no answer in time".to_owned());
        assert_eq!(refused.await.unwrap(), Err(late));
    }
    let answer = OpenOptions::new().read(true).write(true).open(&hanging).unwrap();
    fs::remove_file(&hanging).unwrap();
    drop(answer);
    log.0.record(event("c")).await.unwrap();
    same(&lab, &host);
    lab.close(log).await;
}

/// What a loss of power may leave of a line from some byte on.
fn torn(line: &[u8], from: usize, how: usize) -> Vec<u8> {
    let lost = line.len() - from;
    let tail = match how {
        0 => Vec::new(),
        1 => vec![0; lost],
        2 => vec![b'\n'; lost],
        _ => [&vec![0; lost.min(3)], &line[(from + 3).min(line.len())..]].concat(),
    };
    [&line[..from], &tail].concat()
}

#[tokio::test]
async fn what_is_torn_there_is_cut_off_and_sent_again_whatever_byte_it_is() {
    let (lab, host) = with_host(Lab::new());
    let log = lab.open().await;
    let (here, there) = (path_of(&lab.folder, 1), host.folder.folder_of(&process()));
    let there = path_of(&there, 1);
    let (mut from, mut is_over) = (0, false);
    while !is_over {
        for how in 0..4 {
            log.0.record(event("a")).await.unwrap();
            let acknowledged = fs::read(&there).unwrap();
            host.away.store(true, Ordering::Relaxed);
            assert!(log.0.record(event("b")).await.is_err());
            let line = fs::read(&here).unwrap().split_off(acknowledged.len());
            let tail = torn(&line, from, how);
            fs::write(&there, [acknowledged, tail].concat()).unwrap();
            host.away.store(false, Ordering::Relaxed);
            log.0.record(event("c")).await.unwrap();
            assert_eq!(fs::read(&there).unwrap(), fs::read(&here).unwrap(), "{from} {how}");
            is_over = from == line.len();
        }
        from += 1;
    }
    lab.close(log).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_never_cut_off() {
    let (lab, host) = with_host(Lab::new());
    let log = lab.open().await;
    log.0.record(event("a")).await.unwrap();
    let there = path_of(&host.folder.folder_of(&process()), 1);
    let acknowledged = fs::read(&there).unwrap();
    for at in 0..acknowledged.len() {
        let mut changed = acknowledged.clone();
        changed[at] = 0;
        host.away.store(true, Ordering::Relaxed);
        assert!(log.0.record(event("b")).await.is_err());
        fs::write(&there, &changed).unwrap();
        host.away.store(false, Ordering::Relaxed);
        let error = log.0.record(event("c")).await.unwrap_err().to_string();
        assert!(error.contains("another log under this id"), "{at}: {error}");
        assert_eq!(fs::read(&there).unwrap(), changed);
    }
    // Nor is the line of another process, though nothing of it was acknowledged.
    let other = [&acknowledged[..], &acknowledged[..]].concat();
    fs::write(&there, &other).unwrap();
    let error = log.0.record(event("c")).await.unwrap_err().to_string();
    assert!(error.contains("another log under this id"), "{error}");
    assert_eq!(fs::read(&there).unwrap(), other);
    lab.close(log).await;
}

/// One that is sent everything again has torn what it was sent before, and this process begins anew as well.
#[tokio::test]
async fn a_new_second_host_may_tear_what_it_is_sent() {
    let (lab, host) = with_host(Lab::new());
    let log = lab.open().await;
    for _ in 0..5 {
        log.0.record(event("a")).await.unwrap();
    }
    lab.close(log).await;
    let there = path_of(&host.folder.folder_of(&process()), 1);
    let mut bytes = fs::read(&there).unwrap();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    bytes[half - 90..].fill(0);
    fs::write(&there, bytes).unwrap();
    let log = lab.open().await;
    log.0.record(event("b")).await.unwrap();
    same(&lab, &host);
    lab.close(log).await;
}
