//! What a run needs, and what of it is missing: said at once, not one by one in the middle.

use std::path::Path;

use anyhow::{Result, bail};

/// Programs that every run uses, each with its Debian package.
pub const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("bash", "bash"),
];
const TUN: &str = "/dev/net/tun";

/// What was found out about the machine.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// Whether this program may make namespaces.
    pub root: bool,
    /// Whether TUN interfaces can be made.
    pub tun: bool,
    /// Whether a program is in the search path.
    pub program: &'a dyn Fn(&str) -> bool,
    /// Why `weftd` and `weft` cannot be used, when they are needed.
    pub weft: Option<&'a str>,
}

/// One line per missing thing, with what helps.
#[must_use]
pub fn missing(found: &Found<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if !found.root {
        lines.push("root, for network namespaces: run it as root".to_owned());
    }
    if !found.tun {
        lines.push(format!("{TUN}: modprobe tun"));
    }
    for (program, package) in PROGRAMS {
        if !(found.program)(program) {
            lines.push(format!("{program}: apt-get install {package}"));
        }
    }
    lines.extend(found.weft.map(str::to_owned));
    lines
}

/// Looks whether everything is there; `weft` is what looking for `weftd` and `weft` found.
///
/// # Errors
/// With a line for each thing that is missing.
pub fn check(weft: Result<()>) -> Result<()> {
    let weft = weft.err().map(|e| format!("{e:#}"));
    let lines = missing(&Found {
        root: nix::unistd::geteuid().is_root(),
        tun: Path::new(TUN).exists(),
        program: &in_path,
        weft: weft.as_deref(),
    });
    if lines.is_empty() {
        return Ok(());
    }
    bail!("missing (`make setup` installs the programs):\n  {}", lines.join("\n  "))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Programs of root are no news to a user who has to become root anyway.
    let of_root = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(of_root).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        let none = |_: &str| false;
        let found =
            Found { root: false, tun: false, program: &none, weft: Some("weftd: build it") };
        let lines = missing(&found);
        assert_eq!(lines.len(), PROGRAMS.len() + 3);
        assert!(lines.iter().any(|line| line == "iperf3: apt-get install iperf3"), "{lines:?}");
    }

    #[test]
    fn nothing_is_said_when_all_is_there() {
        let all = |_: &str| true;
        let found = Found { root: true, tun: true, program: &all, weft: None };
        assert!(missing(&found).is_empty());
    }
}
