//! Owns feeds that are read with calls that block (files, pipes, processes): a thread for them, batches
//! of rows on the way to the pipeline, and waits that a stop ends. It does not own what is read.
//!
//! A [`TimedSource`](super::TimedSource) runs on the I/O runtime, which must not be blocked. Its `run`
//! calls [`read`], which does the reading on a thread of its own:
//!
//! ```
//! use differential_upsert::input::blocking::{self, Batch};
//! use differential_upsert::input::{Outlet, TimedSource};
//! use differential_upsert::{Command, DataError, Error, Pipeline, PipelineConfig, Shard};
//! use tokio_util::sync::CancellationToken;
//!
//! struct Squares(CancellationToken);
//!
//! impl TimedSource for Squares {
//!     type Key = u64;
//!     type Value = Result<u64, DataError>;
//!     type Order = u64;
//!
//!     async fn run(self, outlet: Outlet<u64, Self::Value, u64>) -> Result<u64, Error> {
//!         blocking::read(outlet, &self.0, |sink, stop| {
//!             let mut batch = Batch::new(sink);
//!             for time in 0..10 {
//!                 blocking::check(stop)?;
//!                 batch.boundary(time);
//!                 batch.row(Command::put(time, Ok(time * time), 0), time, 16)?;
//!             }
//!             batch.flush()?;
//!             Ok(10)
//!         })
//!         .await
//!     }
//! }
//!
//! let shard = Shard::<u64, u64>::open("mem:")?;
//! timely::execute_directly({
//!     let shard = shard.clone();
//!     move |worker| {
//!         let token = worker.dataflow(|scope| {
//!             let feed = || Some(Squares(CancellationToken::new()));
//!             Pipeline::from_timed(scope, feed, &shard, PipelineConfig::default()).token
//!         });
//!         while worker.has_dataflows() {
//!             worker.step_or_park(None);
//!         }
//!         drop(token);
//!     }
//! });
//! assert_eq!(shard.upper(), 10);
//! # Ok::<(), differential_upsert::Error>(())
//! ```

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::timed::Outlet;
use crate::command::Command;
use crate::error::{Error, ErrorKind};

pub use super::throttle::Throttle;

/// A batch is sent when it holds this many rows or bytes.
const ROWS_MAX: usize = 1024;
const BYTES_MAX: usize = 256 << 10;

/// How long the reading thread gets to hand over what it has when it is told to stop. It may sit
/// in a read of a silent pipe, which nothing but its writer can end.
pub(crate) const PARTING: Duration = Duration::from_millis(200);

/// A row on its way: what it does, and its time.
pub type Row<S> = (Command<<S as RowSink>::Key, <S as RowSink>::Value, <S as RowSink>::Order>, u64);

/// Where batches go. Calls may block while the other side is behind.
pub trait RowSink: Send + 'static {
    /// The key of a row.
    type Key: Send + 'static;
    /// The value of a row.
    type Value: Send + 'static;
    /// What orders the rows of one key and time.
    type Order: Send + 'static;

    /// Takes rows, none below a time closed before.
    ///
    /// # Errors
    ///
    /// `Stopped` if nothing takes them any more: return it.
    fn rows(&mut self, rows: Vec<Row<Self>>) -> Result<(), Error>;

    /// Takes the news that no row below `time` will come.
    ///
    /// # Errors
    ///
    /// `Stopped` if nothing takes it any more: return it.
    fn closed(&mut self, time: u64) -> Result<(), Error>;
}

/// Rows that wait to be sent together, at most 1,024 of them or 256 KiB and one row, and the time up to
/// which all is closed behind them, told at most once per batch.
pub struct Batch<S: RowSink> {
    sink: S,
    rows: Vec<Row<S>>,
    bytes: usize,
    boundary: u64,
    told: u64,
}

impl<S: RowSink> fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Batch { rows, bytes, boundary, told, .. } = self;
        write!(f, "Batch({} rows, {bytes} bytes, < {boundary}, told {told})", rows.len())
    }
}

impl<S: RowSink> Batch<S> {
    /// Returns an empty batch that is sent to `sink`.
    pub fn new(sink: S) -> Batch<S> {
        Batch { sink, rows: Vec::new(), bytes: 0, boundary: 0, told: 0 }
    }

    /// Adds a row of about so many bytes, at or past every [boundary](Batch::boundary). O(1), and a send
    /// when the batch is full.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn row(
        &mut self,
        command: Command<S::Key, S::Value, S::Order>,
        time: u64,
        bytes: usize,
    ) -> Result<(), Error> {
        self.bytes += bytes;
        if self.rows.capacity() == 0 {
            self.rows.reserve_exact(ROWS_MAX);
        }
        self.rows.push((command, time));
        if self.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX {
            return self.flush();
        }
        Ok(())
    }

    /// Returns what it sends to.
    #[cfg(feature = "json")]
    pub(crate) fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Notes that no row below `time` will be added; told with the next send.
    pub fn boundary(&mut self, time: u64) {
        self.boundary = self.boundary.max(time);
    }

    /// Sends what waits: before every call that may block, and at the end.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn flush(&mut self) -> Result<(), Error> {
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
pub struct BlockingOutlet<K, V, O> {
    outlet: Outlet<K, V, O>,
    runtime: Handle,
}

impl<K, V, O> RowSink for BlockingOutlet<K, V, O>
where
    K: Send + 'static,
    V: Send + 'static,
    O: Send + 'static,
{
    type Key = K;
    type Value = V;
    type Order = O;

    fn rows(&mut self, rows: Vec<Row<Self>>) -> Result<(), Error> {
        self.runtime.block_on(self.outlet.rows(rows))
    }

    fn closed(&mut self, time: u64) -> Result<(), Error> {
        self.runtime.block_on(self.outlet.closed(time))
    }
}

/// Runs `reading` on a thread that may block, and returns what it returns: the feed's end. `reading`
/// gets where rows go and the token that tells it to stop; it must ask that token before it waits.
///
/// The token is `stop`, or a child of it that is cancelled when this future is dropped: nothing takes
/// what the thread reads then, so the thread must end too. A thread that does not end within 200 ms of a
/// stop is left behind; a runtime that is dropped waits for it.
///
/// # Errors
///
/// Those of `reading`; `Stopped` if it was told to stop and goes on; `Unavailable` if it panicked.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn read<K, V, O>(
    outlet: Outlet<K, V, O>,
    stop: &CancellationToken,
    reading: impl FnOnce(BlockingOutlet<K, V, O>, &CancellationToken) -> Result<u64, Error>
    + Send
    + 'static,
) -> Result<u64, Error>
where
    K: Send + 'static,
    V: Send + 'static,
    O: Send + 'static,
{
    let stop = stop.child_token();
    let _abandon = stop.clone().drop_guard();
    let outlet = BlockingOutlet { outlet, runtime: Handle::current() };
    let told = stop.clone();
    let mut reading = tokio::task::spawn_blocking(move || reading(outlet, &told));
    let ended = tokio::select! {
        ended = &mut reading => Some(ended),
        () = stop.cancelled() => tokio::time::timeout(PARTING, reading).await.ok(),
    };
    match ended {
        Some(Ok(ended)) => ended,
        Some(Err(e)) => {
            Err(Error::new(ErrorKind::Unavailable, "the thread that reads the feed panicked")
                .because(e))
        }
        None => Err(stopped()),
    }
}

/// Returns an error iff a feed is to stop.
///
/// # Errors
///
/// `Stopped`.
pub fn check(stop: &CancellationToken) -> Result<(), Error> {
    if stop.is_cancelled() { Err(stopped()) } else { Ok(()) }
}

/// Sleeps on this thread, which must be one that may block, unless told to stop.
///
/// # Errors
///
/// `Stopped`, as soon as it is told to.
///
/// # Panics
///
/// Outside of a tokio runtime, and on a thread that must not block.
pub fn sleep(duration: Duration, stop: &CancellationToken) -> Result<(), Error> {
    Handle::current().block_on(async {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(stopped()),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    })
}

/// The error of a feed that was told to stop.
pub(crate) fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "the feed was told to stop")
        .hint("run it again to go on; what is committed stays")
}
