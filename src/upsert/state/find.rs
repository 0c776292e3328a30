//! Owns how a key's row is found: what can be told without reading it, what is read ahead, and what at once. It does not own
//! what becomes of the row.

use super::super::cold::Fetched;
use super::super::entry::{Entry, Hashed, check};
use super::super::rows::{Kept, Rows};
use super::super::slot::Slot;
use super::{Broken, State};
use crate::error::Error;

/// How often the state has changed what may be found in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upsert) struct Version {
    entries: u64,
    freed: u64,
}

impl<K, V> State<K, V>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
{
    /// Returns what the index has of a key: its row or, where that is cold, one that may be it.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &K) -> Option<Entry> {
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
    /// many keys at once. Of a segment that is yet to be read nothing is found: a drain [brings](State::bring) it before.
    pub(in crate::upsert) fn find_all<'a>(
        &self,
        keys: impl Iterator<Item = (u64, &'a K)> + Clone,
        found: &mut Vec<Option<Entry>>,
    ) where
        K: 'a,
    {
        found.clear();
        let first = |hash| self.index.find(Hashed::of(hash), |_| true).copied();
        found.extend(keys.clone().map(|(hash, _)| first(hash)));
        for (found, (hash, key)) in found.iter_mut().zip(keys) {
            if found.is_some_and(|entry| self.is_key(&entry, key) == Some(false)) {
                *found = self.find(hash, key);
            }
        }
    }

    /// Returns the version that what is found now is of.
    pub(in crate::upsert) fn version(&self) -> Version {
        Version { entries: self.index.version(), freed: self.chunks.freed }
    }

    /// Returns what is known now of a row that was found at a version; `None` if its key is to be looked for anew.
    #[inline]
    pub(in crate::upsert) fn still(
        &self,
        version: Version,
        found: Entry,
        hash: u64,
    ) -> Option<Entry> {
        let now = self.version();
        if now == version || crate::mutant::on("found_stays_good") {
            return Some(found);
        }
        // Of the hash and the place there may be another key's row by now, if the chunk was emptied.
        let same_places = now.freed == version.freed;
        same_places.then(|| self.index.at(Hashed::of(hash), found.slot()).copied()).flatten()
    }

    /// Whether the row of an entry has this key; `None` if it would have to be read.
    #[inline]
    fn is_key(&self, entry: &Entry, key: &K) -> Option<bool> {
        self.chunks.at(entry.slot()).map(|(rows, row)| rows.key_is(row, key))
    }

    /// As [`find`](State::find), for feedback: a row is read only where the hash alone cannot say whether it is the key's.
    pub(super) fn seek(&mut self, hash: u64, key: &K) -> Result<Option<Entry>, Broken> {
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
    pub(super) fn find_surely(&mut self, hash: u64, key: &K) -> Result<Option<Entry>, Broken> {
        let all = self.index.all(Hashed::of(hash));
        if let Some(here) = all.iter().find(|entry| self.is_key(entry, key) == Some(true)) {
            return Ok(Some(*here));
        }
        // One by one: all of them may be more than is kept of what was read.
        for entry in all {
            self.chunks.fetch_now::<K, V>(&entry)?;
            if self.is_key(&entry, key) == Some(true) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Whether an entry has the value that is to be retracted.
    #[inline]
    pub(super) fn retracts(&self, hash: u64, entry: &Entry, value: &V) -> bool {
        match self.chunks.at(entry.slot()) {
            Some((rows, row)) if !self.chunks.replays() => rows.value_is(row, value),
            _ => entry.check == check(hash, K::Rows::value_hash(value)),
        }
    }

    /// Begins to read the rows of entries that are not here, as many as may be read at once, the first ones first.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no file.
    pub(in crate::upsert) fn fetch(
        &mut self,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<Fetched, Error> {
        self.chunks.fetch(entries)
    }

    /// Whether more may be read at once than is being read.
    pub(in crate::upsert) fn has_room_to_read(&self) -> bool {
        self.chunks.has_room_to_read()
    }

    /// Takes in the rows that were read.
    ///
    /// # Errors
    ///
    /// `StateLost` if one could not be read, or what was read is not the row that was written.
    pub(in crate::upsert) fn arrive(&mut self) -> Result<(), Error> {
        self.chunks.arrive::<K, V>()
    }

    /// Whether the row of an entry is in memory.
    #[inline]
    pub(in crate::upsert) fn is_here(&self, entry: &Entry) -> bool {
        !self.has_cold() || self.chunks.at(entry.slot()).is_some()
    }

    /// Whether the row of an entry is being read.
    pub(in crate::upsert) fn is_under_way(&self, entry: &Entry) -> bool {
        self.chunks.is_under_way(entry.slot())
    }

    /// Returns the place of the key for which an entry was [found](State::find_all), now that its row is
    /// [here](State::is_here). The state has stood still since: a drain is under way.
    ///
    /// # Errors
    ///
    /// What reading others of the same hash reports.
    #[inline]
    pub(in crate::upsert) fn confirm(
        &mut self,
        hash: u64,
        key: &K,
        entry: &Entry,
    ) -> Result<Option<Slot>, Error> {
        // Where no row is cold, it was compared as it was found.
        if !self.has_cold() || self.is_key(entry, key) == Some(true) {
            return Ok(Some(entry.slot()));
        }
        Ok(self.find_surely(hash, key)?.map(|entry| entry.slot()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny::{Key, Value};
    use super::*;
    use crate::upsert::rows::KeyHash;

    /// A chunk that was emptied has another key's row, of the same hash, at the place of one that was found.
    #[test]
    fn a_place_in_a_chunk_that_was_emptied_is_looked_for_anew() {
        let (key, other, value) = (Key(0), Key(7), Value(1));
        let hash = key.key_hash();
        assert_eq!(hash, other.key_hash());
        let find = |state: &State<_, _>, key: &Key| {
            let mut found = Vec::new();
            state.find_all([(hash, key)].into_iter(), &mut found);
            found[0].unwrap()
        };
        let mut state = State::default();
        state.apply(hash, &key, &value, 1).unwrap();
        let (found, version) = (find(&state, &key), state.version());
        assert_eq!(state.still(version, found, hash), Some(found));
        state.apply(hash, &key, &value, -1).unwrap();
        state.apply(hash, &other, &value, 1).unwrap();
        assert_eq!(find(&state, &other).slot(), found.slot());
        assert_eq!(state.still(version, found, hash), None);
    }
}
