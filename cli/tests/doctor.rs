//! `weft doctor` as a person runs it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

fn weft(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

/// The findings of a doctor with these arguments, and its exit code.
fn findings(directory: &Path, arguments: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = weft(directory, &[&["doctor", "--json"], arguments].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    (report["findings"].as_array().unwrap().clone(), output.status.code())
}

fn of<'a>(findings: &'a [Value], check: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["check"] == check).collect()
}

/// A folder with certificates and a configuration that listens on this port.
fn folder(listen: &str, more: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for line in
        ["pki init --env acme --out ca", "pki issue --env acme --host host-a --ca ca --out acme"]
    {
        let words: Vec<_> = line.split(' ').collect();
        assert!(weft(folder.path(), &words).status.success());
    }
    let config = format!(
        "host = \"host-a\"\nlisten = \"{listen}\"\napi = \"weftd.sock\"\n\
         [[environment]]\nid = \"acme\"\nsubnet = \"10.40.0.0/16\"\nca = \"ca/ca.pem\"\n\
         cert = \"acme/host-a.pem\"\nkey = \"acme/host-a.key\"\n{more}"
    );
    fs::write(folder.path().join("weft.toml"), config).unwrap();
    folder
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_host_is_examined_without_a_configuration() {
    let folder = TempDir::new().unwrap();
    let (findings, code) = findings(folder.path(), &[]);
    assert_eq!(code, Some(0), "{findings:?}");
    for check in ["kernel", "processor", "segmentation", "io_uring", "clock"] {
        assert_eq!(of(&findings, check).len(), 1, "{check}");
    }
    assert!(findings.iter().all(|f| (f["level"] == "good") == f["remedy"].is_null()));
    // Tests run as root.
    assert_eq!(of(&findings, "interfaces")[0]["level"], "good");
}

#[test]
fn a_configuration_is_held_against_the_host() {
    let port = free_port();
    let folder = folder(&format!("127.0.0.1:{port}"), "");
    let (findings, code) = findings(folder.path(), &["--config", "weft.toml"]);
    assert_eq!(code, Some(0), "{findings:?}");
    for check in ["configuration", "address", "ports", "workers", "descriptors", "certificates"] {
        let found = of(&findings, check);
        assert_eq!((found.len(), &found[0]["level"]), (1, &"good".into()), "{found:?}");
    }
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let nobody = free_port();
    let more = format!(
        "[[environment.attachment]]\nname = \"web-1\"\nnetns = \"/run/netns/weft-nowhere\"\n\
         address = \"10.40.0.2\"\n[[environment.peer]]\nhost = \"host-b\"\n\
         endpoint = \"127.0.0.1:{nobody}\"\naddresses = []\n"
    );
    let folder = folder(&format!("127.0.0.1:{port}"), &more);
    let (findings, code) = findings(folder.path(), &["--config", "weft.toml"]);
    assert_eq!(code, Some(1));
    let level = |check: &str| of(&findings, check)[0]["level"].clone();
    assert_eq!(level("ports"), "problem");
    let ports = of(&findings, "ports")[0];
    assert!(ports["finding"].as_str().unwrap().contains(&format!("UDP 127.0.0.1:{port}")));
    assert!(ports["remedy"].as_str().unwrap().contains("ss -lnptu"));
    assert_eq!((level("namespaces"), level("peers")), ("advice".into(), "advice".into()));
}

#[test]
fn problems_of_the_file_and_of_its_addresses_are_problems() {
    let folder = folder("198.51.100.7:5820", "");
    let (found, code) = findings(folder.path(), &["--config", "weft.toml"]);
    assert_eq!(code, Some(1));
    assert_eq!(of(&found, "address")[0]["level"], "problem");
    fs::write(folder.path().join("bad.toml"), "host = 7\nworkers = 0\n").unwrap();
    let (found, code) = findings(folder.path(), &["--config", "bad.toml"]);
    assert_eq!(code, Some(1));
    let problems = of(&found, "configuration");
    assert!(problems.len() >= 3 && problems.iter().all(|f| f["level"] == "problem"));
    let (found, code) = findings(folder.path(), &["--config", "absent.toml"]);
    assert_eq!((of(&found, "configuration").len(), code), (1, Some(1)));
}

#[test]
fn people_get_lines_and_one_sentence_on_failure() {
    let folder = folder("198.51.100.7:5820", "");
    let output = weft(folder.path(), &["doctor", "--config", "weft.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("good     kernel")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("problem  address")), "{text}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("weft: ") && error.ends_with("problems\n"), "{error}");
}
