//! Owns what is shown: the pipelines of a process, their feeds, how it ended, and which promotion is given. It does
//! not own HTTP, nor the documents that are made of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::track::{Pace, Track};
use crate::control::promotion::Promotion;
use crate::health::{Health, HealthReport, HealthState, Role, SourceLag};
use crate::pipeline::families;
use crate::pipeline::metrics::Metrics;
use crate::source::SourceStats;
use crate::upsert::StatePlaces;

/// What the pages show; cheap to clone. Before there is a pipeline it is a report of the program's own.
#[derive(Clone, Debug)]
pub struct Face(pub(super) Arc<Shown>);

#[derive(Debug)]
pub(super) struct Shown {
    pub(super) began: Instant,
    /// What is so before there is a pipeline.
    before: Mutex<HealthReport>,
    pub(super) pipelines: Mutex<Vec<One>>,
    pub(super) feeds: Mutex<Vec<Feed>>,
    /// Why the program ends, where it fails.
    failed: Mutex<Option<String>>,
    /// Names of hosts that it may be asked under.
    hosts: Mutex<Vec<String>>,
    promotion: Promotion,
}

/// One pipeline, and what was seen of it over time.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) track: Track,
}

impl One {
    /// What tells it from the others.
    fn key(&self) -> (&str, &str) {
        (self.health.process.handle.url(), self.metrics.name())
    }
}

/// What a pipeline reads.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    /// The pipeline's name.
    pub(super) pipeline: String,
    pub(super) name: String,
    pub(super) stats: SourceStats,
    pub(super) pace: Pace,
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
            errors: None,
        };
        Face(Arc::new(Shown {
            began: Instant::now(),
            before: Mutex::new(opening),
            pipelines: Mutex::default(),
            feeds: Mutex::default(),
            failed: Mutex::default(),
            hosts: Mutex::default(),
            promotion,
        }))
    }

    /// Shows a report until there is a pipeline: what the program waits for, say.
    pub fn show_before(&self, report: HealthReport) {
        *self.0.before.lock() = report;
    }

    /// Shows a pipeline from now on, beside those of other shards and other [names](crate::PipelineConfig::name), and
    /// instead of the one before it of the same. Any worker's will do; one per process.
    pub fn show(&self, health: Health, metrics: Metrics) {
        let mut pipelines = self.0.pipelines.lock();
        let one = One { health, metrics, track: Track::default() };
        match pipelines.iter_mut().find(|other| other.key() == one.key()) {
            // What was seen of the one before stays: it is the same work.
            Some(other) => (other.health, other.metrics) = (one.health, one.metrics),
            None => pipelines.push(one),
        }
    }

    /// Shows what a pipeline reads, which is told from others by its [name](crate::PipelineConfig::name): the name of the
    /// feed, without secrets, and how far it is, where the feed [counts](SourceStats::position) into these. It may be told
    /// before there is the pipeline; where several have that name, it is not shown.
    pub fn show_feed(&self, pipeline: &str, feed: impl Into<String>, stats: SourceStats) {
        let (pipeline, name) = (pipeline.to_string(), feed.into());
        let mut feeds = self.0.feeds.lock();
        feeds.retain(|feed| feed.pipeline != pipeline);
        feeds.push(Feed { pipeline, name, stats, pace: Pace::default() });
    }

    /// Shows from now on that the program has failed, and why, where no pipeline says so itself.
    pub fn show_failed(&self, why: impl Into<String>) {
        *self.0.failed.lock() = Some(why.into());
    }

    /// Lets `POST /promote` be asked under this name of a host as well, whatever the port: that of a proxy in front, or one
    /// that other machines know this one by. Its own addresses and `localhost` need not be told.
    pub fn answer_to(&self, host: impl Into<String>) {
        self.0.hosts.lock().push(host.into());
    }

    /// Returns those names.
    pub(super) fn hosts(&self) -> Vec<String> {
        self.0.hosts.lock().clone()
    }

    /// Returns what `GET /health` shows: of several pipelines the first one in trouble, or else the first.
    pub fn report(&self) -> HealthReport {
        let reports = self.of_each(|one| one.health.report());
        let trouble = reports.iter().find(|report| report.state.is_trouble());
        let report = trouble.or(reports.first()).cloned();
        report.map_or_else(|| self.before(), |report| self.ended(report))
    }

    /// Returns a report as it is once the program has failed, if it has.
    pub(super) fn ended(&self, report: HealthReport) -> HealthReport {
        match &*self.0.failed.lock() {
            Some(why) if !matches!(report.state, HealthState::Fenced | HealthState::Failed) => {
                HealthReport { state: HealthState::Failed, why: Some(why.clone()), ..report }
            }
            _ => report,
        }
    }

    /// Returns what is shown before there is a pipeline.
    pub(super) fn before(&self) -> HealthReport {
        self.ended(self.0.before.lock().clone())
    }

    /// Returns where the rows of the pipelines' states are; all 0 before there is one.
    pub fn state_places(&self) -> StatePlaces {
        self.of_each(|one| one.health.process.state_places()).into_iter().sum()
    }

    /// Returns the metrics of all pipelines as text: of no bytes before there is one.
    pub(super) fn metrics(&self) -> String {
        families::text(&self.of_each(|one| one.metrics.all()))
    }

    pub(super) fn promote(&self) {
        self.0.promotion.promote();
    }

    /// Looks at the pipelines, once a second: what was seen becomes rates.
    pub(super) fn look(&self, now: Instant) {
        for one in &mut *self.0.pipelines.lock() {
            let (seen, metrics) = (one.health.see(), &one.metrics);
            let counts = (metrics.received(), metrics.commits());
            one.track.look(now, &seen, counts, metrics.parts().1);
        }
        for feed in &mut *self.0.feeds.lock() {
            feed.pace.look(now, feed.stats.position());
        }
    }

    /// Asks each pipeline, and copies nothing of what was seen of it over time.
    fn of_each<T>(&self, ask: impl Fn(&One) -> T) -> Vec<T> {
        self.0.pipelines.lock().iter().map(ask).collect()
    }

    pub(super) fn shown(&self) -> Vec<One> {
        self.0.pipelines.lock().clone()
    }
}
