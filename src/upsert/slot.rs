//! Owns how a place in the state is named: a chunk and a row in it, in 40 bits. It does not own what is there.

/// Bits of a slot that name the row.
pub const ROW_BITS: u32 = 17;
/// Bits of a slot that name the chunk.
pub const CHUNK_BITS: u32 = 23;
/// Bits of a slot.
pub const SLOT_BITS: u32 = ROW_BITS + CHUNK_BITS;

/// Bytes of a unit in which rows are numbered, where they lie in bytes.
pub const ROW_UNIT: usize = 8;

/// The place of a row, good until the state next changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u64);

impl Slot {
    /// Returns the place of a row in a chunk.
    #[inline]
    pub fn new(chunk: u32, row: u32) -> Slot {
        Slot((u64::from(chunk) << ROW_BITS) | u64::from(row))
    }

    /// Returns a place by its bits.
    #[inline]
    pub fn of(bits: u64) -> Slot {
        Slot(bits)
    }

    /// Returns the bits.
    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the chunk.
    #[inline]
    pub fn chunk(self) -> usize {
        (self.0 >> ROW_BITS) as usize
    }

    /// Returns the row in its chunk.
    #[inline]
    pub fn row(self) -> u32 {
        (self.0 & ((1 << ROW_BITS) - 1)) as u32
    }
}
