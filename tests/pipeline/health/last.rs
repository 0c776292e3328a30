//! Owns what becomes of the last time, `u64::MAX`: a command there is refused, never lost, and an
//! upper there is a shard that takes no more.

use differential_upsert::health::HealthState;
use differential_upsert::input::{Outlet, TimedSource};
use differential_upsert::reclock::Times;
use differential_upsert::shard::{Append, Appended};
use differential_upsert::source::{Boundary, Events, Failure, Source};
use differential_upsert::{
    Command, DataError, Encoded, Error, ErrorKind, Pipeline, PipelineConfig,
};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::dataflow::Scope;
use timely::worker::Worker;

use crate::health::rig::{Rig, Valve, memory, runtime, shard};

const LAST: u64 = u64::MAX;

#[test]
fn a_command_at_the_last_time_is_refused_and_holds() {
    for closed in [5, LAST] {
        let mut rig = Rig::begun(Valve::none());
        let input = rig.input.as_mut().unwrap();
        input.send((Command::put(1, 1, 0), 2));
        input.advance_to(closed);
        input.send((Command::put(2, 2, 0), LAST));
        input.flush();
        rig.input = None;
        for _ in 0..5 {
            rig.live();
        }
        let report = rig.report();
        assert_eq!(report.state, HealthState::Failed, "{report:?}");
        let error = rig.health.error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("18446744073709551615"), "{error}");
        // What was closed before it is there; nothing is whole past that.
        assert_eq!((report.upper, rig.health.has_ended()), (closed, false));
        assert!(rig.worker.has_dataflows());
        rig.token = None;
        for _ in 0..3 {
            rig.live();
        }
        assert!(!rig.worker.has_dataflows(), "it can be stopped");
    }
}

/// Runs a pipeline over a shard that has been closed up to the last time.
fn over_a_full_shard(
    build: impl FnOnce(Scope<'_, u64>, &differential_upsert::Shard<u64, u64>) -> Pipelined,
) -> Pipelined {
    let (root, runtime) = (memory(), runtime());
    let shard = shard(&root, &runtime, &Valve::none());
    let append = Append { upper: LAST, ..Append::default() };
    let won = runtime.block_on(shard.handle().compare_and_append(append)).unwrap();
    assert!(matches!(won, Appended::Won { .. }));
    let allocator = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
    let pipelined = worker.dataflow::<u64, _, _>(|scope| build(scope, &shard));
    for _ in 0..100 {
        worker.step();
        runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::time::advance(std::time::Duration::from_millis(50)).await;
        });
    }
    pipelined
}

type Pipelined = (differential_upsert::health::Health, differential_upsert::Token);

/// A feed that hands over what it is given, and ends.
struct Given(Vec<u64>);

impl TimedSource for Given {
    type Key = u64;
    type Value = Result<u64, DataError>;
    type Order = u64;

    async fn run(self, outlet: Outlet<u64, Self::Value, u64>) -> Result<u64, Error> {
        for time in self.0 {
            outlet.closed(time).await?;
            outlet.rows(vec![(Command::put(1, Ok(1), 0), time)]).await?;
        }
        Ok(LAST)
    }
}

fn given(times: Vec<u64>) -> Pipelined {
    over_a_full_shard(|scope, shard| {
        let config = PipelineConfig { checked: false, ..PipelineConfig::default() };
        let pipeline = Pipeline::from_timed(scope, || Some(Given(times)), shard, config);
        (pipeline.health, pipeline.token)
    })
}

#[test]
fn a_feed_that_was_committed_to_the_last_time_is_done_and_one_more_row_is_refused() {
    let (health, _token) = given(vec![0, LAST - 1]);
    assert_eq!((health.report().state, health.has_ended()), (HealthState::Finished, true));
    let (health, _token) = given(vec![0, LAST]);
    assert_eq!((health.report().state, health.has_ended()), (HealthState::Failed, false));
    assert_eq!(health.error().unwrap().kind(), ErrorKind::Invalid);
}

/// A source that is never reached.
struct Unreached;

impl Source for Unreached {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "unreached".into()
    }

    async fn connect(&mut self, _: &Boundary<u64>) -> Result<(), Failure> {
        unreachable!("a shard that takes no row needs no source")
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        unreachable!("nor its rows")
    }
}

#[test]
fn a_source_is_not_begun_where_no_row_can_get_a_time() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        let (health, _token) = over_a_full_shard(|scope, shard| {
            let mut config = PipelineConfig { checked: false, ..PipelineConfig::default() };
            config.source.times = times;
            let pipeline = Pipeline::from_source(scope, || Some(Unreached), shard, config);
            (pipeline.health, pipeline.token)
        });
        assert_eq!(health.report().state, HealthState::Failed, "{times:?}");
        let error = health.error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{times:?}: {error}");
        assert!(error.what().contains("no time is left"), "{times:?}: {error}");
    }
}

#[test]
fn an_upper_may_be_the_last_time_and_no_row_may_lie_there() {
    let runtime = runtime();
    let shard = shard(&memory(), &runtime, &Valve::none());
    let handle = shard.handle();
    let append = |lower, time: u64| {
        let row = ((Encoded::from_bytes(vec![1]), Encoded::from_bytes(vec![0, 1])), time, 1);
        runtime.block_on(async {
            let parts = handle.prepare(vec![row]).await?;
            handle
                .compare_and_append(Append { lower, upper: LAST, parts, ..Append::default() })
                .await
        })
    };
    assert_eq!(append(0, LAST).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(matches!(append(0, LAST - 1), Ok(Appended::Won { .. })));
    assert_eq!(append(LAST, LAST).unwrap_err().kind(), ErrorKind::Invalid);
    runtime.block_on(shard.seal(LAST)).unwrap();
}
