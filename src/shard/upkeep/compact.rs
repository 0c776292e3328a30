//! Owns compaction: which batches become one, and the entry that says so. How rows are merged is
//! [`merge`](super::merge)'s, what the entry does to a state
//! [`transition`](crate::shard::engine)'s.
//!
//! # Tiers
//!
//! A run of the newest batches is merged as soon as its oldest is at most one and a half times as large as all newer
//! ones together. So batches are always of falling sizes, their number grows with the logarithm of
//! the rows, and so does the number of times that one row is written. Only batches that every holder
//! has read are merged: a follower never reads a large batch again for a few rows at its end.
//!
//! The ratio goes with what makes a round due, three quarters of the settled (`engine/space`): at that size the new rows
//! are merged with all there is, and not by themselves first, to be merged again before long. Larger ratios merge
//! sooner and so write more. They take more space, too: what is replaced stays until its readers have gone on. Measured
//! on 1 M keys and 2 M upserts of 72 bytes, the whole loop running ahead, uniform (the mean of two runs) and zipf (one),
//! on two cores that did other work as well:
//!
//! | ratio | due at | MB written | CPU us per row | MB of disk, at most |
//! |---|---|---|---|---|
//! | 1.5 | 1 | 458, 321 | 2.01, 1.72 | 182, 71 |
//! | **1.5** | **3/4** | 495, 351 | 2.10, 1.73 | 180, 87 |
//! | 2 | 1/2 | 583, 365 | 2.15, 1.87 | 218, 76 |
//! | 4 | 1/2 | 530, 383 | 2.17, 1.83 | 285, 131 |
//! | 8 | 1/4 | 668, 371 | 2.45, 1.79 | 361, 89 |
//!
//! A process has one merge at a time, on one thread, and it does not wait for appends. One that let those under way go
//! first after every 4,096 rows gained nothing. Measured in pairs, strict, in a directory in memory, on two cores that did
//! other work as well: the p99 of a commit 9.6 ms for 10.0 (ten pairs, 500 rows each, medians), and 0.9 of the rows a
//! second where there are 10,000 a time (nine pairs, means).
//!
//! For each byte that is committed merges write at the most 4/3 bytes where rows replace rows, and 7/3 where all are
//! new, however fast they come: what waits for a merge is merged with more at once. Where that is more runs than the
//! memory holds, what came is written once more for each pass before the last, and what was merged before is not
//! ([`merge`](super::merge)).
//!
//! A batch can also hold times that were apart when it was written and need not be any more: a commit
//! of many times, or a merge under a longer history. Their rows may cancel, however large the batch is
//! next to the newer ones. It is merged once more, alone if need be, and never again for that.

use std::ops::Range;
use std::sync::Arc;

use super::merge::Merge;
use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::entry::{Change, Merged};
use crate::shard::engine::part::Prepared;
use crate::shard::engine::space::{bytes, inline_floor, is_apart};
use crate::shard::engine::state::{Batch, Part, State};
use crate::shard::rows::Rows;
use crate::shard::settle::Settler;
use crate::shard::uploading::Uploading;
use crate::shard::view::View;

/// The time to which the rows of batches up to `upper` are forwarded: earlier ones cannot be told
/// apart any more. It stays inside the interval, where rows count.
fn forwarded(state: &State, upper: u64) -> u64 {
    state.since.min(upper.saturating_sub(1))
}

fn mergeable(state: &State) -> &[Arc<Batch>] {
    let read = state.read_by_all();
    &state.batches[..state.batches.partition_point(|batch| batch.upper <= read)]
}

/// Returns all batches that may be merged, unless that changes nothing.
fn whole(state: &State) -> Option<Range<usize>> {
    let batches = mergeable(state);
    match batches {
        [] => None,
        [only] if only.forwarded == Some(forwarded(state, only.upper)) => None,
        _ => Some(0..batches.len()),
    }
}

/// Merges in one round; more wait for the next.
const MERGES_MAX: usize = 4;

/// How large a batch may be and is still merged with all newer ones, in percent of them: in a round,
/// and in the last one of a writer, after which nobody may come for long.
pub(super) const IN_A_ROUND: u64 = 150;
pub(super) const AT_THE_END: u64 = 400;

/// Returns what the tiers ask for: batches out of proportion, times that need not be apart any more, or
/// rows that keep entries up to `floor` from going.
fn tier(state: &State, floor: u64, proportion: u64) -> Option<Range<usize>> {
    let batches = mergeable(state);
    let mut oldest = None;
    let mut newer = 0u64;
    for (index, batch) in batches.iter().enumerate().rev() {
        let own = bytes(batch);
        if newer > 0 && own <= newer.saturating_mul(proportion) / 100 {
            oldest = Some(index);
        }
        newer = newer.saturating_add(own);
    }
    let stuck = |part: &Part| matches!(part, Part::Inline { seqno, .. } if *seqno <= floor);
    let stuck = batches.iter().position(|batch| batch.parts.iter().any(stuck));
    let apart = batches.iter().position(|batch| is_apart(state, batch));
    oldest.into_iter().chain(stuck).chain(apart).min().map(|first| first..batches.len())
}

/// What makes one batch of many; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Compactor {
    view: Arc<View>,
    settler: Settler,
    rows: Rows,
}

impl Compactor {
    pub(super) fn new(settler: Settler, rows: Rows) -> Compactor {
        Compactor { view: Arc::clone(&settler.view), settler, rows }
    }

    /// Merges all batches that every holder has read, unless that changes nothing.
    pub(super) async fn compact_all(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let state = self.view.refresh().await?;
        match whole(&state) {
            Some(run) => self.merge_batches(&state, run, stats).await,
            None => Ok(()),
        }
    }

    /// Merges what the tiers ask for: once, and again as long as there is `enough`.
    pub(super) async fn merge_tiers(
        &self,
        proportion: u64,
        entries_kept: u64,
        enough: impl Fn(&State) -> bool,
        stats: &mut MaintenanceStats,
    ) -> Result<(), Error> {
        for merge in 0..MERGES_MAX {
            let state = self.view.state();
            if merge > 0 && !enough(&state) {
                break;
            }
            let floor = inline_floor(&state, entries_kept, self.view.config.pace().part_bytes);
            let Some(run) = tier(&state, floor, proportion) else { break };
            self.merge_batches(&state, run, stats).await?;
        }
        Ok(())
    }

    /// Merges a run of batches of a state, if nobody else does.
    async fn merge_batches(
        &self,
        state: &State,
        run: Range<usize>,
        stats: &mut MaintenanceStats,
    ) -> Result<(), Error> {
        let batches = state.batches[run].to_vec();
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let (first, last, upper) = (first.seqno, last.seqno, last.upper);
        let forwarded = forwarded(state, upper);
        // If it fails half way, or nobody waits for it any more, no entry names what it has uploaded.
        let uploading = Uploading::new(&self.view);
        let merge = Merge { rows: &self.rows, uploading: &uploading, forwarded };
        let parts = merge.run(&batches, stats).await?;
        let uploaded: Vec<_> = parts.iter().cloned().map(Prepared::Stored).collect();
        // From here on an entry may, also if nothing waits.
        let keys = uploading.keep();
        let entered = self.settler.propose(move |state| {
            let there = state.run(first, last).is_some_and(|run| state.batches[run] == batches);
            if !there || !parts.iter().all(|part| state.is_leased(part)) {
                return Ok(None);
            }
            let since = match crate::mutant::on("compact_ignores_holds") {
                true => state.since.max(state.upper.saturating_sub(1)),
                false => state.since_after(state.upper, state.history, None, &[]),
            };
            let parts = parts.clone();
            Ok(Some(Change::Compact(Merged { first, last, forwarded, since, parts })))
        });
        let entered = match entered.await {
            Ok(entered) => entered,
            Err(e) => {
                // The outcome may be unknown, and then nothing is deleted: the log will tell. Each try
                // took the number after the newest that was known here.
                self.view.uploads.lock().unknown(self.view.state().seqno.saturating_add(1), keys);
                return Err(e);
            }
        };
        if entered.is_some() {
            stats.compactions += 1;
            self.view.uploads.lock().named(&uploaded);
        } else {
            // Settled: the batches are gone, so no entry that names our parts can follow.
            stats.compactions_lost += 1;
            self.rows.discard(uploaded).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::engine::entry::History;
    use crate::shard::engine::space::Space;

    fn state(sizes: &[u64]) -> State {
        let batch = |(index, bytes): (usize, &u64)| {
            let key = format!("data/part/1/{index}");
            let part = Part::Stored { key, bytes: *bytes, crc: 0, updates: 1 };
            let at = index as u64;
            let parts = vec![part];
            Arc::new(Batch { seqno: at + 1, lower: at, upper: at + 1, parts, forwarded: None })
        };
        let batches = sizes.iter().enumerate().map(batch).collect();
        State { batches, upper: sizes.len() as u64, ..State::default() }
    }

    #[test]
    fn what_is_out_of_proportion_is_merged() {
        let cases: [(&[u64], Option<Range<usize>>); 6] = [
            (&[], None),
            (&[5], None),
            (&[1, 1], Some(0..2)),
            (&[76, 40, 10], None),
            (&[91, 30, 10, 10], Some(1..4)),
            (&[100, 40, 10, 17], Some(0..4)),
        ];
        for (sizes, expected) in cases {
            assert_eq!(tier(&state(sizes), 0, IN_A_ROUND), expected, "{sizes:?}");
        }
    }

    #[test]
    fn times_that_need_not_be_apart_are_merged_once() {
        let part = Part::Stored { key: "data/part/1/1".into(), bytes: 9, crc: 0, updates: 1 };
        let run = |since, forwarded, history| {
            let parts = vec![part.clone()];
            let batch = Batch { seqno: 1, lower: 0, upper: 100, parts, forwarded };
            let batches = vec![Arc::new(batch)];
            tier(&State { since, upper: 120, history, batches, ..State::default() }, 0, IN_A_ROUND)
        };
        let last = History::Last;
        assert_eq!(run(99, None, last(1)), Some(0..1), "a commit of many times");
        assert_eq!(run(98, None, last(1)), None, "since is inside of it");
        assert_eq!(run(99, Some(0), last(1)), Some(0..1), "merged under another history");
        assert_eq!(run(99, Some(99), last(1)), None);
        assert_eq!(run(110, Some(93), last(7)), None, "as far as this history went");
        assert_eq!(run(99, Some(0), History::Keep), None);
    }

    /// One row per commit, merged whenever the tiers ask for it: the rows written are O(n log n),
    /// and the batches O(log n).
    #[test]
    fn the_work_is_n_log_n() {
        const ROWS: u64 = 1 << 12;
        let (mut sizes, mut written, mut most) = (Vec::new(), 0, 0);
        for _ in 0..ROWS {
            sizes.push(1);
            while let Some(run) = tier(&state(&sizes), 0, IN_A_ROUND) {
                let merged: u64 = sizes.drain(run).sum();
                written += merged;
                sizes.push(merged);
            }
            most = most.max(sizes.len());
        }
        assert!(written <= ROWS * 2 * 12, "{written} rows written");
        assert!(most <= 12, "{most} batches");
    }

    /// Where rows replace rows, merged when a round is due: each row that comes is merged a bounded number of times,
    /// and what is there is a small multiple of what is live.
    #[test]
    fn work_and_space_are_in_proportion() {
        const LIVE: u64 = 1_000;
        let (mut settled, mut fresh) = (vec![LIVE], Vec::new());
        let (mut came, mut written, mut most) = (0, 0, 0);
        for commit in 0..10_000u64 {
            let bytes = 1 + commit % 97;
            fresh.push(bytes);
            came += bytes;
            let (old, new) = (settled.iter().sum::<u64>(), fresh.iter().sum::<u64>());
            let space = Space { settled: old, mergeable: new, ..Space::default() };
            if !space.is_much_mergeable(10) {
                continue;
            }
            let sizes = [settled.clone(), fresh.clone()].concat();
            let run = tier(&state(&sizes), 0, IN_A_ROUND).unwrap();
            // All that came cancels, once it meets what is settled.
            let merged = if run.start == 0 { LIVE } else { sizes[run.clone()].iter().sum() };
            written += merged;
            most = most.max(old + new + merged);
            settled = [&sizes[..run.start], &[merged]].concat();
            fresh.clear();
        }
        assert!(written * 3 <= came * 4, "{written} bytes merged for {came}");
        assert!(most <= LIVE * 3, "{most} bytes for {LIVE}");
    }
}
