//! Owns a run that is read: its parts one after another, row by row. It does not know other runs.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::spill::Spill;
use crate::error::Error;
use crate::shard::engine::arrange::arrange;
use crate::shard::engine::frame::damaged;
use crate::shard::engine::part::{self, Row, Scan};
use crate::shard::engine::state::Part;
use crate::shard::memory::{Counted, Gauge};
use crate::shard::rows::{CacheUse, Rows};

/// A part, and the interval of its batch: rows outside do not count.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Piece {
    pub(in crate::shard) part: Part,
    /// Where in the scratch file it is, if it is there.
    pub(super) spilled: Option<u64>,
    pub(in crate::shard) lower: u64,
    pub(in crate::shard) upper: u64,
}

impl Piece {
    /// Returns what is in the store.
    pub(in crate::shard) fn stored(part: Part, lower: u64, upper: u64) -> Piece {
        Piece { part, spilled: None, lower, upper }
    }
}

/// Pieces that are sorted by hash, each behind the one before.
pub(in crate::shard) type Run = VecDeque<Piece>;

/// How runs are read, and which of their rows.
pub(in crate::shard) struct Reads<'a> {
    pub(in crate::shard) rows: &'a Rows,
    /// Where runs of an earlier pass are, if not in the store.
    pub(in crate::shard) spill: Option<&'a Spill>,
    /// Counts the parts that are read.
    pub(in crate::shard) gauge: &'a Gauge,
    /// The hashes of the keys that are wanted.
    pub(in crate::shard) hashes: RangeInclusive<u64>,
    /// No row has a lesser time.
    pub(in crate::shard) forwarded: u64,
}

impl Reads<'_> {
    async fn buffer(&self, piece: &Piece) -> Result<Arc<Vec<u8>>, Error> {
        match (piece.spilled, self.spill) {
            (Some(at), Some(spill)) => spill.read(at, &piece.part).map(Arc::new),
            _ => self.rows.buffer(&piece.part, CacheUse::Aside).await,
        }
    }

    fn place(&self, piece: &Piece) -> String {
        match piece.spilled {
            Some(_) => Spill::place(),
            None => self.rows.view.place(&piece.part),
        }
    }
}

/// A run that is being read.
pub(super) struct Cursor {
    scan: Option<Scan>,
    /// The bytes of the part that is read.
    pub(super) buffer: Arc<Vec<u8>>,
    counted: Option<Counted>,
    /// Where the part is kept.
    place: String,
    /// The interval of the part that is read.
    lower: u64,
    upper: u64,
    forwarded: u64,
    /// The row it stands at.
    pub(super) row: Option<Row>,
    /// The row it stood at last, and where its key is.
    last: Option<Row>,
    rest: Run,
}

impl Cursor {
    /// Reads the first part, and stands at the first row.
    pub(super) async fn open(reads: &Reads<'_>, rest: Run) -> Result<Cursor, Error> {
        let mut cursor = Cursor {
            scan: None,
            buffer: Arc::default(),
            counted: None,
            place: String::new(),
            lower: 0,
            upper: 0,
            forwarded: reads.forwarded,
            row: None,
            last: None,
            rest,
        };
        cursor.fill(reads).await?;
        Ok(cursor)
    }

    /// Reads on, if all rows at hand have been taken.
    pub(super) async fn fill(&mut self, reads: &Reads<'_>) -> Result<(), Error> {
        while self.row.is_none() {
            let last = self.last.take();
            let last =
                last.map(|row| (row.hash, Row::bytes(&self.buffer, row.key).to_vec(), row.time));
            // Not in memory beside the next one.
            (self.scan, self.buffer, self.counted) = (None, Arc::default(), None);
            let Some(piece) = self.rest.pop_front() else { break };
            let mut buffer = reads.buffer(&piece).await?;
            let begins = self.upper == 0;
            (self.place, self.lower, self.upper) = (reads.place(&piece), piece.lower, piece.upper);
            let place = |e: Error| e.at(self.place.clone());
            if part::version(&buffer).map_err(place)? == 1 {
                // Brought into the order of hashes first, in memory.
                let hashes = reads.hashes.clone();
                let updates = part::decode_share(&buffer, piece.lower, piece.upper, hashes);
                let arranged = arrange(updates.map_err(place)?)?;
                if arranged.len() == 0 {
                    continue;
                }
                buffer = Arc::new(arranged.encode(0..arranged.len()).bytes);
            }
            let scan = Scan::new(Arc::clone(&buffer), reads.hashes.clone());
            self.scan = Some(scan.map_err(place)?);
            self.counted = Some(reads.gauge.count(buffer.len() as u64));
            self.buffer = buffer;
            self.advance()?;
            if !begins && crate::mutant::on("merge_skips_border") {
                self.advance()?;
            }
            if let (Some((hash, key, time)), Some(row)) = (last, self.row) {
                let first = (row.hash, Row::bytes(&self.buffer, row.key), row.time);
                if first < (hash, &key, time) {
                    let what = "it begins before the one that it follows ends";
                    return Err(damaged("part", what).at(self.place.clone()));
                }
            }
        }
        Ok(())
    }

    /// Goes on to the next row of this part that counts, if there is one.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<(), Error> {
        self.last = self.row.take().or(self.last);
        let Some(scan) = &mut self.scan else { return Ok(()) };
        while let Some(mut row) = scan.next().map_err(|e| e.at(self.place.clone()))? {
            if self.lower <= row.time && row.time < self.upper {
                row.time = row.time.max(self.forwarded);
                self.row = Some(row);
                return Ok(());
            }
        }
        self.scan = None;
        Ok(())
    }
}
