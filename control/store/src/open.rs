//! Opening a store by what an operator has said.

use std::sync::Arc;

use crate::{error::StoreError, export, store::Store, url::StoreUrl};

/// What each kind of store takes.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// For a file.
    #[cfg(feature = "sqlite")]
    pub sqlite: crate::SqliteOptions,
    /// For a cluster; without it, only members on this machine are used.
    #[cfg(feature = "etcd")]
    pub etcd_tls: Option<crate::EtcdTls>,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The file is not opened.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Sqlite(#[from] crate::sqlite::OpenError),
    /// It does not answer, or not well.
    #[error("{url}: {source}")]
    Store {
        /// Where it is.
        url: StoreUrl,
        /// What it said.
        #[source]
        source: StoreError,
    },
    /// Keys of all tenants would go over a network as they are.
    #[error("endpoint {endpoint} of etcd is on another machine; expected certificates for TLS")]
    Unencrypted {
        /// Which one.
        endpoint: String,
    },
    /// Somebody began to fill it, and did not get to the end.
    #[error("{url}: an import was interrupted; import again")]
    HalfImported {
        /// Where it is.
        url: StoreUrl,
    },
    /// This program was built without that kind of store.
    #[error("{url}: this program is built without {kind}")]
    NotBuilt {
        /// Where it is.
        url: StoreUrl,
        /// Which kind.
        kind: &'static str,
    },
}

/// Opens the store at `url` and looks whether it answers. To be called inside a tokio runtime.
///
/// # Errors
/// [`OpenStoreError`] names what is wrong.
pub async fn open(
    url: &StoreUrl,
    options: &StoreOptions,
) -> Result<Arc<dyn Store>, OpenStoreError> {
    let store = connect(url, options)?;
    match export::is_half_imported(&*store).await {
        Ok(false) => Ok(store),
        Ok(true) => Err(OpenStoreError::HalfImported { url: url.clone() }),
        Err(source) => Err(OpenStoreError::Store { url: url.clone(), source }),
    }
}

/// Opens the store at `url` to import into it, also when an import was interrupted.
///
/// # Errors
/// [`OpenStoreError`] names what is wrong.
pub fn connect(url: &StoreUrl, options: &StoreOptions) -> Result<Arc<dyn Store>, OpenStoreError> {
    match url {
        StoreUrl::Sqlite(path) => sqlite(url, path, options),
        StoreUrl::Etcd { endpoints, prefix } => etcd(url, endpoints, prefix, options),
    }
}

#[cfg(feature = "sqlite")]
fn sqlite(
    _: &StoreUrl,
    path: &std::path::Path,
    options: &StoreOptions,
) -> Result<Arc<dyn Store>, OpenStoreError> {
    Ok(Arc::new(crate::Sqlite::open(path, options.sqlite)?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(
    url: &StoreUrl,
    _: &std::path::Path,
    _: &StoreOptions,
) -> Result<Arc<dyn Store>, OpenStoreError> {
    Err(OpenStoreError::NotBuilt { url: url.clone(), kind: "sqlite" })
}

#[cfg(feature = "etcd")]
fn etcd(
    url: &StoreUrl,
    endpoints: &[String],
    prefix: &str,
    options: &StoreOptions,
) -> Result<Arc<dyn Store>, OpenStoreError> {
    let tls = options.etcd_tls.clone();
    if tls.is_none()
        && let Some(endpoint) = endpoints.iter().find(|endpoint| !crate::url::is_loopback(endpoint))
    {
        return Err(OpenStoreError::Unencrypted { endpoint: endpoint.clone() });
    }
    let options =
        crate::EtcdOptions { endpoints: endpoints.to_vec(), prefix: prefix.to_owned(), tls };
    match crate::Etcd::new(&options) {
        Ok(etcd) => Ok(Arc::new(etcd)),
        Err(source) => Err(OpenStoreError::Store { url: url.clone(), source }),
    }
}

#[cfg(not(feature = "etcd"))]
fn etcd(
    url: &StoreUrl,
    _: &[String],
    _: &str,
    _: &StoreOptions,
) -> Result<Arc<dyn Store>, OpenStoreError> {
    Err(OpenStoreError::NotBuilt { url: url.clone(), kind: "etcd" })
}
