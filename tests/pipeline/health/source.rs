//! Goal: what is wrong with a source shows while it goes on: acks that it does not take, attempts that
//! reach no boundary, rows whose unit does not end, keys whose value is an error; and giving up is a
//! failure. Method: sources that do nothing else, or what they are told, under virtual time.

use std::time::Duration;

use differential_upsert::health::{Health, HealthState};
use differential_upsert::pipeline::metrics::Metrics;
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Partition, Position, Received, Source,
};
use differential_upsert::store::Root;
use differential_upsert::{DataError, Error, ErrorKind, Pipeline, PipelineConfig, Token};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::health::rig::{Valve, memory, runtime, shard};

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
    fn of<S: Source<Key = u64, Value = u64>>(source: S) -> Run {
        Run::on(&memory(), source)
    }

    fn on<S: Source<Key = u64, Value = u64>>(root: &Root, source: S) -> Run {
        let runtime = runtime();
        let shard = shard(root, &runtime, &Valve::none());
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

    /// Lives for so many seconds, and returns what it says then.
    fn seconds(&mut self, seconds: u32) -> (HealthState, String) {
        self.live(seconds * 20);
        let report = self.health.report();
        (report.state, report.why.unwrap_or_default())
    }

    fn value(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let name = format!("differential_upsert_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.expect(&name).parse().expect("a number")
    }
}

/// A place of a copy, or after it.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    at: u64,
    copies: bool,
}

impl Position for Place {
    fn contains(&self, other: &Place) -> Option<bool> {
        Some((!self.copies, self.at) >= (!other.copies, other.at))
    }

    fn is_snapshot(&self) -> bool {
        self.copies
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&[self.at as u8, u8::from(self.copies)]);
    }

    fn decode(bytes: &[u8]) -> Result<Place, Error> {
        let [at, copies] = bytes else { return Err(Error::new(ErrorKind::Corrupt, "no place")) };
        Ok(Place { at: u64::from(*at), copies: *copies == 1 })
    }
}

type Said = Vec<Event<u64, u64, Place>>;

/// A source that says what it is told to, and is silent in between.
struct Told(mpsc::UnboundedReceiver<Said>);

impl Source for Told {
    type Key = u64;
    type Value = u64;
    type Position = Place;

    fn identity(&self) -> String {
        "told".into()
    }

    fn partitions(&self) -> Vec<Partition> {
        vec!["p".into(), "q".into()]
    }

    async fn connect(&mut self, _: &Boundary<Place>) -> Result<(), Failure> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        match self.0.recv().await {
            Some(said) => Ok(Some(said)),
            None => std::future::pending().await,
        }
    }
}

fn rows(partition: &str, count: u64) -> Said {
    (0..count).map(|key| Event::Change(partition.into(), Change::Put(key, Ok(key)))).collect()
}

fn end(partition: &str, at: u64, copies: bool) -> Said {
    vec![Event::Boundary(Received::at(partition.into(), Place { at, copies }))]
}

#[test]
fn rows_whose_unit_does_not_end_are_seen() {
    let (says, told) = mpsc::unbounded_channel();
    let mut run = Run::of(Told(told));
    assert_eq!(run.seconds(100), (HealthState::Idle, String::new()), "nothing has come");
    says.send(rows("p", 3)).unwrap();
    let (state, why) = run.seconds(41);
    assert_eq!(state, HealthState::Running, "{why}");
    let said =
        ["3 rows, ", " bytes received 4", " s ago wait for the end of their unit (partition p)"];
    assert!(said.iter().all(|said| why.contains(said)), "{why}");
    let staged = ["source_staged_rows", "source_staged_partitions"].map(|name| run.value(name));
    assert_eq!(staged, [3.0, 1.0]);
    assert!(run.value("source_staged_bytes") > 30.0);
    assert!((39.0..42.0).contains(&run.value("source_staged_oldest_seconds")));
    // Another partition goes on; that does not help this one.
    says.send([rows("q", 2), end("q", 1, false)].concat()).unwrap();
    let (state, why) = run.seconds(22);
    assert_eq!(state, HealthState::Stalled, "{why}");
    let said =
        ["wait for a boundary of the source (partition p)", "nothing more of it has come for 6"];
    assert!(said.iter().all(|said| why.contains(said)), "{why}");
    // As long as more comes, nothing is stalled, however long it takes.
    for _ in 0..5 {
        says.send(rows("p", 1)).unwrap();
        let (state, why) = run.seconds(50);
        assert_eq!(state, HealthState::Running, "{why}");
    }
    says.send(end("p", 1, false)).unwrap();
    assert_eq!(run.seconds(1), (HealthState::Idle, String::new()));
    assert_eq!(run.value("source_staged_rows"), 0.0);
}

#[test]
fn a_copy_whose_end_is_never_said_is_seen() {
    let (says, told) = mpsc::unbounded_channel();
    let mut run = Run::of(Told(told));
    for piece in 1..5 {
        says.send([rows("p", piece), end("p", piece, true)].concat()).unwrap();
        let (state, why) = run.seconds(50);
        assert_eq!(state, HealthState::Running, "all that has come is durable: {why}");
        assert!(why.contains("a copy has been under way for"), "{why}");
        assert!(why.contains("(partition p)"), "{why}");
    }
    let (state, why) = run.seconds(12);
    assert_eq!(state, HealthState::Stalled, "{why}");
    assert!(why.contains("or for the source to say its end"), "{why}");
    says.send(end("p", 9, false)).unwrap();
    assert_eq!(run.seconds(1), (HealthState::Idle, String::new()));
}

/// Begun again in the middle of a copy, it is in one before anything more has come.
#[test]
fn a_copy_that_is_resumed_is_seen_at_once() {
    let root = memory();
    let (says, told) = mpsc::unbounded_channel();
    let mut first = Run::on(&root, Told(told));
    says.send([rows("p", 3), end("p", 1, true)].concat()).unwrap();
    assert_eq!(first.seconds(2).0, HealthState::Running);
    drop(first);
    let (_says, told) = mpsc::unbounded_channel();
    let mut second = Run::on(&root, Told(told));
    let (state, why) = second.seconds(5);
    assert_eq!(state, HealthState::Running, "{why}");
    assert!(why.contains("a copy has been under way for"), "{why}");
    assert_eq!(second.seconds(60).0, HealthState::Stalled);
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
    run.live(40);
    let report = run.health.report();
    assert_eq!(report.state, HealthState::Stalled, "{report:?}");
    let why = report.why.unwrap();
    assert!(why.contains("without progress") && why.contains("nobody answers"), "{why}");
    run.live(4_000);
    assert_eq!(run.health.report().state, HealthState::Stalled, "for minutes");
    run.live(3_000);
    let report = run.health.report();
    assert_eq!(report.state, HealthState::Failed, "{report:?}");
    assert!(report.why.unwrap().contains("gave up after 3"));
    assert_eq!(run.health.error().unwrap().kind(), ErrorKind::Unavailable);
}
