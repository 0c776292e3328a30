//! Owns [`Blob`] and [`Consensus`] over any `object_store`: the layout of keys and how its errors
//! read. It does not choose the store; that is [`location`](super::location). A local directory has a store of
//! its own, [`local`](super::local).
//!
//! ```text
//! <root>/FORMAT
//! <root>/INCARNATION                             which root this is; made once
//! <root>/<shard>/log/<seqno:020>                   the only commit point
//! <root>/<shard>/floor/<seqno:020>                 empty; created before entries <= seqno go
//! <root>/<shard>/rollup/<seqno:020>-<token:032x>
//! <root>/<shard>/part/<writer:032x>/<token:032x>
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::refusal::{Cause, Meaning, Step, meaning};
use super::{Blob, Consensus, Create, Listed, PROBE_PREFIX, Store};
use crate::error::{Error, ErrorKind};

/// A [`Blob`] over an `object_store`.
#[derive(Clone, Debug)]
pub struct ObjectBlob {
    /// For puts of unique keys, reads, lists: may retry inside.
    store: Arc<dyn ObjectStore>,
    /// For conditional puts: must not retry inside.
    conditional: Arc<dyn ObjectStore>,
    place: String,
}

impl ObjectBlob {
    /// Wraps a store. `conditional` is the same store with retries off; `place` is the address that
    /// errors name keys under, ending in its separator.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        conditional: Arc<dyn ObjectStore>,
        place: impl Into<String>,
    ) -> ObjectBlob {
        ObjectBlob { store, conditional, place: place.into() }
    }

    /// Returns the log of a shard in this store.
    pub fn log(&self, shard: &str) -> ObjectLog {
        ObjectLog { blob: self.clone(), shard: shard.to_string() }
    }

    fn read_failed(&self, error: object_store::Error, key: &str) -> Error {
        self.failed("the store cannot be read", Step::Read, error, key)
    }

    fn delete_failed(&self, error: object_store::Error, key: &str) -> Error {
        self.failed("a write to the store failed", Step::Delete, error, key)
    }

    fn write_failed(&self, error: object_store::Error, key: &str) -> Error {
        self.failed("a write to the store failed", Step::Write, error, key)
    }

    fn failed(&self, what: &str, step: Step, error: object_store::Error, key: &str) -> Error {
        let Meaning { kind, what: says, hint } = meaning(step, cause_of(&error));
        Error::new(kind, format!("{}: {}", says.unwrap_or(what), cause(&error)))
            .at(self.place(key))
            .hint(hint)
            .because(error)
    }
}

/// Returns what a store's error says of its cause. The rest is the network's answer, which may be another next time.
fn cause_of(error: &object_store::Error) -> Cause {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Cause::Denied,
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::UnknownConfigurationKey { .. } => Cause::CannotBe,
        // What is not behind an address keeps what it is asked to.
        E::NotFound { .. } => Cause::NoBucket,
        _ => Cause::Other,
    }
}

/// Returns the innermost cause as text: the outer ones repeat the path and the store's name.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[async_trait]
impl Blob for ObjectBlob {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        match self.store.put(&Path::from(key), bytes.into()).await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.write_failed(e, key)),
        }
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
        use object_store::Error as E;
        let options = PutOptions::from(PutMode::Create);
        match self.conditional.put_opts(&Path::from(key), bytes.into(), options).await {
            Ok(_) => Ok(Create::Created),
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => Ok(Create::Exists),
            Err(e) => Err(self.write_failed(e, key)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let result = match self.store.get(&Path::from(key)).await {
            Ok(found) => found.bytes().await,
            Err(e) => Err(e),
        };
        match result {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.read_failed(e, key)),
        }
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        let prefix = Path::from(folder);
        let mut found = self.store.list(Some(&prefix)).take(limit);
        let mut keys = Vec::new();
        while let Some(meta) = found.next().await {
            match meta {
                Ok(meta) => keys.push(Listed { key: meta.location.into(), bytes: meta.size }),
                // Deleted while we walked, as a collector may: it is simply not listed.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.read_failed(e, folder)),
            }
        }
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.delete_failed(e, key)),
        }
    }

    async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error> {
        let mut deleted = 0;
        // Keys of checks that died; one that is under way is younger than that.
        let mut found = self.store.list(None);
        let mut probes = Vec::new();
        while let Some(Ok(meta)) = found.next().await {
            let made_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(u64::MAX);
            if meta.location.as_ref().starts_with(PROBE_PREFIX) && made_ms < before_ms {
                probes.push(meta.location);
            }
        }
        for probe in probes {
            self.delete(probe.as_ref()).await?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn place(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }
}

impl Store for ObjectBlob {
    fn blob(&self) -> Arc<dyn Blob> {
        Arc::new(self.clone())
    }

    fn log(&self, shard: &str) -> Arc<dyn Consensus> {
        Arc::new(ObjectBlob::log(self, shard))
    }
}

/// A [`Consensus`] whose entries are objects created if absent.
#[derive(Debug)]
pub struct ObjectLog {
    blob: ObjectBlob,
    shard: String,
}

impl ObjectLog {
    /// Returns the numbers of all floor marks there are at one moment, in order.
    async fn marks(&self) -> Result<Vec<u64>, Error> {
        let folder = format!("{}/floor", self.shard);
        let listed = self.blob.list(&folder, usize::MAX).await?;
        // A name that is not a number is not ours; `verify` lists it.
        let numbers = listed.iter().filter_map(|mark| mark.key.rsplit('/').next()?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn entry(&self, seqno: u64) -> String {
        format!("{}/log/{seqno:020}", self.shard)
    }
}

#[async_trait]
impl Consensus for ObjectLog {
    async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error> {
        self.blob.create(&self.entry(seqno), entry).await
    }

    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        self.blob.get(&self.entry(seqno)).await
    }

    async fn entries(&self) -> Result<Vec<u64>, Error> {
        let listed = self.blob.list(&format!("{}/log", self.shard), usize::MAX).await?;
        // A name that is not a number is not ours; `verify` lists it.
        let numbers = listed.iter().filter_map(|entry| entry.key.rsplit('/').next()?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn floor(&self) -> Result<u64, Error> {
        Ok(self.marks().await?.last().copied().unwrap_or(0))
    }

    async fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
        let key = format!("{}/floor/{seqno:020}", self.shard);
        match self.blob.create(&key, Bytes::new()).await? {
            Create::Created => {}
            // Somebody else's mark is as good as ours, once it is surely there and stays.
            Create::Exists => {
                if self.blob.get(&key).await?.is_none() {
                    let what = "a floor mark was not stored";
                    return Err(Error::new(ErrorKind::Indeterminate, what)
                        .at(self.blob.place(&key))
                        .hint("retry"));
                }
            }
        }
        // The lower ones are idle now. The highest two stay, so that a listing that began before
        // this still finds one of them. One that is left costs a name.
        for old in self.marks().await?.iter().rev().skip(2) {
            self.blob.delete(&format!("{}/floor/{old:020}", self.shard)).await?;
        }
        Ok(())
    }

    async fn delete(&self, seqno: u64) -> Result<(), Error> {
        self.blob.delete(&self.entry(seqno)).await
    }

    async fn sync_head(&self) -> Result<(), Error> {
        // What can be seen is durable.
        Ok(())
    }

    fn place(&self, seqno: u64) -> String {
        self.blob.place(&self.entry(seqno))
    }
}
