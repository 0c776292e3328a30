//! Owns a worker's rows on their way into parts: those of all times in one queue, and what is known of each time.
//! It decides neither what is written nor when.
//!
//! One queue and not one per time: where a time has few rows, a time would cost more than they do. Its front leaves
//! without a move of the rest, however small the steps are.

use std::collections::{VecDeque, vec_deque};
use std::ops::Range;

use super::counts::Emitted;
use crate::shard::{Prepared, Update};
use crate::upsert::{flight_bytes, row_bytes};

/// Rows that are in no part yet, and each time that was emitted and is not answered.
#[derive(Default)]
pub(super) struct Waiting {
    /// In order of time, and of one time in order of emission.
    rows: VecDeque<Update>,
    /// In order, each once.
    times: VecDeque<TimeRows>,
}

/// One time's rows on their way.
#[derive(Default)]
pub(super) struct TimeRows {
    pub(super) time: u64,
    /// Those in no part yet, and their bytes.
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// What they take until they are in a part.
    pub(super) flight: usize,
    /// Pieces that tasks are writing.
    pub(super) writing: usize,
    pub(super) prepared: Vec<Prepared>,
    pub(super) emitted: Emitted,
}

impl Waiting {
    /// Adds rows. Cheap where they are in order of time, and not before those that are here.
    pub(super) fn push(&mut self, rows: Vec<Update>) {
        for of_time in rows.chunk_by(|one, next| one.1 == next.1) {
            self.count(of_time);
        }
        let before = self.rows.len().saturating_sub(1);
        self.rows.extend(rows);
        let sorted = self.rows.range(before..).is_sorted_by_key(|row| row.1);
        if !sorted && !crate::mutant::on("rows_as_they_come") {
            // Stable: a key's retraction stays right before its insertion.
            self.rows.make_contiguous().sort_by_key(|row| row.1);
        }
    }

    fn count(&mut self, rows: &[Update]) {
        let Some((_, time, _)) = rows.first() else { return };
        let at = match self.times.back() {
            Some(last) if last.time >= *time => self.at(*time),
            _ => self.times.len(),
        };
        if self.times.get(at).is_none_or(|here| here.time != *time) {
            self.times.insert(at, TimeRows { time: *time, ..TimeRows::default() });
        }
        let here = &mut self.times[at];
        here.emitted += Emitted::count(rows);
        here.rows += rows.len();
        here.bytes += rows.iter().map(|((k, v), _, _)| row_bytes(k, v)).sum::<usize>();
        here.flight += rows.iter().map(|((k, v), _, _)| flight_bytes(k, v)).sum::<usize>();
    }

    /// Takes the rows of some times that are in no part yet. Returns also their bytes in flight.
    pub(super) fn take(&mut self, times: Range<u64>) -> (Vec<Update>, usize) {
        let row = |time| self.rows.partition_point(|row| row.1 < time);
        let rows = row(times.start)..row(times.end);
        let taken = match rows.len() == self.rows.len() {
            true => std::mem::take(&mut self.rows).into(),
            false => self.rows.drain(rows).collect(),
        };
        let (from, to) = (self.at(times.start), self.at(times.end));
        let mut flight = 0;
        for time in self.times.range_mut(from..to) {
            (time.rows, time.bytes) = (0, 0);
            flight += std::mem::take(&mut time.flight);
        }
        (taken, flight)
    }

    /// Takes out all times before one, and drops their rows that are still here.
    pub(super) fn remove_before(&mut self, time: u64) -> vec_deque::Drain<'_, TimeRows> {
        let rows = self.rows.partition_point(|row| row.1 < time);
        self.rows.drain(..rows);
        let to = self.at(time);
        self.times.drain(..to)
    }

    /// Returns the times of a range that are here, in order.
    pub(super) fn times(&self, times: Range<u64>) -> impl Iterator<Item = &TimeRows> {
        self.times.range(self.at(times.start)..self.at(times.end))
    }

    /// Returns what is known of a time.
    pub(super) fn time_mut(&mut self, time: u64) -> Option<&mut TimeRows> {
        let at = self.at(time);
        self.times.get_mut(at).filter(|here| here.time == time)
    }

    /// Returns the first time.
    pub(super) fn first(&self) -> Option<u64> {
        self.times.front().map(|first| first.time)
    }

    /// Returns the last time.
    pub(super) fn last(&self) -> Option<&TimeRows> {
        self.times.back()
    }

    fn at(&self, time: u64) -> usize {
        self.times.partition_point(|here| here.time < time)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::codec::packed::Encoded;

    fn row(time: u64, number: u64) -> Update {
        let bytes = Encoded::from_bytes(number.to_le_bytes().to_vec());
        ((bytes.clone(), bytes), time, 1)
    }

    /// Against a list per time: rows that come, mostly in order of time, are taken by times, large ones first, and what
    /// is passed is dropped.
    #[test]
    fn rows_are_those_of_their_times() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut waiting, mut lists) =
                (Waiting::default(), BTreeMap::<u64, Vec<Update>>::new());
            let (mut lower, mut number, mut in_flight) = (0, 0, 0);
            for _ in 0..60 {
                match random.u32(..6) {
                    0 => {
                        let upper = lower + random.u64(..4);
                        let end = lists.split_off(&upper);
                        let expected: Vec<u64> = lists.into_keys().collect();
                        lists = end;
                        let mut passed = Vec::new();
                        for TimeRows { time, flight, .. } in waiting.remove_before(upper) {
                            in_flight -= flight;
                            passed.push(time);
                        }
                        assert_eq!(passed, expected, "seed {seed}");
                        lower = upper;
                    }
                    1 => {
                        let times = lower..lower + random.u64(..5);
                        let of_times = lists.range_mut(times.clone());
                        let expected: Vec<_> =
                            of_times.flat_map(|(_, l)| std::mem::take(l)).collect();
                        let (rows, flight) = waiting.take(times);
                        in_flight -= flight;
                        assert_eq!(rows, expected, "seed {seed}");
                    }
                    late => {
                        let mut time = match (late, waiting.last()) {
                            (3.., Some(last)) => last.time,
                            _ => lower,
                        };
                        let mut rows = Vec::new();
                        for _ in 0..random.u32(1..5) {
                            time += random.u64(..2);
                            number += 1;
                            rows.push(row(time, number));
                            lists.entry(time).or_default().push(row(time, number));
                        }
                        in_flight +=
                            rows.iter().map(|((k, v), ..)| flight_bytes(k, v)).sum::<usize>();
                        waiting.push(rows);
                    }
                }
                let known = |w: &Waiting| {
                    w.times(0..u64::MAX).map(|t| (t.time, t.rows)).collect::<Vec<_>>()
                };
                let expected: Vec<_> =
                    lists.iter().map(|(time, list)| (*time, list.len())).collect();
                assert_eq!(known(&waiting), expected, "seed {seed}");
                let flight: usize = waiting.times(0..u64::MAX).map(|time| time.flight).sum();
                assert_eq!(flight, in_flight, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_time_is_known_until_it_is_removed() {
        let mut waiting = Waiting::default();
        waiting.push(vec![row(5, 1), row(5, 2), row(7, 3)]);
        assert_eq!(waiting.take(5..6).0, [row(5, 1), row(5, 2)]);
        let here = waiting.time_mut(5).unwrap();
        assert_eq!((here.rows, here.bytes, here.flight, here.emitted.total()), (0, 0, 0, 2));
        here.writing += 1;
        assert!(waiting.time_mut(6).is_none());
        assert_eq!((waiting.first(), waiting.last().map(|last| last.time)), (Some(5), Some(7)));
        assert_eq!(waiting.remove_before(7).map(|time| time.writing).sum::<usize>(), 1);
        assert_eq!(waiting.take(0..9).0, [row(7, 3)]);
    }
}
