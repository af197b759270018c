//! A host with a helper of its own, and containers.

use std::{
    fmt::Write as _,
    fs,
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use weft_helper::{Client, Interface, Name};
use weft_sys::{
    netns::Netns,
    poll::{Epoll, Events},
    tun::TunQueue,
};

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Host {
    pub(crate) folder: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("weftd.sock.helper")
    }

    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("weftd.sock.helper.d"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("weft.toml")
    }

    pub(crate) fn connect(&self) -> Client {
        let program = Path::new(env!("CARGO_BIN_EXE_weft-helper"));
        Client::connect(&self.socket(), program, Some(&self.config()), None).unwrap()
    }

    /// Writes a configuration with these attachments, where they are.
    pub(crate) fn configure(&self, attachments: &[(&str, &Path)]) {
        let mut text = "[[environment]]\nid = \"acme\"\n".to_owned();
        for (name, netns) in attachments {
            let netns = netns.display();
            writeln!(text, "[[environment.attachment]]\nname = \"{name}\"\nnetns = \"{netns}\"")
                .unwrap();
        }
        fs::write(self.config(), text).unwrap();
    }

    /// The process that serves this host.
    pub(crate) fn helper(&self) -> Option<u32> {
        let socket = self.socket().into_os_string().into_string().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.contains(&socket))
        })
    }

    pub(crate) fn kill(&self) {
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

pub(crate) fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A container's namespace, whose path leads to it as long as this lives.
pub(crate) struct Container(pub(crate) Netns);

impl Container {
    pub(crate) fn new() -> Self {
        Self(Netns::create().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_fd().as_raw_fd()).into()
    }

    pub(crate) fn interfaces(&self) -> Vec<String> {
        let list = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let text = self.0.run(list).unwrap();
        let lines = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        lines.filter(|name| name.starts_with("weft")).collect()
    }

    /// A socket that is connected through the interface.
    pub(crate) fn udp(&self) -> UdpSocket {
        let open = || {
            let socket = UdpSocket::bind("10.40.0.2:4000").unwrap();
            socket.connect("10.40.0.3:4000").unwrap();
            socket
        };
        self.0.run(open).unwrap()
    }
}

pub(crate) fn interface(container: &Container, attachment: &str) -> Interface {
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

pub(crate) fn name(attachment: &str) -> Name {
    ("acme".to_owned(), attachment.to_owned()).try_into().unwrap()
}

/// Whether a UDP packet comes out of one of the queues.
pub(crate) fn comes_out(queues: &[TunQueue]) -> bool {
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
