//! Owns the client of the tests: a pipeline from the connector under test into a shard in memory,
//! moved step by step on the test's thread, which may be stopped, or dropped as a killed process is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use differential_upsert::connect::planetscale::PlanetScale;
use differential_upsert::health::Health;
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::source::{AttemptConfig, OnPositionLost};
use differential_upsert::store::Root;
use differential_upsert::{Error, Pipeline, PipelineConfig, Token};
use serde_json::Value;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;
use tokio::runtime::Runtime;

use crate::planetscale::world::{KEYSPACE, TABLE};
use crate::texts::{open, texts};

/// A table as the shard has it: keys as text, so that they sort.
pub type Table = BTreeMap<String, Value>;

/// So long a server may be silent in tests in which it is: it costs as much, each time.
pub const SILENCE: Duration = Duration::from_millis(30);

/// What is spoken with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    VStream,
    Sync,
}

/// How a client is run.
#[derive(Clone, Debug)]
pub struct Setting {
    pub protocol: Protocol,
    pub shards: Vec<String>,
    pub key: Vec<String>,
    pub stop_at_current: bool,
    pub attempts_max: u32,
    pub on_position_lost: OnPositionLost,
    pub copy_anew: bool,
    pub silence_max: Duration,
    pub password: Option<(String, String)>,
    /// The server as it is called, if not by its address.
    pub authority: Option<String>,
    /// The rest of the address.
    pub query: String,
}

impl Setting {
    pub fn new(protocol: Protocol, shards: &[&str]) -> Setting {
        Setting {
            protocol,
            shards: shards.iter().map(|shard| shard.to_string()).collect(),
            key: Vec::new(),
            stop_at_current: false,
            attempts_max: 1000,
            on_position_lost: OnPositionLost::Copy,
            copy_anew: false,
            silence_max: Duration::from_secs(60),
            password: None,
            authority: None,
            query: "tls=off".into(),
        }
    }

    /// The connector as it is set.
    pub fn source(&self, address: SocketAddr) -> PlanetScale {
        let protocol = match self.protocol {
            Protocol::VStream => "vstream",
            Protocol::Sync => "sync",
        };
        let shards = self.shards.join(",");
        let (place, query) = (self.authority.clone().unwrap_or(address.to_string()), &self.query);
        let mut url = format!(
            "planetscale://{place}/{KEYSPACE}/{TABLE}?shard={shards}&protocol={protocol}&{query}"
        );
        if !self.key.is_empty() {
            url = format!("{url}&key={}", self.key.join(","));
        }
        let (user, password) = self.password.clone().unzip();
        let source = PlanetScale::open(&url, user, password).expect("an address");
        source.silence_max(self.silence_max)
    }
}

/// A runtime on this thread.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A running pipeline.
pub struct Client {
    worker: Worker,
    token: Option<Token>,
    pub health: Health,
}

impl Client {
    /// Starts one on a runtime.
    pub fn start(runtime: &Runtime, root: &Root, setting: &Setting, address: SocketAddr) -> Client {
        let shard = open(runtime, root);
        let source = setting.source(address);
        let config = PipelineConfig {
            source: SourceConfig {
                times: Times::CoCommitted,
                stop_at_current: setting.stop_at_current,
                idle_commit: Duration::ZERO,
                attempts: AttemptConfig {
                    attempts_max: setting.attempts_max,
                    on_position_lost: setting.on_position_lost,
                    copy_anew: setting.copy_anew,
                    delay_min: Duration::from_millis(1),
                    delay_max: Duration::from_millis(1),
                    ..AttemptConfig::default()
                },
                ..SourceConfig::default()
            },
            ..PipelineConfig::default()
        };
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(source), &shard, config);
            (pipeline.token, pipeline.health)
        });
        Client { worker, token: Some(token), health }
    }

    /// Moves everything a little: the dataflow, then what runs on the runtime.
    pub fn step(&mut self, runtime: &Runtime) {
        self.worker.step();
        runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Whether it has come to its end.
    pub fn is_done(&self) -> bool {
        !self.worker.has_dataflows()
    }

    pub fn error(&self) -> Option<Error> {
        self.health.error()
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(mut self, runtime: &Runtime) {
        self.token = None;
        while !self.is_done() {
            self.step(runtime);
        }
    }

    /// Drops it as a killed process is: nothing of the dataflow runs any more.
    pub fn crash(self) {
        std::mem::forget(self);
    }
}

/// Reads what is durable, as JSON; of an error its text.
pub fn contents(runtime: &Runtime, root: &Root) -> Table {
    let json = |text: String| {
        if text.starts_with("error: ") {
            return Value::String(text);
        }
        serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    };
    let row = |(key, value)| {
        let mut value = json(value);
        // A column that the client cannot know of yet is as good as NULL.
        if value.get("extra").is_some_and(Value::is_null) {
            value.as_object_mut().expect("an object").remove("extra");
        }
        (json(key).to_string(), value)
    };
    texts(runtime, root).into_iter().map(row).collect()
}

/// Reads what is durable while a copy may run, as JSON: the row of a patch may not be copied yet.
pub fn contents_in_copy(runtime: &Runtime, root: &Root) -> Table {
    let mut all = contents(runtime, root);
    all.retain(|_, value| *value != "error: a patch of a key that has no value");
    all
}
