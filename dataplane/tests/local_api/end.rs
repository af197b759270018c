//! How the daemon ends: in time, with the right code, and with nothing left.

use std::{fmt::Write as _, fs, io::Write as _, process::Stdio, thread, time::Duration};

use nix::sys::signal::Signal;
use weft_api::v1::AttachRequest;
use weft_sys::netns::Netns;

use crate::{
    answers::attach_request,
    daemon::{LIMIT, Lab, STOP_LIMIT, interfaces, path_of, status_of, wait_until, watch_of},
};

#[tokio::test]
async fn it_stops_whoever_hangs_on() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let daemon = lab.start(1);
    let mut client = daemon.client().await;
    // A reader of events who does not read, an idle connection, and a scrape that never ends.
    let _events = client.watch_events(watch_of("")).await.unwrap().into_inner();
    let _idle = daemon.client().await;
    let _silent = lab.connect_metrics(1);
    let mut slow = lab.connect_metrics(1);
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.stop();
}

#[tokio::test]
async fn many_interfaces_are_removed_in_time() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let daemon = lab.start(1);
    let mut client = daemon.client().await;
    // One after the other the kernel would need 2 s for these alone.
    let containers: Vec<_> = (0..100).map(|_| Netns::create().unwrap()).collect();
    for (i, container) in containers.iter().enumerate() {
        let request = AttachRequest {
            environment: "acme".into(),
            name: format!("web-{i}"),
            netns: path_of(container),
            interface: String::new(),
            addresses: vec![format!("10.40.1.{i}")],
            share: None,
        };
        daemon.register(&request.name, container);
        client.attach(request).await.unwrap();
    }
    daemon.stop();
    assert!(containers.iter().all(|container| interfaces(container) == ["lo"]));
}

#[test]
fn it_stops_before_all_interfaces_are_made() {
    let lab = Lab::new();
    let file = lab.configure(1, 1);
    let containers: Vec<_> = (0..200).map(|_| Netns::create().unwrap()).collect();
    let mut text = fs::read_to_string(&file).unwrap();
    for (i, container) in containers.iter().enumerate() {
        let netns = path_of(container);
        writeln!(text, "[[environment.attachment]]\nname = \"web-{i}\"\nnetns = \"{netns}\"")
            .unwrap();
        writeln!(text, "address = \"10.40.1.{i}\"").unwrap();
    }
    fs::write(&file, text).unwrap();
    let daemon = lab.start(1);
    wait_until("the first interface", || interfaces(&containers[0]).len() > 1);
    daemon.stop();
    assert!(containers.iter().all(|container| interfaces(container) == ["lo"]));
    assert!(!lab.log(1).contains("web-199"), "it made all interfaces first");
}

#[tokio::test]
async fn what_is_attached_waits_for_the_next_daemon() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let container = Netns::create().unwrap();
    let mut daemon = lab.start(1);
    let request = attach_request(&container, "10.40.0.9");
    daemon.register(&request.name, &container);
    daemon.client().await.attach(request.clone()).await.unwrap();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(STOP_LIMIT).code(), Some(0));
    assert!(!daemon.socket.exists());
    assert_eq!(interfaces(&container), ["lo", "weft0"]);
    let next = lab.start(1);
    let answer = next.client().await.attach(request).await.unwrap().into_inner();
    assert!(!answer.created, "it is there");
    next.stop();
    assert_eq!(interfaces(&container), ["lo"]);
}

#[test]
fn it_stops_when_nobody_reads_its_log() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let (_reader, mut log) = std::io::pipe().unwrap();
    // A pipe holds 64 KiB; the daemon's first line has to wait.
    log.write_all(&[b'\n'; 1 << 16]).unwrap();
    let mut daemon = lab.spawn(1, Stdio::from(log));
    wait_until("the API's socket", || daemon.socket.exists());
    thread::sleep(Duration::from_millis(200));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(STOP_LIMIT).code(), Some(0));
    assert!(!daemon.socket.exists());
}

#[tokio::test]
async fn what_is_taken_is_named_and_nothing_stays() {
    let lab = Lab::new();
    lab.configure(1, 1);
    let first = lab.start(1);
    // Another host of the same configuration, but for its socket.
    let file = lab.path("host-1.toml");
    let text = fs::read_to_string(&file).unwrap();
    let other_socket = text.replace("host-1.sock", "other.sock");
    fs::write(lab.path("host-2.toml"), &text).unwrap();
    fs::write(lab.path("host-3.toml"), &other_socket).unwrap();
    let other_metrics = other_socket.replace("127.0.0.1:9820", "127.0.0.1:9821");
    fs::write(lab.path("host-4.toml"), other_metrics).unwrap();
    for (number, expected) in [
        (2, "another weftd already listens on"),
        (3, "metrics: cannot listen on TCP 127.0.0.1:9820"),
        (4, "cannot listen on TCP 127.0.0.1:5820"),
    ] {
        let log = fs::File::create(lab.path(&format!("host-{number}.log"))).unwrap();
        let mut daemon = lab.spawn(number, log.into());
        assert_eq!(daemon.wait(LIMIT).code(), Some(1), "{number}");
        let log = lab.log(number);
        assert!(log.contains(expected), "{log}");
        assert!(!lab.path("other.sock").exists());
    }
    // The first one did not notice.
    assert_eq!(status_of(&first).await.host, "host-1");
    first.stop();
}
