//! Owns the client of the tests: a pipeline from a table into a shard in memory, moved on the test's thread, which may be
//! stopped, or dropped as a killed process is. And what the shard has.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use differential_upsert::connect::postgres::{PgPosition, Postgres};
use differential_upsert::health::Health;
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::source::{AttemptConfig, OnPositionLost, Position};
use differential_upsert::store::{Access, Root};
use differential_upsert::{Error, Pipeline, PipelineConfig, Promotion, Token};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;
use tokio::runtime::Runtime;

use crate::postgres::server::Server;
use crate::texts::{open, texts};

/// What a shard has: keys and values as JSON text.
pub type Contents = BTreeMap<String, String>;

/// Where the rows go.
pub struct Place {
    pub runtime: Runtime,
    pub root: Root,
}

impl Place {
    pub fn new() -> Place {
        Place { runtime: runtime(), root: Root::open("mem:", Access::Write).expect("a store") }
    }

    /// Reads what is durable. Values that are errors come as `error: TEXT`.
    pub fn contents(&self) -> Contents {
        texts(&self.runtime, &self.root)
    }

    /// Returns the durable place; none before the first.
    pub fn at(&self) -> Option<PgPosition> {
        let shard = open(&self.runtime, &self.root);
        let state = self.runtime.block_on(shard.handle().refresh()).expect("a store in memory");
        let bytes = state.cursor.clone()?;
        // As cursors are written: see `source::cursor`.
        let length = |at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
        };
        let partitions = 1 + 4 + length(1) + 8;
        if length(partitions) == 0 {
            return None;
        }
        let place = partitions + 4 + 4 + length(partitions + 4);
        let bytes = &bytes[place + 4..place + 4 + length(place)];
        Some(PgPosition::decode(bytes).expect("a place"))
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

/// What a client may have besides an address.
#[derive(Default)]
pub struct How<'a> {
    pub password: Option<&'a str>,
    /// It follows until this is promoted.
    pub standby: Option<Promotion>,
}

/// A running pipeline.
pub struct Client {
    worker: Worker,
    token: Option<Token>,
    pub health: Health,
    /// Its own: what runs on it ends with it.
    runtime: Runtime,
}

impl Client {
    pub fn start(place: &Place, server: &Server, table: &str, lost: OnPositionLost) -> Client {
        Client::of(place, &server.url(table), lost)
    }

    pub fn of(place: &Place, url: &str, lost: OnPositionLost) -> Client {
        Client::with(place, url, lost, How::default())
    }

    pub fn with(place: &Place, url: &str, lost: OnPositionLost, how: How) -> Client {
        let runtime = runtime();
        let shard = open(&runtime, &place.root);
        let source = Postgres::open(url, how.password.map(str::to_string)).expect("an address");
        let config = PipelineConfig {
            source: SourceConfig {
                times: Times::CoCommitted,
                idle_commit: Duration::ZERO,
                attempts: AttemptConfig {
                    attempts_max: 10_000,
                    on_position_lost: lost,
                    delay_min: Duration::from_millis(5),
                    delay_max: Duration::from_millis(50),
                    ..AttemptConfig::default()
                },
                ..SourceConfig::default()
            },
            standby: how.standby,
            ..PipelineConfig::default()
        };
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(source), &shard, config);
            (pipeline.token, pipeline.health)
        });
        Client { worker, token: Some(token), health, runtime }
    }

    pub fn step(&mut self) {
        self.worker.step_or_park(Some(Duration::from_millis(1)));
    }

    pub fn error(&self) -> Option<Error> {
        self.health.error()
    }

    /// Goes on until the shard has what is wanted.
    pub fn until(&mut self, place: &Place, what: &str, wanted: impl Fn(&Contents) -> bool) {
        let begun = Instant::now();
        loop {
            (0..20).for_each(|_| self.step());
            assert!(self.error().is_none(), "{what}: {:?}", self.error());
            let contents = place.contents();
            if wanted(&contents) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{what}: {:?}\n{contents:#?}",
                self.health.report()
            );
        }
    }

    /// Goes on until a place is durable.
    pub fn gets(&mut self, place: &Place, wanted: impl Fn(&PgPosition) -> bool) {
        let begun = Instant::now();
        while !place.at().is_some_and(|at| wanted(&at)) {
            (0..20).for_each(|_| self.step());
            assert!(self.error().is_none(), "{:?}", self.error());
            let report = self.health.report();
            assert!(begun.elapsed() < Duration::from_secs(60), "{report:?}, {:?}", place.at());
        }
    }

    /// Goes on until it fails.
    pub fn fails(mut self) -> String {
        let begun = Instant::now();
        loop {
            self.step();
            if let Some(error) = self.error() {
                self.stop();
                return error.to_string();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", self.health.report());
        }
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(mut self) {
        self.token = None;
        while self.worker.has_dataflows() {
            self.step();
        }
    }

    /// Drops it as a killed process is: nothing of it runs any more, and its connections are gone.
    pub fn crash(self) {
        let Client { worker, token, runtime, .. } = self;
        runtime.shutdown_timeout(Duration::from_secs(10));
        std::mem::forget((worker, token));
    }
}
