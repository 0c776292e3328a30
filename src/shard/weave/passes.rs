//! Owns how runs that are too many for the memory are merged all the same: which together, in how many passes.
//!
//! One part of each run is in memory, as it is stored; a part of format 1 is decoded to be sorted, eight at a time at the
//! most. So are two parts more, which are being written. Runs that are too many for that are merged in several passes,
//! through parts that nobody else ever sees, and which go as soon as they have been merged. A pass merges the smallest
//! runs, and no more of them than it takes: the largest, which is what earlier merges have written, is read and written
//! once, in the last one.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::cursor::{Cursor, Piece, Reads, Run};
use super::shelf::{Output, Shelf, Shelved};
use super::weave;
use crate::error::Error;
use crate::shard::engine::part;
use crate::shard::engine::state::{Batch, Part};
use crate::shard::rows::{CONCURRENT, CacheUse, Rows};

/// Returns the sorted runs of a batch, of whose rows those before `upper` count.
pub(in crate::shard) async fn runs(
    rows: &Rows,
    batch: &Arc<Batch>,
    upper: u64,
) -> Result<Vec<Run>, Error> {
    let (lower, upper) = (batch.lower, batch.upper.min(upper));
    let pieces = batch.parts.iter().cloned().map(|part| Piece::stored(part, lower, upper));
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
    /// What only the next pass reads: the parts of an earlier one.
    passing: Vec<Shelved>,
}

impl Waiting {
    fn new(run: Run, passing: Vec<Shelved>) -> Waiting {
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

/// Returns a part of a pass as the next one reads it.
fn again((part, spilled): &Shelved) -> Piece {
    Piece { part: Part::from(part.clone()), spilled: *spilled, lower: 0, upper: u64::MAX }
}

/// How runs become one: every row with its time forwarded, equal rows summed, zeros dropped, sorted by hash.
pub(in crate::shard) struct Passes<'a> {
    pub(in crate::shard) reads: Reads<'a>,
    /// Bytes of the parts that are read at a time, two at the least.
    pub(in crate::shard) bytes_max: u64,
    /// Where the parts of a pass go that is not the last.
    pub(in crate::shard) between: Shelf<'a>,
    /// Where those of the last one go.
    pub(in crate::shard) last: Shelf<'a>,
}

impl Passes<'_> {
    /// Returns the parts of the whole that are on a shelf, in order. Counts the bytes that were read and written.
    pub(in crate::shard) async fn merge(
        &self,
        runs: Vec<Run>,
        moved: &mut Moved,
    ) -> Result<Vec<Shelved>, Error> {
        let mut waiting = runs.into_iter().map(|run| Waiting::new(run, Vec::new())).collect();
        let merged = self.passes(&mut waiting, moved).await;
        // If it has failed: nobody else has seen them, nor will.
        for left in waiting {
            self.between.discard(self.reads.rows, left.passing).await;
        }
        merged
    }

    /// Merges in as many passes as the memory asks for. What has been merged is `waiting` no more.
    async fn passes(
        &self,
        waiting: &mut Vec<Waiting>,
        moved: &mut Moved,
    ) -> Result<Vec<Shelved>, Error> {
        loop {
            if !crate::mutant::on("oldest_passes") {
                waiting.sort_by_key(|waiting| waiting.bytes);
            }
            let part_bytes = self.between.part_bytes(self.reads.rows, u64::MAX) as u64;
            let taken = next(waiting, self.bytes_max, part_bytes);
            let is_last = taken == waiting.len();
            let merging = waiting[..taken].iter().map(|waiting| waiting.run.clone()).collect();
            let shelf = if is_last { &self.last } else { &self.between };
            let parts = self.pass(merging, shelf, moved).await?;
            // Their rows are in the new parts.
            for done in waiting.drain(..taken) {
                if !crate::mutant::on("passing_stays") {
                    self.between.discard(self.reads.rows, done.passing).await;
                }
            }
            if is_last {
                return Ok(parts);
            }
            waiting.push(Waiting::new(parts.iter().map(again).collect(), parts));
        }
    }

    async fn pass(
        &self,
        runs: Vec<Run>,
        shelf: &Shelf<'_>,
        moved: &mut Moved,
    ) -> Result<Vec<Shelved>, Error> {
        let bytes = runs.iter().flatten().map(|piece| piece.part.bytes()).sum::<u64>();
        moved.read += bytes;
        let opening: Vec<_> = runs.into_iter().map(|run| Cursor::open(&self.reads, run)).collect();
        let opening = futures::stream::iter(opening).buffered(CONCURRENT);
        let cursors: Vec<Cursor> = opening.try_collect().await?;
        let mut output = Output::new(self.reads.rows, shelf, self.reads.gauge, bytes);
        weave(&self.reads, cursors, &mut output).await?;
        let parts = output.finish().await?;
        moved.written += parts.iter().map(|(part, _)| part.bytes).sum::<u64>();
        Ok(parts)
    }
}

/// Bytes that passes have read and written.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Moved {
    pub(in crate::shard) read: u64,
    pub(in crate::shard) written: u64,
}
