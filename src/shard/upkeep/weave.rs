//! Owns how rows of several sorted runs become one sequence: by the hash of the key, rows of one key brought together,
//! forwarded and added up. A row that only moves is copied as bytes. It does not own what is merged with what.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::error::Error;
use crate::shard::engine::arrange::{arrange, too_many};
use crate::shard::engine::frame::damaged;
use crate::shard::engine::part::{self, ALL, Line, PartRef, Row, Scan, UPDATE_BYTES, Writer};
use crate::shard::engine::state::Part;
use crate::shard::memory::Counted;
use crate::shard::rows::{CacheUse, Rows};
use crate::shard::uploading::Uploading;

/// Rows between two moments at which other tasks have their turn.
const TURN: usize = 1 << 12;

/// Bytes at which a part ends, at the least.
const PART_BYTES_MIN: usize = 1 << 20;

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
    /// The bytes of the part that is read.
    buffer: Arc<Vec<u8>>,
    counted: Option<Counted>,
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
        let (scan, buffer, place, row) = (None, Arc::default(), String::new(), None);
        let mut cursor =
            Cursor { scan, buffer, counted: None, place, lower: 0, upper: 0, row, rest };
        cursor.fill(rows).await?;
        Ok(cursor)
    }

    /// Reads on, if all rows at hand have been taken.
    async fn fill(&mut self, rows: &Rows) -> Result<(), Error> {
        while self.row.is_none() {
            // Not in memory beside the next one.
            (self.buffer, self.counted) = (Arc::default(), None);
            let Some(Piece { part, lower, upper }) = self.rest.pop_front() else { break };
            let mut buffer = rows.buffer(&part, CacheUse::Aside).await?;
            let begins = self.upper == 0;
            (self.place, self.lower, self.upper) = (rows.view.place(&part), lower, upper);
            let place = |e: Error| e.at(self.place.clone());
            if part::version(&buffer).map_err(place)? == 1 {
                // Brought into the order of hashes first, in memory.
                let updates = part::decode_share(&buffer, lower, upper, ALL).map_err(place)?;
                let arranged = arrange(updates)?;
                if arranged.len() == 0 {
                    continue;
                }
                buffer = Arc::new(arranged.encode(0..arranged.len()).bytes);
            }
            self.scan = Some(Scan::new(Arc::clone(&buffer), ALL).map_err(place)?);
            self.counted = Some(rows.merging.count(buffer.len() as u64));
            self.buffer = buffer;
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
    while let Some(Reverse((_, index))) = heads.pop() {
        let (cursor, other) = (&mut cursors[index], heads.peek().map(|Reverse((hash, _))| *hash));
        // As long as no other run is before it. Two of one hash take turns.
        while let Some(row) = cursor.row {
            if other.is_some_and(|other| other < row.hash) {
                heads.push(Reverse((row.hash, index)));
                break;
            }
            cursor.advance()?;
            let (elsewhere, next) = (other == Some(row.hash), cursor.row.map(|next| next.hash));
            if group.is_empty() && !elsewhere && next.is_some_and(|next| next != row.hash) {
                // Most rows are alone with their hash, and move without being held.
                output.add(&cursor.buffer, row).await?;
            } else {
                group.push(Held { bytes: Arc::clone(&cursor.buffer), row });
                if next.is_none() {
                    cursor.fill(rows).await?;
                }
                if !elsewhere && cursor.row.is_none_or(|next| next.hash != row.hash) {
                    output.add_all(row.hash, &mut group).await?;
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

/// Rows on their way into parts, through memory that is the same for all of them.
pub(super) struct Output<'a> {
    rows: &'a Rows,
    uploading: &'a Uploading,
    /// No row has a lesser time.
    forwarded: u64,
    writer: Writer,
    _counted: Counted,
    /// Bytes at which a part ends.
    part_bytes: usize,
    /// The hash of the rows that came last.
    hash: Option<u64>,
    bytes: usize,
    parts: Vec<PartRef>,
}

impl<'a> Output<'a> {
    /// Makes an output for rows that have so many bytes, in parts of a 32nd of them each: within the bound, and no
    /// smaller than is worth a file. So a merge needs memory in proportion to what it merges, and a small shard has
    /// small parts.
    pub(super) fn new(
        rows: &'a Rows,
        uploading: &'a Uploading,
        forwarded: u64,
        bytes: u64,
    ) -> Output<'a> {
        let most = rows.view.config.part_bytes_max;
        let part_bytes = usize::try_from(bytes / 32).unwrap_or(most).max(PART_BYTES_MIN).min(most);
        let room = usize::try_from(bytes).unwrap_or(part_bytes).min(part_bytes);
        // As its rows come, and as it is written.
        let counted = rows.merging.count(2 * room as u64);
        let (writer, parts) = (Writer::with_room(room), Vec::new());
        Output {
            rows,
            uploading,
            forwarded,
            writer,
            _counted: counted,
            part_bytes,
            hash: None,
            bytes: 0,
            parts,
        }
    }

    /// Adds the row that is alone with its hash.
    async fn add(&mut self, bytes: &[u8], mut row: Row) -> Result<(), Error> {
        self.follow(row.hash)?;
        row.time = row.time.max(self.forwarded);
        self.push(line(row, bytes)).await
    }

    /// Adds all rows of one hash, and leaves the group empty.
    async fn add_all(&mut self, hash: u64, group: &mut Vec<Held>) -> Result<(), Error> {
        self.follow(hash)?;
        group.iter_mut().for_each(|held| held.row.time = held.row.time.max(self.forwarded));
        if group.len() > 1 {
            sum(group)?;
        }
        for Held { bytes, row } in group.drain(..) {
            self.push(line(row, &bytes)).await?;
        }
        Ok(())
    }

    /// Refuses a hash that is not behind the one before.
    fn follow(&mut self, hash: u64) -> Result<(), Error> {
        if self.hash.replace(hash).is_some_and(|last| last >= hash) {
            return Err(damaged("part", "it begins before the one that it follows ends"));
        }
        Ok(())
    }

    async fn push(&mut self, line: Line<'_>) -> Result<(), Error> {
        let more = line.key.len() + line.value.len() + UPDATE_BYTES;
        if self.bytes > 0 && self.bytes + more > self.part_bytes {
            self.flush().await?;
        }
        self.bytes += more;
        self.writer.push(&line);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let written = self.writer.finish();
        self.bytes = 0;
        let (part, bytes) = self.rows.store(written, self.uploading).await?;
        self.parts.push(part);
        bytes.into_iter().for_each(|bytes| self.writer.give_back(bytes));
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

/// Returns a row as it is written, from the bytes of the part that it is in.
fn line(row: Row, bytes: &[u8]) -> Line<'_> {
    let (key, value) = (Row::bytes(bytes, row.key), Row::bytes(bytes, row.value));
    Line { hash: row.hash, key, value, time: row.time, diff: row.diff }
}

/// Sums the diffs of equal rows of one hash, drops zeros, and leaves the rest in the order of a part.
fn sum(group: &mut Vec<Held>) -> Result<(), Error> {
    group.sort_by(|a, b| {
        let (x, y) = ((a.key(), a.row.time, a.value()), (b.key(), b.row.time, b.value()));
        x.cmp(&y)
    });
    let mut added = Ok(());
    group.dedup_by(|held, last| {
        let same =
            (last.row.time, last.key(), last.value()) == (held.row.time, held.key(), held.value());
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
    group.sort_by(|a, b| {
        let (x, y) = ((a.key(), a.row.time, a.row.diff), (b.key(), b.row.time, b.row.diff));
        x.cmp(&y)
    });
    Ok(())
}
