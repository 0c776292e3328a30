//! Owns when a pipeline that has ended early is started again: after which delay, and how often. Pure; it
//! waits for nothing, and does not know what is started.

use std::time::Duration;

use crate::backoff::Backoff;

/// Starts in a row of what ended early, and the delay before it is started again.
const STARTS_MAX: u32 = 10;
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// When a pipeline whose lease was lost ([`LeaseLost`](crate::ErrorKind::LeaseLost)), or what it kept of its state
/// ([`StateLost`](crate::ErrorKind::StateLost)), is started again: after a while, and not for ever. Each start writes to the
/// shard, so one that ends at once again and again would fill it.
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

    #[test]
    fn what_ends_at_once_is_started_so_often_and_no_more() {
        let mut restarts = Restarts::new(3);
        let start = |restarts: &mut Restarts, lived| restarts.after(lived).is_some();
        (0..10).for_each(|_| assert!(start(&mut restarts, Duration::ZERO)));
        assert!(!start(&mut restarts, DELAY_MAX), "not longer than the greatest delay");
        assert!(start(&mut restarts, DELAY_MAX + DELAY_MIN));
        // It spaces them: ten take some seconds at the least.
        for seed in 0..100 {
            let mut restarts = Restarts::new(seed);
            let all: Duration = std::iter::from_fn(|| restarts.after(Duration::ZERO)).sum();
            assert!(all > Duration::from_secs(3), "seed {seed}: {all:?}");
        }
    }
}
