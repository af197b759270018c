//! Who is heard, and what is refused.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::Path,
    thread,
};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use weft_helper::{Client, Ids, Interface};

use crate::host::{Container, Host, interface, name};

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
