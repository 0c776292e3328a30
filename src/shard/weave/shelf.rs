//! Owns where woven rows go: into parts, through memory that is the same for all of them, and each part into the store,
//! into a scratch file or to a reader. It does not own their order.

use tokio::sync::mpsc;

use super::spill::Spill;
use crate::error::{Error, ErrorKind};
use crate::shard::engine::arrange::named;
use crate::shard::engine::part::{Line, PartRef, Prepared, UPDATE_BYTES, Writer, Written};
use crate::shard::memory::{Counted, Gauge};
use crate::shard::rows::Rows;
use crate::shard::uploading::Uploading;

/// Bytes at which a part in the store ends, at the least.
const PART_BYTES_MIN: usize = 1 << 20;

/// Where parts go that are written.
pub(in crate::shard) enum Shelf<'a> {
    /// Into the store, for an entry to name.
    Store(&'a Uploading),
    /// Into a scratch file, for a later pass.
    Scratch(&'a Spill),
    /// To a reader.
    Reader(&'a mpsc::Sender<Written>),
}

impl Shelf<'_> {
    /// Returns the bytes at which a part ends, of rows that have so many. In the store that is a 32nd of them, within the
    /// bound, and no smaller than is worth a file: so a merge needs memory in proportion to what it merges, and a small
    /// shard has small parts. On the way to a reader many of them fit what one may have in memory.
    pub(super) fn part_bytes(&self, rows: &Rows, bytes: u64) -> usize {
        let config = &rows.view.config;
        match self {
            Shelf::Store(_) => {
                let most = config.part_bytes_max;
                usize::try_from(bytes / 32).unwrap_or(most).max(PART_BYTES_MIN).min(most)
            }
            Shelf::Scratch(_) | Shelf::Reader(_) => piece_bytes(config.read_bytes_max),
        }
    }

    async fn put(&self, rows: &Rows, written: Written) -> Result<Put, Error> {
        match self {
            Shelf::Store(uploading) => {
                let (part, spare) = rows.store(written, uploading).await?;
                Ok(Put { part: Some((part, None)), spare })
            }
            Shelf::Scratch(spill) => {
                let (part, bytes) = named(String::new(), written);
                let at = spill.write(&bytes)?;
                Ok(Put { part: Some((part, Some(at))), spare: Some(bytes) })
            }
            Shelf::Reader(reader) => {
                let gone = || Error::new(ErrorKind::Stopped, "the reader of a snapshot is gone");
                reader.send(written).await.map_err(|_| gone())?;
                Ok(Put { part: None, spare: None })
            }
        }
    }

    /// Lets go of parts that have been merged.
    pub(super) async fn discard(&self, rows: &Rows, parts: Vec<Shelved>) {
        if let Shelf::Store(_) = self {
            let stored = parts.into_iter().map(|(part, _)| Prepared::Stored(part));
            rows.discard(stored.collect()).await;
        }
    }
}

/// Returns how many bytes a part has that goes to a reader which may have so many in memory.
fn piece_bytes(bytes_max: usize) -> usize {
    (bytes_max / 256).clamp(1, 1 << 18)
}

/// A part that was written, and where in a scratch file it is.
pub(super) type Shelved = (PartRef, Option<u64>);

/// What became of a part.
struct Put {
    part: Option<Shelved>,
    /// Its bytes, for the next one.
    spare: Option<Vec<u8>>,
}

/// Rows on their way into parts, through memory that is the same for all of them.
pub(super) struct Output<'a> {
    rows: &'a Rows,
    shelf: &'a Shelf<'a>,
    writer: Writer,
    _counted: Counted,
    /// Bytes at which a part ends.
    part_bytes: usize,
    bytes: usize,
    parts: Vec<Shelved>,
}

impl<'a> Output<'a> {
    /// Makes an output for rows that have so many bytes.
    pub(super) fn new(
        rows: &'a Rows,
        shelf: &'a Shelf<'a>,
        gauge: &Gauge,
        bytes: u64,
    ) -> Output<'a> {
        let part_bytes = shelf.part_bytes(rows, bytes);
        let room = usize::try_from(bytes).unwrap_or(part_bytes).min(part_bytes);
        // As its rows come, and as it is written.
        let counted = gauge.count(2 * room as u64);
        let writer = Writer::with_room(room);
        Output { rows, shelf, writer, _counted: counted, part_bytes, bytes: 0, parts: Vec::new() }
    }

    #[inline]
    pub(super) async fn push(&mut self, line: Line<'_>) -> Result<(), Error> {
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
        let put = self.shelf.put(self.rows, written).await?;
        self.parts.extend(put.part);
        put.spare.into_iter().for_each(|bytes| self.writer.give_back(bytes));
        Ok(())
    }

    /// Returns the parts.
    pub(super) async fn finish(mut self) -> Result<Vec<Shelved>, Error> {
        if self.bytes > 0 {
            self.flush().await?;
        }
        Ok(self.parts)
    }
}
