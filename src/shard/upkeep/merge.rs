//! Owns how many sorted runs of rows become one chain of parts in bounded memory: which are merged together, in how many
//! passes. How rows are merged is [`weave`](super::weave)'s; what is merged is [`compact`](super::compact)'s choice.
//!
//! One part of each run is in memory, as it is stored; a part of format 1 is decoded to be sorted, eight at a time at the
//! most. So are two parts more, which are being written. Runs that are too many for that are merged in several passes,
//! through parts that no entry ever names, and which go as soon as they have been merged. A pass merges the smallest runs,
//! and no more of them than it takes: the largest, which is what earlier merges have written, is read and written
//! once, in the last one.

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

/// A run that waits to be merged.
struct Waiting {
    run: Run,
    /// All its bytes.
    bytes: u64,
    /// What no entry names: the parts of an earlier pass.
    passing: Vec<Prepared>,
}

impl Waiting {
    fn new(run: Run, passing: Vec<Prepared>) -> Waiting {
        let bytes = run.iter().map(|piece| piece.part.bytes()).sum();
        Waiting { run, bytes, passing }
    }
}

/// Returns how many of the runs, smallest first, the next pass merges: all if they fit the memory, or no more than it
/// takes that the others and the new one do; in any case as many as fit, and two.
fn next(runs: &[Waiting], bytes_max: u64, part_bytes: u64) -> usize {
    let mut rest: u64 = runs.iter().map(|waiting| weight(&waiting.run)).sum();
    if rest <= bytes_max || crate::mutant::on("merge_in_one_pass") {
        return runs.len();
    }
    let (mut taken, mut memory, mut bytes) = (0, 0u64, 0u64);
    for waiting in runs {
        let more = weight(&waiting.run);
        let fits = memory.saturating_add(more) <= bytes_max;
        if taken >= 2 && (!fits || rest.saturating_add(bytes.min(part_bytes)) <= bytes_max) {
            break;
        }
        taken += 1;
        memory = memory.saturating_add(more);
        bytes = bytes.saturating_add(waiting.bytes);
        rest = rest.saturating_sub(more);
    }
    taken
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
        let mut waiting = Vec::new();
        for batch in batches {
            let runs = runs(self.rows, batch).await?;
            waiting.extend(runs.into_iter().map(|run| Waiting::new(run, Vec::new())));
        }
        let merged = self.passes(&mut waiting, stats).await;
        // If it has failed: no entry has named them, nor will.
        for left in waiting {
            self.rows.discard(left.passing).await;
        }
        merged
    }

    /// Merges in as many passes as the memory asks for. What has been merged is `waiting` no more.
    async fn passes(
        &self,
        waiting: &mut Vec<Waiting>,
        stats: &mut MaintenanceStats,
    ) -> Result<Vec<PartRef>, Error> {
        let config = &self.rows.view.config;
        let (bytes_max, part_bytes) =
            (config.compact_bytes_max as u64, config.part_bytes_max as u64);
        loop {
            if !crate::mutant::on("oldest_passes") {
                waiting.sort_by_key(|waiting| waiting.bytes);
            }
            let taken = next(waiting, bytes_max, part_bytes);
            let merging = waiting[..taken].iter().map(|waiting| waiting.run.clone()).collect();
            let parts = self.merge(merging, stats).await?;
            // Their rows are in the new parts.
            for done in waiting.drain(..taken) {
                if !crate::mutant::on("passing_stays") {
                    self.rows.discard(done.passing).await;
                }
            }
            if waiting.is_empty() {
                return Ok(parts);
            }
            let passing = parts.iter().cloned().map(Prepared::Stored).collect();
            let piece = |part| Piece { part: Part::from(part), lower: 0, upper: u64::MAX };
            waiting.push(Waiting::new(parts.into_iter().map(piece).collect(), passing));
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
