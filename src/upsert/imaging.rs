//! Owns what the operator does for images of its state in a wake-up: it says when the state is exact, and gives them their
//! turn. How an image is made is [`image`](super::image)'s.

use differential_dataflow::ExchangeData;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::classify::Frontiers;
use super::rows::Kept;
use super::steps::UpsertOperator;
use crate::control::lifecycle::Phase;

impl<K, V, O, T> UpsertOperator<K, V, O, T>
where
    K: ExchangeData + Kept<V>,
    V: ExchangeData,
    O: ExchangeData,
    T: Timestamp + TotalOrder,
{
    /// Begins with the image, once it is known whether the feedback does.
    pub(super) fn begin_image(&mut self) {
        if let (Some((images, _)), None) = (&mut self.images, &self.failed)
            && let Err(error) = images.begin(&mut self.state)
        {
            self.fail(error);
        }
    }

    /// Goes on with an image, and makes the last one once the feedback is over.
    pub(super) fn take_image(&mut self, at: &Frontiers<'_, T>, phase: Phase) {
        if self.images.is_none() || self.failed.is_some() {
            return;
        }
        let is_last = phase == Phase::Released && at.complete.is_empty();
        if is_last {
            // What is not emitted by now will not be, and feedback that waited for it can go in.
            self.drain = None;
            while !self.inbox.is_empty() {
                self.apply();
                if self.failed.is_some() {
                    return;
                }
            }
        }
        self.see_exact(at);
        let Some((images, _)) = &mut self.images else { return };
        let done = match (is_last, self.exact) {
            (false, exact) => images.go_on(&mut self.state, exact),
            (true, Some(exact)) => images.end(&mut self.state, exact).map(|()| false),
            (true, None) => Ok(false),
        };
        match done {
            Ok(more) => self.more |= more,
            Err(error) => return self.fail(error),
        }
        if is_last {
            self.images = None;
        }
    }

    /// Notes the time below which the state has all updates, if it is exact. Before a drain reads a row: what is read of an
    /// image that has not all that came since is not checked to be of the right version.
    pub(super) fn see_exact(&mut self, at: &Frontiers<'_, T>) {
        let Some((images, time_of)) = &mut self.images else { return };
        if self.inbox.is_empty() && self.failed.is_none() {
            let upper = images.exact(at.complete.first().map(*time_of));
            let applied = self.inbox.applied().map(*time_of);
            let is_exact = |upper: &u64| applied.is_none_or(|applied| applied < *upper);
            let is_exact = |upper: &u64| is_exact(upper) && self.state.is_settled();
            self.exact = upper.filter(is_exact);
            if self.exact.is_some() {
                self.state.end_replay();
            }
        }
    }
}
