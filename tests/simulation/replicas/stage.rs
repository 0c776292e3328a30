//! Owns a scripted run: one replica over a store, moved by the test in steps of its own choosing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::{Access, HandleConfig, History};
use differential_upsert::store::{Fault, Faults, Root};
use differential_upsert::{Command, PipelineConfig, Promotion, Shard};
use tokio::runtime::Runtime;

use crate::crew::Crew;
use crate::feed::{COLLECTIONS, FOLD, Feed, Row, collection, fold};
use crate::replicas::observer::{Counted, Observer, runtime};
use crate::replicas::seat::{Inlet, Plan, Report, Seat, Told};

/// Rounds after which nothing more will happen.
const ROUNDS: usize = 60;

/// How long most of them wait for the store.
const PATIENCE: Duration = Duration::from_millis(200);

pub fn put(key: u64, value: u64, order: u64, time: u64) -> Row {
    (Command::put(key, value, order), time)
}

pub fn patch(key: u64, patch: u64, order: u64, time: u64) -> Row {
    (Command::patch(key, patch, order), time)
}

pub fn delete(key: u64, order: u64, time: u64) -> Row {
    (Command::delete(key, order), time)
}

pub fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

pub fn no_faults() -> Arc<Faults> {
    Faults::new(|_| Fault::None)
}

pub struct Stage {
    pub root: Root,
    pub runtime: Option<Runtime>,
    pub crew: Option<Crew<Seat>>,
    pub observer: Observer,
    pub peers: usize,
}

impl Stage {
    /// Opens a shard and builds a pipeline on it. Every row is uploaded as a part.
    pub fn open(
        root: &Root,
        feed: &Arc<Feed>,
        peers: usize,
        from_source: bool,
        faults: Arc<Faults>,
    ) -> Stage {
        let as_is = |_: &Runtime, shard, config| (shard, config);
        Stage::open_as(root, feed, peers, from_source, (faults, PATIENCE), as_is)
    }

    /// As [`open`](Stage::open), with its patience with the store.
    pub fn open_for(
        root: &Root,
        feed: &Arc<Feed>,
        peers: usize,
        from_source: bool,
        faults: Arc<Faults>,
        patience: Duration,
    ) -> Stage {
        let as_is = |_: &Runtime, shard, config| (shard, config);
        Stage::open_as(root, feed, peers, from_source, (faults, patience), as_is)
    }

    /// Opens a standby, which `promotion` makes a writer.
    pub fn standby(root: &Root, feed: &Arc<Feed>, peers: usize, promotion: &Promotion) -> Stage {
        let standby = |_: &Runtime, shard, config| {
            (shard, PipelineConfig { standby: Some(promotion.clone()), ..config })
        };
        Stage::open_as(root, feed, peers, false, (no_faults(), PATIENCE), standby)
    }

    /// Opens a writer that takes the shard over.
    pub fn taking_over(root: &Root, feed: &Arc<Feed>, peers: usize) -> Stage {
        let take_over = |runtime: &Runtime, shard: Shard<u64, u64>, config| {
            (runtime.block_on(shard.take_over()).unwrap(), config)
        };
        Stage::open_as(root, feed, peers, false, (no_faults(), PATIENCE), take_over)
    }

    /// Opens a cluster: so many processes of one worker each, each with its own sight of the store.
    pub fn cluster(
        root: &Root,
        feed: &Arc<Feed>,
        faults: &[Arc<Faults>],
        config: &PipelineConfig,
    ) -> Stage {
        let (runtime, peers) = (runtime(), faults.len());
        let plan = |(process, faults): (u64, &Arc<Faults>)| {
            let io = Io::new(runtime.handle().clone(), Counted::from(process << 32));
            let root = root.with_faults(Arc::clone(faults));
            let opened = Shard::<u64, u64>::open_with(root, io, Stage::shard_config(PATIENCE));
            let shard = runtime
                .block_on(opened)
                .unwrap()
                .with_fold(FOLD, fold)
                .with_collections(COLLECTIONS, collection);
            let config = config.clone();
            Plan { shard, config, from_source: false }
        };
        let plans: Vec<Plan> = (1..).zip(faults).map(plan).collect();
        let crew = Crew::new(peers, move |worker| Seat::build(worker, &plans[worker.index()]));
        Stage::of(root, feed, runtime, crew)
    }

    fn of(root: &Root, feed: &Arc<Feed>, runtime: Runtime, crew: Crew<Seat>) -> Stage {
        Stage {
            root: root.clone(),
            runtime: Some(runtime),
            peers: crew.peers(),
            crew: Some(crew),
            observer: Observer::new(root, Arc::clone(feed)),
        }
    }

    fn shard_config(outage_max: Duration) -> HandleConfig {
        let history = Some(History::Keep);
        HandleConfig { inline_bytes_max: 0, outage_max, history, ..HandleConfig::default() }
    }

    /// Opens a writer whose shard or pipeline the test changes, or keeps a clone of.
    pub fn open_changed(
        root: &Root,
        feed: &Arc<Feed>,
        peers: usize,
        change: impl FnOnce(Shard<u64, u64>, PipelineConfig) -> (Shard<u64, u64>, PipelineConfig),
    ) -> Stage {
        let changed = |_: &Runtime, shard, config| change(shard, config);
        Stage::open_as(root, feed, peers, false, (no_faults(), PATIENCE), changed)
    }

    pub fn open_as(
        root: &Root,
        feed: &Arc<Feed>,
        peers: usize,
        from_source: bool,
        (faults, patience): (Arc<Faults>, Duration),
        change: impl FnOnce(
            &Runtime,
            Shard<u64, u64>,
            PipelineConfig,
        ) -> (Shard<u64, u64>, PipelineConfig),
    ) -> Stage {
        let runtime = runtime();
        // A writer of its own each time, so that no two name the same part.
        let listed = runtime.block_on(root.blob().list("", usize::MAX)).unwrap().len() as u64;
        let io = Io::new(runtime.handle().clone(), Counted::from((listed + 1) << 32));
        let config = Stage::shard_config(patience);
        let opened = Shard::<u64, u64>::open_with(root.with_faults(faults), io, config);
        let shard = runtime
            .block_on(opened)
            .unwrap()
            .with_fold(FOLD, fold)
            .with_collections(COLLECTIONS, collection);
        // Small, so that a standby runs into its bounds.
        let config = PipelineConfig { inflight_bytes_max: 300, ..PipelineConfig::default() };
        let (shard, config) = change(&runtime, shard, config);
        let plan = Plan { shard, config, from_source };
        let crew = Crew::new(peers, move |worker| Seat::build(worker, &plan));
        Stage::of(root, feed, runtime, crew)
    }

    pub fn crew(&mut self) -> &mut Crew<Seat> {
        self.crew.as_mut().unwrap()
    }

    pub fn give(&mut self, worker: usize, rows: &[Row]) {
        let rows = rows.to_vec();
        self.crew().on(worker, move |seat, _| match &mut seat.inlet {
            Inlet::Input(input) => {
                rows.into_iter().for_each(|row| input.send(row));
                input.flush();
            }
            Inlet::Source(source) => source.send(Told::Rows(rows)).unwrap(),
            Inlet::None => panic!("worker {worker} has no input"),
        });
    }

    pub fn close(&mut self, worker: usize, time: u64) {
        self.crew().on(worker, move |seat, _| match &mut seat.inlet {
            Inlet::Input(input) => input.advance_to(time),
            Inlet::Source(source) => source.send(Told::Closed(time)).unwrap(),
            Inlet::None => panic!("worker {worker} has no input"),
        });
    }

    pub fn end(&mut self, worker: usize) {
        self.crew().drop_input(worker);
    }

    pub fn tell(&mut self, told: Told) {
        self.crew().on(0, move |seat, _| {
            if let Inlet::Source(source) = &seat.inlet {
                source.send(told).unwrap();
            }
        });
    }

    /// The `n`th smallest step of all: one worker, or the I/O by one task.
    pub fn tick(&mut self, n: usize) {
        match n % (self.peers + 1) {
            worker if worker < self.peers => self.crew().step(worker),
            _ => self.poll(1),
        }
    }

    /// Steps a worker, and lets the I/O stand still: what it has not heard of yet it does not hear.
    pub fn step_deaf(&mut self, worker: usize) {
        (0..ROUNDS).for_each(|_| self.crew().step(worker));
    }

    fn poll(&self, times: u64) {
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Runs some workers, and the I/O, without moving the clock: nobody polls for a rival's news.
    pub fn run_blind(&mut self, workers: &[usize]) {
        for _ in 0..ROUNDS {
            for worker in workers {
                self.crew().step(*worker);
            }
            self.poll(10);
        }
    }

    /// Deletes every object of the store, behind everybody's back.
    pub fn wipe(&mut self) {
        let (blob, runtime) = (self.root.blob(), self.runtime.as_ref().unwrap());
        runtime.block_on(async {
            for listed in blob.list("", usize::MAX).await.unwrap() {
                blob.delete(&listed.key).await.unwrap();
            }
        });
    }

    /// Runs some workers until nothing more happens.
    pub fn run_only(&mut self, workers: &[usize]) {
        for _ in 0..ROUNDS {
            for worker in workers {
                self.crew().step(*worker);
            }
            self.poll(10);
            if let Some(runtime) = &self.runtime {
                runtime.block_on(tokio::time::advance(Duration::from_millis(50)));
            }
        }
    }

    /// Runs all workers until nothing more happens, and checks the shard.
    pub fn run(&mut self) {
        let all: Vec<usize> = (0..self.peers).collect();
        self.run_only(&all);
        self.observer.check();
    }

    pub fn upper(&mut self) -> u64 {
        self.observer.check();
        self.observer.upper
    }

    pub fn reports(&mut self) -> Vec<Report> {
        self.crew().reports()
    }

    /// Checks that it has ended well: everything is in the shard, and has been read back.
    pub fn assert_ended(&mut self, feed: &Feed) {
        assert_eq!(self.upper(), feed.end, "the shard's upper");
        // A retraction may be read by one worker and what it retracts by another.
        let mut read: BTreeMap<(u64, u64), isize> = BTreeMap::new();
        let mut collects = true;
        for (worker, report) in self.reports().into_iter().enumerate() {
            collects &= report.collects;
            assert!(report.done, "worker {worker} is not done: {report:?}");
            assert!(report.ended, "worker {worker} has not ended: {report:?}");
            assert!(report.error.is_none(), "worker {worker}: {report:?}");
            for (row, count) in report.collection {
                *read.entry(row).or_insert(0) += count;
            }
        }
        read.retain(|_, count| *count != 0);
        let expected = feed.values_before(feed.end).into_iter().map(|row| (row, 1));
        assert!(!collects || read == expected.collect(), "the collection: {read:?}");
    }

    /// Runs the same feed from its start in a new process, on one worker, to its end.
    pub fn rerun(mut self, feed: &Arc<Feed>) {
        let root = self.root.clone();
        self.kill();
        let mut stage = Stage::open(&root, feed, 1, false, no_faults());
        stage.give(0, &feed.rows);
        stage.end(0);
        stage.run();
        stage.assert_ended(feed);
    }

    fn kill(&mut self) {
        if let Some(crew) = self.crew.take() {
            crew.crash();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}
