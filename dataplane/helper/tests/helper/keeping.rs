//! What is kept, for whom, and for how long.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{self, SigSet, Signal},
    unistd::Pid,
};
use weft_helper::{Client, Interface, Origin};
use weft_sys::netns::Netns;

use crate::host::{Container, Host, comes_out, interface, name, wait_for};

#[test]
fn a_daemon_that_comes_back_gets_the_same_interface_and_what_waits_in_it() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path())]);
    let first = host.connect();
    let (opened, queues) = first.open(&interface(&container, "web-1")).unwrap();
    assert_eq!((opened.origin, queues.len()), (Origin::New, 2));
    let socket = container.udp();
    drop((first, queues));
    // Nobody reads: it waits.
    socket.send(b"hello").unwrap();
    let again = host.connect();
    let (opened, queues) = again.open(&interface(&container, "web-1")).unwrap();
    assert_eq!((opened.origin, queues.len()), (Origin::Held, 2));
    assert!(comes_out(&queues), "the packet is lost");
    assert_eq!(container.interfaces(), ["weft0"]);

    // What has waited for too long is thrown away.
    drop((again, queues));
    socket.send(b"hello").unwrap();
    thread::sleep(Duration::from_millis(1_200));
    let again = host.connect();
    let (_, queues) = again.open(&interface(&container, "web-1")).unwrap();
    assert!(!comes_out(&queues), "an old packet");
    socket.send(b"hello").unwrap();
    assert!(comes_out(&queues));
    again.close(name("web-1")).unwrap();
    drop(queues);
    wait_for("the end of the interface", || container.interfaces().is_empty());
}

#[test]
fn another_number_of_workers_gets_another_number_of_queues() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path())]);
    for (i, queues) in [2, 1, 3, 2].into_iter().enumerate() {
        let client = host.connect();
        let wanted = Interface { queues, ..interface(&container, "web-1") };
        let (opened, opened_queues) = client.open(&wanted).unwrap();
        assert_eq!(opened.origin, if i == 0 { Origin::New } else { Origin::Held });
        assert_eq!(opened_queues.len(), usize::from(queues));
        let socket = container.udp();
        socket.send(b"hello").unwrap();
        assert!(comes_out(&opened_queues), "{queues} queues");
    }
}

#[test]
fn what_the_next_daemon_does_not_want_goes() {
    let (host, one, other) = (Host::new(), Container::new(), Container::new());
    host.configure(&[("web-1", &one.path()), ("web-2", &other.path())]);
    let client = host.connect();
    client.open(&interface(&one, "web-1")).unwrap();
    client.open(&interface(&other, "web-2")).unwrap();
    assert_eq!(host.records().len(), 2);
    drop(client);
    let client = host.connect();
    client.open(&interface(&one, "web-1")).unwrap();
    client.settle().unwrap();
    assert_eq!((one.interfaces(), other.interfaces()), (vec!["weft0".to_owned()], vec![]));
    // Other fields make another interface, and so does another container under the same path.
    let wanted = Interface { mtu: 1300, ..interface(&one, "web-1") };
    assert_eq!(client.open(&wanted).unwrap().0.origin, Origin::New);
    host.configure(&[("web-1", &other.path())]);
    let wanted = interface(&other, "web-1");
    assert_eq!(client.open(&wanted).unwrap().0.origin, Origin::New);
    assert_eq!((one.interfaces(), other.interfaces()), (vec![], vec!["weft0".to_owned()]));
    client.end().unwrap();
    assert!(other.interfaces().is_empty());
    wait_for("the end of the helper", || host.helper().is_none());
    assert_eq!(fs::read_dir(host.folder.path()).unwrap().count(), 1, "the configuration");
}

#[test]
fn interfaces_stay_when_daemon_and_helper_are_killed() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path()), ("web-2", &container.path())]);
    let client = host.connect();
    drop(client.open(&interface(&container, "web-1")).unwrap());
    let socket = container.udp();
    host.kill();
    drop(client);
    assert_eq!(container.interfaces(), ["weft0"]);
    let client = host.connect();
    let (opened, queues) = client.open(&interface(&container, "web-1")).unwrap();
    assert_eq!(opened.origin, Origin::Adopted);
    socket.send(b"hello").unwrap();
    assert!(comes_out(&queues));

    // Its queues keep the namespace alive: only the path tells that the container is gone.
    assert_eq!(client.ended().unwrap(), []);
    let stays = container.0.run(Netns::current).unwrap().unwrap();
    drop(container);
    assert_eq!(client.ended().unwrap(), [name("web-1")]);
    drop(queues);
    client.close(name("web-1")).unwrap();
    assert!(Container(stays).interfaces().is_empty());
}

#[test]
fn what_was_left_and_is_not_wanted_goes() {
    let (host, one, other) = (Host::new(), Container::new(), Container::new());
    host.configure(&[("web-1", &one.path()), ("web-2", &other.path())]);
    let client = host.connect();
    drop(client.open(&interface(&one, "web-1")).unwrap());
    drop(client.open(&interface(&other, "web-2")).unwrap());
    host.kill();
    drop(client);
    let client = host.connect();
    // Another address: it is made anew.
    let addresses = vec![("10.40.0.9".parse().unwrap(), 16)];
    let wanted = Interface { addresses, ..interface(&one, "web-1") };
    assert_eq!(client.open(&wanted).unwrap().0.origin, Origin::New);
    client.settle().unwrap();
    assert_eq!((one.interfaces(), other.interfaces()), (vec!["weft0".to_owned()], vec![]));
}

#[test]
fn nothing_of_another_container_is_adopted() {
    let (host, own) = (Host::new(), Container::new());
    host.configure(&[("web-1", &own.path())]);
    let client = host.connect();
    drop(client.open(&interface(&own, "web-1")).unwrap());
    host.kill();
    drop(client);
    // The record now names another namespace, with an interface that looks the same.
    let stranger = Container::new();
    let elsewhere = Host::new();
    elsewhere.configure(&[("web-1", &stranger.path())]);
    let other = elsewhere.connect();
    other.open(&interface(&stranger, "web-1")).unwrap();
    let [record] = &host.records()[..] else { panic!("one record") };
    let text = fs::read_to_string(record).unwrap();
    let (from, to) = (own.path(), stranger.path());
    fs::write(record, text.replace(from.to_str().unwrap(), to.to_str().unwrap())).unwrap();
    // Even if the configuration has changed as well.
    host.configure(&[("web-1", &stranger.path())]);
    let client = host.connect();
    let error = client.open(&interface(&stranger, "web-1")).unwrap_err().to_string();
    assert!(error.contains("has an interface weft0 already"), "{error}");
    assert_eq!(stranger.interfaces(), ["weft0"]);
}

#[test]
fn records_that_are_none_are_removed() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path()), ("web-2", &container.path())]);
    let client = host.connect();
    drop(client.open(&interface(&container, "web-1")).unwrap());
    host.kill();
    drop(client);
    let [record] = &host.records()[..] else { panic!("one record") };
    let text = fs::read_to_string(record).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(record, text.replace(boot.trim(), "before")).unwrap();
    fs::write(record.with_file_name("acme.web-9"), &text).unwrap();
    fs::write(record.with_file_name("acme.web-8"), "{").unwrap();
    host.connect();
    assert!(host.records().is_empty());
}

#[test]
fn it_ends_when_nobody_needs_it() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path()), ("web-2", &container.path())]);
    let client = host.connect();
    drop(client.open(&interface(&container, "web-1")).unwrap());
    drop(client);
    thread::sleep(Duration::from_secs(4));
    assert!(host.helper().is_some(), "it has an interface to keep");
    drop(container);
    wait_for("the end of the helper", || host.helper().is_none());
    assert_eq!(fs::read_dir(host.folder.path()).unwrap().count(), 1, "the configuration");
}

#[test]
fn signals_end_it_whatever_its_starter_holds_back() {
    let host = Host::new();
    let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
    // Of this thread alone.
    signals.thread_block().unwrap();
    let client = host.connect();
    signals.thread_unblock().unwrap();
    let pid = i32::try_from(host.helper().unwrap()).unwrap();
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_for("the end of the helper", || host.helper().is_none());
    drop(client);
}

#[test]
fn it_is_started_again_when_it_is_gone() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path()), ("web-2", &container.path())]);
    let client = host.connect();
    let (_, queues) = client.open(&interface(&container, "web-1")).unwrap();
    host.kill();
    // The interface goes on without it, and the next request starts the next one.
    let socket = container.udp();
    socket.send(b"hello").unwrap();
    assert!(comes_out(&queues));
    drop(queues);
    client.close(name("web-1")).unwrap();
    assert!(container.interfaces().is_empty());
}

#[test]
fn records_are_kept_in_a_folder_of_its_own_only() {
    let host = Host::new();
    host.configure(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("file"), "content").unwrap();
    let records = host.folder.path().join("weftd.sock.helper.d");
    let refused = || {
        let output = Command::new(env!("CARGO_BIN_EXE_weft-helper"))
            .arg("--socket")
            .arg(host.socket())
            .arg("--foreground")
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("expected a folder of user 0"), "{error}");
    };
    symlink(elsewhere.path(), &records).unwrap();
    refused();
    assert!(elsewhere.path().join("file").exists(), "somebody else's file");
    fs::remove_file(&records).unwrap();
    fs::create_dir(&records).unwrap();
    chown(&records, Some(65_534), None).unwrap();
    refused();
}

#[test]
fn a_helper_with_another_configuration_makes_room() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path())]);
    let client = host.connect();
    drop(client.open(&interface(&container, "web-1")).unwrap());
    let first = host.helper().unwrap();
    let other = host.folder.path().join("other.toml");
    fs::copy(host.config(), &other).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_weft-helper"));
    let client = Client::connect(&host.socket(), program, Some(&other), None).unwrap();
    assert_ne!(host.helper().unwrap(), first);
    let (opened, _) = client.open(&interface(&container, "web-1")).unwrap();
    assert_eq!(opened.origin, Origin::Adopted);
    client.end().unwrap();
}
