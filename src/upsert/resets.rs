//! Owns [`Resets`], those of one time: what is left of them, and which speak of a key. It does not own which collection
//! a key is of, nor the sweep.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::pending::Pending;
use super::rules::Rules;
use crate::error::Error;

/// The resets of one time: the greatest order of those of all keys, and of those of each collection.
///
/// Most times have none, so it stands behind a pointer: see [`add`].
#[derive(Debug)]
pub struct Resets<O> {
    /// Of those of all keys.
    all: Option<O>,
    /// Of those of one collection, by its name.
    named: BTreeMap<String, O>,
    /// The bytes of the names.
    name_bytes: usize,
}

impl<O> Default for Resets<O> {
    fn default() -> Self {
        Resets { all: None, named: BTreeMap::new(), name_bytes: 0 }
    }
}

/// Adds a reset of all keys, or of those of a collection, to those that a time has.
pub fn add<O: Ord>(resets: &mut Option<Box<Resets<O>>>, collection: Option<String>, order: O) {
    let resets = resets.get_or_insert_default();
    let Some(name) = collection else { return resets.all = resets.all.take().max(Some(order)) };
    if let Some(greatest) = resets.named.get_mut(&name) {
        if *greatest < order {
            *greatest = order;
        }
        return;
    }
    resets.name_bytes += name.capacity();
    resets.named.insert(name, order);
}

impl<O> Resets<O> {
    /// Returns the collection, or none for all keys, and the greatest order of each of them.
    pub fn orders(&self) -> impl Iterator<Item = (Option<&String>, &O)> {
        let named = self.named.iter().map(|(name, order)| (Some(name), order));
        self.all.iter().map(|order| (None, order)).chain(named)
    }

    /// As [`orders`](Resets::orders).
    pub fn into_orders(self) -> impl Iterator<Item = (Option<String>, O)> {
        let named = self.named.into_iter().map(|(name, order)| (Some(name), order));
        self.all.into_iter().map(|order| (None, order)).chain(named)
    }

    /// Returns the name of a collection that is reset.
    pub fn named(&self) -> Option<&str> {
        self.named.keys().next().map(String::as_str)
    }

    /// Whether all keys are reset.
    pub fn are_of_all(&self) -> bool {
        self.all.is_some()
    }

    /// Returns the bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        // Nodes are half full at the worst.
        let node = 2 * size_of::<(String, O)>();
        size_of::<Self>() + self.named.len() * node + self.name_bytes
    }
}

impl<O: Ord> Resets<O> {
    /// Returns the greatest order of the resets that speak of a key; none where none does. Only where a collection is
    /// reset is it asked which one the key is of.
    ///
    /// # Errors
    ///
    /// That the rules do not say so.
    pub fn of<K, V>(&self, key: &K, rules: &Rules<K, V>) -> Result<Option<&O>, Error> {
        if self.named.is_empty() {
            return Ok(self.all.as_ref());
        }
        let mut named = None;
        rules.collection(key, &mut |name| named = self.named.get(name))?;
        if crate::mutant::on("reset_of_sweeps_all") {
            named = self.named.values().max();
        }
        Ok(named.max(self.all.as_ref()))
    }
}

/// Whether a command survives the resets that speak of its key: only a later one does, and at equal orders a put or a
/// patch beats the delete that a reset is.
pub fn survives<K, V, O: Ord>(reset: Option<&O>, command: &Pending<K, V, O>) -> bool {
    let Some(reset) = reset else { return true };
    match command.order.cmp(reset) {
        Ordering::Greater => !crate::mutant::on("reset_ignores_order"),
        Ordering::Equal => command.action.value().is_some(),
        Ordering::Less => false,
    }
}
