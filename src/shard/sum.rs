//! Owns [`Sum`], what a shard remembers of the commands it was made from, and [`Mark`], a sum at a
//! time. It neither hashes commands nor judges sums.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use super::state::digest;

/// The count of some commands and the sum of their hashes, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many they are, rows dropped later included.
    pub rows: u64,
    /// The wrapping sum of their 128-bit hashes.
    pub digest: u128,
}

impl Add for Sum {
    type Output = Sum;

    fn add(self, more: Sum) -> Sum {
        Sum {
            rows: self.rows.saturating_add(more.rows),
            digest: self.digest.wrapping_add(more.digest),
        }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, more: Sum) {
        *self = *self + more;
    }
}

/// The sum of all commands below a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The time.
    pub upper: u64,
    /// How many commands lie below it.
    pub rows: u64,
    /// The sum of their hashes.
    #[serde(with = "digest::plain")]
    pub digest: u128,
}

impl Mark {
    /// Returns the mark of a sum at a time.
    pub fn new(upper: u64, sum: Sum) -> Mark {
        Mark { upper, rows: sum.rows, digest: sum.digest }
    }

    /// Returns its sum.
    pub fn sum(&self) -> Sum {
        Sum { rows: self.rows, digest: self.digest }
    }
}
