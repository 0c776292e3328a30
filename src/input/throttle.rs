//! Owns a rate: at most N lines, or rows, per second. It does not own waiting; its caller sends first
//! what it has, and then [sleeps](super::blocking::sleep).

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// Time that a late line may make up for. Without it every late wake-up would lower the rate; with
/// more of it a feed that was silent would come in a burst.
const CREDIT: Duration = Duration::from_millis(10);

/// A schedule of lines, one every 1/N seconds. Its clock is tokio's.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    due: Instant,
}

impl Throttle {
    /// Returns a schedule of so many lines per second, the first one at once.
    pub fn new(lines_per_second: NonZeroU64) -> Throttle {
        let every = Duration::from_secs_f64(1.0 / lines_per_second.get() as f64);
        let due = Instant::now();
        Throttle { every, due }
    }

    /// Takes the next line's place in the schedule and returns how long it is until then; `None` if the
    /// line is due. A line that is up to 10 ms late is made up for.
    pub fn next_wait(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(CREDIT).unwrap_or(now));
        let wait = self.due.checked_duration_since(now);
        self.due += self.every;
        wait.filter(|wait| !wait.is_zero())
    }
}
