//! Owns times that are committed together with the cursor that covers their rows. It does not own the
//! commit; that is the sink's.
//!
//! For cursors that are opaque. The times are not the same in the next run, so only one writer may be
//! at work, and it must know that it is: it raises the shard's epoch *first*, and reads the upper and
//! the cursor after that. Read before, the one it shuts out could still move both.

use std::marker::PhantomData;

use tokio::time::Instant;

use super::drive::{ReclockContext, drive, sealed};
use crate::codec::Codec;
use crate::codec::packed::Encoded;
use crate::command::time::{after, used_up};
use crate::error::{Error, ErrorKind};
use crate::input::Outlet;
use crate::shard::State;
use crate::source::stage::Unit;
use crate::source::{Durable, Order, Position, Released, Source};

type Out = Outlet<Encoded, Encoded, Order>;

/// Gives the units of one source times, as they come.
pub(super) struct CoCommitted<S, C> {
    pub(super) source: S,
    pub(super) context: ReclockContext,
    pub(super) codec: PhantomData<fn(C)>,
}

impl<S: Source, C: Codec<S::Key> + Codec<S::Value>> CoCommitted<S, C> {
    /// Returns the end: the first time that it will never write.
    pub(super) async fn run(self, outlet: &Out) -> Result<u64, Error> {
        let CoCommitted { source, context, .. } = self;
        if let Some(promotion) = &context.standby {
            promotion.promoted().await;
        }
        // Whose shard it is comes first: a feed that is not its own must not shut out another.
        let found = context.handle.refresh().await?;
        resume::<S::Position>(&context, &found, &source.identity())?;
        let epoch = context.handle.take_over().await?;
        context.epoch.claim(epoch);
        let state = context.handle.state();
        if state.epoch != epoch {
            return Err(crate::shard::fenced(state.epoch));
        }
        let looked = if crate::mutant::on("cursor_before_epoch") { &found } else { &state };
        let from = resume::<S::Position>(&context, looked, &source.identity())?;
        context.resumes.note(&state);
        let mut open = Open {
            time: state.upper,
            closed: state.upper,
            units: 0,
            rows: false,
            newest: None,
            since: None,
        };
        outlet.closed(open.closed).await?;
        let mut driven = drive::<S, C>(source, from, &context);

        loop {
            // Before the look, so that no change falls between the two.
            let change = context.handle.next_change();
            let state = context.handle.state();
            if state.epoch == epoch
                && let Some(bytes) = &state.cursor
            {
                driven.set_durable(Durable::read(bytes)?);
            }
            // One time is on its way at once; what comes meanwhile is the next: group commit by itself.
            let free = state.upper >= open.closed;
            drop(state);
            let idle = open.since.and_then(|since| since.checked_add(context.config.idle_commit));
            let due = open.rows || idle.is_some_and(|due| due <= Instant::now());
            if free && due {
                open.close(&context, outlet).await?;
                continue;
            }
            let waits = async {
                match idle.filter(|_| free && !open.rows) {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = change => {}
                units = driven.units.recv() => match units {
                    Some(units) => {
                        for unit in units {
                            if crate::mutant::on("ack_released") {
                                driven.set_durable(Durable::read(&unit.boundary.cursor().encode())?);
                            }
                            open.take(unit, &context, outlet).await?;
                        }
                    }
                    None => {
                        let end = driven.end().await;
                        // Whole units only, so they count also before a failure.
                        open.close(&context, outlet).await?;
                        return end.map(|()| open.closed);
                    }
                },
                () = waits => {}
            }
        }
    }
}

/// The time that is open.
struct Open<P> {
    time: u64,
    /// Times below it are closed.
    closed: u64,
    /// Units taken so far.
    units: u64,
    rows: bool,
    /// What covers the units since the last closed time, and since when there is one.
    newest: Option<Released<P>>,
    since: Option<Instant>,
}

impl<P: Position> Open<P> {
    /// Takes a unit into the open time, whole.
    async fn take(
        &mut self,
        unit: Unit<P>,
        context: &ReclockContext,
        outlet: &Out,
    ) -> Result<(), Error> {
        if self.newest.is_none() {
            self.time = context.time(self.closed)?;
            self.since = Some(Instant::now());
        }
        let (changes, released) = unit.release();
        self.rows |= changes.changes() > 0;
        let mut reading = changes.read(self.units)?;
        self.units += 1;
        loop {
            let commands = reading.rows()?;
            if commands.is_empty() {
                break;
            }
            outlet.rows(commands.into_iter().map(|row| (row, self.time)).collect()).await?;
        }
        self.newest = Some(released);
        Ok(())
    }

    /// Closes the open time, if there is anything in it: its cursor first.
    async fn close(&mut self, context: &ReclockContext, outlet: &Out) -> Result<(), Error> {
        let Some(released) = self.newest.take() else { return Ok(()) };
        context.cursors.note(self.time, released.to_commit());
        self.closed = after(self.time)?;
        (self.rows, self.since) = (false, None);
        outlet.closed(self.closed).await
    }
}

/// Returns the cursor that a shard's state holds.
fn resume<P: Position>(
    context: &ReclockContext,
    state: &State,
    identity: &str,
) -> Result<Durable<P>, Error> {
    state.check_feed(&context.feed)?;
    if let Some(end) = state.sealed_at {
        return Err(sealed(end));
    }
    if state.upper == u64::MAX {
        return Err(used_up());
    }
    let durable = match &state.cursor {
        Some(bytes) => Durable::read(bytes)?,
        // The times before the first one may be closed already; nothing is in them.
        None if state.upper == 0 || state.feed.is_some() => Durable::start(identity),
        None => {
            let upper = state.upper;
            let what =
                format!("FeedDiffers: the shard has rows below {upper}, and no cursor covers them");
            return Err(Error::new(ErrorKind::FeedDiffers, what)
                .hint("feed it as before, or another shard"));
        }
    };
    durable.cursor().check(identity)?;
    Ok(durable)
}
