//! The real helper with real interfaces in namespaces of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    net::UdpSocket,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, SigSet, Signal},
    unistd::Pid,
};
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use tempfile::TempDir;
use weft_helper::{Client, Ids, Interface, Name, Origin};
use weft_sys::{
    netns::Netns,
    poll::{Epoll, Events},
    tun::TunQueue,
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("weftd.sock.helper")
    }

    fn records(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("weftd.sock.helper.d"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("weft.toml")
    }

    fn connect(&self) -> Client {
        let program = Path::new(env!("CARGO_BIN_EXE_weft-helper"));
        Client::connect(&self.socket(), program, Some(&self.config()), None).unwrap()
    }

    /// Writes a configuration with these attachments, where they are.
    fn configure(&self, attachments: &[(&str, &Path)]) {
        let mut text = "[[environment]]\nid = \"acme\"\n".to_owned();
        for (name, netns) in attachments {
            let netns = netns.display();
            writeln!(text, "[[environment.attachment]]\nname = \"{name}\"\nnetns = \"{netns}\"")
                .unwrap();
        }
        fs::write(self.config(), text).unwrap();
    }

    /// The process that serves this host.
    fn helper(&self) -> Option<u32> {
        let socket = self.socket().into_os_string().into_string().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.contains(&socket))
        })
    }

    fn kill(&self) {
        let pid = self.helper().unwrap();
        let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(status.success());
        wait_for("the end of the helper", || self.helper().is_none());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.helper().is_some() {
            let _ = self.connect().end();
        }
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A container's namespace, whose path leads to it as long as this lives.
struct Container(Netns);

impl Container {
    fn new() -> Self {
        Self(Netns::create().unwrap())
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_fd().as_raw_fd()).into()
    }

    fn interfaces(&self) -> Vec<String> {
        let list = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let text = self.0.run(list).unwrap();
        let lines = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        lines.filter(|name| name.starts_with("weft")).collect()
    }

    /// A socket that is connected through the interface.
    fn udp(&self) -> UdpSocket {
        let open = || {
            let socket = UdpSocket::bind("10.40.0.2:4000").unwrap();
            socket.connect("10.40.0.3:4000").unwrap();
            socket
        };
        self.0.run(open).unwrap()
    }
}

fn interface(container: &Container, attachment: &str) -> Interface {
    Interface {
        name: name(attachment),
        netns: container.path(),
        interface: "weft0".into(),
        addresses: vec![("10.40.0.2".parse().unwrap(), 16)],
        queues: 2,
        mtu: 1408,
        gso_max_size: 60_500,
        gso_max_segs: 64,
        queue_len: 100,
    }
}

fn name(attachment: &str) -> Name {
    ("acme".to_owned(), attachment.to_owned()).try_into().unwrap()
}

/// Whether a UDP packet comes out of one of the queues.
fn comes_out(queues: &[TunQueue]) -> bool {
    let epoll = Epoll::new().unwrap();
    for (i, queue) in queues.iter().enumerate() {
        epoll.add(queue.as_fd(), i as u64, false).unwrap();
    }
    let mut events = Events::with_capacity(8);
    let mut packet = [0; 2048];
    while epoll.wait(&mut events, Some(Duration::from_millis(300))).unwrap() > 0 {
        for queue in queues {
            while let Ok(len) = queue.read(&mut packet) {
                if packet[..len].ends_with(b"hello") {
                    return true;
                }
            }
        }
    }
    false
}

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
fn what_is_wrong_is_said() {
    let (host, container) = (Host::new(), Container::new());
    host.configure(&[("web-1", &container.path()), ("web-2", &container.path())]);
    let client = host.connect();
    for (wanted, expected) in [
        (
            Interface { netns: "/run/netns/none".into(), ..interface(&container, "web-1") },
            "netns /run/netns/none cannot be opened as a network namespace",
        ),
        (
            Interface { netns: "/proc/self/ns/net".into(), ..interface(&container, "web-1") },
            "is this host's own",
        ),
        (
            Interface { netns: "/etc/hostname".into(), ..interface(&container, "web-1") },
            "expected a network namespace",
        ),
        (
            Interface { interface: "a/b".into(), ..interface(&container, "web-1") },
            "expected 1 to 15 printable ASCII characters",
        ),
        (Interface { queues: 65, ..interface(&container, "web-1") }, "queues 65: expected 1 to 64"),
    ] {
        let error = client.open(&wanted).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(container.interfaces().is_empty() && host.records().is_empty());
    client.open(&interface(&container, "web-1")).unwrap();
    let error = client.open(&interface(&container, "web-2")).unwrap_err().to_string();
    assert!(error.contains("has an interface weft0 already"), "{error}");

    let config = host.config();
    let nowhere =
        Client::connect(&host.socket(), Path::new("/no/such/weft-helper"), Some(&config), None);
    assert!(nowhere.is_ok(), "one is there");
    let elsewhere = Host::new();
    let error = Client::connect(&elsewhere.socket(), Path::new("/no/such/weft-helper"), None, None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("cannot start /no/such/weft-helper"), "{error}");
}

#[test]
fn only_namespaces_that_are_meant_are_entered() {
    let (host, meant, stranger) = (Host::new(), Container::new(), Container::new());
    host.configure(&[("web-1", &meant.path())]);
    let client = host.connect();
    for wanted in [
        // Somebody else's container, under a name that is right and under one that nobody knows.
        Interface { netns: stranger.path(), ..interface(&meant, "web-1") },
        interface(&stranger, "web-9"),
        interface(&meant, "web-9"),
    ] {
        let error = client.open(&wanted).unwrap_err().to_string();
        assert!(error.contains("is not registered for"), "{error}");
    }
    // The daemon, which this process is here, cannot say what is meant.
    let error = weft_helper::register(&host.socket(), name("web-9"), &stranger.path()).unwrap_err();
    assert!(error.to_string().contains("the daemon may not register"), "{error}");
    assert!(meant.interfaces().is_empty() && stranger.interfaces().is_empty());
    client.open(&interface(&meant, "web-1")).unwrap();
}

/// Runs `work` as another user.
fn as_user<T: Send>(ids: Ids, work: impl FnOnce() -> T + Send) -> T {
    let become_user = || {
        let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(become_user).join().unwrap())
}

#[test]
fn root_and_the_daemon_s_user_are_heard_and_nobody_else() {
    let (host, container) = (Host::new(), Container::new());
    fs::set_permissions(host.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    host.configure(&[("web-1", &container.path())]);
    let program = Path::new(env!("CARGO_BIN_EXE_weft-helper"));
    let user = Ids { uid: 65_534, gid: 65_533 };
    let connect = || Client::connect(&host.socket(), program, Some(&host.config()), Some(user));
    let client = connect().unwrap();
    client.open(&interface(&container, "web-1")).unwrap();
    // The socket stays root's, so that the daemon cannot let others in.
    let socket = fs::metadata(host.socket()).unwrap();
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o777), (0, 65_533, 0o660));
    let queues = as_user(user, || {
        let again = connect().unwrap();
        let error = weft_helper::register(&host.socket(), name("web-9"), Path::new("/x"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("user 65534 may not register"), "{error}");
        again.open(&interface(&container, "web-1")).unwrap().1.len()
    });
    assert_eq!(queues, 2);
    for (stranger, expected) in [
        (Ids { uid: 65_532, ..user }, "expected the daemon's user, or root"),
        (Ids { uid: 65_532, gid: 65_532 }, "Permission denied"),
    ] {
        let error = as_user(stranger, || connect().unwrap_err().to_string());
        assert!(error.contains(expected), "{error}");
    }
    // A daemon that is root again has a helper of its own.
    let first = host.helper();
    host.connect().end().unwrap();
    assert_ne!(first, None);
}

#[test]
fn what_a_daemon_leaves_is_removed_and_what_it_keeps_is_not() {
    let host = Host::new();
    host.configure(&[]);
    let client = host.connect();
    let api = host.folder.path().join("weftd.sock");
    let state = weft_helper::state_beside(&api);
    for is_kept in [true, false] {
        let _listener = UnixListener::bind(&api).unwrap();
        fs::create_dir_all(&state).unwrap();
        if is_kept {
            fs::write(state.join("kept"), "").unwrap();
        }
        client.leave().unwrap();
        assert_eq!((api.exists(), state.exists()), (false, is_kept));
        let _ = fs::remove_file(state.join("kept"));
    }
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
