//! What the helper cannot do, tried by a process that is confined as it is. Needs root. What it needs is
//! tried by the real helper (`helper/`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    env, fs, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{
        fs::{chown, chroot, symlink},
        net::UnixStream,
    },
    path::Path,
    process::{Command, ExitCode},
    thread,
};

use nix::{
    kmod::{DeleteModuleFlags, delete_module},
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        ptrace,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
    },
    unistd::{Pid, Uid, sethostname, setuid},
};
use rustix::thread::CapabilitySet;
use weft_sys::{netns::Netns, process::probe_bpf, ring::Ring};

/// Tells the process that is confined from the one that watches.
const FOLDER: &str = "WEFT_CONFINED_IN";
/// Commands of bpf(2).
const BPF_MAP_CREATE: u32 = 0;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;

/// Not the test harness: it has threads, and only a process of one thread is confined as a whole.
fn main() -> ExitCode {
    match env::var_os(FOLDER) {
        Some(folder) => confined(Path::new(&folder)),
        None => watch(),
    }
}

/// Starts this program again, confined, and says what it did.
fn watch() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    let status =
        Command::new(env::current_exe().unwrap()).env(FOLDER, folder.path()).status().unwrap();
    let (word, passed) = if status.success() { ("ok", 1) } else { ("FAILED", 0) };
    // As the harness says it, for whoever counts.
    println!("test result: {word}. {passed} passed; {} failed; 0 ignored", 1 - passed);
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn confined(folder: &Path) -> ExitCode {
    let mounts = fs::File::open("/proc/self/ns/mnt").unwrap();
    let network = Netns::create().unwrap();
    weft_helper::confine().unwrap();
    let mut wrong = Vec::new();
    thread::scope(|scope| {
        // A thread that is started afterwards is confined too.
        scope.spawn(|| wrong = attempts(&mounts, folder));
    });
    // What was opened before, and what it is for.
    if network.run(|| fs::read("/proc/thread-self/net/dev")).is_err() {
        wrong.push("it cannot enter a network namespace".to_owned());
    }
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = |name: &str, set: CapabilitySet| format!("{name}:\t{:016x}", set.bits());
    let none = CapabilitySet::empty();
    for line in [
        held("CapInh", none),
        held("CapPrm", needed),
        held("CapEff", needed),
        held("CapBnd", none),
        held("CapAmb", none),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ] {
        if !status.contains(&line) {
            wrong.push(format!("not {line} in {status}"));
        }
    }
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that must be refused; gives what was not. Much of it is root's with these capabilities.
fn attempts(mounts: &fs::File, folder: &Path) -> Vec<String> {
    let file = folder.join("file");
    let none = None::<&str>;
    let from = io::Error::from;
    let open = |family, kind, protocol: Option<SockProtocol>| {
        socket(family, kind, SockFlag::empty(), protocol).map(drop).map_err(io::Error::from)
    };
    let limit = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(64), hard)
    };
    let attempts: BTreeMap<&str, io::Result<()>> = [
        ("start a program", Command::new("/bin/true").status().map(drop)),
        (
            "mount",
            mount(none, "/", none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).map_err(from),
        ),
        ("unmount", umount(folder).map_err(from)),
        ("change its root", chroot(folder)),
        ("enter another kind of namespace", setns(mounts, CloneFlags::CLONE_NEWNS).map_err(from)),
        ("enter any namespace", setns(mounts, CloneFlags::empty()).map_err(from)),
        ("make a namespace", unshare(CloneFlags::CLONE_NEWNET).map_err(from)),
        ("trace", ptrace::attach(Pid::parent()).map_err(from)),
        ("signal another process", kill(Pid::parent(), Signal::SIGCONT).map_err(from)),
        ("become another user", setuid(Uid::from_raw(1)).map_err(from)),
        ("change an owner", chown(&file, Some(1), None)),
        ("change a mode", fs::set_permissions(&file, fs::metadata(&file).unwrap().permissions())),
        ("link a file", fs::hard_link(&file, folder.join("link"))),
        ("link a path", symlink(&file, folder.join("symlink"))),
        ("rename the host", sethostname("weft-confined").map_err(from)),
        (
            "remove a module",
            delete_module(c"weft_none", DeleteModuleFlags::O_NONBLOCK).map_err(from),
        ),
        ("set a limit", limit().map_err(from)),
        ("make a table for programs", probe_bpf(BPF_MAP_CREATE)),
        ("take another's program", probe_bpf(BPF_PROG_GET_FD_BY_ID)),
        ("make a ring", Ring::new().map(drop)),
        ("listen on TCP", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("connect by TCP", TcpStream::connect("127.0.0.1:1").map(drop)),
        ("open a UDP socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("call another program", UnixStream::connect(folder.join("socket")).map(drop)),
        ("open a raw socket", open(AddressFamily::Inet, SockType::Raw, None)),
        ("open a packet socket", open(AddressFamily::Packet, SockType::Raw, None)),
        (
            "change the firewall",
            open(AddressFamily::Netlink, SockType::Raw, Some(SockProtocol::NetlinkNetFilter)),
        ),
    ]
    .into();
    // Nothing else has gone wrong: every one is EPERM.
    let is_refused = |error: &io::Error| error.to_string().contains("(os error 1)");
    let done = attempts.into_iter().filter(|(_, tried)| !tried.as_ref().is_err_and(is_refused));
    done.map(|(what, tried)| format!("not refused: {what}: {tried:?}")).collect()
}
