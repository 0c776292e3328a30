//! Owns one worker of a replica: its dataflow, its input and what can be asked of it. It does not own
//! when it runs; that is the [`crew`](crate::crew)'s.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc;

use differential_upsert::health::{Health, HealthReport};
use differential_upsert::input::{Outlet, TimedSource};
use differential_upsert::pipeline::Watch;
use differential_upsert::timely;
use differential_upsert::upsert::UpsertStats;
use differential_upsert::{
    Command, DataError, Error, ErrorKind, Pipeline, PipelineConfig, Shard, Token, Totals,
    UpsertInto,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;
use timely::worker::Worker;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::crew::{Crew, Order};
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
                            Command::Patch { key, patch, order } => {
                                Command::patch(key, Ok(patch), order)
                            }
                            Command::Delete { key, order } => Command::delete(key, order),
                            Command::Reset { order } => Command::reset(order),
                            Command::ResetOf { collection, order } => {
                                Command::reset_of(collection, order)
                            }
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
    /// The collection is read.
    collects: bool,
    /// What the committed collection has sent.
    collection: Rc<RefCell<BTreeMap<(u64, u64), isize>>>,
}

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub health: HealthReport,
    pub error: Option<Error>,
    pub stash_bytes: usize,
    pub inflight_bytes: usize,
    pub done: bool,
    pub ended: bool,
    pub totals: Totals,
    /// How its state began, where it is kept.
    pub state_start: Option<String>,
    /// The upper of its image.
    pub image: Option<u64>,
    /// Whether the collection is read.
    pub collects: bool,
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
    pub fn build(worker: &mut Worker, plan: &Plan) -> Seat {
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
            let collects = plan.config.collection;
            if collects {
                let rows = pipeline.collection().inner;
                rows.sink(pact::Pipeline, "Sum", move |(input, _)| {
                    input.for_each(|_, rows| {
                        for (row, _, diff) in rows.drain(..) {
                            *sums.borrow_mut().entry(row).or_insert(0) += diff;
                        }
                    });
                });
            }
            let Pipeline { token, health, stats, watch, .. } = pipeline;
            Seat { inlet, token: Some(token), health, stats, watch, collects, collection }
        })
    }

    fn report(&self, worker: &Worker) -> Report {
        let rows = self.collection.borrow();
        Report {
            health: self.health.report(),
            error: self.health.error(),
            stash_bytes: self.stats.stash_bytes(),
            inflight_bytes: self.stats.inflight_bytes(),
            done: !worker.has_dataflows(),
            ended: self.health.has_ended(),
            totals: self.watch.totals(),
            state_start: self.stats.state_start().map(str::to_string),
            image: self.stats.image().map(|image| image.upper),
            collects: self.collects,
            collection: rows.iter().filter(|(_, n)| **n != 0).map(|(r, n)| (*r, *n)).collect(),
        }
    }
}

impl Crew<Seat> {
    pub fn report(&mut self, worker: usize) -> Report {
        self.on(worker, |seat, worker| seat.report(worker))
    }

    pub fn reports(&mut self) -> Vec<Report> {
        (0..self.peers()).map(|worker| self.report(worker)).collect()
    }

    /// Whether a worker has nothing left to do until something comes from outside. Of several: a lone one has no
    /// clock, and is never told that it may rest.
    pub fn rests(&mut self, worker: usize) -> bool {
        self.on(worker, |_, worker| worker.activations().borrow().empty_for().is_none())
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
        let order: Order<Seat> = Box::new(move |_, _| {
            let _alive = alive;
            std::panic::resume_unwind(Box::new("told to"));
        });
        turns[worker].send(Some(order)).unwrap_or_else(|_| panic!("worker {worker} died before"));
        died.recv().unwrap_err();
    }
}
