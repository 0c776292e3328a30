//! Owns the state: the collection at the feedback frontier, one live value per key, as a hash [`index`](super::index)
//! over [`chunks`](super::chunks) of rows. It changes only by feedback; it does not own when it may be read, nor which of
//! its rows are in memory.
//!
//! Feedback may arrive unconsolidated and out of order, so a key's updates can pass through sums
//! that are not a collection. Such keys wait, whole, in a side table of exact counts and come back
//! when they sum to nothing or to one value. At a complete frontier the side table is empty.
//!
//! Feedback does not read cold rows: the hash of the key says which row it is, unless another key shares it, and the hash
//! of the value whether it is the one that is retracted. In memory both are compared as they are.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::chunks::{Chunked, Chunks, Places, ReadCounts, Taken, damaged, is_row};
use super::cold::ColdSpace;
use super::index::{Class, ENTRY_BYTES, Entry, Hashed, Index, Piece, Placed};
use super::rows::{Kept, Rows};
use super::slot::Slot;
use crate::error::{Error, ErrorKind};

/// Chunks that new rows leave for compaction: it moves the live rows of one chunk at a time, which fit into one.
const CHUNKS_SPARE: usize = 1;

/// The live value of each key.
pub struct State<K: Kept<V>, V> {
    index: Index,
    chunks: Chunks<K::Rows>,
    bytes_max: Option<usize>,
    /// The hashes of values are kept: a row may have to be known without it.
    keeps_hashes: bool,
    /// It is that of an image, without all that came since: rows that came since may stand where it has others.
    replays: bool,
    /// Reads the entries of an image's piece.
    pieces: Option<ReadPiece>,
    /// The live rows of each chunk, by the entries that the round under way has captured.
    captured: BTreeMap<u32, u32>,
    /// How often rows have left their places, or a hash has become one of several keys.
    moves: u64,
    unsettled: BTreeMap<K, BTreeMap<V, isize>>,
    /// The bytes of the side table.
    unsettled_bytes: usize,
}

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

/// Reads the entries of a piece of an image, checked.
pub(crate) type ReadPiece = Box<dyn FnMut(u32) -> Result<Vec<u8>, Error>>;

/// A segment of the index, as an image has it.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Its hashes, and how many entries it has.
    pub(crate) piece: Piece,
    /// Its entries.
    pub(crate) bytes: Vec<u8>,
}

/// Why the state cannot go on.
#[derive(Clone, Debug)]
pub enum Broken {
    /// It has as many chunks as a slot can name.
    Full,
    /// Its file cannot be written or read.
    File(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken::File(error)
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Full => Error::new(ErrorKind::Unavailable, "the state of this worker is full")
                .hint("use more workers"),
            Broken::File(error) => error,
        }
    }
}

impl<K, V> Default for State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    fn default() -> Self {
        State::new(None, ColdSpace::default())
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
    /// Returns an empty state of so many bytes in memory, if it is bounded. A bound keeps the index, two chunks and what is
    /// being read in any case.
    pub(crate) fn new(bytes_max: Option<usize>, space: ColdSpace) -> Self {
        State {
            index: Index::default(),
            chunks: Chunks::new(bytes_max, space),
            bytes_max: bytes_max.filter(|_| K::Rows::FILES),
            keeps_hashes: bytes_max.is_some() && K::Rows::FILES,
            replays: false,
            pieces: None,
            captured: BTreeMap::new(),
            moves: 0,
            unsettled: BTreeMap::new(),
            unsettled_bytes: 0,
        }
    }

    /// Makes an empty state that of an image: its pieces, which are read when they are needed, and its chunks, all in the
    /// file that it was lent. Updates are then due from when each piece was captured on; until all of these are applied, and
    /// that is [said](State::end_replay), no row is read. Returns false, and is not to be
    /// used, if these cannot be what a state has written.
    pub(crate) fn keep(&mut self, pieces: &[Piece], chunks: &[Chunked], read: ReadPiece) -> bool {
        let Some(index) = Index::of_pieces(pieces) else { return false };
        let live: u64 = chunks.iter().map(|chunk| u64::from(chunk.live)).sum();
        let fits = live == index.len() as u64 && self.index.len() == 0;
        self.index = index;
        self.pieces = Some(read);
        self.replays = true;
        fits && self.chunks.keep(chunks)
    }

    /// Says that all updates since the image are applied, as far as they were committed when the file was last written to.
    pub(crate) fn end_replay(&mut self) {
        self.replays = false;
    }

    /// Says that images are taken: what one of them has stays in the file, and values' hashes are kept.
    pub(crate) fn keep_images(&mut self) {
        self.keeps_hashes = K::Rows::FILES;
        self.chunks.keep_images();
    }

    /// Begins the round of an image: its segments are to be [captured](State::capture), from 0 on; then its chunks
    /// [written](State::write_round); then the file is to be synced, and what names all of it written; then the round is
    /// [ended](State::end_round).
    ///
    /// Each segment may be captured at another time, of the feedback's: the state goes on in between.
    pub(crate) fn begin_round(&mut self) {
        self.captured.clear();
        self.chunks.begin_round();
    }

    /// Captures the segment from `from` on: 0, or the [end](super::index::Prefix::end) of the one before, until that is 2^32.
    /// The state must be exact: it has all updates below a time, and no other.
    ///
    /// # Errors
    ///
    /// What reading a piece of the image before reports.
    pub(crate) fn capture(&mut self, from: u64) -> Result<Captured, Error> {
        let hashed = self.index.hash_at(from);
        self.read_piece(hashed)?;
        let (prefix, entries) = self.index.entries(hashed);
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(&entry.to_bytes());
            *self.captured.entry(entry.slot().chunk() as u32).or_default() += 1;
        }
        let entries = bytes.len() / ENTRY_BYTES;
        Ok(Captured { piece: Piece { prefix, entries }, bytes })
    }

    /// Writes what the round's image has in memory alone, about so many bytes. Returns its chunks once all of them are in
    /// the file.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written.
    pub(crate) fn write_round(&mut self, bytes_max: usize) -> Result<Option<Vec<Chunked>>, Error> {
        if self.chunks.tail_is_captured(&self.captured) {
            // Sealed, and not compacted: a drain may be looking at its rows.
            self.chunks.next_tail::<K, V>(0).map_err(|_| Error::from(Broken::Full))?;
        }
        let is_whole = self.chunks.write_round(bytes_max)?;
        Ok(is_whole.then(|| self.chunks.table(&self.captured)))
    }

    /// Ends the round, whose image is durable.
    pub(crate) fn end_round(&mut self) {
        self.chunks.end_round();
    }

    /// Gives the round up: the image before it is the one that counts.
    pub(crate) fn give_round_up(&mut self) {
        self.chunks.give_round_up();
    }

    /// Says that there is no image any more, nor will be one.
    pub(crate) fn end_images(&mut self) {
        self.chunks.end_images();
    }

    /// Reads the piece of an image that has a hash, if that is still to be done.
    #[inline]
    fn read_piece(&mut self, hashed: Hashed) -> Result<(), Error> {
        if self.index.has_unread() { self.read_piece_of(hashed) } else { Ok(()) }
    }

    #[cold]
    fn read_piece_of(&mut self, hashed: Hashed) -> Result<(), Error> {
        let (Some(piece), Some(read)) = (self.index.unread(hashed), &mut self.pieces) else {
            return Ok(());
        };
        let bytes = read(piece)?;
        if !self.index.read(hashed, &bytes) {
            let what = format!("piece {piece} of the state's image is not what its table says");
            return Err(Error::new(ErrorKind::Corrupt, what).hint(
                "delete the directory for state and start again: it is read from the shard",
            ));
        }
        if !self.index.has_unread() {
            self.pieces = None;
        }
        Ok(())
    }

    /// Reads all pieces that are left.
    fn read_all_pieces(&mut self) -> Result<(), Error> {
        let mut from = 0;
        while self.index.has_unread() && from < 1 << 32 {
            let hashed = self.index.hash_at(from);
            self.read_piece(hashed)?;
            from = self.index.entries(hashed).0.end();
        }
        Ok(())
    }

    /// Returns the number of keys with a live value, those in the side table left out.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the bytes allocated.
    pub fn bytes(&self) -> usize {
        self.chunks.bytes() + self.index.bytes() + self.unsettled_bytes
    }

    /// Returns what is where.
    pub fn places(&self) -> Places {
        self.chunks.places()
    }

    /// Returns what was read since the last call.
    pub(super) fn take_counts(&mut self) -> ReadCounts {
        self.chunks.take_counts()
    }

    /// Returns how many rows are being read.
    pub(super) fn under_way(&self) -> usize {
        self.chunks.under_way()
    }

    /// Whether there are rows that have to be read.
    #[inline]
    pub fn has_cold(&self) -> bool {
        self.chunks.has_cold()
    }

    /// Returns a key that has no single live value, if there is one: at a complete frontier a sign
    /// that the shard is damaged.
    pub fn unsettled(&self) -> Option<(&K, &BTreeMap<V, isize>)> {
        self.unsettled.first_key_value()
    }

    /// Returns how often rows have left their places: what was found is good as long as that stays.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Applies an update. O(1), amortised.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the state has no room for a further chunk, or its file cannot be written or read.
    pub fn apply(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Broken> {
        self.read_piece(Hashed::of(hash))?;
        if self.unsettled.is_empty() {
            match (self.seek(hash, key)?, diff) {
                (None, 1) => return self.insert(hash, key, value),
                (Some(entry), -1) if self.retracts(&entry, value) => {
                    return self.remove(hash, &entry, K::Rows::share(key, value));
                }
                (_, 0) => return Ok(()),
                _ => {}
            }
        }
        self.count(hash, key, value, diff)
    }

    /// Replaces a key's value: a retraction and an insertion in one step. Returns false, and
    /// changes nothing, unless `prior` is the key's live value. `found` is what [`find_all`](State::find_all) has found of
    /// the key, if that is still good.
    ///
    /// # Errors
    ///
    /// As [`apply`](State::apply).
    pub fn replace(
        &mut self,
        found: Option<Entry>,
        hash: u64,
        key: &K,
        prior: &V,
        value: &V,
    ) -> Result<bool, Broken> {
        if !self.unsettled.is_empty() {
            return Ok(false);
        }
        self.read_piece(Hashed::of(hash))?;
        let found = match found.filter(|entry| !entry.is_shared()) {
            Some(entry) => Some(entry),
            None => self.seek(hash, key)?,
        };
        let Some(entry) = found.filter(|entry| self.retracts(entry, prior)) else {
            return Ok(false);
        };
        let (hashed, slot) = (Hashed::of(hash), entry.slot());
        if self.chunks.hot_mut(slot).is_some_and(|rows| rows.overwrite(slot.row(), value)) {
            if self.keeps_hashes {
                let placed = self.placed(slot, key, value);
                self.put(hashed, slot, placed);
                self.chunks.overwritten(slot);
            }
            return Ok(true);
        }
        let moves = self.moves;
        let moved = self.push(key, value)?;
        // A chunk that was left for another may have been compacted, and the row moved with it.
        let slot = match self.moves == moves {
            true => Some(slot),
            false => self.seek(hash, key)?.map(|entry| entry.slot()),
        };
        if let Some(slot) = slot {
            self.put(hashed, slot, moved);
            self.bury(slot, K::Rows::share(key, prior))?;
        }
        Ok(true)
    }

    /// Returns what the index has of a key: its row or, where that is cold, one that may be it.
    #[inline]
    fn find(&self, hash: u64, key: &K) -> Option<Entry> {
        let hashed = Hashed::of(hash);
        let first = self.index.find(hashed, |_| true)?;
        if self.is_key(first, key).unwrap_or(true) {
            return Some(*first);
        }
        if !first.is_shared() {
            return None;
        }
        let is_it = |entry: &Entry| self.is_key(entry, key) == Some(true);
        let maybe = |entry: &Entry| self.is_key(entry, key).is_none();
        self.index.find(hashed, is_it).or_else(|| self.index.find(hashed, maybe)).copied()
    }

    /// Looks up many keys at once, one by one: a key's row or, where that is cold, the one that is it by all
    /// that is known without reading. The drain [confirms](State::confirm) that once it is [here](State::is_here).
    ///
    /// A look-up in a large state waits for memory twice, for the index and for the row. Going
    /// through all keys one level at a time makes the loops so short that the processor waits for
    /// many keys at once.
    ///
    /// # Errors
    ///
    /// What reading a piece of an image reports.
    pub fn find_all<'a>(
        &mut self,
        keys: impl Iterator<Item = (u64, &'a K)> + Clone,
        found: &mut Vec<Option<Entry>>,
    ) -> Result<(), Error>
    where
        K: 'a,
    {
        found.clear();
        if self.index.has_unread() {
            keys.clone().try_for_each(|(hash, _)| self.read_piece(Hashed::of(hash)))?;
        }
        let first = |hash| self.index.find(Hashed::of(hash), |_| true).copied();
        found.extend(keys.clone().map(|(hash, _)| first(hash)));
        for (found, (hash, key)) in found.iter_mut().zip(keys) {
            if found.is_some_and(|entry| self.is_key(&entry, key) == Some(false)) {
                *found = self.find(hash, key);
            }
        }
        Ok(())
    }

    /// Whether the row of an entry has this key; `None` if it would have to be read.
    #[inline]
    fn is_key(&self, entry: &Entry, key: &K) -> Option<bool> {
        self.chunks.at(entry.slot()).map(|(rows, row)| rows.key_is(row, key))
    }

    /// As [`find`](State::find), for feedback: a row is read only where the hash alone cannot say whether it is the key's.
    fn seek(&mut self, hash: u64, key: &K) -> Result<Option<Entry>, Broken> {
        match self.find(hash, key) {
            Some(entry)
                if entry.is_shared()
                    && self.is_key(&entry, key).is_none()
                    && !crate::mutant::on("hash_is_the_key") =>
            {
                self.find_surely(hash, key)
            }
            found => Ok(found),
        }
    }

    /// As [`find`](State::find), and reads what it has to, at once.
    fn find_surely(&mut self, hash: u64, key: &K) -> Result<Option<Entry>, Broken> {
        loop {
            match self.find(hash, key) {
                Some(entry) if self.is_key(&entry, key).is_none() => {
                    self.chunks.fetch_now::<K, V>(&entry)?;
                }
                found => return Ok(found),
            }
        }
    }

    /// Whether an entry has the value that is to be retracted.
    #[inline]
    fn retracts(&self, entry: &Entry, value: &V) -> bool {
        match self.chunks.at(entry.slot()) {
            Some((rows, row)) => rows.value_is(row, value),
            None => entry.value_hash == K::Rows::value_hash(value),
        }
    }

    /// Begins to read the rows of entries that are not here, as many as may be read at once, the first ones first. Returns
    /// how many that was.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no file.
    pub fn fetch(&mut self, entries: impl Iterator<Item = Entry>) -> Result<u64, Error> {
        self.chunks.fetch(entries)
    }

    /// Takes in the rows that were read.
    ///
    /// # Errors
    ///
    /// `Unavailable` if one could not be read, `Corrupt` if what was read is not the row that was written.
    pub fn arrive(&mut self) -> Result<(), Error> {
        self.chunks.arrive::<K, V>()
    }

    /// Whether the row of an entry is in memory.
    #[inline]
    pub fn is_here(&self, entry: &Entry) -> bool {
        self.chunks.at(entry.slot()).is_some()
    }

    /// Whether the row of an entry is being read.
    pub fn is_under_way(&self, entry: &Entry) -> bool {
        self.chunks.is_under_way(entry.slot())
    }

    /// Returns the place of the key for which an entry was found, now that its row is [here](State::is_here).
    ///
    /// # Errors
    ///
    /// What reading others of the same hash reports.
    #[inline]
    pub fn confirm(&mut self, hash: u64, key: &K, entry: &Entry) -> Result<Option<Slot>, Error> {
        if self.is_key(entry, key) == Some(true) {
            return Ok(Some(entry.slot()));
        }
        Ok(self.find_surely(hash, key)?.map(|entry| entry.slot()))
    }

    /// Marks a key's row, until [`untouch`](State::untouch).
    pub fn touch(&mut self, hash: u64, slot: Slot) {
        if let Some(entry) = self.index.at_mut(Hashed::of(hash), slot) {
            entry.touch(true);
        }
    }

    /// Takes all marks away. O(keys).
    pub fn untouch(&mut self) {
        self.index.untouch();
        self.chunks.unload();
    }

    /// Whether the value at a place is this one. The row is [here](State::is_here), as for all below.
    #[inline]
    pub fn holds(&self, slot: Slot, value: &V) -> bool {
        self.chunks.at(slot).is_some_and(|(rows, row)| rows.value_is(row, value))
    }

    /// Adds the value at a place to those collected. Returns the bytes of its row; 0 if it is not here.
    pub fn gather(&self, slot: Slot, into: &mut <K::Rows as Rows<K, V>>::Gather) -> usize {
        self.chunks.at(slot).map_or(0, |(rows, row)| {
            rows.gather(row, into);
            rows.row_bytes(row)
        })
    }

    /// Returns a copy of the key at a place.
    pub fn key(&self, slot: Slot) -> Option<K> {
        self.chunks.at(slot).map(|(rows, row)| rows.copy_key(row))
    }

    /// Returns a copy of the key and value at a place.
    pub fn get(&self, slot: Slot) -> Option<(K, V)> {
        self.chunks.at(slot).map(|(rows, row)| rows.get(row))
    }

    /// Returns the first live row past `last`, or the first of all, with whether it was touched; `None` at the end. The
    /// order is that of the chunks, the same on every run. A cold chunk is read, and is the one in memory until the next.
    ///
    /// # Errors
    ///
    /// `Unavailable` if a chunk cannot be read, `Corrupt` if it is not what was written.
    pub fn next(&mut self, last: Option<Slot>) -> Result<Option<Live>, Error> {
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
                let hashed = Hashed::of(rows.key_hash(next));
                if let Some(entry) = self.index.find(hashed, |entry| entry.slot() == slot) {
                    let (is_touched, bytes) = (entry.is_touched(), rows.row_bytes(next));
                    return Ok(Some(Live { slot, is_touched, bytes }));
                }
                row = Some(next);
            }
            row = None;
        }
        Ok(None)
    }

    /// Checks that a chunk that was read has all rows that live in it.
    fn check_loaded(&self, chunk: usize) -> Result<(), Error> {
        let Some(rows) = self.chunks.rows(chunk) else { return Ok(()) };
        let (mut live, mut row) = (0, None);
        while let Some(next) = rows.next(row) {
            row = Some(next);
            let slot = Slot::new(chunk as u32, next);
            let hashed = Hashed::of(rows.key_hash(next));
            if let Some(entry) = self.index.find(hashed, |entry| entry.slot() == slot) {
                if !is_row::<K, V>(entry, rows, next) {
                    return Err(damaged(chunk));
                }
                live += 1;
            }
        }
        if live == self.chunks.live(chunk as u32) { Ok(()) } else { Err(damaged(chunk)) }
    }

    /// Writes chunks out until the state is within its bound again.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written; nothing is lost then.
    pub fn keep_bound(&mut self) -> Result<(), Error> {
        match self.bytes_max {
            Some(bytes_max) => self.chunks.evict(self.bytes(), bytes_max),
            None => Ok(()),
        }
    }

    fn placed(&self, slot: Slot, key: &K, value: &V) -> Placed {
        let value_hash = if self.keeps_hashes { K::Rows::value_hash(value) } else { 0 };
        Placed { slot, class: Class::of(K::Rows::share(key, value)), value_hash }
    }

    fn insert(&mut self, hash: u64, key: &K, value: &V) -> Result<(), Broken> {
        let hashed = Hashed::of(hash);
        let placed = self.push(key, value)?;
        if self.index.insert(hashed, placed) {
            self.moves += 1;
        }
        Ok(())
    }

    fn remove(&mut self, hash: u64, entry: &Entry, share: usize) -> Result<(), Broken> {
        self.index.remove(Hashed::of(hash), entry.slot());
        self.bury(entry.slot(), share)
    }

    fn put(&mut self, hashed: Hashed, from: Slot, placed: Placed) {
        if let Some(entry) = self.index.at_mut(hashed, from) {
            entry.put(placed);
        }
    }

    fn push(&mut self, key: &K, value: &V) -> Result<Placed, Broken> {
        loop {
            if let Some(slot) = self.chunks.push(key, value) {
                return Ok(self.placed(slot, key, value));
            }
            self.next_tail(CHUNKS_SPARE)?;
        }
    }

    /// Seals the tail and takes another chunk, if more than `spare` of them are left.
    fn next_tail(&mut self, spare: usize) -> Result<(), Broken> {
        let full = self.chunks.tail();
        // A tail that is mostly dead gives its chunk back at once.
        let dead = self.chunks.is_mostly_dead(full);
        let spare = if dead { 0 } else { spare };
        self.chunks.next_tail::<K, V>(spare).map_err(|_| Broken::Full)?;
        // Rows die in the tail, too, and it is not compacted while it is one. What is left fits into the new tail.
        if dead && !crate::mutant::on("leak_tail_chunk") {
            self.compact(full)?;
        }
        Ok(self.keep_bound()?)
    }

    /// Counts a row as dead and, when half of its chunk is, moves the live ones out.
    fn bury(&mut self, slot: Slot, share: usize) -> Result<(), Broken> {
        self.moves += 1;
        let chunk = slot.chunk() as u32;
        let is_tail = chunk == self.chunks.tail();
        // What a round has captured of the tail stays apart from what comes after.
        let stays = is_tail && self.chunks.in_round();
        let leaks = stays || is_tail && crate::mutant::on("leak_tail_chunk");
        if self.chunks.bury(slot, share) && !leaks {
            // Not one row is live, in the tail or elsewhere: the chunk begins anew.
            self.chunks.free(chunk, None)?;
        } else if !is_tail && self.chunks.is_mostly_dead(chunk) && !self.replays {
            return self.compact(chunk);
        }
        Ok(())
    }

    /// Moves the live rows of a chunk to the tail and frees it. Rows leave one by one, each whole: if there were no room
    /// for one, it and the rest would stay where they are.
    fn compact(&mut self, chunk: u32) -> Result<(), Broken> {
        self.moves += 1;
        let Some(taken) = self.chunks.take::<K, V>(chunk)? else { return Ok(()) };
        let moved = self.move_out(&taken, chunk);
        match moved {
            Ok(true) => Ok(self.chunks.free(chunk, Some(taken))?),
            moved => {
                self.chunks.put_back(taken);
                moved.map(drop)
            }
        }
    }

    /// Copies the live rows of a chunk to the tail. Returns whether there was room for all.
    fn move_out(&mut self, taken: &Taken<K::Rows>, chunk: u32) -> Result<bool, Broken> {
        let mut row = None;
        while let Some(next) = taken.rows.next(row) {
            row = Some(next);
            let (hashed, slot) = (Hashed::of(taken.rows.key_hash(next)), Slot::new(chunk, next));
            let Some(entry) = self.index.find(hashed, |entry| entry.slot() == slot).copied() else {
                continue;
            };
            if taken.is_cold && !is_row::<K, V>(&entry, &taken.rows, next) {
                return Err(damaged(chunk as usize).into());
            }
            let moved = loop {
                match self.chunks.push_row(&taken.rows, next) {
                    Some(moved) => break moved,
                    None => match self.next_tail(0) {
                        Ok(()) => {}
                        Err(Broken::Full) => return Ok(false),
                        Err(broken) => return Err(broken),
                    },
                }
            };
            let (class, value_hash) = (entry.class(), entry.value_hash);
            self.put(hashed, slot, Placed { slot: moved, class, value_hash });
            self.chunks.moved(taken, next);
        }
        // What lives there and was not found would be lost.
        if self.chunks.live(chunk) == 0 { Ok(true) } else { Err(damaged(chunk as usize).into()) }
    }

    /// The slow path: counts the update among the key's others, and settles the key if it sums to
    /// nothing or to one value.
    fn count(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<(), Broken> {
        let mut counts = self.unsettled.remove(key).unwrap_or_default();
        self.unsettled_bytes -= side_bytes(key, &counts);
        if let Some(entry) = self.find_surely(hash, key)?
            && let Some((_, live)) = self.get(entry.slot())
        {
            let share = K::Rows::share(key, &live);
            let count = counts.entry(live).or_default();
            *count = count.saturating_add(1);
            self.remove(hash, &entry, share)?;
        }
        match counts.get_mut(value) {
            // No sum that does not fit is one live value, so it is found where it counts.
            Some(count) => *count = count.saturating_add(diff),
            None => drop(counts.insert(detached(key, value).1, diff)),
        }
        counts.retain(|_, count| *count != 0);
        match counts.first_key_value() {
            None => Ok(()),
            Some((live, 1)) if counts.len() == 1 => {
                let live = live.clone();
                self.insert(hash, key, &live)
            }
            Some(_) => {
                self.unsettled_bytes += side_bytes(key, &counts);
                self.unsettled.insert(detached(key, value).0, counts);
                Ok(())
            }
        }
    }
}

/// Returns copies that keep no buffer which other rows share: they may stay for long.
fn detached<K: Kept<V> + Clone, V: Clone>(key: &K, value: &V) -> (K, V) {
    let (mut key, mut value) = (key.clone(), value.clone());
    K::repack(std::iter::once((&mut key, Some(&mut value))));
    (key, value)
}

/// Returns the bytes that a key has in the side table, about; 0 if it is not there.
fn side_bytes<K: Kept<V>, V>(key: &K, counts: &BTreeMap<V, isize>) -> usize {
    // Nodes are half full at the worst; a buffer of its own has some bytes beside its row's.
    let one = 2 * (size_of::<V>() + size_of::<isize>()) + SIDE_ROW_BYTES;
    let values = counts.keys().map(|value| K::heap_bytes(key, Some(value)) + one);
    let row = 2 * (size_of::<K>() + size_of::<BTreeMap<V, isize>>()) + SIDE_ROW_BYTES;
    if counts.is_empty() { 0 } else { row + values.sum::<usize>() }
}

/// Bytes of a buffer beside its row's.
const SIDE_ROW_BYTES: usize = 64;

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
