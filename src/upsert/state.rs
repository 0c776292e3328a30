//! Owns the state: the collection at the feedback frontier, one live value per key, as a hash index
//! over chunks of rows. It changes only by feedback; it does not decide when it may be read.
//!
//! Feedback may arrive unconsolidated and out of order, so a key's updates can pass through sums
//! that are not a collection. Such keys wait, whole, in a side table of exact counts and come back
//! when they sum to nothing or to one value. At a complete frontier the side table is empty.

use std::collections::BTreeMap;
use std::fmt::Debug;

use hashbrown::HashTable;

use super::rows::{Kept, Rows};
use super::slot::{ROW_BITS, Slot};

/// Chunks, and so about 32 GiB of packed rows, that one worker can hold.
const CHUNKS_MAX: usize = 1 << (32 - ROW_BITS);
/// Chunks that new rows leave for compaction: it moves the live rows of one chunk at a time, which fit into one.
const CHUNKS_SPARE: usize = 1;

/// The live value of each key.
pub struct State<K: Kept<V>, V> {
    index: HashTable<u32>,
    chunks: Vec<Chunk<K::Rows>>,
    /// Chunks emptied by compaction, to be used again.
    free: Vec<u32>,
    /// The chunk that takes new rows.
    tail: u32,
    chunks_max: usize,
    /// The bytes of all chunks.
    chunk_bytes: usize,
    /// How often rows have left their places.
    moves: u64,
    unsettled: BTreeMap<K, BTreeMap<V, isize>>,
    /// The bytes of the side table.
    unsettled_bytes: usize,
}

struct Chunk<R> {
    rows: R,
    heap_bytes: usize,
    /// The shares of its dead rows.
    dead: usize,
}

/// Spreads a 64-bit hash whose low and high bits may be poor into the 32 that state keeps.
#[inline]
fn fold(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

/// Spreads the kept 32 bits over the 64 that the index wants.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

impl<K, V> Default for State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    fn default() -> Self {
        State {
            index: HashTable::new(),
            chunks: vec![Chunk::default()],
            free: Vec::new(),
            tail: 0,
            chunks_max: CHUNKS_MAX,
            chunk_bytes: 0,
            moves: 0,
            unsettled: BTreeMap::new(),
            unsettled_bytes: 0,
        }
    }
}

impl<R: Default> Default for Chunk<R> {
    fn default() -> Self {
        Chunk { rows: R::default(), heap_bytes: 0, dead: 0 }
    }
}

impl<K: Kept<V>, V> Debug for State<K, V> {
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
    /// Returns the number of keys with a live value, those in the side table left out.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the bytes allocated.
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.capacity() * size_of::<Chunk<K::Rows>>();
        self.chunk_bytes + chunks + self.index.allocation_size() + self.unsettled_bytes
    }

    /// Returns a key that has no single live value, if there is one: at a complete frontier a sign
    /// that the shard is damaged.
    pub fn unsettled(&self) -> Option<(&K, &BTreeMap<V, isize>)> {
        self.unsettled.first_key_value()
    }

    /// Returns how often rows have left their places: what was found is good as long as that stays.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Applies an update. O(1), amortised.
    ///
    /// # Errors
    ///
    /// [`Full`] if the state has no room for a further chunk.
    pub fn apply(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Full> {
        if self.unsettled.is_empty() {
            match (self.find(hash, key), diff) {
                (None, 1) => return self.insert(hash, key, value),
                (Some(slot), -1) if self.holds(slot, value) => {
                    self.remove(hash, slot);
                    return Ok(());
                }
                (_, 0) => return Ok(()),
                _ => {}
            }
        }
        self.count(hash, key, value, diff)
    }

    /// Replaces a key's value: a retraction and an insertion in one step. Returns false, and
    /// changes nothing, unless `prior` is the key's live value. `found` is the key's place, where it is known.
    ///
    /// # Errors
    ///
    /// [`Full`] if the state has no room for a further chunk.
    pub fn replace(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        key: &K,
        prior: &V,
        value: &V,
    ) -> Result<bool, Full> {
        if !self.unsettled.is_empty() {
            return Ok(false);
        }
        let found = found.or_else(|| self.find(hash, key));
        let Some(slot) = found.filter(|slot| self.holds(*slot, prior)) else {
            return Ok(false);
        };
        if !self.chunks[slot.chunk()].rows.overwrite(slot.row(), value) {
            let tail = self.tail;
            let moved = self.push(fold(hash), key, value)?;
            // A chunk that was left for another may have been compacted, and the row moved with it.
            let slot = if self.tail == tail { Some(slot) } else { self.find(hash, key) };
            if let Some(slot) = slot {
                self.relocate(fold(hash), slot, moved);
                self.bury(slot);
            }
        }
        Ok(true)
    }

    /// Returns the place of a key's live value.
    #[inline]
    pub fn find(&self, hash: u64, key: &K) -> Option<Slot> {
        let is_key = |slot: &u32| {
            let slot = Slot::of(*slot);
            self.chunks[slot.chunk()].rows.key_is(slot.row(), key)
        };
        self.index.find(spread(fold(hash)), is_key).map(|slot| Slot::of(*slot))
    }

    /// Looks up many keys at once, like [`find`](State::find) for each.
    ///
    /// A look-up in a large state waits for memory twice, for the index and for the row. Going
    /// through all keys one level at a time makes the loops so short that the processor waits for
    /// many keys at once.
    pub fn find_all<'a>(
        &self,
        keys: impl Iterator<Item = (u64, &'a K)> + Clone,
        found: &mut Vec<Option<Slot>>,
    ) where
        K: 'a,
    {
        found.clear();
        // The first row whose hash has the same tag is nearly always the right one.
        let first =
            |hash| self.index.find(spread(fold(hash)), |_| true).map(|slot| Slot::of(*slot));
        found.extend(keys.clone().map(|(hash, _)| first(hash)));
        let row_hash = |slot: Slot| self.chunks[slot.chunk()].rows.hash(slot.row());
        for (slot, (hash, key)) in found.iter_mut().zip(keys.clone()) {
            if slot.is_some_and(|slot| row_hash(slot) != fold(hash)) {
                *slot = self.find(hash, key);
            }
        }
        for (slot, (hash, key)) in found.iter_mut().zip(keys) {
            let is_key = |slot: Slot| self.chunks[slot.chunk()].rows.key_is(slot.row(), key);
            if slot.is_some_and(|slot| !is_key(slot)) {
                *slot = self.find(hash, key);
            }
        }
    }

    /// Whether the value at a place is this one.
    #[inline]
    pub fn holds(&self, slot: Slot, value: &V) -> bool {
        self.chunks[slot.chunk()].rows.value_is(slot.row(), value)
    }

    /// Adds the value at a place to those collected.
    pub fn gather(&self, slot: Slot, into: &mut <K::Rows as Rows<K, V>>::Gather) {
        self.chunks[slot.chunk()].rows.gather(slot.row(), into);
    }

    /// Returns the bytes of the row at a place.
    pub fn row_bytes(&self, slot: Slot) -> usize {
        self.chunks[slot.chunk()].rows.row_bytes(slot.row())
    }

    /// Returns a copy of the key at a place.
    pub fn key(&self, slot: Slot) -> K {
        self.chunks[slot.chunk()].rows.copy_key(slot.row())
    }

    /// Returns a copy of the key and value at a place.
    pub fn get(&self, slot: Slot) -> (K, V) {
        self.chunks[slot.chunk()].rows.get(slot.row())
    }

    /// Returns the first live row past `slot`, or the first of all; `None` at the end. The order is
    /// that of the chunks, the same on every run.
    pub fn next(&self, slot: Option<Slot>) -> Option<Slot> {
        let mut row = slot.map(Slot::row);
        for chunk in slot.map_or(0, Slot::chunk)..self.chunks.len() {
            let rows = &self.chunks[chunk].rows;
            while let Some(next) = rows.next(row) {
                let slot = Slot::new(chunk as u32, next);
                if self.is_live(rows.hash(next), slot) {
                    return Some(slot);
                }
                row = Some(next);
            }
            row = None;
        }
        None
    }

    fn is_live(&self, hash: u32, slot: Slot) -> bool {
        self.index.find(spread(hash), |live| *live == slot.bits()).is_some()
    }

    fn insert(&mut self, hash: u64, key: &K, value: &V) -> Result<(), Full> {
        let slot = self.push(fold(hash), key, value)?;
        let State { index, chunks, .. } = self;
        index.insert_unique(spread(fold(hash)), slot.bits(), |slot| {
            let slot = Slot::of(*slot);
            spread(chunks[slot.chunk()].rows.hash(slot.row()))
        });
        Ok(())
    }

    fn remove(&mut self, hash: u64, slot: Slot) {
        if let Ok(entry) = self.index.find_entry(spread(fold(hash)), |live| *live == slot.bits()) {
            entry.remove();
        }
        self.bury(slot);
    }

    fn relocate(&mut self, hash: u32, from: Slot, to: Slot) {
        if let Some(slot) = self.index.find_mut(spread(hash), |live| *live == from.bits()) {
            *slot = to.bits();
        }
    }

    fn push(&mut self, hash: u32, key: &K, value: &V) -> Result<Slot, Full> {
        loop {
            let row = self.chunks[self.tail as usize].rows.push(hash, key, value);
            self.measure(self.tail);
            if let Some(row) = row {
                return Ok(Slot::new(self.tail, row));
            }
            self.next_tail(CHUNKS_SPARE)?;
        }
    }

    /// Seals the tail and takes another chunk, if more than `spare` of them are left.
    fn next_tail(&mut self, spare: usize) -> Result<(), Full> {
        let full = self.tail;
        // A tail that is mostly dead gives its chunk back at once.
        let spare = if self.is_mostly_dead(full as usize) { 0 } else { spare };
        if self.free.len() + self.chunks_max - self.chunks.len() <= spare {
            return Err(Full);
        }
        self.chunks[full as usize].rows.seal();
        self.measure(full);
        self.tail = self.free.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk::default());
            (self.chunks.len() - 1) as u32
        });
        // Rows die in the tail, too, and it is not compacted while it is one. What is left fits into the new tail.
        if self.is_mostly_dead(full as usize) && !crate::mutant::on("leak_tail_chunk") {
            self.compact(full as usize);
        }
        Ok(())
    }

    /// Brings the bytes of a chunk up to date.
    fn measure(&mut self, chunk: u32) {
        let chunk = &mut self.chunks[chunk as usize];
        let now = chunk.rows.heap_bytes();
        self.chunk_bytes = self.chunk_bytes - chunk.heap_bytes + now;
        chunk.heap_bytes = now;
    }

    /// Counts a row as dead and, when half of its chunk is, moves the live ones out.
    fn bury(&mut self, slot: Slot) {
        self.moves += 1;
        let chunk = &mut self.chunks[slot.chunk()];
        chunk.dead += chunk.rows.share(slot.row());
        let leaks = slot.chunk() == self.tail as usize && crate::mutant::on("leak_tail_chunk");
        if chunk.dead >= chunk.rows.shares() && !leaks {
            // Not one row is live, in the tail or elsewhere: the chunk begins anew.
            self.chunk_bytes -= std::mem::take(chunk).heap_bytes;
            if slot.chunk() != self.tail as usize {
                self.free.push(slot.chunk() as u32);
            }
        } else if slot.chunk() != self.tail as usize && self.is_mostly_dead(slot.chunk()) {
            self.compact(slot.chunk());
        }
    }

    fn is_mostly_dead(&self, chunk: usize) -> bool {
        let chunk = &self.chunks[chunk];
        chunk.dead * 2 > chunk.rows.shares()
    }

    /// Moves the live rows of a chunk to the tail and frees it. Rows leave one by one, each whole: if there were no room
    /// for one, it and the rest would stay where they are.
    fn compact(&mut self, chunk: usize) {
        self.moves += 1;
        let mut row = None;
        while let Some(next) = self.chunks[chunk].rows.next(row) {
            row = Some(next);
            let (hash, slot) = (self.chunks[chunk].rows.hash(next), Slot::new(chunk as u32, next));
            if !self.is_live(hash, slot) {
                continue;
            }
            let moved = loop {
                let Ok([old, tail]) = self.chunks.get_disjoint_mut([chunk, self.tail as usize])
                else {
                    return;
                };
                let copied = tail.rows.push_row(&old.rows, next);
                self.measure(self.tail);
                match copied {
                    Some(row) => break Slot::new(self.tail, row),
                    None if self.next_tail(0).is_err() => return,
                    None => {}
                }
            };
            self.relocate(hash, slot, moved);
            let old = &mut self.chunks[chunk];
            old.dead += old.rows.share(next);
        }
        self.chunk_bytes -= std::mem::take(&mut self.chunks[chunk]).heap_bytes;
        self.free.push(chunk as u32);
    }

    /// The slow path: counts the update among the key's others, and settles the key if it sums to
    /// nothing or to one value.
    fn count(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Full> {
        let mut counts = self.unsettled.remove(key).unwrap_or_default();
        self.unsettled_bytes -= side_bytes(key, &counts);
        if let Some(slot) = self.find(hash, key) {
            let (_, live) = self.get(slot);
            let count = counts.entry(live).or_default();
            *count = count.saturating_add(1);
            self.remove(hash, slot);
        }
        match counts.get_mut(value) {
            // No sum that does not fit is one live value, so it is found where it counts.
            Some(count) => *count = count.saturating_add(diff),
            None => drop(counts.insert(detached(key, value).1, diff)),
        }
        counts.retain(|_, count| *count != 0);
        match counts.first_key_value() {
            None => Ok(()),
            Some((live, 1)) if counts.len() == 1 => {
                let live = live.clone();
                self.insert(hash, key, &live)
            }
            Some(_) => {
                self.unsettled_bytes += side_bytes(key, &counts);
                self.unsettled.insert(detached(key, value).0, counts);
                Ok(())
            }
        }
    }
}

/// Returns copies that keep no buffer which other rows share: they may stay for long.
fn detached<K: Kept<V> + Clone, V: Clone>(key: &K, value: &V) -> (K, V) {
    let (mut key, mut value) = (key.clone(), value.clone());
    K::repack(std::iter::once((&mut key, Some(&mut value))));
    (key, value)
}

/// Returns the bytes that a key has in the side table, about; 0 if it is not there.
fn side_bytes<K: Kept<V>, V>(key: &K, counts: &BTreeMap<V, isize>) -> usize {
    // Nodes are half full at the worst; a buffer of its own has some bytes beside its row's.
    let one = 2 * (size_of::<V>() + size_of::<isize>()) + SIDE_ROW_BYTES;
    let values = counts.keys().map(|value| K::heap_bytes(key, Some(value)) + one);
    let row = 2 * (size_of::<K>() + size_of::<BTreeMap<V, isize>>()) + SIDE_ROW_BYTES;
    if counts.is_empty() { 0 } else { row + values.sum::<usize>() }
}

/// Bytes of a buffer beside its row's.
const SIDE_ROW_BYTES: usize = 64;

/// The state has as many chunks as a slot can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
