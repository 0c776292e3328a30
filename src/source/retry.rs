//! Owns the decision after every attempt: stop, connect again, copy anew, or give up. Pure; it does not
//! wait, and it does not know transports.
//!
//! The order of the questions is the point. Who asked for the end comes first, then whose time it
//! was, and only then what the other side said: "cancelled" can be anybody's word.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fastrand::Rng;

use super::Failure;
use crate::error::{Error, ErrorKind};

/// What we know ourselves, whatever the other side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// We were told to stop.
    pub(super) cancelled: bool,
    /// The time that we gave to one connection is over.
    pub(super) late: bool,
    /// A boundary was reached since the connect.
    pub(super) progressed: bool,
    /// A unit was complete since the connect, and not only part of a copy made anew.
    pub(super) released: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The feed itself ended, or is where the run was to stop.
    End,
    /// The connection came to its end.
    Closed,
    /// It failed, or was cut.
    Failed(Failure),
}

/// What to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Return, at once.
    Stop,
    /// Return: complete.
    End,
    /// Connect again, after so long.
    Again(Duration),
    /// Copy everything anew, after so long.
    Anew(Duration),
    /// Return the error.
    Fail(Error),
}

/// What happens when the feed does not have what comes after the cursor any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPositionLost {
    /// Copy the whole feed anew, and replace everything in one step.
    Copy,
    /// Stop with the error.
    Fail,
}

/// How often and how fast a source is connected again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptConfig {
    /// Attempts in a row that reach no boundary, after which it gives up; at least 1. Default: 10.
    pub attempts_max: u32,
    /// The greatest delay after the first of them. Default: 100 ms.
    pub delay_min: Duration,
    /// The greatest delay after any. Default: 30 s.
    pub delay_max: Duration,
    /// How long a connection lives before another takes its place. One that reached no boundary counts
    /// as an attempt: not for feeds that may be still for so long. Default: as long as it likes.
    pub session_max: Option<Duration>,
    /// What to do when the feed has lost our position. Default: copy anew.
    pub on_position_lost: OnPositionLost,
    /// Copy everything anew, once, though the feed has our position: what is there is replaced in one
    /// step. Nothing to do in a shard without a cursor. Default: no.
    pub copy_anew: bool,
}

impl Default for AttemptConfig {
    fn default() -> Self {
        AttemptConfig {
            attempts_max: 10,
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
            session_max: None,
            on_position_lost: OnPositionLost::Copy,
            copy_anew: false,
        }
    }
}

/// The attempts in a row that reached no boundary, and the delays between them.
#[derive(Debug)]
pub(super) struct Budget {
    config: AttemptConfig,
    jitter: Rng,
    delays: ExponentialBackoff,
    spent: u32,
    /// How often the position was lost since a unit was complete: boundaries of a copy that is never
    /// complete are no progress.
    lost: u32,
}

impl Budget {
    pub(super) fn new(config: AttemptConfig, seed: u64) -> Self {
        let delays = delays(&config);
        Budget { config, jitter: Rng::with_seed(seed), delays, spent: 0, lost: 0 }
    }

    /// Returns how many attempts in a row reached no boundary.
    pub(super) fn spent(&self) -> u32 {
        self.spent
    }

    /// Decides, in this order: our own stop, an end, our own deadline, what is definite, and the rest,
    /// which may work again.
    pub(super) fn decide(&mut self, own: Own, outcome: Outcome) -> Step {
        if own.cancelled {
            return Step::Stop;
        }
        if own.progressed {
            (self.spent, self.delays) = (0, delays(&self.config));
        }
        if own.released {
            self.lost = 0;
        }
        let (lost, error) = match outcome {
            Outcome::End => return Step::End,
            // No fault of anybody's: at once, unless it would be for ever.
            _ if own.late && own.progressed => return Step::Again(Duration::ZERO),
            Outcome::Failed(Failure::Definite(error)) => return Step::Fail(error),
            Outcome::Failed(Failure::PositionLost(error)) => match self.config.on_position_lost {
                OnPositionLost::Copy => (true, error),
                OnPositionLost::Fail => return Step::Fail(error),
            },
            // Not a fault either, but a server that always closes must not be asked without end.
            Outcome::Closed if own.progressed => return Step::Again(self.config.delay_min),
            Outcome::Closed => (false, closed()),
            Outcome::Failed(Failure::Transient(error)) => (false, error),
        };
        self.spent += u32::from(!own.progressed);
        self.lost += u32::from(lost);
        let most = self.config.attempts_max.max(1);
        if self.spent >= most || self.lost > most {
            return Step::Fail(self.exhausted(&error));
        }
        let delay = self.delay();
        tracing::info!(attempts = self.spent, ?delay, %error, "the source is connected again");
        if lost { Step::Anew(delay) } else { Step::Again(delay) }
    }

    /// Full jitter: anything up to the exponential delay, so that many clients do not come at once.
    fn delay(&mut self) -> Duration {
        let delay = self.delays.next().unwrap_or(self.config.delay_max);
        delay.mul_f64(self.jitter.f64())
    }

    fn exhausted(&self, last: &Error) -> Error {
        let spent = self.spent.max(self.lost);
        let what = format!("gave up after {spent} attempts without progress: {}", last.what());
        let error = Error::new(ErrorKind::Unavailable, what).because(last.clone());
        let error = match last.place() {
            Some(place) => error.at(place),
            None => error,
        };
        error.hint("see that the source works, and start again; the cursor has not moved")
    }
}

fn delays(config: &AttemptConfig) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(config.delay_min)
        .with_max_delay(config.delay_max)
        .without_max_times()
        .build()
}

/// The error of a connection that ended well, and too early.
fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the source closed the connection before the feed's end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Outcome {
        Outcome::Failed(Failure::Transient(Error::new(ErrorKind::Unavailable, "cancelled")))
    }

    fn own(cancelled: bool, late: bool, progressed: bool) -> Own {
        Own { cancelled, late, progressed, released: progressed }
    }

    fn budget(seed: u64) -> Budget {
        Budget::new(AttemptConfig::default(), seed)
    }

    #[test]
    fn our_own_stop_comes_before_everything() {
        let definite =
            || Outcome::Failed(Failure::Definite(Error::new(ErrorKind::Invalid, "no such table")));
        for outcome in [transient(), definite(), Outcome::Closed, Outcome::End] {
            let step = budget(0).decide(own(true, true, true), outcome);
            assert!(matches!(step, Step::Stop), "{step:?}");
        }
        let step = budget(0).decide(own(false, false, true), definite());
        assert!(matches!(step, Step::Fail(_)), "{step:?}");
    }

    #[test]
    fn our_own_deadline_is_no_failure_if_there_was_progress() {
        let mut budget = budget(0);
        for _ in 0..1000 {
            let step = budget.decide(own(false, true, true), transient());
            assert!(matches!(step, Step::Again(Duration::ZERO)), "{step:?}");
        }
        let step = budget.decide(own(false, true, false), transient());
        assert!(matches!(step, Step::Again(_)), "{step:?}");
        assert_eq!(budget.spent(), 1);
    }

    #[test]
    fn a_clean_end_is_never_completion() {
        let mut budget = budget(0);
        let step = budget.decide(own(false, false, true), Outcome::Closed);
        assert!(matches!(step, Step::Again(delay) if delay > Duration::ZERO), "{step:?}");
        for _ in 1..10 {
            let step = budget.decide(own(false, false, false), Outcome::Closed);
            assert!(matches!(step, Step::Again(_)), "{step:?}");
        }
        let step = budget.decide(own(false, false, false), Outcome::Closed);
        let Step::Fail(error) = step else { panic!("{step:?}") };
        assert!(error.to_string().contains("after 10 attempts without progress"), "{error}");
    }

    #[test]
    fn delays_are_the_same_for_a_seed_and_stay_within_bounds() {
        let delays = |seed| {
            let config = AttemptConfig { attempts_max: 40, ..AttemptConfig::default() };
            let mut budget = Budget::new(config, seed);
            let mut delays = Vec::new();
            for attempt in 0..39 {
                let Step::Again(delay) = budget.decide(own(false, false, false), transient())
                else {
                    panic!("gave up early");
                };
                let most = Duration::from_millis(100).saturating_mul(1 << attempt.min(20));
                assert!(delay <= most.min(Duration::from_secs(30)), "{attempt}: {delay:?}");
                delays.push(delay);
            }
            delays
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }
}
