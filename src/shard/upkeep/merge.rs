//! Owns the merge of sorted runs of rows into one chain of parts, in bounded memory. It does not
//! choose what is merged; that is [`compact`](super::compact)'s.
//!
//! One part of each run is in memory. Runs that are too many for that are merged in several passes,
//! through parts that no entry ever names.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use futures::{StreamExt, TryStreamExt};

use crate::codec::packed::Encoded;
use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::arrange::{arrange, size};
use crate::shard::engine::part::{PartRef, Prepared, Update};
use crate::shard::engine::state::{Batch, Part};
use crate::shard::rows::{CONCURRENT, CacheUse, Rows};
use crate::shard::uploading::Uploading;

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
    read: Peekable<IntoIter<Update>>,
    rest: Run,
}

impl Cursor {
    async fn open(rows: &Rows, rest: Run) -> Result<Cursor, Error> {
        let mut cursor = Cursor { read: Vec::new().into_iter().peekable(), rest };
        cursor.fill(rows).await?;
        Ok(cursor)
    }

    /// Reads on, if all rows at hand have been taken.
    async fn fill(&mut self, rows: &Rows) -> Result<(), Error> {
        while self.read.peek().is_none() {
            let Some(Piece { part, lower, upper }) = self.rest.pop_front() else { break };
            let read = rows.read(&part, lower, upper, CacheUse::Aside, |_| true).await?;
            self.read = read.into_iter().peekable();
        }
        Ok(())
    }

    fn key(&mut self) -> Option<&Encoded> {
        self.read.peek().map(|((key, _), _, _)| key)
    }

    /// Moves all rows of a key, with which it begins, to `group`.
    async fn take(
        &mut self,
        key: &Encoded,
        group: &mut Vec<Update>,
        rows: &Rows,
    ) -> Result<(), Error> {
        while self.key() == Some(key) {
            group.extend(self.read.next());
            self.fill(rows).await?;
        }
        Ok(())
    }
}

/// Which run begins with which key, the least on top.
#[derive(Default)]
struct Heads(BinaryHeap<Reverse<(Encoded, usize)>>);

impl Heads {
    /// Adds a run, unless it is at its end.
    fn push(&mut self, index: usize, cursor: &mut Cursor) {
        if let Some(key) = cursor.key() {
            self.0.push(Reverse((key.clone(), index)));
        }
    }

    /// Takes the least key, and a run that begins with it.
    fn pop(&mut self) -> Option<(Encoded, usize)> {
        self.0.pop().map(|Reverse(head)| head)
    }

    /// Takes a run that begins with `key`, which is the least.
    fn pop_same(&mut self, key: &Encoded) -> Option<usize> {
        let head = self.0.peek_mut().filter(|head| head.0.0 == *key)?;
        let Reverse((_, index)) = PeekMut::pop(head);
        Some(index)
    }
}

/// A merge of batches: every row with its time at least `forwarded`, equal rows summed, zeros dropped,
/// sorted by key.
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
        let mut runs: Vec<Run> = batches.iter().flat_map(|batch| runs(batch)).collect();
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
        stats.bytes_read += runs.iter().flatten().map(|piece| piece.part.bytes()).sum::<u64>();
        let opening: Vec<_> = runs.into_iter().map(|run| Cursor::open(self.rows, run)).collect();
        let opening = futures::stream::iter(opening).buffered(CONCURRENT);
        let mut cursors: Vec<Cursor> = opening.try_collect().await?;
        let mut heads = Heads::default();
        for (index, cursor) in cursors.iter_mut().enumerate() {
            heads.push(index, cursor);
        }
        let mut output = Output { merge: self, rows: Vec::new(), bytes: 0, parts: Vec::new() };
        while let Some((key, first)) = heads.pop() {
            let (mut group, mut next) = (Vec::new(), Some(first));
            // All rows of one key, whichever runs have them.
            while let Some(index) = next {
                cursors[index].take(&key, &mut group, self.rows).await?;
                heads.push(index, &mut cursors[index]);
                next = heads.pop_same(&key);
            }
            group.iter_mut().for_each(|(_, time, _)| *time = (*time).max(self.forwarded));
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
    merge: &'a Merge<'a>,
    rows: Vec<Update>,
    bytes: usize,
    parts: Vec<PartRef>,
}

impl Output<'_> {
    async fn push(&mut self, row: Update) -> Result<(), Error> {
        let more = size(&row);
        if self.bytes + more > self.merge.rows.view.config.part_bytes_max {
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
            self.parts.push(self.merge.rows.store(&rows, self.merge.uploading).await?);
        }
        Ok(())
    }
}
