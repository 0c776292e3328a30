//! Owns the updates that wait for their segment: those of an image's segments that are yet to be read. It does not own
//! segments, nor when one is read.
//!
//! Updates since the image touch nearly every segment; the first commands of a start touch few. So an update does not read
//! its segment: it waits, and goes into the state with the others once the segment is read.

use super::chunks::CHUNK_BYTES;
use super::rows::Rows;

/// The updates of each piece that has some.
#[derive(Debug)]
pub struct Deferred<R> {
    /// By the piece's number.
    pieces: Vec<Option<Updates<R>>>,
    /// Pieces that have some.
    count: usize,
    /// No piece below this has some.
    first: usize,
    /// The bytes of all updates.
    bytes: usize,
}

/// Updates of one piece, in the order in which they came.
#[derive(Debug, Default)]
pub struct Updates<R> {
    rows: R,
    diffs: Vec<isize>,
}

impl<R: Default> Default for Deferred<R> {
    fn default() -> Self {
        Deferred { pieces: Vec::new(), count: 0, first: 0, bytes: 0 }
    }
}

impl<R: Default> Deferred<R> {
    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the bytes allocated, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.pieces.capacity() * size_of::<Option<Updates<R>>>()
    }

    /// Returns the hash of a key that has some, of the first piece.
    pub fn first<K, V>(&mut self) -> Option<u64>
    where
        R: Rows<K, V>,
    {
        while let Some(None) = self.pieces.get(self.first) {
            self.first += 1;
        }
        let Updates { rows, .. } = self.pieces.get(self.first)?.as_ref()?;
        rows.next(None).map(|row| rows.key_hash(row))
    }

    /// Adds an update. Returns the bytes that those of its piece take now; `None`, and adds nothing, where they have no room.
    pub fn put<K, V>(&mut self, piece: u32, key: &K, value: &V, diff: isize) -> Option<usize>
    where
        R: Rows<K, V>,
    {
        let at = piece as usize;
        if at >= self.pieces.len() {
            self.pieces.resize_with(at + 1, || None);
        }
        if self.pieces[at].is_none() {
            self.count += 1;
            self.first = self.first.min(at);
        }
        let updates = self.pieces[at].get_or_insert_default();
        let before = updates.bytes::<K, V>();
        updates.rows.push(CHUNK_BYTES, key, value)?;
        updates.diffs.push(diff);
        let now = updates.bytes::<K, V>();
        self.bytes = self.bytes - before + now;
        Some(now)
    }

    /// Takes the updates of a piece, which is read. [`is_empty`](Deferred::is_empty) stays false until its
    /// [end](Deferred::end).
    pub fn begin<K, V>(&mut self, piece: u32) -> Option<Updates<R>>
    where
        R: Rows<K, V>,
    {
        let updates = std::mem::take(self.pieces.get_mut(piece as usize)?.as_mut()?);
        self.bytes -= updates.bytes::<K, V>();
        Some(updates)
    }

    /// Says that the updates of a piece are in the state.
    pub fn end(&mut self, piece: u32) {
        let ended = self.pieces.get_mut(piece as usize).and_then(Option::take);
        self.count -= usize::from(ended.is_some());
        if self.count == 0 {
            *self = Deferred::default();
        }
    }
}

impl<R> Updates<R> {
    fn bytes<K, V>(&self) -> usize
    where
        R: Rows<K, V>,
    {
        self.rows.heap_bytes() + self.diffs.capacity() * size_of::<isize>()
    }

    /// Returns each update, in order.
    pub fn iter<K, V>(&self) -> impl Iterator<Item = (K, V, isize)>
    where
        R: Rows<K, V>,
    {
        let rows = std::iter::successors(self.rows.next(None), |row| self.rows.next(Some(*row)));
        rows.zip(&self.diffs).map(|(row, diff)| {
            let (key, value) = self.rows.get(row);
            (key, value, *diff)
        })
    }
}
