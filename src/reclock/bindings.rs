//! Owns bindings: at each time, how far the feed had come. Pure; it does not know where they are kept.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind};
use crate::source::{Cursor, Partition, Position};

/// A time, and the cursor that covers all rows up to it.
#[derive(Clone, Debug)]
pub(super) struct Binding<P> {
    pub(super) time: u64,
    pub(super) cursor: Cursor<P>,
    /// The very bytes that are stored.
    pub(super) bytes: Vec<u8>,
}

/// Bindings in the order of their times. Each covers what the one before it does.
#[derive(Debug)]
pub(super) struct Bindings<P>(VecDeque<Binding<P>>);

impl<P> Default for Bindings<P> {
    fn default() -> Self {
        Bindings(VecDeque::new())
    }
}

impl<P: Position> Bindings<P> {
    /// Adds the next binding.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not after the last one, or covers less.
    pub(super) fn add(&mut self, binding: Binding<P>) -> Result<(), Error> {
        if let Some(last) = self.0.back()
            && (binding.time <= last.time || binding.cursor.contains(&last.cursor) != Some(true))
        {
            let (from, to) = (last.time, binding.time);
            let what = format!("the binding at {to} does not go on from the one at {from}");
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        self.0.push_back(binding);
        Ok(())
    }

    pub(super) fn last(&self) -> Option<&Binding<P>> {
        self.0.back()
    }

    /// Returns the last binding of the generations before one.
    pub(super) fn last_before(&self, generation: u64) -> Option<&Binding<P>> {
        self.0.iter().rev().find(|binding| binding.cursor.generation() < generation)
    }

    /// Returns the first binding of the generations after one: where a copy made anew ends.
    pub(super) fn first_after(&self, generation: u64) -> Option<&Binding<P>> {
        self.0.iter().find(|binding| binding.cursor.generation() > generation)
    }

    /// Returns the binding in force just below `upper`: what it covers is durable in a shard with that
    /// upper, and nothing else.
    pub(super) fn below(&self, upper: u64) -> Option<&Binding<P>> {
        let count = self.0.partition_point(|binding| binding.time < upper);
        self.0.get(count.checked_sub(1)?)
    }

    /// Returns the time of a unit of a generation that ends at these places: that of the first binding
    /// that covers them, or `None` if none does yet.
    ///
    /// # Errors
    ///
    /// `FeedDiffers` if a place cannot be compared with the bound ones; `LeaseLost` if another writer
    /// has begun a later generation, which replaces the unit.
    pub(super) fn time_of(
        &self,
        generation: u64,
        moved: &[(Partition, P)],
    ) -> Result<Option<u64>, Error> {
        let first = self.first_of(generation, moved)?;
        let Some(first) = self.0.get(first) else { return Ok(None) };
        if first.cursor.generation() > generation {
            return Err(copied_anew());
        }
        Ok(Some(first.time))
    }

    /// Checks that no binding lies inside a copy made anew, which takes the place of all after
    /// `replaced`: we could close its time, and would not have its rows.
    ///
    /// # Errors
    ///
    /// As [`time_of`](Bindings::time_of); `FeedDiffers` if we have lost what was bound before the copy,
    /// `LeaseLost` if another writer's copy ends elsewhere: before this one, or, of a feed that can end it
    /// where it is told, `anywhere` else.
    pub(super) fn check_copy(
        &self,
        replaced: &Cursor<P>,
        generation: u64,
        moved: &[(Partition, P)],
        anywhere: bool,
        data_upper: u64,
    ) -> Result<(), Error> {
        let first = self.first_of(generation, moved)?;
        if anywhere
            && let Some(first) = self.0.get(first)
            && first.cursor.generation() == generation
            && !ends_at(moved, &first.cursor)
            && !crate::mutant::on("copy_ends_anywhere")
        {
            return Err(copied_anew());
        }
        let before = first.checked_sub(1);
        let Some(before) = before.and_then(|before| self.0.get(before)) else { return Ok(()) };
        if before.cursor.generation() == generation {
            return Err(copied_anew());
        }
        match replaced.contains(&before.cursor) {
            Some(true) => Ok(()),
            _ => Err(lost_rows(before.time, data_upper)),
        }
    }

    /// Returns the number of the first binding that covers a unit; their count if none does.
    fn first_of(&self, generation: u64, moved: &[(Partition, P)]) -> Result<usize, Error> {
        match self.0.back() {
            Some(last) if covers(&last.cursor, generation, moved)? => {}
            _ => return Ok(self.0.len()),
        }
        let (mut low, mut high) = (0, self.0.len() - 1);
        while low < high {
            let middle = low.midpoint(high);
            match covers(&self.0[middle].cursor, generation, moved)? {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Returns the greatest time up to which a feed that has come so far has all rows.
    pub(super) fn complete(&self, received: &Cursor<P>) -> Option<u64> {
        let complete = |binding: &Binding<P>| received.contains(&binding.cursor) == Some(true);
        let count = self.0.partition_point(complete);
        let more = usize::from(crate::mutant::on("close_uncovered_binding"));
        let count = (count + more).min(self.0.len());
        Some(self.0.get(count.checked_sub(1)?)?.time)
    }

    /// Forgets the bindings before the one in force just below `upper`.
    pub(super) fn forget(&mut self, upper: u64) {
        let count = self.0.partition_point(|binding| binding.time < upper);
        self.0.drain(..count.saturating_sub(1));
    }
}

fn copied_anew() -> Error {
    Error::new(ErrorKind::LeaseLost, "another writer has copied the feed anew")
        .hint("start again, from its copy")
}

/// The error of a feed that begins again without what is bound to `time` already. Once that is in the
/// shard nothing is lost: a writer that starts again begins behind it.
pub(super) fn lost_rows(time: u64, data_upper: u64) -> Error {
    let what = "the feed has lost rows that are bound to a time already";
    match time < data_upper {
        true => Error::new(ErrorKind::LeaseLost, what).hint("start again; they are in the shard"),
        false => Error::new(ErrorKind::FeedDiffers, what)
            .hint("another writer that has them can go on; else use a new shard"),
    }
}

/// Whether these places are no less than a cursor's.
fn ends_at<P: Position>(moved: &[(Partition, P)], cursor: &Cursor<P>) -> bool {
    cursor.partitions().all(|(name, bound)| {
        let place = moved.iter().find(|(moved, _)| moved == name);
        place.is_some_and(|(_, place)| place.contains(bound) == Some(true))
    })
}

fn covers<P: Position>(
    cursor: &Cursor<P>,
    generation: u64,
    moved: &[(Partition, P)],
) -> Result<bool, Error> {
    if cursor.generation() != generation {
        return Ok(cursor.generation() > generation);
    }
    for (partition, place) in moved {
        let Some(bound) = cursor.get(partition) else { return Ok(false) };
        match bound.contains(place) {
            Some(true) => {}
            Some(false) => return Ok(false),
            None => {
                let what = format!(
                    "FeedDiffers: partition {partition:?} is at {place:?}, which cannot be \
                     compared with {bound:?}, bound by another writer"
                );
                return Err(Error::new(ErrorKind::FeedDiffers, what)
                    .hint("give every writer the same feed"));
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(places: &[(&str, u64)]) -> Cursor<u64> {
        let places = places.iter().map(|(name, at)| (Partition::from(*name), *at));
        Cursor::of("feed", 0, places)
    }

    fn bound(bindings: &[(u64, &[(&str, u64)])]) -> Bindings<u64> {
        let mut all = Bindings::default();
        for (time, places) in bindings {
            all.add(Binding { time: *time, cursor: cursor(places), bytes: vec![] }).unwrap();
        }
        all
    }

    fn moved(name: &str, at: u64) -> Vec<(Partition, u64)> {
        vec![(Partition::from(name), at)]
    }

    #[test]
    fn a_unit_belongs_to_the_first_binding_that_covers_it() {
        let all =
            bound(&[(3, &[("a", 10)]), (7, &[("a", 10), ("b", 4)]), (8, &[("a", 15), ("b", 4)])]);
        let time = |name, at| all.time_of(0, &moved(name, at)).unwrap();
        assert_eq!([time("a", 1), time("a", 10), time("a", 11)], [Some(3), Some(3), Some(8)]);
        assert_eq!([time("a", 15), time("a", 16)], [Some(8), None]);
        assert_eq!([time("b", 4), time("b", 5), time("c", 0)], [Some(7), None, None]);
        assert_eq!(bound(&[]).time_of(0, &moved("a", 0)).unwrap(), None);
    }

    #[test]
    fn a_later_generation_is_bound_anew() {
        let mut all = bound(&[(3, &[("a", 10)])]);
        assert_eq!(all.time_of(1, &moved("a", 4)).unwrap(), None, "its places begin again");
        let cursor = Cursor::of("feed", 1, [(Partition::from("a"), 4)]);
        all.add(Binding { time: 5, cursor, bytes: vec![] }).unwrap();
        assert_eq!(all.time_of(1, &moved("a", 4)).unwrap(), Some(5));
        assert_eq!(all.time_of(0, &moved("a", 10)).unwrap(), Some(3));
        let replaced = all.time_of(0, &moved("a", 11)).unwrap_err();
        assert_eq!(replaced.kind(), ErrorKind::LeaseLost, "{replaced}");
    }

    #[test]
    fn a_copy_made_anew_is_bound_in_whole_and_after_what_it_replaces() {
        let mut all = bound(&[(3, &[("a", 10)])]);
        let lost = Err(ErrorKind::LeaseLost);
        let check_as = |all: &Bindings<u64>, anywhere, replaced, to| {
            let replaced = cursor(&[("a", replaced)]);
            all.check_copy(&replaced, 1, &moved("a", to), anywhere, 3).map_err(|e| e.kind())
        };
        let check = |all: &Bindings<u64>, replaced, to| check_as(all, false, replaced, to);
        assert_eq!(check(&all, 10, 4), Ok(()));
        assert_eq!(check(&all, 9, 4), Err(ErrorKind::FeedDiffers), "9 to 10 is bound, and gone");
        for (time, to) in [(5, 4), (6, 8)] {
            let cursor = Cursor::of("feed", 1, [(Partition::from("a"), to)]);
            all.add(Binding { time, cursor, bytes: vec![] }).unwrap();
        }
        assert_eq!([check(&all, 10, 3), check(&all, 10, 4)], [Ok(()), Ok(())]);
        for inside in [5, 8, 9] {
            assert_eq!(check(&all, 10, inside), Err(ErrorKind::LeaseLost), "{inside}");
        }
        // Where it can end as told, it does.
        let check = |to| check_as(&all, true, 10, to);
        assert_eq!([check(4), check(3), check(5)], [Ok(()), lost, lost]);
    }

    #[test]
    fn the_place_to_resume_is_the_binding_below_the_upper_and_none_after_it() {
        let all = bound(&[(3, &[("a", 10)]), (7, &[("a", 12)])]);
        let below = |upper| all.below(upper).map(|binding| binding.time);
        assert_eq!(
            [below(0), below(3), below(4), below(7), below(8)],
            [None, None, Some(3), Some(3), Some(7)]
        );
        let mut all = all;
        all.forget(3);
        assert_eq!(all.below(4).map(|binding| binding.time), Some(3));
        all.forget(8);
        assert_eq!(all.0.len(), 1);
    }

    #[test]
    fn a_time_is_complete_when_every_partition_has_come_so_far() {
        let all = bound(&[(3, &[("a", 10)]), (7, &[("a", 10), ("b", 4)])]);
        let complete = |places| all.complete(&cursor(places));
        assert_eq!(complete(&[("a", 9)]), None);
        assert_eq!(complete(&[("a", 20)]), Some(3));
        assert_eq!(complete(&[("a", 20), ("b", 3)]), Some(3));
        assert_eq!(complete(&[("a", 10), ("b", 4)]), Some(7));
    }

    #[test]
    fn bindings_only_go_on() {
        let mut all = bound(&[(3, &[("a", 10)])]);
        let add = |all: &mut Bindings<u64>, time, at| {
            all.add(Binding { time, cursor: cursor(&[("a", at)]), bytes: vec![] })
        };
        add(&mut all, 3, 11).unwrap_err();
        add(&mut all, 4, 9).unwrap_err();
        add(&mut all, 4, 10).unwrap();
    }
}
