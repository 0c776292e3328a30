//! Owns the state: the collection at the feedback frontier, one live value per key, as a hash index
//! over chunks of rows. It changes only by feedback; it does not decide when it may be read.
//!
//! Feedback may arrive unconsolidated and out of order, so a key's updates can pass through sums
//! that are no collection. Such keys wait, whole, in a side table of exact counts and come back
//! when they sum to nothing or to one value. At a complete frontier the side table is empty.

use std::collections::BTreeMap;
use std::fmt::Debug;

use hashbrown::HashTable;

use super::rows::{Kept, Rows};

/// Bits of a slot that name the row; the rest name the chunk.
const ROW_BITS: u32 = 17;
/// Chunks, and so about 32 GiB of packed rows, that one worker can hold.
const CHUNKS_MAX: usize = 1 << (32 - ROW_BITS);

/// The live value of each key.
pub struct State<K: Kept<V>, V> {
    index: HashTable<u32>,
    chunks: Vec<Chunk<K::Rows>>,
    /// Chunks emptied by compaction, to be used again.
    free: Vec<u32>,
    /// The chunk that takes new rows.
    tail: u32,
    unsettled: BTreeMap<K, BTreeMap<V, isize>>,
}

struct Chunk<R> {
    rows: R,
    heap_bytes: usize,
    dead_bytes: usize,
}

/// The place of a live row, good until the state next changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    fn new(chunk: u32, row: u32) -> Slot {
        Slot((chunk << ROW_BITS) | row)
    }

    fn chunk(self) -> usize {
        (self.0 >> ROW_BITS) as usize
    }

    fn row(self) -> u32 {
        self.0 & ((1 << ROW_BITS) - 1)
    }
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
            unsettled: BTreeMap::new(),
        }
    }
}

impl<R: Default> Default for Chunk<R> {
    fn default() -> Self {
        Chunk { rows: R::default(), heap_bytes: 0, dead_bytes: 0 }
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

    /// Returns the bytes allocated. O(chunks).
    pub fn bytes(&self) -> usize {
        let rows: usize = self.chunks.iter().map(|chunk| chunk.heap_bytes).sum();
        rows + self.index.allocation_size()
    }

    /// Returns a key that has no single live value, if there is one: at a complete frontier a sign
    /// that the shard is damaged.
    pub fn unsettled(&self) -> Option<(&K, &BTreeMap<V, isize>)> {
        self.unsettled.first_key_value()
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
    /// changes nothing, unless `prior` is the key's live value.
    ///
    /// # Errors
    ///
    /// [`Full`] if the state has no room for a further chunk.
    pub fn replace(&mut self, hash: u64, key: &K, prior: &V, value: &V) -> Result<bool, Full> {
        if !self.unsettled.is_empty() {
            return Ok(false);
        }
        let Some(slot) = self.find(hash, key).filter(|slot| self.holds(*slot, prior)) else {
            return Ok(false);
        };
        if !self.chunks[slot.chunk()].rows.overwrite(slot.row(), value) {
            let moved = self.push(fold(hash), key, value)?;
            self.relocate(fold(hash), slot, moved);
            self.bury(slot)?;
        }
        Ok(true)
    }

    /// Returns the place of a key's live value.
    #[inline]
    pub fn find(&self, hash: u64, key: &K) -> Option<Slot> {
        let is_key = |slot: &u32| {
            let slot = Slot(*slot);
            self.chunks[slot.chunk()].rows.key_is(slot.row(), key)
        };
        self.index.find(spread(fold(hash)), is_key).map(|slot| Slot(*slot))
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
        let first = |hash| self.index.find(spread(fold(hash)), |_| true).map(|slot| Slot(*slot));
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
        self.index.find(spread(hash), |live| *live == slot.0).is_some()
    }

    fn insert(&mut self, hash: u64, key: &K, value: &V) -> Result<(), Full> {
        let slot = self.push(fold(hash), key, value)?;
        let State { index, chunks, .. } = self;
        index.insert_unique(spread(fold(hash)), slot.0, |slot| {
            let slot = Slot(*slot);
            spread(chunks[slot.chunk()].rows.hash(slot.row()))
        });
        Ok(())
    }

    fn remove(&mut self, hash: u64, slot: Slot) {
        if let Ok(entry) = self.index.find_entry(spread(fold(hash)), |live| *live == slot.0) {
            entry.remove();
        }
        // A full state cannot be compacted; the dead row stays, and nothing is lost.
        let _ = self.bury(slot);
    }

    fn relocate(&mut self, hash: u32, from: Slot, to: Slot) {
        if let Some(slot) = self.index.find_mut(spread(hash), |live| *live == from.0) {
            *slot = to.0;
        }
    }

    fn push(&mut self, hash: u32, key: &K, value: &V) -> Result<Slot, Full> {
        loop {
            let tail = &mut self.chunks[self.tail as usize];
            if let Some(row) = tail.rows.push(hash, key, value) {
                tail.heap_bytes = tail.rows.heap_bytes();
                return Ok(Slot::new(self.tail, row));
            }
            self.next_tail()?;
        }
    }

    fn next_tail(&mut self) -> Result<(), Full> {
        let full = &mut self.chunks[self.tail as usize];
        full.rows.seal();
        full.heap_bytes = full.rows.heap_bytes();
        self.tail = match self.free.pop() {
            Some(chunk) => chunk,
            None if self.chunks.len() == CHUNKS_MAX => return Err(Full),
            None => {
                self.chunks.push(Chunk::default());
                (self.chunks.len() - 1) as u32
            }
        };
        Ok(())
    }

    /// Counts a row as dead and, when half of its chunk is, moves the live ones out.
    fn bury(&mut self, slot: Slot) -> Result<(), Full> {
        let chunk = &mut self.chunks[slot.chunk()];
        chunk.dead_bytes += chunk.rows.row_bytes(slot.row());
        let mostly_dead = chunk.dead_bytes * 2 > chunk.heap_bytes;
        if mostly_dead && slot.chunk() != self.tail as usize {
            self.compact(slot.chunk())?;
        }
        Ok(())
    }

    fn compact(&mut self, chunk: usize) -> Result<(), Full> {
        let old = std::mem::take(&mut self.chunks[chunk]);
        let mut row = None;
        while let Some(next) = old.rows.next(row) {
            row = Some(next);
            let (hash, slot) = (old.rows.hash(next), Slot::new(chunk as u32, next));
            if !self.is_live(hash, slot) {
                continue;
            }
            let moved = loop {
                let tail = &mut self.chunks[self.tail as usize];
                if let Some(row) = tail.rows.push_row(&old.rows, next) {
                    tail.heap_bytes = tail.rows.heap_bytes();
                    break Slot::new(self.tail, row);
                }
                self.next_tail()?;
            };
            self.relocate(hash, slot, moved);
        }
        self.free.push(chunk as u32);
        Ok(())
    }

    /// The slow path: counts the update among the key's others, and settles the key if it sums to
    /// nothing or to one value.
    fn count(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Full> {
        let mut counts = self.unsettled.remove(key).unwrap_or_default();
        if let Some(slot) = self.find(hash, key) {
            let (_, live) = self.get(slot);
            *counts.entry(live).or_default() += 1;
            self.remove(hash, slot);
        }
        *counts.entry(value.clone()).or_default() += diff;
        counts.retain(|_, count| *count != 0);
        match counts.first_key_value() {
            None => Ok(()),
            Some((live, 1)) if counts.len() == 1 => {
                let live = live.clone();
                self.insert(hash, key, &live)
            }
            Some(_) => {
                self.unsettled.insert(key.clone(), counts);
                Ok(())
            }
        }
    }
}

/// The state has as many chunks as a slot can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::Encoded;
    use std::collections::BTreeMap;

    fn bytes(text: &str) -> Encoded {
        Encoded::from_bytes(text.as_bytes().to_vec())
    }

    fn contents(state: &State<Encoded, Encoded>) -> BTreeMap<Encoded, Encoded> {
        let mut all = BTreeMap::new();
        let mut slot = state.next(None);
        while let Some(at) = slot {
            let (key, value) = state.get(at);
            assert!(all.insert(key, value).is_none(), "two live rows for a key");
            slot = state.next(Some(at));
        }
        all
    }

    /// Puts of changing length, deletes and rewrites against a plain map: the index, overwriting in
    /// place, moving and compaction must not lose, keep or mix a row.
    #[test]
    fn matches_a_map_under_churn() {
        let mut state = State::<Encoded, Encoded>::default();
        let mut model = BTreeMap::<Encoded, Encoded>::new();
        let mut random = 7u64;
        for step in 0..200_000u64 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = (random >> 33) % 3000;
            let (key, hash) = (bytes(&format!("key {number}")), number);
            let prior = model.get(&key).cloned();
            let length = 20 + ((random >> 50) % 3) as usize * 300;
            let value = bytes(&format!("{step:0length$}"));
            match (prior, (random >> 40) % 4) {
                (Some(prior), 0) => {
                    state.apply(hash, &key, &prior, -1).unwrap();
                    model.remove(&key);
                }
                (Some(prior), _) => {
                    assert!(state.replace(hash, &key, &prior, &value).unwrap());
                    model.insert(key, value);
                }
                (None, _) => {
                    state.apply(hash, &key, &value, 1).unwrap();
                    model.insert(key, value);
                }
            }
        }
        assert_eq!(contents(&state), model);
        assert_eq!(state.len(), model.len());
        assert!(state.unsettled().is_none());
        let live: usize = model.iter().map(|(k, v)| k.as_bytes().len() + v.as_bytes().len()).sum();
        assert!(state.bytes() < 3 * live + (4 << 20), "{} for {live} live", state.bytes());
    }

    #[test]
    fn settles_whatever_the_order() {
        let [key, one, two] = ["k", "one", "two"].map(bytes);
        let mut state = State::<Encoded, Encoded>::default();
        // +one, then -one +two in the wrong order, with a stray pair in between.
        state.apply(1, &key, &one, 1).unwrap();
        state.apply(1, &key, &two, 1).unwrap();
        assert!(state.unsettled().is_some());
        state.apply(1, &key, &one, 2).unwrap();
        state.apply(1, &key, &one, -3).unwrap();
        assert!(state.unsettled().is_none());
        assert_eq!(contents(&state), BTreeMap::from([(key.clone(), two.clone())]));
        // A retraction ahead of its insertion.
        let late = bytes("late");
        state.apply(2, &late, &one, -1).unwrap();
        assert!(state.unsettled().is_some());
        state.apply(2, &late, &one, 1).unwrap();
        assert!(state.unsettled().is_none());
        assert!(!state.replace(1, &key, &one, &two).unwrap(), "`one` is not the live value");
        assert_eq!(contents(&state), BTreeMap::from([(key, two)]));
    }

    /// Looking up many keys at once finds what looking up each does, also where hashes collide.
    #[test]
    fn many_look_ups_are_many_times_one() {
        let mut state = State::<Encoded, Encoded>::default();
        let keys: Vec<_> = (0..5000u64).map(|n| (n / 7, bytes(&format!("key {n}")))).collect();
        for (hash, key) in keys.iter().step_by(3) {
            state.apply(*hash, key, key, 1).unwrap();
        }
        let mut found = Vec::new();
        state.find_all(keys.iter().map(|(hash, key)| (*hash, key)), &mut found);
        assert_eq!(found.len(), keys.len());
        for ((at, (hash, key)), slot) in keys.iter().enumerate().zip(found) {
            assert_eq!(slot, state.find(*hash, key));
            assert_eq!(slot.map(|slot| state.get(slot).0), (at % 3 == 0).then(|| key.clone()));
        }
    }
}
