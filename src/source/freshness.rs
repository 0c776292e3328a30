//! Owns how long changes took from their commit at the source until they were durable, where the feed says when they were
//! made: a histogram. It reads no clock of its own. It does not own how it is shown.

use std::sync::Arc;
use std::time::Duration;

use crate::counter::Counter;

/// The bounds of the histogram, in seconds.
pub(crate) const BOUNDS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Counts by bound, of those that no bound has, and the sum.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    within: [Counter; BOUNDS.len()],
    beyond: Counter,
    sum_ms: Counter,
}

/// Says the milliseconds since 1970.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    pub(super) fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now_ms))
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Freshness {
    /// Takes in when changes were made that are durable by now.
    pub(super) fn see(&self, made_ms: &[u64], now_ms: u64) {
        for made_ms in made_ms {
            let took_ms = now_ms.saturating_sub(*made_ms);
            let took = Duration::from_millis(took_ms).as_secs_f64();
            let place = BOUNDS.iter().position(|bound| took <= *bound);
            place.map_or(&self.beyond, |place| &self.within[place]).add(1);
            self.sum_ms.add(took_ms);
        }
    }

    /// Returns how many took at most each bound, how many there were, and how many seconds in all.
    pub(super) fn counted(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut sum = 0;
        let mut up_to = |counter: &Counter| {
            sum += counter.get();
            sum
        };
        let counts: Vec<_> = self.within.iter().map(&mut up_to).collect();
        let count = up_to(&self.beyond);
        let buckets = BOUNDS.into_iter().zip(counts).collect();
        (buckets, count, Duration::from_millis(self.sum_ms.get()).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_longest_is_in_no_bucket_but_the_last() {
        let freshness = Freshness::default();
        freshness.see(&[1_000, 975], 1_025);
        // The clock of those that wrote may be ahead.
        freshness.see(&[9_000], 1_030);
        freshness.see(&[0], 2_000_000);
        freshness.see(&[], 3_000_000);
        let (buckets, count, sum) = freshness.counted();
        let within = |bound| buckets.iter().find(|(at, _)| *at == bound).map(|(_, count)| *count);
        assert_eq!((within(0.01), within(0.025), within(0.05)), (Some(1), Some(2), Some(3)));
        assert_eq!((within(1800.0), count, sum), (Some(3), 4, 2000.075));
    }
}
