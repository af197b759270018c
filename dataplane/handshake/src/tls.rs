//! The one place where TLS is configured: versions, suites, groups, no resumption.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, ServerConfig, SupportedCipherSuite,
    client::Resumption,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    server::NoServerSessionStorage,
    version::TLS13,
};

use crate::{
    environment::{Environment, KeyExchange},
    verifier::{ClientVerifier, SIGNATURES, ServerVerifier},
};

/// Application protocol (ALPN) of the handshake.
pub const ALPN: &[u8] = b"weft/1";

static CIPHER_SUITES: &[SupportedCipherSuite] =
    &[cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: CIPHER_SUITES.to_vec(),
        kx_groups: groups.to_vec(),
        signature_verification_algorithms: SIGNATURES,
        ..aws_lc_rs::default_provider()
    })
}

static HYBRID_OR_CLASSICAL: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| provider(&[kx_group::X25519MLKEM768, kx_group::X25519]));
static HYBRID_ONLY: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| provider(&[kx_group::X25519MLKEM768]));

fn provider_for(key_exchange: KeyExchange) -> Arc<CryptoProvider> {
    Arc::clone(match key_exchange {
        KeyExchange::HybridOrClassical => &HYBRID_OR_CLASSICAL,
        KeyExchange::HybridOnly => &HYBRID_ONLY,
    })
}

/// TLS server of one connection in one environment.
pub(crate) fn server_config(
    environment: &Environment,
    verifier: Arc<ClientVerifier>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = provider_for(environment.key_exchange());
    let mut config = ServerConfig::builder_with_details(provider, environment.time().clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(environment.certificate());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    #[cfg(any(test, feature = "test-hooks"))]
    {
        config.key_log = crate::test_hooks::key_log();
    }
    Ok(Arc::new(config))
}

/// TLS client of one connection in one environment.
pub(crate) fn client_config(
    environment: &Environment,
    verifier: Arc<ServerVerifier>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider_for(environment.key_exchange());
    let mut config = ClientConfig::builder_with_details(provider, environment.time().clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(environment.certificate());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    #[cfg(any(test, feature = "test-hooks"))]
    {
        config.key_log = crate::test_hooks::key_log();
    }
    Ok(Arc::new(config))
}
