//! Owns the updates of keys that are, for now, no collection: exact counts, beside the row that the state has of the key.
//! It does not own that row, nor what becomes of it.

use std::collections::BTreeMap;

use super::rows::Kept;

/// Bytes of a buffer or a node beside a row's own.
const BESIDE: usize = 64;

/// The updates of keys that do not add up to at most one value yet. A key has none with a count of zero, and is not here
/// without one.
#[derive(Debug)]
pub struct Unsettled<K, V> {
    keys: BTreeMap<K, BTreeMap<V, isize>>,
    bytes: usize,
}

/// What one key's updates add up to.
#[derive(Debug, PartialEq, Eq)]
pub struct Sum<V> {
    counts: BTreeMap<V, isize>,
}

impl<V: Ord> Sum<V> {
    /// Returns the value that is retracted, and the one that is inserted, if there is at most one of each: only then can they
    /// leave a key with at most one value, whatever row it has.
    pub fn change(&self) -> Option<[Option<&V>; 2]> {
        let mut change = [None, None];
        for (value, count) in &self.counts {
            let one = match count {
                -1 => &mut change[0],
                1 => &mut change[1],
                _ => return None,
            };
            if one.replace(value).is_some() {
                return None;
            }
        }
        Some(change)
    }
}

impl<K: Kept<V> + Clone + Ord, V: Clone + Ord> Unsettled<K, V> {
    /// Returns none.
    pub fn new() -> Self {
        Unsettled { keys: BTreeMap::new(), bytes: 0 }
    }

    /// Whether a key is here.
    #[inline]
    pub fn has(&self, key: &K) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    /// Returns the first key and its counts.
    pub fn first(&self) -> Option<(&K, &BTreeMap<V, isize>)> {
        self.keys.first_key_value()
    }

    /// Returns how many keys are here.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the bytes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a key's updates out, with one more.
    pub fn take(&mut self, key: &K, value: &V, diff: isize) -> Sum<V> {
        let mut counts = self.keys.remove(key).unwrap_or_default();
        self.bytes -= bytes_of(key, &counts);
        match counts.get_mut(value) {
            // No sum that does not fit is one live value, so it is found where it counts.
            Some(count) => *count = count.saturating_add(diff),
            None => drop(counts.insert(detached(key, value).1, diff)),
        }
        counts.retain(|_, count| *count != 0);
        Sum { counts }
    }

    /// Puts a key's updates back.
    pub fn put(&mut self, key: &K, sum: Sum<V>) {
        if let Some(value) = sum.counts.keys().next() {
            let key = detached(key, value).0;
            self.bytes += bytes_of(&key, &sum.counts);
            self.keys.insert(key, sum.counts);
        }
    }
}

/// Returns copies that keep no buffer which other rows share: they may stay for long.
fn detached<K: Kept<V> + Clone, V: Clone>(key: &K, value: &V) -> (K, V) {
    let (mut key, mut value) = (key.clone(), value.clone());
    K::repack(std::iter::once((&mut key, Some(&mut value))));
    (key, value)
}

/// Returns the bytes that a key has here, about; 0 if it is not here.
fn bytes_of<K: Kept<V>, V>(key: &K, counts: &BTreeMap<V, isize>) -> usize {
    // Nodes are half full at the worst; a buffer of its own has some bytes beside its row's.
    let one = 2 * (size_of::<V>() + size_of::<isize>()) + BESIDE;
    let values = counts.keys().map(|value| K::heap_bytes(key, Some(value)) + one);
    let row = 2 * (size_of::<K>() + size_of::<BTreeMap<V, isize>>()) + BESIDE;
    if counts.is_empty() { 0 } else { row + values.sum::<usize>() }
}
