//! Owns what a line says of a row, and what is bad about a line that says it badly. It does not own how
//! either is read.

use super::strange;
use crate::codec::Json;
use crate::connect::debezium::Unread;

/// A change of one key: its new value, or `None` for a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Json,
    pub(super) value: Option<Json>,
    pub(super) ts: Option<u64>,
    pub(super) offset: Option<u64>,
}

/// What is bad about a line, what to do, and what could be read of it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) what: String,
    pub(super) hint: &'static str,
    /// The line's key, if it has exactly one that can be read, whatever else is wrong with it.
    pub(super) key: Option<Json>,
    /// The line's `offset`, on the same terms.
    pub(super) offset: Option<u64>,
}

impl Bad {
    pub(super) fn new(what: impl Into<String>, hint: &'static str) -> Bad {
        let what = what.into();
        Bad { what, hint, key: None, offset: None }
    }

    /// Adds what is known of the row, which has a key and perhaps an offset.
    pub(super) fn of(self, row: &Row) -> Bad {
        Bad { key: Some(row.key.clone()), offset: row.offset, ..self }
    }

    /// A line over [`LINE_BYTES_MAX`](super::line::LINE_BYTES_MAX), by its first bytes.
    pub(super) fn too_long(start: &[u8]) -> Bad {
        let what = "a line longer than 16 MiB";
        Bad::new(what, "split the value or store a reference to it").looks(start)
    }

    /// Says what the line is instead, if it looks like something known.
    pub(super) fn looks(self, line: &[u8]) -> Bad {
        match strange::look(line) {
            Some((what, hint)) => Bad { what: what.to_string(), hint, ..self },
            None => self,
        }
    }

    /// A row with an `offset` behind ones without, or without behind ones that `had` one.
    pub(super) fn offset_on_some(had: bool) -> Bad {
        let has = if had { "has one" } else { "has none" };
        let what = format!("\"offset\" is on some rows only: the first row {has}");
        Bad::new(what, "write it on every row or on none")
    }
}

impl From<Unread> for Bad {
    fn from(Unread { what, hint, key }: Unread) -> Bad {
        Bad { what, hint, key, offset: None }
    }
}
