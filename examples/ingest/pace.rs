//! Owns how fast a count goes on of late. It does not own the count, nor a clock.

use std::collections::VecDeque;
use std::time::Duration;

/// What is of late: longer, and a rate does not show what has changed; shorter, and it jumps.
const OF_LATE: Duration = Duration::from_secs(10);

/// A count, as it was seen of late.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    seen: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Takes down what the count is at a time, which is not before the last one.
    pub(crate) fn see(&mut self, at: Duration, count: u64) {
        // A run that starts again counts from 0: what was before says nothing of it.
        if self.seen.back().is_some_and(|(_, last)| count < *last) {
            self.seen.clear();
        }
        self.seen.push_back((at, count));
        while self.seen.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= OF_LATE) {
            self.seen.pop_front();
        }
    }

    /// Returns by how much it goes on in a second; `None` before there are two times to tell it by.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (self.seen.front()?, self.seen.back()?);
        per_second(last - first, to.saturating_sub(*from))
    }
}

/// Returns how much of a count is of a second; `None` of no time at all.
pub(crate) fn per_second(count: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_pace_is_of_late() {
        let mut pace = Pace::default();
        assert_eq!(pace.per_second(), None);
        pace.see(at(0), 0);
        assert_eq!(pace.per_second(), None);
        pace.see(at(1), 1_000);
        assert_eq!(pace.per_second(), Some(1_000.0));
        // The first second, with its thousand, is past.
        for second in 2..=11 {
            pace.see(at(second), 1_000 + 10 * (second - 1));
        }
        assert_eq!(pace.per_second(), Some(10.0));
    }

    #[test]
    fn what_begins_again_is_counted_from_there() {
        let mut pace = Pace::default();
        pace.see(at(0), 100);
        pace.see(at(1), 0);
        assert_eq!(pace.per_second(), None);
        pace.see(at(2), 7);
        assert_eq!(pace.per_second(), Some(7.0));
    }
}
