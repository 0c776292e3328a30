//! Owns how one chunk of state keeps its rows: a key and its live value, side by side. It does not own the index over
//! them, which rows are live, nor whether the chunk is in memory.
//!
//! Two layouts, chosen by the types: packed rows lie one after another in one byte buffer; any
//! other types are kept in a columnation region. Both are append-only but for a value of equal
//! length, which packed rows overwrite in place.

pub(crate) mod bytes;
pub(crate) mod stack;

use columnation::Columnation;
use differential_dataflow::Hashable;

use crate::codec::packed::{Packed, Place};

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
    /// Returns the bytes allocated for the chunk; before it is [sealed](Rows::seal) as of some rows ago, maybe.
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

#[cfg(test)]
mod tests;
