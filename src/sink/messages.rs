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
    /// Its durable part of an interval.
    Written { lower: u64, upper: u64, written: Written, dropped: Dropped },
    /// Counts that go with no interval.
    Counted(Dropped),
    /// It cannot write its parts, so the interval must not be appended, nor any later one.
    Failed,
    /// It was told to stop, so no interval may be appended any more.
    Stopping,
}

/// What workers have of an interval, durable.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Written {
    /// Their parts, each with the greatest time of a row in it.
    pub(super) parts: Vec<(u64, Prepared)>,
    /// What their commands did, by time.
    pub(super) emitted: Vec<(u64, Emitted)>,
}

impl Written {
    pub(super) fn extend(&mut self, more: Written) {
        self.parts.extend(more.parts);
        self.emitted.extend(more.emitted);
    }

    /// Takes out what lies below a time, whole. A part that reaches past it stays: its rows below an append's
    /// lower do not count.
    pub(super) fn split_below(&mut self, bound: u64) -> Written {
        let below = |part: &(u64, Prepared)| part.0 < bound;
        let (parts, kept) = std::mem::take(&mut self.parts).into_iter().partition(below);
        self.parts = kept;
        let below = |emitted: &(u64, Emitted)| emitted.0 < bound;
        let (emitted, kept) = std::mem::take(&mut self.emitted).into_iter().partition(below);
        self.emitted = kept;
        Written { parts, emitted }
    }

    /// Returns what all its commands did.
    pub(super) fn total(&self) -> Emitted {
        self.emitted.iter().fold(Emitted::default(), |mut sum, (_, emitted)| {
            sum += *emitted;
            sum
        })
    }
}
