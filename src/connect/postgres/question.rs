//! Owns what the stream wants to know that only the server can tell, and the answers. It does not own how the server is
//! asked.

use super::rows::Key;
use super::snapshot::Snapshot;
use crate::codec::DataError;

/// What is to be read next.
pub(super) enum Wanted {
    /// The rows of a table after a key.
    After(usize, Option<Vec<String>>),
    /// Those of some keys of a table.
    Keys(usize, Vec<Key>),
}

/// Keys whose places are asked for.
pub(super) struct Unplaced<'a> {
    /// All of them are of this table.
    pub(super) table: usize,
    pub(super) keys: Vec<Key>,
    /// The last key copied.
    pub(super) copied: Option<&'a [String]>,
    /// The last of the piece that is a window.
    pub(super) piece: Option<&'a [String]>,
}

/// Where keys are, by the order of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_copied: bool,
    pub(super) is_in_piece: bool,
}

/// Rows of one snapshot.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) snapshot: Snapshot,
    pub(super) rows: Vec<(Key, Result<String, DataError>)>,
    /// The stream has passed all that the snapshot sees when it is there.
    pub(super) high: u64,
    /// Bytes of the rows.
    pub(super) bytes: usize,
}
