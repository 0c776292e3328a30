//! Owns a store in a local directory: which files there are, and what is shared by all that reach it through one
//! root. Keys are files ([`blob`]); the log of a shard is a row of segments ([`log`]).
//!
//! ```text
//! <root>/FORMAT, INCARNATION
//! <root>/<shard>/log/<number:016x>.seg          entries, one after the other: see segment
//! <root>/<shard>/log/marks                      how far they are durable, and what is gone
//! <root>/<shard>/log/lock                       empty; the lock of a writer is on it
//! <root>/<shard>/rollup/<seqno:020>-<token:032x>
//! <root>/<shard>/part/<writer:032x>/<token:032x>
//! ```
//!
//! A commit is a whole record, made durable by one sync of its segment, under an advisory lock that dies with its
//! process. Readers take no lock. Directories of before, with a file for each entry, are read as they are
//! ([`files`]); the first write copies their entries.

mod append;
mod blob;
mod collect;
mod fail;
mod files;
mod index;
mod lock;
mod log;
mod marks;
mod os;
mod ready;
mod segment;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::blob::LocalBlob;
use self::fail::hop;
use self::log::LocalLog;
use self::os::Disk;
pub(super) use self::os::{is_beside, sync_directory};
use self::shared::Shared;
use super::{Blob, Consensus, Store};
use crate::error::Error;

/// The version of the layout, which stands in `FORMAT`.
pub(super) const LAYOUT: u32 = 2;

/// A store in a directory.
#[derive(Debug)]
pub(super) struct LocalStore {
    blob: Arc<LocalBlob>,
    directory: PathBuf,
    place: String,
    /// One for each log, for all that ask: what one process appends at one time is synced once.
    logs: Mutex<BTreeMap<String, Arc<Shared>>>,
}

impl LocalStore {
    /// Returns the store in a directory that is there; `place` is what errors call it, ending in its separator.
    pub(super) fn new(directory: PathBuf, place: String) -> LocalStore {
        let blob = Arc::new(LocalBlob::new(directory.clone(), place.clone()));
        LocalStore { blob, directory, place, logs: Mutex::default() }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn blob(&self) -> Arc<dyn Blob> {
        Arc::clone(&self.blob) as _
    }

    fn log(&self, shard: &str) -> Arc<dyn Consensus> {
        let mut logs = self.logs.lock();
        let shared = logs.entry(shard.to_string()).or_insert_with(|| {
            let (root, place) = (self.directory.clone(), self.place.clone());
            Arc::new(Shared::new(root, shard, place, Disk::default()))
        });
        Arc::new(LocalLog::new(Arc::clone(shared)))
    }

    fn layout(&self) -> u32 {
        LAYOUT
    }

    async fn check(&self, token: u128) -> Result<(), Error> {
        let path = self.directory.join(format!("{}{token:032x}-lock", super::PROBE_PREFIX));
        hop(move || {
            let checked = lock::check_hosts(&path).and_then(|()| lock::check(&path));
            // One that is left is swept.
            let _ = std::fs::remove_file(&path);
            checked
        })
        .await
    }
}
