//! Owns what an upsert operator is given besides its streams, and what it gives. It does not own what it does.

use differential_dataflow::VecCollection;
use timely::dataflow::StreamVec;
use timely::progress::Timestamp;

use super::stats::UpsertStats;
use crate::error::{Error, at_least};

/// Bounds of an upsert operator, plain values.
#[derive(Clone, Debug)]
pub struct UpsertConfig<T> {
    /// The name that shows up in timely's logs. Default: empty.
    pub name: String,
    /// The upper that the feedback will have once it is whole; commands below it are dropped, and
    /// none is drained before. Default: the least time, for a feedback that starts empty.
    pub resume_upper: T,
    /// Bytes of stashed commands in memory, per worker; at the bound the greatest times spill.
    /// Default: 256 MiB.
    pub stash_bytes_max: usize,
    /// Updates emitted per wake-up, and a quarter of the commands and rows looked at, emitted or not; at the bound the
    /// operator yields and goes on. Default: 16,384.
    pub drain_rows_max: usize,
    /// Bytes of what is emitted before the emissions below it have come back, the buffers that rows keep included, and two of
    /// these: the operator then runs
    /// ahead of its feedback. It may only where the feedback can have no other updates than the operator
    /// itself would have emitted; see [`upsert`](crate::upsert). Default: 0, it never runs ahead.
    pub overlay_bytes_max: usize,
    /// Bytes of the state in memory, per worker, its index included: past it the rows that were written longest ago go to a
    /// file, and are read when their keys are commanded, many at a time, on threads of the process. The index, some 200 bytes
    /// per chunk, two chunks and what is being read stay in any case: see [Limits](crate::upsert#limits). Only
    /// [`Packed`](crate::Packed) keys and values can be so bounded. Default: none.
    pub state_bytes_max: Option<usize>,
    /// Whether the worker itself reads what is in that file, one row after another: then a run replays to the step, at the pace
    /// of one read at a time. A pipeline has its own threads for it. Default: false.
    pub reads_on_worker: bool,
    /// Bytes emitted per wake-up, up to the row that reaches it; then the operator yields and goes on. Default: 2 MiB.
    pub drain_bytes_max: usize,
}

impl<T: Timestamp> Default for UpsertConfig<T> {
    fn default() -> Self {
        UpsertConfig {
            name: String::new(),
            resume_upper: T::minimum(),
            stash_bytes_max: 256 << 20,
            drain_rows_max: 1 << 14,
            drain_bytes_max: 2 << 20,
            overlay_bytes_max: 0,
            state_bytes_max: None,
            reads_on_worker: false,
        }
    }
}

impl<T> UpsertConfig<T> {
    /// Checks the values. The operator does so itself, and fails.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the field and its range.
    pub fn validate(&self) -> Result<(), Error> {
        // Of nothing, a drain would yield for ever.
        at_least("drain_rows_max", self.drain_rows_max, 1)?;
        at_least("drain_bytes_max", self.drain_bytes_max, 1)
    }
}

/// What an upsert operator gives.
pub struct Upserted<'scope, K: 'static, V: 'static, T: Timestamp> {
    /// The updates, to be made durable and fed back.
    pub updates: VecCollection<'scope, T, (K, V), isize>,
    /// At most one error per worker, after which that worker's part holds still.
    pub errors: StreamVec<'scope, T, Error>,
    /// Counters and gauges of this worker.
    pub stats: UpsertStats,
}

impl<K, V, T: Timestamp> std::fmt::Debug for Upserted<'_, K, V, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upserted").field("stats", &self.stats).finish_non_exhaustive()
    }
}
