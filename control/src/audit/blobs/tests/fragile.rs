//! A blob store in a folder, whose calls fail, hang or lie.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::watch;
use weft_providers::{
    BlobName, BlobStore, FolderBlobs, Page, ProviderError,
    blob::{Blob, BlobInfo, ByteRange, Condition, Content, Listed, content},
};

use super::*;

/// Longest object of a test, bytes.
const LEN_MAX: usize = 8 << 20;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing was done.
    NotDone,
    /// It was done, and nobody is told.
    AnswerLost,
}

/// What is not true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// It says that it has put what it forgets.
    Forgets,
    /// It puts something else.
    Changes,
    /// It has it, and answers something else.
    AnswersOther,
}

#[derive(Debug)]
struct Inside {
    blobs: FolderBlobs,
    root: PathBuf,
    calls: AtomicUsize,
    failure: Mutex<Option<(usize, How)>>,
    lie: Mutex<Option<Lie>>,
    /// What was put, each time.
    writes: Mutex<Vec<String>>,
    hangs: watch::Sender<bool>,
    waiting: AtomicUsize,
}

/// See the module's text. Clones are the same store.
#[derive(Debug, Clone)]
pub(super) struct Fragile(Arc<Inside>);

impl Fragile {
    /// In a folder, for one process.
    pub(super) fn new(root: &Path, process: &ProcessId) -> Self {
        let blobs = FolderBlobs::open(&root.join(process.as_str())).unwrap();
        Self(Arc::new(Inside {
            blobs,
            root: root.to_owned(),
            calls: AtomicUsize::default(),
            failure: Mutex::default(),
            lie: Mutex::default(),
            writes: Mutex::default(),
            hangs: watch::Sender::default(),
            waiting: AtomicUsize::default(),
        }))
    }

    /// The call with this number, counted from 0 on from now, fails.
    pub(super) fn fail(&self, number: usize, how: How) {
        self.0.calls.store(0, Ordering::Relaxed);
        *self.0.failure.lock().unwrap() = Some((number, how));
    }

    /// Nothing fails any more; whether nothing did.
    pub(super) fn heal(&self) -> bool {
        self.0.failure.lock().unwrap().take().is_some()
    }

    pub(super) fn lie(&self, lie: Option<Lie>) {
        *self.0.lie.lock().unwrap() = lie;
    }

    /// Calls wait from now on, or not any more.
    pub(super) fn hang(&self, hangs: bool) {
        self.0.hangs.send_replace(hangs);
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Everything that was put, in its order.
    pub(super) fn writes(&self) -> Vec<String> {
        self.0.writes.lock().unwrap().clone()
    }

    pub(super) async fn names(&self) -> Vec<String> {
        let page = self.0.blobs.list("", None, 1_000).await.unwrap();
        page.entries.into_iter().map(|listed| listed.name.to_string()).collect()
    }

    pub(super) async fn get(&self, name: &str) -> Vec<u8> {
        let blob = self.0.blobs.get(&BlobName::new(name).unwrap(), ByteRange::ALL).await.unwrap();
        blob.read(LEN_MAX).await.unwrap().to_vec()
    }

    /// Puts bytes in place of whatever is there, as whoever has the bucket can.
    pub(super) async fn set(&self, name: &str, bytes: &[u8]) {
        let (name, bytes) = (BlobName::new(name).unwrap(), content(bytes.to_vec()));
        self.0.blobs.put(&name, bytes, Condition::Always).await.unwrap();
    }

    pub(super) async fn remove(&self, name: &str) {
        self.0.blobs.delete(&BlobName::new(name).unwrap()).await.unwrap();
    }

    /// One more call: whether it fails, and how.
    async fn called(&self) -> Option<How> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.hangs.subscribe().wait_for(|hangs| !hangs).await.unwrap();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        let number = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let mut failure = self.0.failure.lock().unwrap();
        failure.take_if(|(at, _)| *at == number).map(|(_, how)| how)
    }

    async fn answer<T>(
        &self,
        does: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let fails = || ProviderError::Unavailable("as the test wants it".to_owned());
        match self.called().await {
            Some(How::NotDone) => Err(fails()),
            Some(How::AnswerLost) => does.await.and(Err(fails())),
            None => does.await,
        }
    }

    fn is(&self, lie: Lie) -> bool {
        *self.0.lie.lock().unwrap() == Some(lie)
    }

    async fn put_or_lie(
        &self,
        name: &BlobName,
        bytes: Content,
        condition: Condition,
    ) -> Result<BlobInfo, ProviderError> {
        if self.is(Lie::Changes) {
            return self.0.blobs.put(name, content("something else"), condition).await;
        }
        let put = self.0.blobs.put(name, bytes, condition).await?;
        self.0.writes.lock().unwrap().push(name.to_string());
        if self.is(Lie::Forgets) {
            self.0.blobs.delete(name).await?;
        }
        Ok(put)
    }

    async fn get_or_lie(&self, name: &BlobName, range: ByteRange) -> Result<Blob, ProviderError> {
        let mut blob = self.0.blobs.get(name, range).await?;
        if self.is(Lie::AnswersOther) {
            blob.content = content("something else");
        }
        Ok(blob)
    }
}

#[async_trait]
impl Blobs for Fragile {
    async fn own(&self, _: &ProcessId) -> Result<Arc<dyn BlobStore>, ProviderError> {
        self.answer(async { Ok(Arc::new(self.clone()) as Arc<dyn BlobStore>) }).await
    }

    async fn of(&self, process: &ProcessId) -> Result<Arc<dyn BlobStore>, ProviderError> {
        Ok(Arc::new(FolderBlobs::reading(&self.0.root.join(process.as_str()))))
    }
}

#[async_trait]
impl BlobStore for Fragile {
    async fn put(
        &self,
        name: &BlobName,
        bytes: Content,
        condition: Condition,
    ) -> Result<BlobInfo, ProviderError> {
        assert_eq!(condition, Condition::Absent, "nothing is replaced");
        self.answer(self.put_or_lie(name, bytes, condition)).await
    }

    async fn get(&self, name: &BlobName, range: ByteRange) -> Result<Blob, ProviderError> {
        self.answer(self.get_or_lie(name, range)).await
    }

    async fn describe(&self, name: &BlobName) -> Result<BlobInfo, ProviderError> {
        self.answer(self.0.blobs.describe(name)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobName>,
        len_max: usize,
    ) -> Result<Page<Listed>, ProviderError> {
        self.answer(self.0.blobs.list(prefix, after, len_max)).await
    }

    async fn delete(&self, name: &BlobName) -> Result<(), ProviderError> {
        panic!("nothing is removed, and {name} would be");
    }
}
