//! Owns [`Shard`]: a shard whose keys and values have types. It adds the codec, and nothing else,
//! to a [`Handle`].

use std::fmt;
use std::marker::PhantomData;

use super::{Append, Appended, Handle, HandleConfig, State};
use crate::codec::{Codec, Postcard, schema};
use crate::error::{Error, ErrorKind};
use crate::health::Pipelines;
use crate::io::Io;
use crate::store::{Access, Root};
use std::sync::Arc;

/// An open shard of keys `K` and values `V`, encoded by `C`; clones share everything.
///
/// Open it once per process, before the workers start, and give each a clone.
///
/// ```
/// use differential_upsert::Shard;
/// let shard = Shard::<String, u64>::open("mem:")?;
/// assert_eq!(shard.upper(), 0);
/// # Ok::<(), differential_upsert::Error>(())
/// ```
pub struct Shard<K, V, C = Postcard> {
    handle: Handle,
    io: Io,
    pipelines: Pipelines,
    types: PhantomData<fn(C) -> (K, V)>,
}

impl<K, V, C: Codec<K> + Codec<V>> Shard<K, V, C> {
    /// Opens a shard for writing, and makes it if the place is empty: `file:DIR` or a bare path,
    /// `mem:`, and with their features `s3://BUCKET/PREFIX`, `gs://`, `az://`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the place holds something else; `Unsupported` for another format, codec or
    /// other types; `Corrupt` for damage; `Unavailable` if the store cannot be reached.
    ///
    /// # Panics
    ///
    /// Panics inside an async runtime: use [`open_with`](Shard::open_with) there.
    pub fn open(url: &str) -> Result<Self, Error> {
        let io = Io::process()?;
        let root = Root::open(url, Access::Write)?;
        io.block_on(Shard::open_with(root, io.clone(), HandleConfig::default()))
    }

    /// Opens a shard in a root that the caller has opened, with I/O and limits of the caller's.
    ///
    /// # Errors
    ///
    /// As [`open`](Shard::open).
    pub async fn open_with(root: Root, io: Io, config: HandleConfig) -> Result<Self, Error> {
        let schema = schema::<K, V, C>();
        let handle =
            Handle::open(root, "data", Some(schema), Access::Write, io.clone(), config).await?;
        Ok(Shard { handle, io, pipelines: Pipelines::default(), types: PhantomData })
    }

    /// Returns the upper, as last read: where a program that brings its own times continues them.
    pub fn upper(&self) -> u64 {
        self.state().upper
    }

    /// Returns the state, as last read.
    pub fn state(&self) -> Arc<State> {
        self.handle.state()
    }

    /// Returns the handle below, which knows bytes and no types.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns where the shard's I/O runs.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Returns where the workers of a pipeline on this shard find each other.
    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// Seals the shard at `end`, if its upper is exactly that: nothing can be appended any more.
    /// Sealing again at the same time changes nothing.
    ///
    /// # Errors
    ///
    /// `Invalid` if the upper is another; else what an append reports.
    pub async fn seal(&self, end: u64) -> Result<(), Error> {
        if self.handle.refresh().await?.sealed_at == Some(end) {
            return Ok(());
        }
        let append = Append { lower: end, upper: end, seal: true, ..Append::default() };
        match self.handle.compare_and_append(append).await? {
            Appended::Won { .. } => Ok(()),
            Appended::UpperMismatch(upper) => Err(Error::new(
                ErrorKind::Invalid,
                format!("cannot seal at {end}: the shard's upper is {upper}"),
            )
            .hint("another writer has gone on; seal from there")),
            Appended::Fenced(epoch) => Err(Error::new(
                ErrorKind::Fenced,
                format!("cannot seal: the shard's epoch is {epoch}"),
            )),
        }
    }
}

impl<K, V, C> Clone for Shard<K, V, C> {
    fn clone(&self) -> Self {
        let (handle, io) = (self.handle.clone(), self.io.clone());
        Shard { handle, io, pipelines: self.pipelines.clone(), types: PhantomData }
    }
}

impl<K, V, C> fmt::Debug for Shard<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("upper", &self.handle.state().upper).finish_non_exhaustive()
    }
}
