//! Owns sources: how a feed is read so that no row is ever skipped and nothing is told upstream
//! before it is durable. It does not own times; that is [`reclock`](crate::reclock).
//!
//! # Operators
//!
//! ```text
//!   your Source --events--> Stager --units--> reclock --rows@t, closed times--> UpsertSource --> ...
//!        ^                                                                                        |
//!        '------------- ack(durable cursor) <-------------------- the shard's log <---------------'
//! ```
//!
//! A [`Source`] is driven by the [attempt loop](crate::unstable::attempt), which connects, retries and stops. The
//! [stager](crate::unstable::stage) keeps the changes of a unit back until the unit is complete.
//!
//! # Invariants
//!
//! 1. A unit and its cursor go on together, or not at all. What is not complete when a connection is
//!    lost is dropped, and comes again: nothing of it had gone on.
//! 2. Cursors move forward only, and only at the end of a unit, with rows or without.
//! 3. A source is told of [`Durable`] cursors alone.
//! 4. Told to stop, it stops at once: it neither waits, nor connects again. Whoever says "cancelled",
//!    that is decided by our own token.
//! 5. An error never becomes an end. Only [`Event::End`] is one.
//!
//! Before you write a connector, read what a cursor [promises](promise).

pub(crate) mod attempt;
pub mod cursor;
pub mod promise;
pub(crate) mod stage;

mod acks;
mod by_partition;
mod freshness;
mod lag;
mod retry;
pub(crate) mod staged;
mod staging;
mod stats;
mod targets;
#[cfg(any(feature = "postgres-source", feature = "kafka"))]
pub(crate) mod trail;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::codec::DataError;
use crate::error::{Error, ErrorKind};

pub use attempt::{AttemptConfig, OnPositionLost};
pub use by_partition::Partition;
pub use cursor::{Boundary, Cursor, Durable, Position, Received, Released};
pub use lag::{Age, Lag};
pub use stage::StageLimits;
pub(crate) use staged::Order;
pub use stats::SourceStats;
pub(crate) use stats::{StagedNow, Trouble};

pub(crate) use by_partition::named;
pub(crate) use cursor::is_beyond;

/// A keyed change feed that can be resumed.
///
/// Every call may be dropped before it is done, and called again: keep what was half received in
/// `self`. Errors and delays are the caller's: connect and receive once, and say what happened.
///
/// # Examples
///
/// A feed of two units, complete; `examples/hello_source.rs` reads a directory and is hardly longer.
///
/// ```
/// use differential_upsert::source::{Boundary, Change, Event, Events, Failure, Received, Source};
/// use differential_upsert::{Pipeline, PipelineConfig, Shard};
///
/// struct Fruit(u64);
///
/// impl Source for Fruit {
///     type Key = String;
///     type Value = u64;
///     type Position = u64; // how many units have been handed over
///
///     fn identity(&self) -> String {
///         "fruit".to_string()
///     }
///
///     async fn connect(&mut self, from: &Boundary<u64>) -> Result<(), Failure> {
///         self.0 = from.get("").copied().unwrap_or(0);
///         Ok(())
///     }
///
///     async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
///         let put = |key: &str, n| Event::Change("".into(), Change::Put(key.into(), Ok(n)));
///         let unit = match self.0 {
///             0 => vec![put("apples", 3), put("pears", 1)],
///             1 => vec![put("apples", 5)],
///             _ => return Ok(Some(vec![Event::End])),
///         };
///         self.0 += 1;
///         let end = Event::Boundary(Received::at("".into(), self.0));
///         Ok(Some(unit.into_iter().chain([end]).collect()))
///     }
/// }
///
/// let shard = Shard::<String, u64>::open("mem:")?;
/// timely::execute_directly({
///     let shard = shard.clone();
///     move |worker| {
///         let token = worker.dataflow(|scope| {
///             let source = || Some(Fruit(0));
///             Pipeline::from_source(scope, source, &shard, PipelineConfig::default()).token
///         });
///         while worker.has_dataflows() {
///             worker.step_or_park(None);
///         }
///         drop(token);
///     }
/// });
/// let rows = shard.io().block_on(shard.handle().snapshot(shard.upper() - 1))?;
/// assert_eq!(rows.len(), 2);
/// # Ok::<(), differential_upsert::Error>(())
/// ```
pub trait Source: Send + 'static {
    /// The key of a change.
    type Key: Send + 'static;
    /// The value of a change.
    type Value: Send + 'static;
    /// A place in a partition.
    type Position: Position;

    /// Returns which feed this is, the same whenever it is the same: a cursor of another is refused.
    /// Not an address, which may change.
    fn identity(&self) -> String;

    /// Returns the partitions that a feed read from its start has.
    fn partitions(&self) -> Vec<Partition> {
        vec![Partition::from("")]
    }

    /// Connects, to go on with what comes after `from`; at the [start](Cursor::is_start) with all
    /// there is. Whatever was connected before is given up.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    fn connect(
        &mut self,
        from: &Boundary<Self::Position>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Returns the next events, at least one, or `None` if the connection has come to its end, which
    /// says nothing about the feed's.
    ///
    /// # Errors
    ///
    /// [`Failure`]. What has not been returned before is not lost: it comes again after the next
    /// connect.
    fn next(&mut self) -> impl Future<Output = Result<Option<Events<Self>>, Failure>> + Send;

    /// Returns the partition whose stream the last failure was of, where the feed can tell. It alone is
    /// charged for it; by default every partition is that reached no boundary since the connect.
    fn failed_partition(&self) -> Option<Partition> {
        None
    }

    /// Returns where the feed is now, for a run that is to stop there: the partitions that have anything
    /// to come. One that is named and never moves is waited for.
    ///
    /// # Errors
    ///
    /// [`Failure`]; by default that it cannot tell.
    fn current(
        &mut self,
    ) -> impl Future<Output = Result<Vec<(Partition, Self::Position)>, Failure>> + Send {
        let what = "this feed cannot tell where it is now";
        let error = Error::new(ErrorKind::Invalid, what).hint("run it without a stop at current");
        std::future::ready(Err(Failure::Definite(error)))
    }

    /// Tells the feed that it need not keep what this cursor covers. What is returned runs beside
    /// [`next`](Source::next), one at a time; failing, it is called again with the newest cursor. By
    /// default there is nothing to tell.
    fn ack(&mut self, durable: &Durable<Self::Position>) -> Ack {
        let _ = durable;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns how far what is durable, all that this cursor covers, lies behind the feed's end, as far as is known
    /// without asking: what the feed has said itself. Called after each [`next`](Source::next) and whenever more is durable,
    /// so it has to be cheap. By default nothing is known.
    fn lag(&mut self, durable: &Durable<Self::Position>) -> Lag {
        let _ = durable;
        Lag::default()
    }

    /// Returns when the changes were made that have become durable since this was last asked: milliseconds since 1970, by
    /// the clock of those that write to the feed. It may leave changes out that others stand for. Called after each
    /// [`lag`](Source::lag). By default that is not known.
    fn durable_since(&mut self) -> Vec<u64> {
        Vec::new()
    }

    /// Returns what the feed itself counts into, of which a pipeline shows what it cannot count: the lines that were
    /// [written away](SourceStats::quarantined). Called once, before the first connect. By default it counts nothing.
    fn counts(&self) -> Option<SourceStats> {
        None
    }

    /// Says, before the first connect, where another writer has ended the copy that is to be made anew if the
    /// position is lost: its generation, and a place in each partition. This copy is to end there, too; without it,
    /// where the feed is when it begins. Returns whether the feed can do that: a copy is then the same changes in
    /// the same order for every writer. By default it cannot, and several writers take no copy of several
    /// partitions.
    fn copy_until(&mut self, bound: Option<&Boundary<Self::Position>>) -> bool {
        let _ = bound;
        false
    }
}

/// What telling a feed of a durable cursor comes to.
pub type Ack = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// What a source hands over at a time.
pub type Events<S> = Vec<Event<<S as Source>::Key, <S as Source>::Value, <S as Source>::Position>>;

/// What happens in a feed.
#[derive(Clone, Debug)]
pub enum Event<K, V, P> {
    /// A change, in the open unit of its partition. The last of a key in a unit counts.
    Change(Partition, Change<K, V>),
    /// The end of a unit, with changes or without.
    Boundary(Received<P>),
    /// The open unit of a partition begins again: what it had is void.
    Void(Partition),
    /// The feed itself has ended, and will never have more.
    End,
}

/// A change of a key, or of many.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Change<K, V> {
    /// The key has this value now. An error stands for a value that could not be read, until the key
    /// is put again or deleted.
    Put(K, Result<V, DataError>),
    /// The key's value changes by the [fold](crate::Shard::with_fold) of the shard; without a value it is the key's
    /// error.
    Patch(K, V),
    /// The key is gone.
    Delete(K),
    /// Every key is gone.
    Reset,
    /// Every key of the collection of this name is gone: see
    /// [`with_collections`](crate::Shard::with_collections).
    ResetOf(String),
}

/// Why a source could not connect or go on.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It may work again: connect again, after a while.
    Transient(Error),
    /// The feed does not have what comes after the cursor any more: copy it anew.
    PositionLost(Error),
    /// It will not work however often it is tried.
    Definite(Error),
}

impl Failure {
    /// Returns the error.
    pub fn error(&self) -> &Error {
        let (Failure::Transient(error) | Failure::PositionLost(error) | Failure::Definite(error)) =
            self;
        error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Transient(_) => "the source may work again",
            Failure::PositionLost(_) => {
                "the feed does not have what comes after the cursor any more"
            }
            Failure::Definite(_) => "the source will not work however often it is tried",
        })
    }
}

/// Its source is the error.
impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error())
    }
}

/// Unavailable and indeterminate may work again, everything else will not.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Indeterminate => Failure::Transient(error),
            _ => Failure::Definite(error),
        }
    }
}
