//! Owns the index of the state: from the hash of a key to where its row is, and what is known of the row without
//! reading it. It does not own rows, and never reads one: also where it grows.
//!
//! Extendible hashing: a directory over the top bits of the hash names segments, each a small hash table. A segment that
//! is full is split in two, so the index grows by a few thousand entries at a time, and never all at once.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Found;

use super::slot::{SLOT_BITS, Slot};

/// Entries of a segment; then it is split. As many as a table of 8,192 buckets takes.
const SEGMENT_MAX: usize = 7 << 10;

/// Top bits that name a segment.
const DEPTH_MAX: u32 = 24;

/// What the index keeps of a key's hash: 50 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Where it is looked for.
    high: u32,
    /// 18 bits more, by which nearly all other keys are told apart.
    low: u32,
}

const LOW_BITS: u32 = 18;

impl Hashed {
    /// Spreads a 64-bit hash whose low and high bits may be poor.
    #[inline]
    pub fn of(hash: u64) -> Hashed {
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let low = (mixed >> (32 - LOW_BITS)) as u32 & ((1 << LOW_BITS) - 1);
        Hashed { high: (mixed >> 32) as u32, low }
    }

    /// Spreads the high bits over the 64 that a table wants.
    #[inline]
    fn spread(self) -> u64 {
        spread(self.high)
    }
}

/// Returns the top bits, as a mask.
fn high_bits(bits: u32) -> u32 {
    (u64::MAX << (32 - bits)) as u32
}

#[inline]
fn spread(high: u32) -> u64 {
    u64::from(high).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    high: u32,
    /// A hash of the row's value; 0 where none is kept.
    pub value_hash: u32,
    /// From the low end: the slot, the size class, two flags, the low bits of the hash.
    word: u64,
}

const CLASS_AT: u32 = SLOT_BITS;
const CLASS_BITS: u32 = 4;
const SHARED: u64 = 1 << (CLASS_AT + CLASS_BITS);
const TOUCHED: u64 = SHARED << 1;
const LOW_AT: u32 = 64 - LOW_BITS;

impl Entry {
    /// Returns the entry of a row.
    #[inline]
    pub fn new(hashed: Hashed, place: Placed) -> Entry {
        let mut entry = Entry {
            high: hashed.high,
            value_hash: place.value_hash,
            word: u64::from(hashed.low) << LOW_AT,
        };
        entry.put(place);
        entry
    }

    /// Says that the row is somewhere else, or another.
    #[inline]
    pub fn put(&mut self, Placed { slot, class, value_hash }: Placed) {
        self.value_hash = value_hash;
        let rest = self.word & (u64::MAX << (CLASS_AT + CLASS_BITS));
        self.word = rest | slot.bits() | u64::from(class) << CLASS_AT;
    }

    /// Returns where the row is.
    #[inline]
    pub fn slot(&self) -> Slot {
        Slot::of(self.word & ((1 << SLOT_BITS) - 1))
    }

    /// Returns the class of the row's size.
    pub fn class(&self) -> Class {
        Class((self.word >> CLASS_AT) as u8 & ((1 << CLASS_BITS) - 1))
    }

    /// Whether another key had the same hash, all of it that is kept, while this one was here.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.word & SHARED != 0
    }

    /// Whether it was [touched](Entry::touch).
    pub fn is_touched(&self) -> bool {
        self.word & TOUCHED != 0
    }

    /// Marks it, or takes the mark away.
    pub fn touch(&mut self, is_touched: bool) {
        self.word = self.word & !TOUCHED | if is_touched { TOUCHED } else { 0 };
    }

    #[inline]
    fn is_of(&self, hashed: Hashed) -> bool {
        self.high == hashed.high && (self.word >> LOW_AT) as u32 == hashed.low
    }

    /// Returns what it keeps of the key's hash.
    pub fn hashed(&self) -> Hashed {
        Hashed { high: self.high, low: (self.word >> LOW_AT) as u32 }
    }
}

/// Bytes of an entry in an image.
pub const ENTRY_BYTES: usize = 16;

impl Entry {
    /// Returns the entry as an image has it; a mark is not part of it.
    pub fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.high.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.value_hash.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.word & !TOUCHED).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let (low, high) = (u64::from(word(8)), u64::from(word(12)));
        Entry { high: word(0), value_hash: word(4), word: low | high << 32 }
    }
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
        u64::from(hashed.high) >> (32 - self.bits) == u64::from(self.start) >> (32 - self.bits)
    }

    /// Whether a key's hash is one of them, or past them.
    pub fn is_up_to(&self, hashed: Hashed) -> bool {
        self.start <= hashed.high
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

/// Where a row is, how large, and what its value's hash is.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The place.
    pub slot: Slot,
    /// The class of its size.
    pub class: Class,
    /// A hash of its value; 0 where none is kept.
    pub value_hash: u32,
}

/// A size, up to a factor of two: at most `8 << class` bytes. The last class is that of all larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    const LAST: u8 = (1 << CLASS_BITS) - 1;

    /// Returns the class of a size in bytes.
    #[inline]
    pub fn of(bytes: usize) -> Class {
        let class = bytes.div_ceil(8).next_power_of_two().trailing_zeros() as u8;
        Class(class.min(Class::LAST))
    }

    /// Returns how many bytes are enough; `None` if that cannot be told.
    pub fn bytes(self) -> Option<usize> {
        (self.0 < Class::LAST).then_some(8 << self.0)
    }
}

impl From<Class> for u64 {
    fn from(Class(class): Class) -> u64 {
        class.into()
    }
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
}

#[derive(Debug, Default)]
struct Segment {
    table: HashTable<Entry>,
    /// The top bits that its entries have in common.
    depth: u32,
    /// The piece of an image that has them; it is read when one of them is first looked for.
    unread: Option<(u32, usize)>,
}

impl Default for Index {
    fn default() -> Self {
        let segments = vec![Segment::default()];
        Index { directory: vec![0], depth: 0, segments, len: 0, segment_bytes: 0, unread: 0 }
    }
}

impl Index {
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
            segments.push(Segment { table: HashTable::new(), depth: prefix.bits, unread });
        }
        let len = pieces.iter().map(|piece| piece.entries).sum();
        Some(Index { directory, depth, unread: segments.len(), segments, len, segment_bytes: 0 })
    }

    /// Whether a segment is yet to be read.
    #[inline]
    pub fn has_unread(&self) -> bool {
        self.unread > 0
    }

    /// Returns the piece that is to be read before a hash is looked for.
    pub fn unread(&self, hashed: Hashed) -> Option<u32> {
        self.segments[self.segment(hashed)].unread.map(|(piece, _)| piece)
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
        let start = hashed.high & high_bits(segment.depth);
        let prefix = Prefix { start, bits: segment.depth };
        segment.table.reserve(count, |entry| spread(entry.high));
        for entry in entries.iter().map(Entry::from_bytes) {
            if !prefix.has(entry.hashed()) {
                segment.table.clear();
                return false;
            }
            segment.table.insert_unique(spread(entry.high), entry, |entry| spread(entry.high));
        }
        segment.unread = None;
        self.segment_bytes += segment.table.allocation_size();
        self.unread -= 1;
        true
    }

    /// Returns a hash of the segment from `from` on, which is 0 or the [end](Prefix::end) of one before.
    pub fn hash_at(&self, from: u64) -> Hashed {
        Hashed { high: from.min(u64::from(u32::MAX)) as u32, low: 0 }
    }

    /// Returns the entries of a segment that is read, and their hashes.
    pub fn entries(&self, hashed: Hashed) -> (Prefix, impl Iterator<Item = &Entry>) {
        let Segment { table, depth, .. } = &self.segments[self.segment(hashed)];
        let prefix = Prefix { start: hashed.high & high_bits(*depth), bits: *depth };
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
        self.directory[(u64::from(hashed.high) >> (32 - self.depth)) as usize] as usize
    }

    /// Returns the first entry of a hash that is as `is_it` says.
    #[inline]
    pub fn find(&self, hashed: Hashed, mut is_it: impl FnMut(&Entry) -> bool) -> Option<&Entry> {
        let table = &self.segments[self.segment(hashed)].table;
        table.find(hashed.spread(), |entry| entry.is_of(hashed) && is_it(entry))
    }

    /// Returns the entry of a hash and a place, to be changed.
    #[inline]
    pub fn at_mut(&mut self, hashed: Hashed, slot: Slot) -> Option<&mut Entry> {
        let segment = self.segment(hashed);
        self.segments[segment].table.find_mut(hashed.spread(), |entry| entry.slot() == slot)
    }

    /// Adds an entry. Returns whether its hash was there already, of another key: then these are marked as shared.
    pub fn insert(&mut self, hashed: Hashed, placed: Placed) -> bool {
        let mut segment = self.segment(hashed);
        while self.segments[segment].table.len() >= SEGMENT_MAX && self.split(segment) {
            segment = self.segment(hashed);
        }
        let table = &mut self.segments[segment].table;
        let full = table.len() == table.capacity();
        let before = if full { table.allocation_size() } else { 0 };
        let mut entry = Entry::new(hashed, placed);
        let rehash = |entry: &Entry| spread(entry.high);
        let shared = match table.entry(hashed.spread(), |entry| entry.is_of(hashed), rehash) {
            Found::Vacant(vacant) => {
                vacant.insert(entry);
                false
            }
            Found::Occupied(_) => {
                entry.word |= SHARED;
                table.iter_hash_mut(hashed.spread()).filter(|e| e.is_of(hashed)).for_each(|e| {
                    e.word |= SHARED;
                });
                table.insert_unique(hashed.spread(), entry, rehash);
                true
            }
        };
        if full {
            self.segment_bytes = self.segment_bytes - before + table.allocation_size();
        }
        self.len += 1;
        shared
    }

    /// Removes the entry of a hash and a place.
    pub fn remove(&mut self, hashed: Hashed, slot: Slot) {
        let segment = self.segment(hashed);
        let table = &mut self.segments[segment].table;
        if let Ok(entry) = table.find_entry(hashed.spread(), |entry| entry.slot() == slot) {
            entry.remove();
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
        let depth = self.segments[number].depth;
        if depth == self.depth {
            let enough = 8 * (self.len / SEGMENT_MAX + 1);
            if self.directory.len() > enough || self.depth == DEPTH_MAX {
                return false;
            }
            self.directory = self.directory.iter().flat_map(|segment| [*segment; 2]).collect();
            self.depth += 1;
        }
        let Segment { table, .. } = std::mem::take(&mut self.segments[number]);
        self.segment_bytes -= table.allocation_size();
        let is_upper = |entry: &Entry| entry.high >> (31 - depth) & 1 == 1;
        let uppers = table.iter().filter(|entry| is_upper(entry)).count();
        let sized = |len| HashTable::with_capacity(len);
        let mut halves = [sized(table.len() - uppers), sized(uppers)];
        for entry in table {
            let half = &mut halves[usize::from(is_upper(&entry))];
            half.insert_unique(spread(entry.high), entry, |entry| spread(entry.high));
        }
        let [lower, upper] = halves.map(|table| Segment { table, depth: depth + 1, unread: None });
        self.segment_bytes += lower.table.allocation_size() + upper.table.allocation_size();
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
    use super::*;

    fn placed(number: u64) -> Placed {
        Placed { slot: Slot::of(number), class: Class::of(8), value_hash: number as u32 }
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
            let hashes = found.is_none_or(|e| e.value_hash == number as u32 && e.is_shared());
            assert!(hashes, "{number}: {found:?}");
        }
        let bytes: usize = index.segments.iter().map(|s| s.table.allocation_size()).sum();
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
            if let Some(piece) = copy.unread(hashed) {
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
        let bytes: usize = copy.segments.iter().map(|s| s.table.allocation_size()).sum();
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

    #[test]
    fn a_class_is_enough_and_at_most_twice_as_much() {
        for bytes in 1..=8 << 14 {
            let enough = Class::of(bytes).bytes().unwrap();
            assert!(enough >= bytes && (enough == 8 || enough < 2 * bytes), "{bytes}: {enough}");
        }
        assert_eq!(Class::of(1 << 20).bytes(), None);
    }

    /// A new place changes neither the hash nor the flags.
    #[test]
    fn an_entry_keeps_its_hash_and_flags() {
        let hashed = Hashed::of(0x1234_5678_9abc_def0);
        let mut entry = Entry::new(hashed, placed((1 << SLOT_BITS) - 1));
        entry.touch(true);
        entry.put(Placed { slot: Slot::new(3, 5), class: Class::of(100), value_hash: 9 });
        assert!(entry.is_of(hashed) && entry.is_touched() && !entry.is_shared());
        assert_eq!((entry.slot(), entry.value_hash), (Slot::new(3, 5), 9));
        assert_eq!(entry.class(), Class::of(100));
        entry.touch(false);
        assert!(!entry.is_touched());
    }
}
