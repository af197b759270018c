//! Files and their PEM sections.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{PemObject, SectionKind},
};
use zeroize::{Zeroize, Zeroizing};

use crate::error::PkiError;

/// Largest accepted PEM file in bytes; eight certificates of 4 KiB in base64 are below 48 KiB.
pub const PEM_LEN_MAX: usize = 64 * 1024;

/// Reads a certificate or key file of at most [`PEM_LEN_MAX`] bytes into memory that is wiped on
/// drop. The buffer never grows, so no unwiped copy is left behind.
///
/// # Errors
/// Those of opening and reading; [`io::ErrorKind::FileTooLarge`] beyond the limit.
pub fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; PEM_LEN_MAX + 1]);
    let mut file = File::open(path)?;
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if len > PEM_LEN_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the file is larger than {PEM_LEN_MAX} bytes; expected a PEM file"),
            ));
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The certificates of a file that holds nothing else.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let mut found = Vec::new();
    for section in sections(pem)? {
        match section {
            (SectionKind::Certificate, der) => found.push(CertificateDer::from(der)),
            (kind, mut der) => {
                der.zeroize();
                return Err(PkiError::Pem(format!(
                    "holds a {}; expected certificates only (BEGIN CERTIFICATE)",
                    kind_name(kind)
                )));
            }
        }
    }
    if found.is_empty() {
        return Err(PkiError::Pem(
            "holds no certificate; expected PEM text with BEGIN CERTIFICATE".to_owned(),
        ));
    }
    Ok(found)
}

/// The one private key of a file; certificates beside it are an error, so that a file given in
/// the wrong place is noticed.
pub(crate) fn private_key(pem: &[u8]) -> Result<Zeroizing<PrivateKeyDer<'static>>, PkiError> {
    let mut found = None;
    for (kind, der) in sections(pem)? {
        let der = Zeroizing::new(der);
        // The section's copy is moved into the key, which wipes it.
        let key = PrivateKeyDer::from_pem(kind, der.to_vec()).map(Zeroizing::new);
        match (key, &found) {
            (Some(key), None) => found = Some(key),
            (Some(_), Some(_)) => {
                return Err(PkiError::Pem(
                    "holds more than one private key; expected one".to_owned(),
                ));
            }
            (None, _) => {
                return Err(PkiError::Pem(format!(
                    "holds a {}; expected one private key (BEGIN PRIVATE KEY)",
                    kind_name(kind)
                )));
            }
        }
    }
    found.ok_or_else(|| {
        PkiError::Pem(
            "holds no private key; expected PEM text with BEGIN PRIVATE KEY (not encrypted)"
                .to_owned(),
        )
    })
}

fn sections(pem: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, PkiError> {
    if pem.len() > PEM_LEN_MAX {
        return Err(PkiError::TooLarge {
            what: "the length of the PEM text in bytes",
            found: pem.len(),
            max: PEM_LEN_MAX,
        });
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| {
        // The parser's own text may quote the file, which may hold a key.
        PkiError::Pem("is not well-formed PEM text; expected BEGIN, base64, END".to_owned())
    })
}

fn kind_name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "certificate",
        SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
            "private key"
        }
        SectionKind::Csr => "certificate request",
        SectionKind::Crl => "revocation list",
        SectionKind::PublicKey => "public key",
        _ => "section of another kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_in_the_file_instead() {
        let wrong = |r: Result<(), PkiError>| r.unwrap_err().to_string();
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let cert = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let certs = |pem: &str| wrong(certificates(pem.as_bytes()).map(drop));
        let keys = |pem: &str| wrong(private_key(pem.as_bytes()).map(drop));
        assert!(certs("").contains("holds no certificate"));
        assert!(certs(key).contains("holds a private key"));
        assert!(certs("-----BEGIN CERTIFICATE-----\nMAA=\n").contains("not well-formed"));
        assert!(keys("").contains("holds no private key"));
        assert!(keys(cert).contains("holds a certificate"));
        assert!(keys(&key.repeat(2)).contains("more than one"));
        assert!(certs(&" ".repeat(PEM_LEN_MAX + 1)).contains("expected at most"));
        // Base64 of a broken file is not repeated.
        let broken = "-----BEGIN PRIVATE KEY-----\nSECRET!\n-----END PRIVATE KEY-----\n";
        assert!(!keys(broken).contains("SECRET"));
    }

    #[test]
    fn reads_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![b'x'; PEM_LEN_MAX]).unwrap();
        assert_eq!(read_file(&path).unwrap().len(), PEM_LEN_MAX);
        std::fs::write(&path, vec![b'x'; PEM_LEN_MAX + 1]).unwrap();
        assert_eq!(read_file(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_file(Path::new("/dev/zero")).is_err());
        assert!(read_file(&dir.path().join("none")).is_err());
    }
}
