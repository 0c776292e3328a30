//! Owns the units that no binding covers yet, in the order in which they came, and how far the feed was
//! received with them. Pure: it binds nothing and hands nothing over; that is
//! [`write_ahead`](super::write_ahead)'s.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::source::stage::Unit;
use crate::source::{Boundary, Cursor, Partition, Position};

/// Units that wait for a time.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    units: VecDeque<Unit<P>>,
    /// What they hold: their changes, in memory and spilled, and their cursors.
    bytes: u64,
    /// How many of them have rows.
    with_rows: u64,
    /// Since when there has been one, with rows or without.
    since: Option<Instant>,
    /// Of the last unit received, bound or not.
    received: Boundary<P>,
}

impl<P: Position> Waiting<P> {
    /// Nothing waits, and the feed was received up to here.
    pub(super) fn new(received: Boundary<P>) -> Self {
        Waiting { units: VecDeque::new(), bytes: 0, with_rows: 0, since: None, received }
    }

    /// Notes how far the feed was received.
    pub(super) fn receive(&mut self, boundary: &Boundary<P>) {
        self.received = boundary.clone();
    }

    /// Returns how far the feed was received.
    pub(super) fn received(&self) -> &Boundary<P> {
        &self.received
    }

    /// Whether all that a cursor covers was received.
    pub(super) fn has_received(&self, cursor: &Cursor<P>) -> bool {
        self.received.cursor().contains(cursor) == Some(true)
    }

    /// Keeps a unit until it is bound. Neighbours without rows are one: that is all they say.
    pub(super) fn push(&mut self, unit: Unit<P>, now: Instant) {
        self.since.get_or_insert(now);
        self.with_rows += u64::from(has_rows(&unit));
        match self.units.back_mut() {
            Some(last) if !has_rows(last) && !has_rows(&unit) => {
                self.bytes -= bytes(last);
                for (partition, place) in unit.moved {
                    match last.moved.iter_mut().find(|(name, _)| *name == partition) {
                        Some((_, known)) => *known = place,
                        None => last.moved.push((partition, place)),
                    }
                }
                last.boundary = unit.boundary;
                self.bytes += bytes(last);
            }
            _ => {
                self.bytes += bytes(&unit);
                self.units.push_back(unit);
            }
        }
    }

    /// Takes out the units that are bound, each with its time, in order.
    ///
    /// # Errors
    ///
    /// The first that `time_of` has; what was taken out before it is then gone.
    pub(super) fn take_bound(
        &mut self,
        time_of: impl Fn(&Unit<P>) -> Result<Option<u64>, Error>,
    ) -> Result<Vec<(Unit<P>, u64)>, Error> {
        // In a feed of one partition, what comes after a unit that is not bound is not bound either. A
        // writer that is ahead of the one that binds would look at all of it again and again.
        let looks_at_all = self.received.cursor().len() > 1;
        let (mut bound, mut later) = (Vec::new(), VecDeque::new());
        while let Some(unit) = self.units.pop_front() {
            match time_of(&unit)? {
                Some(time) => {
                    self.bytes -= bytes(&unit);
                    self.with_rows -= u64::from(has_rows(&unit));
                    bound.push((unit, time));
                }
                None => {
                    later.push_back(unit);
                    if !looks_at_all {
                        break;
                    }
                }
            }
        }
        later.append(&mut self.units);
        self.units = later;
        if self.units.is_empty() {
            self.since = None;
        }
        Ok(bound)
    }

    /// Returns what the next time is bound to: all that was received, but for a feed that is copied
    /// anew. That replaces everything, so it needs a time after those of the units before it.
    pub(super) fn next(&self) -> &Boundary<P> {
        let Some(first) = self.units.front() else { return &self.received };
        // A copy has a time of its own, so that its binding says where it ends.
        if first.replaces.is_some() {
            return &first.boundary;
        }
        let generation = first.boundary.generation();
        if generation >= self.received.generation() {
            return &self.received;
        }
        let same = |unit: &&Unit<P>| unit.boundary.generation() == generation;
        self.units.iter().take_while(same).last().map_or(&self.received, |unit| &unit.boundary)
    }

    /// Whether the next time is due: rows wait, or something without rows has waited for `idle`.
    pub(super) fn is_due(&self, now: Instant, idle: Duration) -> bool {
        self.with_rows > 0 || self.since.is_some_and(|since| now.duration_since(since) >= idle)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Returns what a unit holds. Where there are many partitions, most of it is its cursor.
fn bytes<P: Position>(unit: &Unit<P>) -> u64 {
    let places = unit.boundary.cursor().len() + unit.moved.len();
    unit.changes.bytes() + (places * size_of::<(Partition, P)>()) as u64
}

fn has_rows<P>(unit: &Unit<P>) -> bool {
    unit.changes.changes() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Postcard;
    use crate::source::staged::Staged;
    use crate::source::{Change, Durable};

    fn boundary(generation: u64, places: &[(&str, u64)]) -> Boundary<u64> {
        let places = places.iter().map(|(name, at)| (Partition::from(*name), *at));
        let cursor = Cursor::of("feed", generation, places);
        Durable::read(&cursor.encode()).unwrap().boundary()
    }

    /// A unit of so many rows that ends at a place of a partition; the others are where `places` says.
    fn unit(rows: u64, moved: (&str, u64), at: &Boundary<u64>) -> Unit<u64> {
        let changes: Vec<Change<u64, u64>> = (0..rows).map(|n| Change::Put(n, Ok(n))).collect();
        Unit {
            changes: Staged::of::<u64, u64, Postcard>(&changes),
            boundary: at.clone(),
            moved: vec![(Partition::from(moved.0), moved.1)],
            replaces: None,
        }
    }

    /// Waits for units, each a second after the one before, and returns when the first came.
    fn push(waiting: &mut Waiting<u64>, units: Vec<Unit<u64>>) -> Instant {
        let start = Instant::now();
        for (second, unit) in units.into_iter().enumerate() {
            waiting.receive(&unit.boundary.clone());
            waiting.push(unit, start + Duration::from_secs(second as u64));
        }
        start
    }

    /// Binds what lies up to a place of each partition, and returns the times in order.
    fn take(waiting: &mut Waiting<u64>, bound: &[(&str, u64, u64)]) -> Vec<u64> {
        let time_of = |unit: &Unit<u64>| {
            let (name, at) = &unit.moved[0];
            let binds = |(partition, to, _): &&(&str, u64, u64)| **name == **partition && at <= to;
            Ok(bound.iter().find(binds).map(|(.., time)| *time))
        };
        waiting.take_bound(time_of).unwrap().into_iter().map(|(_, time)| time).collect()
    }

    #[test]
    fn a_cursor_of_many_partitions_counts() {
        let names: Vec<String> = (0..200).map(|n| format!("{n:03}")).collect();
        let places: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 1)).collect();
        let at = boundary(0, &places);
        let mut waiting = Waiting::new(at.clone());
        push(&mut waiting, (0..10).map(|_| unit(1, ("000", 1), &at)).collect());
        assert!(waiting.bytes() > 10 * 200 * size_of::<(Partition, u64)>() as u64);
        take(&mut waiting, &[("000", 1, 7)]);
        assert_eq!(waiting.bytes(), 0);
    }

    #[test]
    fn neighbours_without_rows_are_one() {
        let at = |a, b| boundary(0, &[("a", a), ("b", b)]);
        let mut waiting = Waiting::new(at(0, 0));
        push(
            &mut waiting,
            vec![
                unit(0, ("a", 1), &at(1, 0)),
                unit(0, ("b", 1), &at(1, 1)),
                unit(0, ("a", 2), &at(2, 1)),
                unit(2, ("a", 3), &at(3, 1)),
                unit(0, ("a", 4), &at(4, 1)),
            ],
        );
        assert_eq!(waiting.len(), 3);
        let first = &waiting.units[0];
        let place = |name: &str, at| (Partition::from(name), at);
        assert_eq!(first.moved, [place("a", 2), place("b", 1)]);
        assert_eq!(first.boundary, at(2, 1));
        assert_eq!(waiting.next(), &at(4, 1));
    }

    #[test]
    fn of_one_partition_nothing_behind_an_unbound_unit_is_looked_at() {
        let at = |a| boundary(0, &[("a", a)]);
        let mut waiting = Waiting::new(at(0));
        push(&mut waiting, (1..5).map(|n| unit(n, ("a", n), &at(n))).collect());
        let looks = std::cell::Cell::new(0);
        let time_of = |unit: &Unit<u64>| {
            looks.set(looks.get() + 1);
            Ok((unit.moved[0].1 <= 2).then_some(7))
        };
        assert_eq!(waiting.take_bound(time_of).unwrap().len(), 2);
        assert_eq!((looks.get(), waiting.len(), waiting.with_rows), (3, 2, 2));
        assert_eq!(take(&mut waiting, &[("a", 9, 8)]), [8, 8]);
        assert!(waiting.is_empty());
        assert_eq!((waiting.bytes(), waiting.with_rows, waiting.since), (0, 0, None));
        assert_eq!(waiting.received(), &at(4));
    }

    #[test]
    fn of_several_partitions_one_does_not_hold_the_others() {
        let at = |a, b| boundary(0, &[("a", a), ("b", b)]);
        let mut waiting = Waiting::new(at(0, 0));
        push(
            &mut waiting,
            vec![
                unit(1, ("a", 1), &at(1, 0)),
                unit(1, ("b", 1), &at(1, 1)),
                unit(1, ("a", 2), &at(2, 1)),
                unit(1, ("b", 2), &at(2, 2)),
            ],
        );
        assert_eq!(take(&mut waiting, &[("b", 2, 5)]), [5, 5]);
        // Those that stay keep their order.
        assert_eq!(take(&mut waiting, &[("a", 1, 6)]), [6]);
        assert_eq!(take(&mut waiting, &[("a", 2, 7)]), [7]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn rows_are_due_at_once_and_a_boundary_when_it_has_waited() {
        let idle = Duration::from_secs(10);
        let at = |a| boundary(0, &[("a", a)]);
        let mut waiting = Waiting::new(at(0));
        assert!(!waiting.is_due(Instant::now() + 2 * idle, idle), "nothing waits");
        let start = push(&mut waiting, vec![unit(0, ("a", 1), &at(1)), unit(0, ("a", 2), &at(2))]);
        assert!(!waiting.is_due(start + Duration::from_secs(9), idle));
        assert!(waiting.is_due(start + idle, idle), "counted from the first");
        waiting.push(unit(1, ("a", 3), &at(3)), start);
        assert!(waiting.is_due(start, idle));
        take(&mut waiting, &[("a", 9, 1)]);
        assert!(!waiting.is_due(start + 2 * idle, idle), "bound, and nothing waits");
    }

    #[test]
    fn a_copy_made_anew_gets_a_time_after_what_it_replaces() {
        let at = boundary;
        let mut waiting = Waiting::new(at(0, &[("a", 0)]));
        push(
            &mut waiting,
            vec![
                unit(1, ("a", 1), &at(0, &[("a", 1)])),
                unit(1, ("a", 2), &at(0, &[("a", 2)])),
                unit(1, ("a", 9), &at(1, &[("a", 9)])),
            ],
        );
        assert_eq!(waiting.next(), &at(0, &[("a", 2)]));
        assert_eq!(take(&mut waiting, &[("a", 2, 4)]), [4, 4]);
        assert_eq!(waiting.next(), &at(1, &[("a", 9)]));
        assert!(
            waiting.has_received(at(0, &[("a", 100)]).cursor()),
            "a later generation covers it"
        );
        assert!(!waiting.has_received(at(1, &[("a", 10)]).cursor()));
    }
}
