//! Owns the check that a root is still the one that was opened: its *incarnation*, bytes under one key
//! that are made once and never change. It does not know what these bytes mean, nor when they are
//! made; that is [`incarnation`](crate::shard)'s.
//!
//! A root can be removed under a running process, or removed and made anew by another. What the
//! process knows of it is then worth nothing: an entry of its own would land in a log that it has
//! never read, and a local directory would come back with nothing but that entry in it. So every
//! write through a guard looks first, and every reading of the floor, which ends every look at a log
//! and every commit, looks as well.
//!
//! # Limits
//!
//! The look and the write are two steps. A root that is replaced between them may get the one write
//! that was under way; the look that follows each commit says so, and nothing is told to be durable.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join;
use parking_lot::Mutex;

use super::{Blob, Consensus, Create, Listed};
use crate::error::{Error, ErrorKind};

/// The key of a root's incarnation.
pub(crate) const INCARNATION_KEY: &str = "INCARNATION";

/// What a process knows of the root it has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing yet: there may be nothing.
    Unseen,
    /// Something stands there that has no incarnation: it was made before there were any, and no
    /// writer has come since. If one has come, what it made waits here for
    /// [`recognise`](Guarded::recognise).
    Nameless(Option<Bytes>),
    /// It is this one, in any of these spellings: as it was found, and those that a later version of the layout
    /// gives it.
    Named(Vec<Bytes>),
}

/// What is known of a root, shared by all that is opened through it.
#[derive(Debug)]
pub(crate) struct Guard(Mutex<Known>);

impl Guard {
    pub(super) fn new() -> Guard {
        Guard(Mutex::new(Known::Unseen))
    }
}

/// A root seen through its guard; cheap to clone.
#[derive(Clone)]
pub(crate) struct Guarded {
    guard: Arc<Guard>,
    blob: Arc<dyn Blob>,
    url: String,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.url).finish()
    }
}

impl Guarded {
    pub(super) fn new(guard: Arc<Guard>, blob: Arc<dyn Blob>, url: String) -> Guarded {
        Guarded { guard, blob, url }
    }

    /// Returns the bytes of the root, every write of which looks first.
    pub(crate) fn blob(&self) -> Arc<dyn Blob> {
        Arc::new(GuardedBlob(self.clone()))
    }

    /// Returns a log of the root, every write of which looks first, and every reading of the floor as
    /// well.
    pub(crate) fn log(&self, inner: Arc<dyn Consensus>) -> Arc<dyn Consensus> {
        Arc::new(GuardedLog { inner, root: self.clone() })
    }

    /// Says what stands there, in each spelling that it may have from here on; `None` has no incarnation.
    ///
    /// # Errors
    ///
    /// `Replaced` if it is another than the one known.
    pub(crate) fn name(&self, found: Option<Vec<Bytes>>) -> Result<(), Error> {
        let mut known = self.guard.0.lock();
        *known = match (&*known, found) {
            (Known::Named(names), Some(found)) if found.iter().any(|name| names.contains(name)) => {
                Known::Named(found)
            }
            (Known::Named(_), _) => return Err(self.replaced()),
            (Known::Nameless(stranger), None) => Known::Nameless(stranger.clone()),
            (_, None) => Known::Nameless(None),
            (_, Some(found)) => Known::Named(found),
        };
        Ok(())
    }

    /// Returns what stands there, if that is known.
    pub(crate) fn known(&self) -> Option<Bytes> {
        match &*self.guard.0.lock() {
            Known::Named(names) => names.first().cloned(),
            _ => None,
        }
    }

    /// Whether a root without an incarnation has one by now: it is for the caller to say whether it
    /// is the same root, see [`recognise`](Guarded::recognise).
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(*self.guard.0.lock(), Known::Nameless(Some(_)))
    }

    /// Takes the incarnation that has come as that of the root which had none.
    pub(crate) fn recognise(&self) {
        let mut known = self.guard.0.lock();
        if let Known::Nameless(Some(found)) = &*known {
            *known = Known::Named(vec![found.clone()]);
        }
    }

    /// Looks whether the root is still the one that was opened. No I/O before anything is known of
    /// it, one small get after that.
    ///
    /// # Errors
    ///
    /// `Replaced` if it is gone or another; `Unavailable` if it cannot be read.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let known = self.guard.0.lock().clone();
        if known == Known::Unseen
            || crate::mutant::on("ignore_incarnation") && known != Known::Nameless(None)
        {
            return Ok(());
        }
        if let Known::Named(names) = &known {
            return self.check_names(names).await;
        }
        match (known, self.blob.get(INCARNATION_KEY).await?) {
            // Nothing tells two roots without an incarnation apart but their logs.
            (_, None) if self.blob.list("", 1).await?.is_empty() => Err(self.replaced()),
            (_, None) => Ok(()),
            (_, Some(found)) => {
                let mut known = self.guard.0.lock();
                if *known == Known::Nameless(None) {
                    *known = Known::Nameless(Some(found));
                }
                Ok(())
            }
        }
    }

    /// Looks whether one of these stands there; the spellings before it are worth nothing after that.
    async fn check_names(&self, names: &[Bytes]) -> Result<(), Error> {
        for (at, name) in names.iter().enumerate() {
            if self.blob.holds(INCARNATION_KEY, name).await? {
                let mut known = self.guard.0.lock();
                match &mut *known {
                    Known::Named(now) if at > 0 && now == names => drop(now.drain(..at)),
                    _ => {}
                }
                return Ok(());
            }
        }
        Err(self.replaced())
    }

    /// The error for a root that is not the one that was opened.
    pub(crate) fn replaced(&self) -> Error {
        Error::new(ErrorKind::Replaced, "the shard was removed or replaced")
            .at(&self.url)
            .hint("nothing more is written; start again, on the shard that is to go on")
    }
}

#[derive(Debug)]
struct GuardedBlob(Guarded);

#[async_trait]
impl Blob for GuardedBlob {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        self.0.check().await?;
        self.0.blob.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
        self.0.check().await?;
        self.0.blob.create(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.0.blob.get(key).await
    }

    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool, Error> {
        self.0.blob.holds(key, bytes).await
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        self.0.blob.list(folder, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.check().await?;
        self.0.blob.delete(key).await
    }

    async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error> {
        self.0.check().await?;
        self.0.blob.sweep_leftovers(before_ms).await
    }

    async fn ready(&self, folder: &str) -> Result<(), Error> {
        self.0.check().await?;
        self.0.blob.ready(folder).await
    }

    fn place(&self, key: &str) -> String {
        self.0.blob.place(key)
    }
}

#[derive(Debug)]
struct GuardedLog {
    inner: Arc<dyn Consensus>,
    root: Guarded,
}

#[async_trait]
impl Consensus for GuardedLog {
    async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error> {
        self.root.check().await?;
        self.inner.create(seqno, entry).await
    }

    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        self.inner.get(seqno).await
    }

    async fn floor(&self) -> Result<u64, Error> {
        // Both after whatever the caller has read or made, and neither after the other.
        let (floor, same) = join(self.inner.floor(), self.root.check()).await;
        same?;
        floor
    }

    async fn entries(&self) -> Result<Vec<u64>, Error> {
        self.inner.entries().await
    }

    async fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
        self.root.check().await?;
        self.inner.raise_floor(seqno).await
    }

    async fn delete(&self, seqno: u64) -> Result<(), Error> {
        // Under the same number stands what another root needs.
        self.root.check().await?;
        self.inner.delete(seqno).await
    }

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
