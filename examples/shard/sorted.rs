//! Owns rows in the order they are printed in, in bounded memory: what is too much is sorted a run at a time into
//! temporary files, which are merged. It does not know what the order is; that is `text`'s.
//!
//! The files have no names and go with the process, so their bytes are not a format.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::sync::Arc;

use differential_upsert::shard::Update;
use differential_upsert::{Encoded, Error, ErrorKind};

use crate::text::Form;

/// What is sorted in memory at a time, and which runs are merged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of rows in memory; one row may exceed it.
    pub(crate) bytes_max: usize,
    /// As many runs of one size become one.
    pub(crate) fan: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { bytes_max: 32 << 20, fan: 32 }
    }
}

/// Bytes that a row takes beside its key and value: what refers to them, and the room that a `Vec` grows by.
const ROW_BYTES: usize = 2 * size_of::<Update>();

/// Bytes of rows that share a buffer.
const PACKED_BYTES: usize = 1 << 16;

/// Bytes at a time, of one run.
const BLOCK: usize = 1 << 17;

/// Rows on their way into their order.
pub(crate) struct Sorter<'a> {
    form: &'a Form,
    bounds: Bounds,
    rows: Vec<Update>,
    bytes: usize,
    /// The oldest first, each of no higher level than the one before.
    runs: Vec<Run>,
}

/// Sorted rows in a file.
struct Run {
    level: u32,
    file: File,
}

impl<'a> Sorter<'a> {
    /// Begins without rows.
    pub(crate) fn new(form: &'a Form, bounds: Bounds) -> Sorter<'a> {
        Sorter { form, bounds, rows: Vec::new(), bytes: 0, runs: Vec::new() }
    }

    /// Adds rows, of which those that are not shown are dropped. They keep nothing of what they came in.
    pub(crate) fn add(&mut self, rows: Vec<Update>) -> Result<(), Error> {
        let mut rows = rows.into_iter().filter(|row| self.form.shows(row)).peekable();
        while rows.peek().is_some() {
            let mut few = Vec::new();
            let mut bytes = 0;
            while bytes < PACKED_BYTES
                && let Some(row) = rows.next()
            {
                bytes += row.0.0.as_bytes().len() + row.0.1.as_bytes().len();
                few.push(row);
            }
            self.bytes += bytes + few.len() * ROW_BYTES;
            self.rows.append(&mut packed(few, bytes));
            if self.bytes > self.bounds.bytes_max {
                self.spill().map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Whether no row is shown so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.runs.is_empty()
    }

    /// Writes what is in memory as a run, and merges runs of one level when they are many.
    fn spill(&mut self) -> io::Result<()> {
        self.form.sort(&mut self.rows);
        let rows = std::mem::take(&mut self.rows).into_iter().map(Ok);
        self.bytes = 0;
        self.runs.push(Run { level: 0, file: written(rows)? });
        while let Some(last) = self.runs.last() {
            let level = last.level;
            let many = self.runs.iter().rev().take_while(|run| run.level == level).count();
            if many < self.bounds.fan {
                break;
            }
            let runs = self.runs.split_off(self.runs.len() - many);
            let merged = Merged::new(self.form, runs.into_iter().map(|run| run.file))?;
            self.runs.push(Run { level: level + 1, file: written(merged)? });
        }
        Ok(())
    }

    /// Returns the rows in their order; equal ones as they came.
    pub(crate) fn finish(mut self) -> Result<Sorted<'a>, Error> {
        if self.runs.is_empty() {
            self.form.sort(&mut self.rows);
            return Ok(Sorted::Few(self.rows.into_iter()));
        }
        self.spill().map_err(failed)?;
        let files = self.runs.into_iter().map(|run| run.file);
        Merged::new(self.form, files).map(Sorted::Many).map_err(failed)
    }
}

/// Rows in their order.
pub(crate) enum Sorted<'a> {
    /// All in memory.
    Few(std::vec::IntoIter<Update>),
    /// One of each run in memory.
    Many(Merged<'a>),
}

impl Iterator for Sorted<'_> {
    type Item = Result<Update, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Sorted::Few(rows) => rows.next().map(Ok),
            Sorted::Many(merged) => merged.next().map(|row| row.map_err(failed)),
        }
    }
}

/// Runs that are merged.
pub(crate) struct Merged<'a> {
    form: &'a Form,
    files: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<Head<'a>>>,
}

/// The next row of a run.
struct Head<'a> {
    form: &'a Form,
    row: Update,
    run: usize,
}

impl<'a> Merged<'a> {
    fn new(form: &'a Form, files: impl Iterator<Item = File>) -> io::Result<Merged<'a>> {
        let files = files.map(|file| BufReader::with_capacity(BLOCK, file)).collect();
        let mut merged = Merged { form, files, heads: BinaryHeap::new() };
        (0..merged.files.len()).try_for_each(|run| merged.fill(run))?;
        Ok(merged)
    }

    fn fill(&mut self, run: usize) -> io::Result<()> {
        let row = read(&mut self.files[run])?;
        self.heads.extend(row.map(|row| Reverse(Head { form: self.form, row, run })));
        Ok(())
    }
}

impl Iterator for Merged<'_> {
    type Item = io::Result<Update>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(Head { row, run, .. }) = self.heads.pop()?;
        Some(self.fill(run).map(|()| row))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // A run is older than those after it.
        self.form.order(&self.row, &other.row).then_with(|| self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

/// Writes a run: per row the time, the diff, the lengths of key and value, and those.
fn written(rows: impl Iterator<Item = io::Result<Update>>) -> io::Result<File> {
    let mut file = BufWriter::with_capacity(BLOCK, tempfile::tempfile()?);
    for row in rows {
        let ((key, value), time, diff) = row?;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        file.write_all(&time.to_le_bytes())?;
        file.write_all(&(diff as i64).to_le_bytes())?;
        file.write_all(&(key.len() as u64).to_le_bytes())?;
        file.write_all(&(value.len() as u64).to_le_bytes())?;
        file.write_all(key)?;
        file.write_all(value)?;
    }
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

/// Reads the next row of a run; `None` at its end.
fn read(file: &mut BufReader<File>) -> io::Result<Option<Update>> {
    let mut word = [0; 8];
    // A row that ends early is an error; one that does not begin is the end.
    if file.read(&mut word[..1])? == 0 {
        return Ok(None);
    }
    file.read_exact(&mut word[1..])?;
    let time = u64::from_le_bytes(word);
    let mut next = || file.read_exact(&mut word).map(|()| u64::from_le_bytes(word));
    let (diff, key, value) = (next()? as i64, next()?, next()?);
    let mut bytes = |length: u64| {
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes).map(|()| Encoded::from_bytes(bytes))
    };
    Ok(Some(((bytes(key)?, bytes(value)?), time, diff as isize)))
}

/// Moves rows of so many bytes into a buffer of their own.
fn packed(rows: Vec<Update>, bytes: usize) -> Vec<Update> {
    let mut buffer = Vec::with_capacity(bytes);
    for ((key, value), ..) in &rows {
        buffer.extend_from_slice(key.as_bytes());
        buffer.extend_from_slice(value.as_bytes());
    }
    let (buffer, mut at) = (Arc::new(buffer), 0);
    let mut next = |row: Encoded| {
        let (place, length) = (at, row.as_bytes().len());
        at += length;
        Encoded::within(&buffer, place, length)
    };
    let rows = rows.into_iter().map(|((key, value), time, diff)| {
        let (key, value) = (next(key), next(value));
        ((key, value), time, diff)
    });
    rows.collect()
}

fn failed(e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot sort through a temporary file: {e}"))
        .at(std::env::temp_dir().display().to_string())
        .hint("make room there, or set TMPDIR")
        .because(e)
}
