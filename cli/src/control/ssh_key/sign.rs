//! Signing with an SSH key, by what everybody has who has one: `ssh-keygen`.

use std::{
    io::{ErrorKind, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use data_encoding::HEXLOWER;
use weft_control_api::SSH_KEY_NAMESPACE;
use weft_pki::installation;

const PROGRAM: &str = "ssh-keygen";

/// What is to be signed is for the installation that is meant: another one could have been told it, and hand it on.
pub(super) fn is_for(message: &str, authority: &str) -> Result<()> {
    let anchor = installation::anchor(authority.as_bytes())
        .context("the authority's certificate cannot be used")?;
    let expected = format!("authority: {}", HEXLOWER.encode(&installation::fingerprint(&anchor)));
    if !message.lines().any(|line| line == expected) {
        bail!("nothing is signed: what the control plane wants signed is for another installation");
    }
    Ok(())
}

/// A command that signs a file where the private key is.
pub(super) fn command(key: &Path, message: &Path) -> String {
    let (key, message) = (key.display(), message.display());
    format!("{PROGRAM} -Y sign -f {key} -n {SSH_KEY_NAMESPACE} {message}")
}

/// Signs with the private key beside the public one, or with an agent's. Whoever has to give a passphrase, or touch
/// something, is asked by `ssh-keygen` itself.
pub(super) fn sign(key: &Path, message: &str) -> Result<String> {
    let signing = Command::new(PROGRAM)
        .args(["-Y", "sign", "-n", SSH_KEY_NAMESPACE, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut signing = match signing {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{PROGRAM} is not here (OpenSSH 8.0 or later); {}", elsewhere(key))
        }
        signing => signing.with_context(|| format!("cannot run {PROGRAM}"))?,
    };
    if let Some(mut input) = signing.stdin.take() {
        // It may end before it reads; then it has said why.
        let _ = input.write_all(message.as_bytes());
    }
    let signed = signing.wait_with_output().with_context(|| format!("cannot run {PROGRAM}"))?;
    let signature = String::from_utf8(signed.stdout).unwrap_or_default();
    if !signed.status.success() || signature.is_empty() {
        bail!("{PROGRAM} has not signed with {}; {}", key.display(), elsewhere(key));
    }
    Ok(signature)
}

/// What to do where the private key is not here.
fn elsewhere(key: &Path) -> String {
    let file = key.display();
    format!(
        "where the private key is elsewhere: weft ssh-key challenge {file} --message message, sign that with {:?}, then \
         weft ssh-key add {file} --message message --signature message.sig",
        command(key, Path::new("message"))
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use weft_pki::{KeyKind, issue::Validity};
    use weft_types::InstallationId;

    use super::*;

    #[test]
    fn what_is_for_another_installation_is_not_signed() {
        let authority = |name: &str| {
            let name: InstallationId = name.parse().unwrap();
            let validity = Validity::days(SystemTime::now(), Duration::ZERO, 1);
            installation::new_authority(&name, validity, KeyKind::EcdsaP256)
                .unwrap()
                .certificate_pem
        };
        let (own, other) = (authority("weft"), authority("weft"));
        let anchor = installation::anchor(own.as_bytes()).unwrap();
        let fingerprint = HEXLOWER.encode(&installation::fingerprint(&anchor));
        let message = format!("weft ssh-key 1\ninstallation: weft\nauthority: {fingerprint}\n");
        is_for(&message, &own).unwrap();
        for refused in [is_for(&message, &other), is_for("weft ssh-key 1\n", &own)] {
            assert!(refused.unwrap_err().to_string().starts_with("nothing is signed"));
        }
    }
}
