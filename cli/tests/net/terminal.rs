//! `weft net` on a terminal: a pseudo-terminal of script(1), which is on every Debian.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::fake::Fake;

const WAIT: Duration = Duration::from_secs(20);
const ENTER_SCREEN: &str = "\x1b[?1049h";
const LEAVE_SCREEN: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// A shell on a terminal.
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    output: mpsc::Receiver<String>,
    seen: String,
}

impl Terminal {
    /// Runs `weft net ARGUMENTS` and then says how it ended and how the terminal is set. The
    /// command's process id is in `pid` of the folder of its socket while it runs.
    fn run(socket: &Path, arguments: &str, variables: &[(&str, &str)]) -> Self {
        let weft = env!("CARGO_BIN_EXE_weft");
        let pid = socket.with_file_name("pid");
        let (socket, pid) = (socket.display(), pid.display());
        let line = format!(
            "stty rows 30 cols 120; \
             sh -c 'echo $$ >\"{pid}\"; exec \"{weft}\" net {arguments} --socket \"{socket}\"'; \
             echo \"exit=$?\"; stty -a; echo end-of-run"
        );
        let mut child = Command::new("script")
            .args(["-q", "-f", "-c", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).is_err() {
                    return;
                }
            }
        });
        let keys = child.stdin.take();
        Self { child, keys, output, seen: String::new() }
    }

    /// Waits until `text` was shown `count` times.
    fn wait_for(&mut self, text: &str, count: usize) {
        let end = Instant::now() + WAIT;
        while self.seen.matches(text).count() < count {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => self.seen.push_str(&more),
                Err(error) => panic!("{text:?} was not shown ({error}): {:?}", self.seen),
            }
        }
    }

    fn press(&mut self, key: &[u8]) {
        self.keys.as_mut().unwrap().write_all(key).unwrap();
    }

    /// Waits for the end and returns everything that was shown.
    fn end(mut self) -> String {
        self.wait_for("end-of-run", 1);
        drop(self.keys.take());
        self.child.wait().unwrap();
        self.seen
    }
}

/// The screen was taken and given back, and keys are echoed and read by line again.
fn assert_restored(seen: &str, code: &str) {
    let enter = seen.find(ENTER_SCREEN).expect("the screen was taken");
    let leave = seen.rfind(LEAVE_SCREEN).expect("the screen was given back");
    assert!(enter < leave);
    assert!(seen.rfind(SHOW_CURSOR).is_some_and(|at| at > enter), "the cursor is shown again");
    assert!(seen.contains(code), "{seen:?}");
    let settings: Vec<_> = seen[leave..].split_whitespace().collect();
    for setting in ["icanon", "echo", "isig", "opost"] {
        assert!(settings.contains(&setting), "{setting} is off: {settings:?}");
    }
}

#[test]
fn top_is_live_until_a_key_and_leaves_nothing() {
    let fake = Fake::start();
    for key in [&b"q"[..], b"\x03"] {
        let mut terminal = Terminal::run(&fake.socket(), "top", &[]);
        // Two measurements later than the first.
        terminal.wait_for("Gbit/s", 2);
        terminal.press(key);
        let seen = terminal.end();
        assert_restored(&seen, "exit=0");
        assert!(seen.contains("q quits") && seen.contains("host-b"), "{seen:?}");
    }
}

#[test]
fn top_gives_the_terminal_back_on_a_signal() {
    let fake = Fake::start();
    for signal in ["-TERM", "-INT", "-HUP", "-QUIT"] {
        let mut terminal = Terminal::run(&fake.socket(), "top", &[]);
        terminal.wait_for("q quits", 1);
        let pid = fs::read_to_string(fake.folder().join("pid")).unwrap();
        let killed = Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        assert!(killed.success());
        assert_restored(&terminal.end(), "exit=0");
    }
}

#[test]
fn top_waits_for_a_daemon_that_went_away() {
    let fake = Fake::start();
    let mut terminal = Terminal::run(&fake.socket(), "top", &[]);
    terminal.wait_for("q quits", 1);
    drop(fake);
    terminal.wait_for("trying again", 1);
    terminal.press(b"q");
    assert_restored(&terminal.end(), "exit=0");
}

#[test]
fn a_daemon_that_is_not_there_is_said_on_the_ordinary_screen() {
    let folder = tempfile::TempDir::new().unwrap();
    let terminal = Terminal::run(&folder.path().join("weftd.sock"), "top", &[]);
    let seen = terminal.end();
    assert!(seen.contains("weftd is not running") && seen.contains("exit=1"), "{seen:?}");
    assert!(!seen.contains(ENTER_SCREEN));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let fake = Fake::start();
    let seen = Terminal::run(&fake.socket(), "status", &[]).end();
    assert!(seen.contains("\x1b[32mestablished (client)\x1b[0m"), "{seen:?}");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let seen = Terminal::run(&fake.socket(), "status", &[variable]).end();
        assert!(seen.contains("established (client)") && !seen.contains('\x1b'), "{seen:?}");
    }
}
