//! Owns what a pipeline says of itself: the frontiers that its operators report and the one state
//! they add up to. It does not own the frontiers, and it decides nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use timely::scheduling::Activator;

use crate::error::{Error, ErrorKind};
use crate::shard::{Handle, State};
use crate::token::{Lifecycle, Phase};

/// What a pipeline is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthState {
    /// It reads the shard to know the prior values.
    Hydrating,
    /// A closed time is on its way into the shard.
    Running,
    /// Everything closed on the source is in the shard.
    Idle,
    /// The shard is ahead of this pipeline's input.
    Lagging,
    /// It has stopped on an error and holds still.
    Failed,
    /// It has stopped, at the end of its input or because it was told to.
    Finished,
}

/// A pipeline's health on one worker, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct HealthReport {
    /// What it is doing.
    pub state: HealthState,
    /// The input frontier: times below it are closed on the source.
    pub input: u64,
    /// The shard's upper, as last read.
    pub upper: u64,
    /// The frontier of the updates: times below it have been emitted.
    pub output: u64,
    /// How far the shard is behind the input, in units of time.
    pub behind: u64,
    /// The shard's since.
    pub since: u64,
    /// Why, where that needs words.
    pub why: Option<String>,
}

/// Watches a pipeline on one worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(pub(crate) Status);

impl Health {
    /// Returns the health now. O(1).
    pub fn report(&self) -> HealthReport {
        let status = &self.0.0;
        let state = status.handle.state();
        let (input, output) = (status.input.get(), status.output.get());
        let error = status.error.borrow();
        let health = match (self.0.phase(), &*error) {
            (_, Some(_)) => HealthState::Failed,
            (Phase::Released, None) => HealthState::Finished,
            _ if !status.hydrated.get() => HealthState::Hydrating,
            _ if input < state.upper => HealthState::Lagging,
            _ if input == state.upper => HealthState::Idle,
            _ => HealthState::Running,
        };
        HealthReport {
            state: health,
            input,
            upper: state.upper,
            output,
            behind: input.saturating_sub(state.upper),
            since: state.since,
            why: error.as_ref().map(Error::to_string),
        }
    }

    /// Returns the first error of this worker's part, if it has failed.
    pub fn error(&self) -> Option<Error> {
        self.0.0.error.borrow().clone()
    }

    /// Whether all that was closed on the source is in the shard, or never will be because more
    /// than the source has failed. After an error, the moment to drop the token.
    pub fn is_settled(&self) -> bool {
        let status = &self.0.0;
        status.broken.get() || status.handle.state().upper >= status.input.get()
    }

    /// Whether the input has ended and all of it is in the shard. False after a stop.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }
}

/// What the operators of one worker's pipeline share: where they report and how they are woken.
#[derive(Clone, Debug)]
pub(crate) struct Status(Rc<Cells>);

#[derive(Debug)]
struct Cells {
    handle: Handle,
    epoch: u64,
    /// The last upper seen in our epoch.
    own_upper: Cell<u64>,
    lifecycle: Lifecycle,
    input: Cell<u64>,
    output: Cell<u64>,
    hydrated: Cell<bool>,
    broken: Cell<bool>,
    ended: Cell<bool>,
    error: RefCell<Option<Error>>,
    unreported: RefCell<VecDeque<Error>>,
}

impl Status {
    pub(crate) fn new(handle: Handle, epoch: u64, lifecycle: Lifecycle) -> Self {
        Status(Rc::new(Cells {
            own_upper: Cell::new(handle.state().upper),
            handle,
            epoch,
            lifecycle,
            input: Cell::new(0),
            output: Cell::new(0),
            hydrated: Cell::new(false),
            broken: Cell::new(false),
            ended: Cell::new(false),
            error: RefCell::default(),
            unreported: RefCell::default(),
        }))
    }

    pub(crate) fn set_input(&self, input: u64) {
        self.0.input.set(input);
    }

    pub(crate) fn set_output(&self, output: u64) {
        self.0.output.set(output);
    }

    /// Says that the shard has been read as far as its log went.
    pub(crate) fn set_hydrated(&self) {
        if !self.0.hydrated.replace(true) {
            self.wake_all();
        }
    }

    pub(crate) fn is_hydrated(&self) -> bool {
        self.0.hydrated.get()
    }

    /// Returns the state of the shard's log, as last read; `None` when it is not ours any more: what
    /// another epoch has written is not of our times, and proves nothing.
    pub(crate) fn state(&self) -> Option<Arc<State>> {
        Some(self.0.handle.state()).filter(|state| state.epoch == self.0.epoch)
    }

    /// Returns the upper of the shard's log, as long as it is ours.
    pub(crate) fn upper(&self) -> u64 {
        if let Some(state) = self.state() {
            self.0.own_upper.set(state.upper);
        }
        self.0.own_upper.get()
    }

    /// Returns the epoch that it writes in.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch
    }

    pub(crate) fn phase(&self) -> Phase {
        self.0.lifecycle.phase()
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// Adds an operator to those woken when the upper or the phase moves, or an error comes.
    pub(crate) fn wake(&self, activator: Activator) {
        self.0.lifecycle.wake(activator);
    }

    /// Wakes every operator that asked for it.
    pub(crate) fn wake_all(&self) {
        self.0.lifecycle.wake_all();
    }

    /// Says that the updates have ended, with everything committed.
    pub(crate) fn set_ended(&self) {
        self.0.ended.set(true);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.get()
    }

    /// Reports an error of an operator, the sink or the shard. The part that failed holds still.
    pub(crate) fn fail(&self, error: Error) {
        self.0.broken.set(true);
        self.fail_source(error);
    }

    /// Reports an error of the source, which holds still; what it has closed is still committed.
    /// The first error is the one that shows.
    pub(crate) fn fail_source(&self, error: Error) {
        tracing::error!(%error, "pipeline failed");
        self.0.error.borrow_mut().get_or_insert_with(|| error.clone());
        self.0.unreported.borrow_mut().push_back(error);
        self.wake_all();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.0.error.borrow().is_some()
    }

    pub(crate) fn next_error(&self) -> Option<Error> {
        self.0.unreported.borrow_mut().pop_front()
    }
}

/// The error of a writer that another has shut out.
pub(crate) fn fenced(epoch: u64) -> Error {
    Error::new(
        ErrorKind::Fenced,
        format!("Fenced: another writer took the shard over, epoch {epoch}"),
    )
    .hint("stop this writer; nothing of its feed was dropped")
}
