//! Owns the index of the state: from the hash of a key to where its row is, and what is known of the row without
//! reading it. It does not own rows, and never reads one: also where it grows.
//!
//! Extendible hashing: a directory over the top bits of the hash names segments, each a small [`table`](super::table). A segment that
//! is full is split in two, so the index grows by a few thousand entries at a time, and never all at once.

use super::entry::{ENTRY_BYTES, Entry, Hashed, Placed};
use super::slot::Slot;
use super::table::Table;

/// Entries of a segment; then it is split.
const SEGMENT_MAX: usize = 7 << 10;

/// Top bits that name a segment.
const DEPTH_MAX: u32 = 24;

/// Returns the top bits, as a mask.
fn high_bits(bits: u32) -> u32 {
    (u64::MAX << (32 - bits)) as u32
}

/// The hashes of a segment: those that begin with the top `bits` bits of `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The least of the high halves.
    pub start: u32,
    /// How many bits they have in common.
    pub bits: u32,
}

impl Prefix {
    /// Whether a key's hash is one of them.
    pub fn has(&self, hashed: Hashed) -> bool {
        u64::from(hashed.high()) >> (32 - self.bits) == u64::from(self.start) >> (32 - self.bits)
    }

    /// Whether a key's hash is one of them, or past them.
    pub fn is_up_to(&self, hashed: Hashed) -> bool {
        self.start <= hashed.high()
    }

    /// Returns the least high half past them.
    pub fn end(&self) -> u64 {
        u64::from(self.start) + (1 << (32 - self.bits))
    }
}

/// A segment of which an image has the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its hashes.
    pub prefix: Prefix,
    /// Its entries.
    pub entries: usize,
}

/// One entry per live row.
#[derive(Debug)]
pub struct Index {
    /// The segment of each value of the top `depth` bits.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    len: usize,
    segment_bytes: usize,
    /// Segments that are yet to be read.
    unread: usize,
    /// How often what is known of a row has changed, or a hash has become one of several keys.
    version: u64,
}

#[derive(Debug)]
struct Segment {
    table: Table,
    /// The piece of an image that has them; it is read when one of them is first looked for.
    unread: Option<(u32, usize)>,
}

impl Default for Index {
    fn default() -> Self {
        let all = Prefix { start: 0, bits: 0 };
        let segments = vec![Segment { table: Table::empty(all.bits), unread: None }];
        Index::of(vec![0], all.bits, segments)
    }
}

impl Index {
    fn of(directory: Vec<u32>, depth: u32, segments: Vec<Segment>) -> Index {
        let segment_bytes = segments.iter().map(|segment| segment.table.bytes()).sum();
        let unread = segments.iter().filter(|segment| segment.unread.is_some()).count();
        Index { directory, depth, segments, len: 0, segment_bytes, unread, version: 0 }
    }

    /// Returns an index whose segments are the pieces of an image, none of them read yet; `None` unless their hashes are all
    /// there are, once each, in order.
    pub fn of_pieces(pieces: &[Piece]) -> Option<Index> {
        let mut end = 0;
        for Piece { prefix, .. } in pieces {
            let is_next = prefix.bits <= DEPTH_MAX && u64::from(prefix.start) == end;
            let is_aligned = is_next && end.is_multiple_of(1 << (32 - prefix.bits));
            end = if is_aligned { prefix.end() } else { return None };
        }
        if end != 1 << 32 {
            return None;
        }
        let depth = pieces.iter().map(|piece| piece.prefix.bits).max().unwrap_or(0);
        let mut directory = Vec::with_capacity(1 << depth);
        let mut segments = Vec::with_capacity(pieces.len());
        for (number, Piece { prefix, entries }) in pieces.iter().enumerate() {
            let number = number as u32;
            directory.extend(std::iter::repeat_n(number, 1 << (depth - prefix.bits)));
            let unread = Some((number, *entries));
            segments.push(Segment { table: Table::empty(prefix.bits), unread });
        }
        let len = pieces.iter().map(|piece| piece.entries).sum();
        Some(Index { len, ..Index::of(directory, depth, segments) })
    }

    /// Whether a segment is yet to be read.
    #[inline]
    pub fn has_unread(&self) -> bool {
        self.unread > 0
    }

    /// Returns the piece that is to be read before a hash is looked for, and how many entries it has.
    pub fn unread(&self, hashed: Hashed) -> Option<(u32, usize)> {
        self.segments[self.segment(hashed)].unread
    }

    /// Puts the entries of a segment that was read in their place. Returns false if they are not those of the piece.
    pub fn read(&mut self, hashed: Hashed, bytes: &[u8]) -> bool {
        let number = self.segment(hashed);
        let segment = &mut self.segments[number];
        let Some((_, count)) = segment.unread else { return true };
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() || entries.len() != count {
            return false;
        }
        let depth = segment.table.depth();
        let prefix = Prefix { start: hashed.high() & high_bits(depth), bits: depth };
        let entries: Vec<_> = entries.iter().map(Entry::from_bytes).collect();
        if !entries.iter().all(|entry| prefix.has(entry.hashed()) && !entry.is_none()) {
            return false;
        }
        let before = std::mem::replace(&mut segment.table, Table::of(entries, depth));
        segment.unread = None;
        self.segment_bytes = self.segment_bytes - before.bytes() + segment.table.bytes();
        self.unread -= 1;
        true
    }

    /// Returns a hash of the segment from `from` on, which is 0 or the [end](Prefix::end) of one before.
    pub fn hash_at(&self, from: u64) -> Hashed {
        Hashed::of_high(from.min(u64::from(u32::MAX)) as u32)
    }

    /// Returns the entries of a segment that is read, and their hashes.
    pub fn entries(&self, hashed: Hashed) -> (Prefix, impl Iterator<Item = &Entry>) {
        let table = &self.segments[self.segment(hashed)].table;
        let depth = table.depth();
        let prefix = Prefix { start: hashed.high() & high_bits(depth), bits: depth };
        (prefix, table.iter())
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the bytes allocated.
    pub fn bytes(&self) -> usize {
        let directory = self.directory.capacity() * size_of::<u32>();
        self.segment_bytes + self.segments.capacity() * size_of::<Segment>() + directory
    }

    #[inline]
    fn segment(&self, hashed: Hashed) -> usize {
        self.directory[(u64::from(hashed.high()) >> (32 - self.depth)) as usize] as usize
    }

    #[inline]
    fn table(&self, hashed: Hashed) -> &Table {
        &self.segments[self.segment(hashed)].table
    }

    /// Returns a number that stays as long as each entry that was found is as it was, and its hash one key's or several.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the first entry of a hash that is as `is_it` says.
    #[inline]
    pub fn find(&self, hashed: Hashed, is_it: impl FnMut(&Entry) -> bool) -> Option<&Entry> {
        self.table(hashed).find(hashed, is_it)
    }

    /// Returns the entry of a hash and a place.
    #[inline]
    pub fn at(&self, hashed: Hashed, slot: Slot) -> Option<&Entry> {
        self.find(hashed, |entry| entry.slot() == slot)
    }

    /// Returns all entries of a hash.
    pub fn all(&self, hashed: Hashed) -> Vec<Entry> {
        self.table(hashed).all(hashed).copied().collect()
    }

    /// Returns the entry of a hash and a place, to be changed.
    #[inline]
    pub fn at_mut(&mut self, hashed: Hashed, slot: Slot) -> Option<&mut Entry> {
        self.version += 1;
        let segment = self.segment(hashed);
        self.segments[segment].table.find_mut(hashed, slot)
    }

    /// Adds an entry. If its hash was there already, of another key, these are marked as shared.
    pub fn insert(&mut self, hashed: Hashed, placed: Placed) {
        let mut number = self.segment(hashed);
        while self.segments[number].table.len() >= SEGMENT_MAX && self.split(number) {
            number = self.segment(hashed);
        }
        let table = &mut self.segments[number].table;
        let before = table.bytes();
        let is_shared = table.insert(Entry::new(hashed, placed));
        self.version += u64::from(is_shared);
        self.segment_bytes = self.segment_bytes - before + table.bytes();
        self.len += 1;
    }

    /// Removes the entry of a hash and a place.
    pub fn remove(&mut self, hashed: Hashed, slot: Slot) {
        let segment = self.segment(hashed);
        if self.segments[segment].table.remove(hashed, slot) {
            self.version += 1;
            self.len -= 1;
        }
    }

    /// Takes all marks away. O(entries).
    pub fn untouch(&mut self) {
        for segment in &mut self.segments {
            segment.table.iter_mut().for_each(|entry| entry.touch(false));
        }
    }

    /// Splits a segment in two by the next bit of the hash. Returns false where that would help nothing: where many keys
    /// have few hashes, the directory does not grow with them.
    fn split(&mut self, number: usize) -> bool {
        let depth = self.segments[number].table.depth();
        if depth == self.depth {
            let enough = 8 * (self.len / SEGMENT_MAX + 1);
            if self.directory.len() > enough || self.depth == DEPTH_MAX {
                return false;
            }
            self.directory = self.directory.iter().flat_map(|segment| [*segment; 2]).collect();
            self.depth += 1;
        }
        let table = &self.segments[number].table;
        let [lower, upper] = table.split().map(|table| Segment { table, unread: None });
        let now = lower.table.bytes() + upper.table.bytes();
        self.segment_bytes = self.segment_bytes - table.bytes() + now;
        let new = self.segments.len() as u32;
        self.segments[number] = lower;
        self.segments.push(upper);
        // The directory's entries for the segment stand together; the upper half of them changes.
        let spread = self.depth - depth;
        let named: Vec<_> = (0..self.directory.len())
            .filter(|at| self.directory[*at] as usize == number)
            .filter(|at| at >> (spread - 1) & 1 == 1)
            .collect();
        named.into_iter().for_each(|at| self.directory[at] = new);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Class;
    use super::*;

    fn placed(number: u64) -> Placed {
        Placed { slot: Slot::of(number), class: Class::of(8), check: number as u32 }
    }

    /// Against a list: what is put in is found by its hash and place, and what is removed is not.
    #[test]
    fn finds_what_was_put_in() {
        let mut index = Index::default();
        for number in 0..100_000u64 {
            index.insert(Hashed::of(number / 2), placed(number));
        }
        assert!(index.segments.len() > 10 && index.directory.len() >= index.segments.len());
        for number in (0..100_000).step_by(3) {
            index.remove(Hashed::of(number / 2), Slot::of(number));
        }
        assert_eq!(index.len(), 100_000 - 33_334);
        for number in 0..100_000u64 {
            let found = index.find(Hashed::of(number / 2), |e| e.slot() == Slot::of(number));
            assert_eq!(found.is_some(), number % 3 != 0, "{number}");
            let hashes = found.is_none_or(|e| e.check == number as u32 && e.is_shared());
            assert!(hashes, "{number}: {found:?}");
        }
        let bytes: usize = index.segments.iter().map(|s| s.table.bytes()).sum();
        assert_eq!(index.segment_bytes, bytes);
        assert!(index.bytes() < 50 * index.len(), "{} bytes", index.bytes());
    }

    /// An index that goes through pieces has the same entries, whichever are read first, and grows on.
    #[test]
    fn goes_through_pieces() {
        let mut index = Index::default();
        for number in 0..60_000u64 {
            index.insert(Hashed::of(number), placed(number));
        }
        let (mut pieces, mut all, mut from) = (Vec::new(), Vec::new(), 0);
        while from < 1 << 32 {
            let (prefix, entries) = index.entries(index.hash_at(from));
            let bytes: Vec<u8> = entries.flat_map(|entry| entry.to_bytes()).collect();
            pieces.push(Piece { prefix, entries: bytes.len() / ENTRY_BYTES });
            all.push(bytes);
            from = prefix.end();
        }
        let mut copy = Index::of_pieces(&pieces).unwrap();
        assert_eq!((copy.len(), copy.unread), (60_000, pieces.len()));
        for number in (0..70_000u64).rev() {
            let hashed = Hashed::of(number);
            if let Some((piece, _)) = copy.unread(hashed) {
                let bytes = &all[piece as usize];
                assert!(!copy.read(hashed, &bytes[16..]) && copy.unread(hashed).is_some());
                assert!(!copy.read(hashed, &all[(piece as usize + 1) % all.len()]));
                assert!(copy.read(hashed, bytes));
            }
            let found = copy.find(hashed, |_| true).map(|entry| entry.slot());
            assert_eq!(found, (number < 60_000).then_some(Slot::of(number)));
            if found.is_none() {
                copy.insert(hashed, placed(number));
            }
        }
        assert_eq!((copy.len(), copy.has_unread()), (70_000, false));
        let bytes: usize = copy.segments.iter().map(|s| s.table.bytes()).sum();
        assert_eq!(copy.segment_bytes, bytes);
        // A gap, an overlap, a piece that is missing at the end.
        let mut others = [pieces.clone(), pieces.clone(), pieces.clone()];
        others[0].remove(3);
        let twice = others[1][2];
        others[1].insert(2, twice);
        others[2].pop();
        assert!(others.iter().all(|pieces| Index::of_pieces(pieces).is_none()));
    }

    /// Keys of few hashes are all found, and the directory stays small.
    #[test]
    fn few_hashes_do_not_split_for_ever() {
        let mut index = Index::default();
        for number in 0..30_000u64 {
            index.insert(Hashed::of(number % 3), placed(number));
        }
        assert!(index.directory.len() < 200, "{} names", index.directory.len());
        for number in 0..30_000u64 {
            let is_it = |e: &Entry| e.slot() == Slot::of(number);
            assert!(index.find(Hashed::of(number % 3), is_it).is_some());
        }
    }
}
