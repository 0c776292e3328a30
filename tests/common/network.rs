//! Goal: a network between one writer and its store that loses, delays and doubles a request as it is
//! told to, with somebody else's doings in between. Method: an `object_store` around one in memory that
//! all others use; only creations of log entries are touched.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use differential_upsert::store::Root;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What becomes of one create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and so does the answer.
    Answered,
    /// It arrives, the answer does not.
    ReplyLost,
    /// It never arrives.
    RequestLost,
    /// No answer; it arrives when the writer has looked for it, just before its next try.
    Late,
    /// It arrives twice, and the answer is that to the second.
    Doubled,
}

/// What others do meanwhile.
pub type Meanwhile = BoxFuture<'static, ()>;

/// The network of one writer.
pub struct Network {
    store: Arc<InMemory>,
    next: Mutex<Option<(Fate, Meanwhile)>>,
    late: Mutex<Vec<(Path, PutPayload)>>,
    pub sent: Mutex<Vec<(Path, PutPayload)>>,
}

impl Network {
    pub fn over(store: &Arc<InMemory>) -> Arc<Network> {
        let store = Arc::clone(store);
        Arc::new(Network {
            store,
            next: Mutex::default(),
            late: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// The store as its writer sees it.
    pub fn root(self: &Arc<Network>) -> Root {
        Root::from_object_store(Arc::clone(self) as Arc<dyn ObjectStore>, "mem:")
    }

    /// Says what becomes of the next create of an entry, and what others do after it has arrived, if it
    /// does, and before the writer hears anything.
    pub fn next(&self, fate: Fate, meanwhile: Meanwhile) {
        *self.next.lock().unwrap() = Some((fate, meanwhile));
    }

    /// Creates an entry, whatever the fate of the next is.
    pub async fn create(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        self.store.put_opts(path, payload, PutOptions::from(PutMode::Create)).await
    }

    async fn create_entry(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (path, payload) in late {
            let _ = self.create(&path, payload).await;
        }
        self.sent.lock().unwrap().push((path.clone(), payload.clone()));
        let next = self.next.lock().unwrap().take();
        let Some((fate, meanwhile)) = next else { return self.create(path, payload).await };
        let timeout = || Err(Error::Generic { store: "network", source: "timed out".into() });
        match fate {
            Fate::Answered => {
                let answer = self.create(path, payload).await;
                meanwhile.await;
                answer
            }
            Fate::ReplyLost => {
                let _ = self.create(path, payload).await;
                meanwhile.await;
                timeout()
            }
            Fate::RequestLost => {
                meanwhile.await;
                timeout()
            }
            Fate::Late => {
                meanwhile.await;
                self.late.lock().unwrap().push((path.clone(), payload));
                timeout()
            }
            Fate::Doubled => {
                let _ = self.create(path, payload.clone()).await;
                meanwhile.await;
                self.create(path, payload).await
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

#[async_trait]
impl ObjectStore for Network {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        match options.mode == PutMode::Create && path.as_ref().contains("/log/") {
            true => self.create_entry(path, payload).await,
            false => self.store.put_opts(path, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
