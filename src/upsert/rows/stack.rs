//! Owns chunks of rows of any columnation types, in a region each. They stay in memory.

use columnation::{ColumnStack, Columnation};
use differential_dataflow::Hashable;

use super::{Kept, KeyHash, Rows};

impl<K, V> Kept<V> for K
where
    K: Columnation + Hashable + Clone + Eq + 'static,
    V: Columnation + Clone + Eq + 'static,
{
    type Rows = StackRows<K, V>;
}

/// Rows of any columnation types.
pub struct StackRows<K: Columnation, V: Columnation> {
    rows: ColumnStack<(K, V)>,
    /// The bytes allocated, when they were last measured: it takes a look at each of the region's pieces.
    bytes: usize,
}

/// Rows in a chunk of this layout.
pub(super) const STACK_ROWS: usize = 1 << 13;

impl<K: Columnation, V: Columnation> Default for StackRows<K, V> {
    fn default() -> Self {
        StackRows { rows: ColumnStack::default(), bytes: 0 }
    }
}

impl<K: Columnation, V: Columnation> std::fmt::Debug for StackRows<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StackRows").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl<K, V> StackRows<K, V>
where
    K: Columnation,
    V: Columnation,
{
    fn make_room(&self) -> Option<u32> {
        (self.rows.len() < STACK_ROWS).then_some(self.rows.len() as u32)
    }

    fn measure(&mut self) {
        self.bytes = self.rows.summed_heap_size().1;
    }

    /// Measures where the rows may have doubled, and now and then.
    fn measure_some(&mut self) {
        let len = self.rows.len();
        if len.is_power_of_two() || len.is_multiple_of(64) {
            self.measure();
        }
    }
}

impl<K, V> Rows<K, V> for StackRows<K, V>
where
    K: Columnation + KeyHash + Clone + Eq,
    V: Columnation + Clone + Eq,
{
    type Gather = Vec<V>;

    fn push(&mut self, _bytes_max: usize, key: &K, value: &V) -> Option<u32> {
        let row = self.make_room()?;
        self.rows.copy_destructured(key, value);
        self.measure_some();
        Some(row)
    }

    fn push_row(&mut self, _bytes_max: usize, other: &Self, row: u32) -> Option<u32> {
        let copy = self.make_room()?;
        self.rows.copy(&other.rows[row as usize]);
        self.measure_some();
        Some(copy)
    }

    fn key_hash(&self, row: u32) -> u64 {
        self.rows[row as usize].0.key_hash()
    }

    #[inline]
    fn key_is(&self, row: u32, key: &K) -> bool {
        self.rows[row as usize].0 == *key
    }

    #[inline]
    fn value_is(&self, row: u32, value: &V) -> bool {
        self.rows[row as usize].1 == *value
    }

    fn overwrite(&mut self, _row: u32, _value: &V) -> bool {
        false
    }

    fn gather(&self, row: u32, into: &mut Vec<V>) {
        into.push(self.rows[row as usize].1.clone());
    }

    fn values(gather: &mut Vec<V>) -> impl Iterator<Item = V> {
        std::mem::take(gather).into_iter()
    }

    fn copy_key(&self, row: u32) -> K {
        self.rows[row as usize].0.clone()
    }

    fn get(&self, row: u32) -> (K, V) {
        self.rows[row as usize].clone()
    }

    fn next(&self, row: Option<u32>) -> Option<u32> {
        let next = row.map_or(0, |row| row + 1);
        ((next as usize) < self.rows.len()).then_some(next)
    }

    fn row_bytes(&self, _row: u32) -> usize {
        // The region does not say how much of it belongs to a row: use the average.
        self.bytes / self.rows.len().max(1)
    }

    fn share(_key: &K, _value: &V) -> usize {
        1
    }

    fn share_at(&self, _row: u32) -> usize {
        1
    }

    fn shares(&self) -> usize {
        self.rows.len()
    }

    fn heap_bytes(&self) -> usize {
        self.bytes
    }

    fn seal(&mut self) {
        self.measure();
    }
}
