//! Blobs on S3 and on what speaks like it.
//!
//! An object has the same bytes as a file of [`super::FolderBlobs`]: its end is read first, and says with which
//! digests each part is compared. Reads name the version that they began with, so that a blob that is replaced while
//! it is read is an error and never a mixture.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, UpdateVersion,
    aws::{AmazonS3Builder, S3ConditionalPut},
    path::Path,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    Blob, BlobInfo, BlobStore, ByteRange, CONDITIONAL_PUT_LEN_MAX, Condition, Content, ETag,
    Listed,
    folder::{changed, part_of, too_long_for_a_condition},
    format::{BLOCK_LEN, DIGEST_LEN, TRAILER_LEN, Trailer, Writer, is_block},
};
use crate::{LIST_LEN_MAX, Page, error::ProviderError, name::BlobName};

/// Bytes of one part of an upload, and of one read: S3 wants at least 5 MiB and at most 10,000 parts, so the longest
/// blob has 8,193.
const PART_LEN: usize = 8 << 20;
/// What is read first, bytes: the trailer, and with it the digests of 2,046 blocks, or all of a small blob.
const TAIL_LEN: u64 = 64 << 10;

/// Where objects are.
#[derive(Clone)]
pub struct S3Settings {
    /// `https://…` of the service; the region's own at AWS if there is none.
    pub endpoint: Option<String>,
    /// For example `eu-central-1`; what the service says, or `us-east-1`, elsewhere.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What names of objects begin with; no slash behind it. Empty for nothing.
    pub prefix: String,
    /// Which key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Whether an endpoint may begin with `http://`. For tests on one host.
    pub allow_http: bool,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    /// Empty, or with a slash behind it.
    prefix: String,
}

impl ObjectBlobs {
    /// Blobs in a bucket. Nothing is asked of the service yet. A rule of the bucket should remove uploads that were
    /// not finished, which a process leaves that is killed.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] for settings that cannot be.
    pub fn s3(settings: S3Settings) -> Result<Self, ProviderError> {
        let mut builder = AmazonS3Builder::new()
            .with_region(settings.region)
            .with_bucket_name(settings.bucket)
            .with_access_key_id(settings.access_key_id)
            .with_secret_access_key(settings.secret_access_key)
            .with_allow_http(settings.allow_http)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // Not everything that speaks like S3 removes several objects at once.
            .with_disable_bulk_delete(true);
        if let Some(endpoint) = settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| ProviderError::Invalid(error.to_string()))?;
        Self::new(Arc::new(store), &settings.prefix)
    }

    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, ProviderError> {
        BlobName::check_prefix(prefix)?;
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        Ok(Self { store, prefix: format!("{prefix}{slash}") })
    }

    fn path(&self, name: &str) -> Path {
        // Names hold nothing that a path would write otherwise.
        Path::from(format!("{}{name}", self.prefix))
    }

    /// The end of an object, and its version.
    async fn tail(&self, name: &BlobName) -> Result<Tail, ProviderError> {
        let options =
            GetOptions { range: Some(GetRange::Suffix(TAIL_LEN)), ..GetOptions::default() };
        let what = format!("blob {name}");
        let found = self.store.get_opts(&self.path(name.as_str()), options).await;
        let found = found.map_err(|error| failed(&what, error))?;
        let (size, version) = (found.meta.size, found.meta.e_tag.clone());
        let bytes = found.bytes().await.map_err(|error| failed(&what, error))?;
        let trailer = Trailer::decode(&bytes, size).ok_or(ProviderError::Corrupt(what))?;
        let at = size - u64::try_from(bytes.len()).unwrap_or(size).min(size);
        Ok(Tail { name: name.clone(), trailer, version, at, bytes })
    }

    /// The version of the object that has this content.
    async fn version(&self, name: &BlobName, etag: ETag) -> Result<UpdateVersion, ProviderError> {
        match self.tail(name).await {
            Ok(tail) if tail.trailer.etag == etag => {
                Ok(UpdateVersion { e_tag: tail.version, version: None })
            }
            Ok(_) | Err(ProviderError::Absent(_)) => Err(changed(name)),
            Err(error) => Err(error),
        }
    }

    async fn put_whole(
        &self,
        name: &BlobName,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<(), ProviderError> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.store.put_opts(&self.path(name.as_str()), bytes.into(), options).await;
        match put {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Err(changed(name)),
            Err(error) => Err(failed(&format!("blob {name}"), error)),
        }
    }

    /// Uploads what is longer than one part, part after part.
    async fn put_parts(
        &self,
        name: &BlobName,
        mut part: BytesMut,
        mut writer: Writer,
        mut content: Content,
    ) -> Result<Trailer, ProviderError> {
        let failed = |error| failed(&format!("blob {name}"), error);
        // In a task of its own, so that an upload whose beginning nobody waits for any more is given up too.
        let (store, path) = (self.store.clone(), self.path(name.as_str()));
        let begun =
            async move { store.put_multipart(&path).await.map(|begun| Upload(Some(begun))) };
        let begun = tokio::spawn(begun).await;
        let mut upload = begun
            .map_err(|error| ProviderError::Unavailable(format!("blob {name}: {error}")))?
            .map_err(failed)?;
        while let Some(piece) = content.next().await {
            let piece = piece?;
            writer.update(&piece)?;
            part.extend_from_slice(&piece);
            while part.len() >= PART_LEN {
                upload.put(part.split_to(PART_LEN).freeze()).await.map_err(failed)?;
            }
        }
        let (trailer, tail) = writer.finish();
        part.extend_from_slice(&tail);
        while !part.is_empty() {
            let len = part.len().min(PART_LEN);
            upload.put(part.split_to(len).freeze()).await.map_err(failed)?;
        }
        upload.complete().await.map_err(failed)?;
        Ok(trailer)
    }
}

/// An upload that is given up when it is dropped before it is complete.
struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    async fn put(&mut self, part: Bytes) -> Result<(), Error> {
        match &mut self.0 {
            Some(upload) => upload.put_part(PutPayload::from_bytes(part)).await,
            None => Ok(()),
        }
    }

    async fn complete(mut self) -> Result<(), Error> {
        if let Some(upload) = &mut self.0 {
            upload.complete().await?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            // If this fails too, the bucket's rule removes it.
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

#[async_trait]
impl BlobStore for ObjectBlobs {
    async fn put(
        &self,
        name: &BlobName,
        mut content: Content,
        condition: Condition,
    ) -> Result<BlobInfo, ProviderError> {
        let mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Unchanged(etag) => PutMode::Update(self.version(name, etag).await?),
        };
        let is_conditional = condition != Condition::Always;
        let mut writer = Writer::default();
        let mut part = BytesMut::new();
        let trailer = loop {
            let Some(piece) = content.next().await else {
                let (trailer, tail) = writer.finish();
                part.extend_from_slice(&tail);
                self.put_whole(name, part.freeze(), mode).await?;
                break trailer;
            };
            let piece = piece?;
            if is_conditional && part.len() + piece.len() > CONDITIONAL_PUT_LEN_MAX {
                return Err(too_long_for_a_condition());
            }
            writer.update(&piece)?;
            part.extend_from_slice(&piece);
            if !is_conditional && part.len() > PART_LEN {
                break self.put_parts(name, part, writer, content).await?;
            }
        };
        Ok(BlobInfo { name: name.clone(), len: trailer.len, etag: trailer.etag })
    }

    async fn get(&self, name: &BlobName, range: ByteRange) -> Result<Blob, ProviderError> {
        let tail = self.tail(name).await?;
        let info = tail.info();
        let (start, end) = part_of(&info, range)?;
        let (pieces, content) = mpsc::channel(1);
        let blobs = self.clone();
        tokio::spawn(async move { blobs.send_blocks(tail, start, end, pieces).await });
        Ok(Blob { info, content: Box::pin(ReceiverStream::new(content)) })
    }

    async fn describe(&self, name: &BlobName) -> Result<BlobInfo, ProviderError> {
        Ok(self.tail(name).await?.info())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobName>,
        len_max: usize,
    ) -> Result<Page<Listed>, ProviderError> {
        BlobName::check_prefix(prefix)?;
        let len_max = len_max.min(LIST_LEN_MAX);
        // The library lists whole folders, so the last part of the prefix is compared here.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = self.path(folder);
        let folder = (!folder.as_ref().is_empty()).then_some(&folder);
        let mut stream = match after {
            Some(after) => self.store.list_with_offset(folder, &self.path(after.as_str())),
            None => self.store.list(folder),
        };
        let mut page = Page { entries: Vec::new(), more: false };
        while let Some(found) = stream.next().await {
            let found = found.map_err(|error| failed("the blob store", error))?;
            let name = found.location.as_ref().strip_prefix(&self.prefix);
            let Some(Ok(name)) = name.map(BlobName::new) else { continue };
            if !name.as_str().starts_with(prefix) {
                if name.as_str() > prefix {
                    break;
                }
                continue;
            }
            if page.entries.len() == len_max {
                page.more = true;
                break;
            }
            page.entries.push(Listed { name });
        }
        Ok(page)
    }

    async fn delete(&self, name: &BlobName) -> Result<(), ProviderError> {
        match self.store.delete(&self.path(name.as_str())).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(&format!("blob {name}"), error)),
        }
    }
}

/// The end of an object.
struct Tail {
    name: BlobName,
    trailer: Trailer,
    version: Option<String>,
    /// Where in the object `bytes` are.
    at: u64,
    bytes: Bytes,
}

impl Tail {
    fn info(&self) -> BlobInfo {
        BlobInfo { name: self.name.clone(), len: self.trailer.len, etag: self.trailer.etag }
    }
}

impl ObjectBlobs {
    /// Reads and compares block after block, until nobody wants more.
    async fn send_blocks(
        &self,
        tail: Tail,
        start: u64,
        end: u64,
        pieces: mpsc::Sender<Result<Bytes, ProviderError>>,
    ) {
        let blocks_per_read = u64::try_from(PART_LEN / BLOCK_LEN).unwrap_or(1);
        let mut blocks = Trailer::blocks_of(start, end);
        while !blocks.is_empty() {
            let some = blocks.start..blocks.end.min(blocks.start + blocks_per_read);
            blocks.start = some.end;
            let read = match self.read_blocks(&tail, some.clone()).await {
                Ok(read) => read,
                Err(error) => {
                    let _ = pieces.send(Err(error)).await;
                    return;
                }
            };
            let stored = tail.trailer.block_at(some.start).start;
            let from = usize::try_from(start.saturating_sub(stored)).unwrap_or(PART_LEN);
            let until = usize::try_from(end - stored).unwrap_or(PART_LEN).min(read.len());
            if pieces.send(Ok(read.slice(from..until))).await.is_err() {
                return;
            }
        }
    }

    async fn read_blocks(
        &self,
        tail: &Tail,
        blocks: std::ops::Range<u64>,
    ) -> Result<Bytes, ProviderError> {
        let trailer = &tail.trailer;
        let last = trailer.block_at(blocks.end.saturating_sub(1)).end;
        let content = self.read(tail, trailer.block_at(blocks.start).start..last).await?;
        let digests = trailer.digests_at(blocks.start)..trailer.digests_at(blocks.end);
        let digests = self.read(tail, digests).await?;
        let all = content.chunks(BLOCK_LEN).zip(digests.chunks(DIGEST_LEN));
        for (number, (block, digest)) in blocks.zip(all) {
            if !is_block(number, block, digest) {
                return Err(ProviderError::Corrupt(format!("blob {}", tail.name)));
            }
        }
        Ok(content)
    }

    /// These bytes of the object, of the version whose end it is.
    async fn read(&self, tail: &Tail, range: std::ops::Range<u64>) -> Result<Bytes, ProviderError> {
        let what = format!("blob {}", tail.name);
        let len = usize::try_from(range.end - range.start).unwrap_or(PART_LEN);
        if let Some(from) = range.start.checked_sub(tail.at) {
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(tail.bytes.len());
            return Ok(tail.bytes.slice(from..(from + len).min(tail.bytes.len() - TRAILER_LEN)));
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: tail.version.clone(),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&self.path(tail.name.as_str()), options).await;
        let bytes = match found {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) if bytes.len() == len => Ok(bytes),
            Ok(_) => Err(ProviderError::Corrupt(what)),
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => {
                Err(ProviderError::Conflict(format!("{what} was replaced while it was read")))
            }
            Err(error) => Err(failed(&what, error)),
        }
    }
}

fn failed(what: &str, error: Error) -> ProviderError {
    match error {
        Error::NotFound { .. } => ProviderError::Absent(what.to_owned()),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => {
            ProviderError::Conflict(format!("{what} is not what was expected"))
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            ProviderError::Denied(what.to_owned())
        }
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            ProviderError::Unsupported("a condition")
        }
        other => ProviderError::Unavailable(format!("{what}: {other}")),
    }
}

#[cfg(test)]
mod tests;
