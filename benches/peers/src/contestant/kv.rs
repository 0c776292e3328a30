//! Owns the loop over an embedded key-value store: per time, the old values are read, and one batch is
//! written and synced. It does not own the stores.

use std::collections::HashMap;

use super::map::made;
use crate::clock::{Figures, Pace, drive};
use crate::load::{Record, Words, to_bytes};
use crate::sums::Sums;

#[cfg(feature = "fjall")]
pub mod fjall;

#[cfg(feature = "rocksdb")]
pub mod rocks;

/// A store of keys and values, as far as the loop needs one. Keys are big-endian, so that they sort.
#[cfg_attr(not(any(feature = "fjall", feature = "rocksdb")), allow(dead_code))]
pub trait Store {
    /// Hands the value of `key` to `with`, if there is one.
    fn get(&self, key: [u8; 8], with: impl FnOnce(&[u8]));
    /// Writes all rows at once, and returns when they are on the disk.
    fn put(&mut self, rows: impl Iterator<Item = ([u8; 8], [u8; 64])>);
}

/// Runs the loop over `records`.
#[cfg_attr(not(any(feature = "fjall", feature = "rocksdb")), allow(dead_code))]
pub fn run(records: &[Record], pace: Pace, mut store: impl Store) -> Figures {
    let mut sums = Sums::default();
    let figures = drive(records, pace, made, |time, _, rows| {
        // The last of a key in this time wins; a store asked for each row would not know those before.
        let latest: HashMap<u64, Words> = rows.into_iter().collect();
        for (key, value) in &latest {
            store.get(key.to_be_bytes(), |prior| sums.add_bytes(*key, prior, time, -1));
            sums.add_words(*key, value, time, 1);
        }
        store.put(latest.iter().map(|(key, value)| (key.to_be_bytes(), to_bytes(value))));
    });
    Figures { sums, ..figures }
}
