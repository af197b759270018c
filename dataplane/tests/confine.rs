//! What a confined process cannot do, tried by a process that is confined as the daemon is. Needs root.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    env, fs, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        ptrace,
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::{Gid, Pid, Uid, setgroups, setresuid, setuid},
};
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities},
};
use weft_config::User;
use weft_sys::{
    process::lock_memory,
    ring::Ring,
    tun::{Tun, TunOptions},
};
use weftd::confine::{Confinement, Places, confine};

/// Names the folder to the process that is confined, and how it is to be.
const FOLDER: &str = "WEFT_CONFINED_IN";
const WAY: &str = "WEFT_CONFINED_HOW";
/// Stays root; becomes another user; does so where the limit on locked memory cannot be raised.
const WAYS: [&str; 3] = ["root", "user", "limited"];
/// Whom it becomes: a number that no account has.
const USER: &str = "3000000001";
/// Less than what is used afterwards, bytes.
const LIMITED: u64 = 1 << 20;
const IPC_LOCK: u64 = 1 << 14;

/// Not the test harness: it has threads, and only a process of one thread is confined as a whole.
fn main() -> ExitCode {
    match env::var_os(FOLDER) {
        Some(folder) => confined(Path::new(&folder)),
        None => watch(),
    }
}

/// Starts this program again, confined, and says what it did.
fn watch() -> ExitCode {
    let is_confined = |way: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["read", "api/state", "elsewhere"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), "content").unwrap();
        }
        let mut again = Command::new(env::current_exe().unwrap());
        again.env(FOLDER, folder.path()).env(WAY, way).status().unwrap().success()
    };
    let failed: Vec<_> = WAYS.into_iter().filter(|way| !is_confined(way)).collect();
    for way in &failed {
        println!("failed: {way}");
    }
    // As the harness says it, for whoever counts.
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = WAYS.len() - failed.len();
    println!("test result: {word}. {passed} passed; {} failed; 0 ignored", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn confined(folder: &Path) -> ExitCode {
    let [read, state, elsewhere] = ["read", "api/state", "elsewhere"].map(|name| folder.join(name));
    let way = env::var(WAY).unwrap();
    let user = (way != "root").then(|| USER.parse::<User>().unwrap().account().unwrap());
    if let Some(user) = &user {
        for path in [&state, &state.join("file")] {
            chown(path, Some(user.uid()), Some(user.gid())).unwrap();
        }
    }
    if way == "limited" {
        limit_locked_memory();
    }
    // The test itself may run in a container that has not the right to raise limits.
    let may_raise = capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE);
    lock_memory().unwrap();
    let before = Before::new(&elsewhere);
    let places = Places { read: vec![read.clone()], write: vec![state.clone()] };
    let confinement = confine(&places, user).unwrap();
    assert!(confinement.files, "this kernel has Landlock");
    assert_eq!(confinement.keeps_ipc_lock, !may_raise);
    let mut wrong = Vec::new();
    thread::scope(|scope| {
        // A thread that is started afterwards is confined too.
        scope.spawn(|| wrong = before.attempts(&elsewhere, &state));
    });
    wrong.extend(needs(&read, &state));
    wrong.extend(identity(&confinement));
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As in a container whose engine has kept `CAP_SYS_RESOURCE`.
fn limit_locked_memory() {
    let limit = Rlimit { current: Some(LIMITED), maximum: Some(LIMITED) };
    setrlimit(Resource::Memlock, limit).unwrap();
    let all = capabilities(None).unwrap();
    let kept = all.permitted - CapabilitySet::SYS_RESOURCE;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, ..all }).unwrap();
}

/// What was opened while it was allowed.
struct Before {
    namespace: fs::File,
    socket: UdpSocket,
    ring: Ring,
}

impl Before {
    fn new(elsewhere: &Path) -> Self {
        assert!(fs::read(elsewhere.join("file")).is_ok());
        Self {
            namespace: fs::File::open("/proc/self/ns/net").unwrap(),
            socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
            ring: Ring::new().unwrap(),
        }
    }

    /// Everything that must be refused; gives what was not.
    fn attempts(mut self, elsewhere: &Path, state: &Path) -> Vec<String> {
        let file = elsewhere.join("file");
        let options = TunOptions {
            name: "weft-confined",
            queues: 1,
            mtu: 1408,
            gso_max_size: 60_500,
            gso_max_segs: 64,
            queue_len: 10,
        };
        let raw = |family| {
            let flags = SockFlag::empty();
            socket(family, SockType::Raw, flags, None).map(drop).map_err(io::Error::from)
        };
        let none = None::<&str>;
        let from = io::Error::from;
        let root = Uid::from_raw(0);
        let attempts: BTreeMap<&str, io::Result<()>> = [
            ("read a file", fs::read(&file).map(drop)),
            ("write a file", fs::write(&file, "")),
            ("remove a file", fs::remove_file(&file)),
            ("make a folder", fs::create_dir(elsewhere.join("new"))),
            ("rename a file", fs::rename(&file, elsewhere.join("other"))),
            ("remove its folder", fs::remove_dir_all(state)),
            ("rename its folder", fs::rename(state, state.with_file_name("other"))),
            ("put a file beside it", fs::write(state.with_file_name("new"), "")),
            ("read passwords", fs::read("/etc/shadow").map(drop)),
            ("read another process", fs::read("/proc/1/environ").map(drop)),
            ("change an owner", chown(&file, Some(1), None)),
            ("change a mode", fs::set_permissions(state, fs::Permissions::from_mode(0o777))),
            ("open a TUN", fs::File::open("/dev/net/tun").map(drop)),
            ("make an interface", Tun::create(&options).map(drop)),
            ("start a program", Command::new("/bin/true").status().map(drop)),
            ("enter a namespace", setns(&self.namespace, CloneFlags::CLONE_NEWNET).map_err(from)),
            ("make a namespace", unshare(CloneFlags::CLONE_NEWNET).map_err(from)),
            ("mount", mount(none, "/", none, MsFlags::MS_REMOUNT, none).map_err(from)),
            ("trace", ptrace::attach(Pid::from_raw(1)).map_err(from)),
            ("signal another process", kill(Pid::parent(), Signal::SIGCONT).map_err(from)),
            ("become another user", setuid(Uid::from_raw(1)).map_err(from)),
            ("become root", setresuid(root, root, root).map_err(from)),
            ("join a group", setgroups(&[Gid::from_raw(0)]).map_err(from)),
            ("open a raw socket", raw(AddressFamily::Inet)),
            ("open a packet socket", raw(AddressFamily::Packet)),
            ("open a netlink socket", raw(AddressFamily::Netlink)),
            ("listen on TCP", TcpListener::bind("127.0.0.1:65123").map(drop)),
            ("make a ring", Ring::new().map(drop)),
            ("make such a ring", Ring::probe()),
        ]
        .into();
        // What is there still works.
        self.ring.start().unwrap();
        self.socket.send_to(b"hello", self.socket.local_addr().unwrap()).unwrap();
        let done = attempts.into_iter().filter(|(_, result)| result.is_ok());
        done.map(|(what, _)| format!("it could {what}")).collect()
    }
}

/// Everything that the daemon needs; gives what was refused, and what of the process is not as it must
/// be.
fn needs(read: &Path, state: &Path) -> Vec<String> {
    let new = state.join("new");
    let needs: BTreeMap<&str, io::Result<()>> = [
        ("read a certificate", fs::read(read.join("file")).map(drop)),
        ("list certificates", fs::read_dir(read).map(drop)),
        ("write its state", fs::write(&new, "state")),
        ("rename its state", fs::rename(&new, state.join("newer"))),
        ("read its state", fs::read(state.join("newer")).map(drop)),
        ("remove its state", fs::remove_file(state.join("newer"))),
        ("read its size", weft_sys::process::resident_bytes().map(drop)),
        ("open a UDP socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("ask a name server over UDP", ask_udp()),
        ("ask a name server over TCP", ask_tcp()),
        ("open a unix socket", UnixDatagram::unbound().map(drop)),
        ("use much memory", fill(64 << 20)),
    ]
    .into();
    let mut wrong: Vec<_> = needs
        .into_iter()
        .filter_map(|(what, result)| Some(format!("it cannot {what}: {}", result.err()?)))
        .collect();
    // Refused by the other end, not here.
    let connected = TcpStream::connect("127.0.0.1:1").unwrap_err();
    if connected.kind() != io::ErrorKind::ConnectionRefused {
        wrong.push(format!("it cannot connect: {connected}"));
    }
    wrong
}

/// A question and its answer, from a connected socket, as names are asked outside.
fn ask_udp() -> io::Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    let client = UdpSocket::bind("0.0.0.0:0")?;
    client.connect(server.local_addr()?)?;
    client.send(b"question")?;
    let mut buffer = [0; 16];
    let (len, from) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..len], from)?;
    client.recv(&mut buffer).map(drop)
}

/// A connection to a server that was there before: none is listened for any more.
fn ask_tcp() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(tokio::net::TcpStream::connect("127.0.0.1:1"));
    match asked {
        // By the other end, not here.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => other.map(drop),
    }
}

/// What of its threads is not as it must be.
fn identity(confinement: &Confinement) -> Vec<String> {
    let mut wrong = Vec::new();
    let (uid, gid) = confinement.user.as_ref().map_or((0, 0), |user| (user.uid(), user.gid()));
    let kept = if confinement.keeps_ipc_lock { IPC_LOCK } else { 0 };
    // The files of a process that leaves no core dumps are root's.
    if fs::metadata("/proc/self/stat").unwrap().uid() != 0 {
        wrong.push("it leaves core dumps".to_owned());
    }
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let path: PathBuf = task.unwrap().path().join("status");
        let text = fs::read_to_string(path).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap().trim().to_owned()
        };
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(field);
        let held = sets.map(|set| u64::from_str_radix(&set, 16).unwrap());
        if held != [0, kept, kept, 0, 0] {
            wrong.push(format!("it holds the capabilities {held:x?}"));
        }
        // Real, effective, saved, of the file system.
        for (name, id) in [("Uid", uid), ("Gid", gid)] {
            if field(name).split_whitespace().any(|found| found != id.to_string()) {
                wrong.push(format!("{name} is {}", field(name)));
            }
        }
        if uid != 0 && !field("Groups").is_empty() {
            wrong.push(format!("it is in the groups {}", field("Groups")));
        }
        if (field("NoNewPrivs"), field("Seccomp")) != ("1".to_owned(), "2".to_owned()) {
            wrong.push("new privileges are possible, or no filter is there".to_owned());
        }
    }
    wrong
}

fn fill(bytes: usize) -> io::Result<()> {
    let filled = std::hint::black_box(vec![1_u8; bytes]);
    filled.iter().all(|byte| *byte == 1).then_some(()).ok_or(io::ErrorKind::OutOfMemory.into())
}
