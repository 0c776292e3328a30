//! Owns `--throttle`: at most N lines per second. It does not own waiting in general.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use differential_upsert::Error;

use crate::stop::Stop;

/// Time that a late line may make up for. Without it every late wake-up would lower the rate; with
/// more of it a feed that was silent would come in a burst.
const CREDIT: Duration = Duration::from_millis(10);

/// The longest sleep between two looks at whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// A schedule of lines, one every 1/N seconds.
#[derive(Debug)]
pub(crate) struct Throttle {
    every: Duration,
    due: Instant,
}

impl Throttle {
    pub(crate) fn new(lines_per_second: NonZeroU64) -> Throttle {
        let every = Duration::from_secs_f64(1.0 / lines_per_second.get() as f64);
        let due = Instant::now();
        Throttle { every, due }
    }

    /// Takes the next line's place in the schedule and returns how long it is until then.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(CREDIT).unwrap_or(now));
        let wait = self.due.checked_duration_since(now);
        self.due += self.every;
        wait.filter(|wait| !wait.is_zero())
    }
}

/// Sleeps, unless told to stop.
pub(crate) fn sleep(duration: Duration, stop: &Stop) -> Result<(), Error> {
    let until = Instant::now() + duration;
    loop {
        stop.check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}
