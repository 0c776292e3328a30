//! Owns how the reading operator comes to its end: which stage follows from what it sees. Pure: it reads
//! nothing and lets go of nothing.

/// How far the reading operator is. A later stage never goes back to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It hands on what the follower sends.
    Reading,
    /// The pipeline has ended: everything is committed below this time, and maybe not yet read. Until
    /// it is, the collection has not ended, or its reader would take a part for the whole.
    ReadingTo(u64),
    /// The collection is whole. The capability goes once the follower has given its hold back.
    Whole,
    /// It was told to stop before that. The same, and the follower waits for the store no longer than
    /// a stop may take.
    Stopped,
}

/// What the operator sees when it is woken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Every worker's sink is silent: capabilities may go.
    pub(super) released: bool,
    /// The shard's upper, if the pipeline has ended and did not stop.
    pub(super) ended: Option<u64>,
    /// This worker's token is gone: nothing waits for the rest of the collection.
    pub(super) dropped: bool,
    /// Every row below this time has been handed on; `None` once the capability is gone.
    pub(super) complete: Option<u64>,
}

impl Stage {
    /// Returns the stage after what was seen. The end is the upper that was seen first: one that
    /// another writer raises later is another pipeline's matter.
    pub(super) fn next(self, seen: Seen) -> Stage {
        let end = match self {
            Stage::Reading if !seen.released => return Stage::Reading,
            Stage::Reading => seen.ended,
            Stage::ReadingTo(end) => Some(end),
            Stage::Whole if seen.dropped => return Stage::Stopped,
            Stage::Whole | Stage::Stopped => return self,
        };
        match end {
            None => Stage::Stopped,
            Some(_) if seen.dropped || crate::mutant::on("end_before_read") => Stage::Stopped,
            Some(end) if seen.complete.is_some_and(|complete| end <= complete) => Stage::Whole,
            Some(end) => Stage::ReadingTo(end),
        }
    }

    /// Whether nothing more is handed on.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Stage::Whole | Stage::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Seen = Seen { released: false, ended: None, dropped: false, complete: Some(3) };
    const RELEASED: Seen = Seen { released: true, ..RUNNING };

    fn ended(upper: u64, complete: u64) -> Seen {
        Seen { ended: Some(upper), complete: Some(complete), ..RELEASED }
    }

    #[test]
    fn it_reads_on_until_every_worker_may_let_go() {
        let seen = Seen { dropped: true, ..ended(3, 3) };
        assert_eq!(Stage::Reading.next(RUNNING), Stage::Reading);
        // Another worker's sink may still append.
        assert_eq!(Stage::Reading.next(Seen { released: false, ..seen }), Stage::Reading);
    }

    #[test]
    fn a_stop_ends_it_wherever_it_is() {
        assert_eq!(Stage::Reading.next(RELEASED), Stage::Stopped);
        let dropped = Seen { dropped: true, ..ended(9, 3) };
        for stage in [Stage::Reading, Stage::ReadingTo(9), Stage::Whole, Stage::Stopped] {
            assert_eq!(stage.next(dropped), Stage::Stopped, "{stage:?}");
        }
        // Being whole does not take back that nothing waits for it.
        assert_eq!(Stage::ReadingTo(9).next(Seen { complete: Some(9), ..dropped }), Stage::Stopped);
    }

    #[test]
    fn an_end_waits_until_the_collection_is_whole() {
        let stage = Stage::Reading.next(ended(9, 3));
        assert_eq!(stage, Stage::ReadingTo(9));
        assert_eq!(stage.next(ended(9, 8)), Stage::ReadingTo(9));
        assert_eq!(stage.next(ended(9, 9)), Stage::Whole);
        // Another writer goes on; the end stays.
        assert_eq!(stage.next(ended(20, 8)), Stage::ReadingTo(9));
        assert_eq!(stage.next(ended(20, 12)), Stage::Whole);
        // Read before the end was known.
        assert_eq!(Stage::Reading.next(ended(9, 9)), Stage::Whole);
        assert_eq!(Stage::Reading.next(ended(0, 0)), Stage::Whole);
    }

    #[test]
    fn what_is_over_stays_so() {
        for stage in [Stage::Whole, Stage::Stopped] {
            for seen in [RUNNING, RELEASED, ended(9, 3), Seen { complete: None, ..ended(9, 3) }] {
                assert_eq!(stage.next(seen), stage, "{seen:?}");
                assert!(stage.is_over());
            }
        }
        assert!(!Stage::Reading.is_over() && !Stage::ReadingTo(9).is_over());
    }
}
