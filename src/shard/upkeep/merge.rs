//! Owns how many sorted runs of rows become one chain of parts in bounded memory: which are merged together, in how many
//! passes. How rows are merged is [`weave`](super::weave)'s; what is merged is [`compact`](super::compact)'s choice.
//!
//! One part of each run is in memory, as it is stored; a part of format 1 is decoded to be sorted, eight at a time at the
//! most. So are two parts more, which are being written. Runs that are too many for that are merged in several passes,
//! through parts that no entry ever names.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::weave::{Cursor, Output, Piece, Run, weave};
use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::part::{self, PartRef, Prepared};
use crate::shard::engine::state::{Batch, Part};
use crate::shard::rows::{CONCURRENT, CacheUse, Rows};
use crate::shard::uploading::Uploading;

/// Returns the sorted runs of a batch.
async fn runs(rows: &Rows, batch: &Batch) -> Result<Vec<Run>, Error> {
    let (lower, upper) = (batch.lower, batch.upper);
    let pieces = batch.parts.iter().cloned().map(|part| Piece { part, lower, upper });
    let chained = match (&*batch.parts, batch.forwarded) {
        ([first, _, ..], Some(_)) => {
            // A merge writes one format: a chain of format 1 is sorted by key.
            let first = rows.buffer(first, CacheUse::Aside).await?;
            part::version(&first)? == 2
        }
        // Each part of a commit is sorted, and they may come from several calls of `prepare`.
        (_, forwarded) => forwarded.is_some(),
    };
    match chained {
        true => Ok(vec![pieces.collect()]),
        false => Ok(pieces.map(|piece| Run::from([piece])).collect()),
    }
}

/// Returns about how much memory a run needs at a time: one part of it as it is stored.
fn weight(run: &Run) -> u64 {
    run.iter().map(|piece| piece.part.bytes()).max().unwrap_or(0)
}

/// Cuts runs into groups that fit the memory, or of two at the least.
fn groups(runs: Vec<Run>, bytes_max: u64) -> Vec<Vec<Run>> {
    let mut groups: Vec<Vec<Run>> = Vec::new();
    let mut bytes = 0u64;
    for run in runs {
        let more = weight(&run);
        match groups.last_mut() {
            Some(group)
                if group.len() < 2
                    || bytes.saturating_add(more) <= bytes_max
                    || crate::mutant::on("merge_in_one_pass") =>
            {
                bytes = bytes.saturating_add(more);
                group.push(run);
            }
            _ => {
                bytes = more;
                groups.push(vec![run]);
            }
        }
    }
    groups
}

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
        let mut passing = Vec::new();
        let merged = self.passes(batches, &mut passing, stats).await;
        // No entry has named them, nor will.
        self.rows.discard(passing).await;
        merged
    }

    /// Merges in as many passes as the memory asks for. `passing` are the parts of all but the last.
    async fn passes(
        &self,
        batches: &[Arc<Batch>],
        passing: &mut Vec<Prepared>,
        stats: &mut MaintenanceStats,
    ) -> Result<Vec<PartRef>, Error> {
        let bytes_max = self.rows.view.config.compact_bytes_max as u64;
        let mut all: Vec<Run> = Vec::new();
        for batch in batches {
            all.extend(runs(self.rows, batch).await?);
        }
        let mut runs = all;
        loop {
            let mut groups = groups(runs, bytes_max);
            if groups.len() <= 1 {
                return self.merge(groups.pop().unwrap_or_default(), stats).await;
            }
            let mut next = Vec::with_capacity(groups.len());
            for group in groups {
                let parts = self.merge(group, stats).await?;
                passing.extend(parts.iter().cloned().map(Prepared::Stored));
                let piece = |part| Piece { part: Part::from(part), lower: 0, upper: u64::MAX };
                next.push(parts.into_iter().map(piece).collect());
            }
            runs = next;
        }
    }

    async fn merge(
        &self,
        runs: Vec<Run>,
        stats: &mut MaintenanceStats,
    ) -> Result<Vec<PartRef>, Error> {
        let bytes = runs.iter().flatten().map(|piece| piece.part.bytes()).sum::<u64>();
        stats.bytes_read += bytes;
        let opening: Vec<_> = runs.into_iter().map(|run| Cursor::open(self.rows, run)).collect();
        let opening = futures::stream::iter(opening).buffered(CONCURRENT);
        let cursors: Vec<Cursor> = opening.try_collect().await?;
        let mut output = Output::new(self.rows, self.uploading, self.forwarded, bytes);
        weave(self.rows, cursors, &mut output).await?;
        let parts = output.finish().await?;
        stats.bytes_written += parts.iter().map(|part| part.bytes).sum::<u64>();
        Ok(parts)
    }
}
