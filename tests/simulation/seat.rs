//! Owns one worker of a replica: its dataflow, its input and what can be asked of it. A lone worker
//! runs on the simulation's own thread; several, which timely gives a thread each, take turns: one
//! runs while all others wait, so a run is as deterministic as on one thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, mpsc};

use differential_upsert::health::{Health, HealthReport};
use differential_upsert::pipeline::Watch;
use differential_upsert::source::{Outlet, TimedSource};
use differential_upsert::timely;
use differential_upsert::upsert::UpsertStats;
use differential_upsert::{
    Command, DataError, Error, ErrorKind, Pipeline, PipelineConfig, Shard, Token, Totals,
    UpsertInto,
};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;
use timely::worker::Worker;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::feed::Row;

/// What a test tells a source.
#[derive(Debug)]
pub enum Told {
    Rows(Vec<Row>),
    Closed(u64),
    /// The clean end.
    End(u64),
    /// An error of the feed.
    Fail,
    /// A panic of the source's task.
    Panic,
}

/// A source that does what it is told.
struct Obedient(UnboundedReceiver<Told>);

impl TimedSource for Obedient {
    type Key = u64;
    type Value = Result<u64, DataError>;
    type Order = u64;

    async fn run(mut self, outlet: Outlet<u64, Self::Value, u64>) -> Result<u64, Error> {
        while let Some(told) = self.0.recv().await {
            match told {
                Told::Rows(rows) => {
                    let typed = rows.into_iter().map(|(command, time)| {
                        let command = match command {
                            Command::Put { key, value, order } => {
                                Command::put(key, Ok(value), order)
                            }
                            Command::Delete { key, order } => Command::delete(key, order),
                            Command::Reset { order } => Command::reset(order),
                        };
                        (command, time)
                    });
                    outlet.rows(typed.collect()).await?;
                }
                Told::Closed(time) => outlet.closed(time).await?,
                Told::End(time) => return Ok(time),
                Told::Fail => return Err(Error::new(ErrorKind::Invalid, "the feed is bad")),
                Told::Panic => std::panic::resume_unwind(Box::new("told to")),
            }
        }
        Err(Error::new(ErrorKind::Stopped, "nobody tells the source any more"))
    }
}

/// How rows come in.
pub enum Inlet {
    /// Level 2: an input on every worker.
    Input(InputHandle<u64, CapacityContainerBuilder<Vec<Row>>>),
    /// Level 3: a source on worker 0.
    Source(UnboundedSender<Told>),
    /// Ended, or a source's other workers.
    None,
}

/// One worker's part of a pipeline.
pub struct Seat {
    pub inlet: Inlet,
    pub token: Option<Token>,
    pub health: Health,
    pub stats: UpsertStats,
    watch: Watch,
    /// What the committed collection has sent.
    collection: Rc<RefCell<BTreeMap<(u64, u64), isize>>>,
}

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub health: HealthReport,
    pub error: Option<Error>,
    pub stash_bytes: usize,
    pub done: bool,
    pub ended: bool,
    pub totals: Totals,
    /// Rows of the collection whose count is not 0.
    pub collection: Vec<((u64, u64), isize)>,
}

/// What a replica's pipeline is built from.
#[derive(Clone)]
pub struct Plan {
    pub shard: Shard<u64, u64>,
    pub config: PipelineConfig,
    /// Level 3 instead of level 2.
    pub from_source: bool,
}

impl Seat {
    fn build(worker: &mut Worker, plan: &Plan) -> Seat {
        let leads = worker.index() == 0;
        let collection = Rc::new(RefCell::new(BTreeMap::new()));
        let sums = Rc::clone(&collection);
        worker.dataflow::<u64, _, _>(move |scope| {
            let (inlet, pipeline): (_, Pipeline<'_, u64, u64>) = if plan.from_source {
                let (sender, receiver) = unbounded_channel();
                let inlet = if leads { Inlet::Source(sender) } else { Inlet::None };
                let source = || Some(Obedient(receiver));
                (inlet, Pipeline::from_timed(scope, source, &plan.shard, plan.config.clone()))
            } else {
                let (input, commands) = scope.new_input::<Vec<Row>>();
                (Inlet::Input(input), commands.upsert_into(&plan.shard, plan.config.clone()))
            };
            let rows = pipeline.collection().inner;
            rows.sink(pact::Pipeline, "Sum", move |(input, _)| {
                input.for_each(|_, rows| {
                    for (row, _, diff) in rows.drain(..) {
                        *sums.borrow_mut().entry(row).or_insert(0) += diff;
                    }
                });
            });
            let Pipeline { token, health, stats, watch, .. } = pipeline;
            Seat { inlet, token: Some(token), health, stats, watch, collection }
        })
    }

    fn report(&self, worker: &Worker) -> Report {
        let rows = self.collection.borrow();
        Report {
            health: self.health.report(),
            error: self.health.error(),
            stash_bytes: self.stats.stash_bytes(),
            done: !worker.has_dataflows(),
            ended: self.health.has_ended(),
            totals: self.watch.totals(),
            collection: rows.iter().filter(|(_, n)| **n != 0).map(|(r, n)| (*r, *n)).collect(),
        }
    }
}

type Order = Box<dyn FnOnce(&mut Seat, &mut Worker) + Send>;

/// The workers of a replica.
pub enum Crew {
    /// One, here. Boxed to be forgotten whole.
    Here(Box<(Worker, Seat)>),
    /// Several, each on a thread that waits for its turn.
    Threads {
        turns: Vec<mpsc::Sender<Option<Order>>>,
        guards: Option<timely::communication::WorkerGuards<()>>,
    },
}

impl Crew {
    /// Builds the dataflow on `peers` workers.
    pub fn new(peers: usize, plan: Plan) -> Crew {
        if peers == 1 {
            let allocator = Allocator::Thread(Thread::default());
            let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
            let seat = Seat::build(&mut worker, &plan);
            return Crew::Here(Box::new((worker, seat)));
        }
        let (turns, orders): (Vec<_>, Vec<_>) =
            (0..peers).map(|_| mpsc::channel::<Option<Order>>()).unzip();
        let orders = Mutex::new(orders.into_iter().map(Some).collect::<Vec<_>>());
        let (ready, built) = mpsc::channel();
        let ready = Mutex::new(ready);
        let config = timely::Config::process(peers);
        let guards = timely::execute(config, move |worker| {
            let orders = orders.lock().unwrap()[worker.index()].take().unwrap();
            // The first order is to build.
            let Ok(Some(_)) = orders.recv() else { return };
            let mut seat = Seat::build(worker, &plan);
            ready.lock().unwrap().send(()).unwrap();
            while let Ok(Some(order)) = orders.recv() {
                order(&mut seat, worker);
            }
            // A crash: nothing of the dataflow runs any more, and nothing is said to anyone.
            std::mem::forget(seat);
            std::panic::resume_unwind(Box::new("crashed"));
        });
        for turn in &turns {
            turn.send(Some(Box::new(|_, _| {}))).unwrap();
            built.recv().unwrap();
        }
        Crew::Threads { turns, guards: Some(guards.unwrap()) }
    }

    pub fn peers(&self) -> usize {
        match self {
            Crew::Here(_) => 1,
            Crew::Threads { turns, .. } => turns.len(),
        }
    }

    /// Runs something on a worker and waits for it.
    pub fn on<R: Send + 'static>(
        &mut self,
        worker: usize,
        order: impl FnOnce(&mut Seat, &mut Worker) -> R + Send + 'static,
    ) -> R {
        match self {
            Crew::Here(here) => order(&mut here.1, &mut here.0),
            Crew::Threads { turns, .. } => {
                let (sender, answer) = mpsc::channel();
                let order: Order = Box::new(move |seat, worker| {
                    sender.send(order(seat, worker)).unwrap();
                });
                turns[worker].send(Some(order)).unwrap_or_else(|_| panic!("worker {worker} died"));
                answer.recv().unwrap_or_else(|_| panic!("worker {worker} panicked"))
            }
        }
    }

    pub fn step(&mut self, worker: usize) {
        self.on(worker, |_, worker| {
            worker.step();
        });
    }

    pub fn report(&mut self, worker: usize) -> Report {
        self.on(worker, |seat, worker| seat.report(worker))
    }

    pub fn reports(&mut self) -> Vec<Report> {
        (0..self.peers()).map(|worker| self.report(worker)).collect()
    }

    /// Stops a worker's part.
    pub fn drop_token(&mut self, worker: usize) {
        self.on(worker, |seat, _| drop(seat.token.take()));
    }

    /// Drops a worker's own input. A source is stopped by the token alone.
    pub fn drop_input(&mut self, worker: usize) {
        self.on(worker, |seat, _| {
            if let Inlet::Input(_) = seat.inlet {
                seat.inlet = Inlet::None;
            }
        });
    }

    /// Has a worker's thread unwind, with all that it holds. Only one of several has a thread.
    pub fn panic(&mut self, worker: usize) {
        let Crew::Threads { turns, .. } = self else { panic!("a lone worker has no thread") };
        let (alive, died) = mpsc::channel::<()>();
        let order: Order = Box::new(move |_, _| {
            let _alive = alive;
            std::panic::resume_unwind(Box::new("told to"));
        });
        turns[worker].send(Some(order)).unwrap_or_else(|_| panic!("worker {worker} died before"));
        died.recv().unwrap_err();
    }

    /// Ends every worker where it stands, as a killed process does: nothing is stepped or released.
    pub fn crash(self) {
        match self {
            Crew::Here(here) => std::mem::forget(here),
            Crew::Threads { turns, mut guards } => {
                for turn in turns {
                    // An error means that it is gone already.
                    let _ = turn.send(None);
                }
                for outcome in guards.take().unwrap().join() {
                    drop(outcome);
                }
            }
        }
    }
}
