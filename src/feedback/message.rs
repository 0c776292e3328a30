//! Owns what the follower of a log says to the operator, and when it looks. It does not own either of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::Error;
use crate::pace::Pace;
use crate::shard::{Room, Update};

/// Parts that are fetched or wait for the worker at a time.
pub(super) const PARTS_AHEAD: usize = 4;

/// At rest a follower looks so much more rarely: with the default once in 1.28 s, which in an object store is one
/// request a second, thorough looks included.
const REST: u32 = 64;

/// When a follower looks for another process's commits.
pub(crate) struct Poll {
    /// At the latest, while they come; at rest up to [`REST`] times that.
    pub(crate) interval: Duration,
    /// At once.
    pub(crate) news: Arc<Notify>,
}

impl Poll {
    /// Returns the pauses between looks.
    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.interval, self.interval.saturating_mul(REST))
    }
}

pub(super) enum Message {
    /// The first of all, where there may be an image of the state: the feedback begins with it, while the log's upper is
    /// this; or with the contents, and why. A state of an image may have rows of times up to that upper, so no time below it
    /// is ever drained: the two are one message.
    Begins(Result<u64, String>),
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
