//! Owns how one chunk of state keeps its rows: a key and its live value, side by side. It does not own the index over
//! them, which rows are live, nor whether the chunk is in memory.
//!
//! Two layouts, chosen by the types: packed rows lie one after another in one byte buffer; any
//! other types are kept in a columnation region. Both are append-only but for a value of equal
//! length, which packed rows overwrite in place.

use columnation::{ColumnStack, Columnation};
use differential_dataflow::Hashable;

use super::slot::ROW_UNIT;
use crate::codec::deal;
use crate::codec::packed::{Packed, Packer, Place};

/// Keys that have a hash, by which they are dealt to workers.
///
/// That of packed keys is xxh3-64 of their bytes, the same in every build: parts are sorted by it. Others have the hash of
/// [`Hashable`].
pub trait KeyHash {
    /// Returns the hash; each of some workers has a range of hashes.
    fn key_hash(&self) -> u64;
}

impl<A> KeyHash for Packed<A> {
    #[inline]
    fn key_hash(&self) -> u64 {
        self.stable_hash()
    }
}

impl<K: Columnation + Hashable> KeyHash for K {
    #[inline]
    fn key_hash(&self) -> u64 {
        self.hashed().into()
    }
}

/// Keys that state can keep next to values of type `V`.
///
/// Holds for every pair of [`Columnation`] types whose key is [`Hashable`], and for two [`Packed`] ones: pack both or
/// neither.
pub trait Kept<V>: KeyHash + Sized {
    /// The layout of a chunk.
    type Rows: Rows<Self, V>;

    /// Returns the bytes that a key and value take outside the row that holds them. Exact for
    /// packed rows; 0 for other types, whose heap cannot be seen: pack them where a bound in bytes
    /// has to hold.
    fn heap_bytes(_key: &Self, _value: Option<&V>) -> usize {
        0
    }

    /// Returns where the bytes of a key and a value are, if that can be seen: the whole buffer stays as long as
    /// one row of it does.
    fn places(_key: &Self, _value: Option<&V>) -> [Option<Place>; 2] {
        [None, None]
    }

    /// Copies rows into new buffers that they share with no other row. Does nothing where buffers cannot be seen.
    fn repack<'a>(_rows: impl Iterator<Item = (&'a mut Self, Option<&'a mut V>)>)
    where
        Self: 'a,
        V: 'a,
    {
    }
}

/// One chunk of rows. A row is named by the number that `push` gave it.
pub trait Rows<K, V>: Default {
    /// Collects values out of rows, cheaper than one by one.
    type Gather: Default;

    /// Appends a row and returns its number, below 2^17; `None` if the chunk is full: it has rows, and this one would
    /// take it beyond `bytes_max`, where its layout counts bytes.
    fn push(&mut self, bytes_max: usize, key: &K, value: &V) -> Option<u32>;
    /// Appends a copy of another chunk's row.
    fn push_row(&mut self, bytes_max: usize, other: &Self, row: u32) -> Option<u32>;
    /// Returns the hash of the row's key.
    fn key_hash(&self, row: u32) -> u64;
    /// Whether the row has this key.
    fn key_is(&self, row: u32, key: &K) -> bool;
    /// Whether the row has this value.
    fn value_is(&self, row: u32, value: &V) -> bool;
    /// Overwrites the row's value in place, or returns false and leaves it.
    fn overwrite(&mut self, row: u32, value: &V) -> bool;
    /// Adds the row's value to what is collected.
    fn gather(&self, row: u32, into: &mut Self::Gather);
    /// Returns the collected values, in order, and leaves the collection empty.
    fn values(gather: &mut Self::Gather) -> impl Iterator<Item = V>;
    /// Returns a copy of the row's key.
    fn copy_key(&self, row: u32) -> K;
    /// Returns a copy of the row.
    fn get(&self, row: u32) -> (K, V);
    /// Returns the first row past `row`, or the first of all; `None` at the end.
    fn next(&self, row: Option<u32>) -> Option<u32>;
    /// Returns the bytes that the row takes, about.
    fn row_bytes(&self, row: u32) -> usize;
    /// Returns the share of its chunk that a row of this key and value has, in a unit of the layout's.
    fn share(key: &K, value: &V) -> usize;
    /// Returns the share that the row has.
    fn share_at(&self, row: u32) -> usize;
    /// Returns the sum of the shares of all rows, dead or alive.
    fn shares(&self) -> usize;
    /// Returns the bytes allocated for the chunk.
    fn heap_bytes(&self) -> usize;
    /// Gives back the spare capacity of a chunk that is full.
    fn seal(&mut self);
    /// Whether chunks can be written to a file and read back. Where not, the rest of this trait is not called.
    const FILES: bool = false;
    /// Returns a hash of a value.
    fn value_hash(_value: &V) -> u32 {
        0
    }
    /// Returns the hash of the row's value.
    fn value_hash_at(&self, _row: u32) -> u32 {
        0
    }
    /// Returns the chunk's bytes.
    fn as_bytes(&self) -> &[u8] {
        &[]
    }
    /// Returns a chunk of these bytes; `None` if they are no rows.
    fn from_bytes(_bytes: Vec<u8>) -> Option<Self> {
        None
    }
    /// Returns a chunk of the first row of these bytes, numbered 0; `None` if that is not there, whole.
    fn from_row(_bytes: Vec<u8>) -> Option<Self> {
        None
    }
}
impl<A: 'static, B: 'static> Kept<Packed<B>> for Packed<A> {
    type Rows = ByteRows;

    fn heap_bytes(key: &Self, value: Option<&Packed<B>>) -> usize {
        key.as_bytes().len() + value.map_or(0, |value| value.as_bytes().len())
    }

    fn places(key: &Self, value: Option<&Packed<B>>) -> [Option<Place>; 2] {
        [Some(key.place()), value.map(Packed::place)]
    }

    fn repack<'a>(rows: impl Iterator<Item = (&'a mut Self, Option<&'a mut Packed<B>>)>) {
        let mut rows: Vec<_> = rows.collect();
        let mut packer = Packer::default();
        for (key, value) in &rows {
            let all = [Some(key.as_bytes()), value.as_ref().map(|value| value.as_bytes())];
            for bytes in all.into_iter().flatten() {
                if packer.push_with(|buffer| buffer.extend_from_slice(bytes)).is_err() {
                    // A row is not longer than a row may be. Left as they are, nothing is lost.
                    return;
                }
            }
        }
        let mut packed = packer.finish::<()>();
        for (key, value) in &mut rows {
            for_next(&mut packed, key);
            if let Some(value) = value {
                for_next(&mut packed, value);
            }
        }
    }
}

/// Puts the next copy in the place of its row.
fn for_next<T>(packed: &mut impl Iterator<Item = Packed<()>>, row: &mut Packed<T>) {
    if let Some(copy) = packed.next() {
        *row = copy.cast();
    }
}

impl<K, V> Kept<V> for K
where
    K: Columnation + Hashable + Clone + Eq + 'static,
    V: Columnation + Clone + Eq + 'static,
{
    type Rows = StackRows<K, V>;
}

/// Packed rows: `key length, value length` as u32, key, value, padded to 8 bytes.
#[derive(Debug, Default)]
pub struct ByteRows {
    bytes: Vec<u8>,
}

const HEADER: usize = 8;

impl ByteRows {
    fn word(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(word)
    }

    fn key(&self, row: u32) -> &[u8] {
        let at = row as usize * ROW_UNIT;
        let length = self.word(at) as usize;
        &self.bytes[at + HEADER..][..length]
    }

    fn value_range(&self, row: u32) -> std::ops::Range<usize> {
        let at = row as usize * ROW_UNIT;
        let (key, value) = (self.word(at) as usize, self.word(at + 4) as usize);
        let start = at + HEADER + key;
        start..start + value
    }

    fn value(&self, row: u32) -> &[u8] {
        &self.bytes[self.value_range(row)]
    }

    fn row_len(&self, row: u32) -> usize {
        (self.value_range(row).end - row as usize * ROW_UNIT).next_multiple_of(ROW_UNIT)
    }

    /// Returns where the row that begins at `at` ends, if it ends within the bytes.
    fn end_of(&self, at: usize) -> Option<usize> {
        if self.bytes.len() < at + HEADER {
            return None;
        }
        let (key, value) = (self.word(at) as usize, self.word(at + 4) as usize);
        let end = (at + HEADER).checked_add(key)?.checked_add(value)?;
        let end = end.checked_next_multiple_of(ROW_UNIT)?;
        (end <= self.bytes.len()).then_some(end)
    }

    fn make_room(&mut self, bytes_max: usize, size: usize) -> Option<u32> {
        if !self.bytes.is_empty() && self.bytes.len() + size > bytes_max {
            return None;
        }
        Some((self.bytes.len() / ROW_UNIT) as u32)
    }
}

/// Returns the low half of a hash.
fn half(bytes: &[u8]) -> u32 {
    deal::hash(bytes) as u32
}

impl<A, B> Rows<Packed<A>, Packed<B>> for ByteRows {
    type Gather = Packer;

    fn push(&mut self, bytes_max: usize, key: &Packed<A>, value: &Packed<B>) -> Option<u32> {
        let size = <Self as Rows<Packed<A>, Packed<B>>>::share(key, value);
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let row = self.make_room(bytes_max, size)?;
        // In one step, or a large row would double what is there.
        self.bytes.reserve(size);
        self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.bytes.resize(row as usize * ROW_UNIT + size, 0);
        Some(row)
    }

    fn push_row(&mut self, bytes_max: usize, other: &Self, row: u32) -> Option<u32> {
        let size = other.row_len(row);
        let copy = self.make_room(bytes_max, size)?;
        self.bytes.extend_from_slice(&other.bytes[row as usize * ROW_UNIT..][..size]);
        Some(copy)
    }

    fn key_hash(&self, row: u32) -> u64 {
        deal::hash(self.key(row))
    }

    #[inline]
    fn key_is(&self, row: u32, key: &Packed<A>) -> bool {
        self.key(row) == key.as_bytes()
    }

    #[inline]
    fn value_is(&self, row: u32, value: &Packed<B>) -> bool {
        self.value(row) == value.as_bytes()
    }

    fn overwrite(&mut self, row: u32, value: &Packed<B>) -> bool {
        let range = self.value_range(row);
        let fits = range.len() == value.as_bytes().len();
        if fits {
            self.bytes[range].copy_from_slice(value.as_bytes());
        }
        fits
    }

    fn gather(&self, row: u32, into: &mut Packer) {
        let pushed = into.push_with(|buffer| buffer.extend_from_slice(self.value(row)));
        debug_assert!(pushed.is_ok(), "a value came from a row");
    }

    fn values(gather: &mut Packer) -> impl Iterator<Item = Packed<B>> {
        gather.finish()
    }

    fn copy_key(&self, row: u32) -> Packed<A> {
        Packed::from_bytes(self.key(row).to_vec())
    }

    fn get(&self, row: u32) -> (Packed<A>, Packed<B>) {
        (Packed::from_bytes(self.key(row).to_vec()), Packed::from_bytes(self.value(row).to_vec()))
    }

    fn next(&self, row: Option<u32>) -> Option<u32> {
        let next = row.map_or(0, |row| row as usize * ROW_UNIT + self.row_len(row));
        (next < self.bytes.len()).then_some((next / ROW_UNIT) as u32)
    }

    fn row_bytes(&self, row: u32) -> usize {
        self.row_len(row)
    }

    fn share(key: &Packed<A>, value: &Packed<B>) -> usize {
        (HEADER + key.as_bytes().len() + value.as_bytes().len()).next_multiple_of(ROW_UNIT)
    }

    fn share_at(&self, row: u32) -> usize {
        self.row_len(row)
    }

    fn shares(&self) -> usize {
        self.bytes.len()
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn seal(&mut self) {
        self.bytes.shrink_to_fit();
    }

    const FILES: bool = true;

    fn value_hash(value: &Packed<B>) -> u32 {
        half(value.as_bytes())
    }

    fn value_hash_at(&self, row: u32) -> u32 {
        half(self.value(row))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let rows = ByteRows { bytes };
        let mut at = 0;
        while at < rows.bytes.len() {
            at = rows.end_of(at)?;
        }
        Some(rows)
    }

    fn from_row(bytes: Vec<u8>) -> Option<Self> {
        let mut row = ByteRows { bytes };
        let end = row.end_of(0)?;
        row.bytes.truncate(end);
        row.bytes.shrink_to_fit();
        Some(row)
    }
}

/// Rows of any columnation types.
pub struct StackRows<K: Columnation, V: Columnation> {
    rows: ColumnStack<(K, V)>,
}

/// Rows in a chunk of this layout.
const STACK_ROWS: usize = 1 << 13;

impl<K: Columnation, V: Columnation> Default for StackRows<K, V> {
    fn default() -> Self {
        StackRows { rows: ColumnStack::default() }
    }
}

impl<K: Columnation, V: Columnation> std::fmt::Debug for StackRows<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StackRows").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl<K, V> StackRows<K, V>
where
    K: Columnation,
    V: Columnation,
{
    fn make_room(&self) -> Option<u32> {
        (self.rows.len() < STACK_ROWS).then_some(self.rows.len() as u32)
    }
}

impl<K, V> Rows<K, V> for StackRows<K, V>
where
    K: Columnation + KeyHash + Clone + Eq,
    V: Columnation + Clone + Eq,
{
    type Gather = Vec<V>;

    fn push(&mut self, _bytes_max: usize, key: &K, value: &V) -> Option<u32> {
        let row = self.make_room()?;
        self.rows.copy_destructured(key, value);
        Some(row)
    }

    fn push_row(&mut self, _bytes_max: usize, other: &Self, row: u32) -> Option<u32> {
        let copy = self.make_room()?;
        self.rows.copy(&other.rows[row as usize]);
        Some(copy)
    }

    fn key_hash(&self, row: u32) -> u64 {
        self.rows[row as usize].0.key_hash()
    }

    #[inline]
    fn key_is(&self, row: u32, key: &K) -> bool {
        self.rows[row as usize].0 == *key
    }

    #[inline]
    fn value_is(&self, row: u32, value: &V) -> bool {
        self.rows[row as usize].1 == *value
    }

    fn overwrite(&mut self, _row: u32, _value: &V) -> bool {
        false
    }

    fn gather(&self, row: u32, into: &mut Vec<V>) {
        into.push(self.rows[row as usize].1.clone());
    }

    fn values(gather: &mut Vec<V>) -> impl Iterator<Item = V> {
        std::mem::take(gather).into_iter()
    }

    fn copy_key(&self, row: u32) -> K {
        self.rows[row as usize].0.clone()
    }

    fn get(&self, row: u32) -> (K, V) {
        self.rows[row as usize].clone()
    }

    fn next(&self, row: Option<u32>) -> Option<u32> {
        let next = row.map_or(0, |row| row + 1);
        ((next as usize) < self.rows.len()).then_some(next)
    }

    fn row_bytes(&self, _row: u32) -> usize {
        // The region does not say how much of it belongs to a row: use the average.
        self.rows.summed_heap_size().1 / self.rows.len().max(1)
    }

    fn share(_key: &K, _value: &V) -> usize {
        1
    }

    fn share_at(&self, _row: u32) -> usize {
        1
    }

    fn shares(&self) -> usize {
        self.rows.len()
    }

    fn heap_bytes(&self) -> usize {
        self.rows.summed_heap_size().1
    }

    fn seal(&mut self) {}
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
