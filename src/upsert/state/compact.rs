//! Owns how rows leave their chunks: those that die, and the live ones of a chunk that is mostly dead, which move to the tail. It
//! does not own which rows live.

use super::super::chunks::damaged;
use super::super::chunks::taken::Taken;
use super::super::entry::{Entry, Hashed, Placed};
use super::super::rows::{Kept, Rows};
use super::super::slot::Slot;
use super::{Broken, State};

/// Rows of a chunk that are looked for together.
const MOVE_WINDOW: usize = 256;

impl<K, V> State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    /// Seals the tail and takes another chunk, if more than `spare` of them are left.
    pub(super) fn next_tail(&mut self, spare: usize) -> Result<(), Broken> {
        let full = self.chunks.tail();
        // A tail that is mostly dead gives its chunk back at once.
        let is_dead = self.chunks.is_mostly_dead(full);
        let dead = is_dead && !self.some_wait();
        if is_dead && !dead {
            self.owed.insert(full);
        }
        let spare = if dead { 0 } else { spare };
        self.chunks.next_tail::<K, V>(spare).map_err(|_| Broken::Full)?;
        // Rows die in the tail, too, and it is not compacted while it is one. What is left fits into the new tail.
        if dead && !crate::mutant::on("leak_tail_chunk") {
            self.compact(full)?;
        }
        Ok(self.keep_bound()?)
    }

    /// Counts a row as dead and, when half of its chunk is, moves the live ones out.
    pub(super) fn bury(&mut self, slot: Slot, share: usize) -> Result<(), Broken> {
        let chunk = slot.chunk() as u32;
        let is_tail = chunk == self.chunks.tail();
        // What a round has captured of the tail stays apart from what comes after.
        let stays = is_tail && self.chunks.in_round();
        let leaks = stays || is_tail && crate::mutant::on("leak_tail_chunk");
        if self.chunks.bury(slot, share) && !leaks {
            // Not one row is live, in the tail or elsewhere: the chunk begins anew.
            self.chunks.free(chunk, None)?;
        } else if !is_tail && self.chunks.is_mostly_dead(chunk) {
            match self.chunks.replays() || self.some_wait() {
                true => drop(self.owed.insert(chunk)),
                false => return self.compact(chunk),
            }
        }
        Ok(())
    }

    /// Whether updates wait for their segments: then rows stay in their places. Such updates go in when their segment is read,
    /// and that may be in the middle of a drain, which has noted where rows are.
    fn some_wait(&self) -> bool {
        !self.deferred.is_empty() && !crate::mutant::on("moves_while_some_wait")
    }

    /// Whether there is something to [catch up](State::catch_up) with.
    pub(in crate::upsert) fn is_behind(&self) -> bool {
        let has_some = !self.deferred.is_empty() || !self.owed.is_empty();
        has_some && !self.chunks.replays()
    }

    /// Does some of what was put off: reads pieces of an image that updates wait for, then compacts chunks that could not be
    /// while some did. Not while a drain is under way.
    ///
    /// # Errors
    ///
    /// What reading or writing reports.
    pub(in crate::upsert) fn catch_up(&mut self, steps: usize) -> Result<(), Broken> {
        for _ in 0..steps {
            if !self.is_behind() {
                break;
            }
            if let Some(hash) = self.deferred.first::<K, V>() {
                self.read_piece(Hashed::of(hash))?;
            } else if let Some(chunk) = self.owed.pop_first()
                && chunk != self.chunks.tail()
                && self.chunks.is_mostly_dead(chunk)
                && !crate::mutant::on("debt_forgiven")
            {
                self.compact(chunk)?;
            }
        }
        Ok(())
    }

    /// Moves the live rows of a chunk to the tail and frees it. Rows leave one by one, each whole: if there were no room
    /// for one, it and the rest would stay where they are.
    fn compact(&mut self, chunk: u32) -> Result<(), Broken> {
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
        let (mut hashes, mut rows, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut all =
            std::iter::successors(taken.rows.next(None), |row| taken.rows.next(Some(*row)));
        loop {
            rows.clear();
            rows.extend(all.by_ref().take(MOVE_WINDOW));
            if rows.is_empty() {
                break;
            }
            hashes.clear();
            hashes.extend(rows.iter().map(|row| Hashed::of(taken.rows.key_hash(*row))));
            if !crate::mutant::on("moves_what_is_read") {
                // An entry that is yet to be read would not be found, and its row taken for dead.
                hashes.iter().try_for_each(|hashed| self.read_piece(*hashed))?;
            }
            found.clear();
            found.extend(hashes.iter().map(|hashed| self.index.find(*hashed, |_| true).copied()));
            for ((row, hashed), first) in rows.iter().zip(&hashes).zip(&found) {
                let slot = Slot::new(chunk, *row);
                let entry = match first {
                    Some(first) if first.slot() == slot => Some(*first),
                    Some(first) if first.is_shared() => self.index.at(*hashed, slot).copied(),
                    _ => None,
                };
                if let Some(entry) = entry
                    && !self.move_row(taken, *row, &entry)?
                {
                    return Ok(false);
                }
            }
        }
        // What lives there and was not found would be lost.
        if self.chunks.live(chunk) == 0 { Ok(true) } else { Err(damaged(chunk as usize).into()) }
    }

    /// Copies a live row to the tail. Returns whether there was room.
    fn move_row(
        &mut self,
        taken: &Taken<K::Rows>,
        row: u32,
        entry: &Entry,
    ) -> Result<bool, Broken> {
        let slot = entry.slot();
        if taken.is_cold && !self.chunks.is_row::<K, V>(entry, &taken.rows, row) {
            return Err(damaged(slot.chunk()).into());
        }
        let moved = loop {
            match self.chunks.push_row(&taken.rows, row) {
                Some(moved) => break moved,
                None => match self.next_tail(0) {
                    Ok(()) => {}
                    Err(Broken::Full) => return Ok(false),
                    Err(broken) => return Err(broken),
                },
            }
        };
        let (class, check) = (entry.class(), entry.check);
        self.put(entry.hashed(), slot, Placed { slot: moved, class, check });
        self.chunks.moved(taken, row);
        Ok(true)
    }
}
