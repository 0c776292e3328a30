//! Owns how a wake-up ends: whether the state is what it must be by now, what the counters say, which time the capability is
//! kept for, and how the operator fails. What it does before that is [`steps`](super::steps)'s.

use differential_dataflow::ExchangeData;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::classify::Frontiers;
use super::drain::Drain;
use super::rows::Kept;
use super::state::State;
use super::steps::UpsertOperator;
use crate::control::lifecycle::Phase;
use crate::error::{Error, ErrorKind};

impl<K, V, O, T> UpsertOperator<K, V, O, T>
where
    K: ExchangeData + Kept<V>,
    V: ExchangeData,
    O: ExchangeData,
    T: Timestamp + TotalOrder,
{
    /// Fails if the state is not a collection at a complete frontier, whether or not something waits to
    /// read it: the shard is damaged either way.
    pub(super) fn check_state(&mut self, at: &Frontiers<'_, T>, phase: Phase) {
        // Once capabilities may go, the frontier is complete in name only.
        if phase < Phase::Silent
            && self.is_whole(at)
            && let Some(error) = self.state.damage()
        {
            self.fail(error);
        }
    }

    /// Whether the state has all updates below the frontier, and no other.
    pub(super) fn is_whole(&self, at: &Frontiers<'_, T>) -> bool {
        let below = |applied: &T| !at.complete.less_equal(applied);
        self.inbox.is_empty() && self.inbox.applied().is_some_and(below)
    }

    /// Whether something is left to do that no message will wake it for. A drain that waits for rows is woken by them, and what
    /// the state has put off goes on behind it.
    pub(super) fn has_more(&mut self) -> bool {
        let is_behind = self.drain.is_none() && self.state.is_behind();
        let is_behind = is_behind && !crate::mutant::on("behind_sleeps");
        (std::mem::take(&mut self.more) || is_behind) && self.failed.is_none()
    }

    /// Returns the least time that waits.
    pub(super) fn least(&self) -> Option<&T> {
        let draining = self.drain.as_ref().map(Drain::time);
        draining.into_iter().chain(self.stash.first_time()).min()
    }

    pub(super) fn settle(&mut self, at: &Frontiers<'_, T>, phase: Phase) {
        let done = self.stash.take_done();
        self.stats.add_superseded(done.superseded);
        self.stats.add_work(done.looked_at);
        self.stats.set_stash(self.stash.rows(), self.stash.bytes(), self.stash.spill_bytes());
        self.stats.set_state(self.state.len(), self.state.bytes());
        self.stats.set_state_places(self.state.places());
        let read = self.state.take_counts();
        self.stats.add_cold_reads(read.reads, read.bytes);
        self.stats.set_cold_waiting(self.state.under_way() as u64);
        self.stats.set_overlay(self.overlay.bytes(), self.overlay.bytes_max());
        if phase == Phase::Released {
            self.capability = None;
        }
        if phase != Phase::Running {
            return;
        }
        let waits = match (&self.failed, self.failed_at.take()) {
            (None, _) => self.least().into_iter().chain(at.input.first()).min().cloned(),
            // It has emitted all that was before, maybe ahead and in this very wake-up; then it holds still.
            (Some(_), Some(time)) if !crate::mutant::on("fail_all_ahead") => Some(time),
            (Some(_), _) => return,
        };
        match (waits, &mut self.capability) {
            (Some(time), Some((updates, errors))) => {
                updates.downgrade(&time);
                errors.downgrade(&time);
            }
            (None, capability) => *capability = None,
            (Some(_), None) => {}
        }
        if at.complete.is_empty() && self.least().is_some() {
            let what = "the feedback has ended while commands wait for it";
            self.fail(Error::new(ErrorKind::Invalid, what).hint("end the commands first"));
        }
    }

    /// Ends the work and keeps the capability. What was held is given back: it will not be needed,
    /// and the next run reads it again.
    pub(super) fn fail(&mut self, error: Error) {
        let error = match self.images.take() {
            Some((mut images, _)) => images.fail(error),
            None => error,
        };
        self.failed.get_or_insert(error);
        self.stash.clear();
        self.inbox.clear();
        self.overlay.clear();
        (self.drain, self.state) = (None, State::default());
    }
}
