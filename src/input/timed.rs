//! Owns the contract of a feed that has times of its own: how it hands rows, closed times and its end
//! to a pipeline. It does not own what happens to the rows.

use std::future::Future;

use tokio::sync::mpsc;

use crate::command::Command;
use crate::control::waking::Waking;
use crate::error::{Error, ErrorKind};
use crate::source::SourceStats;

/// A feed with times of its own, the same on every run and in every writer.
///
/// `run` is called once, on the I/O runtime of worker 0 of process 0, and hands what it reads to
/// the [`Outlet`]. Returning `Ok(end)` is the clean end of the feed: no row at or past `end` will
/// ever come. Returning an error is never an end: the pipeline keeps every time closed so far,
/// commits it, closes nothing more and reports the error.
pub trait TimedSource: Send + 'static {
    /// The key of a row.
    type Key: Send + 'static;
    /// The value of a row.
    type Value: Send + 'static;
    /// What orders the rows of one key and time.
    type Order: Send + 'static;

    /// Returns what the feed itself counts into, as [`Source::counts`](crate::source::Source::counts).
    fn counts(&self) -> Option<SourceStats> {
        None
    }

    /// Reads the feed from its start (rows below the shard's upper are dropped and counted).
    fn run(
        self,
        outlet: Outlet<Self::Key, Self::Value, Self::Order>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// What a source hands over, in order.
#[derive(Debug)]
pub(crate) enum Event<K, V, O> {
    /// Rows with their times, none below the last closed time.
    Rows(Vec<(Command<K, V, O>, u64)>),
    /// No row below this time will come.
    Closed(u64),
}

/// Where a source puts what it reads. Bounded: a send waits while the pipeline is behind.
#[derive(Debug)]
pub struct Outlet<K, V, O>(pub(crate) Waking<mpsc::Sender<Event<K, V, O>>>);

impl<K, V, O> Outlet<K, V, O> {
    /// Hands over rows, each at or past every time closed so far.
    ///
    /// # Errors
    ///
    /// `Stopped` if the pipeline was told to stop: return it.
    pub async fn rows(&self, rows: Vec<(Command<K, V, O>, u64)>) -> Result<(), Error> {
        self.event(Event::Rows(rows)).await
    }

    /// Says that no row below `time` will come.
    ///
    /// # Errors
    ///
    /// `Stopped` if the pipeline was told to stop: return it.
    pub async fn closed(&self, time: u64) -> Result<(), Error> {
        self.event(Event::Closed(time)).await
    }

    /// Waits until the pipeline was told to stop.
    pub async fn stopped(&self) {
        self.0.closed().await;
    }

    /// Works until the pipeline is told to stop: every await in there races that.
    pub(crate) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(stopped()),
            done = work => done,
        }
    }

    async fn event(&self, event: Event<K, V, O>) -> Result<(), Error> {
        if self.0.send(event).await { Ok(()) } else { Err(stopped()) }
    }
}

/// The error of a feed whose pipeline was told to stop.
pub(crate) fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "the pipeline was told to stop")
}
