//! Owns what a shard's space goes to, and how far the floor may rise to free it. Pure; what is merged
//! and deleted is `upkeep`'s.
//!
//! # Proportion
//!
//! Space is counted in bytes of parts. *Settled* is what merges have written and the state names, and a first batch that
//! has nothing before it to cancel with; rows that no merge has seen yet may cancel with those; *retired* is what merges
//! replaced. Two things are due by themselves, and no sooner than one part's worth of either:
//!
//! * a merge, when what it may take is three quarters of the settled. Let these be 1, and all that comes replace
//!   what is there: for 0.75 that is committed it writes 1, or 4/3 bytes a byte, and 1, 0.75 and the 1 that is written
//!   are what there is at the most, 2.75. Sooner would be more work, later more space. A merge in several passes has the
//!   fresh rows of a pass twice until the next one is written.
//! * a collection, when what nobody may be reading any more is an eighth of the settled. It merges nothing: the
//!   little that has come since would have to be merged again before long. If it is rows inside entries that keep as
//!   much from going, because they came while it was replaced, they are merged for that.
//!
//! So a round does work in proportion to what has come, and what is there stays within a small multiple of what is
//! live, however few and large the commits are. While a merge runs more may come; the next one takes it.
//!
//! # Of many writers
//!
//! The one that claimed the last round claims the next by bytes, and so does one that nobody has claimed a round beside
//! since it was opened. Others do only after many more entries: the claim does not say whether its merge is done. If the
//! one that claims goes, what is there may grow by the commits of half a round, once.
//!
//! # Why the floor waits at all
//!
//! Nobody needs an entry under the floor for safety: a reader that finds it above its place reads the newest
//! rollup, and what a reader under a lease may be reading its lease holds. Readers without a lease
//! begin again from the newest state when a part is gone, and that costs them. So a round leaves the
//! last [`entries_kept`](crate::shard::HandleConfig::entries_kept) entries, and what was retired by them, but
//! only as long as that is small. A collection that somebody asks for leaves nothing.

use super::entry::History;
use super::state::{Batch, Part, Retired, State};

/// Entries between two rounds, at the least, however much there is to do: of two that a writer sees to do, it does one.
const ENTRIES_BETWEEN: u64 = 2;

/// The share of [`Pace::entries`] after which a writer takes the place of another that claimed the last round. A merge
/// that is under way is over by then, or its writer is gone: sooner, each would merge the same.
const PATIENCE: u64 = 2;

/// When a round is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Entries between two rounds, at the most.
    pub(crate) entries: u64,
    /// Bytes of one part.
    pub(crate) part_bytes: u64,
}

/// What the parts of a shard take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Written by merges, or first and as good as that; and named.
    pub(crate) settled: u64,
    /// Written by commits, named, and read by all holders: a merge may take it.
    pub(crate) mergeable: u64,
    /// Replaced by merges, and held by nobody.
    pub(crate) freeable: u64,
    /// Replaced by merges, and kept by rows inside earlier entries: a merge may take those.
    pub(crate) stuck: u64,
}

impl Space {
    pub(crate) fn of(state: &State) -> Space {
        let mut space = Space::default();
        let read = state.read_by_all();
        for (index, batch) in state.batches.iter().enumerate() {
            // By itself the first one is never merged, so that it would call for every round.
            let settled = index == 0 && !is_apart(state, batch);
            match batch.forwarded {
                None if settled && !crate::mutant::on("first_is_fresh") => {
                    space.settled += bytes(batch);
                }
                Some(_) => space.settled += bytes(batch),
                None if batch.upper <= read => space.mergeable += bytes(batch),
                None => {}
            }
        }
        let most = state.collectable();
        let free = state.retired.iter().filter(|retired| retired.seqno <= most);
        space.freeable = free.map(|retired| retired.bytes).sum();
        space.stuck = stuck(state).map(|retired| retired.bytes).sum();
        space
    }

    /// Whether what rows inside entries keep from going is worth a merge of these.
    pub(crate) fn is_much_stuck(&self, part_bytes: u64) -> bool {
        self.stuck > part_bytes.max(self.settled / 8) && !crate::mutant::on("stuck_stays")
    }

    /// Whether what is retired is too much to wait for its entries to go.
    pub(crate) fn is_much_freeable(&self) -> bool {
        self.freeable > self.settled / 8
    }

    /// Whether there is enough to merge: three quarters of the settled, and a part at the least.
    pub(crate) fn is_much_mergeable(&self, part_bytes: u64) -> bool {
        self.mergeable > part_bytes.max(self.settled / 4 * 3)
    }
}

/// Returns what was retired and is kept by rows inside earlier entries. Leases go on by themselves and do not count, but
/// where a holder has not read such rows yet, no merge can help.
fn stuck(state: &State) -> impl Iterator<Item = &Retired> {
    let read = state.read_by_all();
    let first = |may_merge: bool| {
        let batches = state.batches.iter().filter(|batch| (batch.upper <= read) == may_merge);
        let inline = batches.flat_map(|batch| &batch.parts).filter_map(|part| match part {
            Part::Inline { seqno, .. } => Some(*seqno),
            Part::Stored { .. } => None,
        });
        inline.min().unwrap_or(u64::MAX)
    };
    let keeping = first(true)..first(false);
    state.retired.iter().filter(move |retired| keeping.contains(&retired.seqno))
}

/// Returns how many bytes a batch has.
pub(crate) fn bytes(batch: &Batch) -> u64 {
    batch.parts.iter().map(Part::bytes).sum()
}

/// Whether a batch holds times apart that every reader takes for one.
pub(crate) fn is_apart(state: &State, batch: &Batch) -> bool {
    let last = batch.upper.saturating_sub(1);
    if bytes(batch) == 0 || state.since < last {
        return false;
    }
    match (batch.forwarded, state.history) {
        (None, _) => batch.lower < last,
        // Its merge left what the history of then kept apart; what that of now keeps does not count.
        (Some(to), History::Last(times)) => to < batch.upper.saturating_sub(times),
        (Some(_), History::Keep) => false,
    }
}

/// What a round has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) merge: bool,
    pub(crate) collect: bool,
}

impl Due {
    /// Returns what it is time for: both after enough entries since the last round, each with enough bytes. `claimed` is the
    /// last entry of a maintainer that the handle made, or found when it was opened.
    pub(crate) fn of(state: &State, pace: Pace, claimed: u64) -> Due {
        let since_last = state.seqno.saturating_sub(state.maintained);
        if since_last >= pace.entries {
            return Due { merge: true, collect: true };
        }
        let ours = state.maintained == claimed || crate::mutant::on("all_claim");
        let patience = if ours { 0 } else { pace.entries / PATIENCE };
        if since_last < patience.max(ENTRIES_BETWEEN) {
            return Due::default();
        }
        let space = Space::of(state);
        let merge =
            space.is_much_mergeable(pace.part_bytes) || space.is_much_stuck(pace.part_bytes);
        Due { merge, collect: space.is_much_freeable() && space.freeable > pace.part_bytes }
    }

    /// Whether it is time for anything.
    pub(crate) fn is_any(self) -> bool {
        self.merge || self.collect
    }
}

/// Returns how far a round raises the floor: behind the newest `entries_kept` entries, but past what
/// was retired if that is an eighth of the settled.
pub(crate) fn floor(state: &State, entries_kept: u64) -> u64 {
    let most = state.collectable().min(state.seqno);
    let space = Space::of(state);
    let kept = state.seqno.saturating_sub(entries_kept).min(most);
    if !space.is_much_freeable() {
        return kept;
    }
    let retired = state.retired.iter().map(|retired| retired.seqno).filter(|seqno| *seqno <= most);
    retired.max().unwrap_or(0).max(kept)
}

/// Returns up to which entry a round merges rows inside entries: behind the newest `entries_kept`, but past what they
/// keep from going if that is much.
pub(crate) fn inline_floor(state: &State, entries_kept: u64, part_bytes: u64) -> u64 {
    let kept = state.seqno.saturating_sub(entries_kept);
    if !Space::of(state).is_much_stuck(part_bytes) {
        return kept;
    }
    stuck(state).map(|retired| retired.seqno).max().unwrap_or(0).max(kept)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shard::engine::id::Id;
    use crate::shard::engine::lease::Lease;

    fn batch(seqno: u64, bytes: u64, merged: bool) -> Arc<Batch> {
        let key = format!("data/part/1/{seqno}");
        let parts = vec![Part::Stored { key, bytes, crc: 0, updates: 1 }];
        let forwarded = merged.then_some(seqno - 1);
        Arc::new(Batch { seqno, lower: seqno - 1, upper: seqno, parts, forwarded })
    }

    const PACE: Pace = Pace { entries: 64, part_bytes: 100 };

    /// 1,000 bytes settled by entry 10, and then commits.
    fn state(fresh: &[u64]) -> State {
        let mut batches = vec![batch(10, 1_000, true)];
        batches.extend(fresh.iter().zip(11..).map(|(bytes, seqno)| batch(seqno, *bytes, false)));
        let seqno = 10 + fresh.len() as u64;
        State { seqno, upper: seqno, maintained: 10, batches, ..State::default() }
    }

    #[test]
    fn a_round_is_due_by_bytes_and_by_entries() {
        for (fresh, due) in [
            (&[751][..], false),
            (&[1, 749], false),
            (&[1, 750], true),
            (&[1; 63], false),
            (&[1; 64], true),
        ] {
            assert_eq!(Due::of(&state(fresh), PACE, 10).merge, due, "{fresh:?}");
        }
    }

    /// An initial load at one time has nothing to cancel with, and no merge takes it by itself: it does not make the
    /// few rows that follow it due.
    #[test]
    fn a_first_batch_of_one_time_counts_as_settled() {
        let first = |lower, rest: &[u64]| {
            let mut state = state(rest);
            state.batches[0] = Arc::new(Batch { lower, ..(*batch(10, 1_000, false)).clone() });
            state.since = state.upper - 1;
            (Due::of(&state, PACE, 10).merge, Space::of(&state).settled)
        };
        assert_eq!(first(9, &[1, 1]), (false, 1_000), "a first batch calls for a round");
        assert_eq!(first(9, &[1, 749]), (false, 1_000));
        assert_eq!(first(9, &[1, 750]), (true, 1_000));
        assert_eq!(first(0, &[1, 1]), (true, 0), "its times can be merged");
    }

    /// What a holder has not read is not merged, so it does not call for a round either.
    #[test]
    fn what_is_held_is_no_reason_for_a_round() {
        let mut held = state(&[1, 1, 1, 900]);
        let lease = Lease { since: Some(11), seqno: Some(11), expires_ms: 0 };
        held.leases.insert(Id(9), lease);
        assert_eq!(Due::of(&held, PACE, 10), Due::default());
        held.retired = vec![Retired { seqno: 13, bytes: 126, ..Retired::default() }];
        assert_eq!(Due::of(&held, PACE, 10), Due::default(), "the lease may be reading it");
        held.leases.insert(Id(9), Lease { since: Some(11), seqno: Some(13), expires_ms: 0 });
        assert_eq!(Due::of(&held, PACE, 10), Due { merge: false, collect: true });
    }

    #[test]
    fn the_floor_passes_what_is_retired_if_that_is_much() {
        let mut state = state(&[1; 20]);
        let retired = |seqno, bytes| Retired { seqno, bytes, ..Retired::default() };
        assert_eq!(floor(&state, 5), 25);
        state.retired = vec![retired(12, 100), retired(28, 25)];
        assert_eq!(floor(&state, 5), 25, "it goes with its entry");
        state.retired = vec![retired(12, 100), retired(28, 26)];
        assert_eq!(floor(&state, 5), 28);
        state.leases.insert(Id(9), Lease { since: None, seqno: Some(20), expires_ms: 0 });
        assert_eq!(floor(&state, 5), 20);
    }

    /// A commit inside its entry, while a merge runs.
    #[test]
    fn rows_in_entries_that_keep_much_are_merged() {
        let inline = |seqno| {
            let part = Part::Inline { seqno, offset: 0, bytes: 1, crc: 0, updates: 1 };
            Arc::new(Batch { parts: vec![part], ..(*batch(seqno, 1, false)).clone() })
        };
        let mut state = state(&[1, 1, 1]);
        state.batches[2] = inline(12);
        state.retired = vec![Retired { seqno: 13, bytes: 125, ..Retired::default() }];
        assert!(!Due::of(&state, PACE, 10).merge);
        assert_eq!(inline_floor(&state, 5, PACE.part_bytes), 8);
        state.retired[0].bytes = 126;
        assert_eq!(Due::of(&state, PACE, 10), Due { merge: true, collect: false });
        assert_eq!(inline_floor(&state, 5, PACE.part_bytes), 13);
        let lease = |since| Lease { since: Some(since), seqno: Some(11), expires_ms: 0 };
        state.leases.insert(Id(9), lease(11));
        assert!(Due::of(&state, PACE, 10).merge, "its holder goes on");
        state.leases.insert(Id(9), lease(10));
        assert!(!Due::of(&state, PACE, 10).merge, "no merge may take the rows");
        state.leases.clear();
        state.batches[2] = batch(12, 1, false);
        state.batches[3] = inline(14);
        assert_eq!(
            Due::of(&state, PACE, 10),
            Due { merge: false, collect: true },
            "they came later"
        );
    }

    /// The claim of another may be that of a merge under way.
    #[test]
    fn another_claims_by_bytes_only_after_many_entries() {
        let fresh = |entries: usize| state(&[&[751][..], &vec![1; entries - 1]].concat());
        for (entries, ours, others) in
            [(1, false, false), (2, true, false), (31, true, false), (32, true, true)]
        {
            let due = |claimed| Due::of(&fresh(entries), PACE, claimed).merge;
            assert_eq!((due(10), due(7)), (ours, others), "after {entries} entries");
        }
    }
}
