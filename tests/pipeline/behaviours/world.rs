//! Owns whole pipelines over one store in memory, moved step by step, and an observer that reads the
//! shard and the cursor beside it. It does not own which steps are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use differential_upsert::codec::{Codec, Postcard, decode_stored};
use differential_upsert::health::Health;
use differential_upsert::io::{Clock, Io, Tokens};
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::shard::{Access, Handle, HandleConfig, HandleOptions, History, Schema};
use differential_upsert::source::AttemptConfig;
use differential_upsert::source::Source;
use differential_upsert::store::{Fault, Faults, Root};
use differential_upsert::timely::WorkerConfig;
use differential_upsert::timely::communication::Allocator;
use differential_upsert::timely::communication::allocator::thread::Thread;
use differential_upsert::timely::worker::Worker;
use differential_upsert::{Encoded, Error, Pipeline, PipelineConfig, Promotion, Shard, Token};
use tokio::runtime::Runtime;

use crate::behaviours::feed::Server;
use crate::behaviours::oracle::{Covered, collection, fold};
use crate::behaviours::place::Place;
use crate::behaviours::rig::Contents;

/// Tokens counted up from a base, and a clock that stands still.
struct Counted(AtomicU64);

impl Tokens for Counted {
    fn token(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Clock for Counted {
    fn now_ms(&self) -> u64 {
        0
    }
}

/// A runtime that runs only while it is polled, and its I/O.
fn runtime(base: u64) -> (Runtime, Io) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).event_interval(1).build().unwrap();
    let counted = Arc::new(Counted(AtomicU64::new(base)));
    let io = Io::new(runtime.handle().clone(), counted.clone()).with_clock(counted);
    (runtime, io)
}

pub fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

pub fn no_faults() -> Arc<Faults> {
    Faults::new(|_| Fault::None)
}

/// A process that runs a pipeline.
pub struct Replica {
    runtime: Option<Runtime>,
    /// Boxed to be forgotten whole.
    here: Option<Box<(Worker, Option<Token>, Health)>>,
}

/// How a replica is started.
pub struct Start {
    pub faults: Arc<Faults>,
    pub stop_at_current: bool,
    pub standby: Option<Promotion>,
    /// Anything that no other start has.
    pub number: u64,
}

impl Start {
    pub fn calm(number: u64) -> Start {
        Start { faults: no_faults(), stop_at_current: true, standby: None, number }
    }
}

impl Replica {
    /// Starts one that reads a server's feed, unless the store does not let it.
    pub fn start<P: Place>(root: &Root, server: &Server, start: Start) -> Result<Replica, Error> {
        let times = if P::SETS { Times::CoCommitted } else { Times::WriteAhead };
        let feed = server.source::<P>(start.number);
        Replica::read(root, feed, times, start)
    }

    /// Starts one that reads a source.
    pub fn read<S>(root: &Root, source: S, times: Times, start: Start) -> Result<Replica, Error>
    where
        S: Source<Key = u64, Value = u64>,
    {
        let Start { faults, stop_at_current, standby, number } = start;
        let (runtime, io) = runtime((number + 1) << 32);
        let config = HandleConfig {
            rollup_every: 3,
            outage_max: Duration::from_millis(100),
            entries_kept: 3,
            maintain_every: 5,
            compact_bytes_max: 1,
            history: Some(History::Last(1)),
            ..HandleConfig::default()
        };
        let root = root.with_faults(faults);
        let opened = runtime.block_on(Shard::<u64, u64>::open_with(root, io, config));
        let shard = opened?
            .with_fold("script-1", fold)
            .with_collections("parity-1", |key| collection(*key));
        let attempts = AttemptConfig { attempts_max: 30, ..AttemptConfig::default() };
        let how = SourceConfig { times, stop_at_current, attempts, ..SourceConfig::default() };
        let config = PipelineConfig { source: how, standby, ..PipelineConfig::default() };
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(source), &shard, config);
            (pipeline.token, pipeline.health)
        });
        let here = Box::new((worker, Some(token), health));
        Ok(Replica { runtime: Some(runtime), here: Some(here) })
    }

    fn here(&mut self) -> &mut (Worker, Option<Token>, Health) {
        self.here.as_mut().unwrap()
    }

    pub fn step(&mut self) {
        self.here().0.step();
    }

    /// Runs the I/O a little.
    pub fn poll(&self, times: u64) {
        self.runtime.as_ref().unwrap().block_on(async {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Moves its clock.
    pub fn wait(&self, millis: u64) {
        let advance = tokio::time::advance(Duration::from_millis(millis));
        self.runtime.as_ref().unwrap().block_on(advance);
    }

    /// One step of everything.
    pub fn turn(&mut self) {
        self.step();
        self.poll(10);
        self.wait(20);
    }

    /// Tells it to stop.
    pub fn stop(&mut self) {
        self.here().1 = None;
    }

    pub fn is_done(&mut self) -> bool {
        !self.here().0.has_dataflows()
    }

    pub fn error(&mut self) -> Option<Error> {
        self.here().2.error()
    }

    /// Runs until it is done.
    pub fn finish(&mut self) {
        for _ in 0..20_000 {
            if self.is_done() {
                return;
            }
            self.turn();
        }
        let (error, report) = (self.error(), self.here().2.report());
        panic!("stuck: {error:?} {report:?}");
    }
}

/// A crash: nothing that was under way goes on.
impl Drop for Replica {
    fn drop(&mut self) {
        std::mem::forget(self.here.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads what is durable, and checks it: the contents are those that the cursor covers, it goes on
/// only, and nothing beyond it was acked.
pub struct Observer<P> {
    runtime: Runtime,
    io: Io,
    root: Root,
    data: Handle,
    remap: Option<Handle>,
    server: Server,
    acks: usize,
    pub upper: u64,
    pub covered: Covered<P>,
    pub contents: Contents,
}

impl<P: Place> Observer<P> {
    pub fn new(root: &Root, server: &Server) -> Observer<P> {
        let (runtime, io) = runtime(1 << 60);
        let data = data(&runtime, &io, root);
        Observer {
            runtime,
            io,
            root: root.clone(),
            data,
            remap: None,
            server: server.clone(),
            acks: 0,
            upper: 0,
            covered: Covered::nothing(),
            contents: Contents::new(),
        }
    }

    pub fn check(&mut self) {
        let state = self.runtime.block_on(self.data.refresh()).unwrap();
        assert_eq!(state.sealed_at, None, "nobody has asked for a seal");
        assert!(state.upper >= self.upper, "the upper went back");
        if state.upper > self.upper {
            let rows = self.runtime.block_on(self.data.snapshot(state.upper - 1)).unwrap();
            self.contents = rows.iter().map(|((key, value), ..)| decoded(key, value)).collect();
            let covered = self.cursor(state.upper, state.cursor.as_deref());
            covered.check_after(&self.covered);
            (self.upper, self.covered) = (state.upper, covered);
            self.covered.check(&self.server.state().logs, &self.contents);
        }
        let acks = self.server.state().acks.split_off(0);
        for ack in acks {
            let ack = Covered::<P>::read(&ack);
            self.acks += 1;
            self.covered.check_after(&ack);
            assert!(ack.places.values().all(|at| at.copied().is_none()), "acked in a copy");
        }
    }

    /// Returns what covers the contents of a shard with this upper.
    fn cursor(&mut self, upper: u64, beside: Option<&[u8]>) -> Covered<P> {
        if P::SETS {
            return beside.map_or(Covered::nothing(), Covered::read);
        }
        if self.remap.is_none() {
            let options = HandleOptions::read("remap");
            let opened = Handle::open(self.root.clone(), self.io.clone(), options);
            self.remap = Some(self.runtime.block_on(opened).unwrap());
        }
        let remap = self.remap.as_ref().unwrap();
        self.runtime.block_on(remap.refresh()).unwrap();
        let bound = self.runtime.block_on(remap.snapshot(upper - 1)).unwrap();
        match &bound[..] {
            [] => Covered::nothing(),
            [((_, value), ..)] => Covered::read(&value.as_bytes()[1..]),
            more => panic!("{} bindings at once", more.len()),
        }
    }

    /// Checks that everything is there.
    pub fn check_whole(&mut self) {
        self.check();
        self.covered.check_whole(&self.server.state().logs);
    }

    pub fn acks(&self) -> usize {
        self.acks
    }

    pub fn epoch(&self) -> u64 {
        self.runtime.block_on(self.data.refresh()).unwrap().epoch
    }
}

/// Opens a shard's rows, or makes it.
fn data(runtime: &Runtime, io: &Io, root: &Root) -> Handle {
    let schema = Schema { codec: "postcard-1".into(), key: "u64".into(), value: "u64".into() };
    let options = HandleOptions::write("data", schema);
    let opened = Handle::open(root.clone(), io.clone(), options);
    runtime.block_on(opened).unwrap()
}

/// Returns what a shard holds.
pub fn contents(root: &Root) -> Contents {
    let (runtime, io) = runtime(1 << 61);
    let data = data(&runtime, &io, root);
    let upper = runtime.block_on(data.refresh()).unwrap().upper;
    let rows = runtime.block_on(data.snapshot(upper - 1)).unwrap();
    rows.iter().map(|((key, value), ..)| decoded(key, value)).collect()
}

fn decoded(key: &Encoded, value: &Encoded) -> (u64, Result<u64, differential_upsert::DataError>) {
    let key = <Postcard as Codec<u64>>::decode(key.as_bytes()).unwrap();
    (key, decode_stored::<u64, Postcard>(value.as_bytes()).unwrap())
}
