//! Owns what images need of the state: rounds that capture it piece by piece, and the start on one. It does not own when an
//! image is due, nor where it is kept.

use super::super::cold::Chunked;
use super::super::entry::{ENTRY_BYTES, Hashed};
use super::super::index::{Index, Piece};
use super::super::rows::{Kept, Rows};
use super::{Broken, ReadPiece, State, damaged_shard};
use crate::error::{Error, ErrorKind};

/// A segment of the index, as an image has it.
#[derive(Debug)]
pub(in crate::upsert) struct Captured {
    /// Its hashes, and how many entries it has.
    pub(in crate::upsert) piece: Piece,
    /// Its entries.
    pub(in crate::upsert) bytes: Vec<u8>,
}

impl<K, V> State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    /// Makes an empty state that of an image: its pieces, which are read when they are needed, and its chunks, all in the
    /// file that it was lent. Updates are then due from when each piece was captured on; until all of these are applied, and
    /// that is [said](State::end_replay), no row is read. Returns false, and is not to be
    /// used, if these cannot be what a state has written.
    pub(in crate::upsert) fn keep(
        &mut self,
        pieces: &[Piece],
        chunks: &[Chunked],
        read: ReadPiece,
    ) -> bool {
        let Some(index) = Index::of_pieces(pieces) else { return false };
        let live: u64 = chunks.iter().map(|chunk| u64::from(chunk.live)).sum();
        let fits = live == index.len() as u64 && self.index.len() == 0;
        self.index = index;
        self.pieces = Some(read);
        fits && self.chunks.keep(chunks)
    }

    /// Says that all updates since the image are applied, as far as they were committed when the file was last written to.
    pub(in crate::upsert) fn end_replay(&mut self) {
        self.chunks.end_replay();
    }

    /// Says that images are taken: what one of them has stays in the file, and checks are kept.
    pub(in crate::upsert) fn keep_images(&mut self) {
        self.keeps_checks = K::Rows::FILES;
        self.chunks.keep_images();
    }

    /// Begins the round of an image: its segments are to be [captured](State::capture), from 0 on; then its chunks
    /// [written](State::write_round); then the file is to be synced, and what names all of it written; then the round is
    /// [ended](State::end_round).
    ///
    /// Each segment may be captured at another time, of the feedback's: the state goes on in between.
    pub(in crate::upsert) fn begin_round(&mut self) {
        self.captured.clear();
        self.chunks.begin_round();
    }

    /// Captures the segment from `from` on: 0, or the [end](super::super::index::Prefix::end) of the one before, until that is 2^32.
    /// The state must be exact: it has all updates below a time, and no other.
    ///
    /// # Errors
    ///
    /// What reading a piece of the image before reports.
    pub(in crate::upsert) fn capture(&mut self, from: u64) -> Result<Captured, Error> {
        let hashed = self.index.hash_at(from);
        self.read_piece(hashed)?;
        if !self.is_settled() {
            // With the updates that waited, the piece is not a collection.
            let what = "the feedback is not a collection where an image is taken of it";
            return Err(damaged_shard(what.to_string()));
        }
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
    pub(in crate::upsert) fn write_round(
        &mut self,
        bytes_max: usize,
    ) -> Result<Option<Vec<Chunked>>, Error> {
        if self.chunks.tail_is_captured(&self.captured) {
            let full = self.chunks.tail();
            // Sealed, and not compacted: a drain may be looking at its rows.
            match crate::mutant::on("round_compacts_tail") {
                true => self.next_tail(0)?,
                false => self.chunks.next_tail::<K, V>(0).map_err(|_| Broken::Full)?,
            }
            // Its last row may have died in the round.
            if self.chunks.live(full) == 0 {
                self.chunks.free::<K, V>(full, None)?;
            }
        }
        let is_whole = self.chunks.write_round(bytes_max)?;
        Ok(is_whole.then(|| self.chunks.table(&self.captured)))
    }

    /// Ends the round, whose image is durable.
    pub(in crate::upsert) fn end_round(&mut self) {
        self.chunks.end_round();
    }

    /// Gives the round up: the image before it is the one that counts.
    pub(in crate::upsert) fn give_round_up(&mut self) {
        self.chunks.give_round_up();
    }

    /// Says that images have ended, the last one included.
    pub(in crate::upsert) fn end_images(&mut self) {
        self.chunks.end_images();
    }

    /// Whether the segment of a hash is yet to be read.
    #[inline]
    pub(super) fn is_unread(&self, hash: u64) -> bool {
        self.index.has_unread() && self.index.unread(Hashed::of(hash)).is_some()
    }

    /// Keeps an update if its segment is yet to be read; returns whether it did. Where the updates of a segment take more memory
    /// than its entries would, the segment is read.
    #[inline]
    pub(super) fn defers(
        &mut self,
        hash: u64,
        key: &K,
        value: &V,
        diff: isize,
    ) -> Result<bool, Broken> {
        if self.index.has_unread() { self.defer(hash, key, value, diff) } else { Ok(false) }
    }

    #[cold]
    fn defer(&mut self, hash: u64, key: &K, value: &V, diff: isize) -> Result<bool, Broken> {
        let hashed = Hashed::of(hash);
        let Some((piece, entries)) = self.index.unread(hashed) else { return Ok(false) };
        let bytes = self.deferred.put(piece, key, value, diff);
        let fits = |bytes: usize| bytes <= entries * ENTRY_BYTES;
        if !bytes.is_some_and(fits) && !crate::mutant::on("defers_without_end") {
            self.read_piece(hashed)?;
        }
        Ok(bytes.is_some())
    }

    /// Reads the pieces of keys that are about to be looked for.
    ///
    /// # Errors
    ///
    /// What reading one reports; `Full` is `Unavailable`.
    pub(in crate::upsert) fn bring<'a>(
        &mut self,
        mut keys: impl Iterator<Item = (u64, &'a K)>,
    ) -> Result<(), Error>
    where
        K: 'a,
    {
        if !self.index.has_unread() {
            return Ok(());
        }
        Ok(keys.try_for_each(|(hash, _)| self.read_piece(Hashed::of(hash)))?)
    }

    /// Reads the piece of an image that has a hash, if that is still to be done, and applies what waits for it.
    #[inline]
    pub(super) fn read_piece(&mut self, hashed: Hashed) -> Result<(), Broken> {
        if self.index.has_unread() { self.read_piece_of(hashed) } else { Ok(()) }
    }

    #[cold]
    fn read_piece_of(&mut self, hashed: Hashed) -> Result<(), Broken> {
        let (Some((piece, _)), Some(read)) = (self.index.unread(hashed), &mut self.pieces) else {
            return Ok(());
        };
        let bytes = read(piece)?;
        if !self.index.read(hashed, &bytes) {
            let what = format!("piece {piece} of the state's image is not what its table says");
            let hint = "start again: the image is removed, and the state read from the shard";
            return Err(Error::new(ErrorKind::StateLost, what).hint(hint).into());
        }
        if !self.index.has_unread() {
            self.pieces = None;
        }
        let Some(updates) = self.deferred.begin::<K, V>(piece) else { return Ok(()) };
        // Until all of them are in, the file may have later versions of the piece's rows, as in any replay. A row that was read
        // as such dies by one of them.
        let replays = self.chunks.replay(!crate::mutant::on("waiting_is_no_replay"));
        for (key, value, diff) in updates.iter::<K, V>() {
            self.apply(key.key_hash(), &key, &value, diff)?;
        }
        self.chunks.replay(replays);
        self.deferred.end(piece);
        Ok(())
    }

    /// Reads all pieces that are left.
    pub(super) fn read_all_pieces(&mut self) -> Result<(), Broken> {
        let mut from = 0;
        while self.index.has_unread() && from < 1 << 32 {
            let hashed = self.index.hash_at(from);
            self.read_piece(hashed)?;
            from = self.index.entries(hashed).0.end();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "deferred_tests.rs"]
mod deferred_tests;
#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
