//! Owns the signs of a pipeline: what is collected at one moment, from cells and from measurements, for
//! [`judge`](super::judge) to judge. Plain values; it does not own where they come from.

use std::time::Duration;

use tokio::time::Instant;

use super::report::{Role, SourceLag};
use super::staged::StagedSigns;
use crate::error::Error;
use crate::source::Trouble;
use crate::store;

/// An interval of times that the sink has named and not yet settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) lower: u64,
    pub(crate) upper: u64,
    /// Every worker's parts are there, and the append is under way.
    pub(crate) appending: bool,
}

/// What the watchdog has measured at its last look.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// What it saw of the pipeline's progress; another value now means that it moves.
    pub(super) progress: Progress,
    /// Since the shard's upper moved.
    pub(super) upper_stands: Duration,
    /// Since something waits and nothing has moved.
    pub(super) waits: Duration,
    /// What it saw of the readers that were behind the shard's upper.
    pub(super) reading: Option<Reading>,
    /// Since one is behind and none of those has read anything.
    pub(super) reading_waits: Duration,
    /// Since the interval in flight was named, or its append began.
    pub(super) in_flight: Duration,
    /// What has had no answer of the store for longest.
    pub(super) store: Option<store::Trouble>,
    /// Since each worker was asked to run and did not; by index, zero where there is none.
    pub(super) silent: Vec<(usize, Duration)>,
    /// How many rows each worker's operator had read from its state's file when it was first seen to wait for more and
    /// none coming, and since when; by index, absent where it does not wait.
    pub(super) cold: Vec<(usize, u64, Duration)>,
    /// When that was.
    pub(super) looked: Option<Instant>,
}

/// What moves when a pipeline moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) upper: u64,
    /// Parts read, while it hydrates.
    pub(super) parts_read: u64,
}

/// What moves when a reader that is behind the shard's upper reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    read_to: u64,
    parts_read: u64,
}

/// Everything that a report is made of. The worker that reports stands first.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    pub(super) role: Role,
    pub(super) upper: u64,
    pub(super) since: u64,
    pub(super) stall_after: Duration,
    pub(super) measured: Measured,
    pub(super) workers: Vec<WorkerSigns>,
    /// How many workers there are, those of the cluster's other processes too.
    pub(super) peers: usize,
    /// Complete units of the source that wait for a time.
    pub(super) unbound: u64,
    /// What it has handed over of incomplete units.
    pub(super) staged: StagedSigns,
    /// What is wrong with it, while it is tried again.
    pub(super) trouble: Option<Trouble>,
    /// What the store has not answered for longest.
    pub(super) store: Option<store::Trouble>,
    /// How far the shard is behind the source.
    pub(super) lag: SourceLag,
}

/// One worker's part; the fields are those of [`Vitals`](super::Vitals).
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerSigns {
    pub(super) worker: usize,
    pub(super) input: u64,
    /// That of its operator: times below it have come to all operators of the cluster.
    pub(super) arrived: u64,
    pub(super) output: u64,
    pub(super) least: Option<u64>,
    pub(super) stash_rows: u64,
    /// Bytes that its operator has emitted and not read back.
    pub(super) ahead: usize,
    /// The bound of that.
    pub(super) ahead_max: usize,
    /// Reads of rows, from the file of its state, that are under way.
    pub(super) cold_waiting: u64,
    /// Those that are done.
    pub(super) cold_done: u64,
    /// For how long none has been done of those that are under way.
    pub(super) cold_waits: Duration,
    pub(super) read_to: u64,
    pub(super) complete: u64,
    pub(super) parts_found: u64,
    pub(super) parts_read: u64,
    pub(super) parts_writing: u64,
    pub(super) hydrated: bool,
    pub(super) released: bool,
    /// The input has ended and all of it is in the shard.
    pub(super) ended: bool,
    pub(super) stopping: bool,
    pub(super) gone: bool,
    /// It has run since it was last asked to.
    pub(super) answered: bool,
    /// For how long it has not.
    pub(super) silent: Duration,
    pub(super) interval: Option<Interval>,
    pub(super) error: Option<Error>,
}

impl Signs {
    /// The input frontier: no worker sees further than the truth.
    pub(super) fn input(&self) -> u64 {
        if self.role == Role::Reader {
            // It has no other than what it reads.
            return self.workers.iter().map(|worker| worker.read_to).min().unwrap_or(0);
        }
        self.workers.iter().map(|worker| worker.input).max().unwrap_or(0)
    }

    pub(super) fn output(&self) -> u64 {
        if self.role == Role::Reader {
            return self.input();
        }
        self.workers.first().map_or(0, |worker| worker.output)
    }

    pub(super) fn is_hydrated(&self) -> bool {
        self.workers.iter().all(|worker| worker.hydrated)
    }

    /// Returns which process of its cluster this is, and of how many: each has as many workers. While not all of its own are
    /// here that may be `None`, or wrong for a moment.
    pub(super) fn process(&self) -> Option<(usize, usize)> {
        let (here, first) = (self.workers.len(), self.workers.first()?.worker);
        let is_here = |worker: &WorkerSigns| worker.worker / here == first / here;
        let whole = self.peers.is_multiple_of(here) && self.workers.iter().all(is_here);
        whole.then(|| (first / here, self.peers / here))
    }

    /// Names the other processes of the cluster, if there are any: the one, where it is one.
    pub(super) fn others(&self) -> Option<String> {
        (self.peers > self.workers.len()).then(|| match self.process() {
            Some((process, 2)) => format!("process {}", 1 - process),
            Some((process, of)) => format!("another process than {process}, of {of}"),
            None => "another process".to_string(),
        })
    }

    /// Returns what the store has not answered for so long that it is to be said: a sixth of the time that makes a stall.
    pub(super) fn waits_for_store(&self) -> Option<&store::Trouble> {
        self.store.as_ref().filter(|trouble| trouble.lasts >= self.stall_after / 6)
    }

    /// Returns the worker whose operator waits for rows of its state's file, for longest or for most of them.
    pub(super) fn waits_for_rows(&self) -> Option<&WorkerSigns> {
        let waits = |worker: &&WorkerSigns| worker.cold_waiting > 0;
        let longest = |worker: &&WorkerSigns| (worker.cold_waits, worker.cold_waiting);
        self.workers.iter().filter(waits).max_by_key(longest)
    }

    /// Returns what moves when the pipeline moves.
    pub(super) fn progress(&self) -> Progress {
        // Once hydrated, only the shard's upper counts: reading commits nothing.
        let parts = |worker: &WorkerSigns| if worker.hydrated { 0 } else { worker.parts_read };
        let parts_read = self.workers.iter().map(parts).sum();
        Progress { upper: self.upper, parts_read }
    }

    /// Returns how far the readers are that are behind the shard's upper, once all are hydrated. No commit waits for
    /// them where the operator runs ahead, so that the upper moves does not say that they do.
    pub(super) fn reading(&self) -> Option<Reading> {
        let behind = |worker: &&WorkerSigns| worker.read_to < self.upper;
        let behind = self.workers.iter().filter(behind).filter(|_| self.is_hydrated());
        behind.fold(None, |sum: Option<Reading>, worker| {
            let Reading { read_to, parts_read } =
                sum.unwrap_or(Reading { read_to: u64::MAX, parts_read: 0 });
            Some(Reading {
                read_to: read_to.min(worker.read_to),
                parts_read: parts_read + worker.parts_read,
            })
        })
    }

    /// Whether what is committed is not read back.
    pub(super) fn is_reading_stalled(&self) -> bool {
        let reading = self.reading();
        reading.is_some()
            && reading == self.measured.reading
            && self.measured.reading_waits >= self.stall_after
            && !crate::mutant::on("reader_unwatched")
    }

    /// Returns what the sink has in flight, if its worker is here.
    pub(super) fn interval(&self) -> Option<Interval> {
        self.workers.iter().find_map(|worker| worker.interval)
    }

    /// Returns the worker that has not run for longest, if that is long enough to hold the rest.
    pub(super) fn silent(&self) -> Option<&WorkerSigns> {
        let silent = |worker: &&WorkerSigns| worker.silent >= self.stall_after / 2;
        self.workers.iter().filter(silent).max_by_key(|worker| worker.silent)
    }

    pub(super) fn is_stalled(&self) -> bool {
        // Nothing has moved since the watchdog's last look either.
        let still = ought_to_move(self) && self.measured.progress == self.progress();
        (still && self.measured.waits >= self.stall_after)
            || self.workers.iter().any(|worker| worker.silent >= self.stall_after)
    }
}

/// Whether the pipeline waits for something of its own.
pub(super) fn ought_to_move(signs: &Signs) -> bool {
    !signs.is_hydrated() || signs.input() > signs.upper || signs.unbound > 0
}
