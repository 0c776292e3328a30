//! Owns a table of entries: one segment of the index, in the order of their hashes. It does not own which hashes are its
//! own, nor when it is split.
//!
//! Open addressing: a hash has a home, in proportion to it, and its entries are there or, in order, directly after. What is
//! found is in one or two lines of cache, mostly; a table is split by a cut, and goes through an image in order. A hash of which
//! there are many entries makes look-ups of its own slow, and its neighbours'.

use super::entry::{Entry, Hashed};
use super::slot::Slot;

/// Places past the last home, at the least.
const PAST_HOMES: usize = 16;

/// Places in which a hash's first entry mostly is.
const NEAR: usize = 8;

/// Entries whose hashes have their top bits in common.
#[derive(Debug)]
pub struct Table {
    /// Ordered by the high half of the hash, with [`NONE`](Entry::NONE) in between, and last.
    entries: Vec<Entry>,
    /// How many of the places are homes.
    homes: u64,
    len: usize,
    /// How many of the top bits the hashes have in common.
    depth: u32,
}

impl Table {
    /// Returns a table of no entries, which takes one place of memory. It grows with the first.
    pub fn empty(depth: u32) -> Table {
        Table { entries: vec![Entry::NONE], homes: 1, len: 0, depth }
    }

    /// Returns a table of entries in any order, whose hashes have `depth` top bits in common.
    pub fn of(mut entries: Vec<Entry>, depth: u32) -> Table {
        if !entries.is_sorted_by_key(Entry::high) {
            entries.sort_unstable_by_key(Entry::high);
        }
        let len = entries.len();
        Table::of_sorted(entries.into_iter(), len, depth)
    }

    fn of_sorted(sorted: impl Iterator<Item = Entry>, len: usize, depth: u32) -> Table {
        // Four sevenths of the homes are taken; a table grows at four fifths.
        let homes = len * 7 / 4 + 4;
        let mut entries = Vec::with_capacity(homes + PAST_HOMES);
        entries.resize(homes + PAST_HOMES, Entry::NONE);
        let mut table = Table { entries, homes: homes as u64, len, depth };
        let mut next = 0;
        for entry in sorted {
            next = next.max(table.home(entry.hashed()));
            table.make_past(next);
            table.entries[next] = entry;
            next += 1;
        }
        table
    }

    /// Makes places until there is one past `at`.
    fn make_past(&mut self, at: usize) {
        if at + 1 >= self.entries.len() {
            self.entries.reserve_exact(PAST_HOMES);
            self.entries.resize(at + 1 + PAST_HOMES, Entry::NONE);
        }
    }

    /// Returns how many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of top bits that the hashes have in common.
    #[inline]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Returns the bytes allocated.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Returns the entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_none())
    }

    /// Returns the entries, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter(|entry| !entry.is_none())
    }

    /// Returns the place at which a hash is first looked for.
    // Inlined by order, as `first` is: where loops have several look-ups the compiler would make them calls.
    #[inline(always)]
    fn home(&self, hashed: Hashed) -> usize {
        let rank = u64::from(hashed.high() << self.depth);
        ((rank * self.homes) >> 32) as usize
    }

    /// Returns the first place whose entry is of no lesser high half: where the hash's own begin, if there are any.
    #[inline(always)]
    fn first(&self, hashed: Hashed) -> usize {
        let mut at = self.home(hashed);
        // Mostly it is one of a few, and which one cannot be predicted: to count the lesser ones takes no branch, and so
        // the waits for memory of many look-ups overlap. Past an empty place there are none.
        if let Some(near) = self.entries[at..].first_chunk::<NEAR>() {
            at += near.iter().map(|entry| usize::from(entry.high() < hashed.high())).sum::<usize>();
        }
        while self.entries[at].high() < hashed.high() {
            at += 1;
        }
        at
    }

    /// Returns the first entry of a hash that is as `is_it` says.
    #[inline]
    pub fn find(&self, hashed: Hashed, mut is_it: impl FnMut(&Entry) -> bool) -> Option<&Entry> {
        for entry in &self.entries[self.first(hashed)..] {
            if entry.is_of(hashed) && is_it(entry) {
                return Some(entry);
            }
            if entry.high() != hashed.high() {
                break;
            }
        }
        None
    }

    /// Returns all entries of a hash.
    pub fn all(&self, hashed: Hashed) -> impl Iterator<Item = &Entry> {
        self.alike(self.first(hashed), hashed).filter(move |entry| entry.is_of(hashed))
    }

    /// Returns the entries that have the high half of a hash, of which the first is at `first`, and maybe [none](Entry::NONE).
    #[inline]
    fn alike(&self, first: usize, hashed: Hashed) -> impl Iterator<Item = &Entry> {
        self.entries[first..].iter().take_while(move |entry| entry.high() == hashed.high())
    }

    /// Returns the entry of a hash and a place, to be changed.
    #[inline]
    pub fn find_mut(&mut self, hashed: Hashed, slot: Slot) -> Option<&mut Entry> {
        let at = self.place(hashed, slot)?;
        Some(&mut self.entries[at])
    }

    #[inline]
    fn place(&self, hashed: Hashed, slot: Slot) -> Option<usize> {
        let first = self.first(hashed);
        let at = self.alike(first, hashed).position(|entry| entry.slot() == slot)?;
        Some(first + at)
    }

    /// Adds an entry. Returns whether its hash was there already, of another key: then all of these are marked as shared.
    pub fn insert(&mut self, mut entry: Entry) -> bool {
        if (self.len as u64 + 1) * 5 > self.homes * 4 {
            self.grow();
        }
        let hashed = entry.hashed();
        let at = self.first(hashed);
        // Those of a hash are all marked, or one alone.
        let other = self.alike(at, hashed).position(|other| other.is_of(hashed));
        if let Some(other) = other {
            entry.share();
            self.entries[at + other].share();
        }
        let mut empty = at;
        while !self.entries[empty].is_none() {
            empty += 1;
        }
        self.make_past(empty);
        self.entries.copy_within(at..empty, at + 1);
        self.entries[at] = entry;
        self.len += 1;
        other.is_some()
    }

    fn grow(&mut self) {
        *self = Table::of_sorted(self.iter().copied(), self.len, self.depth);
    }

    /// Removes the entry of a hash and a place. Returns whether there was one.
    pub fn remove(&mut self, hashed: Hashed, slot: Slot) -> bool {
        let Some(at) = self.place(hashed, slot) else { return false };
        // Those after it that are not at home come one place nearer.
        let mut end = at + 1;
        while !self.entries[end].is_none() && self.home(self.entries[end].hashed()) < end {
            end += 1;
        }
        self.entries.copy_within(at + 1..end, at);
        self.entries[end - 1] = Entry::NONE;
        self.len -= 1;
        true
    }

    /// Returns the entries of the lower half of the hashes, and those of the upper half.
    pub fn split(&self) -> [Table; 2] {
        let is_lower = |entry: &&Entry| entry.high() << self.depth >> 31 == 0;
        let lower = self.iter().take_while(is_lower).count();
        let parts = [(0, lower), (lower, self.len - lower)];
        parts.map(|(skipped, len)| {
            let half = self.iter().skip(skipped).take(len).copied();
            Table::of_sorted(half, len, self.depth + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Class, Placed};
    use super::*;
    use crate::upsert::rows::KeyHash;
    use proptest::prelude::*;

    fn entry(hashed: Hashed, slot: u64) -> Entry {
        Entry::new(hashed, Placed { slot: Slot::of(slot), class: Class::of(8), check: 0 })
    }

    /// The hash of a number, whose lowest bit is the highest of the hash; of one of them, that of no entry.
    fn hashed(number: u8) -> Hashed {
        match number {
            39 => Entry::NONE.hashed(),
            _ => Hashed::of_high(u32::from(number).reverse_bits()),
        }
    }

    fn is_whole(table: &Table) {
        assert!(table.entries.last().is_some_and(Entry::is_none));
        assert!(table.iter().is_sorted_by_key(|entry| entry.high()));
        assert_eq!(table.iter().count(), table.len());
        for (at, entry) in table.entries.iter().enumerate().filter(|(_, entry)| !entry.is_none()) {
            let home = table.home(entry.hashed());
            assert!(home <= at, "{at}, {home}");
            assert!(table.entries[home..at].iter().all(|entry| !entry.is_none()));
        }
    }

    proptest! {
        /// Against a list: entries of few hashes, so that many share one, and others are in each other's homes.
        #[test]
        fn has_what_a_list_has(steps in proptest::collection::vec((any::<bool>(), 0..40u8, 0..40u64), 0..400)) {
            let mut table = Table::empty(0);
            let mut list: Vec<(u8, u64)> = Vec::new();
            let mut shared = std::collections::BTreeSet::new();
            for (is_new, number, slot) in steps {
                let at = list.iter().position(|other| *other == (number, slot));
                match at {
                    Some(at) if !is_new => {
                        prop_assert!(table.remove(hashed(number), Slot::of(slot)));
                        list.remove(at);
                        if list.iter().all(|other| other.0 != number) {
                            shared.remove(&number);
                        }
                    }
                    None if is_new => {
                        let others = list.iter().any(|other| other.0 == number);
                        prop_assert_eq!(table.insert(entry(hashed(number), slot)), others);
                        list.push((number, slot));
                        if others {
                            shared.insert(number);
                        }
                    }
                    Some(_) => prop_assert!(table.find_mut(hashed(number), Slot::of(slot)).is_some()),
                    None => prop_assert!(!table.remove(hashed(number), Slot::of(slot))),
                }
                is_whole(&table);
                let mut slots: Vec<_> = table.all(hashed(number)).map(|entry| entry.slot()).collect();
                let mut others: Vec<_> =
                    list.iter().filter(|other| other.0 == number).map(|other| Slot::of(other.1)).collect();
                slots.sort();
                others.sort();
                prop_assert_eq!(slots, others);
                let is_shared = shared.contains(&number);
                prop_assert!(table.all(hashed(number)).all(|entry| entry.is_shared() == is_shared));
            }
            let mut all: Vec<Entry> = table.iter().copied().collect();
            let mut halves = table.split();
            is_whole(&halves[0]);
            is_whole(&halves[1]);
            for (number, slot) in list {
                prop_assert!(halves[usize::from(number & 1)].find_mut(hashed(number), Slot::of(slot)).is_some());
            }
            all.reverse();
            let again = Table::of(all.clone(), 0);
            is_whole(&again);
            prop_assert_eq!(again.len(), all.len());
        }
    }

    /// Of the hashes of real keys a table is neither empty nor crowded, at any size.
    #[test]
    fn is_neither_empty_nor_crowded() {
        let mut table = Table::empty(3);
        let mut number = 0u64;
        while table.len() < 7 << 10 {
            number += 1;
            let hashed = Hashed::of(number.key_hash());
            if hashed.high() >> 29 != 5 {
                continue;
            }
            table.insert(entry(hashed, number));
            if table.len().is_multiple_of(512) {
                is_whole(&table);
                let per_entry = table.bytes() as f64 / table.len() as f64;
                assert!(
                    (19.0..30.0).contains(&per_entry),
                    "{per_entry} bytes each at {}",
                    table.len()
                );
                let places = table.entries.iter().enumerate();
                let far: usize = places
                    .filter(|(_, entry)| !entry.is_none())
                    .map(|(at, entry)| at - table.home(entry.hashed()))
                    .sum();
                let far = far as f64 / table.len() as f64;
                assert!(far < 4.0, "{far} places from home at {}", table.len());
            }
        }
    }
}
