//! Owns how often something is looked at that changes without a word: often while it changes, ever more
//! rarely while it rests. Pure: it reads no clock, waits for nothing, and looks at nothing.

use std::time::Duration;

/// A pause is this part of the rest before it.
const SHARE: u32 = 8;

/// The pauses between looks at one thing. Each is an eighth of the time for which it has stood still, so
/// that what comes after a rest is seen late by an eighth of that rest, and by the longest pause, at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    shortest: Duration,
    longest: Duration,
    /// For how long nothing has come.
    rested: Duration,
}

impl Pace {
    /// The bounds of a pause; the longest is at least the shortest.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Pace {
        Pace { shortest, longest: longest.max(shortest), rested: Duration::ZERO }
    }

    /// Returns the pause before the next look.
    pub(crate) fn pause(&self) -> Duration {
        if self.is_at_rest() && crate::mutant::on("rest_for_ever") {
            return Duration::MAX;
        }
        (self.rested / SHARE).clamp(self.shortest, self.longest)
    }

    /// Whether pauses grow: nothing has come for some of them.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.rested / SHARE > self.shortest
    }

    /// Notes that a pause is over and the look after it has found nothing.
    pub(crate) fn rest(&mut self, pause: Duration) {
        self.rested = self.rested.saturating_add(pause);
    }

    /// Notes that something has come.
    pub(crate) fn wake(&mut self) {
        self.rested = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_seen_late_by_an_eighth_of_the_rest_before_it() {
        let (shortest, longest) = (Duration::from_millis(20), Duration::from_millis(1280));
        let mut pace = Pace::new(shortest, longest);
        let (mut rested, mut looks) = (Duration::ZERO, 0);
        while rested < Duration::from_secs(10) {
            let pause = pace.pause();
            assert!(
                pause >= shortest && pause <= (rested / 8).max(shortest),
                "{pause:?} after {rested:?}"
            );
            assert_eq!(pace.is_at_rest(), rested > shortest * 8, "after {rested:?}");
            pace.rest(pause);
            rested += pause;
            looks += 1;
        }
        // With the shortest pause they would be 500.
        assert!(looks < 50, "{looks} looks");
        (0..9).for_each(|_| pace.rest(longest));
        assert_eq!(pace.pause(), longest);
        pace.wake();
        assert_eq!(pace.pause(), shortest);
    }

    #[test]
    fn bounds_that_cross_are_one() {
        let mut pace = Pace::new(Duration::from_secs(2), Duration::from_secs(1));
        pace.rest(Duration::MAX);
        pace.rest(Duration::MAX);
        assert_eq!(pace.pause(), Duration::from_secs(2));
    }
}
