//! The structure that ARCHITECTURE.md promises.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Names in a manifest's `[dependencies]` (not in those of tests).
fn dependencies(krate: &str) -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(ROOT).join(krate).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or("");
    let section = section.split("\n[").next().unwrap_or("");
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn dependencies_go_one_way() {
    // Everything of ours that a crate may see, and for the core everything else too.
    let ours = |krate: &str| {
        let mut names = dependencies(krate);
        names.retain(|name| name.starts_with("weft"));
        names
    };
    assert!(ours("types").is_empty());
    assert!(ours("buffers").is_empty());
    assert!(ours("gcm").is_empty());
    assert!(ours("sys").is_empty());
    assert!(ours("confine").is_empty());
    assert_eq!(ours("helper"), ["weft-confine", "weft-sys", "weft-types"]);
    assert_eq!(ours("wire"), ["weft-types"]);
    assert_eq!(ours("proto"), ["weft-types", "weft-wire"]);
    assert_eq!(ours("dns"), ["weft-types", "weft-wire"]);
    for core in ["types", "wire", "proto", "buffers", "gcm", "dns"] {
        for name in dependencies(core) {
            let impure = ["tokio", "libc", "rustls", "getrandom", "tracing", "mio", "rustix"];
            assert!(!impure.contains(&name.as_str()), "{core} depends on {name}");
        }
    }
    let seen = ["config", "control-api", "dns", "pki", "proto", "types"];
    assert_eq!(ours("agent"), seen.map(|name| format!("weft-{name}")));
    for krate in ["pki", "handshake", "config", "api"] {
        for name in ours(krate) {
            assert!(
                !["weft-proto", "weft-sys", "weft-buffers", "weftd"].contains(&name.as_str()),
                "{krate} depends on {name}"
            );
        }
    }
}

/// What decides in the control plane knows the store's interface and no store, no runtime, no random source.
#[test]
fn the_control_plane_decides_without_a_shell() {
    let names = dependencies("../control/model");
    for name in &names {
        let impure = ["tokio", "tonic", "getrandom", "tracing", "rusqlite", "aws-lc-rs"];
        assert!(!impure.contains(&name.as_str()), "the model depends on {name}");
    }
    let ours = names.iter().filter(|name| name.starts_with("weft"));
    assert_eq!(ours.collect::<Vec<_>>(), ["weft-store", "weft-types"]);
    for (path, text) in sources(&Path::new(ROOT).join("../control/model/src")) {
        for call in ["Instant::now", "SystemTime::now", "thread::", "async fn"] {
            assert!(!text.contains(call), "{} uses {call}", path.display());
        }
    }
    for krate in ["store", "keys", "audit", "api"] {
        let names = dependencies(&format!("../control/{krate}"));
        assert!(!names.contains(&"weft-model".to_owned()), "{krate} depends on the model");
    }
}

#[test]
fn the_core_reads_no_clock() {
    for core in ["types", "wire", "proto", "buffers", "gcm", "dns"] {
        for (path, text) in sources(&Path::new(ROOT).join(core).join("src")) {
            if path.to_string_lossy().contains("tests") {
                continue;
            }
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
            for call in ["Instant::now", "SystemTime::now", "thread::", "std::net::UdpSocket"] {
                assert!(!code.contains(call), "{} uses {call}", path.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// Beside the crate for it, one file calls the AEAD's library, and tests count the allocator's
/// calls, which takes an `unsafe impl`; nothing else may.
#[test]
fn unsafe_is_in_one_crate_and_one_file() {
    let repository = Path::new(ROOT).join("..");
    for folder in ["dataplane", "control", "cli", "netns-tests", "benches", "providers"] {
        for (path, text) in sources(&repository.join(folder)) {
            let name = path.to_string_lossy().into_owned();
            let allowed = name.contains("dataplane/sys/")
                || name.ends_with("dataplane/gcm/src/library.rs")
                || name.ends_with("proto/tests/no_alloc.rs")
                || name.ends_with("tests/structure.rs");
            let word = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
            assert!(allowed || !word.iter().any(|w| text.contains(w)), "unsafe in {name}");
        }
    }
}

#[test]
fn who_says_nothing_of_the_socket_finds_it() {
    assert_eq!(weft_api::SOCKET_PATH_DEFAULT, weft_config::API_DEFAULT);
}

/// An operator who meets a word in metrics or logs finds it in the book.
#[test]
fn every_cause_is_explained() {
    let book = fs::read_to_string(Path::new(ROOT).join("../docs/operations.md")).unwrap();
    let drops = weft_proto::DropReason::ALL.iter().map(|reason| reason.label());
    let handshakes = weft_handshake::HandshakeError::LABELS.iter().copied();
    let refusals = ["admission_rate", "admission_half_open"];
    let gateways = weft_dns::DropReason::ALL.iter().map(|reason| reason.label());
    for cause in drops.chain(handshakes).chain(gateways).chain(refusals) {
        assert!(book.contains(&format!("`{cause}`")), "{cause}");
    }
}
