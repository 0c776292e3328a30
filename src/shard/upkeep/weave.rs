//! Owns how rows of several sorted runs become one sequence: by the hash of the key, rows of one key brought together,
//! forwarded and added up. A row that only moves is copied as bytes. It does not own what is merged with what.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::error::Error;
use crate::shard::engine::arrange::{arrange, too_many};
use crate::shard::engine::frame::damaged;
use crate::shard::engine::part::{self, ALL, PartRef, Row, Scan, UPDATE_BYTES, Writer};
use crate::shard::engine::state::Part;
use crate::shard::rows::{CacheUse, Rows};
use crate::shard::uploading::Uploading;

/// Rows between two moments at which other tasks have their turn.
const TURN: usize = 1 << 12;

/// A part, and the interval of its batch: rows outside do not count.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) part: Part,
    pub(super) lower: u64,
    pub(super) upper: u64,
}

/// Pieces that are sorted by hash, each behind the one before.
pub(super) type Run = VecDeque<Piece>;

/// A run that is being read.
pub(super) struct Cursor {
    scan: Option<Scan>,
    /// Where the part is kept.
    place: String,
    /// The interval of the part that is read.
    lower: u64,
    upper: u64,
    /// The row it stands at.
    row: Option<Row>,
    rest: Run,
}

impl Cursor {
    /// Reads the first part, and stands at the first row.
    pub(super) async fn open(rows: &Rows, rest: Run) -> Result<Cursor, Error> {
        let (place, row) = (String::new(), None);
        let mut cursor = Cursor { scan: None, place, lower: 0, upper: 0, row, rest };
        cursor.fill(rows).await?;
        Ok(cursor)
    }

    /// Reads on, if all rows at hand have been taken.
    async fn fill(&mut self, rows: &Rows) -> Result<(), Error> {
        while self.row.is_none() {
            let Some(Piece { part, lower, upper }) = self.rest.pop_front() else { break };
            let mut buffer = rows.buffer(&part, CacheUse::Aside).await?;
            let begins = self.upper == 0;
            (self.place, self.lower, self.upper) = (rows.view.place(&part), lower, upper);
            let place = |e: Error| e.at(self.place.clone());
            if part::version(&buffer).map_err(place)? == 1 {
                // Brought into the order of hashes first, in memory.
                let updates = part::decode_share(&buffer, lower, upper, ALL).map_err(place)?;
                let arranged = arrange(updates)?;
                if arranged.updates().is_empty() {
                    continue;
                }
                buffer = Arc::new(arranged.encode(0..arranged.updates().len()).bytes);
            }
            self.scan = Some(Scan::new(buffer, ALL).map_err(place)?);
            self.advance()?;
            if !begins && crate::mutant::on("merge_skips_border") {
                self.advance()?;
            }
        }
        Ok(())
    }

    /// Goes on to the next row of this part that counts, if there is one.
    fn advance(&mut self) -> Result<(), Error> {
        self.row = None;
        let Some(scan) = &mut self.scan else { return Ok(()) };
        while let Some(row) = scan.next().map_err(|e| e.at(self.place.clone()))? {
            if self.lower <= row.time && row.time < self.upper {
                self.row = Some(row);
                return Ok(());
            }
        }
        self.scan = None;
        Ok(())
    }
}

impl Cursor {
    /// Returns the row it stands at.
    fn held(&self) -> Option<Held> {
        Some(Held { bytes: Arc::clone(self.scan.as_ref()?.buffer()), row: self.row? })
    }
}

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
}

/// Writes all rows of the cursors to `output`, in order.
pub(super) async fn weave(
    rows: &Rows,
    mut cursors: Vec<Cursor>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let head = |(index, cursor): (usize, &Cursor)| Some(Reverse((cursor.row?.hash, index)));
    let mut heads: BinaryHeap<_> = cursors.iter().enumerate().filter_map(head).collect();
    // The rows of one hash, whichever runs have them.
    let mut group: Vec<Held> = Vec::new();
    let mut turn = 0;
    while let Some(Reverse((hash, index))) = heads.peek().copied() {
        let cursor = &mut cursors[index];
        let Some(held) = cursor.held() else {
            heads.pop();
            continue;
        };
        cursor.advance()?;
        match cursor.row {
            // One place of the heap changes; mostly it stays on top.
            Some(next) => {
                heads.peek_mut().into_iter().for_each(|mut top| top.0.0 = next.hash);
            }
            None => {
                heads.pop();
                cursor.fill(rows).await?;
                heads.extend(cursor.row.map(|row| Reverse((row.hash, index))));
            }
        }
        group.push(held);
        if heads.peek().is_some_and(|Reverse((next, _))| *next == hash) {
            continue;
        }
        output.add(hash, &mut group).await?;
        turn += 1;
        if turn % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Rows on their way into parts.
pub(super) struct Output<'a> {
    rows: &'a Rows,
    uploading: &'a Uploading,
    /// No row has a lesser time.
    forwarded: u64,
    writer: Writer,
    /// The hash of the rows that came last.
    hash: Option<u64>,
    bytes: usize,
    parts: Vec<PartRef>,
}

impl<'a> Output<'a> {
    pub(super) fn new(rows: &'a Rows, uploading: &'a Uploading, forwarded: u64) -> Output<'a> {
        let (writer, parts) = (Writer::default(), Vec::new());
        Output { rows, uploading, forwarded, writer, hash: None, bytes: 0, parts }
    }

    /// Adds all rows of one hash, and leaves the group empty.
    async fn add(&mut self, hash: u64, group: &mut Vec<Held>) -> Result<(), Error> {
        if self.hash.replace(hash).is_some_and(|last| last >= hash) {
            return Err(damaged("part", "it begins before the one that it follows ends"));
        }
        group.iter_mut().for_each(|held| held.row.time = held.row.time.max(self.forwarded));
        if group.len() > 1 {
            sum(group)?;
        }
        for held in group.drain(..) {
            self.push(&held).await?;
        }
        Ok(())
    }

    async fn push(&mut self, held: &Held) -> Result<(), Error> {
        let (key, value) = (held.key(), held.value());
        let more = key.len() + value.len() + UPDATE_BYTES;
        if self.bytes > 0 && self.bytes + more > self.rows.view.config.part_bytes_max {
            self.flush().await?;
        }
        self.bytes += more;
        let Row { hash, time, diff, .. } = held.row;
        self.writer.push(hash, key, value, time, diff);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let written = std::mem::take(&mut self.writer).finish();
        self.bytes = 0;
        self.parts.push(self.rows.store(written, self.uploading).await?);
        Ok(())
    }

    /// Returns the parts.
    pub(super) async fn finish(mut self) -> Result<Vec<PartRef>, Error> {
        if self.bytes > 0 {
            self.flush().await?;
        }
        Ok(self.parts)
    }
}

/// Sums the diffs of equal rows of one hash, drops zeros, and leaves the rest in the order of a part.
fn sum(group: &mut Vec<Held>) -> Result<(), Error> {
    group.sort_by(|a, b| {
        let (x, y) = ((a.key(), a.row.time, a.value()), (b.key(), b.row.time, b.value()));
        x.cmp(&y)
    });
    let mut sums: Vec<Held> = Vec::with_capacity(group.len());
    for held in group.drain(..) {
        let same = |last: &&mut Held| {
            (last.row.time, last.key(), last.value()) == (held.row.time, held.key(), held.value())
        };
        match sums.last_mut().filter(same) {
            Some(last) => {
                last.row.diff = last.row.diff.checked_add(held.row.diff).ok_or_else(too_many)?;
            }
            None => sums.push(held),
        }
    }
    sums.retain(|held| held.row.diff != 0);
    // Stable: values are in order already.
    sums.sort_by(|a, b| {
        let (x, y) = ((a.key(), a.row.time, a.row.diff), (b.key(), b.row.time, b.row.diff));
        x.cmp(&y)
    });
    *group = sums;
    Ok(())
}
