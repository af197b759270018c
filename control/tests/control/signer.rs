//! An SSH key of somebody, and what is signed with it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ssh_key::{
    Algorithm, HashAlg, LineEnding, Signature, SshSig,
    public::{Ed25519PublicKey, KeyData},
};
use tonic::{Status, transport::Channel};
use weft_control::ssh;
use weft_control_api::{
    SSH_KEY_NAMESPACE,
    v1::{self, ssh_keys_client::SshKeysClient},
};

use crate::site::{PASSWORD, with};

/// A key, another one for each number.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    public: KeyData,
}

impl Signer {
    pub(crate) fn new(n: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        Self { pair, public: KeyData::Ed25519(Ed25519PublicKey(public)) }
    }

    /// As the wire has it.
    pub(crate) fn blob(&self) -> Vec<u8> {
        ssh_key::PublicKey::from(self.public.clone()).to_bytes().unwrap()
    }

    pub(crate) fn line(&self) -> String {
        let line = ssh_key::PublicKey::from(self.public.clone()).to_openssh().unwrap();
        format!("{line} laptop")
    }

    pub(crate) fn fingerprint(&self) -> String {
        ssh::fingerprint(&self.blob())
    }

    /// What `ssh-keygen -Y sign` makes of a message.
    pub(crate) fn sign_for(&self, namespace: &str, message: &str) -> String {
        let data = SshSig::signed_data(namespace, HashAlg::Sha512, message.as_bytes()).unwrap();
        let signature = Signature::new(Algorithm::Ed25519, self.pair.sign(&data).as_ref()).unwrap();
        let signed = SshSig::new(self.public.clone(), namespace, HashAlg::Sha512, signature);
        signed.unwrap().to_pem(LineEnding::LF).unwrap()
    }

    pub(crate) fn sign(&self, message: &str) -> String {
        self.sign_for(SSH_KEY_NAMESPACE, message)
    }

    /// What is to be signed, as somebody is told.
    pub(crate) async fn challenge(&self, channel: &Channel, by: &str) -> Result<String, Status> {
        let challenge = v1::ChallengeSshKeyRequest { key: self.line() };
        let mut keys = SshKeysClient::new(channel.clone());
        Ok(keys.challenge_ssh_key(with(challenge, by)).await?.into_inner().message)
    }

    /// Everything that is shown to add it.
    pub(crate) fn request(&self, message: String) -> v1::AddSshKeyRequest {
        let signature = self.sign(&message);
        v1::AddSshKeyRequest {
            key: self.line(),
            name: String::new(),
            password: PASSWORD.to_owned(),
            code: String::new(),
            message,
            signature,
        }
    }

    pub(crate) async fn add(&self, channel: &Channel, by: &str) -> Result<v1::SshKey, Status> {
        let request = self.request(self.challenge(channel, by).await?);
        Ok(SshKeysClient::new(channel.clone()).add_ssh_key(with(request, by)).await?.into_inner())
    }
}
