//! Owns how far what is durable lies behind the end of a feed, as the feed says it. Pure: what time it is comes with the
//! question. It does not own how it is shown.

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
}
