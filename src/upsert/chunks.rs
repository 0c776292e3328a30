//! Owns the chunks of the state: which take rows, which are in memory, which are in the file, and the rows that were
//! read from there. It does not own which rows are live, nor where a key's row is: that is the [`index`](super::index)'s.
//!
//! A chunk is filled, sealed, maybe written out as one of the oldest, and freed once nothing in it lives. Rows that were
//! read stay until others need their room: long enough for the drain that asked, mostly, or it asks again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use super::cold::{Cold, ColdSpace, Read, Region};
use super::index::Entry;
use super::rows::{Kept, Rows};
use super::slot::{CHUNK_BITS, ROW_BITS, Slot};
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
/// larger. Twice as many are kept of those that were read.
const READ_BYTES: [usize; 2] = [4 << 10, 8 << 20];
const READ_PART: usize = 8;
/// Rows that were read and are kept: what a drain and the look ahead of it ask for at once, and as much again.
const KEPT_ROWS_MAX: usize = 8 << 10;

/// How many rows and bytes are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Live rows in memory.
    pub hot_rows: u64,
    /// Bytes of their chunks.
    pub hot_bytes: usize,
    /// Live rows in the file.
    pub cold_rows: u64,
    /// Bytes of the file.
    pub cold_bytes: u64,
}

/// What was read since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Rows that were asked for.
    pub reads: u64,
    /// Bytes that were read, rows and chunks.
    pub bytes: u64,
}

/// The state has as many chunks as a slot can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// All chunks of one state.
pub(super) struct Chunks<R> {
    chunks: Vec<Chunk<R>>,
    /// Chunks emptied by compaction, to be used again.
    free: Vec<u32>,
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
    /// Rows that were read, with their bytes.
    read: BTreeMap<Slot, (R, usize)>,
    /// The order in which they came; some may be forgotten.
    read_order: VecDeque<Slot>,
    read_bytes: usize,
    /// A cold chunk that is in memory to be gone through.
    loaded: Option<(u32, R)>,
    counts: ReadCounts,
    /// Images are taken: their chunks stay in the file.
    images: bool,
    /// The number of the round under way, or of the next.
    round: u64,
    in_round: bool,
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
    /// Its rows are about to leave it.
    Taken,
}

/// A chunk in the file, as an image has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunked {
    /// Its number.
    pub(crate) chunk: u32,
    /// Where it is.
    pub(crate) region: Region,
    /// Its rows, dead or alive.
    pub(crate) rows: u32,
    /// Those that live, by the entries of the image.
    pub(crate) live: u32,
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

/// A chunk that was taken, to be emptied.
pub(super) struct Taken<R> {
    pub(super) rows: R,
    chunk: u32,
    /// Its rows were read from the file.
    pub(super) is_cold: bool,
}

impl<R: Default> Chunks<R> {
    /// Returns no rows, in chunks that fit a bound.
    pub(super) fn new(bytes_max: Option<usize>, space: ColdSpace) -> Self {
        let [least, most] = READ_BYTES;
        let fits = bytes_max.map_or(CHUNK_BYTES, |max| max / CHUNKS_IN_BOUND);
        let chunk_bytes = fits.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES).next_multiple_of(8);
        Chunks {
            chunks: vec![Chunk::default()],
            free: Vec::new(),
            tail: 0,
            sealed: VecDeque::new(),
            chunks_max: CHUNKS_MAX,
            chunk_bytes,
            reading_max: bytes_max.map_or(most, |max| (max / READ_PART).clamp(least, most)),
            hot_bytes: 0,
            rows: [0; 2],
            cold: Cold::new(space),
            read: BTreeMap::new(),
            read_order: VecDeque::new(),
            read_bytes: 0,
            loaded: None,
            counts: ReadCounts::default(),
            images: false,
            round: 1,
            in_round: false,
            ghosts: Vec::new(),
        }
    }

    /// Takes the chunks of an image, all of them cold. Returns false if they cannot be what a state has written.
    pub(super) fn keep(&mut self, kept: &[Chunked]) -> bool {
        let regions: Vec<_> = kept.iter().map(|kept| kept.region).collect();
        let end = kept.iter().map(|kept| kept.chunk as usize + 1).max().unwrap_or(0);
        if end >= self.chunks_max || !self.cold.keep(&regions) {
            return false;
        }
        self.chunks.resize_with(end + 1, Chunk::default);
        for Chunked { chunk, region, rows, live } in kept {
            let at = &mut self.chunks[*chunk as usize];
            if at.region.is_some() || live > rows || !region.is_whole() {
                return false;
            }
            at.home = Home::File;
            at.region = Some(*region);
            at.shares = region.bytes;
            at.dead =
                (u64::from(rows - live) * region.bytes as u64 / u64::from(*rows).max(1)) as usize;
            (at.rows, at.live) = (*rows, *live);
            self.rows[1] += u64::from(*live);
        }
        self.tail = end as u32;
        for (number, chunk) in self.chunks.iter_mut().enumerate() {
            let number = number as u32;
            if chunk.is_cold() && chunk.live == 0 {
                // Nothing in it lives, and the image has it: it is freed with that.
                let (region, rows) = (chunk.region.take(), chunk.rows);
                *chunk = Chunk { home: Home::Taken, ..Chunk::default() };
                let ghost = region.map(|region| Chunked { chunk: number, region, rows, live: 0 });
                self.ghosts.extend(ghost.map(|ghost| (ghost, 0)));
            } else if chunk.region.is_none() && number != self.tail {
                self.free.push(number);
            }
        }
        true
    }

    /// Says that images are taken: from here on what one of them has stays in the file.
    pub(super) fn keep_images(&mut self) {
        self.images = true;
    }

    /// Says that there is no image any more, nor will be one: what only images need is free for use again.
    pub(super) fn end_images(&mut self) {
        self.images = false;
        self.round = u64::MAX;
        self.end_round();
    }

    pub(super) fn in_round(&self) -> bool {
        self.in_round
    }

    /// Begins a round: what is freed from here on stays in the file until the image after the next is whole.
    pub(super) fn begin_round(&mut self) {
        self.in_round = true;
        self.round += 1;
    }

    /// Ends a round, whose image is durable: what was freed before it began is free for use again.
    pub(super) fn end_round(&mut self) {
        self.in_round = false;
        let round = if crate::mutant::on("image_region_reused") { u64::MAX } else { self.round };
        let (gone, kept) =
            std::mem::take(&mut self.ghosts).into_iter().partition(|(_, at)| *at < round);
        self.ghosts = kept;
        let gone: Vec<(Chunked, u64)> = gone;
        for (Chunked { chunk, region, .. }, _) in gone {
            self.cold.give(&region);
            self.chunks[chunk as usize] = Chunk::default();
            self.free.push(chunk);
        }
    }

    /// Gives a round up. What was freed in it stays until the next is whole.
    pub(super) fn give_round_up(&mut self) {
        self.in_round = false;
    }

    /// Writes chunks that are in memory alone, or have changed there, as many as so many bytes. Returns whether that was
    /// all of them. The tail is left out: it is to be sealed before.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written.
    pub(super) fn write_round<K, V>(&mut self, bytes_max: usize) -> Result<bool, Error>
    where
        R: Rows<K, V>,
    {
        let mut written = 0;
        for number in 0..self.chunks.len() as u32 {
            if number != self.tail {
                written += self.write_out(number)?;
            }
            if written >= bytes_max {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the tail has rows that were captured.
    pub(super) fn tail_is_captured(&self, live: &BTreeMap<u32, u32>) -> bool {
        live.contains_key(&self.tail)
    }

    /// Returns the chunks of the round's image, with as many live rows as the entries that were captured say.
    pub(super) fn table(&self, live: &BTreeMap<u32, u32>) -> Vec<Chunked> {
        let live = |chunk| live.get(&chunk).copied().unwrap_or(0);
        let numbered = self.chunks.iter().zip(0..);
        let kept = numbered.filter_map(|(at, chunk)| {
            at.region.map(|region| Chunked { chunk, region, rows: at.rows, live: live(chunk) })
        });
        let ghosts = self.ghosts.iter().filter(|(_, at)| *at >= self.round);
        let ghosts = ghosts.map(|(ghost, _)| Chunked { live: live(ghost.chunk), ..*ghost });
        kept.chain(ghosts).collect()
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

    /// Returns the bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let loaded = if self.loaded.is_some() { self.chunk_bytes } else { 0 };
        let chunks = self.chunks.capacity() * size_of::<Chunk<R>>();
        self.hot_bytes + chunks + self.read_bytes + loaded
    }

    pub(super) fn places(&self) -> Places {
        let [hot_rows, cold_rows] = self.rows;
        Places { hot_rows, hot_bytes: self.hot_bytes, cold_rows, cold_bytes: self.cold.bytes() }
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
        self.read.get(&slot).map(|(rows, _)| (rows, 0))
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
        while let Some((slot, _)) = self.read.range(gone.clone()).next() {
            let slot = *slot;
            self.forget_read(slot);
        }
    }

    fn forget_read(&mut self, slot: Slot) {
        self.read_bytes -= self.read.remove(&slot).map_or(0, |(_, bytes)| bytes);
    }

    /// Frees a chunk, of which nothing lives. The tail begins anew.
    ///
    /// An image may have the chunk, and rows that have moved out of it since: it stays in the file as long. Rows that died
    /// there are superseded by what the shard has gained since, and never looked at.
    ///
    /// # Errors
    ///
    /// `Unavailable` if it cannot be written for the image under way. It is not freed then.
    pub(super) fn free<K, V>(&mut self, chunk: u32, taken: Option<Taken<R>>) -> Result<(), Error>
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
        debug_assert_eq!(old.live, 0, "a row lives");
        self.hot_bytes -= old.heap_bytes;
        self.sealed.retain(|other| *other != chunk);
        self.forget(Slot::new(chunk, 0)..=Slot::new(chunk, u32::MAX >> (32 - ROW_BITS)));
        self.loaded.take_if(|(loaded, _)| *loaded == chunk);
        match old.region {
            Some(region) if stays => {
                let ghost = Chunked { chunk, region, rows: old.rows, live: 0 };
                self.chunks[chunk as usize].home = Home::Taken;
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
    pub(super) fn take<K, V>(&mut self, chunk: u32) -> Result<Option<Taken<R>>, Error>
    where
        R: Rows<K, V>,
    {
        match &self.chunks[chunk as usize].home {
            Home::Taken => Ok(None),
            Home::Memory(_) => {
                let home = std::mem::replace(&mut self.chunks[chunk as usize].home, Home::Taken);
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
    pub(super) fn moved<K, V>(&mut self, taken: &Taken<R>, row: u32)
    where
        R: Rows<K, V>,
    {
        self.count_rows(taken.chunk as usize, -1);
        self.chunks[taken.chunk as usize].dead += taken.rows.share_at(row);
    }

    /// Returns the live rows that are left in a chunk.
    pub(super) fn live(&self, chunk: u32) -> u32 {
        self.chunks[chunk as usize].live
    }

    pub(super) fn put_back(&mut self, taken: Taken<R>) {
        if !taken.is_cold {
            self.chunks[taken.chunk as usize].home = Home::Memory(taken.rows);
        }
    }

    fn read_chunk<K, V>(&mut self, chunk: u32) -> Result<R, Error>
    where
        R: Rows<K, V>,
    {
        let region = self.chunks[chunk as usize].region.ok_or_else(|| damaged(chunk as usize))?;
        let bytes = self.cold.read(&region, 0..region.bytes)?;
        self.counts.bytes += bytes.len() as u64;
        R::from_bytes(bytes).ok_or_else(|| damaged(chunk as usize))
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

    /// Begins to read those rows that are not in memory, in order, as many as may be read at once. Returns how many that
    /// was.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no file.
    pub(super) fn fetch(&mut self, entries: impl Iterator<Item = Entry>) -> Result<u64, Error> {
        if !self.has_cold() {
            return Ok(0);
        }
        let (mut reads, mut asked) = (Vec::<Read>::new(), BTreeSet::new());
        let mut bytes = self.cold.under_way_bytes();
        for entry in entries {
            let slot = entry.slot();
            if self.at(slot).is_some() || self.cold.is_under_way(slot) || asked.contains(&slot) {
                continue;
            }
            let Some(region) = self.chunks[slot.chunk()].cold_region() else { continue };
            let start = slot.row() as usize * 8;
            let rest = region.bytes.saturating_sub(start);
            let range = start..start + entry.class().bytes().unwrap_or(rest).min(rest);
            bytes += range.len();
            if bytes > self.reading_max && self.cold.under_way() + reads.len() > 0 {
                break;
            }
            asked.insert(slot);
            reads.push(Read { entry, region, range });
        }
        if reads.is_empty() {
            return Ok(0);
        }
        let begun = reads.len() as u64;
        self.counts.reads += begun;
        self.counts.bytes += reads.iter().map(|read| read.range.len() as u64).sum::<u64>();
        self.cold.begin(reads)?;
        Ok(begun)
    }

    /// Takes in the rows that were read.
    ///
    /// # Errors
    ///
    /// `Unavailable` if one could not be read, `Corrupt` if what was read is not the row.
    pub(super) fn arrive<K, V>(&mut self) -> Result<(), Error>
    where
        R: Rows<K, V>,
        K: Kept<V, Rows = R>,
    {
        while self.cold.under_way() > 0 {
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
    pub(super) fn fetch_now<K, V>(&mut self, entry: &Entry) -> Result<(), Error>
    where
        R: Rows<K, V>,
        K: Kept<V, Rows = R>,
    {
        let slot = entry.slot();
        if self.at(slot).is_some() {
            return Ok(());
        }
        let cold = self.chunks[slot.chunk()].cold_region();
        let region = cold.ok_or_else(|| damaged(slot.chunk()))?;
        let start = slot.row() as usize * 8;
        let rest = region.bytes.saturating_sub(start);
        let range = start..start + entry.class().bytes().unwrap_or(rest).min(rest);
        self.counts.reads += 1;
        self.counts.bytes += range.len() as u64;
        let bytes = self.cold.read(&region, range)?;
        self.keep_read::<K, V>(entry, bytes)
    }

    fn keep_read<K, V>(&mut self, entry: &Entry, bytes: Vec<u8>) -> Result<(), Error>
    where
        R: Rows<K, V>,
        K: Kept<V, Rows = R>,
    {
        let slot = entry.slot();
        let row = R::from_row(bytes).filter(|row| is_row::<K, V>(entry, row, 0));
        let row = row.ok_or_else(|| damaged(slot.chunk()))?;
        let bytes = row.heap_bytes() + READ_ROW_BYTES;
        while self.read.len() >= KEPT_ROWS_MAX || self.read_bytes + bytes > 2 * self.reading_max {
            let Some(oldest) = self.read_order.pop_front() else { break };
            self.forget_read(oldest);
        }
        self.forget_read(slot);
        self.read_bytes += bytes;
        self.read.insert(slot, (row, bytes));
        self.read_order.push_back(slot);
        if self.read_order.len() > 2 * KEPT_ROWS_MAX {
            let read = &self.read;
            self.read_order.retain(|slot| read.contains_key(slot));
        }
        Ok(())
    }

    /// Brings a cold chunk into memory, to be gone through, in place of the one before.
    ///
    /// # Errors
    ///
    /// What reading it reports.
    pub(super) fn load<K, V>(&mut self, chunk: usize) -> Result<bool, Error>
    where
        R: Rows<K, V>,
    {
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded as usize == chunk) {
            return Ok(false);
        }
        self.loaded = None;
        if !self.chunks[chunk].is_cold() {
            return Ok(false);
        }
        let rows = self.read_chunk(chunk as u32)?;
        self.loaded = Some((chunk as u32, rows));
        Ok(true)
    }

    /// Lets go of the chunk that was gone through last.
    pub(super) fn unload(&mut self) {
        self.loaded = None;
    }

    /// Returns the rows of a chunk that is in memory.
    pub(super) fn rows(&self, chunk: usize) -> Option<&R> {
        match &self.chunks.get(chunk)?.home {
            Home::Memory(rows) => Some(rows),
            _ => self.loaded.as_ref().filter(|(at, _)| *at as usize == chunk).map(|(_, rows)| rows),
        }
    }

    /// Returns the number past the last chunk.
    pub(super) fn end(&self) -> usize {
        self.chunks.len()
    }
}

/// Whether a row that was read is the one of an entry: that says no other version of it, and nothing torn.
pub(super) fn is_row<K: Kept<V>, V>(entry: &Entry, rows: &K::Rows, row: u32) -> bool {
    let hashed = super::index::Hashed::of(rows.key_hash(row));
    let is_value = rows.value_hash_at(row) == entry.value_hash;
    hashed == entry.hashed() && (is_value || crate::mutant::on("value_hash_forgotten"))
}

pub(super) fn damaged(chunk: usize) -> Error {
    let what =
        format!("the file of cold state does not hold what was written to it, in chunk {chunk}");
    Error::new(ErrorKind::Corrupt, what).hint(
        "start again: the state is read from the shard; check the disk of the directory for state",
    )
}

/// Bytes of a row that was read, beside its own.
const READ_ROW_BYTES: usize = 64;
