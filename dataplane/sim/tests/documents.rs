//! The documents name tests for their rules; here they are held to it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Rust files, by their path with `/`.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<_> =
        ["dataplane", "control", "cli", "netns-tests", "benches", "providers"]
            .map(|f| root().join(f))
            .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("readable");
                found.insert(path.to_string_lossy().replace('\\', "/"), text);
            }
        }
    }
    found
}

/// What stands between backquotes and looks like `file.rs::test`.
fn named_tests(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.split_once(".rs::"))
        .map(|(file, test)| (format!("/{file}.rs"), test.to_owned()))
        .collect()
}

#[test]
fn every_named_test_exists() {
    let sources = sources();
    let mut count = 0;
    for document in [
        "docs/protocol.md",
        "ARCHITECTURE.md",
        "docs/threat-model.md",
        "docs/dns.md",
        "docs/policy.md",
    ] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        // Fences have three backquotes; without them they pair up.
        for (file, test) in named_tests(&text.replace("```", "")) {
            let exists = sources
                .iter()
                .filter(|(path, _)| path.ends_with(&file))
                .any(|(_, text)| text.contains(&format!("fn {test}(")));
            assert!(exists, "{document} names {file}::{test}");
            count += 1;
        }
    }
    assert!(count > 100, "only {count} tests are named");
}

#[test]
fn every_rule_of_the_protocol_names_a_test() {
    let text = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let rules: Vec<_> = text.split("\n- **").skip(1).collect();
    assert!(rules.len() >= 60, "{} rules", rules.len());
    let mut seen = std::collections::HashSet::new();
    for rule in rules {
        let (name, rest) = rule.split_once(".**").expect("- **X1.** rule");
        assert!(seen.insert(name), "{name} twice");
        let body = rest.split("\n## ").next().unwrap();
        assert!(body.contains(".rs::"), "rule {name} names no test");
    }
}
