//! Owns the merge of sorted runs of rows into one chain of parts, in bounded memory. It does not
//! choose what is merged; that is [`compact`](super::compact)'s.
//!
//! One part of each run is in memory. Runs that are too many for that are merged in several passes,
//! through parts that no entry ever names.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;
use std::vec::IntoIter;

use futures::{StreamExt, TryStreamExt};

use crate::codec::packed::Encoded;
use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::part::{PartRef, Prepared, Update};
use crate::shard::engine::state::{Batch, Part};
use crate::shard::handle::Handle;
use crate::shard::rows::{CONCURRENT, Reading, arrange, size};
use crate::shard::uploads::Uploading;

/// What a decoded part takes in memory, in multiples of its bytes.
const DECODED: u64 = 3;

/// A part, and the interval of its batch: rows outside do not count.
#[derive(Clone, Debug)]
struct Piece {
    part: Part,
    lower: u64,
    upper: u64,
}

/// Pieces that are sorted by key, each behind the one before.
type Run = VecDeque<Piece>;

/// Returns the sorted runs of a batch.
fn runs(batch: &Batch) -> Vec<Run> {
    let (lower, upper) = (batch.lower, batch.upper);
    let pieces = batch.parts.iter().cloned().map(|part| Piece { part, lower, upper });
    match batch.forwarded {
        Some(_) => vec![pieces.collect()],
        // Each part of a commit is sorted, and they may come from several calls of `prepare`.
        None => pieces.map(|piece| Run::from([piece])).collect(),
    }
}

/// Returns about how much memory a run needs at a time.
fn weight(run: &Run) -> u64 {
    let largest = run.iter().map(|piece| piece.part.bytes()).max().unwrap_or(0);
    largest.saturating_mul(DECODED)
}

/// Cuts runs into groups that fit the memory, or of two at the least.
fn groups(runs: Vec<Run>, bytes_max: u64) -> Vec<Vec<Run>> {
    let mut groups: Vec<Vec<Run>> = Vec::new();
    let mut bytes = 0u64;
    for run in runs {
        let more = weight(&run);
        match groups.last_mut() {
            Some(group) if group.len() < 2 || bytes.saturating_add(more) <= bytes_max => {
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

/// A run that is being read.
struct Cursor {
    rows: Peekable<IntoIter<Update>>,
    rest: Run,
}

impl Cursor {
    async fn open(handle: Handle, rest: Run) -> Result<Cursor, Error> {
        let mut cursor = Cursor { rows: Vec::new().into_iter().peekable(), rest };
        cursor.fill(&handle).await?;
        Ok(cursor)
    }

    /// Reads on, if all rows at hand have been taken.
    async fn fill(&mut self, handle: &Handle) -> Result<(), Error> {
        while self.rows.peek().is_none() {
            let Some(Piece { part, lower, upper }) = self.rest.pop_front() else { break };
            let rows = handle.read(&part, lower, upper, Reading::Aside, |_| true).await?;
            self.rows = rows.into_iter().peekable();
        }
        Ok(())
    }

    fn key(&mut self) -> Option<&Encoded> {
        self.rows.peek().map(|((key, _), _, _)| key)
    }
}

impl Handle {
    /// Merges batches: every row with its time at least `forwarded`, equal rows summed, zeros
    /// dropped, sorted by key.
    pub(super) async fn merge(
        &self,
        batches: &[std::sync::Arc<Batch>],
        forwarded: u64,
        uploading: &Uploading,
        stats: &mut MaintenanceStats,
    ) -> Result<Vec<PartRef>, Error> {
        let bytes_max = self.inner.config.compact_bytes_max as u64;
        let mut runs: Vec<Run> = batches.iter().flat_map(|batch| runs(batch)).collect();
        let mut passing = Vec::new();
        let merged = loop {
            let mut groups = groups(runs, bytes_max);
            if groups.len() <= 1 {
                let all = groups.pop().unwrap_or_default();
                break self.merge_runs(all, forwarded, uploading, stats).await;
            }
            let mut next = Vec::with_capacity(groups.len());
            let mut failed = None;
            for group in groups {
                match self.merge_runs(group, forwarded, uploading, stats).await {
                    Ok(parts) => {
                        passing.extend(parts.iter().cloned().map(Prepared::Stored));
                        let piece = |part| Piece { part, lower: 0, upper: u64::MAX };
                        next.push(parts.into_iter().map(|part| piece(Part::from(part))).collect());
                    }
                    Err(e) => {
                        failed = Some(e);
                        break;
                    }
                }
            }
            if let Some(e) = failed {
                break Err(e);
            }
            runs = next;
        };
        // No entry has named them, nor will.
        self.discard(passing).await;
        merged
    }

    async fn merge_runs(
        &self,
        runs: Vec<Run>,
        forwarded: u64,
        uploading: &Uploading,
        stats: &mut MaintenanceStats,
    ) -> Result<Vec<PartRef>, Error> {
        let bytes: u64 = runs.iter().flatten().map(|piece| piece.part.bytes()).sum();
        stats.bytes_read += bytes;
        let opening: Vec<_> = runs.into_iter().map(|run| Cursor::open(self.clone(), run)).collect();
        let opening = futures::stream::iter(opening).buffered(CONCURRENT);
        let mut cursors: Vec<Cursor> = opening.try_collect().await?;
        let mut heads = BinaryHeap::new();
        for (index, cursor) in cursors.iter_mut().enumerate() {
            heads.extend(cursor.key().map(|key| Reverse((key.clone(), index))));
        }
        let mut output =
            Output { handle: self, uploading, rows: Vec::new(), bytes: 0, parts: Vec::new() };
        while let Some(Reverse((key, index))) = heads.pop() {
            let mut group = Vec::new();
            let mut next = Some(index);
            // All rows of one key, whichever runs have them.
            while let Some(index) = next {
                let cursor = &mut cursors[index];
                while cursor.key() == Some(&key) {
                    group.extend(cursor.rows.next());
                    cursor.fill(self).await?;
                }
                heads.extend(cursor.key().map(|key| Reverse((key.clone(), index))));
                let same = heads.peek().is_some_and(|Reverse((other, _))| *other == key);
                next = if same { heads.pop().map(|Reverse((_, index))| index) } else { None };
            }
            group.iter_mut().for_each(|(_, time, _)| *time = (*time).max(forwarded));
            for row in arrange(group)? {
                output.push(row).await?;
            }
        }
        output.flush().await?;
        stats.bytes_written += output.parts.iter().map(|part| part.bytes).sum::<u64>();
        Ok(output.parts)
    }
}

/// Rows on their way into parts.
struct Output<'a> {
    handle: &'a Handle,
    uploading: &'a Uploading,
    rows: Vec<Update>,
    bytes: usize,
    parts: Vec<PartRef>,
}

impl Output<'_> {
    async fn push(&mut self, row: Update) -> Result<(), Error> {
        let more = size(&row);
        if self.bytes + more > self.handle.inner.config.part_bytes_max {
            self.flush().await?;
        }
        self.bytes += more;
        self.rows.push(row);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if !self.rows.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            self.bytes = 0;
            self.parts.push(self.handle.store(&rows, self.uploading).await?);
        }
        Ok(())
    }
}
