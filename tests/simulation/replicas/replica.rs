//! Owns a replica: a process that runs the pipeline over the shared store, through faults of its
//! own, with a clock of its own. It can be fed, stopped, crashed and started again; when, others say.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use differential_upsert::shard::{Handle, HandleConfig, History};
use differential_upsert::store::{Fault, Faults, Operation, Report as Reply, Root};
use differential_upsert::{ErrorKind, PipelineConfig, Promotion, Shard};
use tokio::runtime::Runtime;

use crate::crew::Crew;
use crate::feed::{COLLECTIONS, FOLD, Feed, Row, collection, fold};
use crate::random::Random;
use crate::replicas::observer::{Counted, runtime};
use crate::replicas::seat::{Inlet, Plan, Report, Seat, Told};

/// How a worker says that its state began with an image.
pub const WARM: &str = "state: begins with its image";

/// How one run treats its replicas.
#[derive(Clone, Debug)]
pub struct Weather {
    /// One store operation in so many goes wrong; 0 for none.
    pub fault_one_in: u64,
    /// Each start takes the shard over, and shuts out the one that runs.
    pub exclusive: bool,
    /// One start in so many is a standby; 0 for none.
    pub standby_one_in: u64,
    /// How much history the shard has.
    pub history: History,
    /// Whether somebody ends the leases of the living, too.
    pub leases_end: bool,
    /// While true, nothing goes wrong.
    pub calm: Arc<AtomicBool>,
}

impl Weather {
    fn faults(&self, random: &Random) -> Arc<Faults> {
        let (random, weather) = (random.clone(), self.clone());
        Faults::new(move |action| {
            let calm = weather.fault_one_in == 0 || weather.calm.load(Ordering::Relaxed);
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

/// How far one worker's input is.
#[derive(Debug)]
struct Pace {
    unsent: VecDeque<Row>,
    closed: u64,
    ended: bool,
}

impl Pace {
    /// The greatest time that may be closed now.
    fn closable(&self, end: u64) -> u64 {
        self.unsent.iter().map(|(_, time)| *time).min().unwrap_or(end)
    }
}

/// A started replica.
pub struct Alive {
    pub runtime: Runtime,
    pub crew: Crew<Seat>,
    pub faults: Arc<Faults>,
    handle: Handle,
    pub stopping: bool,
    /// Its source was told to fail, so it must say so.
    pub failing: bool,
    /// Set for a standby.
    pub promotion: Option<Promotion>,
    /// Commands with a key that it has been given.
    pub given: u64,
    /// Its state began with an image, as far as it has said so.
    is_warm: bool,
    paces: Vec<Pace>,
    from_source: bool,
}

pub struct Replica {
    pub name: usize,
    pub alive: Option<Alive>,
    random: Random,
    root: Root,
    feed: Arc<Feed>,
    weather: Weather,
    starts: u64,
    /// Where it keeps its state.
    state_dir: Option<PathBuf>,
    /// Workers of most of its starts, where it keeps its state: another number has none of it.
    peers: Option<usize>,
    /// Starts that began with an image.
    pub warm_starts: u64,
}

impl Replica {
    pub fn new(
        name: usize,
        root: &Root,
        feed: &Arc<Feed>,
        random: &Random,
        weather: &Weather,
        state_dir: Option<PathBuf>,
    ) -> Self {
        Replica {
            name,
            alive: None,
            random: random.clone(),
            root: root.clone(),
            feed: Arc::clone(feed),
            weather: weather.clone(),
            starts: 0,
            state_dir,
            peers: None,
            warm_starts: 0,
        }
    }

    /// Starts it, or leaves it down if the store does not let it.
    pub fn start(&mut self) {
        assert!(self.alive.is_none());
        self.starts += 1;
        let random = &self.random;
        let (runtime, faults) = (runtime(), self.weather.faults(random));
        let base = (self.name as u64 + 1) * 1_000_000_000 + self.starts * 1_000_000;
        let tokens = Counted::from(base);
        let io = differential_upsert::io::Io::new(runtime.handle().clone(), tokens.clone());
        let io = io.with_clock(tokens);
        let small = random.one_in(2);
        let config = HandleConfig {
            inline_bytes_max: if small { 0 } else { 100 },
            part_bytes_max: if small { 60 } else { 8 << 20 },
            rollup_every: random.pick(&[1, 3, 64]),
            outage_max: Duration::from_millis(random.pick(&[0, 10_000, 300_000])),
            history: Some(self.weather.history),
            entries_kept: random.pick(&[0, 3, 64]),
            maintain_every: random.pick(&[1, 5, 64]),
            compact_bytes_max: 1,
            ..HandleConfig::default()
        };
        let root = self.root.with_faults(Arc::clone(&faults));
        let opened = runtime.block_on(Shard::<u64, u64>::open_with(root, io, config));
        let opened = opened
            .map(|shard| shard.with_fold(FOLD, fold).with_collections(COLLECTIONS, collection));
        let shard = match opened {
            Ok(shard) => shard,
            Err(e) => {
                assert!(self.weather.may_cause(e.kind()), "opening failed: {e}");
                return;
            }
        };
        let shard = if self.weather.exclusive {
            match runtime.block_on(shard.take_over()) {
                Ok(shard) => shard,
                Err(e) => {
                    assert!(self.weather.may_cause(e.kind()), "taking over failed: {e}");
                    return;
                }
            }
        } else {
            shard
        };
        let standby = self.weather.standby_one_in;
        let calm = self.weather.calm.load(Ordering::Relaxed);
        let promotion = (!calm && standby > 0 && random.one_in(standby)).then(Promotion::default);
        let config = PipelineConfig {
            standby: promotion.clone(),
            stash_bytes_max: random.pick(&[200, 256 << 20]),
            state_bytes_max: random.pick(&[None, Some(0), Some(600)]),
            ahead_bytes_max: random.pick(&[1, 32 << 20]),
            inflight_bytes_max: random.pick(&[1, 64 << 20]),
            part_bytes_max: random.pick(&[1, 8 << 20]),
            ahead: !random.one_in(4),
            overlay_bytes_max: random.pick(&[1, 300, 1000, 16 << 20]),
            drain_rows_max: random.pick(&[1, 2, 1 << 14]),
            state_dir: self.state_dir.clone(),
            collection: self.state_dir.is_none(),
            ..PipelineConfig::default()
        };
        let from_source = random.one_in(2);
        let peers = match (self.state_dir.is_some(), self.peers) {
            (true, Some(peers)) if !random.one_in(8) => peers,
            _ => random.pick(&[1, 1, 2, 3]),
        };
        self.peers = Some(peers);
        // It may skip what it knows to be there.
        let skip = if random.one_in(2) { shard.upper() } else { 0 };
        let paces = self.paces(if from_source { 1 } else { peers }, skip);
        let handle = shard.handle().clone();
        let plan = Plan { shard, config, from_source };
        let crew = Crew::new(peers, move |worker| Seat::build(worker, &plan));
        let (stopping, failing) = (false, false);
        let alive = Alive {
            runtime,
            crew,
            faults,
            handle,
            stopping,
            failing,
            promotion,
            given: 0,
            is_warm: false,
            paces,
            from_source,
        };
        self.alive = Some(alive);
    }

    /// Deals the rows out to the inputs, and perturbs their order: within a time it means nothing,
    /// and a row may come before those of earlier times, as long as these are open.
    fn paces(&self, inputs: usize, skip: u64) -> Vec<Pace> {
        let mut rows: Vec<Row> =
            self.feed.rows.iter().filter(|(_, time)| *time >= skip).cloned().collect();
        let reach = self.random.pick(&[1, 2, 8]);
        for place in 0..rows.len() {
            let other = (place + self.random.index(reach)).min(rows.len() - 1);
            rows.swap(place, other);
        }
        let pace = || Pace { unsent: VecDeque::new(), closed: 0, ended: false };
        let mut paces: Vec<Pace> = (0..inputs).map(|_| pace()).collect();
        for row in rows {
            paces[self.random.index(inputs)].unsent.push_back(row);
        }
        paces
    }

    /// Gives one of the inputs some rows, or closes some times.
    pub fn feed_some(&mut self) {
        let (random, end) = (self.random.clone(), self.feed.end);
        let Some(alive) = &mut self.alive else { return };
        let input = random.index(alive.paces.len());
        if random.one_in(3) {
            let pace = &alive.paces[input];
            let closable = pace.closable(end);
            if pace.closed < closable {
                let to = pace.closed + 1 + random.below(closable - pace.closed);
                return alive.close(input, to);
            }
        }
        let count = 1 + random.index(4);
        alive.give(input, count);
        if alive.paces[input].unsent.is_empty() && random.one_in(4) {
            alive.end(input, end);
        }
    }

    /// Gives everything, closes everything, ends everything.
    pub fn feed_all(&mut self) {
        let end = self.feed.end;
        let Some(alive) = &mut self.alive else { return };
        for input in 0..alive.paces.len() {
            alive.give(input, usize::MAX);
            alive.end(input, end);
        }
    }

    /// Has the source fail, or panic.
    pub fn fail_source(&mut self) {
        let Some(alive) = &mut self.alive else { return };
        if !alive.from_source || alive.stopping || alive.paces[0].ended {
            return;
        }
        let told = if self.random.one_in(2) { Told::Fail } else { Told::Panic };
        (alive.paces[0].ended, alive.failing) = (true, true);
        alive.tell(told);
    }

    /// Kills it: nothing that was under way goes on, except what the store has already taken.
    pub fn crash(&mut self) -> Option<Arc<Faults>> {
        let Alive { runtime, crew, faults, .. } = self.alive.take()?;
        crew.crash();
        runtime.shutdown_background();
        Some(faults)
    }

    /// Makes a standby a writer.
    pub fn promote(&mut self) {
        if let Some(Alive { promotion: Some(promotion), .. }) = &self.alive {
            promotion.promote();
        }
    }

    /// Drops the token of one worker.
    pub fn stop(&mut self) {
        let Some(alive) = &mut self.alive else { return };
        let worker = self.random.index(alive.crew.peers());
        alive.crew.drop_token(worker);
        alive.stopping = true;
        if self.random.one_in(2) {
            alive.crew.drop_input(worker);
        }
    }

    /// Has every worker drop its input, as a program does that was told to stop.
    pub fn drop_inputs(&mut self) {
        let Some(alive) = &mut self.alive else { return };
        (0..alive.crew.peers()).for_each(|worker| alive.crew.drop_input(worker));
    }

    /// Has every worker that has failed drop its own token too, as a program does that sees it.
    pub fn drop_failed(&mut self) {
        let Some(alive) = &mut self.alive else { return };
        for worker in 0..alive.crew.peers() {
            if alive.crew.report(worker).error.is_some() {
                alive.crew.drop_token(worker);
            }
        }
    }

    /// Checks that it has not failed for a reason that nobody gave it. Returns whether it has.
    pub fn has_failed(&mut self) -> bool {
        let Some(alive) = &mut self.alive else { return false };
        let (mut failed, reports) = (false, alive.crew.reports());
        let warm = |report: &Report| report.state_start.as_ref()?.strip_prefix(WARM).map(drop);
        if !alive.is_warm && reports.iter().any(|report| warm(report).is_some()) {
            (alive.is_warm, self.warm_starts) = (true, self.warm_starts + 1);
        }
        for error in reports.into_iter().filter_map(|report| report.error) {
            let told = alive.failing
                && matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unavailable);
            assert!(
                told || self.weather.may_cause(error.kind()),
                "replica {} failed: {error}",
                self.name
            );
            failed = true;
        }
        failed
    }
}

impl Weather {
    fn may_cause(&self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::Fenced => self.exclusive,
            ErrorKind::LeaseLost => self.leases_end,
            ErrorKind::Unavailable | ErrorKind::Indeterminate => self.fault_one_in > 0,
            _ => false,
        }
    }
}

impl Alive {
    /// The first time that is not closed on every input.
    pub fn closed(&self, end: u64) -> u64 {
        let closed = |pace: &Pace| if pace.ended && !self.failing { end } else { pace.closed };
        self.paces.iter().map(closed).min().unwrap_or(0)
    }

    /// Whether it may append.
    pub fn writes(&self) -> bool {
        self.promotion.as_ref().is_none_or(Promotion::is_promoted)
    }

    /// Whether a later one has taken the shard over.
    pub fn is_fenced(&mut self) -> bool {
        let fenced = |report: Report| report.error.is_some_and(|e| e.kind() == ErrorKind::Fenced);
        self.crew.reports().into_iter().any(fenced)
    }

    /// Whether every input was ended cleanly, before any stop.
    pub fn has_ended(&self) -> bool {
        !self.failing && self.paces.iter().all(|pace| pace.ended)
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

    /// Runs the I/O a little.
    pub fn poll(&self, times: u64) {
        self.runtime.block_on(async {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Moves its clock.
    pub fn wait(&self, millis: u64) {
        self.runtime.block_on(tokio::time::advance(Duration::from_millis(millis)));
    }

    /// Whether every worker's dataflow is complete.
    pub fn is_done(&mut self) -> bool {
        self.crew.reports().iter().all(|report: &Report| report.done)
    }

    fn give(&mut self, input: usize, count: usize) {
        if self.stopping || self.paces[input].ended {
            return;
        }
        let unsent = &mut self.paces[input].unsent;
        let count = count.min(unsent.len());
        let rows: Vec<Row> = unsent.drain(..count).collect();
        if rows.is_empty() {
            return;
        }
        self.given += rows.iter().filter(|(command, _)| command.key().is_some()).count() as u64;
        if self.from_source {
            return self.tell(Told::Rows(rows));
        }
        self.crew.on(input, move |seat, _| {
            if let Inlet::Input(handle) = &mut seat.inlet {
                rows.into_iter().for_each(|row| handle.send(row));
                handle.flush();
            }
        });
    }

    fn close(&mut self, input: usize, to: u64) {
        if self.stopping || self.paces[input].ended {
            return;
        }
        self.paces[input].closed = to;
        if self.from_source {
            return self.tell(Told::Closed(to));
        }
        self.crew.on(input, move |seat, _| {
            if let Inlet::Input(handle) = &mut seat.inlet {
                handle.advance_to(to);
            }
        });
    }

    fn end(&mut self, input: usize, end: u64) {
        if self.stopping || self.paces[input].ended {
            return;
        }
        self.paces[input].ended = true;
        if self.from_source {
            return self.tell(Told::End(end));
        }
        self.crew.on(input, |seat, _| seat.inlet = Inlet::None);
    }

    fn tell(&mut self, told: Told) {
        self.crew.on(0, move |seat, _| {
            if let Inlet::Source(source) = &seat.inlet {
                // An error means that it has failed already, or was stopped.
                let _ = source.send(told);
            }
        });
    }
}
