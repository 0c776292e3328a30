//! Owns a pipeline on one worker over a store that hangs or breaks where it is told to, and its clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use differential_upsert::health::{Health, HealthReport, HealthState};
use differential_upsert::io::{Io, Tokens};
use differential_upsert::pipeline::metrics::Metrics;
use differential_upsert::shard::{Access, HandleConfig, History};
use differential_upsert::store::{Action, Fault, Faults, Operation, Root};
use differential_upsert::timely;
use differential_upsert::{Command, Pipeline, PipelineConfig, Shard, Token, UpsertInto};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Input;
use timely::dataflow::{InputHandle, Scope};
use timely::worker::Worker;
use tokio::runtime::Runtime;

use crate::health::lines::Lines;

pub const STALL: u64 = 60;
/// What `health` promises: a fifth of it, or two seconds if that is less.
pub const BOUND: u64 = STALL + 2;

pub type Row = (Command<u64, u64, u64>, u64);

struct Counted(AtomicU64);

impl Tokens for Counted {
    fn token(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A store that does to some operations what a fault says, while it is told to.
#[derive(Clone)]
pub struct Valve {
    faults: Arc<Faults>,
    on: Arc<AtomicBool>,
}

impl Valve {
    pub fn new(fault: Fault, which: impl Fn(&Action) -> bool + Send + Sync + 'static) -> Valve {
        let on = Arc::new(AtomicBool::new(false));
        let is_on = Arc::clone(&on);
        let faults = Faults::new(move |action| match is_on.load(Ordering::SeqCst) {
            true if which(action) => fault,
            _ => Fault::None,
        });
        Valve { faults, on }
    }

    pub fn hanging(which: impl Fn(&Action) -> bool + Send + Sync + 'static) -> Valve {
        Valve::new(Fault::Hang, which)
    }

    /// A store whose operations panic.
    pub fn panicking(which: impl Fn(&Action) -> bool + Send + Sync + 'static) -> Valve {
        Valve::new(Fault::None, move |action| {
            if which(action) {
                std::panic::resume_unwind(Box::new("a bug"));
            }
            false
        })
    }

    pub fn none() -> Valve {
        Valve::hanging(|_| false)
    }

    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        if !on {
            self.faults.let_go();
        }
    }
}

pub fn part(action: &Action, operation: Operation) -> bool {
    action.operation == operation && action.key.contains("/part/")
}

type Feed = InputHandle<u64, CapacityContainerBuilder<Vec<Row>>>;

/// What a rig is built of.
pub type Built<'s> = (Option<Feed>, Pipeline<'s, u64, u64>);

/// A pipeline on one worker, and its runtime, which runs only when it is polled.
pub struct Rig {
    pub worker: Worker,
    pub input: Option<Feed>,
    pub token: Option<Token>,
    pub health: Health,
    pub metrics: Metrics,
    pub valve: Valve,
    pub runtime: Runtime,
}

pub fn runtime() -> Runtime {
    // Before anything is logged: what is logged sooner may be switched off for good.
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Lines).unwrap());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

pub fn shard(root: &Root, runtime: &Runtime, valve: &Valve) -> Shard<u64, u64> {
    static NAMES: AtomicU64 = AtomicU64::new(1);
    let names = Counted(AtomicU64::new(NAMES.fetch_add(1, Ordering::Relaxed) << 32));
    let io = Io::new(runtime.handle().clone(), Arc::new(names));
    // Every row is a part that is written and read back.
    let config = HandleConfig {
        inline_bytes_max: 0,
        cache_bytes_max: 0,
        history: Some(History::Keep),
        ..HandleConfig::default()
    };
    let root = root.with_faults(Arc::clone(&valve.faults));
    runtime.block_on(Shard::open_with(root, io, config)).unwrap()
}

pub fn config() -> PipelineConfig {
    PipelineConfig { stall_after: Duration::from_secs(STALL), ..PipelineConfig::default() }
}

pub fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

impl Rig {
    pub fn new(valve: Valve) -> Rig {
        Rig::on(&memory(), valve, config())
    }

    pub fn on(root: &Root, valve: Valve, config: PipelineConfig) -> Rig {
        Rig::build(root, valve, |scope, shard| {
            let (input, commands) = scope.new_input::<Vec<Row>>();
            (Some(input), commands.upsert_into(shard, config))
        })
    }

    /// A pipeline that `build` makes, with an input or without.
    pub fn build(
        root: &Root,
        valve: Valve,
        build: impl for<'s> FnOnce(Scope<'s, u64>, &Shard<u64, u64>) -> Built<'s>,
    ) -> Rig {
        let runtime = runtime();
        let shard = shard(root, &runtime, &valve);
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let (input, token, health, metrics) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, pipeline) = build(scope, &shard);
            let Pipeline { token, health, metrics, .. } = pipeline;
            (input, token, health, metrics)
        });
        Rig { worker, input, token: Some(token), health, metrics, valve, runtime }
    }

    /// A pipeline whose time 0 is committed and whose input is at 1.
    pub fn begun(valve: Valve) -> Rig {
        let mut rig = Rig::new(valve);
        rig.give(0, 1);
        rig.settle();
        assert_eq!(rig.state(), HealthState::Idle, "{:?}", rig.report());
        rig
    }

    /// Gives some rows at a time, and closes it.
    pub fn give(&mut self, time: u64, rows: u64) {
        let input = self.input.as_mut().unwrap();
        (0..rows).for_each(|key| input.send((Command::put(key, 10 + time, 0), time)));
        input.advance_to(time + 1);
        input.flush();
    }

    pub fn poll(&self) {
        self.runtime.block_on(async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Moves the clock without running the worker.
    pub fn second(&self) {
        self.runtime.block_on(tokio::time::advance(Duration::from_secs(1)));
        self.poll();
    }

    /// Runs until nothing moves that needs no clock.
    pub fn settle(&mut self) {
        for _ in 0..60 {
            self.worker.step();
            self.poll();
        }
    }

    /// Lets a second pass in which everything runs.
    pub fn live(&mut self) {
        self.second();
        self.settle();
    }

    pub fn report(&self) -> HealthReport {
        let health = self.health.clone();
        // From another thread, as everywhere.
        std::thread::spawn(move || health.report()).join().unwrap()
    }

    pub fn state(&self) -> HealthState {
        self.report().state
    }

    /// Lives on until it is stalled, which must be within the bound and not before the time; returns
    /// why.
    pub fn until_stalled(&mut self, was: HealthState, mut second: impl FnMut(&mut Rig)) -> String {
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

    pub fn tasks(&self) -> usize {
        self.poll();
        self.runtime.metrics().num_alive_tasks()
    }

    /// Ends the input and checks that all ends well, with no task left behind.
    pub fn end(mut self) {
        self.input = None;
        for _ in 0..4 {
            self.live();
        }
        assert!(!self.worker.has_dataflows(), "{:?}", self.report());
        assert_eq!((self.state(), self.health.has_ended()), (HealthState::Finished, true));
        assert_eq!(self.tasks(), 0, "a task outlives the pipeline");
    }
}
