//! Owns a source's attempt loop as a task beside the pipeline, and the channels to it. It does not own
//! what times its units get.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::SourceConfig;
use super::cursors::Cursors;
use crate::codec::Codec;
use crate::command::time::{after, used_up};
use crate::control::epoch::Epoch;
use crate::control::promotion::Promotion;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::shard::{Feed, Handle, Resumes};
use crate::source::attempt::{Attempts, Ended, Reason};
use crate::source::stage::Unit;
use crate::source::{Durable, Position, Source, SourceStats, is_beyond};

/// Batches of units between the attempt loop and the one that gives them times.
const UNITS_AHEAD: usize = 4;

/// What giving times needs besides the source.
#[derive(Debug)]
pub(crate) struct ReclockContext {
    pub(crate) handle: Handle,
    pub(crate) io: Io,
    pub(crate) epoch: Epoch,
    pub(crate) feed: Feed,
    pub(crate) standby: Option<Promotion>,
    pub(crate) resumes: Resumes,
    pub(crate) cursors: Cursors,
    pub(crate) stats: SourceStats,
    pub(crate) config: SourceConfig,
    /// The number of the values' shape in the shard.
    pub(crate) shape: u16,
    /// Bytes of units that may wait for a time.
    pub(crate) ahead_bytes_max: usize,
    /// How often to look for what other processes have done.
    pub(crate) poll: Duration,
}

impl ReclockContext {
    /// Returns the next time: after `least`, and not before the clock.
    pub(super) fn time(&self, least: u64) -> Result<u64, Error> {
        let time = least.max(self.io.now_ms());
        after(time).map(|_| time).map_err(|_| used_up())
    }
}

/// The error of a shard that takes no more rows.
pub(super) fn sealed(end: u64) -> Error {
    Error::new(ErrorKind::Invalid, format!("the shard is sealed at {end}"))
        .hint("use another shard for more rows")
}

/// A running attempt loop; dropped, it stops.
pub(super) struct Driven<P> {
    pub(super) units: mpsc::Receiver<Vec<Unit<P>>>,
    durable: watch::Sender<Option<Durable<P>>>,
    ended: oneshot::Receiver<Result<Ended<P>, Error>>,
    _cancel: DropGuard,
}

impl<P: Position> Driven<P> {
    /// Says that a cursor is durable, for the source to be told.
    pub(super) fn set_durable(&self, durable: Durable<P>) {
        self.durable.send_if_modified(|known| {
            let moved =
                known.as_ref().is_none_or(|known| is_beyond(durable.cursor(), known.cursor()));
            if moved {
                *known = Some(durable);
            }
            moved
        });
    }

    /// Returns how the source ended, after its last unit: complete, or why not.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        let gone = |_| Error::new(ErrorKind::Unavailable, "the source's task is gone");
        match (&mut self.ended).await.map_err(gone)??.reason {
            Reason::Complete => Ok(()),
            Reason::Failed(error) => Err(error),
            Reason::Cancelled => Err(crate::input::stopped()),
        }
    }
}

/// Starts a source from a durable cursor.
pub(super) fn drive<S, C>(
    source: S,
    from: Durable<S::Position>,
    context: &ReclockContext,
) -> Driven<S::Position>
where
    S: Source,
    C: Codec<S::Key> + Codec<S::Value>,
{
    let (sender, units) = mpsc::channel(UNITS_AHEAD);
    let cancel = CancellationToken::new();
    let boundary = from.boundary();
    let (durable, watched) = watch::channel(Some(from));
    let attempts = Attempts {
        from: boundary,
        config: context.config.attempts.clone(),
        limits: context.config.stage,
        shape: context.shape,
        stop_at_current: context.config.stop_at_current,
        seed: context.io.token() as u64,
        cancel: cancel.clone(),
        units: sender,
        durable: watched,
        stats: context.stats.clone(),
    };
    let (says, ended) = oneshot::channel();
    context.io.spawn_answered(
        "the source",
        async move { Ok(attempts.run::<S, C>(source).await) },
        move |outcome| {
            // An error means that nobody asks any more.
            let _ = says.send(outcome);
        },
    );
    Driven { units, durable, ended, _cancel: cancel.drop_guard() }
}
