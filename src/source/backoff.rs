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
        let (delays, jitter) = (delays(bounds), Rng::with_seed(seed));
        Backoff { bounds, delays, jitter, last: Duration::ZERO }
    }

    /// Says that the present attempt did well for so long. If that is longer than the delay before it,
    /// the delays begin anew. What lives for less than it waits must not be tried any faster.
    pub(crate) fn lived(&mut self, time: Duration) {
        if time > self.last {
            self.delays = delays(self.bounds);
        }
    }

    /// Returns the delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = self.delays.next().unwrap_or(self.bounds.1);
        self.last = bound.mul_f64(self.jitter.f64());
        self.last
    }
}

fn delays((min, max): (Duration, Duration)) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(min)
        .with_max_delay(max)
        .without_max_times()
        .build()
}

/// Starts in a row of what ended early, and the delay before it is started again.
const STARTS_MAX: u32 = 10;
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// When a pipeline whose lease was lost ([`LeaseLost`](crate::ErrorKind::LeaseLost)) is started again:
/// after a while, and not for ever. Each start writes to the shard, so one that ends at once again and
/// again would fill it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use differential_upsert::Restarts;
///
/// let mut restarts = Restarts::new(7);
/// let day = Duration::from_secs(86_400);
/// assert!(restarts.after(day).is_some(), "a process that slept");
/// let delays: Vec<_> = std::iter::from_fn(|| restarts.after(Duration::ZERO)).collect();
/// assert_eq!(delays.len(), 9, "ten in a row, and no more");
/// assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(30)));
/// ```
#[derive(Debug)]
pub struct Restarts {
    backoff: Backoff,
    /// Starts in a row that did not live long.
    spent: u32,
}

impl Restarts {
    /// Begins to count. The seed is that of the jitter of delays.
    pub fn new(seed: u64) -> Restarts {
        Restarts { backoff: Backoff::new(DELAY_MIN, DELAY_MAX, seed), spent: 0 }
    }

    /// Returns how long to wait before the next start, at most 30 s; or `None` if ten in a row have
    /// lived for less than that. `lived` is how long the last one lived.
    pub fn after(&mut self, lived: Duration) -> Option<Duration> {
        if lived > DELAY_MAX {
            self.spent = 0;
            self.backoff.lived(lived);
        }
        self.spent += 1;
        (self.spent <= STARTS_MAX).then(|| self.backoff.next_delay())
    }
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

    #[test]
    fn what_ends_at_once_is_started_so_often_and_no_more() {
        let mut restarts = Restarts::new(3);
        let start = |restarts: &mut Restarts, lived| restarts.after(lived).is_some();
        (0..10).for_each(|_| assert!(start(&mut restarts, Duration::ZERO)));
        assert!(!start(&mut restarts, MAX), "not longer than the greatest delay");
        assert!(start(&mut restarts, MAX + MIN));
        // It spaces them: ten take some seconds at the least.
        for seed in 0..100 {
            let mut restarts = Restarts::new(seed);
            let all: Duration = std::iter::from_fn(|| restarts.after(Duration::ZERO)).sum();
            assert!(all > Duration::from_secs(3), "seed {seed}: {all:?}");
        }
    }
}
