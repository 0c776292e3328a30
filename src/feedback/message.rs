//! Owns what the follower of a log says to the operator, and when it looks. It does not own either of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::Error;
use crate::shard::{Room, Update};

/// Parts that are fetched or wait for the worker at a time.
pub(super) const PARTS_AHEAD: usize = 4;

/// When a follower looks for another process's commits.
pub(crate) struct Poll {
    /// At the latest.
    pub(crate) interval: Duration,
    /// At once.
    pub(crate) news: Arc<Notify>,
}

pub(super) enum Message {
    /// The log's upper.
    Known(u64),
    /// Rows of the shard, and the room of their parts.
    Rows(Vec<Update>, Vec<Room>),
    /// The shard is sealed, and all of it was sent.
    Sealed,
    /// All rows below this time have been sent.
    Complete(u64),
    /// The shard cannot be read any further.
    Failed(Error),
}

impl Message {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Message::Rows(rows, _) if rows.is_empty())
    }
}
