//! Owns the rows that were read from the file: for a while, and within a bound. It does not own reads, nor what is live.
//!
//! Rows that were read stay until others need their room: long enough for the drain that asked, mostly, or it asks again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::slot::Slot;

/// Rows that are kept: what a drain and the look ahead of it ask for at once, and as much again.
const ROWS_MAX: usize = 8 << 10;
/// Bytes of a row that was read, beside its own.
pub const BESIDE: usize = 64;

/// Rows that were read, the last ones.
#[derive(Debug)]
pub struct Recent<R> {
    rows: BTreeMap<Slot, Row<R>>,
    /// The rows in the order in which they came.
    order: BTreeMap<u64, Slot>,
    /// The number of the next.
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Row<R> {
    rows: R,
    bytes: usize,
    number: u64,
}

impl<R> Recent<R> {
    /// Returns none, of at most so many bytes; one row may be larger.
    pub fn new(bytes_max: usize) -> Self {
        Recent { rows: BTreeMap::new(), order: BTreeMap::new(), next: 0, bytes: 0, bytes_max }
    }

    /// Returns a row, in a chunk of its own.
    pub fn get(&self, slot: Slot) -> Option<&R> {
        self.rows.get(&slot).map(|row| &row.rows)
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a row of so many bytes, in place of the oldest ones.
    pub fn keep(&mut self, slot: Slot, rows: R, bytes: usize) {
        let bytes = bytes + BESIDE;
        self.drop_one(slot);
        while self.rows.len() >= ROWS_MAX || self.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            self.drop_one(*oldest);
        }
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.order.insert(number, slot);
        self.rows.insert(slot, Row { rows, bytes, number });
    }

    /// Forgets rows that have left their places.
    pub fn forget(&mut self, gone: RangeInclusive<Slot>) {
        while let Some((slot, _)) = self.rows.range(gone.clone()).next() {
            self.drop_one(*slot);
        }
    }

    fn drop_one(&mut self, slot: Slot) {
        if let Some(Row { bytes, number, .. }) = self.rows.remove(&slot) {
            self.bytes -= bytes;
            self.order.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a list: the last ones are kept, within the bound, and none that was forgotten.
    #[test]
    fn the_last_ones_are_kept() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut recent = Recent::new(100 * BESIDE);
        let mut list = Vec::<(Slot, u32, usize)>::new();
        for step in 0..20_000 {
            let slot = Slot::new(random.u32(..20), random.u32(..20));
            if random.u32(..4) == 0 {
                let chunk = slot.chunk() as u32;
                let gone = if random.bool() { slot..=slot } else { slot..=Slot::new(chunk, 20) };
                list.retain(|(slot, ..)| !gone.contains(slot));
                recent.forget(gone);
            } else {
                let bytes = random.usize(..3 * BESIDE);
                list.retain(|(other, ..)| *other != slot);
                list.push((slot, step, bytes));
                recent.keep(slot, step, bytes);
                let all = |list: &[(_, _, usize)]| -> usize {
                    list.iter().map(|(.., bytes)| bytes + BESIDE).sum()
                };
                while all(&list) > 100 * BESIDE {
                    list.remove(0);
                }
                assert_eq!(recent.bytes(), all(&list));
            }
            assert_eq!((recent.rows.len(), recent.order.len()), (list.len(), list.len()));
            assert!(list.iter().all(|(slot, step, _)| recent.get(*slot) == Some(step)));
        }
    }
}
