//! Owns the cells that a pipeline's parts report into, shared between threads: [`Vitals`], one per
//! worker, and [`Process`], a pipeline's workers in this process. It does not own what they add up
//! to.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use timely::scheduling::SyncActivator;
use tokio::sync::Notify;

use super::in_error::InError;
use super::report::{HealthState, KeysInError, Role, SourceLag};
use super::signs::{Interval, Measured, Signs, WorkerSigns};
use super::staged::StagedSigns;
use crate::control::epoch::Epoch;
use crate::control::lifecycle::{Phase, PhaseWatch};
use crate::control::waking::Sleepers;
use crate::error::Error;
use crate::shard::Handle;
use crate::source::SourceStats;
use crate::upsert::{StatePlaces, UpsertStats};

/// Stands for no time.
const NONE: u64 = u64::MAX;

/// What one worker's part of a pipeline reports.
#[derive(Debug)]
pub(crate) struct Vitals {
    pub(crate) worker: usize,
    pub(crate) stats: UpsertStats,
    phase: PhaseWatch,
    /// The input frontier: as the source closes it, and as the operator sees it. The first is there
    /// on the source's worker only, the second lags it a little.
    closed: AtomicU64,
    seen: AtomicU64,
    output: AtomicU64,
    least: AtomicU64,
    /// The feedback frontier: as this worker's reader sends it, and as the operator sees it, which
    /// is the least of all readers.
    read_to: AtomicU64,
    complete: AtomicU64,
    parts_found: AtomicU64,
    parts_read: AtomicU64,
    parts_writing: AtomicU64,
    /// Keys whose value is an error, as read back.
    pub(crate) in_error: InError,
    hydrated: AtomicBool,
    broken: AtomicBool,
    /// The time in which the operator has failed; it has emitted all that is below.
    fails_at: AtomicU64,
    ended: AtomicBool,
    /// The dataflow is gone.
    gone: AtomicBool,
    interval: Mutex<Option<Interval>>,
    errors: Mutex<Errors>,
    /// Runs the operator that answers a pulse and passes errors on.
    operator: Sleepers,
    asked: AtomicU64,
    answered: AtomicU64,
    /// Tells the watchdog to look now.
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Errors {
    first: Option<Error>,
    unreported: VecDeque<Error>,
}

impl Vitals {
    fn new(worker: usize, stats: UpsertStats, phase: PhaseWatch, news: Arc<Notify>) -> Vitals {
        Vitals {
            worker,
            stats,
            phase,
            closed: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            output: AtomicU64::new(0),
            least: AtomicU64::new(NONE),
            read_to: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            parts_found: AtomicU64::new(0),
            parts_read: AtomicU64::new(0),
            parts_writing: AtomicU64::new(0),
            in_error: InError::default(),
            hydrated: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            fails_at: AtomicU64::new(NONE),
            ended: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            interval: Mutex::default(),
            errors: Mutex::default(),
            operator: Sleepers::default(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            news,
        }
    }

    pub(crate) fn set_closed(&self, input: u64) {
        self.closed.store(input, SeqCst);
    }

    /// Returns the input frontier, as far as this worker closes it.
    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(SeqCst)
    }

    pub(crate) fn set_output(&self, output: u64) {
        self.output.store(output, Relaxed);
    }

    /// Takes what the operator sees after a wake-up. An empty frontier leaves the last one.
    pub(crate) fn see(&self, least: Option<u64>, input: Option<u64>, complete: Option<u64>) {
        self.least.store(least.unwrap_or(NONE), Relaxed);
        if let Some(input) = input {
            self.seen.store(input, Relaxed);
        }
        if let Some(complete) = complete {
            self.complete.store(complete, Relaxed);
        }
    }

    /// Says that this worker's reader has sent all rows below a time.
    pub(crate) fn set_read_to(&self, upper: u64) {
        self.read_to.store(upper, Relaxed);
        self.hydrated.store(true, SeqCst);
    }

    /// Says that the reader has parts to read.
    pub(crate) fn found_parts(&self, more: usize) {
        self.parts_found.fetch_add(more as u64, Relaxed);
    }

    /// Says that the reader has read a part.
    pub(crate) fn read_part(&self) {
        self.parts_read.fetch_add(1, Relaxed);
    }

    /// Returns how many parts the reader had to read, and how many it has read.
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.parts_found.load(Relaxed), self.parts_read.load(Relaxed))
    }

    pub(crate) fn read_to(&self) -> u64 {
        self.read_to.load(Relaxed)
    }

    pub(crate) fn is_hydrated(&self) -> bool {
        self.hydrated.load(SeqCst)
    }

    /// Returns the least time that waits at the operator.
    pub(crate) fn least(&self) -> Option<u64> {
        Some(self.least.load(Relaxed)).filter(|least| *least != NONE)
    }

    /// Says that a part is being written.
    pub(crate) fn start_part(&self) {
        self.parts_writing.fetch_add(1, Relaxed);
    }

    /// Says that it is written, or has failed.
    pub(crate) fn end_part(&self) {
        self.parts_writing.fetch_sub(1, Relaxed);
    }

    /// Says what the sink has named; `None` when it is settled.
    pub(crate) fn set_interval(&self, interval: Option<Interval>) {
        *self.interval.lock() = interval;
    }

    /// Says that the interval's append is under way.
    pub(crate) fn set_appending(&self) {
        if let Some(interval) = &mut *self.interval.lock() {
            interval.appending = true;
        }
    }

    pub(crate) fn set_ended(&self) {
        self.ended.store(true, SeqCst);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    /// Says that the dataflow is gone.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, SeqCst);
        self.news.notify_one();
    }

    /// Whether it does nothing more.
    pub(crate) fn is_over(&self) -> bool {
        self.gone.load(SeqCst) || self.phase.get() == Phase::Released
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(SeqCst)
    }

    /// Returns the upper that there is nothing to wait for any more, once something has failed that is not broken.
    pub(crate) fn settles_at(&self) -> u64 {
        match self.fails_at.load(SeqCst) {
            NONE => self.closed(),
            time => time,
        }
    }

    /// Reports an error of the operator in a time. Those below it go on.
    pub(crate) fn fail_at(&self, time: u64, error: Error) {
        self.fails_at.store(time, SeqCst);
        self.fail_source(error);
    }

    /// Reports an error of a task, the sink or the shard. The part that failed holds.
    pub(crate) fn fail(&self, error: Error) {
        self.broken.store(true, SeqCst);
        self.fail_source(error);
    }

    /// Reports an error of the source. The first error is the one that shows.
    pub(crate) fn fail_source(&self, error: Error) {
        tracing::debug!(worker = self.worker, %error, "an error");
        {
            let mut errors = self.errors.lock();
            errors.first.get_or_insert_with(|| error.clone());
            errors.unreported.push_back(error);
        }
        self.operator.wake();
        self.news.notify_one();
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.errors.lock().first.clone()
    }

    pub(crate) fn next_error(&self) -> Option<Error> {
        self.errors.lock().unreported.pop_front()
    }

    /// Names the operator that answers a pulse and passes errors on.
    pub(crate) fn set_wake(&self, operator: SyncActivator) {
        self.operator.add(operator);
    }

    /// Asks the worker to run, if it has done so since it was last asked. Returns whether it had.
    pub(super) fn pulse(&self) -> bool {
        let asked = self.asked.load(SeqCst);
        let answered = self.answered.load(SeqCst) == asked;
        if answered {
            self.asked.store(asked + 1, SeqCst);
            self.operator.wake();
        }
        answered
    }

    /// Says that the worker runs.
    pub(crate) fn answer(&self) {
        self.answered.store(self.asked.load(SeqCst), SeqCst);
    }

    pub(super) fn signs(&self) -> WorkerSigns {
        let (parts_found, parts_read) = self.parts();
        WorkerSigns {
            worker: self.worker,
            input: self.closed().max(self.seen.load(Relaxed)),
            arrived: self.seen.load(Relaxed),
            output: self.output.load(Relaxed),
            least: self.least(),
            stash_rows: self.stats.stash_rows(),
            ahead: self.stats.overlay_bytes(),
            ahead_max: self.stats.overlay_bytes_max(),
            cold_waiting: self.stats.cold_waiting(),
            // One that is begun between the two looks counts as done for a moment.
            cold_done: self.stats.cold_reads().saturating_sub(self.stats.cold_waiting()),
            cold_waits: Duration::ZERO,
            read_to: self.read_to(),
            complete: self.complete.load(Relaxed),
            parts_found,
            parts_read,
            parts_writing: self.parts_writing.load(Relaxed),
            hydrated: self.is_hydrated(),
            ended: self.has_ended(),
            released: self.phase.get() == Phase::Released,
            stopping: self.phase.get() >= Phase::Stopping,
            gone: self.gone.load(SeqCst),
            answered: self.answered.load(SeqCst) == self.asked.load(SeqCst),
            interval: *self.interval.lock(),
            error: self.error(),
            silent: Duration::ZERO,
        }
    }
}

/// A pipeline's workers in this process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) handle: Handle,
    pub(super) stall_after: Duration,
    pub(super) news: Arc<Notify>,
    /// Which dataflow of a worker it is, and of how many workers.
    place: (usize, usize),
    role: AtomicU8,
    pub(crate) epoch: Epoch,
    pub(crate) source: SourceStats,
    members: Mutex<Vec<Arc<Vitals>>>,
    measured: Mutex<Measured>,
    /// What was last said in the log.
    pub(super) told: Mutex<Option<(Role, HealthState)>>,
}

impl Process {
    pub(crate) fn role(&self) -> Role {
        Role::ALL[usize::from(self.role.load(SeqCst))]
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.store(role as u8, SeqCst);
    }

    pub(crate) fn members(&self) -> Vec<Arc<Vitals>> {
        self.members.lock().clone()
    }

    pub(super) fn measured(&self) -> Measured {
        self.measured.lock().clone()
    }

    pub(super) fn set_measured(&self, measured: Measured) {
        *self.measured.lock() = measured;
    }

    /// Returns how long the shard's upper has stood, as last measured.
    pub(crate) fn upper_stands(&self) -> Duration {
        self.measured.lock().upper_stands
    }

    /// Returns what the source has handed over and has not ended, as old as it was when last looked at.
    pub(crate) fn staged(&self) -> StagedSigns {
        StagedSigns::of(&self.source.staged(), self.measured.lock().looked)
    }

    /// Returns where the rows of the workers' states are.
    pub(crate) fn state_places(&self) -> StatePlaces {
        self.members.lock().iter().map(|vitals| vitals.stats.state_places()).sum()
    }

    /// Returns how far the shard is behind the source.
    pub(crate) fn lag(&self) -> SourceLag {
        SourceLag::new(self.source.lag(), self.handle.now_ms())
    }

    /// Returns how many keys have an error for a value, and which; none where none has.
    pub(crate) fn in_error(&self) -> Option<KeysInError> {
        let members = self.members();
        let keys: i64 = members.iter().map(|vitals| vitals.in_error.count()).sum();
        let keys = u64::try_from(keys).ok().filter(|keys| *keys > 0)?;
        Some(KeysInError { keys, key: members.iter().find_map(|v| v.in_error.known()) })
    }

    /// Collects everything that a report is made of, as one worker sees it.
    pub(super) fn signs(&self, own: &Vitals) -> Signs {
        let (state, measured) = (self.handle.state(), self.measured());
        let mut workers: Vec<WorkerSigns> = self.members().iter().map(|v| v.signs()).collect();
        workers.sort_by_key(|signs| signs.worker != own.worker);
        for signs in &mut workers {
            let silent = measured.silent.iter().find(|(worker, _)| *worker == signs.worker);
            // One that has answered meanwhile is not silent any more.
            signs.silent = silent.filter(|_| !signs.answered).map_or(Duration::ZERO, |s| s.1);
            // Nor does one wait for rows in vain of which some have come meanwhile.
            let cold = (signs.worker, signs.cold_done);
            let waits = measured.cold.iter().find(|(worker, done, _)| {
                (*worker, *done) == cold
                    || (*worker == cold.0 && crate::mutant::on("cold_come_unseen"))
            });
            signs.cold_waits = waits.map_or(Duration::ZERO, |waits| waits.2);
        }
        let store = measured.store.clone();
        Signs {
            role: self.role(),
            upper: state.upper,
            since: state.since,
            stall_after: self.stall_after,
            measured,
            workers,
            peers: self.place.1,
            unbound: self.source.unbound_units(),
            staged: self.staged(),
            trouble: self.source.troubles(),
            lag: self.lag(),
            // As long as it is one: an answer ends it at once.
            store: store.filter(|trouble| self.handle.is_in(trouble)),
        }
    }
}

/// Where the workers of a pipeline find each other: all clones of a shard share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipelines(Arc<Mutex<Vec<Weak<Process>>>>);

impl Pipelines {
    /// Adds a worker's part to the pipeline that still lacks this worker, or begins one. Returns
    /// whether it has begun one.
    pub(crate) fn join(
        &self,
        place: (usize, usize),
        worker: usize,
        (stats, phase): (UpsertStats, PhaseWatch),
        handle: &Handle,
        stall_after: Duration,
        (role, epoch): (Role, Epoch),
    ) -> (Arc<Process>, Arc<Vitals>, bool) {
        let mut pipelines = self.0.lock();
        pipelines.retain(|pipeline| pipeline.strong_count() > 0);
        let lacks = |process: &Arc<Process>| {
            process.place == place && process.members().iter().all(|v| v.worker != worker)
        };
        let found = pipelines.iter().filter_map(Weak::upgrade).find(lacks);
        let begun = found.is_none();
        let process = found.unwrap_or_else(|| {
            let clock = handle.clone();
            let process = Arc::new(Process {
                handle: handle.clone(),
                stall_after,
                news: Arc::default(),
                place,
                role: AtomicU8::new(role as u8),
                epoch,
                source: SourceStats::timed(move || clock.now_ms()),
                members: Mutex::default(),
                measured: Mutex::default(),
                told: Mutex::default(),
            });
            pipelines.push(Arc::downgrade(&process));
            process
        });
        let vitals = Arc::new(Vitals::new(worker, stats, phase, Arc::clone(&process.news)));
        process.members.lock().push(Arc::clone(&vitals));
        (process, vitals, begun)
    }
}
