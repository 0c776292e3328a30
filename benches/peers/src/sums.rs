//! Owns the hash that says whether two contestants computed the same: over the updates of a collection,
//! whatever their order and however far they are consolidated. It does not own the updates.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::load::{Record, Words, mix};

/// Sums over updates: `contents` is that of the collection at the end, `history` that of its times too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub contents: u64,
    pub history: u64,
}

impl Sums {
    /// Adds an update whose value is eight words.
    pub fn add_words(&mut self, key: u64, value: &Words, time: u64, diff: isize) {
        self.add_hash(hash(key, value.iter().copied()), time, diff);
    }

    /// Adds an update whose value is 64 little-endian bytes.
    pub fn add_bytes(&mut self, key: u64, value: &[u8], time: u64, diff: isize) {
        let words = value
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("a chunk of eight bytes")));
        self.add_hash(hash(key, words), time, diff);
    }

    fn add_hash(&mut self, hash: u64, time: u64, diff: isize) {
        let diff = diff as u64;
        self.contents = self.contents.wrapping_add(diff.wrapping_mul(mix(hash)));
        let timed = mix(mix(hash) ^ mix(time));
        self.history = self.history.wrapping_add(diff.wrapping_mul(timed));
    }

    /// Adds the sums over other updates.
    pub fn merge(&mut self, other: Sums) {
        self.contents = self.contents.wrapping_add(other.contents);
        self.history = self.history.wrapping_add(other.history);
    }
}

fn hash(key: u64, words: impl Iterator<Item = u64>) -> u64 {
    let first = 0xcbf2_9ce4_8422_2325;
    [key].into_iter().chain(words).fold(first, |hash: u64, word| {
        (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

/// Returns what every contestant must have computed after each of `ends`, which are counts of times and
/// increase. It is the definition: the value before a record goes, its own comes.
pub fn expected(records: &[Record], rows_per_time: u64, ends: &[u64]) -> Vec<Sums> {
    let mut live = HashMap::<u64, Words>::new();
    let mut sums = Sums::default();
    let mut times = records.chunks(rows_per_time as usize).zip(0..).peekable();
    let mut all = Vec::new();
    for end in ends {
        while let Some((rows, time)) = times.next_if(|(_, time)| time < end) {
            for record in rows {
                let value = record.words();
                sums.add_words(record.key, &value, time, 1);
                if let Some(prior) = live.insert(record.key, value) {
                    sums.add_words(record.key, &prior, time, -1);
                }
            }
        }
        all.push(sums);
    }
    all
}
