//! Owns what the sink's operators say to each other, also between processes. It does not own when.

use serde::{Deserialize, Serialize};

use super::counts::{Dropped, Emitted};
use crate::shard::Prepared;

/// What mint names, addressed to a worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) worker: u64,
    pub(super) what: Announcement,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Announcement {
    /// Updates may be written: the standby is a writer now.
    Write,
    /// An interval to append.
    Interval { lower: u64, upper: u64 },
    /// The end: every update of every worker has been committed.
    End,
}

/// What a worker answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Response {
    /// Its durable parts of an interval, time by time.
    Written { lower: u64, upper: u64, times: Vec<TimeParts>, dropped: Dropped },
    /// Counts that go with no interval.
    Counted(Dropped),
    /// It cannot write its parts, so the interval must not be appended, nor any later one.
    Failed,
    /// It was told to stop, so no interval may be appended any more.
    Stopping,
}

/// One worker's durable parts of one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TimeParts {
    pub(super) time: u64,
    pub(super) parts: Vec<Prepared>,
    pub(super) emitted: Emitted,
}
