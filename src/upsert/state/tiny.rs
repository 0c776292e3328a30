//! Owns a layout for tests: chunks of four rows, of keys of few hashes. It does not own what is tested with it.

use crate::upsert::rows::{Kept, KeyHash, Rows};

/// Chunks of four rows of 8 bytes, so that a few rows fill a state, and of few hashes, so that they collide.
#[derive(Debug, Default)]
pub(super) struct Tiny(Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value(pub(super) u8);

impl KeyHash for Key {
    fn key_hash(&self) -> u64 {
        u64::from(self.0 % 7)
    }
}

impl Kept<Value> for Key {
    type Rows = Tiny;
}

pub(super) const TINY_ROWS: usize = 4;

impl Tiny {
    fn row(&self, row: u32) -> (Key, Value) {
        (Key(self.0[row as usize * 8]), Value(self.0[row as usize * 8 + 1]))
    }
}

impl Rows<Key, Value> for Tiny {
    type Gather = Vec<Value>;

    fn push(&mut self, _: usize, key: &Key, value: &Value) -> Option<u32> {
        let row = self.0.len() / 8;
        (row < TINY_ROWS).then(|| {
            self.0.extend([key.0, value.0, 0, 0, 0, 0, 0, key.0 ^ value.0]);
            row as u32
        })
    }

    fn push_row(&mut self, bytes_max: usize, other: &Self, row: u32) -> Option<u32> {
        let (key, value) = other.row(row);
        self.push(bytes_max, &key, &value)
    }

    fn key_hash(&self, row: u32) -> u64 {
        self.row(row).0.key_hash()
    }

    fn key_is(&self, row: u32, key: &Key) -> bool {
        self.row(row).0 == *key
    }

    fn value_is(&self, row: u32, value: &Value) -> bool {
        self.row(row).1 == *value
    }

    fn overwrite(&mut self, row: u32, value: &Value) -> bool {
        // Half of the values fit, as if of equal length.
        let (key, old) = self.row(row);
        let fits = (value.0 ^ old.0).is_multiple_of(2);
        if fits {
            self.0[row as usize * 8 + 1] = value.0;
            self.0[row as usize * 8 + 7] = key.0 ^ value.0;
        }
        fits
    }

    fn gather(&self, row: u32, into: &mut Vec<Value>) {
        into.push(self.row(row).1);
    }

    fn values(gather: &mut Vec<Value>) -> impl Iterator<Item = Value> {
        std::mem::take(gather).into_iter()
    }

    fn copy_key(&self, row: u32) -> Key {
        self.row(row).0
    }

    fn get(&self, row: u32) -> (Key, Value) {
        self.row(row)
    }

    fn next(&self, row: Option<u32>) -> Option<u32> {
        let next = row.map_or(0, |row| row + 1);
        ((next as usize) < self.0.len() / 8).then_some(next)
    }

    fn row_bytes(&self, _row: u32) -> usize {
        8
    }

    fn share(_: &Key, _: &Value) -> usize {
        1
    }

    fn share_at(&self, _row: u32) -> usize {
        1
    }

    fn shares(&self) -> usize {
        self.0.len() / 8
    }

    fn heap_bytes(&self) -> usize {
        self.0.len()
    }

    fn seal(&mut self) {}

    const FILES: bool = true;

    fn value_hash(value: &Value) -> u32 {
        u32::from(value.0) * 0x0101
    }

    fn value_hash_at(&self, row: u32) -> u32 {
        Self::value_hash(&self.row(row).1)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let whole = |row: &[u8]| row.len() == 8 && row[7] == row[0] ^ row[1];
        bytes.chunks(8).all(whole).then_some(Tiny(bytes))
    }

    fn from_row(mut bytes: Vec<u8>) -> Option<Self> {
        bytes.truncate(8);
        (bytes.len() == 8).then(|| Self::from_bytes(bytes))?
    }
}
