//! What is printed, what the daemon is asked, and exit codes.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener,
        process::CommandExt,
    },
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    fake::Fake,
    run::{bad, good, net, ran, weft},
};

const STATUS: &str = "\
host-a  weftd 0.1.0, epoll, 2 workers, up 3 h 12 min, 18.0 MiB, listens on 192.0.2.1:5820

environment acme  10.40.0.0/16  certificate until 2027-01-15 08:00:00 UTC
  ATTACHMENT  STATE  ADDRESSES  INTERFACE     RECEIVES        SENDS  RECEIVED     SENT  NAMESPACE
  web-1       up     10.40.0.2  weft0      16.0 Mbit/s  2.00 Gbit/s  1.91 MiB  238 MiB  /run/netns/web1
  PEER    SESSION                  AGE  KEY               RECEIVES        SENDS  RECEIVED     SENT  HANDSHAKES      ENDPOINT        ADDRESSES
  host-b  established (client)  12 min  epoch 6, 48 s  16.0 Mbit/s  2.00 Gbit/s  1.91 MiB  238 MiB  2 ok, 0 failed  192.0.2.2:5820  10.40.0.3, 10.40.0.4, 10.40.0.5 and 2 more
  dropped  source 12, replay 3

environment globex  10.40.0.0/16, fd40::/64
  ATTACHMENT  STATE   ADDRESSES           INTERFACE  RECEIVES    SENDS  RECEIVED  SENT  NAMESPACE
  web-1       failed  10.40.0.2, fd40::2  weft0       0 bit/s  0 bit/s       0 B   0 B  /run/netns/web1
  web-1: weft0 exists already
  PEER    SESSION  AGE  KEY  RECEIVES    SENDS  RECEIVED  SENT  HANDSHAKES      ENDPOINT        ADDRESSES
  host-b  backoff             0 bit/s  0 bit/s       0 B   0 B  0 ok, 4 failed  192.0.2.2:5820
  host-b: last handshake: certificate \u{fffd}[2Jexpired

of no environment
  dropped  unknown_index 17
";

const TOP: &str = "\
host-a  weftd 0.1.0, epoll, 2 workers, up 3 h 12 min, 18.0 MiB, listens on 192.0.2.1:5820

ENVIRONMENT, PEER  SESSION                  RECEIVES        SENDS  RECEIVES    SENDS  DROPS  LAST 30 S
acme               1 of 1                16.0 Mbit/s  2.00 Gbit/s  2.00 k/s  200 k/s   0 /s  █
  host-b           established (client)  16.0 Mbit/s  2.00 Gbit/s  2.00 k/s  200 k/s
";

#[test]
fn status_is_a_table() {
    let fake = Fake::start();
    let ran = net(&fake.socket(), "status");
    assert_eq!(ran.out, STATUS);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn status_of_one_environment() {
    let fake = Fake::start();
    let out = net(&fake.socket(), "status --env globex").out;
    assert!(out.contains("environment globex") && !out.contains("acme"), "{out}");
}

#[test]
fn status_as_json() {
    let fake = Fake::start();
    let ran = net(&fake.socket(), "status --json");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["host"], "host-a");
    assert_eq!(json["resident_bytes"], 18 << 20);
    assert_eq!(json["workers"][0]["cpu"], Value::Null);
    assert_eq!(json["workers"][1]["cpu"], 1);
    assert_eq!(json["drops"]["unknown_index"], 17);
    let acme = &json["environments"][0];
    assert_eq!(acme["id"], "acme");
    assert_eq!(acme["drops"]["replay"], 3);
    assert_eq!(acme["attachments"][0]["state"], "up");
    assert_eq!(acme["attachments"][0]["last_error"], Value::Null);
    assert_eq!(acme["attachments"][0]["weight"], 200);
    assert_eq!(acme["attachments"][0]["egress_mbit_max"], 50);
    assert_eq!(acme["egress_mbit_max"], Value::Null);
    assert_eq!(acme["attachments"][0]["rx_packets"], 1_000);
    let peer = &acme["peers"][0];
    assert_eq!((&peer["state"], &peer["role"]), (&"established".into(), &"client".into()));
    assert_eq!((&peer["epoch"], &peer["key_age_ms"]), (&6.into(), &48_000.into()));
    assert_eq!(peer["datagram_max"], 1_472);
    assert_eq!(peer["addresses"].as_array().unwrap().len(), 5);
    let peer = &json["environments"][1]["peers"][0];
    assert_eq!((&peer["role"], &peer["epoch"]), (&Value::Null, &Value::Null));
}

#[test]
fn attach_asks_for_what_was_said() {
    let fake = Fake::start();
    let arguments = "attach --env acme --name web-1 --netns /run/netns/web1 --address 10.40.0.2";
    assert_eq!(net(&fake.socket(), arguments), good("attached web-1 to acme\n"));
    assert_eq!(net(&fake.socket(), arguments), good("web-1 was attached to acme already\n"));
    let both = "attach --env acme --name db --netns /n --address 10.40.0.5 --address6 FD40::5 --interface eth0";
    assert_eq!(net(&fake.socket(), both), good("attached db to acme\n"));
    assert_eq!(
        net(&fake.socket(), "attach --env acme --name v6 --netns /n --address6 fd40::6").code,
        0
    );
    // Which one it gets may be decided elsewhere.
    assert_eq!(net(&fake.socket(), "attach --env acme --name any --netns /n").code, 0);
    let asked = fake.asked();
    assert_eq!(asked[4], r#"attach acme any /n "" []"#);
    assert_eq!(asked[0], r#"attach acme web-1 /run/netns/web1 "" ["10.40.0.2"]"#);
    assert_eq!(asked[2], r#"attach acme db /n "eth0" ["10.40.0.5", "fd40::5"]"#);
    assert_eq!(asked[3], r#"attach acme v6 /n "" ["fd40::6"]"#);
}

#[test]
fn a_relative_namespace_is_this_folder_s() {
    let fake = Fake::start();
    let output = weft()
        .args(["net", "attach", "--env", "acme", "--name", "w", "--netns", "ns/web1"])
        .args(["--address", "10.40.0.2", "--socket"])
        .arg(fake.socket())
        .current_dir(fake.folder())
        .output()
        .unwrap();
    assert_eq!(ran(output).code, 0);
    let netns = fake.folder().join("ns/web1");
    assert_eq!(fake.asked(), [format!(r#"attach acme w {} "" ["10.40.0.2"]"#, netns.display())]);
}

#[test]
fn detach_and_peers() {
    let fake = Fake::start();
    let run = |arguments: &str| net(&fake.socket(), arguments);
    assert_eq!(run("detach --env acme --name web-1"), good("detached web-1 from acme\n"));
    let add = "peer add --env acme --endpoint [2001:db8::2]:5820 --address 10.40.0.3 --address fd40::3 --host";
    assert_eq!(run(&format!("{add} host-c")), good("added peer host-c to acme\n"));
    let there = "peer host-b of acme was there and is as asked now\n";
    assert_eq!(run(&format!("{add} host-b")), good(there));
    assert_eq!(
        run("peer remove --env acme --host host-b"),
        good("removed peer host-b from acme\n")
    );
    let asked = fake.asked();
    assert_eq!(asked[0], "detach acme web-1");
    assert_eq!(asked[1], r#"add acme host-c [2001:db8::2]:5820 ["10.40.0.3", "fd40::3"]"#);
    assert_eq!(asked[3], "remove acme host-b");
}

#[test]
fn refusals_are_the_daemon_s_sentences() {
    let fake = Fake::start();
    let run = |arguments: &str| net(&fake.socket(), arguments);
    let unknown = bad("environment initech is not on this host");
    assert_eq!(run("status --env initech"), unknown);
    assert_eq!(run("status --env initech --json"), unknown);
    assert_eq!(run("top --env initech --once"), unknown);
    assert_eq!(run("events --env initech"), unknown);
    assert_eq!(run("detach --env initech --name web-1"), unknown);
    assert_eq!(run("detach --env acme --name db"), bad("acme has no attachment db"));
    assert_eq!(
        run("attach --env acme --name w --netns /missing --address 10.40.0.2"),
        bad("there is no network namespace at /missing")
    );
    let wordless = run("peer remove --env acme --host host-z");
    assert!(
        wordless.code == 1 && wordless.err.starts_with("weft: weftd refused: "),
        "{wordless:?}"
    );
}

#[test]
fn usage_errors_exit_with_2() {
    let fake = Fake::start();
    for arguments in [
        "",
        "attach --env acme --name w --address 10.40.0.2",
        "attach --env ACME --name w --netns /n --address 10.40.0.2",
        "attach --env acme --name w --netns /n --address fd40::2",
        "attach --env acme --name w --netns /n --address6 10.40.0.2",
        "detach --env acme",
        "peer add --env acme --host b --endpoint 192.0.2.2",
        "peer",
        "status --yaml",
    ] {
        let ran = net(&fake.socket(), arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments}");
        assert!(ran.err.contains("error: ") || ran.err.contains("Usage:"), "{}", ran.err);
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_daemon_that_does_not_run() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("weftd.sock");
    let shown = socket.display();
    for arguments in ["status", "top", "events", "detach --env acme --name w"] {
        let expected = format!("weftd is not running: there is no socket at {shown}");
        assert_eq!(net(&socket, arguments), bad(&expected));
    }
    drop(UnixListener::bind(&socket).unwrap());
    let expected = format!("weftd is not running: nobody listens on {shown}");
    assert_eq!(net(&socket, "status"), bad(&expected));
}

#[test]
fn somebody_else_on_the_socket() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("weftd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 smtp.example ready\r\n").unwrap();
        drop(listener);
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let ran = net(&socket, "status");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with("weft: the connection broke"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    server.join().unwrap();
}

#[test]
fn a_socket_of_another_user() {
    let fake = Fake::start();
    let mut command = if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Where another user may execute it.
        let program = std::env::temp_dir().join(format!("weft-{}", std::process::id()));
        // Another process copies, so that no child of another test holds it open for writing.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_weft")).arg(&program).status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(program);
        command.uid(65_534).gid(65_534);
        command
    } else {
        fs::set_permissions(fake.socket(), fs::Permissions::from_mode(0o000)).unwrap();
        weft()
    };
    let output = command.args(["net", "status", "--socket"]).arg(fake.socket()).output();
    let program = command.get_program();
    if program != env!("CARGO_BIN_EXE_weft") {
        fs::remove_file(program).unwrap();
    }
    let shown = fake.socket().display().to_string();
    assert_eq!(
        ran(output.unwrap()),
        bad(&format!("permission denied for {shown}: only root may use it"))
    );
}

#[test]
fn events_are_lines() {
    let fake = Fake::start();
    let expected = "\
2027-01-15 08:00:00 UTC  peer added  acme  host-b
2027-01-15 08:00:00 UTC  session established  acme  host-b  as client in 12 ms
1970-01-01 00:00:00 UTC  (2 events missed)  stopping
";
    assert_eq!(net(&fake.socket(), "events"), good(expected));
    let ran = net(&fake.socket(), "events --json");
    let events: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[1]["kind"], "session_established");
    assert_eq!(events[1]["attachment"], Value::Null);
    assert_eq!(events[2]["missed"], 2);
}

#[test]
fn top_prints_once_where_there_is_no_terminal() {
    let fake = Fake::start();
    assert_eq!(net(&fake.socket(), "top --env acme"), good(TOP));
    assert_eq!(net(&fake.socket(), "top --env acme --once").code, 0);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let fake = Fake::start();
    let mut child = weft()
        .args(["net", "status", "--socket"])
        .arg(fake.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
