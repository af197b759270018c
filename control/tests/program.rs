//! The program: an installation is made once, served, and opened only with its master key.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn config(folder: &Path) -> PathBuf {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nserver_names = [\"127.0.0.1\"]\nstore = \"sqlite:{0}/control.db\"\n\
         keyring = \"sqlite:{0}/keyring.db\"\nmaster_key = \"{0}/master.key\"\n",
        folder.display()
    );
    let path = folder.join("control.toml");
    fs::write(&path, text).unwrap();
    path
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft-control"))
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .unwrap()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

const INIT: [&str; 5] = ["init", "--name", "weft", "--operator", "operator@weft.example"];

#[test]
fn an_installation_is_made_once() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let nothing = refusal(&run(&config, &["authority"]));
    assert!(nothing.contains("the master key"), "{nothing}");
    let made = run(&config, &INIT);
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.lines().any(|line| line.starts_with("weft_invitation_")), "{said}");
    let again = refusal(&run(&config, &INIT));
    assert!(again.contains("there is an installation in this store already"), "{again}");
    let authority = run(&config, &["authority"]);
    assert!(
        String::from_utf8(authority.stdout).unwrap().starts_with("-----BEGIN CERTIFICATE-----")
    );
}

#[test]
fn a_log_is_fetched_from_the_blob_store_that_the_configuration_names() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    assert!(run(&config, &INIT).status.success());
    let to = folder.path().join("control");
    let fetch = ["fetch-audit", "--process", "control", "--to", to.to_str().unwrap()];
    let refused = refusal(&run(&config, &fetch));
    assert!(refused.contains("audit.blobs: is missing"), "{refused}");
    let text = fs::read_to_string(&config).unwrap();
    let blobs = folder.path().join("blobs");
    let text = format!("{text}[audit]\nblobs = \"folder:{}\"\n", blobs.display());
    fs::write(&config, text).unwrap();
    let refused = refusal(&run(&config, &fetch));
    let said = format!("nothing of the log of control is in folder:{}", blobs.display());
    assert!(refused.contains(&said), "{refused}");
    assert!(!to.exists() && !blobs.exists());
}

#[test]
fn an_operator_confirms_the_clock_when_no_server_runs() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    assert!(run(&config, &INIT).status.success());
    let said = |arguments: &[&str]| {
        let output = run(&config, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for _ in 0..2 {
        let looked = said(&["confirm-time", "--dry-run"]);
        assert!(looked.starts_with("agreed on: nothing yet\nthe clock shows: 20"), "{looked}");
    }
    let confirmed = said(&["confirm-time"]);
    let (_, at) = confirmed.split_once("\nfrom now on: ").unwrap();
    let again = said(&["confirm-time", "--dry-run"]);
    assert!(again.starts_with(&format!("agreed on: {at}")), "{again}");
    let records = fs::read_to_string(folder.path().join("audit/control/0000000001.jsonl")).unwrap();
    assert_eq!(records.matches("clock.confirm").count(), 2, "begun and done: {records}");
}

#[test]
fn without_its_master_key_it_does_not_start_and_says_so() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    assert!(run(&config, &INIT).status.success());
    let key = folder.path().join("master.key");
    fs::rename(&key, folder.path().join("away.key")).unwrap();
    let missing = refusal(&run(&config, &["serve"]));
    assert!(missing.contains("the master key: ") && missing.contains("master.key"), "{missing}");
    // The key of another installation.
    let other = TempDir::new().unwrap();
    let elsewhere = self::config(other.path());
    assert!(run(&elsewhere, &INIT).status.success());
    fs::rename(other.path().join("master.key"), &key).unwrap();
    let wrong = refusal(&run(&config, &["serve"]));
    assert!(wrong.contains("the keyring: "), "{wrong}");
}

#[test]
fn an_installation_is_there_again_after_its_copies() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    assert!(run(&config, &INIT).status.success());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, keyring, audit) = (at("store.copy"), at("keyring.copy"), at("audit.copy"));
    let nothing = refusal(&run(&config, &["backup"]));
    assert!(nothing.contains("--store <FILE>|--keyring <FILE>|--audit <FOLDER>"), "{nothing}");
    let all = ["backup", "--store", &store, "--keyring", &keyring, "--audit", &audit];
    assert!(run(&config, &all).status.success());
    let again = refusal(&run(&config, &["backup", "--audit", &audit]));
    assert!(again.contains("audit.copy: entity already exists"), "{again}");
    let again = refusal(&run(&config, &["backup", "--store", &store]));
    assert!(again.contains("store.copy"), "{again}");

    let other = TempDir::new().unwrap();
    let elsewhere = self::config(other.path());
    fs::copy(folder.path().join("master.key"), other.path().join("master.key")).unwrap();
    assert!(run(&elsewhere, &["restore", "--store", &store]).status.success());
    let without = refusal(&run(&elsewhere, &["serve"]));
    assert!(without.contains("the installation's key"), "{without}");
    // Looking for it has made an empty one.
    for file in fs::read_dir(other.path()).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("keyring.db") {
            fs::remove_file(file).unwrap();
        }
    }
    assert!(run(&elsewhere, &["restore", "--keyring", &keyring]).status.success());
    // A store whose audit is not there is not served.
    let without = refusal(&run(&elsewhere, &["serve"]));
    assert!(without.contains("is not the one that was anchored"), "{without}");
    fs::remove_dir_all(other.path().join("audit")).unwrap();
    assert!(run(&elsewhere, &["restore", "--audit", &audit]).status.success());
    let records = fs::read_to_string(other.path().join("audit/control/0000000001.jsonl")).unwrap();
    let invited = records.lines().filter(|line| line.contains("installation.invite-operator"));
    assert_eq!(invited.count(), 2, "{records}");
    // It opens there.
    let opened = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let config = weft_control::Config::load(&elsewhere).unwrap();
        let opened = weft_control::init::open_stores(&config).await.unwrap();
        opened.app(weft_control::Clock::default(), &config.audit).await.map(drop)
    });
    opened.unwrap();
    let there = refusal(&run(&elsewhere, &["restore", "--store", &store]));
    assert!(there.contains("control.db"), "{there}");
    assert_eq!(run(&elsewhere, &["authority"]).stdout, run(&config, &["authority"]).stdout);
}

#[test]
fn an_installation_goes_over_into_other_stores() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    assert!(run(&config, &INIT).status.success());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, keyring) = (at("store.export"), at("keyring.export"));
    let out = said(run(&config, &["export", "--store", &store, "--keyring", &keyring]));
    assert!(out.lines().all(|line| line.contains(" entries are in ")), "{out}");
    let again = refusal(&run(&config, &["export", "--store", &store]));
    assert!(again.contains("store.export"), "{again}");

    let other = TempDir::new().unwrap();
    let elsewhere = self::config(other.path());
    fs::copy(at("master.key"), other.path().join("master.key")).unwrap();
    let all = ["import", "--store", &store, "--keyring", &keyring];
    let taken = said(run(&elsewhere, &all));
    assert_eq!(taken.replace("taken from", "in"), out);
    let full = refusal(&run(&elsewhere, &all));
    assert!(full.contains("expected an empty one"), "{full}");
    // Its audit goes along as a folder.
    let audit = at("audit.copy");
    assert!(run(&config, &["backup", "--audit", &audit]).status.success());
    assert!(run(&elsewhere, &["restore", "--audit", &audit]).status.success());
    opens(&elsewhere).unwrap();
    assert_eq!(run(&elsewhere, &["authority"]).stdout, run(&config, &["authority"]).stdout);
    fs::write(at("cut.export"), &fs::read(&store).unwrap()[..100]).unwrap();
    let empty = TempDir::new().unwrap();
    let cut = refusal(&run(&self::config(empty.path()), &["import", "--store", &at("cut.export")]));
    assert!(cut.contains("cut.export: "), "{cut}");
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Whether the installation opens, with its key and what is sealed.
fn opens(config: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = weft_control::Config::load(config).unwrap();
        let opened = weft_control::init::open_stores(&config).await;
        let opened = opened.map_err(|error| format!("{error:#}"))?;
        let app = opened.app(weft_control::Clock::default(), &config.audit).await;
        app.map(drop).map_err(|error| format!("{error:#}"))
    })
}

#[test]
fn a_master_key_is_replaced_and_copies_of_before_and_after_open_with_theirs() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    assert!(run(&config, &INIT).status.success());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let alone = refusal(&run(&config, &["master-key", "rotate"]));
    assert!(alone.contains("there is one master key"), "{alone}");
    let (before, after) = (at("before.copy"), at("after.copy"));
    fs::copy(at("master.key"), at("old.key")).unwrap();
    assert!(run(&config, &["backup", "--keyring", &before]).status.success());

    let newer = said(run(&config, &["master-key", "add"]));
    let listed = said(run(&config, &["master-key", "list"]));
    let (old, _) = listed.split_once(' ').unwrap();
    assert_eq!(listed, format!("{old} wraps 1 keys\n{newer} wraps 0 keys, the newest"));
    let early = refusal(&run(&config, &["master-key", "remove", old]));
    assert!(early.contains("wraps 1 keys still"), "{early}");
    {
        // As a server has it.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config_of_server = weft_control::Config::load(&config).unwrap();
        let serving = runtime.block_on(weft_control::init::open_stores(&config_of_server)).unwrap();
        let refused = refusal(&run(&config, &["master-key", "rotate"]));
        assert!(refused.contains("stop the server for this"), "{refused}");
        drop(serving);
    }
    assert_eq!(
        said(run(&config, &["master-key", "rotate"])),
        "keys wrapped anew: 1, as they were: 0"
    );
    assert_eq!(opens(&config), Ok(()));
    assert!(run(&config, &["backup", "--keyring", &after]).status.success());
    let looked = said(run(&config, &["master-key", "remove", old, "--dry-run"]));
    assert_eq!(looked, format!("master key {old} wraps nothing and may go"));
    let gone = said(run(&config, &["master-key", "remove", old]));
    assert_eq!(gone, format!("master key {old} is gone"));
    assert_eq!(opens(&config), Ok(()));

    let put_back = |copy: &str| {
        for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
            if file.file_name().unwrap().to_string_lossy().starts_with("keyring.db") {
                fs::remove_file(file).unwrap();
            }
        }
        assert!(run(&config, &["restore", "--keyring", copy]).status.success());
    };
    put_back(&after);
    assert_eq!(opens(&config), Ok(()));
    // A copy of before needs the key of before, and says so.
    put_back(&before);
    let needed = opens(&config).unwrap_err();
    assert!(needed.contains(&format!("master key {old} is needed")), "{needed}");
    fs::copy(at("old.key"), at("master.key")).unwrap();
    assert_eq!(opens(&config), Ok(()));
}
