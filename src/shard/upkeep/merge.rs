//! Owns how batches become one chain of parts in the store. How runs are merged in bounded memory is
//! [`weave`](crate::shard::weave)'s; what is merged is [`compact`](super::compact)'s choice.

use std::sync::Arc;

use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::part::{ALL, PartRef};
use crate::shard::engine::state::Batch;
use crate::shard::rows::Rows;
use crate::shard::uploading::Uploading;
use crate::shard::weave::{Moved, Passes, Reads, Shelf, runs};

/// A merge of batches: every row with its time at least `forwarded`, equal rows summed, zeros dropped,
/// sorted by hash.
pub(super) struct Merge<'a> {
    pub(super) rows: &'a Rows,
    pub(super) uploading: &'a Uploading,
    pub(super) forwarded: u64,
}

impl Merge<'_> {
    /// Returns the parts of the whole, in order.
    pub(super) async fn run(
        &self,
        batches: &[Arc<Batch>],
        stats: &mut MaintenanceStats,
    ) -> Result<Vec<PartRef>, Error> {
        let mut all = Vec::new();
        for batch in batches {
            all.extend(runs(self.rows, batch, u64::MAX).await?);
        }
        let (rows, forwarded) = (self.rows, self.forwarded);
        let reads = Reads { rows, spill: None, gauge: &rows.merging, hashes: ALL, forwarded };
        let passes = Passes {
            reads,
            bytes_max: rows.view.config.compact_bytes_max as u64,
            between: Shelf::Store(self.uploading),
            last: Shelf::Store(self.uploading),
        };
        let mut moved = Moved::default();
        let merged = passes.merge(all, &mut moved).await;
        stats.bytes_read += moved.read;
        stats.bytes_written += moved.written;
        Ok(merged?.into_iter().map(|(part, _)| part).collect())
    }
}
