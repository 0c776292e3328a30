//! Owns the bytes of a part of format 2: rows in the order of the hash of their key, as columns, with a fence at every
//! 256th row. So a worker finds its range of hashes without a look at the other rows, and a merge moves rows as bytes.
//!
//! ```text
//! offset  bytes
//! 0       8    magic
//! 8       2    version, u16 LE: 2
//! 10      6    0
//! 16      8    number of updates, u64 LE
//! 24      8    least time
//! 32      8    greatest time
//! 40      8    length of the keys, together
//! 48      8    length of the values, together
//! 56      4*9  per column of numbers (key lengths, value lengths, times, diffs): the least of them, u64 LE, and how
//!              many bytes each takes above that, 0, 1, 2, 4 or 8
//! 92      4    crc32c of the bytes after the header
//! 96      4    crc32c of the bytes before it
//! 100     16*n fences, of each 256th row from the first on: the hash of its key, u64; where its key and its value
//!              begin, u32
//!              the four columns; the bytes of all keys; the bytes of all values; without gaps, all LE
//! ```
//!
//! Rows are sorted by the xxh3-64 of the key, key, time, diff and value, and no two are equal. The hash of a row is
//! nowhere but at a fence: a reader computes it from the key, and so finds rows that are out of order.
//!
//! It reads. [`write`](super::write) writes.

use std::cmp::Ordering;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::super::frame::{damaged, unsupported};
use super::column::Column;
use super::shape::{ALL, PartHeader, WHAT, u32_at, u64_at};
use crate::codec::deal::hash;
use crate::error::Error;

pub(super) const VERSION: u16 = 2;
pub(super) const COLUMNS: usize = 4;
pub(super) const TABLE: usize = 56;
/// Where the checksum of the body is, and the one of the header after it.
pub(super) const CHECKSUMS: usize = TABLE + COLUMNS * 9;
pub(super) const HEADER: usize = CHECKSUMS + 4 + 4;
/// Bytes of a fence, and rows from one to the next.
pub(super) const FENCE: usize = 8 + 4 + 4;
pub(super) const FENCED_ROWS: usize = 256;

/// What the header says, and where it says that everything is.
#[derive(Debug)]
pub(super) struct Header {
    updates: u64,
    time_min: u64,
    time_max: u64,
    body_crc: u32,
    columns: [Column; COLUMNS],
    /// Where the keys and the values begin; the values end where the part does.
    keys: usize,
    values: usize,
}

impl Header {
    /// Decodes the header, and checks every length against the bytes there are, and that the fences do not fall.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, Error> {
        if bytes.len() < HEADER {
            return Err(damaged(WHAT, format!("{} bytes", bytes.len())));
        }
        if crc32c::crc32c(&bytes[..HEADER - 4]) != u32_at(bytes, HEADER - 4) {
            return Err(damaged(WHAT, "the checksum of its header does not match"));
        }
        if bytes[10..16] != [0; 6] {
            return Err(unsupported(WHAT, "2 with another codec or compression"));
        }
        let mut columns = [Column::default(); COLUMNS];
        for (index, column) in columns.iter_mut().enumerate() {
            let at = TABLE + index * 9;
            *column = Column::named(WHAT, u64_at(bytes, at), bytes[at + 8])?;
        }
        let (updates, time_min, time_max) =
            (u64_at(bytes, 16), u64_at(bytes, 24), u64_at(bytes, 32));
        let beyond = || damaged(WHAT, "a section beyond its end");
        let length = |length: u64| usize::try_from(length).map_err(|_| beyond());
        // Rows differ, so that each has a byte of its own, but for the empty one.
        let rows = length(updates).ok().filter(|rows| (1..=bytes.len()).contains(rows));
        let rows = rows.ok_or_else(|| damaged(WHAT, format!("{updates} updates")))?;
        let mut at = HEADER + rows.div_ceil(FENCED_ROWS) * FENCE;
        for column in &mut columns {
            *column = column.at(at);
            at += column.width * rows;
        }
        let keys = at;
        let values = keys.checked_add(length(u64_at(bytes, 40))?).ok_or_else(beyond)?;
        let end = values.checked_add(length(u64_at(bytes, 48))?).ok_or_else(beyond)?;
        if end != bytes.len() {
            return Err(damaged(WHAT, "sections of another length than its rows need"));
        }
        let body_crc = u32_at(bytes, CHECKSUMS);
        let header = Header { updates, time_min, time_max, body_crc, columns, keys, values };
        let fences = (0..header.fences()).map(|fence| header.fence(bytes, fence).hash);
        if !fences.is_sorted() {
            return Err(out_of_order());
        }
        Ok(header)
    }

    /// Checks the bytes after the header.
    pub(super) fn check_body(&self, bytes: &[u8]) -> Result<(), Error> {
        if crc32c::crc32c(&bytes[HEADER..]) != self.body_crc {
            return Err(damaged(WHAT, "the checksum of its rows does not match"));
        }
        Ok(())
    }

    pub(super) fn shown(&self) -> PartHeader {
        let Header { updates, time_min, time_max, .. } = *self;
        PartHeader { version: VERSION, updates, time_min, time_max }
    }

    fn rows(&self) -> usize {
        // Checked when it was decoded.
        self.updates as usize
    }

    fn fences(&self) -> usize {
        self.rows().div_ceil(FENCED_ROWS)
    }

    fn fence(&self, bytes: &[u8], fence: usize) -> Fence {
        let at = HEADER + fence * FENCE;
        Fence {
            hash: u64_at(bytes, at),
            key: self.keys + u32_at(bytes, at + 8) as usize,
            value: self.values + u32_at(bytes, at + 12) as usize,
        }
    }
}

/// The hash of a row's key, and where its key and value begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    hash: u64,
    key: usize,
    value: usize,
}

fn out_of_order() -> Error {
    damaged(WHAT, "rows that are not in the order of their hashes")
}

/// A row where it is: places are offsets and lengths in the bytes of the part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) hash: u64,
    pub(crate) key: (usize, usize),
    pub(crate) value: (usize, usize),
    pub(crate) time: u64,
    pub(crate) diff: i64,
}

impl Row {
    /// Returns bytes of the part that the row is in.
    pub(crate) fn bytes(bytes: &[u8], (at, length): (usize, usize)) -> &[u8] {
        &bytes[at..at + length]
    }

    /// Compares the order of two rows of a part.
    fn compare(&self, other: &Row, bytes: &[u8]) -> Ordering {
        (self.hash.cmp(&other.hash))
            .then_with(|| Row::bytes(bytes, self.key).cmp(Row::bytes(bytes, other.key)))
            .then_with(|| self.time.cmp(&other.time))
            .then_with(|| self.diff.cmp(&other.diff))
            .then_with(|| Row::bytes(bytes, self.value).cmp(Row::bytes(bytes, other.value)))
    }
}

/// The rows of a range of hashes, one after another.
#[derive(Debug)]
pub(crate) struct Scan {
    buffer: Arc<Vec<u8>>,
    header: Header,
    hashes: RangeInclusive<u64>,
    /// The next row, and where its key and value begin.
    row: usize,
    key: usize,
    value: usize,
    /// The numbers of the rows from the fence before on.
    numbers: Vec<[u64; COLUMNS]>,
    /// The row before.
    last: Option<Row>,
}

impl Scan {
    /// Begins at the first row of a hash in `hashes`. The checksum of the whole has been looked at.
    pub(crate) fn new(buffer: Arc<Vec<u8>>, hashes: RangeInclusive<u64>) -> Result<Scan, Error> {
        let header = Header::decode(&buffer)?;
        // The first fence that is not before the range may have rows of the range before it.
        let (mut low, mut high) = (0, header.fences());
        while low < high {
            let middle = low.midpoint(high);
            if header.fence(&buffer, middle).hash < *hashes.start() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let first = if crate::mutant::on("range_begins_at_fence") {
            low.min(header.fences() - 1)
        } else {
            low.saturating_sub(1)
        };
        let Fence { key, value, .. } = header.fence(&buffer, first);
        let (row, numbers, last) = (first * FENCED_ROWS, Vec::new(), None);
        Ok(Scan { buffer, header, hashes, row, key, value, numbers, last })
    }

    /// Returns how many rows are ahead, at the most.
    pub(crate) fn rows_max(&self) -> usize {
        let fences = 0..self.header.fences();
        let (start, end) = (*self.hashes.start(), *self.hashes.end());
        let within = |fence: &usize| {
            let hash = self.header.fence(&self.buffer, *fence).hash;
            start <= hash && hash <= end
        };
        let fences = match self.hashes == ALL {
            true => fences.len(),
            false => fences.filter(within).count() + 1,
        };
        (fences * FENCED_ROWS).min(self.header.rows())
    }

    /// Returns the next row of the range.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row that is looked at is not behind the one before, or not what the header says.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, Error> {
        while self.row < self.header.rows() {
            let row = self.read()?;
            if row.hash > *self.hashes.end() {
                self.row = self.header.rows();
                break;
            }
            if row.hash >= *self.hashes.start() {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Takes in the numbers up to the next fence.
    fn take_numbers(&mut self) {
        let rows = (self.header.rows() - self.row).min(FENCED_ROWS);
        self.numbers.resize(rows, [0; COLUMNS]);
        for (index, column) in self.header.columns.iter().enumerate() {
            let into = self.numbers.iter_mut().map(|numbers| &mut numbers[index]);
            column.get(&self.buffer, self.row, into);
        }
    }

    #[inline]
    fn read(&mut self) -> Result<Row, Error> {
        if self.row.is_multiple_of(FENCED_ROWS) {
            self.take_numbers();
        }
        let (header, bytes) = (&self.header, self.buffer.as_slice());
        let [key_length, value_length, time, diff] = self.numbers[self.row % FENCED_ROWS];
        let place = |at: usize, end: usize, length: u64| match end.checked_sub(at) {
            Some(left) if length <= left as u64 => Ok((at, length as usize)),
            _ => Err(damaged(WHAT, "a row beyond its section")),
        };
        let key = place(self.key, header.values, key_length)?;
        let value = place(self.value, bytes.len(), value_length)?;
        let diff = diff as i64;
        if time < header.time_min || time > header.time_max || diff == 0 {
            return Err(damaged(WHAT, "a time or a diff that cannot be"));
        }
        let row = Row { hash: hash(Row::bytes(bytes, key)), key, value, time, diff };
        if self.row.is_multiple_of(FENCED_ROWS) {
            let there = Fence { hash: row.hash, key: key.0, value: value.0 };
            if header.fence(bytes, self.row / FENCED_ROWS) != there {
                return Err(damaged(WHAT, "a fence that is not its row's"));
            }
        }
        let behind = |last: &Row| row.hash > last.hash || row.compare(last, bytes).is_gt();
        if !self.last.as_ref().is_none_or(behind) && !crate::mutant::on("order_not_checked") {
            return Err(out_of_order());
        }
        (self.last, self.row) = (Some(row), self.row + 1);
        (self.key, self.value) = (key.0 + key.1, value.0 + value.1);
        if self.row == header.rows() && (self.key != header.values || self.value != bytes.len()) {
            return Err(damaged(WHAT, "bytes that belong to no row"));
        }
        Ok(row)
    }
}
