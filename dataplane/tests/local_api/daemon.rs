//! A real `weftd` in a network namespace of its own, with two environments.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpStream},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tonic::transport::Channel;
use weft_api::v1::{
    StatusRequest, StatusResponse, WatchEventsRequest, local_api_client::LocalApiClient,
};
use weft_pki::{
    EnvironmentIdentity, KeyKind,
    issue::{
        AUTHORITY_BACKDATE, Authority, HOST_BACKDATE, HostRequest, HostUsages, Validity,
        new_authority,
    },
};
use weft_sys::{
    link::{self, LinkConfig},
    netns::Netns,
};

/// The contract for SIGTERM.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long anything else may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// Both have the same addresses inside.
pub(crate) const ENVIRONMENTS: [&str; 2] = ["acme", "globex"];

/// Certificates and configurations of hosts, and the namespace that they share.
pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) netns: Netns,
    authorities: Vec<Authority>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let netns = Netns::create().unwrap();
        let lo = LinkConfig {
            name: "lo",
            addresses: &[(IpAddr::V4(Ipv4Addr::LOCALHOST), 8)],
            routes: &[],
        };
        link::configure(&netns, &lo).unwrap();
        let authorities = ENVIRONMENTS.map(|id| authority(folder.path(), id));
        Self { folder, netns, authorities: authorities.into() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues certificates for `host-N` and writes a configuration in which it listens on
    /// 127.0.0.N and every other of `1..=hosts` is its peer with the address 10.40.0.N+1.
    pub(crate) fn configure(&self, number: u8, hosts: u8) -> PathBuf {
        let host = format!("host-{number}");
        let mut text = format!(
            "host = \"{host}\"\nlisten = \"127.0.0.{number}:5820\"\napi = \"{host}.sock\"\n\
             metrics = \"127.0.0.{number}:9820\"\nworkers = 2\n"
        );
        for (id, authority) in ENVIRONMENTS.iter().zip(&self.authorities) {
            let request = HostRequest {
                host: host.parse().unwrap(),
                validity: Validity::days(SystemTime::now(), HOST_BACKDATE, 1),
                key_kind: KeyKind::EcdsaP256,
                usages: HostUsages::Both,
            };
            let issued = authority.issue_host(&request).unwrap();
            let file = |end: &str| self.path(id).join(format!("{host}.{end}"));
            fs::write(file("pem"), issued.certificate_pem).unwrap();
            fs::write(file("key"), issued.key_pem.as_bytes()).unwrap();
            text += &format!(
                "[[environment]]\nid = \"{id}\"\nsubnet = \"10.40.0.0/16\"\nca = \"{id}/ca.pem\"\n\
                 cert = \"{id}/{host}.pem\"\nkey = \"{id}/{host}.key\"\n"
            );
            for other in (1..=hosts).filter(|other| *other != number) {
                text += &format!(
                    "[[environment.peer]]\nhost = \"host-{other}\"\n\
                     endpoint = \"127.0.0.{other}:5820\"\naddresses = [\"10.40.0.{}\"]\n",
                    other + 1
                );
            }
        }
        let path = self.path(&format!("{host}.toml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts `host-N` and waits until its API is there.
    pub(crate) fn start(&self, number: u8) -> Daemon {
        let log = fs::File::create(self.path(&format!("host-{number}.log"))).unwrap();
        let mut daemon = self.spawn(number, log.into());
        daemon.wait_for_socket();
        daemon
    }

    /// Starts `host-N` with its log going to `log`.
    pub(crate) fn spawn(&self, number: u8, log: Stdio) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weftd"));
        command.arg("--config").arg(self.path(&format!("host-{number}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.netns.run(|| command.spawn()).unwrap().unwrap();
        Daemon { child, socket: self.path(&format!("host-{number}.sock")) }
    }

    pub(crate) fn log(&self, number: u8) -> String {
        fs::read_to_string(self.path(&format!("host-{number}.log"))).unwrap()
    }

    /// One HTTP request to the metrics of `host-N`: the answer's head and body.
    pub(crate) fn http(&self, number: u8, method: &str, path: &str) -> (String, String) {
        let mut stream = self.connect_metrics(number);
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: weftd\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    pub(crate) fn connect_metrics(&self, number: u8) -> TcpStream {
        let address = (Ipv4Addr::new(127, 0, 0, number), 9820);
        let stream = self.netns.run(|| TcpStream::connect(address)).unwrap().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }
}

fn authority(folder: &Path, id: &str) -> Authority {
    let identity = EnvironmentIdentity {
        installation: "weft".parse().unwrap(),
        environment: id.parse().unwrap(),
    };
    let validity = Validity::days(SystemTime::now(), AUTHORITY_BACKDATE, 2);
    let made = new_authority(&identity, validity, KeyKind::EcdsaP256).unwrap();
    fs::create_dir(folder.join(id)).unwrap();
    fs::write(folder.join(id).join("ca.pem"), &made.certificate_pem).unwrap();
    Authority::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes()).unwrap()
}

/// A running daemon. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Daemon {
    fn wait_for_socket(&mut self) {
        let socket = self.socket.clone();
        wait_until("the API's socket", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "weftd ended");
            // The file is there a moment before anybody listens.
            UnixStream::connect(&socket).is_ok()
        });
    }

    pub(crate) async fn client(&self) -> LocalApiClient<Channel> {
        weft_api::client(weft_api::connect(&self.socket).await.unwrap())
    }

    /// As `weft net attach` does it before it asks the daemon.
    pub(crate) fn register(&self, attachment: &str, netns: &Netns) {
        let helper = weft_helper::socket_beside(&self.socket);
        // The API is there before the helper is.
        wait_until("the helper", || {
            let name = ("acme".to_owned(), attachment.to_owned()).try_into().unwrap();
            weft_helper::register(&helper, name, Path::new(&path_of(netns))).is_ok()
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "weftd runs after {limit:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGINT; in time, with the right code, and without a socket it has to end.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGINT);
        let status = self.wait(STOP_LIMIT);
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(!self.socket.exists());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that the daemon knows.
pub(crate) async fn status_of(daemon: &Daemon) -> StatusResponse {
    let request = StatusRequest { environment: String::new() };
    daemon.client().await.status(request).await.unwrap().into_inner()
}

/// Asks for the events of an environment, or of all.
pub(crate) fn watch_of(environment: &str) -> WatchEventsRequest {
    WatchEventsRequest { environment: environment.into() }
}

/// A path under which another process finds the namespace.
pub(crate) fn path_of(netns: &Netns) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd())
}

/// Names of the interfaces in a namespace.
pub(crate) fn interfaces(netns: &Netns) -> Vec<String> {
    let text = netns.run(|| fs::read_to_string("/proc/thread-self/net/dev")).unwrap().unwrap();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    let mut names: Vec<_> = names.map(|(name, _)| name.trim().to_owned()).collect();
    names.sort();
    names
}

pub(crate) fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
