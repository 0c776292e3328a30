//! Owns the one spelling of eligibility: where a command's time stands between what is persisted
//! and what is closed. It holds no state and does nothing about the answer.

use timely::order::TotalOrder;
use timely::progress::Timestamp;
use timely::progress::frontier::AntichainRef;

/// Where a time stands against the shard's upper `p` and the input frontier `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// `t < p`: some writer has persisted that time. Drop the command, and count it.
    Below,
    /// `t == p < i`: the state is exactly as of `p`, so the prior value is the one to retract.
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
    /// Places a time.
    ///
    /// *Known* decides [`Below`](Placement::Below), so that a lagging writer sheds what others have
    /// persisted without waiting for their rows. *Complete* decides [`Equal`](Placement::Equal),
    /// because only then is the prior value exact. An empty frontier decides nothing: a feedback
    /// that has ended neither persists a time nor makes one eligible.
    ///
    /// ```
    /// use differential_upsert::upsert::{Frontiers, Placement};
    /// use timely::progress::Antichain;
    /// let [five, nine] = [5u64, 9].map(Antichain::from_elem);
    /// let at = Frontiers { input: nine.borrow(), known: five.borrow(), complete: five.borrow() };
    /// assert_eq!(at.place(&4), Placement::Below);
    /// assert_eq!(at.place(&5), Placement::Equal);
    /// assert_eq!(at.place(&6), Placement::Above);
    ///
    /// // The rows of the shard's times below 9 are still on their way: nothing is eligible.
    /// let behind = Frontiers { known: nine.borrow(), ..at };
    /// assert_eq!(behind.place(&5), Placement::Below);
    /// assert_eq!(behind.place(&9), Placement::Above);
    /// ```
    pub fn place(&self, time: &T) -> Placement {
        if self.known.first().is_some_and(|known| time < known) {
            return Placement::Below;
        }
        let complete = self.complete.first() == Some(time);
        let closed = !self.input.less_equal(time);
        if complete && closed { Placement::Equal } else { Placement::Above }
    }
}
