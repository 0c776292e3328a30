//! Owns how a place in the state is named, in 32 bits, and sets of places. It does not own what is there.

/// Bits of a slot that name the row; the rest name the chunk.
pub const ROW_BITS: u32 = 17;

/// The place of a live row, good until the state next changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// Returns the place of a row in a chunk.
    pub fn new(chunk: u32, row: u32) -> Slot {
        Slot((chunk << ROW_BITS) | row)
    }

    /// Returns a place by its bits.
    #[inline]
    pub fn of(bits: u32) -> Slot {
        Slot(bits)
    }

    /// Returns the bits.
    #[inline]
    pub fn bits(self) -> u32 {
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
        self.0 & ((1 << ROW_BITS) - 1)
    }
}

/// A set of places: a bit for each that a row can have.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    chunks: Vec<Vec<u64>>,
}

impl Slots {
    /// Adds a place.
    pub fn insert(&mut self, slot: Slot) {
        let (chunk, row) = (slot.chunk(), slot.row() as usize);
        self.chunks.resize_with(self.chunks.len().max(chunk + 1), Vec::new);
        let words = &mut self.chunks[chunk];
        words.resize(words.len().max(row / 64 + 1), 0);
        words[row / 64] |= 1 << (row % 64);
    }

    /// Whether a place was added.
    pub fn contains(&self, slot: Slot) -> bool {
        let row = slot.row() as usize;
        let word = self.chunks.get(slot.chunk()).and_then(|words| words.get(row / 64));
        word.is_some_and(|word| word & (1 << (row % 64)) != 0)
    }
}
