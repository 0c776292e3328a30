//! Owns the comparison of this feed with the one a shard was made from: sums by time, and what they
//! must equal. Pure; it does not know streams, nor how commands are hashed.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::shard::{FEED_DIFFERS_HINT, Mark, State, Sum, differs, unknown};

/// What this feed has handed over so far, on worker 0, and how it compares.
///
/// Times are folded into one sum up to the greatest upper it was compared at, so what it holds is
/// one sum per time that is not yet in the shard.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The sum of what the shard holds below the first command of this feed, once known.
    base: Option<Mark>,
    /// The least time of a command.
    least: Option<u64>,
    /// Times below it are closed on every worker.
    closed: u64,
    /// Where the feed ends, as far as it has ended.
    end: Option<u64>,
    /// The commands below `folded_to`, and the base.
    folded: Sum,
    folded_to: u64,
    /// The commands at or beyond `folded_to`, by time.
    sums: BTreeMap<u64, Sum>,
    /// An upper ahead of this feed, and what it must equal once that is closed. Held fast: the shard
    /// may be ahead for ever.
    pin: Option<(u64, Option<Sum>)>,
    /// The greatest time at which it was found equal.
    equal_to: u64,
    /// It ends where it was told to, and others go on.
    stops: bool,
}

impl Ledger {
    /// The ledger of a feed; `stops` if its end is not that of the shard's.
    pub(super) fn new(stops: bool) -> Ledger {
        Ledger { stops, ..Ledger::default() }
    }

    pub(super) fn add(&mut self, time: u64, sum: Sum) {
        self.least = Some(self.least.map_or(time, |least| least.min(time)));
        match time < self.folded_to {
            true => self.folded += sum,
            false => *self.sums.entry(time).or_default() += sum,
        }
    }

    pub(super) fn close(&mut self, time: u64) {
        self.closed = self.closed.max(time);
    }

    /// One worker's part ends at `end`.
    pub(super) fn end(&mut self, end: u64) {
        self.end = self.end.max(Some(end));
    }

    /// Compares as far as the feed has come. `resumes` are the uppers that the program was told to
    /// go on from.
    ///
    /// # Errors
    ///
    /// `FeedDiffers`.
    pub(super) fn look(&mut self, state: &State, resumes: &[Mark]) -> Result<(), Error> {
        if !self.begin(state, resumes) {
            return Ok(());
        }
        loop {
            let (upper, sum) = *self.pin.get_or_insert((state.upper, state.sum()));
            self.fold(upper);
            let Some(sum) = sum else { return Err(unknown(upper)) };
            let closed = self.closed >= upper;
            // Too many rows already differ; waiting will not help.
            let has_too_many = self.folded.rows > sum.rows;
            let differs_as_a_whole = closed && self.folded != sum;
            let is_another = has_too_many || differs_as_a_whole;
            if is_another && !crate::mutant::on("feed_not_compared") {
                return Err(differs(upper, self.folded, sum));
            }
            if !closed {
                return Ok(());
            }
            self.equal_to = self.equal_to.max(upper);
            self.pin = None;
            if upper == state.upper {
                return Ok(());
            }
        }
    }

    /// Compares a feed that has ended on every worker. Returns whether it could: the shard must have reached the
    /// end.
    ///
    /// # Errors
    ///
    /// `FeedDiffers` if the shard has gone on beyond the end with more than this feed.
    pub(super) fn finish(&mut self, state: &State, resumes: &[Mark]) -> Result<bool, Error> {
        // A feed of nothing says nothing.
        let (Some(end), Some(_)) = (self.end, self.least) else { return Ok(true) };
        self.close(end);
        self.look(state, resumes)?;
        let shard_has_the_end = state.upper >= end;
        let end_is_compared = self.equal_to >= end;
        if !shard_has_the_end || end_is_compared {
            return Ok(shard_has_the_end);
        }
        // Every command lies below the end.
        let all = self.below(u64::MAX);
        if went_on_without_commands(state, end, all) {
            return Ok(true);
        }
        match state.marks.iter().find(|mark| mark.upper == end) {
            Some(mark) => Err(differs(end, all, mark.sum())),
            // Nothing was found to differ, as far as the shard can still tell.
            None if self.stops || crate::mutant::on("feed_not_compared") => Ok(true),
            None => Err(shorter(end, all, state)),
        }
    }

    /// Notes that an append of ours, with our sum at `upper`, is in the shard.
    pub(super) fn won(&mut self, upper: u64) {
        self.equal_to = self.equal_to.max(upper);
    }

    /// Returns the terms of an append of `[lower, upper)`, both closed and compared.
    pub(super) fn terms(&mut self, state: &State, lower: u64, upper: u64) -> Terms {
        self.fold(lower);
        let new = |mark: &Mark| mark.rows > 0 && !state.marks.contains(mark);
        Terms {
            lower: Some(self.folded),
            later: self.sums.range(lower..upper).map(|(time, sum)| (*time, *sum)).collect(),
            mark: self.base.filter(new),
        }
    }

    /// Whether it knows from where on this feed speaks.
    pub(super) fn has_begun(&self) -> bool {
        self.base.is_some()
    }

    /// Finds out from where on this feed speaks. Returns false while that is open.
    fn begin(&mut self, state: &State, resumes: &[Mark]) -> bool {
        if self.base.is_some() {
            return true;
        }
        let has_said_nothing = self.closed == 0 && self.least.is_none();
        if has_said_nothing && !crate::mutant::on("begin_at_nothing") {
            // It may yet resume from where another writer has got to by then.
            return false;
        }
        let has_closed_its_first = self.least.is_some_and(|least| least < self.closed);
        let has_closed_the_shards = self.closed >= state.upper;
        if !has_closed_its_first && !has_closed_the_shards {
            // A command may still come below the least one, and below the upper.
            return false;
        }
        // Every command lies at or beyond it.
        let first = self.least.map_or(self.closed, |least| least.min(self.closed));
        let current = state.sum().map(|sum| Mark::new(state.upper, sum));
        let known = state.marks.iter().chain(resumes).copied().chain(current);
        let base = known.filter(|mark| mark.upper <= first).max_by_key(|mark| mark.upper);
        let base = base.unwrap_or_default();
        self.folded += base.sum();
        self.base = Some(base);
        true
    }

    fn fold(&mut self, to: u64) {
        while let Some(first) = self.sums.first_entry().filter(|first| *first.key() < to) {
            self.folded += first.remove();
        }
        self.folded_to = self.folded_to.max(to);
    }

    fn below(&self, time: u64) -> Sum {
        self.sums.range(..time).fold(self.folded, |sum, (_, more)| sum + *more)
    }
}

/// The sums that an append carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The sum below the append's lower; `None` if nothing is checked.
    lower: Option<Sum>,
    /// The commands of the interval, by time.
    later: Vec<(u64, Sum)>,
    /// Where this feed began, if the shard does not remember it.
    pub(crate) mark: Option<Mark>,
}

impl Terms {
    /// Returns the sum of all commands below a time inside the interval, or at its upper.
    pub(crate) fn below(&self, time: u64) -> Option<Sum> {
        let inside = self.later.iter().take_while(|(at, _)| *at < time);
        Some(inside.fold(self.lower?, |sum, (_, more)| sum + *more))
    }
}

/// Whether the shard went on beyond an end without a command, up to its upper or to where another feed was
/// marked to continue: that is a later closing of the same feed.
fn went_on_without_commands(state: &State, end: u64, all: Sum) -> bool {
    let mut marks = state.marks.iter().filter(|mark| mark.upper >= end);
    state.sum() == Some(all) || marks.any(|mark| mark.sum() == all)
}

fn shorter(end: u64, all: Sum, state: &State) -> Error {
    let theirs = state.rows.unwrap_or_default();
    let what = format!(
        "FeedDiffers: this feed ends at time {end} with {} commands, the shard goes on to {} with \
         {theirs}",
        all.rows, state.upper
    );
    Error::new(ErrorKind::FeedDiffers, what).hint(FEED_DIFFERS_HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: u64, digest: u128) -> Sum {
        Sum { rows, digest }
    }

    fn shard(upper: u64, sum: Sum, marks: &[Mark]) -> State {
        let (rows, digest) = (Some(sum.rows), Some(sum.digest));
        State { upper, rows, digest, marks: marks.to_vec(), ..State::default() }
    }

    /// A feed of one command of hash 1 at each of some times.
    fn fed(times: impl IntoIterator<Item = u64>, closed: u64) -> Ledger {
        let mut ledger = Ledger::default();
        times.into_iter().for_each(|time| ledger.add(time, sum(1, 1)));
        ledger.close(closed);
        ledger
    }

    #[test]
    fn the_same_feed_is_equal_wherever_it_stands() {
        for closed in 0..12 {
            fed(0..10, closed).look(&shard(5, sum(5, 5), &[]), &[]).unwrap();
        }
    }

    #[test]
    fn another_feed_differs_once_its_times_are_closed() {
        let at = |closed, sum| fed(0..5, closed).look(&shard(5, sum, &[]), &[]);
        at(4, sum(5, 6)).unwrap();
        let error = at(5, sum(5, 6)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FeedDiffers);
        assert!(error.to_string().contains("other 5 commands"), "{error}");
        let error = at(5, sum(6, 6)).unwrap_err();
        assert!(error.to_string().contains("this feed has 5 commands"), "{error}");
        assert!(error.to_string().contains("made from 6"), "{error}");
        // One too many is seen before the rest is there.
        assert!(at(1, sum(4, 4)).is_err());
    }

    #[test]
    fn a_feed_that_goes_on_where_another_has_just_begun_is_no_other() {
        // It opened an empty shard, and was told to go on at 5 when another had come so far.
        let mut ledger = Ledger::default();
        ledger.look(&shard(0, sum(0, 0), &[]), &[]).unwrap();
        ledger.close(5);
        let there = shard(5, sum(9, 9), &[]);
        ledger.look(&there, &[Mark::new(5, sum(9, 9))]).unwrap();
        ledger.add(5, sum(1, 1));
        ledger.close(6);
        ledger.look(&shard(6, sum(10, 10), &[]), &[]).unwrap();
    }

    #[test]
    fn a_continuation_starts_from_what_is_stored() {
        let mut ledger = fed(5..8, 8);
        let state = shard(5, sum(9, 9), &[]);
        ledger.look(&state, &[]).unwrap();
        let terms = ledger.terms(&state, 5, 7);
        let mark = Mark::new(5, sum(9, 9));
        assert_eq!((terms.below(5), terms.below(7)), (Some(sum(9, 9)), Some(sum(11, 11))));
        assert_eq!(terms.mark, Some(mark));
        // Killed after that, and started again.
        let state = shard(7, sum(11, 11), &[mark]);
        let mut again = fed(5..8, 8);
        again.look(&state, &[]).unwrap();
        assert_eq!(again.terms(&state, 7, 8).mark, None);
        // Told to go on at 5, and another writer was faster.
        fed(5..8, 8).look(&shard(7, sum(11, 11), &[]), &[mark]).unwrap();
        // A feed without its first rows is none.
        fed(5..8, 8).look(&shard(7, sum(11, 11), &[]), &[]).unwrap_err();
    }

    #[test]
    fn a_lagging_feed_is_compared_at_every_upper_it_passes() {
        let mut ledger = fed(0..3, 2);
        ledger.look(&shard(4, sum(4, 4), &[]), &[]).unwrap();
        // The shard is ahead, and was made from something else beyond 4.
        let ahead = shard(6, sum(6, 7), &[]);
        ledger.look(&ahead, &[]).unwrap();
        (3..6).for_each(|time| ledger.add(time, sum(1, 1)));
        ledger.close(5);
        ledger.look(&ahead, &[]).unwrap();
        assert_eq!(ledger.equal_to, 4);
        ledger.close(6);
        ledger.look(&ahead, &[]).unwrap_err();
    }

    #[test]
    fn an_end_before_the_shards_upper_differs_unless_marked() {
        let ended = |state: &State| {
            let mut ledger = fed(0..5, 0);
            ledger.end(5);
            ledger.finish(state, &[])
        };
        assert!(ended(&shard(5, sum(5, 5), &[])).unwrap());
        assert!(!ended(&shard(4, sum(4, 4), &[])).unwrap());
        let error = ended(&shard(8, sum(9, 9), &[])).unwrap_err().to_string();
        assert!(error.contains("ends at time 5 with 5 commands"), "{error}");
        assert!(error.contains("goes on to 8 with 9"), "{error}");
        assert!(ended(&shard(8, sum(9, 9), &[Mark::new(5, sum(5, 5))])).unwrap());
        ended(&shard(8, sum(9, 9), &[Mark::new(5, sum(5, 6))])).unwrap_err();
        // Only without rows did the shard go on: to where it is, or to where another continued.
        assert!(ended(&shard(8, sum(5, 5), &[])).unwrap());
        assert!(ended(&shard(9, sum(9, 9), &[Mark::new(7, sum(5, 5))])).unwrap());
        ended(&shard(9, sum(9, 9), &[Mark::new(7, sum(6, 6))])).unwrap_err();
        let mut nothing = fed([], 0);
        nothing.end(0);
        assert!(nothing.finish(&shard(8, sum(9, 9), &[]), &[]).unwrap());
    }

    #[test]
    fn a_run_that_stops_may_end_before_the_others() {
        let ended = |state: &State| {
            let mut ledger = Ledger::new(true);
            (0..5).for_each(|time| ledger.add(time, sum(1, 1)));
            ledger.end(5);
            ledger.finish(state, &[])
        };
        assert!(ended(&shard(8, sum(9, 9), &[])).unwrap());
        assert!(!ended(&shard(4, sum(4, 4), &[])).unwrap(), "not there yet");
        ended(&shard(8, sum(9, 9), &[Mark::new(5, sum(5, 6))])).unwrap_err();
        ended(&shard(8, sum(4, 4), &[])).unwrap_err();
    }

    #[test]
    fn appends_between_two_looks_change_nothing() {
        let mut ledger = fed(0..8, 8);
        ledger.look(&shard(3, sum(3, 3), &[]), &[]).unwrap();
        let ahead = shard(6, sum(6, 6), &[]);
        assert_eq!(ledger.terms(&ahead, 6, 8).below(8), Some(sum(8, 8)));
        ledger.look(&ahead, &[]).unwrap();
    }

    #[test]
    fn what_was_won_was_equal() {
        let mut ledger = fed(0..5, 5);
        ledger.look(&shard(0, sum(0, 0), &[]), &[]).unwrap();
        ledger.won(5);
        ledger.end(5);
        // Another writer has continued before we looked.
        assert!(ledger.finish(&shard(7, sum(7, 7), &[]), &[]).unwrap());
    }
}
