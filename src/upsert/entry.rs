//! Owns what the index keeps of a row: of its key's hash, where it is, how large, and a check of its value. It does not own
//! where entries are, nor rows.

use super::slot::{SLOT_BITS, Slot};

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
        let mixed = mix(hash);
        let low = (mixed >> (32 - LOW_BITS)) as u32 & ((1 << LOW_BITS) - 1);
        Hashed { high: (mixed >> 32) as u32, low }
    }

    /// Returns the high half, by which entries are ordered.
    #[inline]
    pub fn high(self) -> u32 {
        self.high
    }

    /// Returns a hash with this high half.
    pub fn of_high(high: u32) -> Hashed {
        Hashed { high, low: 0 }
    }
}

/// A bijection.
#[inline]
fn mix(hash: u64) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Returns what is kept of a row to know it by without reading it: of its value's hash and of all of its key's. The bits of
/// the key's hash that an entry drops are in it, so that two keys of one entry's hash have other checks for one value.
#[inline]
pub fn check(hash: u64, value_hash: u32) -> u32 {
    value_hash ^ (mix(hash) as u32).wrapping_mul(0x9E37_79B1)
}

/// What is known of a row, or [none](Entry::NONE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    high: u32,
    /// The [`check`] of the row; 0 where none is kept.
    pub check: u32,
    /// From the low end: the slot, the size class, two flags, the low bits of the hash.
    word: u64,
}

const CLASS_AT: u32 = SLOT_BITS;
const CLASS_BITS: u32 = 4;
const SHARED: u64 = 1 << (CLASS_AT + CLASS_BITS);
const TOUCHED: u64 = SHARED << 1;
const LOW_AT: u32 = 64 - LOW_BITS;

impl Entry {
    /// No entry: past those of all hashes, and of a place where a row of that size cannot be.
    pub const NONE: Entry = Entry { high: u32::MAX, check: 0, word: u64::MAX };

    /// Whether it is none.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.word == u64::MAX
    }

    /// Returns the entry of a row.
    #[inline]
    pub fn new(hashed: Hashed, place: Placed) -> Entry {
        let mut entry =
            Entry { high: hashed.high, check: place.check, word: u64::from(hashed.low) << LOW_AT };
        entry.put(place);
        entry
    }

    /// Says that the row is somewhere else, or another.
    #[inline]
    pub fn put(&mut self, Placed { slot, class, check }: Placed) {
        self.check = check;
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

    /// Says that another key has the same hash.
    pub fn share(&mut self) {
        self.word |= SHARED;
    }

    /// Whether it is one, and of a key with this hash, as far as that is kept.
    #[inline]
    pub fn is_of(&self, hashed: Hashed) -> bool {
        self.high == hashed.high && (self.word >> LOW_AT) as u32 == hashed.low && !self.is_none()
    }

    /// Returns the high half of its hash.
    #[inline]
    pub fn high(&self) -> u32 {
        self.high
    }

    /// Returns what it keeps of the key's hash.
    #[inline]
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
        bytes[4..8].copy_from_slice(&self.check.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.word & !TOUCHED).to_le_bytes());
        bytes
    }

    /// Returns the entry that an image has.
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let (low, high) = (u64::from(word(8)), u64::from(word(12)));
        Entry { high: word(0), check: word(4), word: low | high << 32 }
    }
}

/// Where a row is, how large, and what it is known by.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The place.
    pub slot: Slot,
    /// The class of its size.
    pub class: Class,
    /// Its [`check`]; 0 where none is kept.
    pub check: u32,
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let slot = Slot::of((1 << SLOT_BITS) - 1);
        let mut entry = Entry::new(hashed, Placed { slot, class: Class::of(8), check: 7 });
        entry.touch(true);
        entry.put(Placed { slot: Slot::new(3, 5), class: Class::of(100), check: 9 });
        assert!(entry.is_of(hashed) && entry.is_touched() && !entry.is_shared());
        assert_eq!((entry.slot(), entry.check), (Slot::new(3, 5), 9));
        assert_eq!(entry.class(), Class::of(100));
        entry.touch(false);
        assert!(!entry.is_touched());
    }

    /// Keys whose hashes an entry cannot tell apart have other checks for one value.
    #[test]
    fn a_check_tells_keys_of_one_hash_apart() {
        // The inverse of the mix, so that hashes can be made of what is kept and what is dropped.
        let inverse = (0..6).fold(1u64, |inverse, _| {
            let twice = 2u64.wrapping_sub(mix(inverse));
            inverse.wrapping_mul(twice)
        });
        let hash = |kept: u64, dropped: u64| (kept << 14 | dropped).wrapping_mul(inverse);
        let mut checks = std::collections::BTreeSet::new();
        let first = Hashed::of(hash(0x2_3456_789a_bcde, 0));
        for dropped in 0..1 << 14 {
            let hash = hash(0x2_3456_789a_bcde, dropped);
            assert_eq!(Hashed::of(hash), first);
            checks.insert(check(hash, 99));
        }
        assert_eq!(checks.len(), 1 << 14);
    }
}
