//! Owns how far what is durable lies behind the end of a feed: what a feed says of it, and the times of its places, to say
//! it by. Pure: what time it is comes with the question. It does not own how it is shown.

use std::collections::VecDeque;
use std::iter::Sum;
use std::time::Duration;

/// How far what is durable, which is what a reader sees, lies behind the end of a feed: each as far as the feed knows.
///
/// Of a feed with several partitions it is the sum of theirs: rows and bytes are added up, of two ages it is the greater
/// one, and what one does not know is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Changes, or messages, that are not durable.
    pub rows: Option<u64>,
    /// Bytes of the feed that are not durable, as the feed counts them: of its log, say.
    pub bytes: Option<u64>,
    /// How old what is durable is.
    pub age: Age,
}

/// How old what is durable is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Age {
    /// That is not known.
    #[default]
    Unknown,
    /// The feed has nothing else, as far as is known.
    Current,
    /// What the feed had got by then, in milliseconds since 1970 by the clock of those that write to it, is durable.
    AsOf(u64),
}

impl Lag {
    /// Nothing lies behind.
    pub const NONE: Lag = Lag { rows: Some(0), bytes: Some(0), age: Age::Current };

    /// Returns whether nothing at all is known.
    pub fn is_unknown(&self) -> bool {
        *self == Lag::default()
    }

    /// Returns how old what is durable is, by a clock that says this many milliseconds since 1970.
    ///
    /// ```
    /// # use differential_upsert::source::{Age, Lag};
    /// # use std::time::Duration;
    /// let lag = Lag { age: Age::AsOf(5_000), ..Lag::NONE };
    /// assert_eq!(lag.age(7_500), Some(Duration::from_millis(2_500)));
    /// // The clock of those that wrote may be ahead.
    /// assert_eq!(lag.age(4_000), Some(Duration::ZERO));
    /// assert_eq!((Lag::NONE.age(7_500), Lag::default().age(7_500)), (Some(Duration::ZERO), None));
    /// ```
    pub fn age(&self, now_ms: u64) -> Option<Duration> {
        match self.age {
            Age::Unknown => None,
            Age::Current => Some(Duration::ZERO),
            Age::AsOf(ms) => Some(Duration::from_millis(now_ms.saturating_sub(ms))),
        }
    }
}

impl Age {
    fn older(self, other: Age) -> Age {
        match (self, other) {
            (Age::Unknown, _) | (_, Age::Unknown) => Age::Unknown,
            (Age::Current, age) | (age, Age::Current) => age,
            (Age::AsOf(one), Age::AsOf(two)) => Age::AsOf(one.min(two)),
        }
    }
}

impl Sum for Lag {
    fn sum<I: Iterator<Item = Lag>>(lags: I) -> Lag {
        let both = |one: Option<u64>, two: Option<u64>| Some(one?.saturating_add(two?));
        lags.fold(Lag::NONE, |sum, lag| Lag {
            rows: both(sum.rows, lag.rows),
            bytes: both(sum.bytes, lag.bytes),
            age: sum.age.older(lag.age),
        })
    }
}

/// Places of changes that were handed over, and when these were made, until they are durable. At most [`PLACES_MAX`].
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(any(feature = "postgres-source", feature = "kafka")),
    allow(dead_code, reason = "feeds that know times use it")
)]
pub(crate) struct Trail {
    /// Where each change ends, and when it was made.
    ahead: VecDeque<(u64, u64)>,
}

/// Beyond it, two places become one, of the age of the older.
#[cfg_attr(
    not(any(feature = "postgres-source", feature = "kafka")),
    allow(dead_code, reason = "as the trail")
)]
const PLACES_MAX: usize = 256;

#[cfg_attr(
    not(any(feature = "postgres-source", feature = "kafka")),
    allow(dead_code, reason = "as the trail")
)]
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
        }
    }

    /// Returns how old what is durable up to a place is. `has_all`: all that the feed has was handed over.
    pub(crate) fn age(&mut self, durable: u64, has_all: bool) -> Age {
        while self.ahead.front().is_some_and(|(place, _)| *place <= durable) {
            self.ahead.pop_front();
        }
        match self.ahead.front() {
            // What was made before it, is durable.
            Some((_, made_ms)) => Age::AsOf(*made_ms),
            None if has_all => Age::Current,
            // More is to come, and it does not say since when.
            None => Age::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_add_up() {
        let lag = |rows, bytes, age| Lag { rows, bytes, age };
        let sum = |lags: &[Lag]| lags.iter().copied().sum::<Lag>();
        assert_eq!(sum(&[]), Lag::NONE);
        let (one, two) = (
            lag(Some(1), Some(10), Age::AsOf(7_000)),
            lag(Some(2), Some(u64::MAX), Age::AsOf(5_000)),
        );
        assert_eq!(sum(&[one, two]), lag(Some(3), Some(u64::MAX), Age::AsOf(5_000)));
        assert_eq!(sum(&[one, Lag::NONE]), one);
        assert_eq!(
            sum(&[one, lag(None, Some(5), Age::Unknown)]),
            lag(None, Some(15), Age::Unknown)
        );
        assert!(sum(&[one, Lag::default()]).is_unknown());
    }

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
