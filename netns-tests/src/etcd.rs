//! A server of etcd on a host, as the store of a control plane: with TLS, as from another machine.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use crate::process::{PATIENCE, Process, wait_for};
use crate::topology::Host;

/// Port for clients.
const PORT: u16 = 2379;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Etcd {
    process: Process,
    address: IpAddr,
    dir: PathBuf,
}

impl Etcd {
    /// Starts it at an address of the host, with its files in `dir`, and waits until it listens.
    pub(crate) fn start(host: &Host, address: IpAddr, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        issue(address, dir)?;
        let url = format!("https://{address}:{PORT}");
        let mut command = host.ns.command("etcd");
        command.arg("--data-dir").arg(dir.join("data"));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(dir.join("authority.pem"));
        command.arg("--cert-file").arg(dir.join("server.pem"));
        command.arg("--key-file").arg(dir.join("server.key"));
        let process = Process::start(&mut command, Some(&dir.join("log")))?;
        wait_for("etcd", PATIENCE, || Ok(process.listens_on(PORT).then_some(())))
            .with_context(|| process.log())?;
        Ok(Self { process, address, dir: dir.to_owned() })
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What a control plane is told of it: its store of this name.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("etcd://{}:{PORT}/{name}", self.address)
    }

    /// The table `etcd` of the configuration of a control plane.
    pub(crate) fn table(&self) -> String {
        let file = |name: &str| self.dir.join(name).display().to_string();
        format!(
            "[etcd]\nauthority = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
            file("authority.pem"),
            file("client.pem"),
            file("client.key"),
        )
    }
}

/// Certificates of the server and of its clients, of one authority.
fn issue(address: IpAddr, dir: &Path) -> Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("authority.pem"), authority.pem())?;
    for name in ["server", "client"] {
        let mut params = CertificateParams::new([address.to_string()])?;
        // The server asks itself, too, for its gateway.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        fs::write(dir.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}
