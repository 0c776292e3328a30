//! Owns the client of the tests: a pipeline from the connector into a shard in memory, moved step by step on
//! the test's thread, which may be stopped, or dropped as a killed process is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_upsert::codec::{Json, JsonText};
use differential_upsert::connect::kafka::Kafka;
use differential_upsert::health::Health;
use differential_upsert::io::{Io, RandomTokens};
use differential_upsert::reclock::SourceConfig;
use differential_upsert::shard::HandleConfig;
use differential_upsert::source::{AttemptConfig, OnPositionLost, SourceStats};
use differential_upsert::store::Root;
use differential_upsert::{
    Encoded, Error, Pipeline, PipelineConfig, Promotion, Shard, Token, Totals,
};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;
use tokio::runtime::Runtime;

/// What a shard has: keys and values as texts. Values that are errors are `error: TEXT`.
pub type Table = BTreeMap<String, String>;

/// A guard against hanging, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a client is run.
#[derive(Clone, Debug)]
pub struct Setting {
    pub url: String,
    pub stop_at_current: bool,
    pub on_position_lost: OnPositionLost,
    pub outage_max: Duration,
    /// Writes nothing until it is promoted.
    pub standby: Option<Promotion>,
}

impl Setting {
    pub fn new(url: String) -> Setting {
        Setting {
            url,
            stop_at_current: false,
            on_position_lost: OnPositionLost::Fail,
            outage_max: PATIENCE,
            standby: None,
        }
    }

    /// As [`new`](Setting::new), up to what there is.
    pub fn up_to_now(url: String) -> Setting {
        Setting { stop_at_current: true, ..Setting::new(url) }
    }
}

/// A running pipeline.
pub struct Client {
    worker: Worker,
    token: Option<Token>,
    runtime: Option<Runtime>,
    pub health: Health,
    pub stats: SourceStats,
    totals: Box<dyn Fn() -> Totals>,
}

/// Returns a runtime of its own: what runs on it ends with it.
pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

impl Client {
    pub fn start(root: &Root, setting: &Setting) -> Client {
        let runtime = runtime();
        let shard = open(&runtime, root);
        let stats = SourceStats::default();
        let source = Kafka::open(&setting.url).expect("an address");
        let source = source.look_every(Duration::from_millis(50)).count_into(stats.clone());
        let config = PipelineConfig {
            source: SourceConfig {
                stop_at_current: setting.stop_at_current,
                idle_commit: Duration::ZERO,
                attempts: AttemptConfig {
                    on_position_lost: setting.on_position_lost,
                    delay_min: Duration::from_millis(1),
                    delay_max: Duration::from_millis(50),
                    outage_max: setting.outage_max,
                    ..AttemptConfig::default()
                },
                ..SourceConfig::default()
            },
            standby: setting.standby.clone(),
            ..PipelineConfig::default()
        };
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let (token, health, watch) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(source), &shard, config);
            (pipeline.token, pipeline.health, pipeline.watch)
        });
        let totals = Box::new(move || watch.totals());
        Client { worker, token: Some(token), runtime: Some(runtime), health, stats, totals }
    }

    /// Moves the dataflow a little.
    pub fn step(&mut self) {
        self.worker.step_or_park(Some(Duration::from_millis(2)));
    }

    /// Whether it has come to its end.
    pub fn is_done(&self) -> bool {
        !self.worker.has_dataflows()
    }

    /// What it has appended, and lost.
    pub fn totals(&self) -> Totals {
        (self.totals)()
    }

    pub fn error(&self) -> Option<Error> {
        self.health.error()
    }

    /// Moves it until something is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&mut Client) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            self.step();
            let (report, error) = (self.health.report(), self.error());
            assert!(begun.elapsed() < PATIENCE, "never {what}: {report:?} {error:?}");
        }
    }

    /// Moves it until it fails, and returns why.
    #[track_caller]
    pub fn failure(mut self) -> Error {
        self.until("a failure", |client| client.error().is_some() && client.health.is_settled());
        let error = self.error().expect("a failure");
        self.stop();
        error
    }

    /// Moves it until the feed has come to its end.
    #[track_caller]
    pub fn end(mut self) -> SourceStats {
        self.until("at the end", |client| client.is_done() || client.error().is_some());
        assert_eq!(self.error().map(|error| error.to_string()), None);
        self.stats.clone()
    }

    /// Tells it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(mut self) {
        self.token = None;
        self.until("stopped", |client| client.is_done());
        self.runtime.take().expect("its own").shutdown_background();
    }

    /// Drops it as a killed process is: nothing of the dataflow runs any more.
    pub fn crash(mut self) {
        let runtime = self.runtime.take().expect("its own");
        std::mem::forget(self);
        runtime.shutdown_background();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn open(runtime: &Runtime, root: &Root) -> Shard<Json, Json, JsonText> {
    let io = Io::new(runtime.handle().clone(), Arc::new(RandomTokens));
    let opened = Shard::open_with(root.clone(), io, HandleConfig::default());
    runtime.block_on(opened).expect("a store in memory")
}

/// Reads what is durable.
pub fn contents(root: &Root) -> Table {
    let runtime = runtime();
    let shard = open(&runtime, root);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let row = |((key, value), _, diff): ((Encoded, Encoded), u64, isize)| {
        assert_eq!(diff, 1, "one live value");
        let value = match value.as_bytes() {
            [0, value @ ..] => text(value),
            [_, error @ ..] => format!("error: {}", text(error)),
            [] => panic!("a value without a tag"),
        };
        (text(key.as_bytes()), value)
    };
    let table = runtime.block_on(async {
        let state = shard.handle().refresh().await.expect("a store in memory");
        if state.upper == 0 {
            return Table::new();
        }
        let rows = shard.handle().snapshot(state.upper - 1).await.expect("a store in memory");
        rows.into_iter().map(row).collect()
    });
    runtime.shutdown_background();
    table
}

/// A table of texts.
pub fn table(rows: &[(&str, &str)]) -> Table {
    let quoted = |text: &str| format!("\"{text}\"");
    rows.iter().map(|(key, value)| (quoted(key), quoted(value))).collect()
}
