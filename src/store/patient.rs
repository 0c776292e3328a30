//! Owns a store seen through a patience: it repeats what may be repeated, which is reads, puts of keys that
//! only one call ever writes, deletes, the floor. A create is never repeated here: its outcome is for the
//! caller to settle, with [`Patience::begin`]. For how long is [`patience`](super::patience)'s.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::patience::Patience;
use super::{Blob, Consensus, Create, Listed, Store};
use crate::error::Error;

/// A store seen through a patience.
pub(super) struct PatientStore {
    inner: Arc<dyn Store>,
    patience: Patience,
}

impl PatientStore {
    pub(super) fn new(inner: Arc<dyn Store>, patience: Patience) -> PatientStore {
        PatientStore { inner, patience }
    }
}

#[async_trait]
impl Store for PatientStore {
    fn blob(&self) -> Arc<dyn Blob> {
        Arc::new(PatientBlob { inner: self.inner.blob(), patience: self.patience.clone() })
    }

    fn log(&self, shard: &str) -> Arc<dyn Consensus> {
        Arc::new(PatientLog { inner: self.inner.log(shard), patience: self.patience.clone() })
    }

    fn layout(&self) -> u32 {
        self.inner.layout()
    }

    async fn check(&self, token: u128) -> Result<(), Error> {
        self.inner.check(token).await
    }
}

#[derive(Debug)]
struct PatientBlob {
    inner: Arc<dyn Blob>,
    patience: Patience,
}

#[async_trait]
impl Blob for PatientBlob {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        // The key is one call's alone, so the same put again is harmless whatever the first did.
        let put = || self.inner.put(key, bytes.clone());
        self.patience.retry_transient("writing", self.place(key), put).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
        let attempts = self.patience.begin("creating", self.place(key));
        attempts.budget.answer(self.inner.create(key, bytes)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.patience.retry_transient("reading", self.place(key), || self.inner.get(key)).await
    }

    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool, Error> {
        let holds = || self.inner.holds(key, bytes);
        self.patience.retry_transient("reading", self.place(key), holds).await
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        let list = || self.inner.list(folder, limit);
        self.patience.retry_transient("listing", self.place(folder), list).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.patience.retry_transient("deleting", self.place(key), || self.inner.delete(key)).await
    }

    async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error> {
        let sweep = || self.inner.sweep_leftovers(before_ms);
        self.patience.retry_transient("sweeping", self.place(""), sweep).await
    }

    /// Once: the put that it is for tries as often as it takes.
    async fn ready(&self, folder: &str) -> Result<(), Error> {
        self.inner.ready(folder).await
    }

    fn place(&self, key: &str) -> String {
        self.inner.place(key)
    }
}

#[derive(Debug)]
struct PatientLog {
    inner: Arc<dyn Consensus>,
    patience: Patience,
}

#[async_trait]
impl Consensus for PatientLog {
    async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error> {
        self.inner.create(seqno, entry).await
    }

    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        self.patience.retry_transient("reading", self.place(seqno), || self.inner.get(seqno)).await
    }

    async fn floor(&self) -> Result<u64, Error> {
        self.patience
            .retry_transient("reading the floor before", self.place(0), || self.inner.floor())
            .await
    }

    async fn entries(&self) -> Result<Vec<u64>, Error> {
        self.patience
            .retry_transient("listing the log of", self.place(0), || self.inner.entries())
            .await
    }

    async fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
        let raise = || self.inner.raise_floor(seqno);
        self.patience.retry_transient("raising the floor to", self.place(seqno), raise).await
    }

    async fn delete(&self, seqno: u64) -> Result<(), Error> {
        self.patience
            .retry_transient("deleting", self.place(seqno), || self.inner.delete(seqno))
            .await
    }

    async fn sync_head(&self) -> Result<(), Error> {
        self.patience
            .retry_transient("syncing the log of", self.place(0), || self.inner.sync_head())
            .await
    }

    fn owns(&self, key: &str) -> bool {
        self.inner.owns(key)
    }

    fn place(&self, seqno: u64) -> String {
        self.inner.place(seqno)
    }
}
