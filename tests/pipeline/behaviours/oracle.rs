//! Owns what a feed's contents are at a cursor: the fold of the transactions that it covers, from
//! nothing. It shares no code with what is tested.

use std::collections::{BTreeMap, BTreeSet};

use differential_upsert::DataError;
use differential_upsert::source::{Change, Cursor};

use crate::behaviours::place::Place;
use crate::behaviours::rig::Contents;

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
                    Change::Patch(key, patch) => patched(&mut contents, key, patch),
                    Change::Delete(key) => drop(contents.remove(&key)),
                    Change::Reset => contents.clear(),
                    Change::ResetOf(name) => contents.retain(|key, _| collection(*key) != name),
                }
            }
        }
        contents
    }
}

/// Which collection a key is of.
pub fn collection(key: u64) -> &'static str {
    if key.is_multiple_of(2) { "even" } else { "odd" }
}

/// Applies a patch: a key without a value has an error then, and one with an error keeps it.
pub fn patched(contents: &mut Contents, key: u64, patch: u64) {
    let value = contents.entry(key).or_insert_with(no_value);
    if let Ok(before) = value {
        *value = fold(*before, patch);
    }
}

fn no_value() -> Result<u64, DataError> {
    Err(DataError("a patch of a key that has no value".to_string()))
}

/// What a patch makes of a value: another one for each order of patches.
pub fn fold(value: u64, patch: u64) -> Result<u64, DataError> {
    Ok((3 * value + patch) % 1000)
}

/// Keys of partition `n` lie from `n` times this on.
pub const KEYS: u64 = 1000;

pub fn name(partition: usize) -> String {
    format!("p{partition}")
}

/// What a cursor covers.
#[derive(Clone, Debug, PartialEq)]
pub struct Covered<P> {
    pub generation: u64,
    pub places: BTreeMap<String, P>,
}

impl<P: Place> Covered<P> {
    pub fn nothing() -> Covered<P> {
        Covered { generation: 0, places: BTreeMap::new() }
    }

    pub fn by(cursor: &Cursor<P>) -> Covered<P> {
        let places = cursor.partitions().map(|(name, at)| (name.to_string(), at.clone()));
        Covered { generation: cursor.generation(), places: places.collect() }
    }

    /// Reads the bytes that a shard holds: a version, the identity, the generation, how many
    /// partitions, each with its name and place, and a checksum.
    pub fn read(bytes: &[u8]) -> Covered<P> {
        let mut rest = &bytes[1..];
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at(length);
            rest = left;
            taken
        };
        let length = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
        let identity = length(take(4));
        take(identity);
        let generation = u64::from_le_bytes(take(8).try_into().unwrap());
        let mut places = BTreeMap::new();
        for _ in 0..length(take(4)) {
            let name = length(take(4));
            let name = String::from_utf8(take(name).to_vec()).unwrap();
            let place = length(take(4));
            places.insert(name, P::decode(take(place)).unwrap());
        }
        Covered { generation, places }
    }

    /// Checks that contents are what the logs say here.
    pub fn check(&self, logs: &[Log], contents: &Contents) {
        for (number, log) in logs.iter().enumerate() {
            let keys = number as u64 * KEYS..(number as u64 + 1) * KEYS;
            let mut found: Contents = contents.range(keys).map(|(k, v)| (*k, v.clone())).collect();
            let Some(at) = self.places.get(&name(number)) else {
                assert!(found.is_empty(), "nothing covers partition {number}: {found:?}");
                continue;
            };
            let mut expected = log.fold(at.history(), &at.seen());
            if let Some(copied) = at.copied() {
                // Beyond the key, what is there is right, and not all is there: a patch finds no row then.
                let mut beyond = found.split_off(&(copied + 1));
                beyond.retain(|_, value| *value != no_value());
                for (key, value) in beyond {
                    assert_eq!(expected.get(&key), Some(&value), "key {key} beyond {at:?}");
                }
                expected.split_off(&(copied + 1));
            }
            assert_eq!(found, expected, "partition {number} at {at:?}");
        }
    }

    /// Checks that this does not lie before another.
    pub fn check_after(&self, before: &Covered<P>) {
        assert!(self.generation >= before.generation, "{before:?}, then {self:?}");
        for (partition, was) in &before.places {
            if self.generation == before.generation {
                let is = &self.places[partition];
                assert!(is.seen().is_superset(&was.seen()), "{was:?}, then {is:?}");
            }
        }
    }

    /// Checks that it is all that the logs have.
    pub fn check_whole(&self, logs: &[Log]) {
        for (number, log) in logs.iter().enumerate() {
            let at = self.places.get(&name(number));
            let nothing = log.all().is_empty() && at.is_none();
            let end = P::place(log.history(), &log.all(), None);
            assert!(nothing || at == Some(&end), "partition {number} is at {at:?}, not {end:?}");
        }
    }
}
