//! Owns how rows leave a chunk: it is taken, emptied row by row, and freed or put back. It does not own where they go.

use super::super::cold::Chunked;
use super::super::rows::Rows;
use super::super::slot::{ROW_BITS, Slot};
use super::{Chunks, Home};
use crate::error::Error;

/// A chunk that was taken, to be emptied.
pub(in crate::upsert) struct Taken<R> {
    pub(in crate::upsert) rows: R,
    chunk: u32,
    /// Its rows were read from the file.
    pub(in crate::upsert) is_cold: bool,
}

impl<R: Default> Chunks<R> {
    /// Frees a chunk, of which nothing lives. The tail begins anew.
    ///
    /// An image may have the chunk, and rows that have moved out of it since: it stays in the file as long. Rows that died
    /// there are superseded by what the shard has gained since, and never looked at.
    ///
    /// # Errors
    ///
    /// `Unavailable` if it cannot be written for the image under way. It is not freed then.
    pub(in crate::upsert) fn free<K, V>(
        &mut self,
        chunk: u32,
        taken: Option<Taken<R>>,
    ) -> Result<(), Error>
    where
        R: Rows<K, V>,
    {
        let is_tail = chunk == self.tail;
        let stays = self.images && !is_tail;
        if let Some(taken) = taken.filter(|taken| !taken.is_cold) {
            self.chunks[chunk as usize].home = Home::Memory(taken.rows);
        }
        if stays && self.in_round {
            self.write_out(chunk)?;
        }
        let old = std::mem::take(&mut self.chunks[chunk as usize]);
        self.freed += 1;
        debug_assert_eq!(old.live, 0, "a row lives");
        self.hot_bytes -= old.heap_bytes;
        self.sealed.retain(|other| *other != chunk);
        self.forget(Slot::new(chunk, 0)..=Slot::new(chunk, u32::MAX >> (32 - ROW_BITS)));
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == chunk) {
            self.unload();
        }
        match old.region {
            Some(region) if stays => {
                let ghost = Chunked { chunk, region, rows: old.rows, live: 0 };
                self.chunks[chunk as usize].home = Home::Leaving;
                self.ghosts.push((ghost, if self.in_round { self.round } else { self.round - 1 }));
            }
            region => {
                if let Some(region) = region {
                    self.cold.give(&region);
                }
                if !is_tail {
                    self.free.push(chunk);
                }
            }
        }
        Ok(())
    }

    /// Takes a chunk's rows, to be moved out one by one; then it is [freed](Chunks::free), or [put back](Chunks::put_back).
    ///
    /// # Errors
    ///
    /// What reading a cold one reports.
    pub(in crate::upsert) fn take<K, V>(&mut self, chunk: u32) -> Result<Option<Taken<R>>, Error>
    where
        R: Rows<K, V>,
    {
        match &self.chunks[chunk as usize].home {
            Home::Leaving => Ok(None),
            Home::Memory(_) => {
                let home = std::mem::replace(&mut self.chunks[chunk as usize].home, Home::Leaving);
                let Home::Memory(rows) = home else { return Ok(None) };
                Ok(Some(Taken { rows, chunk, is_cold: false }))
            }
            Home::File => {
                let rows = self.read_chunk(chunk)?;
                Ok(Some(Taken { rows, chunk, is_cold: true }))
            }
        }
    }

    /// Says that a row was copied out of a chunk that was taken.
    pub(in crate::upsert) fn moved<K, V>(&mut self, taken: &Taken<R>, row: u32)
    where
        R: Rows<K, V>,
    {
        self.count_rows(taken.chunk as usize, -1);
        self.chunks[taken.chunk as usize].dead += taken.rows.share_at(row);
    }

    /// Puts back what is left of a chunk that was taken: it had no room elsewhere.
    pub(in crate::upsert) fn put_back(&mut self, taken: Taken<R>) {
        if !taken.is_cold {
            self.chunks[taken.chunk as usize].home = Home::Memory(taken.rows);
            // It may have been looked at as one to write out, and left out, while its rows were gone.
            if !self.sealed.contains(&taken.chunk) {
                self.sealed.push_back(taken.chunk);
            }
        }
    }
}
