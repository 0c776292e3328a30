//! Owns [`Sum`], what a shard remembers of the commands it was made from, and [`Mark`], a sum at a
//! time, with their form in JSON and the errors
//! of sums that differ. It does not hash commands.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use super::id::Id;
use crate::error::{Error, ErrorKind};

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

/// What to do about a feed that is not the shard's.
pub(crate) const FEED_DIFFERS_HINT: &str = "give the shard the feed it was made from, or only what is new, or another shard to \
                    this feed; what was read is repaired by one more command for its key";

/// The error of a feed that is not the shard's.
pub(crate) fn differs(time: u64, ours: Sum, theirs: Sum) -> Error {
    let (ours, theirs) = match ours.rows == theirs.rows {
        true => (format!("other {} commands", ours.rows), format!("{}", theirs.rows)),
        false => (format!("{} commands", ours.rows), format!("{}", theirs.rows)),
    };
    let what = format!(
        "FeedDiffers: below time {time} this feed has {ours}, the shard was made from {theirs}"
    );
    Error::new(ErrorKind::FeedDiffers, what).hint(FEED_DIFFERS_HINT)
}

/// The error of a shard that was written without sums.
pub(crate) fn unknown(upper: u64) -> Error {
    let what = format!("the shard's commands below time {upper} were written unchecked");
    Error::new(ErrorKind::FeedDiffers, what).hint("go on unchecked, or start a new shard")
}

/// A digest as 32 hex digits.
pub(crate) mod digest {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Id;

    /// One that is always there.
    pub(crate) mod plain {
        use super::{Deserialize, Deserializer, Id, Serialize, Serializer};

        pub(crate) fn serialize<S: Serializer>(
            digest: &u128,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            Id(*digest).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<u128, D::Error> {
            Ok(Id::deserialize(deserializer)?.0)
        }
    }

    pub(crate) fn serialize<S: Serializer>(
        digest: &Option<u128>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        digest.map(Id).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u128>, D::Error> {
        Ok(Option::<Id>::deserialize(deserializer)?.map(|token| token.0))
    }
}
