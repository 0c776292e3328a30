//! Owns what a line of any format says: changes, and where it comes from. It does not own how a format
//! says it.

use crate::codec::Json;
use crate::source::Change;

/// What a good line says.
#[derive(Debug)]
pub(in crate::connect::lines) enum Said {
    /// Nothing; it is blank.
    Nothing,
    /// Nothing of any row.
    Message,
    /// Changes, one at least, in the order in which they were made.
    Rows(Vec<Change<Json, Json>>, Origin),
}

/// Where the rows of a line come from, as far as it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connect::lines) enum Origin {
    Unnamed,
    /// `DATABASE.TABLE`.
    Table(String),
    /// A message of a topic.
    Message {
        topic: String,
        partition: u64,
        offset: u64,
    },
}

impl Said {
    /// A change of a row by a line that does not say where it comes from.
    pub(super) fn row(key: Json, value: Option<Json>) -> Said {
        Said::Rows(vec![change(key, value)], Origin::Unnamed)
    }
}

/// Returns the change that a key and its value are.
pub(super) fn change(key: Json, value: Option<Json>) -> Change<Json, Json> {
    match value {
        Some(value) => Change::Put(key, Ok(value)),
        None => Change::Delete(key),
    }
}
