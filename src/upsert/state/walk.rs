//! Owns how all rows of the state are gone through, and the marks of those that a drain has touched. It does not own what is
//! done with them.

use super::super::chunks::damaged;
use super::super::entry::Hashed;
use super::super::rows::{Kept, Rows};
use super::super::slot::Slot;
use super::State;
use crate::error::Error;

/// A live row that a walk has come to.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Its place.
    pub slot: Slot,
    /// Whether it is marked.
    pub is_touched: bool,
    /// Its bytes.
    pub bytes: usize,
}

impl<K, V> State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    /// Marks a key's row, until [`untouch`](State::untouch).
    pub(in crate::upsert) fn touch(&mut self, hash: u64, slot: Slot) {
        if let Some(entry) = self.index.at_mut(Hashed::of(hash), slot) {
            entry.touch(true);
        }
    }

    /// Takes all marks away. O(keys).
    pub(in crate::upsert) fn untouch(&mut self) {
        self.index.untouch();
        self.chunks.unload();
    }

    /// Returns the first live row past `last`, or the first of all, with whether it was touched; `None` at the end. The
    /// order is that of the chunks, the same on every run. A cold chunk is read, and is the one in memory until the next.
    ///
    /// # Errors
    ///
    /// `StateLost` if a chunk cannot be read, or is not what was written.
    pub(in crate::upsert) fn next(&mut self, last: Option<Slot>) -> Result<Option<Live>, Error> {
        self.read_all_pieces()?;
        let mut row = last.map(Slot::row);
        for chunk in last.map_or(0, Slot::chunk)..self.chunks.end() {
            if self.chunks.live(chunk as u32) > 0 && self.chunks.load::<K, V>(chunk)? {
                self.check_loaded(chunk)?;
            }
            let Some(rows) = self.chunks.rows(chunk) else {
                row = None;
                continue;
            };
            while let Some(next) = rows.next(row) {
                let slot = Slot::new(chunk as u32, next);
                if let Some(entry) = self.index.at(Hashed::of(rows.key_hash(next)), slot) {
                    let (is_touched, bytes) = (entry.is_touched(), rows.row_bytes(next));
                    return Ok(Some(Live { slot, is_touched, bytes }));
                }
                row = Some(next);
            }
            row = None;
        }
        self.chunks.unload();
        Ok(None)
    }

    /// Checks that a chunk that was read has all rows that live in it.
    fn check_loaded(&self, chunk: usize) -> Result<(), Error> {
        let Some(rows) = self.chunks.rows(chunk) else { return Ok(()) };
        let (mut live, mut row) = (0, None);
        while let Some(next) = rows.next(row) {
            row = Some(next);
            let slot = Slot::new(chunk as u32, next);
            if let Some(entry) = self.index.at(Hashed::of(rows.key_hash(next)), slot) {
                if !self.chunks.is_row::<K, V>(entry, rows, next) {
                    return Err(damaged(chunk));
                }
                live += 1;
            }
        }
        if live == self.chunks.live(chunk as u32) { Ok(()) } else { Err(damaged(chunk)) }
    }
}
