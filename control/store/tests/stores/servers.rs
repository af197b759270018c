//! Real servers of etcd on loopback, with their data in a directory of their own. Whatever a test does, they end
//! with it.

mod certificates;

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use weft_store::{Etcd, EtcdOptions, Key, Store};

pub(crate) use self::certificates::Certificates;

/// How long a server may take to begin, on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// The members of one cluster.
pub(crate) struct Servers {
    directory: TempDir,
    members: Vec<Member>,
    tls: Option<Certificates>,
    quota_bytes: Option<u64>,
}

struct Member {
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Servers {
    /// Starts `count` members without TLS.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, None, None)
    }

    /// Starts one that asks its clients for a certificate.
    pub(crate) fn start_with_tls() -> Self {
        Self::start_with(1, Some(Certificates::new()), None)
    }

    /// Starts one whose database has so much room.
    pub(crate) fn start_with_quota(bytes: u64) -> Self {
        Self::start_with(1, None, Some(bytes))
    }

    fn start_with(count: usize, tls: Option<Certificates>, quota_bytes: Option<u64>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // All at once, so that they differ.
        let ports: Vec<_> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> =
            ports.into_iter().map(|port| port.local_addr().unwrap().port()).collect();
        let member =
            |ports: &[u16]| Member { client_port: ports[0], peer_port: ports[1], process: None };
        let members = ports.chunks(2).map(member).collect();
        if let Some(tls) = &tls {
            tls.write(directory.path());
        }
        let mut servers = Self { directory, members, tls, quota_bytes };
        for at in 0..count {
            servers.run(at);
        }
        servers
    }

    /// Starts a member, with the data that it has.
    pub(crate) fn run(&mut self, at: usize) {
        let name = |at: usize| format!("m{at}");
        let peer = |at: usize| format!("http://127.0.0.1:{}", self.members[at].peer_port);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.members[at].client_port);
        let all: Vec<_> =
            (0..self.members.len()).map(|at| format!("{}={}", name(at), peer(at))).collect();
        let path = |suffix: &str| self.directory.path().join(format!("{}{suffix}", name(at)));
        // The kernel ends it with the thread of the test.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--name", &name(at)]);
        command.arg("--data-dir").arg(path(""));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer(at), "--initial-advertise-peer-urls", &peer(at)]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        if let Some(bytes) = self.quota_bytes {
            command.args(["--quota-backend-bytes", &bytes.to_string()]);
        }
        if self.tls.is_some() {
            let file = |name: &str| self.directory.path().join(name);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file("authority.pem"));
            command.arg("--cert-file").arg(file("server.pem"));
            command.arg("--key-file").arg(file("server.key"));
        }
        let log = File::options().create(true).append(true).open(path(".log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let which = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        assert!(which.is_ok(), "etcd is missing: apt-get install etcd-server");
        let started = command.spawn().expect("setpriv of util-linux is there");
        self.members[at].process = Some(started);
    }

    pub(crate) fn options(&self, prefix: &str) -> EtcdOptions {
        let endpoint = |member: &Member| format!("127.0.0.1:{}", member.client_port);
        EtcdOptions {
            endpoints: self.members.iter().map(endpoint).collect(),
            prefix: prefix.to_owned(),
            tls: self.tls.as_ref().map(Certificates::of_client),
        }
    }

    /// Waits until the cluster answers.
    pub(crate) async fn ready(&self) {
        let store = Etcd::new(&self.options("ready/")).unwrap();
        let begun = Instant::now();
        while let Err(error) = store.get(&Key::new("any").unwrap()).await {
            assert!(begun.elapsed() < PATIENCE, "{error}\n{}", self.log());
        }
    }

    fn log(&self) -> String {
        let path: PathBuf = self.directory.path().join("m0.log");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Ends a member at once, as a loss of power does.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops a member without closing its connections, or lets it go on.
    pub(crate) fn set_paused(&self, at: usize, paused: bool) {
        let process = self.members[at].process.as_ref().expect("it runs");
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// Asks the first member by etcd's JSON gateway, as its own tool does.
    pub(crate) fn ask(&self, path: &str, body: &str) -> String {
        self.members[0].ask(path, body).unwrap_or_else(|| panic!("{path}\n{}", self.log()))
    }

    /// Which member leads, as a member that runs sees it.
    pub(crate) fn leader(&self) -> usize {
        let begun = Instant::now();
        loop {
            let statuses: Vec<_> = self.members.iter().map(Member::status).collect();
            let leader = statuses.iter().flatten().find(|(_, leader)| leader != "0");
            let leads = leader.and_then(|(_, leader)| {
                statuses.iter().position(|s| s.as_ref().is_some_and(|(id, _)| id == leader))
            });
            if let Some(at) = leads {
                return at;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}

impl Member {
    /// Its id and its leader's, from etcd's JSON gateway.
    fn status(&self) -> Option<(String, String)> {
        let answer = self.ask("maintenance/status", "{}")?;
        let leader = field(&answer, "leader").unwrap_or("0");
        Some((field(&answer, "member_id")?.to_owned(), leader.to_owned()))
    }

    fn ask(&self, path: &str, body: &str) -> Option<String> {
        self.process.as_ref()?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.client_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let len = body.len();
        let asked = format!("POST /v3/{path} HTTP/1.0\r\nContent-Length: {len}\r\n\r\n{body}");
        stream.write_all(asked.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

/// What an answer says in a field of text.
pub(crate) fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(&format!("\"{name}\":\""))?;
    Some(rest.split_once('"')?.0)
}
