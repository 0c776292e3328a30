//! Owns the one spelling of eligibility: where a command's time stands between what is persisted
//! and what is closed, and when an operator may run ahead of what is persisted. It holds no state and
//! does nothing about the answer.

use timely::order::TotalOrder;
use timely::progress::Timestamp;
use timely::progress::frontier::AntichainRef;

/// Where a time stands against the shard's upper `p` and the input frontier `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// `t < p`: some writer has persisted that time. Drop the command, and count it.
    Below,
    /// `t == p < i`: the state is exactly as of `p`, so the prior value is the one to retract. Or `p < t < i`,
    /// and the operator may run [`Ahead`]: the state, overlaid with what it has emitted, is as of `t`.
    Equal,
    /// Anything else: keep the command.
    Above,
}

/// The three frontiers that decide a [`Placement`], each empty or of one element.
#[derive(Clone, Copy, Debug)]
pub struct Frontiers<'a, T> {
    /// Times not beyond it are closed on the source.
    pub input: AntichainRef<'a, T>,
    /// The shard's upper as read from its log; the rows below it may not be here yet.
    pub known: AntichainRef<'a, T>,
    /// The feedback frontier: every row below it has arrived. Never ahead of `known`.
    pub complete: AntichainRef<'a, T>,
}

impl<T: Timestamp + TotalOrder> Frontiers<'_, T> {
    /// Places a time; `ahead` if the operator [may](Ahead::may) drain it ahead of its turn.
    ///
    /// *Known* decides [`Below`](Placement::Below), so that a lagging writer sheds what others have
    /// persisted without waiting for their rows. *Complete* decides [`Equal`](Placement::Equal),
    /// because only then is the prior value exact. An empty frontier decides nothing: a feedback
    /// that has ended neither persists a time nor makes one eligible.
    ///
    /// Ahead of its turn only the least time that waits may be placed: the caller sees to that.
    ///
    /// ```
    /// use differential_upsert::upsert::{Frontiers, Placement};
    /// use timely::progress::Antichain;
    /// let [five, nine] = [5u64, 9].map(Antichain::from_elem);
    /// let at = Frontiers { input: nine.borrow(), known: five.borrow(), complete: five.borrow() };
    /// assert_eq!(at.place(&4, false), Placement::Below);
    /// assert_eq!(at.place(&5, false), Placement::Equal);
    /// assert_eq!(at.place(&6, false), Placement::Above);
    /// assert_eq!(at.place(&6, true), Placement::Equal);
    /// assert_eq!(at.place(&9, true), Placement::Above); // open
    ///
    /// // The rows of the shard's times below 9 are still on their way: nothing is eligible.
    /// let behind = Frontiers { known: nine.borrow(), ..at };
    /// assert_eq!(behind.place(&5, false), Placement::Below);
    /// assert_eq!(behind.place(&9, false), Placement::Above);
    /// ```
    pub fn place(&self, time: &T, ahead: bool) -> Placement {
        if self.known.first().is_some_and(|known| time < known) {
            return Placement::Below;
        }
        let is_its_turn = self.complete.first().is_some_and(|complete| complete == time || ahead);
        let closed = !self.input.less_equal(time);
        if is_its_turn && closed { Placement::Equal } else { Placement::Above }
    }
}

/// What an operator knows of itself, as far as it decides whether a time may be drained before the commits
/// below it have come back.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a, T> {
    /// It has drained a time at `t == p`. From there on it has seen every command: where its feed begins,
    /// what others have skipped and which upper a program has resumed from do not matter any more.
    pub anchored: bool,
    /// An upper beyond what it had emitted, which the feedback has not come to: another writer was there.
    pub behind: Option<&'a T>,
    /// The greatest time of a row that is in the state.
    pub applied: Option<&'a T>,
    /// Whether all that it has emitted since `p` is laid over the state, and there is room for more.
    pub admitted: bool,
}

impl<T: Ord> Ahead<'_, T> {
    /// Whether the operator may drain `time`, the least that waits, ahead of its turn.
    ///
    /// Then it has itself emitted every change of its keys at a time in `[p, time)`, so its overlay has
    /// them all, whether or not their rows are in the state.
    ///
    /// ```
    /// use differential_upsert::upsert::Ahead;
    /// let ahead = Ahead { anchored: true, behind: None, applied: Some(&7), admitted: true };
    /// assert!(ahead.may(&8));
    /// assert!(!ahead.may(&7)); // another writer's row of this very time is in the state
    /// assert!(!Ahead { anchored: false, ..ahead }.may(&8));
    /// assert!(!Ahead { behind: Some(&8), ..ahead }.may(&8));
    /// ```
    pub fn may(&self, time: &T) -> bool {
        let anchored = self.anchored || crate::mutant::on("ahead_unanchored");
        let leads = self.behind.is_none() || crate::mutant::on("ahead_from_behind");
        let exact = self.applied.is_none_or(|applied| applied < time);
        let exact = exact || crate::mutant::on("ahead_of_early_rows");
        anchored && leads && exact && self.admitted
    }
}
