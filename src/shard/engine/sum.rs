//! Owns [`Sum`], what a shard remembers of the commands it was made from, and [`Mark`], a sum at a
//! time, with their form in JSON. It neither hashes commands nor judges sums.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use super::token::Token;

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

/// A digest as 32 hex digits.
pub(super) mod digest {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Token;

    /// One that is always there.
    pub(crate) mod plain {
        use super::{Deserialize, Deserializer, Serialize, Serializer, Token};

        pub(crate) fn serialize<S: Serializer>(
            digest: &u128,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            Token(*digest).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<u128, D::Error> {
            Ok(Token::deserialize(deserializer)?.0)
        }
    }

    pub(crate) fn serialize<S: Serializer>(
        digest: &Option<u128>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        digest.map(Token).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u128>, D::Error> {
        Ok(Option::<Token>::deserialize(deserializer)?.map(|token| token.0))
    }
}
