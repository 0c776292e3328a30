//! Owns the bytes of the file `marks` of a log: how far it is durable, and what of it is gone. Pure; when they are
//! written is [`append`](super::append)'s, [`ready`](super::ready)'s and [`collect`](super::collect)'s.
//!
//! Four blocks of 512 bytes, each written in one go. Little-endian.
//!
//! ```text
//! header    "DULOGMRK" | version u32 = 1 | 0 u32 | crc32c u32
//! bounds    floor u64 | gone u64 | first u64 | crc32c u32
//! bounds    the same again
//! durable   segment u64 | place u64 | crc32c u32
//! ```
//!
//! The bounds are written and synced twice, one after the other, so that one of both is whole at any moment and
//! after damage to either. *durable* is written after each sync of a segment and not synced itself: it may be
//! behind, never ahead.

use super::segment::HEADER;

const BLOCK: usize = 512;
/// The length of the file.
pub(super) const LEN: usize = 4 * BLOCK;
/// Where the two blocks of bounds begin.
pub(super) const BOUNDS_AT: [u64; 2] = [BLOCK as u64, 2 * BLOCK as u64];
/// Where the durable place begins.
pub(super) const DURABLE_AT: u64 = 3 * BLOCK as u64;

const MAGIC: &[u8; 8] = b"DULOGMRK";
const VERSION: u32 = 1;

/// What of a log is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bounds {
    /// Entries up to this number may be gone.
    pub(super) floor: u64,
    /// Entries up to this number are gone; at most the floor.
    pub(super) gone: u64,
    /// The number of the first segment that is there.
    pub(super) first: u64,
}

/// A place in the log, in the order of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) at: u64,
}

impl Place {
    /// The start of a segment.
    pub(super) fn start(segment: u64) -> Place {
        Place { segment, at: HEADER }
    }
}

/// All that the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) bounds: Bounds,
    /// `None` if it cannot be read: it is being written, or was when the power went.
    pub(super) durable: Option<Place>,
}

impl Bounds {
    pub(super) fn encode(self) -> Vec<u8> {
        sealed(&[self.floor, self.gone, self.first])
    }
}

impl Place {
    pub(super) fn encode(self) -> Vec<u8> {
        sealed(&[self.segment, self.at])
    }
}

fn sealed(words: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn unsealed<const N: usize>(block: &[u8]) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.copy_from_slice(bytes);
        *word = u64::from_le_bytes(raw);
    }
    block.starts_with(&sealed(&words)).then_some(words)
}

impl Marks {
    /// Encodes the whole file.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = header();
        let durable = self.durable.map(Place::encode).unwrap_or_default();
        for block in [self.bounds.encode(), self.bounds.encode(), durable] {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            bytes.extend(block);
        }
        bytes.resize(LEN, 0);
        bytes
    }

    /// Decodes it; `None` if it is damaged.
    pub(super) fn decode(bytes: &[u8; LEN]) -> Option<Marks> {
        if !bytes.starts_with(&header()) {
            return None;
        }
        let bounds = |block: usize| {
            let [floor, gone, first] = unsealed(&bytes[block * BLOCK..(block + 1) * BLOCK])?;
            Some(Bounds { floor, gone, first })
        };
        let bounds = bounds(1).max(bounds(2))?;
        let durable = unsealed(&bytes[3 * BLOCK..]).map(|[segment, at]| Place { segment, at });
        // A power loss may have left one from before a collection.
        let durable = durable.map(|durable| durable.max(Place::start(bounds.first)));
        Some(Marks { bounds, durable })
    }
}

fn header() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        bounds: Bounds { floor: 12, gone: 9, first: 3 },
        durable: Some(Place { segment: 4, at: 4096 }),
    };

    fn bytes(marks: Marks) -> [u8; LEN] {
        marks.encode().try_into().unwrap()
    }

    #[test]
    fn a_flip_changes_no_bounds_and_hides_the_durable_place_at_the_most() {
        let whole = bytes(MARKS);
        assert_eq!(Marks::decode(&whole), Some(MARKS));
        for at in 0..LEN {
            for mask in [1 << (at % 8), 0xff] {
                let mut flipped = whole;
                flipped[at] ^= mask;
                let Some(marks) = Marks::decode(&flipped) else {
                    assert!(at < BLOCK, "byte {at}");
                    continue;
                };
                assert_eq!(marks.bounds, MARKS.bounds, "byte {at}");
                assert!([MARKS.durable, None].contains(&marks.durable), "byte {at}");
            }
        }
    }

    #[test]
    fn bounds_that_were_half_written_are_those_of_before_or_after() {
        let next = Bounds { floor: 20, gone: 9, first: 3 };
        for block in BOUNDS_AT {
            for length in 0..=next.encode().len() {
                let mut torn = bytes(MARKS);
                let at = block as usize;
                torn[at..at + length].copy_from_slice(&next.encode()[..length]);
                let bounds = Marks::decode(&torn).unwrap().bounds;
                assert!([MARKS.bounds, next].contains(&bounds), "{bounds:?}");
            }
        }
    }
}
