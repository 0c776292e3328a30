//! Owns the attempt loop: it connects a source, stages what comes, hands on complete units, connects
//! again, and stops. It does not own the decisions (`retry`), nor what is done with a
//! unit.
//!
//! # Loop
//!
//! ```text
//!   connect(boundary) --> next --> stage --> units --> out, bounded
//!        ^                 | error, end, our own deadline; what is staged and incomplete is dropped
//!        '---- wait <------'
//! ```
//!
//! # Invariants
//!
//! 1. Every await (connect, next, a delay, room for a unit) races the token, and the token wins ties:
//!    once cancelled, nothing is connected and nothing is waited for.
//! 2. An attempt counts as progress of a partition iff it reached a boundary of it beyond the last one.
//!    A message is none, and a boundary of another partition neither.
//! 3. However it ends, the boundary says how far it came, and nothing beyond it went on.
//! 4. An ack is of a durable cursor, never goes back, and never holds the rows up.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::by_partition::Partition;
use super::cursor::{Boundary, Durable, Position, is_beyond};
use super::lag::Lag;
use super::retry::{Budget, Outcome, Own, Part, Step};
use super::stage::{StageLimits, Stager, Unit};
use super::staging::Staging;
use super::stats::SourceStats;
use super::targets::Targets;
use super::{Event, Events, Failure, Source};
use crate::codec::{Codec, Postcard};
use crate::error::Error;

pub use super::retry::{AttemptConfig, OnPositionLost};

/// How an attempt loop ended.
#[derive(Clone, Debug)]
pub struct Ended<P> {
    /// The last boundary whose unit was handed on.
    pub boundary: Boundary<P>,
    /// Why it ended.
    pub reason: Reason,
}

/// Why an attempt loop ended.
#[derive(Clone, Debug)]
pub enum Reason {
    /// It was told to stop, or nobody takes its units any more.
    Cancelled,
    /// The feed has ended, or is where it was to stop.
    Complete,
    /// It cannot go on; the cursor has not moved past what was handed on.
    Failed(Error),
}

/// What an attempt loop is run with.
#[derive(Debug)]
pub struct Attempts<P> {
    /// Where to begin.
    pub from: Boundary<P>,
    /// How often to try.
    pub config: AttemptConfig,
    /// How much to keep back.
    pub limits: StageLimits,
    /// The number of the values' shape in the shard; 0 is that of the shard's first ones.
    pub shape: u16,
    /// Whether to end where the feed is at the start.
    pub stop_at_current: bool,
    /// Seed of the jitter of delays.
    pub seed: u64,
    /// Ends it.
    pub cancel: CancellationToken,
    /// Where complete units go, in order.
    pub units: mpsc::Sender<Vec<Unit<P>>>,
    /// What is durable, for acks.
    pub durable: watch::Receiver<Option<Durable<P>>>,
    /// What it is doing.
    pub stats: SourceStats,
}

impl<P: Position> Attempts<P> {
    /// Drives a source until it ends. Keys and values are encoded by `C`.
    pub async fn run<S, C>(self, source: S) -> Ended<P>
    where
        S: Source<Position = P>,
        C: Codec<S::Key> + Codec<S::Value>,
    {
        let (handed_on, from) = (self.from.clone(), self.from.clone());
        let mut stager =
            Stager::new(self.from, source.partitions(), self.limits).with_shape(self.shape);
        if self.config.copy_anew && !handed_on.is_start() {
            warn_of_copy(&handed_on, "it was asked for");
            stager.begin_anew();
            self.stats.add_generation();
        }
        let session_max = self.config.session_max;
        let attempts = Running::<S, C> {
            source,
            stager,
            handed_on,
            session_max,
            connected: None,
            staging: Staging::default(),
            from,
            budget: Budget::new(self.config, self.seed),
            cancel: self.cancel,
            units: self.units,
            acks: Acks::new(self.durable, self.stats.clone()),
            stats: self.stats,
            targets: self.stop_at_current.then_some(Targets::Unknown),
            refused: false,
            codec: PhantomData,
        };
        attempts.run().await
    }

    /// As [`run`](Attempts::run), with the default codec.
    pub async fn run_postcard<S>(self, source: S) -> Ended<P>
    where
        S: Source<Position = P>,
        Postcard: Codec<S::Key> + Codec<S::Value>,
    {
        self.run::<S, Postcard>(source).await
    }
}

struct Running<S: Source, C> {
    source: S,
    stager: Stager<S::Position>,
    /// Of the last unit that is on its way, out of our hands.
    handed_on: Boundary<S::Position>,
    session_max: Option<Duration>,
    /// Where this attempt began, and when it was connected.
    from: Boundary<S::Position>,
    connected: Option<Instant>,
    staging: Staging,
    budget: Budget,
    cancel: CancellationToken,
    units: mpsc::Sender<Vec<Unit<S::Position>>>,
    acks: Acks<S::Position>,
    stats: SourceStats,
    targets: Option<Targets<S::Position>>,
    /// The stager has refused something, and is not to be used again.
    refused: bool,
    codec: PhantomData<fn(C)>,
}

impl<S: Source, C: Codec<S::Key> + Codec<S::Value>> Running<S, C> {
    async fn run(mut self) -> Ended<S::Position> {
        let mut ended = Instant::now();
        let reason = loop {
            if self.cancel.is_cancelled() {
                break Reason::Cancelled;
            }
            let deadline = self.session_max.and_then(|max| Instant::now().checked_add(max));
            self.from = self.stager.boundary().clone();
            let released = self.stager.released().clone();
            // A copy that goes on, or begins anew, is one also before anything of it has come.
            self.tell_staged();
            let outcome = self.attempt(deadline).await;
            let (began, now) = (std::mem::replace(&mut ended, Instant::now()), Instant::now());
            let connected = self.connected.take();
            let own = Own {
                cancelled: self.cancel.is_cancelled() || self.units.is_closed(),
                // What the stager refuses is refused whichever deadline has passed.
                late: !self.refused && is_over(deadline),
                released: is_beyond(self.stager.released().cursor(), released.cursor()),
                waited: connected.unwrap_or(now) - began,
                lived: connected.map_or(Duration::ZERO, |connected| now - connected),
                parts: self.parts(),
                blamed: self.source.failed_partition(),
            };
            // Incomplete units die with their connection: the next one brings them again, whole.
            if !crate::mutant::on("keep_torn_unit") {
                self.stager.discard();
            }
            let why = match &outcome {
                Outcome::Failed(failure) => Some(failure.error().to_string()),
                Outcome::Closed => Some("it closed the connection".to_string()),
                Outcome::End => None,
            };
            let trouble = why.clone();
            let polite = matches!(outcome, Outcome::Closed);
            let step = self.budget.decide(&own, outcome);
            self.tell(why.filter(|_| !polite || self.budget.spent() > 0));
            self.tell_staged();
            let delay = match step {
                Step::Stop => break Reason::Cancelled,
                Step::End => break Reason::Complete,
                Step::Fail(error) => break Reason::Failed(error),
                Step::Again(delay) => delay,
                Step::Anew(delay) => {
                    warn_of_copy(self.stager.released(), &trouble.unwrap_or_default());
                    self.stager.begin_anew();
                    self.stats.add_generation();
                    // Places of a history that is gone are never reached: ask again.
                    self.targets = self.targets.take().map(|_| Targets::Unknown);
                    delay
                }
            };
            let cancelled = self.cancel.clone();
            tokio::select! {
                biased;
                () = cancelled.cancelled(), if delay.is_zero() || !crate::mutant::on("delay_outlasts_stop") => {
                    break Reason::Cancelled;
                }
                () = self.units.closed() => break Reason::Cancelled,
                () = tokio::time::sleep(delay), if !delay.is_zero() => {}
                () = std::future::ready(()), if delay.is_zero() => {}
            }
        };
        if !matches!(reason, Reason::Failed(_)) {
            // What it had is on its way, and there is nothing more to be behind of.
            self.stats.set_lag(Lag::default());
        }
        Ended { boundary: self.handed_on, reason }
    }

    /// What became of each partition in this attempt.
    fn parts(&self) -> Vec<Part> {
        let mut names = self.stager.partitions();
        if names.is_empty() {
            // It has none yet, and fails all the same.
            names.insert(Partition::from(""));
        }
        let part = |name: Partition| Part {
            progressed: self.has_progressed(&name)
                || is_beyond(self.stager.boundary().cursor(), self.from.cursor())
                    && crate::mutant::on("budget_of_all")
                || self.stager.bytes() > 0 && crate::mutant::on("budget_by_message"),
            staged: self.stager.changes_of(&name),
            name,
        };
        names.into_iter().map(part).collect()
    }

    /// Whether a partition has reached a boundary in this attempt.
    fn has_progressed(&self, partition: &str) -> bool {
        match (self.from.get(partition), self.stager.boundary().get(partition)) {
            (Some(from), Some(to)) => from.contains(to) != Some(true),
            (None, to) => to.is_some(),
            (_, None) => false,
        }
    }

    /// Says what is wrong, if anything: why the last attempt has failed.
    fn tell(&self, why: Option<String>) {
        match why {
            Some(why) => self.stats.failed(self.budget.spent(), self.budget.failing(), why),
            None => self.stats.succeeded(),
        }
    }

    /// Says what is incomplete.
    fn tell_staged(&mut self) {
        if self.staging.see(&self.stager, Instant::now()) {
            self.stats.set_staged(self.staging.waiting());
        }
    }

    /// One connection, from its making to its end.
    async fn attempt(&mut self, deadline: Option<Instant>) -> Outcome {
        let (cancel, units) = (self.cancel.clone(), self.units.clone());
        tokio::select! {
            biased;
            // `decide` asks our own first, whatever is said here.
            () = cancel.cancelled() => Outcome::Closed,
            () = units.closed() => Outcome::Closed,
            outcome = self.session(deadline) => outcome.unwrap_or_else(Outcome::Failed),
        }
    }

    async fn session(&mut self, deadline: Option<Instant>) -> Result<Outcome, Failure> {
        if matches!(self.targets, Some(Targets::Unknown)) {
            // Not knowing is an error like any other, and never "nothing new".
            let Some(current) = before(deadline, self.source.current()).await else {
                return Ok(Outcome::Closed);
            };
            self.targets = Some(Targets::Known(current?));
        }
        let from = self.stager.boundary().clone();
        self.stats.add_connect();
        match before(deadline, self.source.connect(&from)).await {
            Some(connected) => connected?,
            None => return Ok(Outcome::Closed),
        }
        self.connected = Some(Instant::now());
        self.stats.connected(self.budget.is_poisoned());
        // Not before: a place that the feed does not have any more may look like one that is far enough.
        if self.is_there() {
            return Ok(Outcome::End);
        }
        loop {
            self.start_ack();
            self.tell_lag();
            let events = tokio::select! {
                biased;
                () = self.acks.turn() => continue,
                events = before(deadline, self.source.next()) => events,
            };
            // Only here may the deadline cut: units on their way are not to be dropped.
            let Some(events) = events else { return Ok(Outcome::Closed) };
            let Some(events) = events? else { return Ok(Outcome::Closed) };
            let cuts = deadline.filter(|_| crate::mutant::on("deadline_cuts_units"));
            let taken = before(cuts, self.take(events)).await;
            let Some(taken) = taken else { return Ok(Outcome::Closed) };
            if let Some(outcome) = taken? {
                return Ok(outcome);
            }
            // A source that never waits would not let it be noticed otherwise.
            if is_over(deadline) {
                return Ok(Outcome::Closed);
            }
        }
    }

    fn start_ack(&mut self) {
        let generation = self.stager.boundary().generation();
        self.acks.start(&mut self.source, generation, self.stager.keeps_acks());
    }

    /// Says how far what is durable is behind. Of a generation that is not there yet nothing is known.
    fn tell_lag(&mut self) {
        let durable = self.acks.durable(self.stager.boundary().generation());
        let lag = durable.map(|durable| self.source.lag(&durable));
        self.stats.set_lag(lag.unwrap_or_default());
        if lag.is_some() {
            self.stats.add_durable(&self.source.durable_since());
        }
    }

    /// Stages events, and hands on the units that they complete.
    async fn take(&mut self, events: Events<S>) -> Result<Option<Outcome>, Failure> {
        let (mut units, mut outcome) = (Vec::new(), None);
        let began = self.stager.boundary().clone();
        for event in events {
            let ends = matches!(event, Event::End);
            let (moves, all) = match &event {
                Event::Boundary(received) => (true, received.is_all()),
                _ => (false, false),
            };
            // Only then may there be fewer partitions.
            let before = all.then(|| self.stager.boundary().clone());
            match self.stager.take::<S, C>(event) {
                Ok(unit) => units.extend(unit),
                Err(error) => {
                    self.refused = true;
                    // The units before it are complete, and go on all the same.
                    self.hand_on(units).await;
                    return Err(Failure::Definite(error));
                }
            }
            if let (Some(before), Some(targets)) = (before, &mut self.targets) {
                targets.drop_replaced(&before, self.stager.boundary());
            }
            if ends || (moves && self.is_there()) {
                outcome = Some(Outcome::End);
                break;
            }
        }
        let progressed = is_beyond(self.stager.boundary().cursor(), began.cursor());
        if progressed && self.budget.spent() > 0 {
            let failing: Vec<Partition> = self.budget.failing().cloned().collect();
            let good = failing.iter().filter(|name| self.has_progressed(name));
            for name in good.cloned().collect::<Vec<_>>() {
                self.budget.succeeded(&name);
            }
            if self.budget.spent() == 0 {
                self.stats.succeeded();
            }
        }
        self.tell_staged();
        if !self.hand_on(units).await {
            outcome = Some(Outcome::Closed);
        }
        Ok(outcome)
    }

    /// Hands units on, all or none. Returns false if nobody takes them any more.
    async fn hand_on(&mut self, units: Vec<Unit<S::Position>>) -> bool {
        let Some(last) = units.last().map(|unit| unit.boundary.clone()) else { return true };
        let room = match self.units.clone().try_reserve_owned() {
            Ok(room) => room,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(units)) => match self.room(units).await {
                Some(room) => room,
                None => return false,
            },
        };
        self.stats.add_units(units.len() as u64);
        room.send(units);
        self.handed_on = last;
        true
    }

    /// Waits for room. Meanwhile the source is not asked, and not to blame for being silent.
    async fn room(&mut self, units: Out<S::Position>) -> Option<Room<S::Position>> {
        self.stats.set_held_back(true);
        let room = units.reserve_owned();
        tokio::pin!(room);
        let room = loop {
            tokio::select! {
                biased;
                room = &mut room => break room.ok(),
                // Rows may wait for room until what is before them is durable, and acked.
                () = self.acks.turn() => {
                    self.start_ack();
                    self.tell_lag();
                }
            }
        };
        self.staging.held_back(Instant::now());
        self.stats.set_staged(self.staging.waiting());
        self.stats.set_held_back(false);
        room
    }

    /// Whether everything that the feed had at the start has been handed over.
    fn is_there(&mut self) -> bool {
        let targets = self.targets.as_mut();
        targets.is_some_and(|targets| targets.are_within(self.stager.boundary()))
            && !self.stager.copies()
    }
}

/// A copy anew is dear, and replaces what is there: nobody should have to guess that it happens.
fn warn_of_copy<P: Position>(from: &Boundary<P>, why: &str) {
    let feed = from.identity();
    tracing::warn!(feed, why, "everything is copied anew, and replaces what is there in one step");
}

type Out<P> = mpsc::Sender<Vec<Unit<P>>>;
type Room<P> = mpsc::OwnedPermit<Vec<Unit<P>>>;

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Awaits until a deadline, if there is one.
async fn before<T>(deadline: Option<Instant>, what: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, what).await.ok(),
        None => Some(what.await),
    }
}
