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
//! if that is less, later; `why` names the frontier that stands and what holds it. It ought to move
//! when a closed time waits for the shard's upper, when it hydrates, and when its workers are asked
//! to run: a program has to step them that often. It is `running` or `idle` again by itself as soon
//! as something moves.
//!
//! So is one whose source has begun a unit or a copy, and for so long has handed over neither more of it
//! nor its end; as long as more comes it is `running`, however large the unit. And one whose source does
//! not answer, at once: from the second attempt in a row that fails until one succeeds.
//!
//! So it is when the store has not answered an operation for that long, whether or not anything waits
//! for it: `why` says which, where, for how long, and what it said last; from a sixth of that time on,
//! while it is not stalled. It goes on trying, for [`outage_max`](crate::shard::HandleConfig::outage_max), and has failed only
//! then.
//!
//! The watchdog runs beside the workers, so it sees one that hangs; and it ends with the pipeline.

pub(crate) mod convert;
pub(crate) mod errors;
mod in_error;
mod judge;
mod report;
mod seen;
mod signs;
mod staged;
mod status;
mod vitals;
mod watchdog;

use std::sync::Arc;

use crate::error::Error;

pub use report::{HealthReport, HealthState, KeysInError, Role, SourceLag};
#[cfg(feature = "http")]
pub(crate) use seen::{Holder, Seen, Stuck};
pub(crate) use status::Status;
pub(crate) use vitals::{Pipelines, Process, Vitals};
pub(crate) use watchdog::watch;

/// Watches a pipeline, from any thread; cheap to clone.
///
/// It sees all workers of this process that were built on clones of one
/// [`Shard`](crate::Shard). What it says of frontiers is what one of them sees, which for
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
        self.reported(judge::judge(&self.process.signs(&self.vitals)))
    }

    /// Adds what no state follows from.
    fn reported(&self, report: HealthReport) -> HealthReport {
        HealthReport { errors: self.process.in_error(), ..report }
    }

    /// Returns the loop now, as this worker sees it.
    #[cfg(feature = "http")]
    pub(crate) fn see(&self) -> Seen {
        let signs = self.process.signs(&self.vitals);
        let appending = signs.interval().filter(|interval| interval.appending);
        let (report, stuck) = judge::judged(&signs);
        Seen {
            waits: judge::waits(&signs, &report),
            report: self.reported(report),
            process: signs.process(),
            stuck,
            feedback: signs.workers.iter().map(|worker| worker.read_to).min().unwrap_or(0),
            least: signs.workers.iter().filter_map(|worker| worker.least).min(),
            append: appending.map(|it| (it.lower, it.upper, signs.measured.in_flight)),
        }
    }

    /// Returns whether it writes.
    pub fn role(&self) -> Role {
        self.process.role()
    }

    /// Returns the first error of this worker's part, if it has failed.
    pub fn error(&self) -> Option<Error> {
        self.vitals.error()
    }

    /// Whether all that was closed on the source is in the shard, but for what the operator has failed in and what comes
    /// after that, on this worker; or never will be, because more than these has failed, or an operator of a standby. After an
    /// error, the moment to drop the token, which stops all workers.
    pub fn is_settled(&self) -> bool {
        self.vitals.is_broken() || self.process.handle.state().upper >= self.vitals.settles_at()
    }

    /// Whether the input has ended and all of it is in the shard. False after a stop.
    pub fn has_ended(&self) -> bool {
        self.vitals.has_ended()
    }
}
