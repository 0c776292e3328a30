//! Owns the delays between attempts at what has failed: how they grow, and what sets them back. Pure:
//! it reads no clock, waits for nothing, and does not know what is attempted.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fastrand::Rng;

/// Exponential delays with full jitter: each is anything up to twice the bound of the one before, so
/// that many clients do not come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    bounds: (Duration, Duration),
    delays: ExponentialBackoff,
    jitter: Rng,
    /// The delay before the present attempt.
    last: Duration,
}

impl Backoff {
    /// The first delay is at most `min`, none is more than `max`.
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        let bounds = (min, max);
        let (delays, jitter) = (growing(bounds), Rng::with_seed(seed));
        Backoff { bounds, delays, jitter, last: Duration::ZERO }
    }

    /// Says that the present attempt did well for so long. If that is longer than the delay before it,
    /// the delays begin anew. What lives for less than it waits must not be tried any faster.
    pub(crate) fn lived(&mut self, time: Duration) {
        if time > self.last {
            self.delays = growing(self.bounds);
        }
    }

    /// Returns the delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = self.delays.next().unwrap_or(self.bounds.1);
        self.last = bound.mul_f64(self.jitter.f64());
        self.last
    }
}

/// Returns delays that grow from `min` to `max`, each twice the one before, without end.
pub(crate) fn growing((min, max): (Duration, Duration)) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(min)
        .with_max_delay(max)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn delays_grow_until_an_attempt_outlives_the_one_before_it() {
        let mut backoff = Backoff::new(MIN, MAX, 1);
        let grown: Vec<Duration> = (0..40).map(|_| backoff.next_delay()).collect();
        for (attempt, delay) in grown.iter().enumerate() {
            let bound = MIN.saturating_mul(1 << attempt.min(20)).min(MAX);
            assert!(*delay <= bound, "{attempt}: {delay:?}");
        }
        assert!(grown[20..].iter().any(|delay| *delay > MAX / 2), "{grown:?}");
        let last = *grown.last().unwrap();
        backoff.lived(last);
        let next: Vec<Duration> = (0..8).map(|_| backoff.next_delay()).collect();
        assert!(next.iter().any(|delay| *delay > MIN), "it lived no longer: {next:?}");
        let last = *next.last().unwrap();
        backoff.lived(last + Duration::from_millis(1));
        assert!(backoff.next_delay() <= MIN);
    }
}
