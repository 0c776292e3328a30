//! Owns what the signs of a pipeline add up to: its state, and why. It is one pure function of what
//! was collected; it reads neither cells nor a clock.

use std::time::Duration;

use super::vitals::{Interval, Measured, Progress};
use super::{HealthReport, HealthState, Role};
use crate::error::{Error, ErrorKind};

/// Everything that a report is made of. The worker that reports stands first.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    pub(super) role: Role,
    pub(super) upper: u64,
    pub(super) since: u64,
    pub(super) stall_after: Duration,
    pub(super) measured: Measured,
    pub(super) workers: Vec<WorkerSigns>,
    /// Complete units of the source that wait for a time.
    pub(super) unbound: u64,
    /// What is wrong with the source, while it is tried again.
    pub(super) trouble: Option<String>,
}

/// One worker's part; the fields are those of [`Vitals`](super::Vitals).
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerSigns {
    pub(super) worker: usize,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) least: Option<u64>,
    pub(super) stash_rows: u64,
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
    fn input(&self) -> u64 {
        self.workers.iter().map(|worker| worker.input).max().unwrap_or(0)
    }

    fn output(&self) -> u64 {
        self.workers.first().map_or(0, |worker| worker.output)
    }

    fn is_hydrated(&self) -> bool {
        self.workers.iter().all(|worker| worker.hydrated)
    }

    /// Returns what moves when the pipeline moves.
    pub(super) fn progress(&self) -> Progress {
        // Once hydrated, only the shard's upper counts: reading is no commit.
        let parts = |worker: &WorkerSigns| if worker.hydrated { 0 } else { worker.parts_read };
        let parts_read = self.workers.iter().map(parts).sum();
        Progress { upper: self.upper, parts_read }
    }

    /// Returns what the sink has in flight, if its worker is here.
    pub(super) fn interval(&self) -> Option<Interval> {
        self.workers.iter().find_map(|worker| worker.interval)
    }

    /// Returns the worker that has not run for longest, if that is long enough to hold the rest.
    fn silent(&self) -> Option<&WorkerSigns> {
        let silent = |worker: &&WorkerSigns| worker.silent >= self.stall_after / 2;
        self.workers.iter().filter(silent).max_by_key(|worker| worker.silent)
    }

    fn is_stalled(&self) -> bool {
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

/// Says what a pipeline is doing, and why.
pub(super) fn judge(signs: &Signs) -> HealthReport {
    let (state, why) = state(signs);
    // It goes on, and what keeps it from going faster is to be seen all the same.
    let why = why.or_else(|| signs.trouble.clone().filter(|_| state != HealthState::Finished));
    let (input, upper) = (signs.input(), signs.upper);
    HealthReport {
        role: signs.role,
        state,
        input,
        upper,
        output: signs.output(),
        behind: input.saturating_sub(upper),
        since: signs.since,
        why,
    }
}

fn state(signs: &Signs) -> (HealthState, Option<String>) {
    let (input, upper) = (signs.input(), signs.upper);
    // The reporting worker stands first, so its own error goes before another's.
    if let Some((worker, error)) =
        signs.workers.iter().find_map(|worker| Some((worker, worker.error.as_ref()?)))
    {
        let state = match error.kind() {
            ErrorKind::Fenced => HealthState::Fenced,
            _ => HealthState::Failed,
        };
        return (state, Some(format!("worker {}: {error}", worker.worker)));
    }
    if let Some(worker) = signs.workers.first().filter(|worker| worker.released) {
        let stopped = "it was told to stop before the end of its input";
        return (HealthState::Finished, (!worker.ended).then(|| stopped.into()));
    }
    if signs.workers.iter().any(|worker| worker.gone && !worker.released) {
        return (HealthState::Finished, Some("the dataflow was dropped before its end".into()));
    }
    if signs.is_stalled() {
        return (HealthState::Stalled, Some(stuck(signs)));
    }
    if !signs.is_hydrated() {
        return (HealthState::Hydrating, Some(parts(signs.workers.iter())));
    }
    // What lies below the upper is dropped at the next wake-up, and waits for nothing.
    let open = signs.workers.iter().filter_map(|worker| worker.least.filter(|t| *t >= upper)).min();
    match (input.cmp(&upper), open) {
        (std::cmp::Ordering::Less, _) => (HealthState::Lagging, None),
        (std::cmp::Ordering::Equal, None) if signs.unbound > 0 => {
            (HealthState::Running, Some("rows wait for their time to be bound".into()))
        }
        (std::cmp::Ordering::Equal, None) => (HealthState::Idle, None),
        (std::cmp::Ordering::Equal, Some(time)) => {
            let why = format!("rows of time {time} wait for the source to close it");
            (HealthState::Running, Some(why))
        }
        (std::cmp::Ordering::Greater, _) => (HealthState::Running, None),
    }
}

/// Says which frontier stands, and who holds it.
fn stuck(signs: &Signs) -> String {
    let (upper, waits) = (signs.upper, seconds(signs.measured.waits));
    let what = if signs.input() > upper {
        format!("the shard's upper stands at {upper} for {waits}: closed time {upper} waits; ")
    } else if !signs.is_hydrated() {
        format!("the contents below the shard's upper {upper} do not come in for {waits}; ")
    } else if signs.unbound > 0 {
        format!("{} units of the source wait for a time for {waits}; ", signs.unbound)
    } else {
        String::new()
    };
    let stopping = match signs.workers.iter().any(|worker| worker.stopping) {
        true => "; it was told to stop",
        false => "",
    };
    what + &holder(signs) + stopping
}

fn holder(signs: &Signs) -> String {
    let (upper, output) = (signs.upper, signs.output());
    if let Some(silent) = signs.silent() {
        let (worker, time) = (silent.worker, seconds(silent.silent));
        return format!("worker {worker} has not run for {time}");
    }
    let behind = |worker: &&WorkerSigns| !worker.hydrated || worker.read_to < upper;
    let reader = signs.workers.iter().filter(behind).min_by_key(|worker| worker.read_to);
    if let Some(WorkerSigns { worker, read_to, .. }) = reader {
        let parts = parts(signs.workers.iter().filter(behind));
        return format!(
            "the feedback frontier is {read_to}, behind the shard's upper {upper}: held by the \
             reader of worker {worker} ({parts})"
        );
    }
    if signs.role == Role::Standby {
        return "no writer: this is a standby, and nobody else appends".into();
    }
    if signs.unbound > 0 && signs.input() <= upper {
        return "nobody binds the next time".into();
    }
    if output <= upper {
        let holds = |worker: &&WorkerSigns| worker.least.is_some_and(|least| least <= upper);
        return match signs.workers.iter().filter(holds).min_by_key(|worker| worker.least) {
            Some(WorkerSigns { worker, stash_rows, complete, parts_writing, least, .. }) => {
                format!(
                    "the output frontier is {output}, held by the upsert operator of worker \
                     {worker} (stash: {stash_rows} commands, least time {}; feedback complete to \
                     {complete}; {parts_writing} parts being written)",
                    least.unwrap_or(upper),
                )
            }
            None => format!("the output frontier is {output}, held by another process"),
        };
    }
    let time = seconds(signs.measured.in_flight);
    let writes = signs.workers.iter().find(|worker| worker.parts_writing > 0);
    let sink = match (signs.interval(), writes) {
        (Some(Interval { lower, upper, appending: true }), _) => {
            format!(" (append of [{lower}, {upper}) in flight for {time})")
        }
        (Some(Interval { lower, upper, .. }), Some(WorkerSigns { worker, parts_writing, .. })) => {
            format!(
                " ([{lower}, {upper}) named {time} ago; worker {worker} still writes \
                 {parts_writing} parts)"
            )
        }
        (Some(Interval { lower, upper, .. }), None) => {
            format!(" ([{lower}, {upper}) named {time} ago; not every worker has answered)")
        }
        (None, _) if signs.workers.iter().any(|worker| worker.worker == 0) => {
            ", which names no interval".into()
        }
        (None, _) => ", on the process of worker 0".into(),
    };
    format!("the output frontier is {output}: held by the sink{sink}")
}

fn parts<'a>(workers: impl Iterator<Item = &'a WorkerSigns>) -> String {
    let (read, found) = workers.fold((0, 0), |(read, found), worker| {
        (read + worker.parts_read, found + worker.parts_found)
    });
    format!("{read} of {found} parts read")
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        whole => format!("{whole} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// A worker at rest, with all below 7 done.
    fn worker(worker: usize) -> WorkerSigns {
        let at = 7;
        WorkerSigns {
            worker,
            input: at,
            output: at,
            read_to: at,
            complete: at,
            hydrated: true,
            answered: true,
            ..WorkerSigns::default()
        }
    }

    fn signs(workers: Vec<WorkerSigns>) -> Signs {
        let mut signs = Signs {
            role: Role::Writer,
            upper: 7,
            since: 6,
            stall_after: STALL,
            measured: Measured::default(),
            workers,
            unbound: 0,
            trouble: None,
        };
        signs.measured.progress = signs.progress();
        signs
    }

    fn stalled(mut signs: Signs) -> String {
        signs.measured.waits = Duration::from_secs(61);
        signs.measured.in_flight = Duration::from_secs(61);
        let report = judge(&signs);
        assert_eq!(report.state, HealthState::Stalled, "{report:?}");
        report.why.unwrap()
    }

    fn closed(input: u64) -> WorkerSigns {
        WorkerSigns { input, output: input, ..worker(0) }
    }

    #[test]
    fn the_states_follow_the_frontiers() {
        use HealthState::*;
        let state = |worker: WorkerSigns| judge(&signs(vec![worker])).state;
        assert_eq!(state(worker(0)), Idle);
        assert_eq!(state(WorkerSigns { input: 6, ..worker(0) }), Lagging);
        assert_eq!(state(closed(9)), Running);
        assert_eq!(state(WorkerSigns { least: Some(7), ..worker(0) }), Running, "rows wait");
        assert_eq!(state(WorkerSigns { least: Some(6), ..worker(0) }), Idle, "shed soon");
        assert_eq!(state(WorkerSigns { hydrated: false, ..worker(0) }), Hydrating);
        assert_eq!(state(WorkerSigns { released: true, ..worker(0) }), Finished);
        assert_eq!(state(WorkerSigns { gone: true, ..worker(0) }), Finished);
        let ended = |ended| WorkerSigns { released: true, ended, ..worker(0) };
        assert_eq!(judge(&signs(vec![ended(true)])).why, None);
        let why = judge(&signs(vec![ended(false)])).why;
        assert_eq!(why.as_deref(), Some("it was told to stop before the end of its input"));
        let failed = |kind| Some(Error::new(kind, "it broke"));
        let broken = |kind| WorkerSigns { error: failed(kind), released: true, ..worker(0) };
        assert_eq!(state(broken(ErrorKind::Corrupt)), Failed, "an end is no excuse");
        assert_eq!(state(broken(ErrorKind::Fenced)), Fenced);
        let sibling = WorkerSigns { error: failed(ErrorKind::Corrupt), ..worker(1) };
        let report = judge(&signs(vec![worker(0), sibling]));
        assert_eq!((report.state, report.why.as_deref()), (Failed, Some("worker 1: it broke")));
    }

    #[test]
    fn nothing_is_stalled_that_waits_for_others() {
        for worker in [
            worker(0),
            WorkerSigns { input: 6, ..worker(0) },
            WorkerSigns { least: Some(7), ..worker(0) },
            WorkerSigns { released: true, ..closed(9) },
        ] {
            let mut signs = signs(vec![worker]);
            signs.measured.waits = STALL * 10;
            assert_ne!(judge(&signs).state, HealthState::Stalled, "{signs:?}");
        }
    }

    #[test]
    fn what_has_moved_since_the_last_look_is_not_stalled() {
        let mut moved = signs(vec![closed(9)]);
        moved.measured.waits = STALL;
        assert_eq!(judge(&moved).state, HealthState::Stalled);
        moved.upper = 8;
        assert_eq!(judge(&moved).state, HealthState::Running);
    }

    #[test]
    fn why_names_the_frontier_and_its_holder() {
        let upper = "the shard's upper stands at 7 for 61 s: closed time 7 waits; ";
        let held =
            WorkerSigns { input: 9, least: Some(7), stash_rows: 12, complete: 6, ..worker(0) };
        assert_eq!(
            stalled(signs(vec![held.clone()])),
            format!(
                "{upper}the output frontier is 7, held by the upsert operator of worker 0 (stash: \
                 12 commands, least time 7; feedback complete to 6; 0 parts being written)"
            )
        );
        let one = WorkerSigns { stash_rows: 5, ..held.clone() };
        let one = WorkerSigns { worker: 1, ..one };
        let none = WorkerSigns { least: None, ..held.clone() };
        assert!(stalled(signs(vec![none.clone(), one])).contains("operator of worker 1 (stash: 5"));
        assert!(stalled(signs(vec![none])).ends_with("is 7, held by another process"));

        let reader = WorkerSigns { read_to: 5, parts_found: 3, parts_read: 1, ..held.clone() };
        assert_eq!(
            stalled(signs(vec![reader])),
            format!(
                "{upper}the feedback frontier is 5, behind the shard's upper 7: held by the reader \
                 of worker 0 (1 of 3 parts read)"
            )
        );

        let interval = Interval { lower: 7, upper: 9, appending: true };
        let append = WorkerSigns { interval: Some(interval), ..closed(9) };
        assert_eq!(
            stalled(signs(vec![append])),
            format!(
                "{upper}the output frontier is 9: held by the sink (append of [7, 9) in flight for \
                 61 s)"
            )
        );
        let interval = Some(Interval { appending: false, ..interval });
        let named = WorkerSigns { interval, ..closed(9) };
        let writes = WorkerSigns { parts_writing: 2, ..WorkerSigns { worker: 1, ..closed(9) } };
        assert!(
            stalled(signs(vec![named.clone(), writes]))
                .ends_with("([7, 9) named 61 s ago; worker 1 still writes 2 parts)")
        );
        assert!(stalled(signs(vec![named])).ends_with("not every worker has answered)"));
        assert!(stalled(signs(vec![closed(9)])).ends_with("which names no interval"));

        let mut standby = signs(vec![closed(9)]);
        standby.role = Role::Standby;
        assert!(stalled(standby).contains("no writer"));

        let silent = WorkerSigns { worker: 1, silent: STALL, ..held.clone() };
        assert!(stalled(signs(vec![held, silent])).ends_with("; worker 1 has not run for 60 s"));
        // Also where nothing is known to wait: it is the one who would know.
        let silent = WorkerSigns { silent: STALL, ..worker(0) };
        assert_eq!(stalled(signs(vec![silent])), "worker 0 has not run for 60 s");
    }

    #[test]
    fn rows_without_a_time_are_not_at_rest() {
        let mut waits = signs(vec![worker(0)]);
        waits.unbound = 3;
        assert_eq!(judge(&waits).state, HealthState::Running);
        assert_eq!(
            stalled(waits.clone()),
            "3 units of the source wait for a time for 61 s; nobody binds the next time"
        );
        waits.role = Role::Standby;
        assert!(
            stalled(waits).ends_with("; no writer: this is a standby, and nobody else appends")
        );
    }

    #[test]
    fn trouble_with_the_source_shows_while_it_goes_on() {
        let mut tries = signs(vec![worker(0)]);
        tries.trouble = Some("no answer".into());
        let report = judge(&tries);
        assert_eq!((report.state, report.why.as_deref()), (HealthState::Idle, Some("no answer")));
    }

    #[test]
    fn a_hydration_that_stands_is_stalled() {
        let hydrating =
            WorkerSigns { hydrated: false, input: 0, parts_found: 4, parts_read: 2, ..worker(0) };
        let mut reads = signs(vec![WorkerSigns { read_to: 0, ..hydrating }]);
        assert!(stalled(reads.clone()).contains("reader of worker 0 (2 of 4 parts read)"));
        reads.measured.waits = STALL;
        reads.workers[0].parts_read = 3;
        assert_eq!(judge(&reads).state, HealthState::Hydrating, "a part has come in");
    }
}
