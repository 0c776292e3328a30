//! Owns [`Pending`], a command while it waits in the stash, and the order that says which of two takes
//! effect. It does not own where it waits.

use std::cmp::Ordering;

use super::pins::Pins;
use super::rows::Kept;

/// A put or a delete of one key, with the key's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending<K, V, O> {
    /// The key's hash, computed once.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The new value, or `None` for a delete.
    pub value: Option<V>,
    /// The order among the commands of one key and time.
    pub order: O,
}

impl<K: Ord, V: Ord, O: Ord> Pending<K, V, O> {
    /// Sorts by hash and key, and the command that takes effect first.
    pub fn compare(&self, other: &Self) -> Ordering {
        (self.hash.cmp(&other.hash))
            .then_with(|| self.key.cmp(&other.key))
            .then_with(|| match crate::mutant::on("ignore_order") {
                true => Ordering::Equal,
                false => other.order.cmp(&self.order),
            })
            // `None`, a delete, is the least.
            .then_with(|| other.value.cmp(&self.value))
    }

    /// Whether both are commands of one key.
    pub fn same_key(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl<K: Kept<V>, V, O> Pending<K, V, O> {
    /// Returns the bytes of the key and the value.
    pub fn heap_bytes(&self) -> usize {
        K::heap_bytes(&self.key, self.value.as_ref())
    }

    /// Counts what the command keeps allocated.
    pub fn hold(&self, pins: &mut Pins) {
        K::places(&self.key, self.value.as_ref()).into_iter().flatten().for_each(|p| pins.hold(p));
    }

    /// Takes away what [`hold`](Pending::hold) counted.
    pub fn release(&self, pins: &mut Pins) {
        K::places(&self.key, self.value.as_ref())
            .into_iter()
            .flatten()
            .for_each(|p| pins.release(p));
    }

    /// Whether it keeps a large buffer for little.
    pub(super) fn is_wasteful(&self, pins: &mut Pins, others: &mut Pins) -> bool {
        let mut places = K::places(&self.key, self.value.as_ref()).into_iter().flatten();
        places.any(|place| pins.is_mostly_dead(others, place))
    }
}
