//! Owns the decision after every attempt: stop, connect again, copy anew, or give up. Pure; it does not
//! wait, it does not know transports, and it reads no clock.
//!
//! The order of the questions is the point. Who asked for the end comes first, then whose time it
//! was, and only then what the other side said: "cancelled" can be anybody's word.
//!
//! # Budgets
//!
//! Each partition has its own, or one that makes boundaries would pay for one that fails for ever. An
//! attempt is charged to the partitions that reached no boundary in it; to one alone, if the source says
//! [which](super::Source::failed_partition). Two things are told apart:
//!
//! * *Poison*: a unit was under way, and failed at the place where it did before. That is counted: trying
//!   again does not help.
//! * Everything else, the transport above all, is an *outage*, which has a time: an outage ends by itself
//!   or does not, however often one asks. Time in which the rows of a unit come in is not counted: a unit
//!   may be large, and is cut at another place each time.
//!
//! A session in which a partition had nothing to say is a success of it if it lived for longer than the
//! greatest delay: a table may be idle for days behind a proxy that closes politely.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Failure;
use super::by_partition::{Partition, named};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, at_least, in_order};

/// What we know ourselves, whatever the other side says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// We were told to stop.
    pub(super) cancelled: bool,
    /// The time that we gave to one connection is over.
    pub(super) late: bool,
    /// A unit was complete since the connect, and not only part of a copy made anew.
    pub(super) released: bool,
    /// From the end of the attempt before until it was connected, or was not.
    pub(super) waited: Duration,
    /// How long the connection lived; zero if there was none.
    pub(super) lived: Duration,
    /// What became of each partition.
    pub(super) parts: Vec<Part>,
    /// The partition whose stream failed, if the source can tell.
    pub(super) blamed: Option<Partition>,
}

/// What became of a partition in one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: Partition,
    /// It reached a boundary beyond the last one. A message is none.
    pub(super) progressed: bool,
    /// Changes of the unit that was under way at the end.
    pub(super) staged: Option<u64>,
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
#[non_exhaustive]
pub enum OnPositionLost {
    /// Copy the whole feed anew, and replace everything in one step.
    Copy,
    /// Stop with the error.
    Fail,
}

/// How often, how long and how fast a source is connected again. Both budgets are each partition's
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptConfig {
    /// How often in a row a unit may fail at the same place, or the position be lost, before it gives
    /// up; at least 1. Default: 10.
    pub attempts_max: u32,
    /// How long a partition may go without success after a failure, before it gives up. Success is a
    /// boundary, or a connection that lived for longer than `delay_max` without having anything of it. 0:
    /// the first failure is the last. Default: 5 minutes.
    pub outage_max: Duration,
    /// The greatest delay after the first failure in a row. Default: 100 ms.
    pub delay_min: Duration,
    /// The greatest delay after any. They begin anew after a connection that did well for longer than the
    /// delay before it. Default: 30 s.
    pub delay_max: Duration,
    /// How long a connection lives before another takes its place. If it brings nothing and is not
    /// longer than `delay_max`, it counts as a failure: not for feeds that may be still for so long.
    /// Default: as long as it likes.
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
            outage_max: Duration::from_secs(300),
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
            session_max: None,
            on_position_lost: OnPositionLost::Copy,
            copy_anew: false,
        }
    }
}

impl AttemptConfig {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the field and its range.
    pub fn validate(&self) -> Result<(), Error> {
        at_least("attempts_max", self.attempts_max, 1)?;
        in_order(("delay_min", self.delay_min), ("delay_max", self.delay_max))?;
        let session = self.session_max.unwrap_or(Duration::MAX);
        at_least("session_max", session, Duration::from_nanos(1))
    }
}

/// What a partition has spent since its last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    /// Attempts in a row.
    attempts: u32,
    /// Since the first of them failed, but for the time in which a unit came in.
    time: Duration,
    /// Where the last unit under way failed: after how many changes; and how often in a row there.
    place: Option<u64>,
    times: u32,
}

/// The budgets of all partitions, and the delays between attempts.
#[derive(Debug)]
pub(super) struct Budget {
    config: AttemptConfig,
    backoff: Backoff,
    /// Those that have failed since their last success.
    spent: BTreeMap<Partition, Spent>,
    /// How often the position was lost since a unit was complete: boundaries of a copy that is never
    /// complete do not count as progress.
    lost: u32,
}

impl Budget {
    pub(super) fn new(config: AttemptConfig, seed: u64) -> Self {
        let backoff = Backoff::new(config.delay_min, config.delay_max, seed);
        Budget { config, backoff, spent: BTreeMap::new(), lost: 0 }
    }

    /// Returns how many attempts in a row were without success, of the partition that has most.
    pub(super) fn spent(&self) -> u32 {
        self.spent.values().map(|spent| spent.attempts).max().unwrap_or(0)
    }

    /// Returns the partitions that have failed since their last success.
    pub(super) fn failing(&self) -> impl Iterator<Item = &Partition> {
        self.spent.keys()
    }

    /// Whether a unit of some partition was under way when it failed: being connected does not mend it.
    pub(super) fn is_poisoned(&self) -> bool {
        self.spent.values().any(|spent| spent.times > 0)
    }

    /// Says that a partition has reached a boundary beyond its last.
    pub(super) fn succeeded(&mut self, partition: &str) {
        self.spent.remove(partition);
    }

    /// Decides, in this order: our own stop, an end, our own deadline, what is definite, and the rest,
    /// which may work again.
    pub(super) fn decide(&mut self, own: &Own, outcome: Outcome) -> Step {
        if own.cancelled {
            return Step::Stop;
        }
        let long = own.lived > self.config.delay_max;
        let progressed = own.parts.iter().any(|part| part.progressed);
        // What was replaced by other partitions is gone, and owes nothing.
        let fails = |name: &Partition| {
            let same = |part: &&Part| part.name == *name;
            own.parts.iter().find(same).is_some_and(|part| !part.succeeded(long))
        };
        self.spent.retain(|name, _| fails(name));
        if own.released {
            self.lost = 0;
        }
        // Neither our own deadline nor a polite end is a fault of anybody's.
        let polite = own.late || matches!(outcome, Outcome::Closed);
        let blamed = own.blamed.as_ref().filter(|_| !polite);
        let charged = |part: &&Part| match part.staged {
            _ if part.succeeded(long) || blamed.is_some_and(|name| *name != part.name) => false,
            Some(_) => true,
            None => !(polite && progressed),
        };
        let charged: Vec<&Part> = own.parts.iter().filter(charged).collect();
        if progressed || (long && charged.is_empty()) {
            self.backoff.lived(own.lived);
        }
        let (lost, error) = match outcome {
            Outcome::End => return Step::End,
            // At once, unless it would be for ever.
            _ if own.late && charged.is_empty() => return Step::Again(Duration::ZERO),
            Outcome::Failed(Failure::Definite(error)) => return Step::Fail(error),
            Outcome::Failed(Failure::PositionLost(error)) => match self.config.on_position_lost {
                OnPositionLost::Copy => (true, error),
                OnPositionLost::Fail => return Step::Fail(error),
            },
            Outcome::Closed if crate::mutant::on("eof_is_end") => return Step::End,
            // A server that always closes must not be asked without end.
            Outcome::Closed if charged.is_empty() => {
                return Step::Again(self.backoff.next_delay().max(self.config.delay_min));
            }
            Outcome::Closed => (false, closed()),
            Outcome::Failed(Failure::Transient(error)) => (false, error),
        };
        if lost {
            // Another history, in which nothing has failed yet.
            self.spent.clear();
            self.lost += 1;
        } else if let Some(error) = self.charge(own, &charged, &error) {
            if crate::mutant::on("error_is_end") {
                return Step::End;
            }
            return Step::Fail(error);
        }
        if self.lost > self.config.attempts_max.max(1) {
            return Step::Fail(exhausted(&format!("{} lost positions", self.lost), None, &error));
        }
        let (delay, attempts) = (self.backoff.next_delay(), self.spent());
        tracing::info!(attempts, ?delay, %error, "the source is connected again");
        if lost { Step::Anew(delay) } else { Step::Again(delay) }
    }

    /// Charges a failed attempt to partitions. Returns the error if one has nothing left.
    fn charge(&mut self, own: &Own, parts: &[&Part], error: &Error) -> Option<Error> {
        let mut over: Option<(String, &Partition)> = None;
        for part in parts {
            let spent = self.spent.entry(part.name.clone()).or_default();
            spent.attempts += 1;
            if part.staged.is_some() && part.staged == spent.place {
                spent.times += 1;
            } else {
                if part.staged.is_some() {
                    (spent.place, spent.times) = (part.staged, 1);
                }
                if spent.attempts > 1 {
                    let idle = if part.staged.is_none() { own.lived } else { Duration::ZERO };
                    spent.time = spent.time.saturating_add(own.waited).saturating_add(idle);
                }
            }
            let after = if part.staged.is_some() && spent.times >= self.config.attempts_max.max(1) {
                format!("{} attempts", spent.times)
            } else if spent.time >= self.config.outage_max {
                format!("{} s and {} attempts", spent.time.as_secs(), spent.attempts)
            } else {
                continue;
            };
            over.get_or_insert((after, &part.name));
        }
        over.map(|(after, partition)| exhausted(&after, Some(partition), error))
    }
}

impl Part {
    /// Whether it did well in a session that was longer than the greatest delay, or was not.
    fn succeeded(&self, long: bool) -> bool {
        self.progressed || (long && self.staged.is_none())
    }
}

fn exhausted(after: &str, partition: Option<&Partition>, last: &Error) -> Error {
    let of = named(partition.into_iter());
    let what = format!("gave up after {after} without progress{of}: {}", last.what());
    let error = Error::new(ErrorKind::Unavailable, what).because(last.clone());
    let error = match last.place() {
        Some(place) => error.at(place),
        None => error,
    };
    error.hint("see that the source works, and start again; the cursor has not moved")
}

/// The error of a connection that ended well, and too early.
fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the source closed the connection before the feed's end")
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
