//! Which blob store, and by what it knows this process.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use weft_audit::ProcessId;
use weft_providers::{
    BlobName, BlobStore, FolderBlobs, ObjectBlobs, ProviderError, blob::S3Settings,
};
use zeroize::Zeroizing;

/// Longest file with credentials, bytes.
pub const CREDENTIALS_LEN_MAX: u64 = 4 << 10;
/// Longest name of a bucket, bytes (Amazon S3, general purpose buckets).
const BUCKET_LEN_MAX: usize = 63;
/// Longest prefix in a bucket, bytes: names of objects come behind it.
const PREFIX_LEN_MAX: usize = 256;
/// Longest path of a folder, bytes: it is in what is signed.
const FOLDER_LEN_MAX: usize = 1_024;
/// What others may with a file that nobody else may read.
const MODE_OF_OTHERS: u32 = 0o077;
/// The region unless the file says otherwise: what does not care takes it.
const REGION_DEFAULT: &str = "us-east-1";

/// Where the parts of a blob store are that belong to processes: none writes to another one's.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync {
    /// The part of a process, for that one to write.
    ///
    /// # Errors
    /// What is wrong with it, or with what this process shows.
    async fn own(&self, process: &ProcessId) -> Result<Arc<dyn BlobStore>, ProviderError>;

    /// The part of any process, to be read, also while that one writes.
    ///
    /// # Errors
    /// As by [`Blobs::own`].
    async fn of(&self, process: &ProcessId) -> Result<Arc<dyn BlobStore>, ProviderError>;
}

/// `folder:PATH` or `s3://BUCKET/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobUrl {
    /// A folder of this machine, which is there: another one's disk.
    Folder(PathBuf),
    /// A bucket of S3 or of what speaks like it.
    S3 {
        /// Which.
        bucket: String,
        /// What names of objects begin with; empty for nothing.
        prefix: String,
    },
}

impl fmt::Display for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "folder:{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl FromStr for BlobUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("folder:") {
            return match path.starts_with('/') && path.len() <= FOLDER_LEN_MAX {
                true => Ok(Self::Folder(path.into())),
                false => Err(format!(
                    "{text:?}; expected folder: with a path from / on, at most {FOLDER_LEN_MAX} bytes"
                )),
            };
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(format!("{text:?}; expected folder:PATH or s3://BUCKET/PREFIX"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        if !(3..=BUCKET_LEN_MAX).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
            return Err(format!(
                "bucket {bucket:?}; expected 3 to {BUCKET_LEN_MAX} of a-z, 0-9, '-' and '.'"
            ));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_good = prefix.is_empty() || BlobName::new(prefix).is_ok();
        if !is_good || prefix.len() > PREFIX_LEN_MAX {
            return Err(format!(
                "prefix {prefix:?}; expected at most {PREFIX_LEN_MAX} of A-Z, a-z, 0-9, '-', '_', '.' and '/', no \
                 part of which begins with '.'"
            ));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// What else is to be known of a service that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Access {
    /// `https://…`; the region's own at AWS if there is none.
    pub endpoint: Option<String>,
    /// For example `eu-central-1`; `us-east-1` if there is none.
    pub region: Option<String>,
    /// The file with the key, which nobody else may read.
    pub credentials: PathBuf,
}

/// The key, as its file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
}

/// Where segments are shipped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPlace {
    /// Which.
    pub url: BlobUrl,
    /// With S3: how it is reached.
    pub s3: Option<S3Access>,
}

impl BlobPlace {
    fn s3(
        &self,
        bucket: &str,
        prefix: &str,
        process: &ProcessId,
    ) -> Result<ObjectBlobs, ProviderError> {
        let access = self.s3.as_ref();
        let access = access.ok_or_else(|| ProviderError::Invalid("s3: is missing".to_owned()))?;
        let Credentials { access_key_id, secret_access_key } = read(&access.credentials)?;
        let slash = if prefix.is_empty() { "" } else { "/" };
        let region = access.region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned());
        let endpoint = access.endpoint.clone();
        // The configuration has none of these: what is sent there is only what a test makes.
        let allow_http = endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        ObjectBlobs::s3(S3Settings {
            endpoint,
            region,
            bucket: bucket.to_owned(),
            prefix: format!("{prefix}{slash}{process}"),
            access_key_id,
            secret_access_key,
            allow_http,
        })
    }
}

#[async_trait]
impl Blobs for BlobPlace {
    async fn own(&self, process: &ProcessId) -> Result<Arc<dyn BlobStore>, ProviderError> {
        let (place, process) = (self.clone(), process.clone());
        let opened = spawn_blocking(move || match &place.url {
            BlobUrl::Folder(folder) if !folder.is_dir() => {
                Err(ProviderError::Absent(format!("{}: the folder", folder.display())))
            }
            BlobUrl::Folder(folder) => {
                let blobs = FolderBlobs::open(&folder.join(process.as_str()))?;
                Ok(Arc::new(blobs) as Arc<dyn BlobStore>)
            }
            BlobUrl::S3 { bucket, prefix } => {
                let blobs = place.s3(bucket, prefix, &process)?;
                Ok(Arc::new(blobs) as Arc<dyn BlobStore>)
            }
        });
        opened.await.map_err(|error| ProviderError::Unavailable(error.to_string()))?
    }

    async fn of(&self, process: &ProcessId) -> Result<Arc<dyn BlobStore>, ProviderError> {
        match &self.url {
            BlobUrl::Folder(folder) => {
                Ok(Arc::new(FolderBlobs::reading(&folder.join(process.as_str()))))
            }
            BlobUrl::S3 { .. } => self.own(process).await,
        }
    }
}

/// The key in a file. What is wrong with the file is said without what is in it.
fn read(path: &Path) -> Result<Credentials, ProviderError> {
    let wrong = |problem: String| {
        ProviderError::Invalid(format!("s3.credentials: {} {problem}", path.display()))
    };
    let io = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?;
    if !found.is_file() {
        return Err(wrong("is no file; expected one".to_owned()));
    }
    let mode = found.mode() & 0o7777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(wrong(format!("has mode {mode:04o}; expected 0600: nobody else reads it")));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(CREDENTIALS_LEN_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > CREDENTIALS_LEN_MAX {
        return Err(wrong(format!(
            "is longer than expected; expected {CREDENTIALS_LEN_MAX} bytes"
        )));
    }
    toml::from_str(&text).map_err(|_| {
        wrong(
            "cannot be understood; expected access_key_id = \"…\" and secret_access_key = \"…\""
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn places_are_understood_and_said_again() {
        for text in ["folder:/mnt/blobs", "s3://weft-audit/", "s3://weft.audit/a/b_c"] {
            assert_eq!(text.parse::<BlobUrl>().unwrap().to_string(), text);
        }
        for text in ["s3://weft-audit", "s3://weft-audit//"] {
            assert_eq!(text.parse::<BlobUrl>().unwrap().to_string(), "s3://weft-audit/");
        }
        for (text, said) in [
            ("", "expected folder:PATH or s3://BUCKET/PREFIX"),
            ("/mnt/blobs", "expected folder:PATH or s3://BUCKET/PREFIX"),
            ("folder:blobs", "expected folder: with a path from / on"),
            ("s3://", "bucket \"\"; expected 3 to 63"),
            ("s3://Bucket/a", "bucket \"Bucket\"; expected"),
            ("s3://bucket/../a", "prefix \"../a\"; expected"),
            ("s3://key:secret@bucket/a", "bucket \"key:secret@bucket\"; expected"),
        ] {
            let error = text.parse::<BlobUrl>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_is_read_from_a_file_that_nobody_else_reads_and_never_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s3.credentials");
        let refused = |said: &str| {
            let error = read(&path).err().unwrap().to_string();
            assert!(error.contains(said) && error.contains("s3.credentials"), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        };
        refused("cannot be read");
        let set = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let good = "access_key_id = \"AK\"\nsecret_access_key = \"SECRET\"\n";
        set(good, 0o640);
        refused("has mode 0640; expected 0600");
        set(good, 0o600);
        let found = read(&path).unwrap();
        assert_eq!((&*found.access_key_id, &*found.secret_access_key), ("AK", "SECRET"));
        for bad in ["SECRET", "access_key_id = \"SECRET\"", &format!("{good}SECRET = 1\n")] {
            set(bad, 0o600);
            refused("expected access_key_id");
        }
        set(&"#".repeat(5_000), 0o600);
        refused("expected 4096 bytes");
    }
}
