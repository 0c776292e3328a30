//! Goal: a pipeline says what it does, from any thread: a freeze becomes `stalled` within its bound,
//! with the frontier that stands and what holds it; what lets go again returns by itself; a task that
//! panics is a failure; and each change is one line in the log.
//! Method: whole pipelines on one thread over a store that hangs where it is told to, with a paused
//! clock, looked at every second of it.

mod held;
mod lag;
mod last;
mod lines;
mod metrics;
mod outage;
mod rig;
mod source;
mod stopping;
mod untimed;

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use differential_upsert::health::{Health, HealthState, Role};
use differential_upsert::input::{Outlet, TimedSource};
use differential_upsert::pipeline::metrics::Metrics;
use differential_upsert::store::{Fault, Operation, Report};
use differential_upsert::timely;
use differential_upsert::{
    Command, DataError, Error, ErrorKind, Pipeline, PipelineConfig, UpsertInto,
};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::dataflow::operators::Input;
use timely::worker::Worker;

use rig::{Rig, Row, STALL, Valve, config, memory, part, runtime, shard};

fn assert_holds(why: &str, frontier: &str, holder: &str) {
    assert!(why.contains(frontier) && why.contains(holder), "{why}");
}

#[test]
fn health_goes_to_any_thread() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Health>();
    shared::<Metrics>();
    shared::<differential_upsert::upsert::UpsertStats>();
}

#[test]
fn an_append_that_hangs_is_stalled_and_returns_by_itself() {
    let mut rig = Rig::begun(Valve::hanging(|a| a.operation == Operation::CreateEntry));
    for _ in 0..2 * STALL {
        rig.live();
        assert_eq!(rig.state(), HealthState::Idle, "nothing waits");
    }
    rig.valve.set(true);
    rig.give(1, 3);
    rig.settle();
    let why = rig.until_stalled(HealthState::Running, Rig::live);
    assert_holds(&why, "the shard's upper stands at 1 for 6", "closed time 1 waits");
    assert_holds(&why, "the output frontier is 2", "held by the sink (append of [1, 2) in flight");
    let report = rig.report();
    assert_eq!((report.input, report.upper, report.output, report.behind), (2, 1, 2, 1));
    rig.valve.set(false);
    rig.settle();
    assert_eq!(rig.state(), HealthState::Idle, "at once, without the watchdog");
    rig.live();
    assert_eq!(rig.state(), HealthState::Idle);
    rig.end();
}

#[test]
fn a_part_that_is_never_written_is_held_by_the_sink() {
    let mut rig = Rig::begun(Valve::hanging(|a| part(a, Operation::Put)));
    rig.valve.set(true);
    rig.give(1, 3);
    rig.settle();
    let why = rig.until_stalled(HealthState::Running, Rig::live);
    assert_holds(&why, "the output frontier is 2", "worker 0 still writes 1 part");
    rig.valve.set(false);
    rig.settle();
    assert_eq!(rig.state(), HealthState::Idle);
    rig.end();
}

#[test]
fn feedback_that_is_held_back_is_held_by_the_reader() {
    let mut rig = Rig::begun(Valve::hanging(|a| part(a, Operation::Get)));
    rig.valve.set(true);
    rig.give(1, 3);
    rig.settle();
    assert_eq!(rig.state(), HealthState::Running, "it is committed, and not read back");
    // No commit waits for that.
    rig.give(2, 3);
    rig.settle();
    assert_eq!(rig.report().upper, 3);
    let why = rig.until_stalled(HealthState::Running, Rig::live);
    assert_holds(&why, "the feedback frontier is 1, behind the shard's upper 3", "the reader of");
    assert!(
        why.starts_with("what is committed below the shard's upper 3 is not read back"),
        "{why}"
    );
    rig.valve.set(false);
    rig.settle();
    assert_eq!(rig.state(), HealthState::Idle, "{:?}", rig.report());
    rig.end();
}

#[test]
fn an_operator_that_may_emit_no_more_holds_the_output() {
    let valve = Valve::hanging(|a| part(a, Operation::Put));
    let narrow = PipelineConfig { inflight_bytes_max: 1, part_bytes_max: 1, ..config() };
    let mut rig = Rig::on(&memory(), valve, narrow);
    rig.settle();
    rig.valve.set(true);
    // More than one wake-up emits.
    rig.give(0, 20_000);
    rig.settle();
    let why = rig.until_stalled(HealthState::Running, Rig::live);
    assert_holds(&why, "the output frontier is 0", "held by the upsert operator of worker 0");
    assert_holds(&why, "least time 0; feedback complete to 0", "1 part being written");
    rig.valve.set(false);
    for _ in 0..3 {
        rig.settle();
    }
    assert_eq!(rig.state(), HealthState::Idle, "{:?}", rig.report());
    rig.end();
}

#[test]
fn contents_that_do_not_come_in_are_stalled_with_nothing_waiting() {
    let root = memory();
    let mut before = Rig::on(&root, Valve::none(), config());
    before.give(0, 3);
    before.settle();
    before.end();
    let valve = Valve::hanging(|a| part(a, Operation::Get));
    let mut rig = Rig::on(&root, valve.clone(), config());
    valve.set(true);
    rig.settle();
    let why = rig.until_stalled(HealthState::Hydrating, Rig::live);
    assert_holds(&why, "the feedback frontier is 0, behind the shard's upper 1", "0 of 1 parts");
    rig.valve.set(false);
    rig.settle();
    assert_eq!(rig.state(), HealthState::Lagging, "the input is at 0");
    rig.give(1, 1);
    rig.settle();
    assert_eq!(rig.state(), HealthState::Idle);
    rig.end();
}

#[test]
fn a_worker_that_hangs_is_seen_from_outside() {
    let mut rig = Rig::begun(Valve::none());
    rig.give(1, 1);
    // Its clock runs on, the worker does not.
    let why = rig.until_stalled(HealthState::Idle, |rig| rig.second());
    assert_holds(&why, "worker 0 has not run for 6", " s");
    rig.settle();
    assert_eq!((rig.state(), rig.report().upper), (HealthState::Idle, 2));
    rig.end();
}

#[test]
fn rows_of_an_open_time_are_not_idle() {
    let mut rig = Rig::begun(Valve::none());
    let input = rig.input.as_mut().unwrap();
    input.send((Command::put(1, 1, 0), 1));
    input.flush();
    for _ in 0..2 * STALL {
        rig.live();
    }
    let report = rig.report();
    assert_eq!(report.state, HealthState::Running, "the source alone can close it: {report:?}");
    assert_eq!(report.why.as_deref(), Some("rows of time 1 wait for the source to close it"));
    rig.end();
}

#[test]
fn a_failure_shows_and_the_report_is_the_contract() {
    let fault = Fault::Fail { applied: false, report: Report::Refused };
    let mut rig = Rig::begun(Valve::new(fault, |a| a.operation == Operation::CreateEntry));
    rig.valve.set(true);
    rig.give(1, 1);
    for _ in 0..5 {
        rig.live();
    }
    let report = rig.report();
    assert_eq!((report.role, report.state), (Role::Writer, HealthState::Failed));
    assert_eq!(rig.health.error().unwrap().kind(), ErrorKind::Refused);
    let json = serde_json::to_string(&report).unwrap();
    let why = serde_json::to_string(&report.why).unwrap();
    let members = r#"{"role":"writer","state":"failed","input":2,"upper":1,"output":2,"behind":1,"#;
    assert_eq!(json, format!(r#"{members}"since":0,"why":{why}}}"#));
    rig.token = None;
    rig.input = None;
    // A stop gives the lease back, and waits a little for it.
    for _ in 0..5 {
        rig.live();
    }
    assert!(!rig.worker.has_dataflows());
    assert_eq!(rig.state(), HealthState::Failed, "an end excuses nothing");
    assert_eq!(rig.tasks(), 0);
}

/// A source that a newer writer has shut out.
struct ShutOut;

impl TimedSource for ShutOut {
    type Key = u64;
    type Value = Result<u64, DataError>;
    type Order = u64;

    async fn run(self, _: Outlet<u64, Self::Value, u64>) -> Result<u64, Error> {
        Err(Error::new(ErrorKind::Fenced, "a newer writer has taken over"))
    }
}

#[test]
fn a_writer_that_is_shut_out_is_fenced() {
    let runtime = runtime();
    let shard = shard(&memory(), &runtime, &Valve::none());
    let mut worker =
        Worker::new(WorkerConfig::default(), Allocator::Thread(Thread::default()), None);
    let (health, _token) = worker.dataflow::<u64, _, _>(|scope| {
        let pipeline = Pipeline::from_timed(scope, || Some(ShutOut), &shard, config());
        (pipeline.health, pipeline.token)
    });
    for _ in 0..5 {
        worker.step();
        runtime.block_on(tokio::time::advance(Duration::from_secs(1)));
    }
    assert_eq!(health.report().state, HealthState::Fenced);
}

#[test]
fn a_task_that_panics_is_a_failure_and_the_pipeline_can_be_stopped() {
    let cases = [(Operation::Put, "the writing of a part"), (Operation::Get, "the reader of the")];
    for (operation, what) in cases {
        let mut rig = Rig::begun(Valve::panicking(move |a| part(a, operation)));
        rig.valve.set(true);
        rig.give(1, 1);
        rig.live();
        let report = rig.report();
        assert_eq!(report.state, HealthState::Failed, "{what}: {report:?}");
        assert_holds(&report.why.unwrap(), what, "panicked: a bug");
        assert_eq!(rig.health.error().unwrap().kind(), ErrorKind::Indeterminate);
        rig.token = None;
        rig.input = None;
        rig.live();
        assert!(!rig.worker.has_dataflows(), "{what}: it cannot be stopped");
        assert_eq!(rig.tasks(), 0, "{what}");
    }
}

#[test]
fn a_commit_that_panics_is_a_failure() {
    let valve = Valve::panicking(|a| a.operation == Operation::CreateEntry);
    let mut rig = Rig::begun(valve);
    rig.valve.set(true);
    rig.give(1, 1);
    rig.live();
    assert_eq!(rig.state(), HealthState::Failed);
    assert_eq!(rig.health.error().unwrap().kind(), ErrorKind::Indeterminate);
}

#[test]
fn a_panic_of_another_worker_shows_on_this_one() {
    let runtime = runtime();
    let shard = shard(&memory(), &runtime, &Valve::none());
    let built = Arc::new(Barrier::new(2));
    let (sender, healths) = mpsc::channel();
    let (go_on, may_go) = mpsc::channel::<()>();
    let (sender, may_go) = (Mutex::new(sender), Mutex::new(may_go));
    let guards = timely::execute(timely::Config::process(2), move |worker| -> () {
        let (input, token, health) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, commands) = scope.new_input::<Vec<Row>>();
            let pipeline = commands.upsert_into(&shard, config());
            (input, pipeline.token, pipeline.health)
        });
        built.wait();
        if worker.index() == 1 {
            std::panic::resume_unwind(Box::new("told to"));
        }
        sender.lock().unwrap().send(health).unwrap();
        let _ = may_go.lock().unwrap().recv();
        // Without its peer it never ends by itself.
        std::mem::forget((input, token));
        std::panic::resume_unwind(Box::new("over"));
    });
    let health: Health = healths.recv().unwrap();
    // Until its thread has unwound; what it holds goes last.
    while health.report().state == HealthState::Hydrating {
        std::thread::yield_now();
    }
    assert_eq!(health.report().state, HealthState::Failed);
    assert_eq!(
        health.report().why.as_deref(),
        Some("worker 1: worker 1 died of a panic; see what it said, and start again")
    );
    assert!(health.error().is_none(), "this worker's own part is sound");
    drop(go_on);
    drop(guards.unwrap().join());
}
