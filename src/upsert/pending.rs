//! Owns [`Pending`], a command while it waits in the stash, and the order that says which of a key's take
//! effect. It does not own where it waits, nor what a patch does.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::pins::Pins;
use super::rows::Kept;

/// What a command does to its key. In ascending order of effect, at equal orders of commands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action<V> {
    /// It has no value any more.
    Delete,
    /// It has this value.
    Put(V),
    /// The value that it has is changed.
    Patch(V),
}

impl<V> Action<V> {
    /// Returns the value, or the patch.
    pub fn value(&self) -> Option<&V> {
        match self {
            Action::Delete => None,
            Action::Put(value) | Action::Patch(value) => Some(value),
        }
    }

    /// Returns the value, or the patch.
    pub fn into_value(self) -> Option<V> {
        match self {
            Action::Delete => None,
            Action::Put(value) | Action::Patch(value) => Some(value),
        }
    }

    /// Returns the value, or the patch.
    pub fn value_mut(&mut self) -> Option<&mut V> {
        match self {
            Action::Delete => None,
            Action::Put(value) | Action::Patch(value) => Some(value),
        }
    }
}

/// A command of one key, with the key's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending<K, V, O> {
    /// The key's hash, computed once.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// What becomes of the key.
    pub action: Action<V>,
    /// The order among the commands of one key and time.
    pub order: O,
}

impl<K: Ord, V: Ord, O: Ord> Pending<K, V, O> {
    /// Sorts by hash and key, and the command that takes effect last first: patches, then what they change.
    pub fn compare(&self, other: &Self) -> Ordering {
        (self.hash.cmp(&other.hash))
            .then_with(|| self.key.cmp(&other.key))
            .then_with(|| match crate::mutant::on("ignore_order") {
                true => Ordering::Equal,
                false => other.order.cmp(&self.order),
            })
            .then_with(|| other.action.cmp(&self.action))
    }

    /// Whether a command that is sorted right after `self` has no effect beside it.
    pub fn supersedes(&self, next: &Self) -> bool {
        let is_patch =
            matches!(self.action, Action::Patch(_)) && !crate::mutant::on("patch_is_a_put");
        self.same_key(next) && !is_patch
    }

    /// Whether both are commands of one key.
    pub fn same_key(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl<K: Kept<V>, V, O> Pending<K, V, O> {
    /// Returns the bytes of the key and the value.
    pub fn heap_bytes(&self) -> usize {
        K::heap_bytes(&self.key, self.action.value())
    }

    /// Counts what the command keeps allocated.
    pub fn hold(&self, pins: &mut Pins) {
        K::places(&self.key, self.action.value()).into_iter().flatten().for_each(|p| pins.hold(p));
    }

    /// Takes away what [`hold`](Pending::hold) counted.
    pub fn release(&self, pins: &mut Pins) {
        K::places(&self.key, self.action.value())
            .into_iter()
            .flatten()
            .for_each(|p| pins.release(p));
    }

    /// Whether it keeps a large buffer for little.
    pub(super) fn is_wasteful(&self, pins: &mut Pins, others: &mut Pins) -> bool {
        let mut places = K::places(&self.key, self.action.value()).into_iter().flatten();
        places.any(|place| pins.is_mostly_dead(others, place))
    }
}
