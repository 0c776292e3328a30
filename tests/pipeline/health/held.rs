//! Owns the failures of operators that hold a capability: each shows, lets no time pass that it
//! holds, and does not outlast a stop.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use differential_upsert::health::{Health, HealthState};
use differential_upsert::io::{Io, RandomTokens};
use differential_upsert::shard::HandleConfig;
use differential_upsert::{Command, ErrorKind, PipelineConfig, Shard, Token, UpsertInto};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;
use tokio::runtime::Runtime;

use crate::health::rig::{memory, runtime};

/// A value that cannot be written if it is 1, and not be read if it is 2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Awkward(u64);

const UNWRITABLE: u64 = 1;
const UNREADABLE: u64 = 2;

impl Serialize for Awkward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            UNWRITABLE => Err(ser::Error::custom("it cannot be written")),
            other => other.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            UNREADABLE => Err(de::Error::custom("it cannot be read")),
            other => Ok(Awkward(other)),
        }
    }
}

type Row = (Command<u64, Awkward, u64>, u64);

struct Scene {
    worker: Worker,
    runtime: Runtime,
    input: Option<InputHandle<u64, CapacityContainerBuilder<Vec<Row>>>>,
    token: Option<Token>,
    health: Health,
    read: ProbeHandle<u64>,
    seen: Rc<RefCell<Vec<u64>>>,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(PipelineConfig::default())
    }

    fn with(config: PipelineConfig) -> Scene {
        let runtime = runtime();
        let io = Io::new(runtime.handle().clone(), std::sync::Arc::new(RandomTokens));
        let opened = Shard::<u64, Awkward>::open_with(memory(), io, HandleConfig::default());
        let shard = runtime.block_on(opened).unwrap();
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let seen = Rc::<RefCell<Vec<u64>>>::default();
        let into = Rc::clone(&seen);
        let (input, token, health, read) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, commands) = scope.new_input::<Vec<Row>>();
            let pipeline = commands.upsert_into(&shard, config);
            let rows = pipeline.collection().inner;
            let rows = rows.inspect(move |((_, value), ..)| into.borrow_mut().push(value.0));
            let (read, _) = rows.probe();
            (input, pipeline.token, pipeline.health, read)
        });
        let (input, token) = (Some(input), Some(token));
        Scene { worker, runtime, input, token, health, read, seen }
    }

    fn give(&mut self, value: u64, time: u64) {
        let input = self.input.as_mut().unwrap();
        input.send((Command::put(time, Awkward(value), 0), time));
        input.advance_to(time + 1);
        input.flush();
    }

    fn live(&mut self) {
        for _ in 0..80 {
            self.worker.step();
            self.runtime.block_on(async {
                tokio::time::advance(Duration::from_millis(20)).await;
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    fn fails(&mut self, kind: ErrorKind) {
        self.live();
        let report = self.health.report();
        assert_eq!(report.state, HealthState::Failed, "{report:?}");
        assert_eq!(self.health.error().unwrap().kind(), kind);
        assert!(self.read.less_equal(&1), "the collection passed the row that is missing");
    }

    fn stops(mut self) {
        (self.token, self.input) = (None, None);
        self.live();
        assert!(!self.worker.has_dataflows(), "a stop never ends: {:?}", self.health.report());
    }
}

#[test]
fn a_value_that_cannot_be_encoded_does_not_outlast_a_stop() {
    let mut scene = Scene::new();
    scene.give(0, 0);
    scene.live();
    scene.give(UNWRITABLE, 1);
    scene.give(3, 2);
    scene.fails(ErrorKind::Invalid);
    assert_eq!((scene.health.report().upper, &*scene.seen.borrow()), (1, &vec![0]));
    scene.stops();
}

#[test]
fn a_value_that_cannot_be_decoded_holds_the_collection_and_does_not_outlast_a_stop() {
    // Each time is an append of its own, and so is what comes out.
    let mut scene = Scene::with(PipelineConfig { ahead: false, ..PipelineConfig::default() });
    scene.give(0, 0);
    scene.give(UNREADABLE, 1);
    scene.give(3, 2);
    scene.fails(ErrorKind::Corrupt);
    assert_eq!(*scene.seen.borrow(), [0], "nothing comes out after it");
    scene.stops();
}

#[test]
fn a_pipeline_whose_config_is_out_of_range_commits_nothing_and_does_not_outlast_a_stop() {
    let config = PipelineConfig { part_bytes_max: 0, ..PipelineConfig::default() };
    let mut scene = Scene::with(config);
    scene.give(0, 0);
    scene.fails(ErrorKind::Invalid);
    let said = scene.health.error().unwrap();
    assert_eq!(said.what(), "part_bytes_max must be at least 1, and is 0");
    assert_eq!(scene.health.report().upper, 0);
    scene.stops();
}
