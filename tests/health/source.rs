//! Goal: what is wrong with a source shows while it goes on: acks that it does not take, attempts that
//! reach no boundary, keys whose value is an error; and giving up is a failure. Method: sources that do
//! nothing else, under virtual time.

use std::time::Duration;

use differential_upsert::health::{Health, HealthState};
use differential_upsert::metrics::Metrics;
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Received, Source,
};
use differential_upsert::{DataError, Error, ErrorKind, Pipeline, PipelineConfig, Token};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;
use tokio::runtime::Runtime;

use crate::rig::{Valve, memory, runtime, shard};

fn trouble(what: &str) -> Failure {
    Error::new(ErrorKind::Unavailable, what).into()
}

/// One unit, whose value cannot be read; then nothing.
struct Sickly {
    connects: bool,
    acks: bool,
    sent: bool,
}

impl Source for Sickly {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "sickly".into()
    }

    async fn connect(&mut self, _: &Boundary<u64>) -> Result<(), Failure> {
        if self.connects { Ok(()) } else { Err(trouble("nobody answers")) }
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        if std::mem::replace(&mut self.sent, true) {
            std::future::pending::<()>().await;
        }
        let unread = Change::Put(7, Err(DataError("unreadable".into())));
        let end = Event::Boundary(Received::at("".into(), 1));
        Ok(Some(vec![Event::Change("".into(), unread), end]))
    }

    fn ack(&mut self, _: &Durable<u64>) -> Ack {
        let taken = if self.acks { Ok(()) } else { Err(trouble("go away")) };
        Box::pin(std::future::ready(taken))
    }
}

struct Run {
    worker: Worker,
    runtime: Runtime,
    health: Health,
    metrics: Metrics,
    _token: Token,
}

impl Run {
    fn of(source: Sickly) -> Run {
        let runtime = runtime();
        let shard = shard(&memory(), &runtime, &Valve::none());
        let mut worker =
            Worker::new(WorkerConfig::default(), Allocator::Thread(Thread::default()), None);
        let times = SourceConfig { times: Times::CoCommitted, ..SourceConfig::default() };
        let config = PipelineConfig { source: times, ..PipelineConfig::default() };
        let (health, metrics, _token) = worker.dataflow::<u64, _, _>(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(source), &shard, config);
            (pipeline.health, pipeline.metrics, pipeline.token)
        });
        Run { worker, runtime, health, metrics, _token }
    }

    fn live(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.worker.step();
            self.runtime.block_on(tokio::time::advance(Duration::from_millis(50)));
        }
    }

    fn value(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let name = format!("differential_upsert_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.expect(&name).parse().expect("a number")
    }
}

#[test]
fn acks_that_are_not_taken_show_and_hold_nothing_up() {
    let mut run = Run::of(Sickly { connects: true, acks: false, sent: false });
    run.live(200);
    let report = run.health.report();
    assert_eq!(report.state, HealthState::Idle, "{report:?}");
    let why = report.why.unwrap();
    assert!(why.contains("has not taken") && why.contains("go away"), "{why}");
    assert!(run.value("source_acks_failed_total") > 1.0);
    assert_eq!(run.value("source_acks_total"), 0.0);
    assert_eq!(run.value("source_units_total"), 1.0);
    assert_eq!(run.value("error_keys"), 1.0, "the value that cannot be read is there");
}

#[test]
fn acks_that_are_taken_are_no_trouble() {
    let mut run = Run::of(Sickly { connects: true, acks: true, sent: false });
    run.live(100);
    let report = run.health.report();
    assert_eq!((report.state, report.why), (HealthState::Idle, None));
    assert_eq!(run.value("source_acks_total"), 1.0);
}

#[test]
fn a_source_that_does_not_connect_shows_and_then_fails() {
    let mut run = Run::of(Sickly { connects: false, acks: true, sent: false });
    run.live(3);
    let why = run.health.report().why.unwrap();
    assert!(why.contains("attempts without progress") && why.contains("nobody answers"), "{why}");
    run.live(5_000);
    let report = run.health.report();
    assert_eq!(report.state, HealthState::Failed, "{report:?}");
    assert!(report.why.unwrap().contains("gave up after 10 attempts"));
    assert_eq!(run.health.error().unwrap().kind(), ErrorKind::Unavailable);
}
