//! Owns how rows of several sorted runs become one sequence: by the hash of the key, key and time, equal rows summed. A
//! row that only moves is copied as bytes. It does not own what is merged with what, nor for whom.
//!
//! Memory: the part that each run is read from, what is being written, and the rows of one key at one time, summed as they
//! come.

mod spill;

mod cursor;

mod shelf;

mod passes;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use self::cursor::Cursor;
use self::shelf::Output;
use crate::error::Error;
use crate::shard::engine::arrange::too_many;
use crate::shard::engine::part::{Line, Row};

pub(super) use cursor::Reads;
pub(super) use passes::{Moved, Passes, runs};
pub(super) use shelf::Shelf;
pub(super) use spill::Spill;

/// Rows between two moments at which other tasks have their turn.
const TURN: usize = 1 << 12;

/// Rows of one key and time that are held before they are summed, at the least.
const HELD: usize = 64;

/// A row, and the bytes it is in.
struct Held {
    bytes: Arc<Vec<u8>>,
    row: Row,
}

impl Held {
    fn key(&self) -> &[u8] {
        Row::bytes(&self.bytes, self.row.key)
    }

    fn value(&self) -> &[u8] {
        Row::bytes(&self.bytes, self.row.value)
    }

    /// Compares the hash, key and time with those of another row.
    #[inline]
    fn place(&self, bytes: &[u8], row: &Row) -> Ordering {
        (self.row.hash.cmp(&row.hash))
            .then_with(|| self.key().cmp(Row::bytes(bytes, row.key)))
            .then_with(|| self.row.time.cmp(&row.time))
    }
}

/// The row that a run stands at, if it is not its turn.
struct Head {
    held: Held,
    run: usize,
}

impl Head {
    fn of(run: usize, cursor: &Cursor) -> Option<Reverse<Head>> {
        let held = Held { bytes: Arc::clone(&cursor.buffer), row: cursor.row? };
        Some(Reverse(Head { held, run }))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        let place = self.held.place(&other.held.bytes, &other.held.row);
        place.then_with(|| self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Writes all rows of the cursors to `output`, in order.
async fn weave(
    reads: &Reads<'_>,
    mut cursors: Vec<Cursor>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let heads = cursors.iter().enumerate().filter_map(|(run, cursor)| Head::of(run, cursor));
    let mut heads: BinaryHeap<_> = heads.collect();
    // The rows of one key and time, whichever runs have them, and at how many they are summed.
    let (mut group, mut held_max): (Vec<Held>, usize) = (Vec::new(), HELD);
    let mut turn = 0;
    while let Some(Reverse(Head { run, .. })) = heads.pop() {
        let (cursor, other) = (&mut cursors[run], heads.peek());
        // As long as no other run is before it. Two at one place take turns.
        while let Some(row) = cursor.row {
            let other = other.map(|Reverse(other)| other.held.place(&cursor.buffer, &row));
            if other == Some(Ordering::Less) {
                heads.extend(Head::of(run, cursor));
                break;
            }
            cursor.advance()?;
            let elsewhere = other == Some(Ordering::Equal);
            let buffer = &cursor.buffer;
            let goes_on = |next: Row| {
                next.hash == row.hash
                    && next.time == row.time
                    && Row::bytes(buffer, next.key) == Row::bytes(buffer, row.key)
            };
            if group.is_empty() && !elsewhere && cursor.row.is_some_and(|next| !goes_on(next)) {
                // Most rows are alone at their place, and move without being held.
                output.push(line(&row, &cursor.buffer)).await?;
            } else {
                let held = Held { bytes: Arc::clone(&cursor.buffer), row };
                let mut whole = false;
                if cursor.row.is_none() {
                    cursor.fill(reads).await?;
                    // What is held keeps a part in memory that the run is done with.
                    whole = true;
                }
                let next = cursor.row;
                let goes_on = next.is_some_and(|next| held.place(&cursor.buffer, &next).is_eq());
                group.push(held);
                if !elsewhere && !goes_on {
                    settle(&mut group)?;
                    for Held { bytes, row } in group.drain(..) {
                        output.push(line(&row, &bytes)).await?;
                    }
                    held_max = HELD;
                } else if (whole || group.len() >= held_max)
                    && !crate::mutant::on("merge_holds_all_of_a_key")
                {
                    settle(&mut group)?;
                    held_max = HELD.max(2 * group.len());
                }
            }
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}

/// Returns a row as it is written, from the bytes of the part that it is in.
fn line<'a>(row: &Row, bytes: &'a [u8]) -> Line<'a> {
    let (key, value) = (Row::bytes(bytes, row.key), Row::bytes(bytes, row.value));
    Line { hash: row.hash, key, value, time: row.time, diff: row.diff }
}

/// Sums the diffs of equal rows of one key and time, drops zeros, and leaves the rest in the order of a part.
fn settle(group: &mut Vec<Held>) -> Result<(), Error> {
    if group.len() < 2 {
        return Ok(());
    }
    group.sort_by(|a, b| a.value().cmp(b.value()));
    let mut added = Ok(());
    group.dedup_by(|held, last| {
        let same = last.value() == held.value();
        if same {
            match last.row.diff.checked_add(held.row.diff) {
                Some(sum) => last.row.diff = sum,
                None => added = Err(too_many()),
            }
        }
        same
    });
    added?;
    group.retain(|held| held.row.diff != 0);
    // Stable: values are in order already.
    group.sort_by_key(|held| held.row.diff);
    Ok(())
}
