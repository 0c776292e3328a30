//! Owns the watchdog: a task beside the workers that measures how long a pipeline has not moved, and
//! writes one line per change of its state. What the state is, is [`judge`](super::judge)'s.
//!
//! It alone reads a clock, tokio's, so that a simulation can pause it. It holds the pipeline weakly
//! and ends with it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::judge::{Signs, judge, ought_to_move};
use super::vitals::{Interval, Measured, Progress};
use super::{HealthReport, HealthState, Process, Role};
use crate::io::Io;

/// The bounds of the pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Watches a pipeline's workers in this process until all are over.
pub(crate) fn watch(process: &Arc<Process>, io: &Io) {
    let (pause, news) = (process.stall_after / 10, Arc::clone(&process.news));
    let pause = pause.clamp(PAUSE_MIN, PAUSE_MAX);
    let process: Weak<Process> = Arc::downgrade(process);
    io.spawn(async move {
        let mut watchdog = None;
        loop {
            {
                let Some(process) = process.upgrade() else { return };
                let now = Instant::now();
                let watchdog = watchdog.get_or_insert_with(|| Watchdog::new(now));
                if watchdog.look(&process, now) {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = news.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    });
}

/// When what was last seen to move.
struct Watchdog {
    progress: Progress,
    upper_moved: Instant,
    /// Something moved, or there was nothing to wait for.
    at_rest: Instant,
    interval: (Option<Interval>, Instant),
    /// When each worker was asked to run.
    asked: Vec<(usize, Instant)>,
    told: Option<(Role, HealthState)>,
}

impl Watchdog {
    fn new(now: Instant) -> Watchdog {
        Watchdog {
            progress: Progress::default(),
            upper_moved: now,
            at_rest: now,
            interval: (None, now),
            asked: Vec::new(),
            told: None,
        }
    }

    /// Measures, and says what has changed. Returns whether all is over.
    fn look(&mut self, process: &Arc<Process>, now: Instant) -> bool {
        let members = process.members();
        let Some(first) = members.iter().min_by_key(|vitals| vitals.worker) else { return false };
        let over = members.iter().all(|vitals| vitals.is_over());
        self.measure(&process.signs(first), now);
        for vitals in members.iter().filter(|vitals| !vitals.is_over()) {
            let worker = vitals.worker;
            match self.asked.iter_mut().find(|(asked, _)| *asked == worker) {
                Some((_, since)) if vitals.pulse() => *since = now,
                Some(_) => {}
                None => {
                    vitals.pulse();
                    self.asked.push((worker, now));
                }
            }
        }
        process.set_measured(Measured {
            progress: self.progress,
            upper_stands: now - self.upper_moved,
            waits: now - self.at_rest,
            in_flight: now - self.interval.1,
            silent: self.asked.iter().map(|(worker, since)| (*worker, now - *since)).collect(),
        });
        self.tell(process, &judge(&process.signs(first)));
        over
    }

    fn measure(&mut self, signs: &Signs, now: Instant) {
        let progress = signs.progress();
        if progress.upper != self.progress.upper {
            self.upper_moved = now;
        }
        if progress != self.progress || !ought_to_move(signs) {
            self.at_rest = now;
        }
        self.progress = progress;
        if signs.interval() != self.interval.0 {
            self.interval = (signs.interval(), now);
        }
    }

    /// Writes one line if the state is another than at the last look. A pipeline at work goes from
    /// idle to running and back all the time, which is news to nobody.
    fn tell(&mut self, process: &Process, report: &HealthReport) {
        let before = self.told.replace((report.role, report.state));
        if before == self.told {
            return;
        }
        let at_work = |state| matches!(state, HealthState::Running | HealthState::Idle);
        let routine = before.is_some_and(|(role, state)| role == report.role && at_work(state));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    shard = process.handle.url(),
                    state = report.state.name(),
                    role = report.role.name(),
                    input = report.input,
                    upper = report.upper,
                    output = report.output,
                    since = report.since,
                    why = report.why.as_deref().unwrap_or_default(),
                    "health"
                )
            };
        }
        match report.state {
            HealthState::Failed | HealthState::Fenced => line!(error),
            HealthState::Stalled => line!(warn),
            state if routine && at_work(state) => line!(debug),
            _ => line!(info),
        }
    }
}
