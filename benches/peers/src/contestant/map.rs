//! Owns the limit: a loop over a `HashMap` in memory, nothing else.

use std::collections::HashMap;

use crate::clock::{Figures, Pace, drive};
use crate::load::{Record, Words};
use crate::sums::Sums;

/// Runs the loop over `records`.
pub fn run(records: &[Record], pace: Pace) -> Figures {
    let mut live = HashMap::new();
    let mut sums = Sums::default();
    let figures = drive(records, pace, made, |time, _, rows| {
        for (key, value) in rows {
            upsert(&mut live, &mut sums, time, key, value);
        }
    });
    Figures { sums, ..figures }
}

/// Returns one time's rows as a map takes them.
pub fn made(_: u64, records: &[Record]) -> Vec<(u64, Words)> {
    records.iter().map(|record| (record.key, record.words())).collect()
}

/// Applies a row, and adds what it changes: the prior value goes, its own comes.
pub fn upsert(live: &mut HashMap<u64, Words>, sums: &mut Sums, time: u64, key: u64, value: Words) {
    sums.add_words(key, &value, time, 1);
    if let Some(prior) = live.insert(key, value) {
        sums.add_words(key, &prior, time, -1);
    }
}
