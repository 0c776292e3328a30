//! Owns the chunks of the state: which take rows, which are in memory, and which are in the file. It does not own which
//! rows are live, nor where a key's row is: that is the [`index`](super::index)'s.
//!
//! A chunk is filled, sealed, maybe written out as one of the oldest, and freed once nothing in it lives. What is read of
//! those in the file is in `reads`, how their rows leave them in `taken`, and what an image has of them in `images`.

mod images;
mod reads;
pub(super) mod taken;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::cold::{Chunked, Cold, ColdSpace, ReadCounts, Region};
use super::entry::{Entry, Hashed, check};
use super::recent::Recent;
use super::rows::Rows;
use super::slot::{CHUNK_BITS, ROW_BITS, Slot};
use super::stats::StatePlaces;
use crate::error::{Error, ErrorKind};

/// Chunks that one worker can hold.
pub(super) const CHUNKS_MAX: usize = 1 << CHUNK_BITS;
/// A chunk takes no further row past this many bytes; one larger row has a chunk to itself.
pub(super) const CHUNK_BYTES: usize = 8 << ROW_BITS;
/// A chunk has at least so many, however small the bound.
const CHUNK_BYTES_MIN: usize = 64;
/// Chunks that a bound has room for, at the least, where chunks can be that small.
const CHUNKS_IN_BOUND: usize = 16;
/// Bytes of rows that are being read, at the least and at the most; in between an eighth of the bound. One row may be
/// larger. Twice as many are kept of those that were read: what is asked for at once does not drive itself out.
const READ_BYTES: [usize; 2] = [4 << 10, 8 << 20];
const READ_PART: usize = 8;

/// The state has as many chunks as a slot can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// All chunks of one state.
pub(super) struct Chunks<R> {
    chunks: Vec<Chunk<R>>,
    /// Chunks emptied by compaction, to be used again.
    free: Vec<u32>,
    /// How often one was emptied: as long as that stays, no place is used for a second row.
    pub(super) freed: u64,
    /// The chunk that takes new rows.
    tail: u32,
    /// Those in memory that take none, in the order in which they were sealed.
    sealed: VecDeque<u32>,
    pub(super) chunks_max: usize,
    chunk_bytes: usize,
    /// Bytes of rows that are being read.
    reading_max: usize,
    hot_bytes: usize,
    rows: [u64; 2],
    cold: Cold,
    /// Rows that were read.
    recent: Recent<R>,
    /// A cold chunk that is in memory to be gone through, and its bytes.
    loaded: Option<(u32, R)>,
    loaded_bytes: usize,
    counts: ReadCounts,
    /// It is that of an image, without all that came since: the file may have later rows than the entries say.
    replays: bool,
    /// Images are taken: their chunks stay in the file.
    images: bool,
    /// The number of the round under way, or of the next.
    round: u64,
    in_round: bool,
    /// The round under way has written the chunks below this number.
    written_to: u32,
    /// Chunks that were freed and that an image has: with the round in which that was.
    ghosts: Vec<(Chunked, u64)>,
}

struct Chunk<R> {
    home: Home<R>,
    /// Where it is in the file, if it is there.
    region: Option<Region>,
    /// What is there is an older version, of some rows that were overwritten in place.
    is_old: bool,
    heap_bytes: usize,
    /// The shares of its dead rows, and of all. Of a chunk of an image, those of the dead are an estimate.
    dead: usize,
    shares: usize,
    live: u32,
    rows: u32,
}

enum Home<R> {
    Memory(R),
    File,
    /// Its rows are about to leave it, or it is the image's alone.
    Leaving,
}

impl<R: Default> Default for Chunk<R> {
    fn default() -> Self {
        Chunk {
            home: Home::Memory(R::default()),
            region: None,
            is_old: false,
            heap_bytes: 0,
            dead: 0,
            shares: 0,
            live: 0,
            rows: 0,
        }
    }
}

impl<R> Chunk<R> {
    fn is_cold(&self) -> bool {
        matches!(self.home, Home::File)
    }

    fn cold_region(&self) -> Option<Region> {
        self.region.filter(|_| self.is_cold())
    }
}

impl<R: Default> Chunks<R> {
    /// Returns no rows, in chunks that fit a bound.
    pub(super) fn new(bytes_max: Option<usize>, space: ColdSpace) -> Self {
        let [least, most] = READ_BYTES;
        let fits = bytes_max.map_or(CHUNK_BYTES, |max| max / CHUNKS_IN_BOUND);
        let chunk_bytes = fits.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES).next_multiple_of(8);
        let reading_max = bytes_max.map_or(most, |max| (max / READ_PART).clamp(least, most));
        Chunks {
            chunks: vec![Chunk::default()],
            free: Vec::new(),
            freed: 0,
            tail: 0,
            sealed: VecDeque::new(),
            chunks_max: CHUNKS_MAX,
            chunk_bytes,
            reading_max,
            hot_bytes: 0,
            rows: [0; 2],
            cold: Cold::new(space),
            recent: Recent::new(2 * reading_max),
            loaded: None,
            loaded_bytes: 0,
            counts: ReadCounts::default(),
            replays: false,
            images: false,
            round: 1,
            in_round: false,
            written_to: 0,
            ghosts: Vec::new(),
        }
    }

    /// Writes a chunk out, unless the file has it as it is. Returns how many bytes that were.
    fn write_out<K, V>(&mut self, number: u32) -> Result<usize, Error>
    where
        R: Rows<K, V>,
    {
        let chunk = &mut self.chunks[number as usize];
        let Home::Memory(rows) = &chunk.home else { return Ok(0) };
        let bytes = rows.as_bytes();
        match &chunk.region {
            _ if bytes.is_empty() => return Ok(0),
            Some(_) if !chunk.is_old => return Ok(0),
            // The rows that did not change are the same bytes: an image that has them finds them whatever tears.
            Some(region) => self.cold.write_over(region, bytes)?,
            None => chunk.region = Some(self.cold.write(bytes)?),
        }
        chunk.is_old = false;
        Ok(bytes.len())
    }

    /// Returns the bytes in memory, those into which rows are being read among them.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.capacity() * size_of::<Chunk<R>>();
        let read = self.recent.bytes() + self.cold.under_way_bytes();
        self.hot_bytes + chunks + read + self.loaded_bytes
    }

    pub(super) fn places(&self) -> StatePlaces {
        let ([hot_rows, cold_rows], hot_bytes) = (self.rows, self.hot_bytes as u64);
        StatePlaces { hot_rows, hot_bytes, cold_rows, cold_bytes: self.cold.bytes() }
    }

    /// Returns what was read since the last call.
    pub(super) fn take_counts(&mut self) -> ReadCounts {
        std::mem::take(&mut self.counts)
    }

    /// Whether a row is being read.
    pub(super) fn is_under_way(&self, slot: Slot) -> bool {
        self.cold.is_under_way(slot)
    }

    /// Returns how many rows are being read.
    pub(super) fn under_way(&self) -> usize {
        self.cold.under_way()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn tail(&self) -> u32 {
        self.tail
    }

    /// Whether there are cold rows.
    #[inline]
    pub(super) fn has_cold(&self) -> bool {
        self.rows[1] > 0
    }

    /// Returns the chunk of a row in memory, and the row's number there; `None` where it would have to be read.
    #[inline]
    pub(super) fn at(&self, slot: Slot) -> Option<(&R, u32)> {
        match &self.chunks[slot.chunk()].home {
            Home::Memory(rows) => Some((rows, slot.row())),
            _ => self.read_before(slot),
        }
    }

    fn read_before(&self, slot: Slot) -> Option<(&R, u32)> {
        if let Some((chunk, rows)) = &self.loaded
            && *chunk as usize == slot.chunk()
        {
            return Some((rows, slot.row()));
        }
        self.recent.get(slot).map(|rows| (rows, 0))
    }

    /// Returns the chunk of a row in memory that can be changed there.
    pub(super) fn hot_mut(&mut self, slot: Slot) -> Option<&mut R> {
        match &mut self.chunks[slot.chunk()].home {
            Home::Memory(rows) => Some(rows),
            _ => None,
        }
    }

    /// Says that a row was overwritten in its chunk.
    pub(super) fn overwritten(&mut self, slot: Slot) {
        self.chunks[slot.chunk()].is_old = true;
    }

    fn count_rows(&mut self, chunk: usize, more: i32) {
        let chunk = &mut self.chunks[chunk];
        chunk.live = chunk.live.wrapping_add_signed(more);
        let rows = &mut self.rows[usize::from(chunk.is_cold())];
        *rows = rows.wrapping_add_signed(more.into());
    }

    /// Brings the bytes of a chunk in memory up to date.
    fn measure<K, V>(&mut self, chunk: u32)
    where
        R: Rows<K, V>,
    {
        let chunk = &mut self.chunks[chunk as usize];
        if let Home::Memory(rows) = &chunk.home {
            let now = rows.heap_bytes();
            self.hot_bytes = self.hot_bytes - chunk.heap_bytes + now;
            chunk.heap_bytes = now;
            chunk.shares = rows.shares();
        }
    }

    /// Appends a row to the tail; `None` if that is full.
    pub(super) fn push<K, V>(&mut self, key: &K, value: &V) -> Option<Slot>
    where
        R: Rows<K, V>,
    {
        self.push_with(|rows, bytes_max| rows.push(bytes_max, key, value))
    }

    /// Appends a copy of a row to the tail; `None` if that is full.
    pub(super) fn push_row<K, V>(&mut self, other: &R, row: u32) -> Option<Slot>
    where
        R: Rows<K, V>,
    {
        self.push_with(|rows, bytes_max| rows.push_row(bytes_max, other, row))
    }

    fn push_with<K, V>(&mut self, push: impl Fn(&mut R, usize) -> Option<u32>) -> Option<Slot>
    where
        R: Rows<K, V>,
    {
        let Home::Memory(rows) = &mut self.chunks[self.tail as usize].home else { return None };
        let row = push(rows, self.chunk_bytes);
        self.measure(self.tail);
        let row = row?;
        self.chunks[self.tail as usize].rows += 1;
        self.count_rows(self.tail as usize, 1);
        Some(Slot::new(self.tail, row))
    }

    /// Seals the tail and takes another chunk, if more than `spare` of them are left.
    pub(super) fn next_tail<K, V>(&mut self, spare: usize) -> Result<(), Full>
    where
        R: Rows<K, V>,
    {
        if self.free.len() + self.chunks_max - self.chunks.len() <= spare {
            return Err(Full);
        }
        let full = self.tail;
        if let Home::Memory(rows) = &mut self.chunks[full as usize].home {
            rows.seal();
        }
        self.measure(full);
        self.sealed.push_back(full);
        self.tail = self.free.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk::default());
            (self.chunks.len() - 1) as u32
        });
        Ok(())
    }

    /// Counts a row as dead. Returns whether all of its chunk are.
    pub(super) fn bury(&mut self, slot: Slot, share: usize) -> bool {
        self.count_rows(slot.chunk(), -1);
        self.forget(slot..=slot);
        let chunk = &mut self.chunks[slot.chunk()];
        chunk.dead += share;
        chunk.live == 0
    }

    pub(super) fn is_mostly_dead(&self, chunk: u32) -> bool {
        let chunk = &self.chunks[chunk as usize];
        chunk.dead * 2 > chunk.shares
    }

    /// Forgets what was read of rows that have left their places, and what is being read.
    fn forget(&mut self, gone: RangeInclusive<Slot>) {
        if self.cold.under_way() > 0 {
            self.cold.forget(gone.clone());
        }
        // On the way of each row that dies: with nothing read there is nothing to look for.
        if self.recent.bytes() > 0 {
            self.recent.forget(gone);
        }
    }

    /// Returns the live rows that are left in a chunk.
    pub(super) fn live(&self, chunk: u32) -> u32 {
        self.chunks[chunk as usize].live
    }

    /// Writes the oldest sealed chunks out until what `held` says is within the bound. The tail stays, and one more.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written; nothing is lost then.
    pub(super) fn evict<K, V>(&mut self, held: usize, bytes_max: usize) -> Result<(), Error>
    where
        R: Rows<K, V>,
    {
        let mut over = held.saturating_sub(bytes_max);
        while over > 0 && self.sealed.len() > 1 {
            let Some(&number) = self.sealed.front() else { break };
            if !matches!(self.chunks[number as usize].home, Home::Memory(_)) {
                self.sealed.pop_front();
                continue;
            }
            self.write_out(number)?;
            self.sealed.pop_front();
            let chunk = &mut self.chunks[number as usize];
            chunk.home = Home::File;
            let freed = std::mem::take(&mut chunk.heap_bytes);
            let live = u64::from(chunk.live);
            self.hot_bytes -= freed;
            self.rows = [self.rows[0] - live, self.rows[1] + live];
            over = over.saturating_sub(freed.max(1));
        }
        Ok(())
    }

    /// Returns the rows of a chunk that is in memory.
    pub(super) fn rows(&self, chunk: usize) -> Option<&R> {
        match &self.chunks.get(chunk)?.home {
            Home::Memory(rows) => Some(rows),
            _ => self.loaded.as_ref().filter(|(at, _)| *at as usize == chunk).map(|(_, rows)| rows),
        }
    }

    /// Reads a cold chunk.
    ///
    /// # Errors
    ///
    /// `StateLost` if it cannot be read, or its bytes are not those of a chunk.
    fn read_chunk<K, V>(&mut self, chunk: u32) -> Result<R, Error>
    where
        R: Rows<K, V>,
    {
        let region = self.chunks[chunk as usize].region.ok_or_else(|| damaged(chunk as usize))?;
        let bytes = self.cold.read(&region, 0..region.bytes)?;
        self.counts.bytes += bytes.len() as u64;
        R::from_bytes(bytes).ok_or_else(|| damaged(chunk as usize))
    }

    /// Whether a row that was read is the one of an entry: that says no other version of it, and nothing torn. Before an
    /// image's updates are all applied the file may have a later version, of the same key.
    pub(super) fn is_row<K, V>(&self, entry: &Entry, rows: &R, row: u32) -> bool
    where
        R: Rows<K, V>,
    {
        let hash = rows.key_hash(row);
        let is_version = entry.check == check(hash, rows.value_hash_at(row));
        let may_be_later = self.replays && !crate::mutant::on("replay_wants_versions");
        let is_version = is_version || may_be_later || crate::mutant::on("value_hash_forgotten");
        entry.hashed() == Hashed::of(hash) && is_version
    }

    /// Returns the number past the last chunk.
    pub(super) fn end(&self) -> usize {
        self.chunks.len()
    }
}

/// What the file has is not what was written there.
pub(super) fn damaged(chunk: usize) -> Error {
    let what =
        format!("the file of cold state does not hold what was written to it, in chunk {chunk}");
    Error::new(ErrorKind::StateLost, what).hint(
        "start again: the state is read from the shard; check the disk of the directory for state",
    )
}
