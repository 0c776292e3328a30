//! Owns what a shard stands on: write-once bytes ([`Blob`]), numbered
//! create-if-absent entries ([`Consensus`]), and the
//! [`Root`] that holds both. It knows nothing of what the bytes mean; that
//! is [`shard`](crate::shard).
//!
//! # Errors
//!
//! A failed read is [`Unavailable`](crate::ErrorKind::Unavailable). A failed write is `Unavailable`
//! only if it surely was not applied; everything else is
//! [`Indeterminate`](crate::ErrorKind::Indeterminate), and may even be applied later. What is final
//! and was surely not applied is [`Refused`](crate::ErrorKind::Refused): no room, no permission, no
//! such bucket. Where the documentation of an operation says `Unavailable`, it may be that as well.
//! A [`Handle`](crate::shard::Handle) tries the others again; a store itself never does.

mod cloud;
mod fault;
mod guard;
mod local;
mod location;
mod object;
mod patience;
mod patient;
mod probe;
mod read_only;
mod refusal;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Error;

pub use fault::{Action, Fault, Faults, Operation, Report};
pub(crate) use guard::{Guarded, INCARNATION_KEY};
pub use location::{Access, Root};
pub use object::ObjectBlob;
pub(crate) use patience::{Bounds, Budget, Patience, Trouble};
pub(crate) use probe::check_create;
pub use probe::{Probed, probe};

/// How keys of a store's own checks begin, which are not contents.
pub(crate) const PROBE_PREFIX: &str = "probe-";

/// What a create-if-absent did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Create {
    /// Nothing was there; now these bytes are.
    Created,
    /// The store says that something is there already. It may be our own earlier attempt, and on
    /// some stores nothing at all: read it back before believing it.
    Exists,
}

/// One key that a listing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key, relative to the root.
    pub key: String,
    /// How many bytes it holds.
    pub bytes: u64,
}

/// Write-once bytes under keys relative to a root.
///
/// Reads must see every write that returned before they began.
#[async_trait]
pub trait Blob: fmt::Debug + Send + Sync {
    /// Stores bytes durably under a key that only this call ever writes.
    ///
    /// # Errors
    ///
    /// As the module says. Repeating a failed put with the same bytes is harmless.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error>;

    /// Stores bytes durably under a key if nothing is there.
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error>;

    /// Returns the bytes of a key, or `None` if the key is not there.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error>;

    /// Whether a key holds these bytes. It is asked before and after each commit, of a key whose bytes never
    /// change.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool, Error> {
        Ok(self.get(key).await?.is_some_and(|found| found == bytes))
    }

    /// Returns the keys inside a folder (`"data/part"`; `""` is the root), at any depth, sorted, at
    /// most `limit` of them (which ones, if there are more, is not said).
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error>;

    /// Deletes a key; a key that is not there is fine.
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn delete(&self, key: &str) -> Result<(), Error>;

    /// Deletes what this program's own interrupted calls left and no listing shows, or shows as
    /// nothing of a shard's: as far as it is older than `before_ms`, milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error>;

    /// Does ahead, for the keys of a folder, what the first put would do besides storing; a store that has nothing
    /// of that kind need not say so. It stores no key.
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn ready(&self, _folder: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Names a key for people: a path or an address.
    fn place(&self, key: &str) -> String;
}

/// Bytes, and the logs beside them.
#[async_trait]
trait Store: Send + Sync {
    fn blob(&self) -> Arc<dyn Blob>;
    fn log(&self, shard: &str) -> Arc<dyn Consensus>;

    /// The version of the layout that it makes.
    fn layout(&self) -> u32 {
        1
    }

    /// Refuses what the store stands on if that cannot hold a shard, beyond what a create can tell.
    async fn check(&self, _token: u128) -> Result<(), Error> {
        Ok(())
    }
}

/// The entries of one log, numbered from 1, each created at most once.
///
/// The floor is a durable mark below which entries may be gone. It is raised *before* anything is
/// deleted, so a writer that creates an entry and then reads a floor below it knows that the entry was never
/// deleted before.
#[async_trait]
pub trait Consensus: fmt::Debug + Send + Sync {
    /// Creates entry `seqno` durably if it is not there. Never retried inside: a retry can turn our
    /// own success into [`Create::Exists`].
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error>;

    /// Returns entry `seqno`, or `None` if it is not there (not yet, or not any more).
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error>;

    /// Returns the highest floor; 0 if there is none.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn floor(&self) -> Result<u64, Error>;

    /// Returns the numbers of the entries that are there, in order.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn entries(&self) -> Result<Vec<u64>, Error>;

    /// Makes the floor at least `seqno`, durably: entries up to and including it may go.
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn raise_floor(&self, seqno: u64) -> Result<(), Error>;

    /// Deletes entry `seqno`, which must not lie above the floor.
    ///
    /// # Errors
    ///
    /// As the module says.
    async fn delete(&self, seqno: u64) -> Result<(), Error>;

    /// Makes every entry that can be seen durable: on a local disk a writer may have died between its
    /// write and its sync.
    ///
    /// # Errors
    ///
    /// `Unavailable`; after a failed sync always, since the disk may have dropped what it could not
    /// write and a second sync would then lie.
    async fn sync_head(&self) -> Result<(), Error>;

    /// Whether a key of the root is this log's own, and no entry, floor, rollup or part of the shard.
    fn owns(&self, _key: &str) -> bool {
        false
    }

    /// Names an entry for people.
    fn place(&self, seqno: u64) -> String;
}
