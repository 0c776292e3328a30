//! Owns a replica: a process that runs a pipeline from the scripted source, through faults of its own,
//! with a clock of its own. It can be stopped, crashed and started again; when, others say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::shard::{Handle, HandleConfig, History};
use differential_upsert::source::AttemptConfig;
use differential_upsert::source::StageLimits;
use differential_upsert::store::{Fault, Faults, Operation, Report as Reply, Root};
use differential_upsert::{ErrorKind, PipelineConfig, Promotion, Shard};
use tokio::runtime::Runtime;

use crate::crew::Crew;
use crate::random::Random;
use crate::sources::clockwork::{Own, Time, runtime};
use crate::sources::scripted::{ELSEWHERE, Scripted};
use crate::sources::seat::{Plan, Report, Seat};
use crate::sources::upstream::{Shared, collection, more};

const DAY: i64 = 86_400_000;

/// How one run treats its replicas.
#[derive(Clone, Debug)]
pub struct Weather {
    pub times: Times,
    /// One store operation in so many goes wrong; 0 for none.
    pub fault_one_in: u64,
    /// One store operation in so many takes its time; 0 for none.
    pub slow_one_in: u64,
    /// One start in so many is a standby; 0 for none.
    pub standby_one_in: u64,
    /// One start in so many ends where the feed is then; 0 for none.
    pub goal_one_in: u64,
    /// How much history the shard has.
    pub history: History,
    /// How sources are tried again, if not at random.
    pub attempts: Option<AttemptConfig>,
    /// Whether somebody ends the leases of the living.
    pub leases_end: bool,
    /// While true, nothing goes wrong.
    pub calm: Arc<AtomicBool>,
}

impl Weather {
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Nothing takes its time while it is opened: nobody moves anything else then.
    fn faults(&self, random: &Random, opened: &Arc<AtomicBool>) -> Arc<Faults> {
        let (random, weather, opened) = (random.clone(), self.clone(), Arc::clone(opened));
        Faults::new(move |action| {
            let waits = weather.slow_one_in > 0 && opened.load(Ordering::Relaxed);
            if waits && !weather.is_calm() && random.one_in(weather.slow_one_in) {
                return Fault::Hang;
            }
            let calm = weather.fault_one_in == 0 || weather.is_calm();
            // More of them at the commit point, where it matters whether it was applied.
            let commits = action.operation == Operation::CreateEntry;
            let one_in = weather.fault_one_in / if commits { 4 } else { 1 };
            if calm || !random.one_in(one_in.max(2)) {
                return Fault::None;
            }
            // Never applied and called a sure failure: no store may do that.
            match random.below(4) {
                0 if action.operation.writes() => Fault::Late,
                1 => Fault::Fail { applied: true, report: Reply::Timeout },
                2 => Fault::Fail { applied: false, report: Reply::Timeout },
                _ => Fault::Fail { applied: false, report: Reply::Error },
            }
        })
    }
}

/// A started replica.
pub struct Alive {
    pub runtime: Runtime,
    pub crew: Crew<Seat>,
    pub faults: Arc<Faults>,
    pub stopping: bool,
    /// Set for a standby.
    pub promotion: Option<Promotion>,
    /// The run of its source.
    pub life: usize,
    /// Whether it is to end where the feed was at its start.
    pub has_goal: bool,
    /// Its connections are cut by itself, which the other side does not learn.
    pub cuts: bool,
    handle: Handle,
    clock: Arc<Own>,
}

pub struct Replica {
    pub name: usize,
    pub alive: Option<Alive>,
    random: Random,
    root: Root,
    time: Time,
    upstream: Shared,
    weather: Weather,
    starts: u64,
}

impl Replica {
    pub fn new(
        name: usize,
        root: &Root,
        time: &Time,
        upstream: &Shared,
        random: &Random,
        weather: &Weather,
    ) -> Self {
        Replica {
            name,
            alive: None,
            random: random.clone(),
            root: root.clone(),
            time: time.clone(),
            upstream: Arc::clone(upstream),
            weather: weather.clone(),
            starts: 0,
        }
    }

    /// Starts it, or leaves it down if the store does not let it.
    pub fn start(&mut self) {
        assert!(self.alive.is_none());
        self.starts += 1;
        let (random, weather) = (&self.random, &self.weather);
        let (runtime, opened) = (runtime(), Arc::new(AtomicBool::new(false)));
        let faults = weather.faults(random, &opened);
        let base = (self.name as u64 + 1) * 1_000_000_000 + self.starts * 1_000_000;
        let off = random.pick(&[0, 0, 7, -7, if weather.leases_end { DAY } else { 40 }]);
        let clock = Own::new(&self.time, off, base);
        let root = self.root.with_faults(Arc::clone(&faults));
        let opening = Shard::<u64, u64>::open_with(root, clock.io(&runtime), self.limits());
        let shard = match runtime.block_on(opening) {
            Ok(shard) => shard.with_fold("more-1", more).with_collections("two-1", collection),
            Err(e) => return assert!(weather.may_cause(e.kind()), "opening failed: {e}"),
        };
        opened.store(true, Ordering::Relaxed);
        let standby = weather.standby_one_in;
        let standby = !weather.is_calm() && standby > 0 && random.one_in(standby);
        let promotion = standby.then(Promotion::default);
        let goal = weather.goal_one_in;
        let has_goal = !weather.is_calm() && goal > 0 && random.one_in(goal);
        let source = self.source_config(has_goal);
        let cuts = source.attempts.session_max.is_some();
        let config = PipelineConfig {
            standby: promotion.clone(),
            source,
            stash_bytes_max: random.pick(&[200, 256 << 20]),
            state_bytes_max: random.pick(&[None, Some(0), Some(600)]),
            ahead_bytes_max: random.pick(&[1, 40, 32 << 20]),
            inflight_bytes_max: random.pick(&[1, 64 << 20]),
            part_bytes_max: random.pick(&[1, 8 << 20]),
            ahead: !random.one_in(4),
            overlay_bytes_max: random.pick(&[1, 300, 16 << 20]),
            drain_rows_max: random.pick(&[1, 1 << 14]),
            ..PipelineConfig::default()
        };
        let handle = shard.handle().clone();
        let source = Scripted::new(&self.upstream, random);
        let life = source.life();
        let plan = Plan { shard, config, source: Mutex::new(Some(source)) };
        let peers = random.pick(&[1, 1, 1, 2]);
        let crew = Crew::new(peers, move |worker| Seat::build(worker, &plan));
        let stopping = false;
        self.alive = Some(Alive {
            runtime,
            crew,
            faults,
            stopping,
            promotion,
            life,
            has_goal,
            cuts,
            handle,
            clock,
        });
    }

    fn limits(&self) -> HandleConfig {
        let random = &self.random;
        let small = random.one_in(2);
        HandleConfig {
            inline_bytes_max: if small { 0 } else { 100 },
            part_bytes_max: if small { 60 } else { 8 << 20 },
            rollup_every: random.pick(&[1, 3, 64]),
            outage_max: Duration::from_millis(random.pick(&[0, 10_000, 300_000])),
            history: Some(self.weather.history),
            entries_kept: random.pick(&[0, 3, 64]),
            maintain_every: random.pick(&[1, 5, 64]),
            compact_bytes_max: 1,
            ..HandleConfig::default()
        }
    }

    fn source_config(&self, stop_at_current: bool) -> SourceConfig {
        let (random, millis) = (&self.random, Duration::from_millis);
        let session_max = random.pick(&[None, None, Some(millis(60)), Some(millis(200))]);
        let attempts = AttemptConfig {
            // A large unit that is cut each time fails at the same place.
            attempts_max: if session_max.is_some() { 10_000 } else { random.pick(&[2, 10]) },
            // A connection to an idle feed that is cut reaches no boundary either.
            outage_max: match session_max {
                Some(_) => Duration::from_secs(3600),
                None => millis(random.pick(&[20, 10_000])),
            },
            delay_min: millis(random.pick(&[1, 20])),
            delay_max: millis(200),
            session_max,
            ..AttemptConfig::default()
        };
        SourceConfig {
            times: self.weather.times,
            mint_min: millis(random.pick(&[0, 0, 30])),
            idle_commit: millis(random.pick(&[0, 20, 300])),
            stop_at_current,
            attempts: self.weather.attempts.clone().unwrap_or(attempts),
            stage: StageLimits {
                memory_bytes_max: random.pick(&[60, 1 << 20, 1 << 20]),
                ..StageLimits::default()
            },
        }
    }

    /// Kills it: nothing that was under way goes on, except what the store has already taken.
    pub fn crash(&mut self) -> Option<Arc<Faults>> {
        let Alive { runtime, crew, faults, .. } = self.alive.take()?;
        crew.crash();
        runtime.shutdown_background();
        Some(faults)
    }

    /// Drops the token of one worker.
    pub fn stop(&mut self) {
        let Some(alive) = &mut self.alive else { return };
        let worker = self.random.index(alive.crew.peers());
        alive.crew.drop_token(worker);
        alive.stopping = true;
    }

    /// Has every worker that has failed drop its own token too, as a program does that sees it.
    pub fn drop_failed(&mut self) {
        let Some(alive) = &mut self.alive else { return };
        for (worker, report) in alive.crew.reports().iter().enumerate() {
            if report.error.is_some() {
                alive.crew.drop_token(worker);
            }
        }
    }

    /// Makes a standby a writer.
    pub fn promote(&mut self) {
        if let Some(Alive { promotion: Some(promotion), .. }) = &self.alive {
            promotion.promote();
        }
    }

    /// Sets its clock, forward or backward.
    pub fn step_clock(&mut self) {
        if let Some(alive) = &self.alive {
            let off = self.random.pick(&[0, 50, -50, 3, -2000]);
            alive.clock.off.store(off, Ordering::Relaxed);
        }
    }

    /// Checks that it has not failed for a reason that nobody gave it. Returns whether it has.
    pub fn has_failed(&mut self) -> bool {
        let Some(alive) = &mut self.alive else { return false };
        let mut failed = false;
        for error in alive.crew.reports().into_iter().filter_map(|report| report.error) {
            let upstream = self.upstream.lock().unwrap();
            let kind = error.kind();
            let told = match kind {
                ErrorKind::Invalid => upstream.lives[alive.life].failed || upstream.is_refused(),
                // It gives up, or others have bound more than it was to read.
                // Another writer has seen first that the feed is replaced.
                ErrorKind::LeaseLost => upstream.edition() > 0,
                // It began with the feed's new contents, before what another had bound of the old
                // ones was durable: started again it goes on from there.
                ErrorKind::FeedDiffers => {
                    let text = error.to_string();
                    let other = ["cannot be compared", ELSEWHERE].iter().any(|t| text.contains(t));
                    upstream.edition() > 0 && other
                }
                ErrorKind::Unavailable => upstream.fails_one_in > 0 || alive.has_goal,
                _ => false,
            };
            let may = told || self.weather.may_cause(kind);
            assert!(may, "replica {} failed: {error}", self.name);
            failed = true;
        }
        failed
    }
}

impl Weather {
    fn may_cause(&self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::Fenced => self.times == Times::CoCommitted,
            ErrorKind::LeaseLost => self.leases_end,
            ErrorKind::Unavailable | ErrorKind::Indeterminate => self.fault_one_in > 0,
            _ => false,
        }
    }
}

impl Alive {
    /// Whether it may append.
    pub fn writes(&self) -> bool {
        self.promotion.as_ref().is_none_or(Promotion::is_promoted)
    }

    /// Whether a later one has taken the shard over.
    pub fn is_fenced(&mut self) -> bool {
        let fenced = |report: Report| report.error.is_some_and(|e| e.kind() == ErrorKind::Fenced);
        self.crew.reports().into_iter().any(fenced)
    }

    /// Begins a round of maintenance, if it is time, or merges everything.
    pub fn maintain(&self, whole: bool) {
        let handle = self.handle.clone();
        self.runtime.spawn(async move {
            if whole {
                // Failing is as good as dying in the middle.
                let _ = handle.compact().await;
            }
            handle.maintain().await;
        });
    }

    /// Runs everything a little.
    pub fn round(&mut self) {
        for _ in 0..2 {
            (0..self.crew.peers()).for_each(|worker| self.crew.step(worker));
            self.faults.let_go();
            self.poll(20);
        }
        self.wait(25);
    }

    /// Runs the I/O a little.
    pub fn poll(&self, times: u64) {
        self.runtime.block_on(async {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Moves its timers.
    pub fn wait(&self, millis: u64) {
        self.runtime.block_on(tokio::time::advance(Duration::from_millis(millis)));
    }
}
