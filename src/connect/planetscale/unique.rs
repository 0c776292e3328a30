//! Owns the proof that the columns named with `key=` are not unique: two rows, told apart by their
//! primary keys, that have one key at one time. It does not own what a key is.
//!
//! Only where it is not known otherwise: a key with all columns of the primary key, or with a column
//! that is `UNIQUE` and `NOT NULL` by itself, is unique. Where the server marks no primary key, rows
//! cannot be told apart, and nothing is proven.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

use super::failure::definite;
use crate::source::Failure;

/// Of so many keys the row is remembered, about 64 MiB: those that came first.
const KEYS_MAX: usize = 1 << 20;

/// The rows that have the keys of one shard, so far as they came on one connection. What comes a second
/// time, in a copy that goes on or a transaction that begins again, is the same row.
#[derive(Debug, Default)]
pub(super) struct Unique {
    /// Hashes of keys, and of their rows' primary keys.
    rows: BTreeMap<u128, u128>,
}

impl Unique {
    /// A row is gone, or has another key.
    pub(super) fn goes(&mut self, key: &str, row: &str) {
        let hash = xxh3_128(key.as_bytes());
        if self.rows.get(&hash) == Some(&xxh3_128(row.as_bytes())) {
            self.rows.remove(&hash);
        }
    }

    /// A row has this key now.
    pub(super) fn comes(&mut self, key: &str, row: &str, place: &str) -> Result<(), Failure> {
        let (hash, ours) = (xxh3_128(key.as_bytes()), xxh3_128(row.as_bytes()));
        match self.rows.get(&hash) {
            Some(theirs) if *theirs != ours => {
                let what = format!("two rows have the key {key}; one of them is {row}");
                let hint = "name columns with key= that are unique together, or leave it out";
                Err(definite(what, place, hint))
            }
            None if self.rows.len() < KEYS_MAX => {
                self.rows.insert(hash, ours);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What came is void, or came in no order: what is known of it proves nothing.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
    }
}
