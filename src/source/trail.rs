//! Owns the times of places that are not durable yet, by which a feed says how old what is durable is. Pure. It does not
//! own what is durable.

use std::collections::VecDeque;

use super::lag::Age;

/// Places of changes that were handed over, and when these were made, until they are durable. At most [`PLACES_MAX`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    /// Where each change ends, and when it was made.
    ahead: VecDeque<(u64, u64)>,
    /// How many of them were there at the last look: the others may have been durable before they came.
    seen: usize,
    /// When those were made that became durable after they were seen; at most [`PLACES_MAX`].
    durable: Vec<u64>,
}

/// Beyond it, two places become one, of the age of the older.
const PLACES_MAX: usize = 256;

impl Trail {
    /// Takes in that a change which ends at a place was made at a time. Places that do not increase are left out.
    pub(crate) fn add(&mut self, place: u64, made_ms: u64) {
        if self.ahead.back().is_some_and(|(last, _)| *last >= place) {
            return;
        }
        self.ahead.push_back((place, made_ms));
        if self.ahead.len() > PLACES_MAX {
            let pairs = self.ahead.make_contiguous().chunks(2);
            let join = |pair: &[(u64, u64)]| (pair[pair.len() - 1].0, pair[0].1);
            self.ahead = pairs.map(join).collect();
            self.seen = self.seen.div_ceil(2);
        }
    }

    /// Returns how old what is durable up to a place is. `has_all`: all that the feed has was handed over.
    pub(crate) fn age(&mut self, durable: u64, has_all: bool) -> Age {
        while let Some((_, made_ms)) =
            self.ahead.front().copied().filter(|(place, _)| *place <= durable)
        {
            self.ahead.pop_front();
            if self.seen > 0 && self.durable.len() < PLACES_MAX {
                self.durable.push(made_ms);
            }
            self.seen = self.seen.saturating_sub(1);
        }
        self.seen = self.ahead.len();
        match self.ahead.front() {
            // What was made before it, is durable.
            Some((_, made_ms)) => Age::AsOf(*made_ms),
            None if has_all => Age::Current,
            // More is to come, and it does not say since when.
            None => Age::Unknown,
        }
    }

    /// Returns when the changes were made that became durable since this was last asked, one of each place that is kept.
    pub(crate) fn take_durable(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_is_as_old_as_what_follows_it() {
        let mut trail = Trail::default();
        assert_eq!(trail.age(0, false), Age::Unknown);
        assert_eq!(trail.age(0, true), Age::Current);
        trail.add(10, 1_000);
        trail.add(10, 1_500);
        trail.add(20, 2_000);
        assert_eq!(trail.age(9, true), Age::AsOf(1_000));
        assert_eq!(trail.age(10, true), Age::AsOf(2_000));
        assert_eq!(trail.age(25, true), Age::Current);
        assert_eq!((trail.take_durable(), trail.take_durable()), (vec![1_000, 2_000], vec![]));
        // What was there before it came took no time.
        trail.add(30, 2_500);
        assert_eq!((trail.age(30, true), trail.take_durable()), (Age::Current, vec![]));
        // More is to come, which need not be old because what came before it is.
        assert_eq!(trail.age(25, false), Age::Unknown);
    }

    /// However many wait, it is never said to be younger than it is.
    #[test]
    fn the_trail_is_bounded() {
        let mut trail = Trail::default();
        for place in 1..=10_000 {
            trail.add(place, place * 100);
            assert!(trail.ahead.len() <= PLACES_MAX, "{}", trail.ahead.len());
        }
        assert_eq!(trail.age(0, true), Age::AsOf(100));
        for durable in [1, 77, 5_000, 9_998] {
            let Age::AsOf(made) = trail.age(durable, true) else { panic!("changes wait") };
            assert!(made <= (durable + 1) * 100, "{made} after {durable}");
        }
        assert_eq!(trail.age(10_000, true), Age::Current);
    }
}
