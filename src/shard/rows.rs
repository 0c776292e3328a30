//! Owns the way of rows into parts and back: prepare, upload, fetch and discard. It does not commit
//! anything; that is [`settle`](super::settle), and adds nothing up; that is
//! [`snapshot`](super::snapshot).

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::cache::{Cache, PartId, Weighs};
use super::engine::arrange::{arrange, named};
use super::engine::lease::{part_key, parts_folder};
use super::engine::part::{self, ALL, PartRef, Prepared, Update, Written};
use super::engine::state::Part;
use super::engine::stored::{check, inline_rows};
use super::holds::Holds;
use super::memory::{Gauge, MemoryStats};
use super::own::{OwnRows, own_id};
use super::uploading::Uploading;
use super::view::View;
use super::window::Window;
use crate::error::{Error, ErrorKind};

/// Parts read or written at the same time by one call.
pub(super) const CONCURRENT: usize = 8;

/// For which reader a part is read, and so how long it stays at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CacheUse {
    /// The last that is expected.
    Last,
    /// One that does not follow.
    Aside,
    /// One of the followers, each of which reads it once.
    Following,
}

/// The rows of a shard, on their way into parts and back; clones share the parts at hand.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(super) view: Arc<View>,
    pub(super) holds: Holds,
    /// Bytes of parts that are in memory for readers, and for a merge.
    pub(super) reading: Gauge,
    pub(super) merging: Gauge,
}

/// The bytes of a part that rows lie in.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Rows {
    pub(super) fn new(holds: Holds) -> Rows {
        let (reading, merging) = (Gauge::default(), Gauge::default());
        Rows { view: Arc::clone(&holds.view), holds, reading, merging }
    }

    /// See [`Handle::memory`](super::Handle::memory).
    pub(super) fn memory(&self) -> MemoryStats {
        let own = self.view.own.lock().bytes();
        let cache_bytes = (self.view.cache.lock().bytes() + own) as u64;
        let (read_bytes, merge_bytes) = (self.reading.get(), self.merging.get());
        MemoryStats { cache_bytes, read_bytes, merge_bytes }
    }

    /// Makes the bound of one reader's parts.
    pub(crate) fn window(&self) -> Window {
        Window::new(self.view.config.read_bytes_max, self.reading.clone())
    }

    /// See [`Handle::ready`](super::Handle::ready).
    pub(super) async fn ready(&self) -> Result<(), Error> {
        // An empty shard may have another made before it.
        if self.view.state().upper == 0 {
            return Ok(());
        }
        self.view.blob.ready(&parts_folder(&self.view.name)).await
    }

    /// See [`Handle::prepare`](super::Handle::prepare).
    pub(super) async fn prepare(&self, updates: Vec<Update>) -> Result<Vec<Prepared>, Error> {
        let view = &self.view;
        view.must_write("rows for")?;
        let arranged = arrange(updates)?;
        arranged.fit().map_err(|e| e.at(view.url()))?;
        if arranged.len() == 0 {
            return Ok(Vec::new());
        }
        if arranged.bytes() <= view.config.inline_bytes_max {
            let Written { bytes, updates, .. } = arranged.encode(0..arranged.len());
            return Ok(vec![Prepared::Inline(bytes, updates)]);
        }
        let lease = self.holds.permit().await?;
        let runs = arranged.split(view.config.part_bytes_max);
        let encode = |run: Range<usize>| {
            let key = part_key(&view.name, lease, view.fresh());
            let (part, bytes) = named(key, arranged.encode(run.clone()));
            let bytes = Arc::new(bytes);
            let own = OwnRows::of(&part, arranged.within(run, &bytes), &bytes);
            (part, bytes, own)
        };
        let encoded: Vec<_> = runs.into_iter().map(encode).collect();
        drop(arranged);
        // If one of them fails, no entry will name the others.
        let uploading = Uploading::new(view);
        encoded.iter().for_each(|(part, ..)| uploading.add(&part.key));
        // In order, so that parts keep the order of rows.
        let uploads = encoded.into_iter().map(|(part, bytes, own)| async move {
            self.upload(&part, Bytes::from_owner(Shared(bytes))).await?;
            if let Some(own) = own {
                view.own.lock().put(own_id(&part.key), Arc::new(own));
            }
            Ok::<_, Error>(Prepared::Stored(part))
        });
        let uploads: Vec<_> = uploads.collect();
        let uploads = futures::stream::iter(uploads).buffered(CONCURRENT);
        let prepared: Vec<Prepared> = uploads.try_collect().await?;
        uploading.keep();
        Ok(prepared)
    }

    /// See [`Handle::fetch`](super::Handle::fetch).
    pub(super) async fn fetch(
        &self,
        part: &Part,
        lower: u64,
        upper: u64,
    ) -> Result<Vec<Update>, Error> {
        let reading = if self.view.followers() > 0 { CacheUse::Aside } else { CacheUse::Last };
        self.read(part, lower, upper, reading, ALL).await
    }

    /// As [`fetch`](Rows::fetch), only the rows of keys whose hash is in `hashes`.
    pub(crate) async fn read(
        &self,
        part: &Part,
        lower: u64,
        upper: u64,
        reading: CacheUse,
        hashes: RangeInclusive<u64>,
    ) -> Result<Vec<Update>, Error> {
        if let Some(own) = self.own(part, reading) {
            return Ok(own.share(lower, upper, &hashes));
        }
        let buffer = self.buffer(part, reading).await?;
        part::decode_share(&buffer, lower, upper, hashes).map_err(|e| e.at(self.view.place(part)))
    }

    /// Returns the rows of a part that was written here, if they are in memory.
    fn own(&self, part: &Part, reading: CacheUse) -> Option<Arc<OwnRows>> {
        let Part::Stored { key, .. } = part else { return None };
        let own = self.at_hand(&self.view.own, &own_id(key), reading);
        own.filter(|own| own.are_of(part))
    }

    /// Returns what is in memory of a part, and takes it out for the last reader.
    fn at_hand<T: Weighs>(
        &self,
        cache: &Mutex<Cache<T>>,
        id: &PartId,
        reading: CacheUse,
    ) -> Option<Arc<T>> {
        let readers = self.view.followers();
        let mut cache = cache.lock();
        match reading {
            CacheUse::Last => cache.take(id),
            CacheUse::Aside => cache.peek(id),
            CacheUse::Following => cache.read(id, readers),
        }
    }

    /// Returns the bytes of a part: at hand, or read, and then checked as a whole.
    pub(super) async fn buffer(
        &self,
        part: &Part,
        reading: CacheUse,
    ) -> Result<Arc<Vec<u8>>, Error> {
        let id = PartId::of(part);
        if let Some(buffer) = self.at_hand(&self.view.cache, &id, reading) {
            return Ok(buffer);
        }
        let buffer = self.view.same_root(self.read_part(part).await).await?;
        check(part, &buffer).map_err(|e| e.at(self.view.place(part)))?;
        let readers = self.view.followers();
        if matches!(reading, CacheUse::Following) && readers > 1 {
            let mut cache = self.view.cache.lock();
            cache.put(id.clone(), Arc::clone(&buffer));
            drop(cache.read(&id, readers));
        }
        Ok(buffer)
    }

    async fn read_part(&self, part: &Part) -> Result<Arc<Vec<u8>>, Error> {
        let view = &self.view;
        let gone = || {
            Error::new(ErrorKind::Missing, "a part is gone")
                .at(self.view.place(part))
                .hint("read on from the newest state; `shard verify` tells damage from collection")
        };
        match part {
            Part::Stored { key, .. } => {
                let bytes = view.blob.get(key).await?.ok_or_else(gone)?;
                view.counters.bytes_read.add(bytes.len() as u64);
                Ok(Arc::new(Vec::from(bytes)))
            }
            Part::Inline { seqno, .. } => {
                let entry = view.log.get(*seqno).await?.ok_or_else(gone)?;
                view.counters.bytes_read.add(entry.len() as u64);
                match inline_rows(part, &entry) {
                    Ok(rows) => Ok(Arc::new(rows)),
                    // Under the floor anything may stand there: a late create of somebody else's.
                    Err(_) if view.log.floor().await? >= *seqno => Err(gone()),
                    Err(e) => Err(e.at(self.view.place(part))),
                }
            }
        }
    }

    /// Uploads a part, which nobody here is about to read. Returns its bytes too, if the store has let them go.
    pub(super) async fn store(
        &self,
        written: Written,
        uploading: &Uploading,
    ) -> Result<(PartRef, Option<Vec<u8>>), Error> {
        let lease = self.holds.permit().await?;
        let token = self.view.fresh();
        let (part, bytes) = named(part_key(&self.view.name, lease, token), written);
        let bytes = Bytes::from(bytes);
        uploading.add(&part.key);
        self.upload(&part, bytes.clone()).await?;
        Ok((part, bytes.is_unique().then(|| Vec::from(bytes))))
    }

    pub(super) async fn upload(&self, part: &PartRef, bytes: Bytes) -> Result<(), Error> {
        let view = &self.view;
        view.counters.bytes_written.add(bytes.len() as u64);
        view.blob.put(&part.key, bytes).await.map_err(|e| {
            if e.kind() == ErrorKind::Replaced {
                return e;
            }
            // What became of it does not matter: nothing refers to it.
            let kind = match e.kind() {
                ErrorKind::Indeterminate => ErrorKind::Unavailable,
                kind => kind,
            };
            Error::new(kind, format!("a part cannot be stored: {}", e.what()))
                .at(e.place().map_or_else(|| view.blob.place(&part.key), str::to_string))
                .hint(e.advice().unwrap_or("check the store and rerun"))
                .because(e)
        })
    }

    /// See [`Handle::discard`](super::Handle::discard).
    pub(super) async fn discard(&self, prepared: Vec<Prepared>) {
        for part in prepared {
            if let Prepared::Stored(PartRef { key, .. }) = part {
                let deleted = self.view.blob.delete(&key).await;
                if let Err(e) = &deleted {
                    tracing::debug!(shard = self.view.url(), error = %e, "orphan left");
                }
                self.view.uploads.lock().decided(&key, deleted.is_err());
                self.view.own.lock().take(&own_id(&key));
            }
        }
    }
}
