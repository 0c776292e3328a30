//! Owns [`Blob`] and [`Consensus`] over any `object_store`: the layout of keys and how its errors
//! read. It does not choose the store; that is [`location`](super::location).
//!
//! ```text
//! <root>/FORMAT
//! <root>/INCARNATION                             which root this is; made once
//! <root>/<shard>/log/<seqno:020>                   the only commit point
//! <root>/<shard>/floor/<seqno:020>                 empty; created before entries <= seqno go
//! <root>/<shard>/rollup/<seqno:020>-<token:032x>
//! <root>/<shard>/part/<writer:032x>/<token:032x>
//! ```

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::refusal::{Cause, Meaning, Step, meaning, step_of};
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
    directory: Option<PathBuf>,
}

impl ObjectBlob {
    /// Wraps a store. `conditional` is the same store with retries off; `place` is the address that
    /// errors name keys under, ending in its separator.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        conditional: Arc<dyn ObjectStore>,
        place: impl Into<String>,
    ) -> ObjectBlob {
        ObjectBlob { store, conditional, place: place.into(), directory: None }
    }

    /// Says that the store is this local directory, so that its log can be synced.
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> ObjectBlob {
        self.directory = Some(directory.into());
        self
    }

    /// Returns the log of a shard in this store.
    pub fn log(&self, shard: &str) -> ObjectLog {
        ObjectLog { blob: self.clone(), shard: shard.to_string(), poisoned: AtomicBool::new(false) }
    }

    fn read_failed(&self, error: object_store::Error, key: &str) -> Error {
        self.failed("the store cannot be read", Step::Read, error, key)
    }

    fn delete_failed(&self, error: object_store::Error, key: &str) -> Error {
        self.failed("a write to the store failed", Step::Delete, error, key)
    }

    /// Returns what a store's error says of its cause.
    fn cause_of(&self, error: &object_store::Error) -> Cause {
        use object_store::Error as E;
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => return Cause::Denied,
            E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::UnknownConfigurationKey { .. } => return Cause::CannotBe,
            // What is not behind an address keeps what it is asked to.
            E::NotFound { .. } if !self.is_local() => return Cause::NoBucket,
            // Behind an address it is the network's answer, which may be another next time.
            _ if !self.is_local() => return Cause::Other,
            _ => {}
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(at) = cause {
            if let Some(system) = at.downcast_ref::<std::io::Error>() {
                return Cause::from(system);
            }
            cause = at.source();
        }
        Cause::Other
    }

    fn is_local(&self) -> bool {
        self.directory.is_some()
    }

    /// The error of a put; a create `links`.
    fn write_failed(&self, error: object_store::Error, key: &str, links: bool) -> Error {
        let step = match (&error, &self.directory) {
            (object_store::Error::Generic { source, .. }, Some(_)) => {
                step_of(&source.to_string(), links)
            }
            _ => Step::Write,
        };
        self.failed("a write to the store failed", step, error, key)
    }

    fn failed(&self, what: &str, step: Step, error: object_store::Error, key: &str) -> Error {
        let Meaning { kind, what: says, hint } = meaning(step, self.cause_of(&error));
        Error::new(kind, format!("{}: {}", says.unwrap_or(what), cause(&error)))
            .at(self.place(key))
            .hint(hint)
            .because(error)
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
            Err(e) => Err(self.write_failed(e, key, false)),
        }
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
        use object_store::Error as E;
        let options = PutOptions::from(PutMode::Create);
        match self.conditional.put_opts(&Path::from(key), bytes.into(), options).await {
            Ok(_) => Ok(Create::Created),
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => Ok(Create::Exists),
            Err(e) => Err(self.write_failed(e, key, true)),
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
        if let Some(directory) = self.directory.clone() {
            let swept = tokio::task::spawn_blocking(move || sweep_staged(&directory, before_ms));
            deleted += swept.await.unwrap_or(0);
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
    poisoned: AtomicBool,
}

impl ObjectLog {
    /// Returns the numbers of all floor marks there are at one moment, in order.
    async fn marks(&self) -> Result<Vec<u64>, Error> {
        let folder = format!("{}/floor", self.shard);
        let names: Vec<String> = match &self.blob.directory {
            // Not by the store's listing, which looks at each file after it has read the names: a
            // process that is stopped between the two can miss the mark that was deleted and the
            // higher one that was made, and then takes a collected log for a whole one.
            Some(directory) => {
                let path = directory.join(&folder);
                let read = tokio::task::spawn_blocking(move || names(&path)).await;
                read.map_err(std::io::Error::other).and_then(|names| names).map_err(|e| {
                    let Meaning { kind, hint, .. } = meaning(Step::Read, Cause::from(&e));
                    Error::new(kind, format!("the store cannot be read: {e}"))
                        .at(self.blob.place(&folder))
                        .hint(hint)
                        .because(e)
                })?
            }
            None => {
                let listed = self.blob.list(&folder, usize::MAX).await?;
                let name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_string();
                listed.iter().map(|mark| name(&mark.key)).collect()
            }
        };
        // A name that is not a number is not ours; `verify` lists it.
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn entry(&self, seqno: u64) -> String {
        format!("{}/log/{seqno:020}", self.shard)
    }

    /// Makes the names in one of the shard's folders durable: on a local disk a name can be seen before
    /// it is. A folder that is not there holds none.
    async fn sync(&self, folder: &str) -> Result<(), Error> {
        let Some(directory) = &self.blob.directory else { return Ok(()) };
        let path = directory.join(&self.shard).join(folder);
        let place = path.display().to_string();
        // Final: the disk may have dropped what it could not write, and a second sync would lie.
        let failed = |what: String| {
            Error::new(ErrorKind::Refused, what)
                .at(&place)
                .hint("check the disk, and its free space, then rerun")
        };
        if self.poisoned.load(Ordering::Acquire) {
            return Err(failed("an earlier sync of the shard failed".into()));
        }
        match tokio::task::spawn_blocking(move || sync_directory(&path)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound && folder != "log" => Ok(()),
            Ok(Err(e)) => {
                self.poisoned.store(true, Ordering::Release);
                Err(failed(format!("the {folder} folder cannot be synced: {e}")).because(e))
            }
            Err(e) => {
                let stopped = Error::new(ErrorKind::Unavailable, "a sync was stopped");
                Err(stopped.at(&place).because(e))
            }
        }
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
        // The state that stands in for what will be deleted may be of another process, which died before it was
        // durable.
        self.sync("rollup").await?;
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
                self.sync("floor").await?;
            }
        }
        // The lower ones are idle now. The highest two stay, so that a listing that began before
        // this still finds one of them. One that is left costs a name.
        for old in self.marks().await?.iter().rev().skip(2) {
            self.blob.delete(&format!("{}/floor/{old:020}", self.shard)).await?;
        }
        if let Some(directory) = &self.blob.directory {
            let log = directory.join(&self.shard).join("log");
            // Failing costs a little space.
            let sweep = move || sweep_staged_entries(&log, seqno);
            let _ = tokio::task::spawn_blocking(sweep).await;
        }
        Ok(())
    }

    async fn delete(&self, seqno: u64) -> Result<(), Error> {
        self.blob.delete(&self.entry(seqno)).await
    }

    async fn sync_head(&self) -> Result<(), Error> {
        self.sync("log").await
    }

    fn place(&self, seqno: u64) -> String {
        self.blob.place(&self.entry(seqno))
    }
}

/// Returns the names in a directory; none if it is not there.
fn names(path: &FilePath) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Returns what a file is staged for, if it is: `LocalFileSystem` writes to that name, a `#` and a number
/// before it links or renames the file. Its listings hide them.
fn staged_for(name: &str) -> Option<&str> {
    let (target, number) = name.rsplit_once('#')?;
    number.parse::<u64>().is_ok().then_some(target)
}

/// Deletes old staged files, but for entries of a log: a writer that is about to link one would link
/// what another has staged under that name since, and take it for its own. Returns how many.
fn sweep_staged(directory: &FilePath, before_ms: u64) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let mut deleted = 0;
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let name = entry.file_name();
        if meta.is_dir() {
            if name != "log" {
                deleted += sweep_staged(&entry.path(), before_ms);
            }
            continue;
        }
        let staged = name.to_str().and_then(staged_for).is_some();
        let made = meta.modified().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        let old = made.is_some_and(|made| made.as_millis() < u128::from(before_ms));
        if staged && old && std::fs::remove_file(entry.path()).is_ok() {
            deleted += 1;
        }
    }
    deleted
}

/// Deletes the files that are staged for entries up to `floor`: no create of these is believed.
fn sweep_staged_entries(log: &FilePath, floor: u64) -> std::io::Result<()> {
    for name in names(log)? {
        let target = staged_for(&name).and_then(|target| target.parse::<u64>().ok());
        if target.is_some_and(|seqno| seqno <= floor) {
            // One that is left is found again; its writer may have been faster.
            let _ = std::fs::remove_file(log.join(name));
        }
    }
    Ok(())
}

/// Makes the names inside a directory durable. Only Unix can: elsewhere it does nothing.
pub(super) fn sync_directory(path: &FilePath) -> std::io::Result<()> {
    if cfg!(unix) { std::fs::File::open(path)?.sync_all() } else { Ok(()) }
}
