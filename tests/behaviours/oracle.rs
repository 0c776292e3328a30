//! Owns what a feed's contents are at a cursor: the fold of the transactions that it covers, from
//! nothing. It shares no code with what is tested.

use std::collections::BTreeSet;

use differential_upsert::source::{Boundary, Change, Cursor};

use crate::place::Place;
use crate::rig::Contents;

/// Changes that happen at once.
pub type Transaction = Vec<Change<u64, u64>>;

/// What one partition's log was, and is.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Of each history, all transactions there ever were; number 1 is the first.
    pub histories: Vec<Vec<Transaction>>,
    /// Transactions up to this number are not in the log any more.
    pub purged: u32,
}

impl Log {
    pub fn history(&self) -> u8 {
        (self.histories.len() - 1) as u8
    }

    pub fn now(&self) -> &Vec<Transaction> {
        self.histories.last().unwrap()
    }

    pub fn all(&self) -> BTreeSet<u32> {
        (1..=self.now().len() as u32).collect()
    }

    /// Folds the transactions of a set, in the order of the log.
    pub fn fold(&self, history: u8, seen: &BTreeSet<u32>) -> Contents {
        let mut contents = Contents::new();
        for number in seen {
            for change in &self.histories[usize::from(history)][*number as usize - 1] {
                match change.clone() {
                    Change::Put(key, value) => drop(contents.insert(key, value)),
                    Change::Delete(key) => drop(contents.remove(&key)),
                    Change::Reset => contents.clear(),
                }
            }
        }
        contents
    }
}

/// Keys of partition `n` lie from `n` times this on.
pub const KEYS: u64 = 1000;

pub fn name(partition: usize) -> String {
    format!("p{partition}")
}

/// Checks that contents are what the logs say at a cursor.
pub fn check<P: Place>(logs: &[Log], cursor: &Cursor<P>, contents: &Contents) {
    for (number, log) in logs.iter().enumerate() {
        let keys = number as u64 * KEYS..(number as u64 + 1) * KEYS;
        let mut found: Contents = contents.range(keys).map(|(k, v)| (*k, v.clone())).collect();
        let Some(at) = cursor.get(&name(number)) else {
            assert!(found.is_empty(), "the cursor knows nothing of partition {number}: {found:?}");
            continue;
        };
        let mut expected = log.fold(at.history(), &at.seen());
        if let Some(copied) = at.copied() {
            // Beyond the key, what is there is right, and not all is there.
            for (key, value) in found.split_off(&(copied + 1)) {
                assert_eq!(expected.get(&key), Some(&value), "key {key} beyond the copy, {at:?}");
            }
            expected.split_off(&(copied + 1));
        }
        assert_eq!(found, expected, "partition {number} at {at:?}");
    }
}

/// Checks that one boundary does not lie before another.
pub fn check_forward<P: Place>(before: &Boundary<P>, after: &Boundary<P>) {
    assert!(after.generation() >= before.generation(), "{before:?}, then {after:?}");
    for (partition, was) in before.partitions() {
        if after.generation() == before.generation() {
            let is = after.get(partition).unwrap_or_else(|| panic!("{partition} is not there"));
            assert!(is.seen().is_superset(&was.seen()), "{was:?}, then {is:?}");
        }
    }
}
