//! Owns the refusal of writes through a root that was opened for reading, for every caller: what is opened
//! for reading writes nothing, ever. It decides nothing else.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Blob, Consensus, Create, Listed};
use crate::error::{Error, ErrorKind};

/// A store that is only read.
pub(super) struct ReadOnly<T: ?Sized> {
    inner: Arc<T>,
    url: String,
}

impl<T: ?Sized> fmt::Debug for ReadOnly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadOnly").field(&self.url).finish()
    }
}

impl ReadOnly<dyn Blob> {
    pub(super) fn blob(inner: Arc<dyn Blob>, url: &str) -> Arc<dyn Blob> {
        Arc::new(ReadOnly { inner, url: url.to_string() })
    }
}

impl ReadOnly<dyn Consensus> {
    pub(super) fn log(inner: Arc<dyn Consensus>, url: &str) -> Arc<dyn Consensus> {
        Arc::new(ReadOnly { inner, url: url.to_string() })
    }
}

impl<T: ?Sized> ReadOnly<T> {
    fn refused<R>(&self) -> Result<R, Error> {
        Err(Error::new(ErrorKind::Invalid, "a write to what was opened for reading")
            .at(&self.url)
            .hint("open it for writing"))
    }
}

#[async_trait]
impl Blob for ReadOnly<dyn Blob> {
    async fn put(&self, _: &str, _: Bytes) -> Result<(), Error> {
        self.refused()
    }

    async fn create(&self, _: &str, _: Bytes) -> Result<Create, Error> {
        self.refused()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.inner.get(key).await
    }

    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool, Error> {
        self.inner.holds(key, bytes).await
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        self.inner.list(folder, limit).await
    }

    async fn delete(&self, _: &str) -> Result<(), Error> {
        self.refused()
    }

    async fn sweep_leftovers(&self, _: u64) -> Result<u64, Error> {
        self.refused()
    }

    async fn ready(&self, _: &str) -> Result<(), Error> {
        self.refused()
    }

    fn place(&self, key: &str) -> String {
        self.inner.place(key)
    }
}

#[async_trait]
impl Consensus for ReadOnly<dyn Consensus> {
    async fn create(&self, _: u64, _: Bytes) -> Result<Create, Error> {
        self.refused()
    }

    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        self.inner.get(seqno).await
    }

    async fn floor(&self) -> Result<u64, Error> {
        self.inner.floor().await
    }

    async fn entries(&self) -> Result<Vec<u64>, Error> {
        self.inner.entries().await
    }

    async fn raise_floor(&self, _: u64) -> Result<(), Error> {
        self.refused()
    }

    async fn delete(&self, _: u64) -> Result<(), Error> {
        self.refused()
    }

    /// Writes nothing, and makes durable what a writer may have died over.
    async fn sync_head(&self) -> Result<(), Error> {
        self.inner.sync_head().await
    }

    fn owns(&self, key: &str) -> bool {
        self.inner.owns(key)
    }

    fn place(&self, seqno: u64) -> String {
        self.inner.place(seqno)
    }
}
