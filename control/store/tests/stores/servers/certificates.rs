//! Certificates of one test.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use weft_store::EtcdTls;

pub(crate) struct Certificates {
    authority: String,
    server: (String, String),
    client: (String, String),
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = || {
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            // The server asks itself, too, for its gateway.
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        Self { authority: authority.pem(), server: issue(), client: issue() }
    }

    pub(crate) fn write(&self, directory: &Path) {
        let (certificate, key) = &self.server;
        for (name, text) in
            [("authority.pem", &self.authority), ("server.pem", certificate), ("server.key", key)]
        {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    pub(crate) fn of_client(&self) -> EtcdTls {
        let bytes = |text: &String| text.clone().into_bytes();
        EtcdTls {
            authority: bytes(&self.authority),
            certificate: bytes(&self.client.0),
            key: bytes(&self.client.1),
        }
    }
}
