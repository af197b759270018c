//! What shells get to complete the command.

use std::process::Command;

#[test]
fn every_shell_knows_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        let output = command.args(["completion", shell]).output().unwrap();
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in [
            "net",
            "env",
            "allow-host",
            "member",
            "join",
            "token",
            "ssh-key",
            "account",
            "user",
            "secret",
            "audit",
            "doctor",
            "completion",
        ] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}
