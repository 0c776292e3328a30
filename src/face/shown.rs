//! Owns what the pages show, and whom a promotion reaches. It does not own HTTP.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::control::promotion::Promotion;
use crate::health::{Health, HealthReport, HealthState, Role, SourceLag};
use crate::pipeline::metrics::Metrics;
use crate::upsert::StatePlaces;

/// What the pages show; cheap to clone. Before there is a pipeline it is a report of the program's own.
#[derive(Clone, Debug)]
pub struct Face(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    /// What is so before there is a pipeline.
    before: Mutex<HealthReport>,
    pipeline: Mutex<Option<(Health, Metrics)>>,
    promotion: Promotion,
}

impl Face {
    /// Returns a face that shows a shard being opened. `POST /promote` promotes `promotion`, which for a
    /// standby is the one in its [`PipelineConfig`](crate::PipelineConfig); a writer's goes nowhere.
    pub fn new(promotion: Promotion) -> Face {
        let opening = HealthReport {
            role: Role::Writer,
            state: HealthState::Hydrating,
            input: 0,
            upper: 0,
            output: 0,
            behind: 0,
            since: 0,
            why: Some("the shard is being opened".to_string()),
            lag: SourceLag::default(),
        };
        Face(Arc::new(Shown { before: Mutex::new(opening), pipeline: Mutex::default(), promotion }))
    }

    /// Shows a report until there is a pipeline: what the program waits for, say.
    pub fn show_before(&self, report: HealthReport) {
        *self.0.before.lock() = report;
    }

    /// Shows a pipeline from now on, instead of the one before. Any worker's will do; one per process.
    pub fn show(&self, health: Health, metrics: Metrics) {
        let mut pipeline = self.0.pipeline.lock();
        *pipeline = Some((health, metrics));
    }

    /// Returns what `GET /health` shows.
    pub fn report(&self) -> HealthReport {
        let before = || self.0.before.lock().clone();
        self.shown().map_or_else(before, |(health, _)| health.report())
    }

    /// Returns where the rows of the pipeline's state are; all 0 before there is one.
    pub fn state_places(&self) -> StatePlaces {
        let places = |(health, _): (Health, _)| health.process.state_places();
        self.shown().map(places).unwrap_or_default()
    }

    /// Returns the metrics as text: of no bytes before there is a pipeline.
    pub(super) fn metrics(&self) -> String {
        self.shown().map(|(_, metrics)| metrics.text()).unwrap_or_default()
    }

    pub(super) fn promote(&self) {
        self.0.promotion.promote();
    }

    fn shown(&self) -> Option<(Health, Metrics)> {
        self.0.pipeline.lock().clone()
    }
}
