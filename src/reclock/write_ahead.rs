//! Owns times that are bound before their rows: any number of writers follow one feed, and give each row
//! the same time. It does not own how a binding is made durable; that is [`remap`](super::remap).
//!
//! A unit whose place no binding covers waits. When nothing is pending any more, the writer that has it
//! binds the next time to all that it has received; a writer that loses that race finds the other's binding
//! there, and gives its own units the same times. A time closes when all rows that its binding covers
//! have been handed over.

use std::marker::PhantomData;
use std::time::Duration;

use tokio::time::Instant;

use super::bindings::lost_rows;
use super::drive::{Driven, ReclockContext, drive, sealed};
use super::remap::Remap;
use super::waiting::Waiting;
use crate::codec::Codec;
use crate::codec::packed::Encoded;
use crate::command::Command;
use crate::command::time::{after, used_up};
use crate::control::lifecycle::GRACE;
use crate::error::{Error, ErrorKind};
use crate::input::Outlet;
use crate::source::stage::Unit;
use crate::source::{Durable, Order, Position, Source};

type Out = Outlet<Encoded, Encoded, Order>;

/// Gives the units of one source the times that all writers give them.
pub(super) struct WriteAhead<S, C> {
    pub(super) source: S,
    pub(super) context: ReclockContext,
    pub(super) codec: PhantomData<fn(C)>,
}

impl<S: Source, C: Codec<S::Key> + Codec<S::Value>> WriteAhead<S, C> {
    /// Returns the end: the first time that it will never write.
    pub(super) async fn run(self, outlet: &Out) -> Result<u64, Error> {
        let opened = async {
            let handle = &self.context.handle;
            handle.refresh().await?.check_feed(&self.context.feed)?;
            Remap::<S::Position>::open(handle).await
        };
        let remap = outlet.unless_stopped(opened).await?;
        let held = remap.held();
        let ran = outlet.unless_stopped(self.run_with(remap, outlet)).await;
        // A stop waits for the store no longer than this.
        let _ = tokio::time::timeout(GRACE, held.let_go()).await;
        ran
    }

    async fn run_with(self, mut remap: Remap<S::Position>, outlet: &Out) -> Result<u64, Error> {
        let WriteAhead { mut source, context, .. } = self;
        let (handle, identity) = (&context.handle, source.identity());
        let state = handle.refresh().await?;
        if remap.upper() < state.upper {
            // Bound between the two looks.
            remap.refresh().await?;
        }
        if state.upper.max(remap.upper()) == u64::MAX {
            return Err(used_up());
        }
        if state.feed.is_some() {
            remap.covers(state.upper)?;
        }
        let upto = if crate::mutant::on("resume_one_past") { remap.upper() } else { state.upper };
        let from = remap.resume(upto, &identity)?;
        from.cursor().check(&identity)?;
        remap.check(&identity)?;
        context.resumes.note(&state);
        let closed = state.upper;
        drop(state);
        outlet.closed(closed).await?;
        let received = from.boundary();
        // A binding that nobody has filled yet is ours to fill.
        let copied = remap.bindings().first_after(from.generation());
        let copied = copied.filter(|_| !crate::mutant::on("copy_until_unsaid"));
        let copied = copied.map(|binding| Durable::read(&binding.bytes)).transpose()?;
        let copies_as_told = source.copy_until(copied.map(|copied| copied.boundary()).as_ref());
        let mut driven = drive::<S, C>(source, from, &context);
        let mut run = Run {
            context: &context,
            outlet,
            remap,
            waiting: Waiting::new(received),
            closed,
            minted: None,
            copies_as_told,
        };
        let attending = run.remap.attend();
        tokio::select! {
            biased;
            end = run.follow(&mut driven) => end,
            never = attending => match never {},
        }
    }
}

struct Run<'a, P> {
    context: &'a ReclockContext,
    outlet: &'a Out,
    remap: Remap<P>,
    waiting: Waiting<P>,
    /// Times below it are closed.
    closed: u64,
    /// When we last bound a time.
    minted: Option<Instant>,
    /// A copy made anew ends where it is told.
    copies_as_told: bool,
}

impl<P: Position> Run<'_, P> {
    async fn follow(&mut self, driven: &mut Driven<P>) -> Result<u64, Error> {
        let mut end: Option<Result<(), Error>> = None;
        loop {
            // Before the look, so that no change falls between the two.
            let change = self.context.handle.next_change();
            let waits_for_promotion = !self.is_writer();
            while self.settle(driven, end.is_some()).await? {}
            self.context.stats.set_unbound(self.waiting.len() as u64);
            if let Some(end) = &end
                && (self.waiting.is_empty() || self.is_stuck(end.is_err()))
            {
                return self.end(Result::clone(end));
            }
            // What is bound must come, whatever waits: only then may it be held back.
            let bound = self.covers_all();
            let room = self.waiting.bytes() < self.context.ahead_bytes_max as u64 || !bound;
            tokio::select! {
                biased;
                () = change => {}
                units = driven.units.recv(), if end.is_none() && room => match units {
                    Some(units) => self.take(units).await?,
                    None => end = Some(driven.end().await),
                },
                () = self.promoted(), if waits_for_promotion => {}
                // So that what an idle one holds goes on with the log.
                () = tokio::time::sleep(REST), if self.waiting.is_empty() => {}
                () = tokio::time::sleep(self.context.poll), if !self.waiting.is_empty() => {
                    // A writer learns of others' bindings by the races that it loses, and by their rows.
                    if !self.is_writer() {
                        self.refresh().await?;
                    }
                }
            }
        }
    }

    /// Whether what waits will not be bound here, now that nothing more comes: others have bound what
    /// we do not have, or we may not and have an error to tell.
    fn is_stuck(&self, failed: bool) -> bool {
        !self.covers_all() || (failed && !self.is_writer())
    }

    /// Says how it ended. What is bound of what was received is handed over.
    fn end(&self, end: Result<(), Error>) -> Result<u64, Error> {
        end?;
        if self.covers_all() {
            return Ok(self.closed);
        }
        let what = "another writer has bound more of this feed than it has here";
        Err(Error::new(ErrorKind::Unavailable, what)
            .hint("see that both read the same feed, and start again"))
    }

    /// Whether everything that is bound was received.
    fn covers_all(&self) -> bool {
        let last = self.remap.bindings().last();
        last.is_none_or(|last| self.waiting.has_received(&last.cursor))
    }

    /// Whether everything that is bound of the generations before a unit's was received. What is bound
    /// of its own, by a writer that was faster, is yet to come.
    fn covers_older(&self, unit: &Unit<P>) -> bool {
        let last = self.remap.bindings().last_before(unit.boundary.generation());
        last.is_none_or(|last| self.waiting.has_received(&last.cursor))
    }

    async fn take(&mut self, units: Vec<Unit<P>>) -> Result<(), Error> {
        let mut rows = Vec::new();
        let (upper, now) = (self.context.handle.state().upper, Instant::now());
        for unit in units {
            let anew = unit.boundary.generation() > self.waiting.received().generation();
            let several = unit.moved.len() > 1 && !self.copies_as_told;
            if anew && several && !crate::mutant::on("copy_of_several") {
                // How far each partition is then differs between readers: no two would agree.
                let what = "the feed must be copied anew, and has several partitions";
                return Err(Error::new(ErrorKind::Invalid, what).hint("use Times::CoCommitted"));
            }
            if anew && !self.covers_older(&unit) {
                let older = self.remap.bindings().last_before(unit.boundary.generation());
                let bound = older.map_or(u64::MAX, |binding| binding.time);
                return Err(lost_rows(bound, upper));
            }
            if unit.boundary.cursor().contains(self.waiting.received().cursor()) != Some(true) {
                let what = "partitions of this feed were replaced, which no binding can say";
                return Err(Error::new(ErrorKind::Invalid, what).hint("use Times::CoCommitted"));
            }
            self.waiting.receive(&unit.boundary);
            match time_of(&self.remap, &unit, self.copies_as_told, upper)? {
                Some(time) => self.read(unit, time, &mut rows).await?,
                None => self.waiting.push(unit, now),
            }
        }
        self.send(rows).await
    }

    /// Does one thing that can be done. Returns whether there may be another.
    async fn settle(&mut self, driven: &Driven<P>, ended: bool) -> Result<bool, Error> {
        if let Some(time) = self.remap.bindings().complete(self.waiting.received().cursor())
            && time >= self.closed
        {
            self.closed = after(time)?;
            self.outlet.closed(self.closed).await?;
        }
        let upper = self.context.handle.state().upper;
        if upper > self.remap.upper() {
            let found = self.refresh().await?;
            // Everything that is in the shard was bound before: this one was restored under us.
            self.remap.covers(upper)?;
            return Ok(found);
        }
        if let Some(binding) = self.remap.bindings().below(upper) {
            let upto = if crate::mutant::on("ack_bound") { u64::MAX } else { upper };
            let durable = self.remap.resume(upto, binding.cursor.identity())?;
            driven.set_durable(durable);
        }
        let closed = if crate::mutant::on("forget_needed_binding") { upper } else { self.closed };
        self.remap.forget(upper, closed);
        if !self.may_mint(upper, ended) {
            return Ok(false);
        }
        if let Some(end) = self.context.handle.state().sealed_at {
            return Err(sealed(end));
        }
        let time = self.context.time(self.remap.upper().max(upper))?;
        self.minted = Some(Instant::now());
        let next = match crate::mutant::on("replaced_at_one_time") {
            true => self.waiting.received(),
            false => self.waiting.next(),
        };
        match self.remap.mint(time, next.cursor(), upper).await {
            Ok(true) => self.bound().await?,
            Ok(false) => {
                self.refresh().await?;
            }
            // It may have been bound or not: if anything was, a look tells what.
            Err(e) if e.kind() == ErrorKind::Indeterminate => {
                if !self.refresh().await? {
                    return Err(e);
                }
            }
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    fn is_writer(&self) -> bool {
        self.context.standby.as_ref().is_none_or(|promotion| promotion.is_promoted())
    }

    /// Waits until it may write.
    async fn promoted(&self) {
        if crate::mutant::on("promotion_unheard") {
            std::future::pending::<()>().await;
        }
        if let Some(promotion) = &self.context.standby {
            promotion.promoted().await;
        }
    }

    /// Whether to bind a time now: something waits, and nothing that is bound is pending.
    fn may_mint(&self, upper: u64, ended: bool) -> bool {
        let (now, config) = (Instant::now(), &self.context.config);
        let has_rested =
            self.minted.is_none_or(|minted| now.duration_since(minted) >= config.mint_min);
        let is_due = ended || (has_rested && self.waiting.is_due(now, config.idle_commit));
        // Of the times that are bound: one may be skipped for a repair, and the feed has no row in it.
        let last = self.remap.bindings().last();
        let is_pending = last.is_some_and(|last| last.time >= upper) || !self.covers_all();
        !self.waiting.is_empty() && is_due && !is_pending && self.is_writer()
    }

    /// Reads what others have bound.
    async fn refresh(&mut self) -> Result<bool, Error> {
        let found = self.remap.refresh().await?;
        if found {
            self.remap.check(self.waiting.received().identity())?;
            self.bound().await?;
        }
        Ok(found)
    }

    /// Hands over the waiting units that are bound now.
    async fn bound(&mut self) -> Result<(), Error> {
        let (remap, upper) = (&self.remap, self.context.handle.state().upper);
        let as_told = self.copies_as_told;
        let bound = self.waiting.take_bound(|unit| time_of(remap, unit, as_told, upper))?;
        let mut rows = Vec::new();
        for (unit, time) in bound {
            self.read(unit, time, &mut rows).await?;
        }
        self.send(rows).await
    }

    /// Adds a unit's rows to a batch, and sends what is large.
    async fn read(
        &self,
        unit: Unit<P>,
        time: u64,
        rows: &mut Vec<(Command<Encoded, Encoded, Order>, u64)>,
    ) -> Result<(), Error> {
        if unit.changes.changes() == 0 {
            return Ok(());
        }
        if time < self.closed {
            let what = format!("the feed has rows at {:?}, which it had passed", unit.moved);
            return Err(Error::new(ErrorKind::FeedDiffers, what)
                .hint("report this to the maintainers of the source"));
        }
        let order = unit.moved.iter().find_map(|(_, place)| place.order());
        let Some(order) = order else {
            let what = "the positions of this feed have no order, so no two writers would agree";
            return Err(Error::new(ErrorKind::Invalid, what).hint("use Times::CoCommitted"));
        };
        // Whatever place a copy ends at, in whichever partition: what comes after it is later.
        let order = if unit.replaces.is_some() { 0 } else { order };
        let mut reading = unit.changes.read(order)?;
        loop {
            let commands = reading.rows()?;
            if commands.is_empty() {
                return Ok(());
            }
            rows.extend(commands.into_iter().map(|command| (command, time)));
            if rows.len() >= ROWS_MAX {
                self.send(std::mem::take(rows)).await?;
            }
        }
    }

    async fn send(&self, rows: Vec<(Command<Encoded, Encoded, Order>, u64)>) -> Result<(), Error> {
        if rows.is_empty() { Ok(()) } else { self.outlet.rows(rows).await }
    }
}

/// Returns the time that a unit is bound to, if it is; `upper` is the data shard's, `as_told` whether a copy
/// can end where it is told.
fn time_of<P: Position>(
    remap: &Remap<P>,
    unit: &Unit<P>,
    as_told: bool,
    upper: u64,
) -> Result<Option<u64>, Error> {
    let (bindings, generation) = (remap.bindings(), unit.boundary.generation());
    if let Some(replaced) = &unit.replaces {
        bindings.check_copy(replaced.cursor(), generation, &unit.moved, as_told, upper)?;
    }
    bindings.time_of(generation, &unit.moved)
}

/// How often an idle one looks how far it is.
const REST: Duration = Duration::from_secs(60);

/// A batch is sent when it holds this many rows.
const ROWS_MAX: usize = 1024;
