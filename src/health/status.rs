//! Owns what the operators of one worker's pipeline share: where they report, and how they are
//! woken. What they report into is [`Vitals`], which other threads read.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::Health;
use super::report::Role;
use super::signs::Interval;
use super::vitals::{Process, Vitals};
use super::watchdog;
use crate::control::epoch::Epoch;
use crate::control::lifecycle::{Lifecycle, Phase};
use crate::error::{Error, ErrorKind};
use crate::shard::State;
use crate::source::SourceStats;

/// One worker's part of a pipeline, on its own thread; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Status(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    process: Arc<Process>,
    vitals: Arc<Vitals>,
    lifecycle: Lifecycle,
    /// The last upper seen in our epoch.
    own_upper: Cell<u64>,
}

impl Drop for Shared {
    /// The dataflow is gone, one way or another.
    fn drop(&mut self) {
        if std::thread::panicking() && !self.vitals.is_over() {
            let what = format!("worker {} died of a panic", self.vitals.worker);
            let hint = "see what it said, and start again";
            self.vitals.fail(Error::new(ErrorKind::Unavailable, what).hint(hint));
        }
        self.vitals.set_gone();
        watchdog::last_word(&self.process);
    }
}

impl Status {
    pub(crate) fn new(process: Arc<Process>, vitals: Arc<Vitals>, lifecycle: Lifecycle) -> Self {
        let own_upper = Cell::new(process.handle.state().upper);
        Status(Rc::new(Shared { process, vitals, lifecycle, own_upper }))
    }

    /// Returns what other threads may hold.
    pub(crate) fn health(&self) -> Health {
        let (process, vitals) = (Arc::clone(&self.0.process), Arc::clone(&self.0.vitals));
        Health { process, vitals }
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.0.vitals
    }

    /// Says whether the pipeline writes, for all workers of this process.
    pub(crate) fn set_role(&self, role: Role) {
        self.0.process.set_role(role);
    }

    pub(crate) fn set_input(&self, input: u64) {
        self.0.vitals.set_closed(input);
    }

    pub(crate) fn set_output(&self, output: u64) {
        self.0.vitals.set_output(output);
    }

    pub(crate) fn set_interval(&self, lower: u64, upper: u64) {
        self.0.vitals.set_interval(Some(Interval { lower, upper, appending: false }));
    }

    /// Says that every row below `upper` has been read.
    pub(crate) fn set_read_to(&self, upper: u64) {
        let hydrates = !self.is_hydrated();
        self.0.vitals.set_read_to(upper);
        if hydrates {
            self.wake_all();
        }
    }

    pub(crate) fn is_hydrated(&self) -> bool {
        self.0.vitals.is_hydrated()
    }

    /// Returns the state of the shard's log, as last read; `None` when it is not ours any more: what
    /// another epoch has written is not of our times, and proves nothing.
    pub(crate) fn state(&self) -> Option<Arc<State>> {
        Some(self.0.process.handle.state()).filter(|state| self.epoch().admits(state.epoch))
    }

    /// Returns the upper of the shard's log, as long as it is ours.
    pub(crate) fn upper(&self) -> u64 {
        if let Some(state) = self.state() {
            self.0.own_upper.set(state.upper);
        }
        self.0.own_upper.get()
    }

    /// Returns the epoch that it writes in.
    pub(crate) fn epoch(&self) -> &Epoch {
        &self.0.process.epoch
    }

    /// Returns where the source says what it does.
    pub(crate) fn source(&self) -> &SourceStats {
        &self.0.process.source
    }

    pub(crate) fn phase(&self) -> Phase {
        self.0.lifecycle.phase()
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// Wakes every operator that asked for it.
    pub(crate) fn wake_all(&self) {
        self.0.lifecycle.wake_all();
    }

    /// Says that the updates have ended, with everything committed.
    pub(crate) fn set_ended(&self) {
        self.0.vitals.set_ended();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.vitals.has_ended()
    }

    /// Reports an error of an operator, the sink or the shard. The part that failed holds still.
    pub(crate) fn fail(&self, error: Error) {
        self.0.vitals.fail(error);
        self.wake_all();
    }

    /// Reports an error of the operator in a time. Those below it go on: but where what the operator has read is damaged or
    /// lost, and in a standby, which commits nothing.
    pub(crate) fn fail_at(&self, time: u64, error: Error) {
        let is_lost = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::StateLost);
        match is_lost || self.0.process.role() == Role::Standby {
            true => self.0.vitals.fail(error),
            false => self.0.vitals.fail_at(time, error),
        }
        self.wake_all();
    }

    /// Reports an error of the source, which holds still; what it has closed is still committed.
    /// The first error is the one that shows.
    pub(crate) fn fail_source(&self, error: Error) {
        self.0.vitals.fail_source(error);
        self.wake_all();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.0.vitals.error().is_some()
    }

    /// Returns an error that has not been passed on, and tells every operator of it: a task may have
    /// reported it.
    pub(crate) fn next_error(&self) -> Option<Error> {
        let error = self.0.vitals.next_error()?;
        self.wake_all();
        Some(error)
    }
}
