//! Owns what is read of the chunks in the file: rows ahead of the drain, and chunks that are gone through. It does not own
//! which chunks are there, nor where reads run.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::cold::{Fetched, Read, Region};
use super::super::entry::Entry;
use super::super::recent::BESIDE;
use super::super::rows::Rows;
use super::super::slot::ROW_UNIT;
use super::{Chunks, damaged};
use crate::error::Error;

impl<R: Default> Chunks<R> {
    /// Begins to read those rows that are not in memory, in order, as many as may be read at once.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no file.
    pub(in crate::upsert) fn fetch(
        &mut self,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<Fetched, Error> {
        if !self.has_cold() {
            return Ok(Fetched { begun: 0, is_whole: true });
        }
        let (mut reads, mut asked) = (Vec::<Read>::new(), BTreeSet::new());
        let mut bytes = self.cold.under_way_bytes();
        let mut is_whole = true;
        for entry in entries {
            let slot = entry.slot();
            if self.at(slot).is_some() || self.cold.is_under_way(slot) || asked.contains(&slot) {
                continue;
            }
            let Some(region) = self.chunks[slot.chunk()].cold_region() else { continue };
            let range = range_of(&entry, &region);
            let beside = if crate::mutant::on("read_room_uncounted") { 0 } else { BESIDE };
            bytes += range.len() + beside;
            if bytes > self.reading_max && self.cold.under_way() + reads.len() > 0 {
                is_whole = false;
                break;
            }
            asked.insert(slot);
            reads.push(Read { entry, region, range });
        }
        let begun = reads.len() as u64;
        self.counts.reads += begun;
        self.counts.bytes += reads.iter().map(|read| read.range.len() as u64).sum::<u64>();
        self.cold.begin(reads)?;
        Ok(Fetched { begun, is_whole })
    }

    /// Whether more may be read at once than is being read.
    pub(in crate::upsert) fn has_room_to_read(&self) -> bool {
        self.cold.under_way_bytes() < self.reading_max
    }

    /// Takes in the rows that were read.
    ///
    /// # Errors
    ///
    /// `StateLost` if one could not be read, or what was read is not the row.
    pub(in crate::upsert) fn arrive<K, V>(&mut self) -> Result<(), Error>
    where
        R: Rows<K, V>,
    {
        while self.cold.is_reading() {
            let Some((entry, bytes)) = self.cold.next_done()? else { break };
            self.keep_read::<K, V>(&entry, bytes)?;
        }
        Ok(())
    }

    /// Reads a row at once, unless it is in memory.
    ///
    /// # Errors
    ///
    /// As [`arrive`](Chunks::arrive).
    pub(in crate::upsert) fn fetch_now<K, V>(&mut self, entry: &Entry) -> Result<(), Error>
    where
        R: Rows<K, V>,
    {
        let slot = entry.slot();
        if self.at(slot).is_some() {
            return Ok(());
        }
        let cold = self.chunks[slot.chunk()].cold_region();
        let region = cold.ok_or_else(|| damaged(slot.chunk()))?;
        let range = range_of(entry, &region);
        self.counts.reads += 1;
        self.counts.bytes += range.len() as u64;
        let bytes = self.cold.read(&region, range)?;
        self.keep_read::<K, V>(entry, bytes)
    }

    fn keep_read<K, V>(&mut self, entry: &Entry, bytes: Vec<u8>) -> Result<(), Error>
    where
        R: Rows<K, V>,
    {
        let slot = entry.slot();
        let row = R::from_row(bytes).filter(|row| self.is_row::<K, V>(entry, row, 0));
        let row = row.ok_or_else(|| damaged(slot.chunk()))?;
        let bytes = row.heap_bytes();
        self.recent.keep(slot, row, bytes);
        Ok(())
    }

    /// Brings a cold chunk into memory, to be gone through, in place of the one before.
    ///
    /// # Errors
    ///
    /// What reading it reports.
    pub(in crate::upsert) fn load<K, V>(&mut self, chunk: usize) -> Result<bool, Error>
    where
        R: Rows<K, V>,
    {
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded as usize == chunk) {
            return Ok(false);
        }
        self.unload();
        if !self.chunks[chunk].is_cold() {
            return Ok(false);
        }
        let rows = self.read_chunk(chunk as u32)?;
        self.loaded_bytes = rows.heap_bytes();
        self.loaded = Some((chunk as u32, rows));
        Ok(true)
    }

    /// Lets go of the chunk that was gone through last.
    pub(in crate::upsert) fn unload(&mut self) {
        (self.loaded, self.loaded_bytes) = (None, 0);
    }
}

/// Returns where a row is in its chunk: at least the row, and less than twice as much.
fn range_of(entry: &Entry, region: &Region) -> Range<usize> {
    let start = entry.slot().row() as usize * ROW_UNIT;
    let rest = region.bytes.saturating_sub(start);
    start..start + entry.class().bytes().unwrap_or(rest).min(rest)
}
