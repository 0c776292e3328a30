//! Owns what a pipeline says of itself: [`Health`], readable from any thread, and the one state that
//! its frontiers add up to. It does not own the frontiers, and it decides nothing.
//!
//! ```text
//!   operators, tasks --report--> Vitals (one per worker) <--pulse, clock-- watchdog (one task)
//!                                   |                                         |
//!                                   '---- judge: one pure function ---------->'--> one log line
//!                                              |                                   per change
//!                                              '--> Health::report
//! ```
//!
//! # Stalled
//!
//! A pipeline that ought to move and does not is `stalled` after
//! [`stall_after`](crate::PipelineConfig::stall_after), at the latest a fifth of it, or two seconds
//! if that is less, later; `why` names the frontier that stands and who holds it. It ought to move
//! when a closed time waits for the shard's upper, when it hydrates, and when its workers are asked
//! to run: a program has to step them that often. It is `running` or `idle` again by itself as soon
//! as something moves.
//!
//! So is one whose source has begun a unit or a copy, and for so long has handed over neither more of it
//! nor its end; as long as more comes it is `running`, however large the unit. And one whose source does
//! not answer, at once: from the second attempt in a row that fails until one succeeds.
//!
//! So it is when the store has not answered an operation for that long, whether or not anything waits
//! for it: `why` says which, where, for how long, and what it said last. It goes on trying, for
//! [`outage_max`](crate::shard::HandleConfig::outage_max), and has failed only then.
//!
//! The watchdog runs beside the workers, so it sees one that hangs; and it ends with the pipeline.

pub(crate) mod convert;
mod judge;
mod staged;
mod status;
mod vitals;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;

pub(crate) use status::{Status, fenced};
pub(crate) use vitals::{Interval, Pipelines, Process, Vitals};
pub(crate) use watchdog::watch;

/// What a pipeline is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthState {
    /// It reads the shard to know the prior values.
    Hydrating,
    /// A closed time is on its way into the shard, rows wait for their time to be closed, or a unit or a
    /// copy of the source for its end.
    Running,
    /// Everything received from the source is in the shard.
    Idle,
    /// The shard is ahead of this pipeline's input.
    Lagging,
    /// It ought to move, and has not for too long.
    Stalled,
    /// A newer writer has taken over; it holds still.
    Fenced,
    /// It has stopped on an error and holds still.
    Failed,
    /// It has stopped, at the end of its input or because it was told to.
    Finished,
}

impl HealthState {
    /// All of them.
    pub const ALL: [HealthState; 8] = [
        HealthState::Hydrating,
        HealthState::Running,
        HealthState::Idle,
        HealthState::Lagging,
        HealthState::Stalled,
        HealthState::Fenced,
        HealthState::Failed,
        HealthState::Finished,
    ];

    /// Returns its name, as in a report.
    pub fn name(self) -> &'static str {
        match self {
            HealthState::Hydrating => "hydrating",
            HealthState::Running => "running",
            HealthState::Idle => "idle",
            HealthState::Lagging => "lagging",
            HealthState::Stalled => "stalled",
            HealthState::Fenced => "fenced",
            HealthState::Failed => "failed",
            HealthState::Finished => "finished",
        }
    }

    /// Whether somebody has to look: stalled, fenced or failed.
    pub fn is_trouble(self) -> bool {
        matches!(self, HealthState::Stalled | HealthState::Fenced | HealthState::Failed)
    }
}

/// Whether a pipeline writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It appends.
    #[default]
    Writer,
    /// It follows, and appends nothing.
    Standby,
    /// It reads, and has nothing to append.
    Reader,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Writer, Role::Standby, Role::Reader];

    /// Returns its name, as in a report.
    pub fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Standby => "standby",
            Role::Reader => "reader",
        }
    }
}

/// A pipeline's health at one moment. Serialized, its members keep this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether it writes.
    pub role: Role,
    /// What it is doing.
    pub state: HealthState,
    /// The input frontier: times below it are closed on the source.
    pub input: u64,
    /// The shard's upper, as last read.
    pub upper: u64,
    /// The frontier of the updates: times below it have been emitted.
    pub output: u64,
    /// How far the shard is behind the input, in units of time.
    pub behind: u64,
    /// The shard's since.
    pub since: u64,
    /// Why, where that needs words.
    pub why: Option<String>,
}

/// Watches a pipeline, from any thread; cheap to clone.
///
/// It sees all workers of this process that were built on clones of one
/// [`Shard`](crate::shard::Shard). What it says of frontiers is what one of them sees, which for
/// frontiers is the same on all.
///
/// # Examples
///
/// ```
/// use differential_upsert::health::HealthState;
/// use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
/// use timely::dataflow::operators::Input;
///
/// let shard = Shard::<String, u64>::open("mem:")?;
/// let health = timely::execute_directly(move |worker| {
///     let (mut feed, token, health) = worker.dataflow(|scope| {
///         let (input, commands) = scope.new_input();
///         let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
///         (input, pipeline.token, pipeline.health)
///     });
///     assert_eq!(health.report().state, HealthState::Hydrating);
///     feed.send((Command::put("apples".to_string(), 3, 0), 0));
///     feed.close();
///     while worker.has_dataflows() {
///         worker.step_or_park(None);
///     }
///     drop(token);
///     health
/// });
/// // Another thread than the worker's would see the same.
/// let report = std::thread::spawn(move || health.report()).join().unwrap();
/// assert_eq!((report.state, report.input, report.upper), (HealthState::Finished, 1, 1));
/// # Ok::<(), differential_upsert::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Health {
    pub(crate) process: Arc<Process>,
    pub(crate) vitals: Arc<Vitals>,
}

impl Health {
    /// Returns the health now: this worker's, and any trouble of the process's other workers.
    /// O(workers).
    pub fn report(&self) -> HealthReport {
        judge::judge(&self.process.signs(&self.vitals))
    }

    /// Returns whether it writes.
    pub fn role(&self) -> Role {
        self.process.role()
    }

    /// Returns the first error of this worker's part, if it has failed.
    pub fn error(&self) -> Option<Error> {
        self.vitals.error()
    }

    /// Whether all that was closed on the source is in the shard, or never will be because more
    /// than the source has failed. After an error, the moment to drop the token.
    pub fn is_settled(&self) -> bool {
        self.vitals.is_broken() || self.process.handle.state().upper >= self.vitals.closed()
    }

    /// Whether the input has ended and all of it is in the shard. False after a stop.
    pub fn has_ended(&self) -> bool {
        self.vitals.has_ended()
    }
}

/// Writes a time as a reader of a report wants it.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        whole => format!("{whole} s"),
    }
}
