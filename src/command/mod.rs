//! Owns [`Command`]: one instruction of a keyed change feed. A command
//! travels next to its time, as `(Command<K, V, O>, T)`; `time` says which times there are.

pub(crate) mod time;

use serde::{Deserialize, Serialize};

/// One instruction of a keyed change feed, with the order that breaks ties within a time.
///
/// Among the puts and deletes of one key and one time only one takes effect: the one of greatest order;
/// at equal orders a put beats a delete, and among puts the greater value wins. The patches of the same or a
/// greater order change what it left, or else the value before this time: one after the other, by order, and
/// at equal orders the lesser patch first. The rule does not depend on arrival, so every replica comes to the
/// same value.
///
/// A reset is a delete of every key, or of every key of one collection: a key has the greatest order of the resets that
/// speak of it, and of its other commands only those take effect that are later, or puts and patches of that order.
///
/// ```
/// use differential_upsert::Command;
/// let set: Command<&str, u32, u64> = Command::put("k", 7, 0);
/// assert_eq!(set.order(), &0);
/// assert_eq!(set.key(), Some(&"k"));
/// assert_eq!(Command::<&str, u32, u64>::reset(1).key(), None);
/// assert_eq!(Command::<&str, u32, u64>::reset_of("fruit".to_string(), 1).key(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Command<K, V, O> {
    /// The key's value becomes `value`.
    Put {
        /// The key.
        key: K,
        /// Its new value.
        value: V,
        /// The order among the commands of this time.
        order: O,
    },
    /// The key's value is changed, by the fold that its [shard](crate::Shard::with_fold) or operator
    /// ([`upsert_patched`](crate::Upsert::upsert_patched)) was given. A patch of a key that has no value is the key's error
    /// in a shard, until the key is put or deleted; of an operator alone, its fold says what it is.
    ///
    /// Each takes effect, also one that is equal to another in all: two of `+1` are `+2`.
    Patch {
        /// The key.
        key: K,
        /// How the value changes, in the value's own type.
        patch: V,
        /// The order among the commands of this time.
        order: O,
    },
    /// The key has no value any more. Deleting an absent key changes nothing.
    Delete {
        /// The key.
        key: K,
        /// The order among the commands of this time.
        order: O,
    },
    /// Every key is deleted, but for those with a later command in the same time.
    Reset {
        /// The order among the commands of this time.
        order: O,
    },
    /// Every key of one collection is deleted, but for those with a later command in the same time. Which collection a key
    /// is of, its [shard](crate::Shard::with_collections) or operator ([`Rules`](crate::upsert::Rules)) was told.
    ResetOf {
        /// The collection's name. One that no key is of is empty, and stays so.
        collection: String,
        /// The order among the commands of this time.
        order: O,
    },
}

impl<K, V, O> Command<K, V, O> {
    /// Returns a put.
    pub fn put(key: K, value: V, order: O) -> Self {
        Command::Put { key, value, order }
    }

    /// Returns a patch.
    pub fn patch(key: K, patch: V, order: O) -> Self {
        Command::Patch { key, patch, order }
    }

    /// Returns a delete.
    pub fn delete(key: K, order: O) -> Self {
        Command::Delete { key, order }
    }

    /// Returns a reset.
    pub fn reset(order: O) -> Self {
        Command::Reset { order }
    }

    /// Returns a reset of a collection.
    pub fn reset_of(collection: String, order: O) -> Self {
        Command::ResetOf { collection, order }
    }

    /// Returns the key, or `None` for a reset, which speaks of all keys or of those of a collection.
    pub fn key(&self) -> Option<&K> {
        match self {
            Command::Put { key, .. } | Command::Patch { key, .. } | Command::Delete { key, .. } => {
                Some(key)
            }
            Command::Reset { .. } | Command::ResetOf { .. } => None,
        }
    }

    /// Returns the order.
    pub fn order(&self) -> &O {
        match self {
            Command::Put { order, .. }
            | Command::Patch { order, .. }
            | Command::Delete { order, .. }
            | Command::Reset { order }
            | Command::ResetOf { order, .. } => order,
        }
    }
}
