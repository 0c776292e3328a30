//! Owns chunks of packed rows: one after another in one byte buffer, as they are in the file, too. It does not own when a
//! chunk is full of dead rows, nor where it is.

use super::super::slot::ROW_UNIT;
use super::{Kept, Rows};
use crate::codec::deal;
use crate::codec::packed::{Packed, Packer, Place};

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
