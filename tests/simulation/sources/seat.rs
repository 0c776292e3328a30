//! Owns one worker of a replica: its part of the pipeline, and what can be asked of it. It does not own
//! when it runs; that is the [`crew`](crate::crew)'s.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;

use differential_upsert::health::{Health, HealthReport};
use differential_upsert::source::SourceStats;
use differential_upsert::timely;
use differential_upsert::{Error, Pipeline, PipelineConfig, Shard, Token};
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;
use timely::worker::Worker;

use crate::crew::Crew;
use crate::sources::scripted::Scripted;

/// One worker's part of a pipeline.
pub struct Seat {
    token: Option<Token>,
    health: Health,
    source: SourceStats,
    /// What the committed collection has sent.
    collection: Rc<RefCell<BTreeMap<(u64, u64), isize>>>,
}

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub health: HealthReport,
    pub error: Option<Error>,
    pub done: bool,
    pub ended: bool,
    /// Rows of units and copies that have not ended.
    pub staged: u64,
    /// Rows of the collection whose count is not 0.
    pub collection: Vec<((u64, u64), isize)>,
}

/// What a replica's pipeline is built from.
pub struct Plan {
    pub shard: Shard<u64, u64>,
    pub config: PipelineConfig,
    /// For worker 0.
    pub source: Mutex<Option<Scripted>>,
}

impl Seat {
    pub fn build(worker: &mut Worker, plan: &Plan) -> Seat {
        let collection = Rc::new(RefCell::new(BTreeMap::new()));
        let sums = Rc::clone(&collection);
        worker.dataflow::<u64, _, _>(move |scope| {
            let source = || plan.source.lock().unwrap().take();
            let pipeline: Pipeline<'_, u64, u64> =
                Pipeline::from_source(scope, source, &plan.shard, plan.config.clone());
            let rows = pipeline.collection().inner;
            rows.sink(pact::Pipeline, "Sum", move |(input, _)| {
                input.for_each(|_, rows| {
                    for (row, _, diff) in rows.drain(..) {
                        *sums.borrow_mut().entry(row).or_insert(0) += diff;
                    }
                });
            });
            let source = pipeline.source().clone();
            let Pipeline { token, health, .. } = pipeline;
            Seat { token: Some(token), health, source, collection }
        })
    }

    fn report(&self, worker: &Worker) -> Report {
        let rows = self.collection.borrow();
        Report {
            health: self.health.report(),
            error: self.health.error(),
            done: !worker.has_dataflows(),
            ended: self.health.has_ended(),
            staged: self.source.staged_rows(),
            collection: rows.iter().filter(|(_, n)| **n != 0).map(|(r, n)| (*r, *n)).collect(),
        }
    }
}

impl Crew<Seat> {
    pub fn reports(&mut self) -> Vec<Report> {
        let report = |crew: &mut Self, at| crew.on(at, |seat, worker| seat.report(worker));
        (0..self.peers()).map(|at| report(self, at)).collect()
    }

    /// Stops a worker's part.
    pub fn drop_token(&mut self, worker: usize) {
        self.on(worker, |seat, _| drop(seat.token.take()));
    }
}
