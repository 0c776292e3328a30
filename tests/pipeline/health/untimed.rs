//! Owns what becomes of a message without a time, which timely allows: its rows may be of times that
//! are closed already, so it is an error that holds, at the bare operator and in the durable loop.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::AsCollection;
use differential_upsert::health::HealthState;
use differential_upsert::{Command, ErrorKind, PipelineConfig, Upsert, UpsertConfig, UpsertInto};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{CapabilitySet, Input, Inspect, Probe};
use timely::worker::Worker;

use crate::health::rig::{Valve, memory, runtime, shard};

fn worker() -> Worker {
    Worker::new(WorkerConfig::default(), Allocator::Thread(Thread::default()), None)
}

/// Takes the times off the messages behind the first.
fn untimed<'scope, D: Clone + 'static>(
    rows: StreamVec<'scope, u64, D>,
) -> StreamVec<'scope, u64, D> {
    rows.unary(pact::Pipeline, "Untimed", |_, _| {
        let mut first = true;
        move |input, output| {
            input.for_each(|time, rows| match std::mem::take(&mut first) {
                true => output.session(&time).give_container(rows),
                false => output.session(&CapabilitySet::<u64>::new()).give_container(rows),
            });
        }
    })
}

#[test]
fn rows_without_a_time_fail_the_pipeline_and_hold() {
    let (root, runtime) = (memory(), runtime());
    let shard = shard(&root, &runtime, &Valve::none());
    let mut worker = worker();
    let (mut input, health, token) = worker.dataflow(|scope| {
        let (input, commands) = scope.new_input::<Vec<(Command<u64, u64, u64>, u64)>>();
        let pipeline = untimed(commands).upsert_into(&shard, PipelineConfig::default());
        (input, pipeline.health, pipeline.token)
    });
    let live = |worker: &mut Worker| {
        for _ in 0..100 {
            worker.step();
            runtime.block_on(async {
                tokio::task::yield_now().await;
                tokio::time::advance(std::time::Duration::from_millis(50)).await;
            });
        }
    };
    input.send((Command::put(1, 1, 0), 0));
    input.advance_to(4);
    live(&mut worker);
    assert_eq!(health.report().upper, 4);
    input.send((Command::put(2, 2, 0), 5));
    input.flush();
    input.advance_to(9);
    live(&mut worker);
    drop(input);
    live(&mut worker);
    let report = health.report();
    assert_eq!(report.state, HealthState::Failed, "{report:?}");
    let error = health.error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("a message without a time"), "{error}");
    assert!(report.upper <= 5 && !health.has_ended(), "nothing is closed past it: {report:?}");
    drop(token);
    live(&mut worker);
    assert!(!worker.has_dataflows(), "it can be stopped");
}

/// Runs the bare operator with a message without a time among its commands, or in its feedback.
fn bare(of_feedback: bool) {
    let mut worker = worker();
    let errors = Rc::new(RefCell::new(Vec::new()));
    let (mut commands, mut feedback, probe) = worker.dataflow::<u64, _, _>(|scope| {
        let (commands, stream) = scope.new_input::<Vec<(Command<u64, u64, u64>, u64)>>();
        let (feedback, rows) = scope.new_input::<Vec<((u64, u64), u64, isize)>>();
        let (stream, rows) = match of_feedback {
            false => (untimed(stream), rows),
            true => (stream, untimed(rows)),
        };
        let upserted = stream.upsert(rows.as_collection(), UpsertConfig::default());
        let failures = Rc::clone(&errors);
        upserted.errors.inspect(move |error| failures.borrow_mut().push(error.clone()));
        (commands, feedback, upserted.updates.inner.probe().0)
    });
    for time in 0..3 {
        commands.send((Command::put(time, 1, 0), time));
        commands.flush();
        commands.advance_to(time + 1);
        while probe.less_than(&(time + 1)) && errors.borrow().is_empty() {
            worker.step();
            feedback.send(((time, 1), time, 1));
            feedback.flush();
            feedback.advance_to(time + 1);
            (0..10).for_each(|_| _ = worker.step());
        }
        if !errors.borrow().is_empty() {
            break;
        }
    }
    (0..10).for_each(|_| _ = worker.step());
    let errors = errors.borrow();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), ErrorKind::Invalid);
    assert!(errors[0].to_string().contains("a message without a time"), "{}", errors[0]);
    assert!(probe.less_than(&3), "the failure holds");
}

#[test]
fn commands_without_a_time_fail_the_operator() {
    bare(false);
}

#[test]
fn feedback_without_a_time_fails_the_operator() {
    bare(true);
}
