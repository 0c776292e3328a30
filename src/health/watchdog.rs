//! Owns the watchdog: a task beside the workers that measures how long a pipeline has not moved, and
//! writes one line per change of its state. What the state is, is [`judge`](super::judge)'s.
//!
//! It alone reads a clock, tokio's, so that a simulation can pause it. It holds the pipeline weakly
//! and ends with it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::judge::judge;
use super::report::HealthState;
use super::signs::{Interval, Measured, Progress, Reading, Signs, ought_to_move};
use super::vitals::{Process, Vitals};
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
    reading: (Option<Reading>, Instant),
    /// When each worker was asked to run.
    asked: Vec<(usize, Instant)>,
    /// How many cold rows each worker that waits for some had read, and since when.
    cold: Vec<(usize, u64, Instant)>,
}

impl Watchdog {
    fn new(now: Instant) -> Watchdog {
        Watchdog {
            progress: Progress::default(),
            upper_moved: now,
            at_rest: now,
            interval: (None, now),
            reading: (None, now),
            asked: Vec::new(),
            cold: Vec::new(),
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
            reading: self.reading.0,
            reading_waits: now - self.reading.1,
            in_flight: now - self.interval.1,
            store: process.handle.trouble(now),
            silent: self.asked.iter().map(|(worker, since)| (*worker, now - *since)).collect(),
            cold: self.cold.iter().map(|(worker, done, at)| (*worker, *done, now - *at)).collect(),
            looked: Some(now),
        });
        tell(process, first);
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
        let reading = signs.reading();
        if reading != self.reading.0 || reading.is_none() {
            self.reading = (reading, now);
        }
        let before = std::mem::take(&mut self.cold);
        for signs in signs.workers.iter().filter(|signs| signs.cold_waiting > 0) {
            let same =
                |cold: &&(usize, u64, Instant)| (cold.0, cold.1) == (signs.worker, signs.cold_done);
            let since = before.iter().find(same).map_or(now, |cold| cold.2);
            self.cold.push((signs.worker, signs.cold_done, since));
        }
    }
}

/// Says how it ended, once all workers of this process are over: on the thread of the last one, for the
/// process may go before the watchdog looks again.
pub(super) fn last_word(process: &Process) {
    let members = process.members();
    let first = members.iter().min_by_key(|vitals| vitals.worker);
    if let (Some(first), true) = (first, members.iter().all(|vitals| vitals.is_over())) {
        tell(process, first);
    }
}

/// Writes one line if the state is another than the last one said. A pipeline at work goes from idle to
/// running and back all the time, which is news to nobody.
fn tell(process: &Process, first: &Vitals) {
    // Held until it is said, so that of two threads none says what is over already.
    let mut told = process.told.lock();
    let report = judge(&process.signs(first));
    let before = told.replace((report.role, report.state));
    if before == *told {
        return;
    }
    let at_work = |state| matches!(state, HealthState::Running | HealthState::Idle);
    let routine = before.is_some_and(|(role, state)| role == report.role && at_work(state));
    let recovers = before.is_some_and(|(_, state)| state == HealthState::Stalled)
        && !crate::mutant::on("recovery_untold");
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
        // What ends a stall is heard by all that have heard of it.
        HealthState::Stalled => line!(warn),
        _ if recovers => line!(warn),
        state if routine && at_work(state) => line!(debug),
        _ => line!(info),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Role;
    use super::*;
    use crate::control::epoch::Epoch;
    use crate::control::lifecycle::Lifecycle;
    use crate::io::RandomTokens;
    use crate::shard::HandleConfig;
    use crate::store::{Access, Root};
    use crate::upsert::UpsertStats;

    /// Two workers of a standby that have done all that is theirs, while a closed time waits.
    #[tokio::test(start_paused = true)]
    async fn a_standby_without_a_writer_is_stalled_until_one_writes() {
        let io = Io::new(tokio::runtime::Handle::current(), Arc::new(RandomTokens));
        let root = Root::open("mem:", Access::Write).unwrap();
        let shard = crate::Shard::<u64, u64>::open_with(root, io.clone(), HandleConfig::default());
        let shard = shard.await.unwrap();
        let stall_after = Duration::from_secs(5);
        let join = |worker| {
            let shared = (UpsertStats::default(), Lifecycle::default().watch());
            shard.pipelines().join(
                (0, 2),
                worker,
                shared,
                shard.handle(),
                stall_after,
                (Role::Standby, Epoch::known(0)),
            )
        };
        let ((process, one, true), (same, two, false)) = (join(1), join(0)) else {
            panic!("the workers of a process find each other");
        };
        assert!(Arc::ptr_eq(&process, &same));
        assert!(!Arc::ptr_eq(&process, &join(0).0), "another pipeline has its own worker 0");
        watch(&process, &io);
        for vitals in [&one, &two] {
            vitals.set_read_to(0);
            vitals.set_closed(3);
            vitals.set_output(3);
        }
        let report = || judge(&process.signs(&two));
        for passed in 0..5 {
            assert_eq!(report().state, HealthState::Running, "after {passed} s");
            tokio::time::sleep(Duration::from_secs(1)).await;
            one.answer();
            two.answer();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stalled = report();
        assert_eq!((stalled.role, stalled.state), (Role::Standby, HealthState::Stalled));
        assert!(stalled.why.unwrap().contains("no writer"));
        let append = crate::shard::Append { upper: 3, ..Default::default() };
        let _ = shard.handle().compare_and_append(append).await.unwrap();
        [&one, &two].iter().for_each(|vitals| vitals.set_read_to(3));
        assert_eq!(report().state, HealthState::Idle);
    }

    /// A drain that waits for rows of the file of its state, some of which come.
    #[tokio::test(start_paused = true)]
    async fn rows_that_come_are_no_rows_that_do_not() {
        let io = Io::new(tokio::runtime::Handle::current(), Arc::new(RandomTokens));
        let root = Root::open("mem:", Access::Write).unwrap();
        let shard = crate::Shard::<u64, u64>::open_with(root, io.clone(), HandleConfig::default());
        let shard = shard.await.unwrap();
        let stats = UpsertStats::default();
        let (process, vitals, _) = shard.pipelines().join(
            (0, 1),
            0,
            (stats.clone(), Lifecycle::default().watch()),
            shard.handle(),
            Duration::from_secs(60),
            (Role::Writer, Epoch::known(0)),
        );
        watch(&process, &io);
        vitals.set_read_to(0);
        vitals.set_closed(3);
        let after = async |seconds, reads, waiting| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stats.add_cold_reads(reads, reads * 64);
            stats.set_cold_waiting(waiting);
            judge(&process.signs(&vitals)).why
        };
        let says = |text: &str| Some(format!("the upsert operator of worker 0 waits for {text}"));
        assert_eq!(after(2, 0, 0).await, None);
        assert_eq!(after(2, 32, 32).await, says("32 rows of its state's file"));
        let none = says("32 rows of its state's file, of which none has come for 3.0 s");
        assert_eq!(after(4, 0, 32).await, none);
        assert_eq!(after(4, 0, 30).await, says("30 rows of its state's file"), "two have come");
        assert_eq!(after(9, 2, 30).await, says("30 rows of its state's file"), "and two more");
        assert_eq!(after(9, 0, 0).await, None);
        // The first look after it waits anew, and none before.
        assert_eq!(after(9, 1, 1).await, says("1 row of its state's file"));
    }
}
