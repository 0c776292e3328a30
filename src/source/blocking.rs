//! Owns batching: rows go on many at a time, and a closed time is told at most once per batch. It
//! does not own where they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use differential_upsert::input::Outlet;
use differential_upsert::{Command, Error};

use crate::json::{Cell, Json};

/// A row on its way: what it does, and its time.
pub(crate) type Update = (Command<Json, Cell, u64>, u64);

/// A batch is sent when it holds this many rows or bytes.
const ROWS_MAX: usize = 1024;
const BYTES_MAX: usize = 256 << 10;

/// Where batches go. Calls may block while the other side is behind.
pub(crate) trait Sink: Send + 'static {
    /// Takes rows, none below a time closed before.
    fn rows(&mut self, rows: Vec<Update>) -> Result<(), Error>;
    /// Takes the news that no row below `time` will come.
    fn closed(&mut self, time: u64) -> Result<(), Error>;
}

/// What a feed has read so far, for the summary and the progress bar.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Rows read.
    pub(crate) read: AtomicU64,
    /// Rows of those that the source did not hand over: the shard had them when it connected.
    pub(crate) skipped: AtomicU64,
    /// Messages other than row changes, and the greatest line of those counted.
    pub(crate) messages: AtomicU64,
    messages_to: AtomicU64,
    /// How far the feed is, and how far it goes if that is known, in `unit`s.
    pub position: AtomicU64,
    pub length: AtomicU64,
    /// The end E, once the feed has ended cleanly.
    pub end: AtomicU64,
}

impl Counts {
    /// Counts a message other than a row change; once, however often its line is read.
    pub(crate) fn message(&self, line: u64) {
        if self.messages_to.fetch_max(line, Ordering::Relaxed) < line {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts from nothing, for another run over the same feed.
    pub(crate) fn start_again(&self) {
        self.read.store(0, Ordering::Relaxed);
        self.skipped.store(0, Ordering::Relaxed);
        self.position.store(0, Ordering::Relaxed);
    }
}

/// Rows that wait to be sent together, and the time up to which all is closed behind them.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    sink: S,
    rows: Vec<Update>,
    bytes: usize,
    boundary: u64,
    told: u64,
    counts: Arc<Counts>,
}

impl<S: Sink> Batch<S> {
    pub(crate) fn new(sink: S, counts: Arc<Counts>) -> Batch<S> {
        Batch { sink, rows: Vec::new(), bytes: 0, boundary: 0, told: 0, counts }
    }

    /// Adds a row. O(1), and a send when the batch is full.
    pub(crate) fn row(
        &mut self,
        command: Command<Json, Cell, u64>,
        time: u64,
    ) -> Result<(), Error> {
        self.counts.read.fetch_add(1, Ordering::Relaxed);
        self.bytes += match &command {
            Command::Put { key, value: Ok(value), .. } => key.as_str().len() + value.as_str().len(),
            Command::Put { key, value: Err(error), .. } => key.as_str().len() + error.0.len(),
            Command::Delete { key, .. } => key.as_str().len(),
            Command::Reset { .. } => 0,
        };
        if self.rows.capacity() == 0 {
            self.rows.reserve_exact(ROWS_MAX);
        }
        self.rows.push((command, time));
        if self.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX {
            return self.flush();
        }
        Ok(())
    }

    /// Notes that no row below `time` will be added; told with the next send.
    pub(crate) fn boundary(&mut self, time: u64) {
        self.boundary = self.boundary.max(time);
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if !self.rows.is_empty() {
            self.bytes = 0;
            self.sink.rows(std::mem::take(&mut self.rows))?;
        }
        if self.boundary > self.told {
            self.told = self.boundary;
            self.sink.closed(self.told)?;
        }
        Ok(())
    }
}

/// A pipeline's [`Outlet`], driven from a thread that may block.
#[derive(Debug)]
pub(crate) struct Blocking {
    pub(crate) outlet: Outlet<Json, Cell, u64>,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Sink for Blocking {
    fn rows(&mut self, rows: Vec<Update>) -> Result<(), Error> {
        self.runtime.block_on(self.outlet.rows(rows))
    }

    fn closed(&mut self, time: u64) -> Result<(), Error> {
        self.runtime.block_on(self.outlet.closed(time))
    }
}
