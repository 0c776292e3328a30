//! Owns the state: the collection at the feedback frontier, one live value per key, as a hash [`index`](super::index)
//! over [`chunks`](super::chunks) of rows. It changes only by feedback; it does not own when it may be read, nor which of
//! its rows are in memory.
//!
//! Feedback may arrive unconsolidated and out of order, so a key's updates can pass through sums
//! that are not a collection. Such updates wait in a side table of exact counts, until they sum, with the key's row,
//! to nothing or to one value. At a complete frontier the side table is empty.
//!
//! Feedback does not read cold rows: the hash of the key says which row it is, unless another key shares it, and the check
//! whether the row has the value that is retracted. In memory both are compared as they are.
//!
//! How rows are found is in `find`, how they leave their chunks in `compact`, how all of them are gone through in `walk`, and
//! what images need in `images`.

mod compact;
mod find;
mod images;
#[cfg(test)]
mod tiny;
pub(super) mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::chunks::Chunks;
use super::cold::{ColdSpace, ReadCounts};
use super::deferred::Deferred;
use super::entry::{Class, Entry, Hashed, Placed, check};
use super::index::Index;
use super::rows::{Kept, Rows};
use super::slot::Slot;
use super::stats::StatePlaces;
use super::unsettled::Unsettled;
use crate::error::{Error, ErrorKind};

/// Chunks that new rows leave for compaction: it moves the live rows of one chunk at a time, which fit into one.
const CHUNKS_SPARE: usize = 1;

/// The live value of each key.
pub struct State<K: Kept<V>, V> {
    index: Index,
    chunks: Chunks<K::Rows>,
    bytes_max: Option<usize>,
    /// The checks of rows are kept: one may have to be known without it.
    keeps_checks: bool,
    /// Reads the entries of an image's piece.
    pieces: Option<ReadPiece>,
    /// The updates of those that are yet to be read.
    deferred: Deferred<K::Rows>,
    /// Chunks that became mostly dead while no row could leave its place.
    owed: BTreeSet<u32>,
    /// The live rows of each chunk, by the entries that the round under way has captured.
    captured: BTreeMap<u32, u32>,
    unsettled: Unsettled<K, V>,
}

/// Reads the entries of a piece of an image, checked.
pub(crate) type ReadPiece = Box<dyn FnMut(u32) -> Result<Vec<u8>, Error>>;

/// Why the state cannot go on.
#[derive(Clone, Debug)]
pub enum Broken {
    /// It has as many chunks as a slot can name.
    Full,
    /// Its file cannot be written or read.
    File(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken::File(error)
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Full => Error::new(ErrorKind::Unavailable, "the state of this worker is full")
                .hint("use more workers"),
            Broken::File(error) => error,
        }
    }
}

impl<K, V> Default for State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    fn default() -> Self {
        State::new(None, ColdSpace::default())
    }
}

impl<K: Kept<V> + Clone + Ord, V: Clone + Ord> Debug for State<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("keys", &self.index.len())
            .field("unsettled", &self.unsettled.len())
            .finish_non_exhaustive()
    }
}

impl<K, V> State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    /// Returns an empty state of so many bytes in memory, if it is bounded. A bound keeps the index, two chunks and what is
    /// being read in any case.
    pub(crate) fn new(bytes_max: Option<usize>, space: ColdSpace) -> Self {
        State {
            index: Index::default(),
            chunks: Chunks::new(bytes_max, space),
            bytes_max: bytes_max.filter(|_| K::Rows::FILES),
            keeps_checks: bytes_max.is_some() && K::Rows::FILES,
            pieces: None,
            deferred: Deferred::default(),
            owed: BTreeSet::new(),
            captured: BTreeMap::new(),
            unsettled: Unsettled::new(),
        }
    }

    /// Returns the number of live rows, without what updates that [wait](super::deferred) for their segment make of it.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the bytes allocated.
    pub fn bytes(&self) -> usize {
        self.chunks.bytes() + self.index.bytes() + self.unsettled.bytes() + self.deferred.bytes()
    }

    /// Returns the bound of the bytes in memory, if there is one.
    pub fn bytes_max(&self) -> Option<usize> {
        self.bytes_max
    }

    /// Returns what is where.
    pub fn places(&self) -> StatePlaces {
        self.chunks.places()
    }

    /// Returns what was read since the last call.
    pub(super) fn take_counts(&mut self) -> ReadCounts {
        self.chunks.take_counts()
    }

    /// Returns how many rows are being read.
    pub(super) fn under_way(&self) -> usize {
        self.chunks.under_way()
    }

    /// Whether there are rows that have to be read.
    #[inline]
    pub fn has_cold(&self) -> bool {
        self.chunks.has_cold()
    }

    /// Returns a key that has no single live value, if there is one: at a complete frontier a sign
    /// that the shard is damaged.
    ///
    /// Its counts are with it, those of its row left out where that would have to be read.
    pub fn unsettled(&self) -> Option<(&K, BTreeMap<V, isize>)> {
        let (key, counts) = self.unsettled.first()?;
        let mut counts = counts.clone();
        let row = self.find(key.key_hash(), key).and_then(|entry| self.get(entry.slot()));
        if let Some((_, live)) = row {
            let count = counts.entry(live).or_default();
            *count = count.saturating_add(1);
        }
        Some((key, counts))
    }

    /// Returns what is wrong with it where it should be a collection.
    pub fn damage(&self) -> Option<Error>
    where
        K: Debug,
        V: Debug,
    {
        let (key, counts) = self.unsettled()?;
        let what = format!("the feedback holds key {key:?} with {counts:?}, not one live value");
        Some(damaged_shard(what))
    }

    /// Whether each key has at most one value, as far as its segment is read.
    pub fn is_settled(&self) -> bool {
        self.unsettled.len() == 0
    }

    /// Applies an update, or [defers](super::deferred) it. O(1), amortised.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the state has no room for a further chunk, or its file cannot be written or read.
    pub fn apply(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Broken> {
        if self.defers(hash, key, value, diff)? {
            return Ok(());
        }
        if !self.unsettled.has(key) {
            match (self.seek(hash, key)?, diff) {
                (None, 1) => return self.insert(hash, key, value),
                (Some(entry), -1) if self.retracts(hash, &entry, value) => {
                    return self.remove(hash, &entry, K::Rows::share(key, value));
                }
                (_, 0) => return Ok(()),
                _ => {}
            }
        }
        self.count(hash, key, value, diff)
    }

    /// Replaces a key's value: a retraction and an insertion in one step. Returns false, and
    /// changes nothing, unless `prior` is the key's live value. `found` is what was found of the key, if that is
    /// [still](State::still) so.
    ///
    /// # Errors
    ///
    /// As [`apply`](State::apply).
    pub fn replace(
        &mut self,
        found: Option<Entry>,
        hash: u64,
        key: &K,
        prior: &V,
        value: &V,
    ) -> Result<bool, Broken> {
        if self.unsettled.has(key) || self.is_unread(hash) {
            return Ok(false);
        }
        let found = match found.filter(|entry| !entry.is_shared()) {
            Some(entry) => Some(entry),
            None => self.seek(hash, key)?,
        };
        let Some(entry) = found.filter(|entry| self.retracts(hash, entry, prior)) else {
            return Ok(false);
        };
        let (hashed, slot) = (Hashed::of(hash), entry.slot());
        if self.chunks.hot_mut(slot).is_some_and(|rows| rows.overwrite(slot.row(), value)) {
            if self.keeps_checks {
                let placed = self.placed(hash, slot, key, value);
                self.put(hashed, slot, placed);
                self.chunks.overwritten(slot);
            }
            return Ok(true);
        }
        let version = self.index.version();
        let moved = self.push(hash, key, value)?;
        // A chunk that was left for another may have been compacted, and the row moved with it.
        let slot = match self.index.version() == version {
            true => Some(slot),
            false => self.seek(hash, key)?.map(|entry| entry.slot()),
        };
        if let Some(slot) = slot {
            self.put(hashed, slot, moved);
            self.bury(slot, K::Rows::share(key, prior))?;
        }
        Ok(true)
    }

    /// Whether the value at a place is this one. The row is [here](State::is_here), as for all below.
    #[inline]
    pub fn holds(&self, slot: Slot, value: &V) -> bool {
        self.chunks.at(slot).is_some_and(|(rows, row)| rows.value_is(row, value))
    }

    /// Adds the value at a place to those collected. Returns the bytes of its row; 0 if it is not here.
    pub fn gather(&self, slot: Slot, into: &mut <K::Rows as Rows<K, V>>::Gather) -> usize {
        self.chunks.at(slot).map_or(0, |(rows, row)| {
            rows.gather(row, into);
            rows.row_bytes(row)
        })
    }

    /// Returns a copy of the key at a place.
    pub fn key(&self, slot: Slot) -> Option<K> {
        self.chunks.at(slot).map(|(rows, row)| rows.copy_key(row))
    }

    /// Returns a copy of the key and value at a place.
    pub fn get(&self, slot: Slot) -> Option<(K, V)> {
        self.chunks.at(slot).map(|(rows, row)| rows.get(row))
    }

    /// Writes chunks out until the state is within its bound again.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written; nothing is lost then.
    pub fn keep_bound(&mut self) -> Result<(), Error> {
        self.bytes_max.map_or(Ok(()), |bytes_max| self.chunks.evict(self.bytes(), bytes_max))
    }

    fn placed(&self, hash: u64, slot: Slot, key: &K, value: &V) -> Placed {
        let check = if self.keeps_checks { check(hash, K::Rows::value_hash(value)) } else { 0 };
        Placed { slot, class: Class::of(K::Rows::share(key, value)), check }
    }

    fn insert(&mut self, hash: u64, key: &K, value: &V) -> Result<(), Broken> {
        let placed = self.push(hash, key, value)?;
        self.index.insert(Hashed::of(hash), placed);
        Ok(())
    }

    fn remove(&mut self, hash: u64, entry: &Entry, share: usize) -> Result<(), Broken> {
        self.index.remove(Hashed::of(hash), entry.slot());
        self.bury(entry.slot(), share)
    }

    fn put(&mut self, hashed: Hashed, from: Slot, placed: Placed) {
        if let Some(entry) = self.index.at_mut(hashed, from) {
            entry.put(placed);
        }
    }

    fn push(&mut self, hash: u64, key: &K, value: &V) -> Result<Placed, Broken> {
        loop {
            if let Some(slot) = self.chunks.push(key, value) {
                return Ok(self.placed(hash, slot, key, value));
            }
            self.next_tail(CHUNKS_SPARE)?;
        }
    }

    /// The slow path: counts the update among the key's others, and settles the key if they and its row sum to nothing or
    /// to one value.
    fn count(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Broken> {
        let sum = self.unsettled.take(key, value, diff);
        // Also where one hash is one key's so far: this may be the second.
        let live = self.find_surely(hash, key)?;
        let change = sum.change().filter(|[gone, new]| match (&live, gone) {
            (Some(live), Some(gone)) => self.retracts(hash, live, gone),
            (Some(_), None) => new.is_none(),
            (None, gone) => gone.is_none(),
        });
        let Some([gone, new]) = change else {
            self.unsettled.put(key, sum);
            return Ok(());
        };
        if let (Some(live), Some(gone)) = (live, gone) {
            self.remove(hash, &live, K::Rows::share(key, gone))?;
        }
        new.map_or(Ok(()), |new| self.insert(hash, key, new))
    }
}

/// What the shard has is not a collection.
fn damaged_shard(what: String) -> Error {
    let hint = "verify the shard; nothing is written from here any more";
    Error::new(ErrorKind::Corrupt, what).hint(hint)
}

#[cfg(test)]
mod tests;
