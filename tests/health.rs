//! Goal: a pipeline says what it does, from any thread: a freeze becomes `stalled` within its bound,
//! with the frontier that stands and who holds it; what lets go again returns by itself; a task that
//! panics is a failure; and each change is one line in the log.
//! Method: whole pipelines on one thread over a store that hangs where it is told to, with a paused
//! clock, looked at every second of it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, Once, mpsc};
use std::time::Duration;

use differential_upsert::health::{Health, HealthReport, HealthState, Role};
use differential_upsert::io::{Io, Tokens};
use differential_upsert::metrics::Metrics;
use differential_upsert::shard::{Access, HandleConfig, History};
use differential_upsert::source::{Outlet, Source};
use differential_upsert::store::{Action, Fault, Faults, Operation, Report, Root};
use differential_upsert::timely;
use differential_upsert::{
    Command, DataError, Error, ErrorKind, Pipeline, PipelineConfig, Shard, Token, UpsertInto,
};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::Input;
use timely::worker::Worker;
use tokio::runtime::Runtime;

const STALL: u64 = 60;
/// What `health` promises: a fifth of it, or two seconds if that is less.
const BOUND: u64 = STALL + 2;

type Row = (Command<u64, u64, u64>, u64);

struct Counted(AtomicU64);

impl Tokens for Counted {
    fn token(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A store that does to some operations what a fault says, while it is told to.
#[derive(Clone)]
struct Valve {
    faults: Arc<Faults>,
    on: Arc<AtomicBool>,
}

impl Valve {
    fn new(fault: Fault, which: impl Fn(&Action) -> bool + Send + Sync + 'static) -> Valve {
        let on = Arc::new(AtomicBool::new(false));
        let is_on = Arc::clone(&on);
        let faults = Faults::new(move |action| match is_on.load(Ordering::SeqCst) {
            true if which(action) => fault,
            _ => Fault::None,
        });
        Valve { faults, on }
    }

    fn hanging(which: impl Fn(&Action) -> bool + Send + Sync + 'static) -> Valve {
        Valve::new(Fault::Hang, which)
    }

    /// A store whose operations panic.
    fn panicking(which: impl Fn(&Action) -> bool + Send + Sync + 'static) -> Valve {
        Valve::new(Fault::None, move |action| {
            if which(action) {
                std::panic::resume_unwind(Box::new("a bug"));
            }
            false
        })
    }

    fn none() -> Valve {
        Valve::hanging(|_| false)
    }

    fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        if !on {
            self.faults.let_go();
        }
    }
}

fn part(action: &Action, operation: Operation) -> bool {
    action.operation == operation && action.key.contains("/part/")
}

/// A pipeline on one worker, and its runtime, which runs only when it is polled.
struct Rig {
    worker: Worker,
    input: Option<InputHandle<u64, CapacityContainerBuilder<Vec<Row>>>>,
    token: Option<Token>,
    health: Health,
    metrics: Metrics,
    valve: Valve,
    runtime: Runtime,
}

fn runtime() -> Runtime {
    // Before anything is logged: what is logged sooner may be switched off for good.
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Lines).unwrap());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

fn shard(root: &Root, runtime: &Runtime, valve: &Valve) -> Shard<u64, u64> {
    static NAMES: AtomicU64 = AtomicU64::new(1);
    let names = Counted(AtomicU64::new(NAMES.fetch_add(1, Ordering::Relaxed) << 32));
    let io = Io::new(runtime.handle().clone(), Arc::new(names));
    // Every row is a part that is written and read back.
    let config = HandleConfig {
        inline_bytes_max: 0,
        cache_bytes_max: 0,
        append_attempts_max: 2,
        history: Some(History::Keep),
        ..HandleConfig::default()
    };
    let root = root.with_faults(Arc::clone(&valve.faults));
    runtime.block_on(Shard::open_with(root, io, config)).unwrap()
}

fn config() -> PipelineConfig {
    PipelineConfig { stall_after: Duration::from_secs(STALL), ..PipelineConfig::default() }
}

fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

impl Rig {
    fn new(valve: Valve) -> Rig {
        Rig::on(&memory(), valve, config())
    }

    fn on(root: &Root, valve: Valve, config: PipelineConfig) -> Rig {
        let runtime = runtime();
        let shard = shard(root, &runtime, &valve);
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let (input, token, health, metrics) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, commands) = scope.new_input::<Vec<Row>>();
            let Pipeline { token, health, metrics, .. } = commands.upsert_into(&shard, config);
            (input, token, health, metrics)
        });
        Rig { worker, input: Some(input), token: Some(token), health, metrics, valve, runtime }
    }

    /// A pipeline whose time 0 is committed and whose input is at 1.
    fn begun(valve: Valve) -> Rig {
        let mut rig = Rig::new(valve);
        rig.give(0, 1);
        rig.settle();
        assert_eq!(rig.state(), HealthState::Idle, "{:?}", rig.report());
        rig
    }

    /// Gives some rows at a time, and closes it.
    fn give(&mut self, time: u64, rows: u64) {
        let input = self.input.as_mut().unwrap();
        (0..rows).for_each(|key| input.send((Command::put(key, 10 + time, 0), time)));
        input.advance_to(time + 1);
        input.flush();
    }

    fn poll(&self) {
        self.runtime.block_on(async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Moves the clock without running the worker.
    fn second(&self) {
        self.runtime.block_on(tokio::time::advance(Duration::from_secs(1)));
        self.poll();
    }

    /// Runs until nothing moves that needs no clock.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.worker.step();
            self.poll();
        }
    }

    /// Lets a second pass in which everything runs.
    fn live(&mut self) {
        self.second();
        self.settle();
    }

    fn report(&self) -> HealthReport {
        let health = self.health.clone();
        // From another thread, as everywhere.
        std::thread::spawn(move || health.report()).join().unwrap()
    }

    fn state(&self) -> HealthState {
        self.report().state
    }

    /// Lives on until it is stalled, which must be within the bound and not before the time; returns
    /// why.
    fn until_stalled(&mut self, was: HealthState, mut second: impl FnMut(&mut Rig)) -> String {
        for passed in 1..=BOUND {
            second(self);
            let report = self.report();
            if report.state == HealthState::Stalled {
                assert!(passed >= STALL, "after {passed} s");
                return report.why.unwrap();
            }
            assert_eq!(report.state, was, "after {passed} s: {report:?}");
        }
        panic!("not stalled after {BOUND} s: {:?}", self.report());
    }

    fn tasks(&self) -> usize {
        self.poll();
        self.runtime.metrics().num_alive_tasks()
    }

    /// Ends the input and checks that all ends well, with no task left behind.
    fn end(mut self) {
        self.input = None;
        for _ in 0..4 {
            self.live();
        }
        assert!(!self.worker.has_dataflows(), "{:?}", self.report());
        assert_eq!((self.state(), self.health.has_ended()), (HealthState::Finished, true));
        assert_eq!(self.tasks(), 0, "a task outlives the pipeline");
    }
}

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
    assert_holds(&why, "the output frontier is 2", "worker 0 still writes 1 parts");
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
    assert_eq!(rig.state(), HealthState::Idle, "it is committed, and nobody waits for its rows");
    rig.give(2, 3);
    rig.settle();
    let why = rig.until_stalled(HealthState::Running, Rig::live);
    assert_holds(&why, "the feedback frontier is 1, behind the shard's upper 2", "the reader of");
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
    assert_holds(&why, "least time 0; feedback complete to 0", "1 parts being written");
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
    let fault = Fault::Fail { applied: false, report: Report::Error };
    let mut rig = Rig::begun(Valve::new(fault, |a| a.operation == Operation::CreateEntry));
    rig.valve.set(true);
    rig.give(1, 1);
    for _ in 0..5 {
        rig.live();
    }
    let report = rig.report();
    assert_eq!((report.role, report.state), (Role::Writer, HealthState::Failed));
    assert_eq!(rig.health.error().unwrap().kind(), ErrorKind::Unavailable);
    let json = serde_json::to_string(&report).unwrap();
    let why = serde_json::to_string(&report.why).unwrap();
    let members = r#"{"role":"writer","state":"failed","input":2,"upper":1,"output":2,"behind":1,"#;
    assert_eq!(json, format!(r#"{members}"since":0,"why":{why}}}"#));
    rig.token = None;
    rig.input = None;
    rig.live();
    assert!(!rig.worker.has_dataflows());
    assert_eq!(rig.state(), HealthState::Failed, "an end is no excuse");
    assert_eq!(rig.tasks(), 0);
}

/// A source that a newer writer has shut out.
struct ShutOut;

impl Source for ShutOut {
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
        let pipeline = Pipeline::from_source(scope, || Some(ShutOut), &shard, config());
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
    while health.report().state != HealthState::Failed {
        std::thread::yield_now();
    }
    assert_eq!(
        health.report().why.as_deref(),
        Some("worker 1: worker 1 was unwound; see what it said, and start again")
    );
    assert!(health.error().is_none(), "this worker's own part is sound");
    drop(go_on);
    drop(guards.unwrap().join());
}

thread_local! {
    /// The watchdog's lines on this thread: a rig's tasks run on its test's.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "state" {
            write!(self.0, " {value:?}").unwrap();
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "differential_upsert::health::watchdog"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        LINES.with_borrow_mut(|lines| lines.push(fields.0.replace('"', "")));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn each_change_is_one_line() {
    let valve = Valve::hanging(|a| a.operation == Operation::CreateEntry);
    let mut rig = Rig::new(valve.clone());
    rig.settle();
    rig.live();
    rig.valve.set(true);
    rig.give(0, 1);
    rig.settle();
    for _ in 0..3 * STALL {
        rig.live();
    }
    rig.valve.set(false);
    for _ in 0..3 {
        rig.live();
    }
    rig.end();
    let expected = [
        "INFO hydrating",
        "INFO idle",
        "DEBUG running",
        "WARN stalled",
        "INFO idle",
        "INFO finished",
    ];
    assert_eq!(LINES.take(), expected);

    let mut rig = Rig::begun(Valve::panicking(|a| part(a, Operation::Put)));
    rig.valve.set(true);
    rig.give(1, 1);
    for _ in 0..3 {
        rig.live();
    }
    let lines = LINES.take();
    assert_eq!(lines.last().map(String::as_str), Some("ERROR failed"), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("ERROR")).count(), 1);
}

/// Reads Prometheus text strictly: help, type, then samples of that name.
fn samples(text: &str) -> Vec<(String, f64)> {
    let (mut name, mut samples) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (named, help) = help.split_once(' ').expect("a help text");
            assert!(help.ends_with('.') && !samples.iter().any(|(n, _): &(String, _)| n == named));
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type");
            let kind = kind.strip_prefix(named).expect("the same name").trim();
            assert_eq!(kind == "counter", named.ends_with("_total"), "{named} is a {kind}");
            assert!(kind == "counter" || kind == "gauge", "{kind}");
            assert!(named.starts_with("differential_upsert_"));
            name = named.to_string();
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a sample");
        assert_eq!(sample.split('{').next(), Some(&*name), "{line}");
        samples.push((sample.to_string(), value.parse().expect("a number")));
    }
    samples
}

#[test]
fn metrics_say_what_happened() {
    let mut rig = Rig::begun(Valve::hanging(|a| a.operation == Operation::CreateEntry));
    let metrics = rig.metrics.clone();
    let value = |name: &str| {
        let text = metrics.text();
        assert!(text.ends_with('\n'));
        let name = format!("differential_upsert_{name}");
        samples(&text).into_iter().find(|(sample, _)| *sample == name).map(|(_, value)| value)
    };
    // Keys 0 to 4, of which 4 is written twice; then the same again, and one at an open time.
    let input = rig.input.as_mut().unwrap();
    input.send((Command::put(4, 1, 0), 1));
    (0..5).for_each(|key| input.send((Command::put(key, 11, 1), 1)));
    rig.give(1, 0);
    rig.settle();
    rig.give(2, 0);
    let input = rig.input.as_mut().unwrap();
    (0..5).for_each(|key| input.send((Command::put(key, 11, 0), 3)));
    input.send((Command::put(9, 9, 0), 7));
    rig.give(3, 0);
    rig.settle();
    assert_eq!(value("rows_below_total"), Some(0.0));
    assert_eq!(value("rows_above_total"), Some(13.0), "all that came was stashed");
    assert_eq!(value("rows_equal_total"), Some(6.0), "one at time 0");
    assert_eq!(value("rows_superseded_total"), Some(1.0));
    assert_eq!(value("rows_unchanged_total"), Some(5.0));
    assert_eq!((value("stash_rows"), value("stash_oldest_time")), (Some(1.0), Some(7.0)));
    assert!(value("stash_bytes") > Some(0.0) && value("state_bytes") > Some(0.0));
    assert_eq!(value("state_rows"), Some(5.0));
    assert_eq!((value("input_frontier"), value("shard_upper")), (Some(4.0), Some(4.0)));
    assert_eq!((value("feedback_lag"), value("hydrated")), (Some(0.0), Some(1.0)));
    assert_eq!(
        (value("appends_lost_total"), value("role{role=\"writer\"}")),
        (Some(0.0), Some(1.0))
    );
    assert!(value("appends_won_total") >= Some(3.0));
    assert_eq!(value("parts_read_total"), value("parts_found_total"));
    rig.valve.set(true);
    rig.give(4, 1);
    rig.settle();
    (0..5).for_each(|_| rig.live());
    let stands = value("upper_stands_seconds").unwrap();
    assert!((4.0..7.0).contains(&stands), "{stands}");
    assert_eq!(value("health_state{state=\"running\"}"), Some(1.0));
    let states = samples(&metrics.text());
    let states = states.iter().filter(|(name, _)| name.contains("health_state"));
    assert_eq!(states.map(|(_, value)| *value).sum::<f64>(), 1.0, "one state at a time");
    rig.valve.set(false);
    rig.end();
}
