//! Owns one run: the feed, the pipeline it drives, and what is counted on the way. It does not own
//! signals or exit codes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use differential_upsert::io::Io;
use differential_upsert::shard::History;
use differential_upsert::timely::worker::Worker;
use differential_upsert::{Error, ErrorKind, Pipeline, PipelineConfig, Shard, Totals};

use crate::args::{self, Args, FeedName, TimesFrom};
use crate::emit::Counts;
use crate::feed::Feed;
use crate::git::GitHistory;
use crate::json::{Json, JsonText};
use crate::progress::Progress;
use crate::reader::JsonLines;
use crate::stop::{Stop, stopped};
use crate::summary::Summary;
use crate::throttle::Throttle;
use crate::times::Rule;

/// How long a worker sleeps at most before it looks at signals and failures.
const LOOK: Duration = Duration::from_millis(20);

/// How long a failed run waits for its closed times while the shard's upper stands still.
const SETTLE: Duration = Duration::from_secs(5);

type JsonShard = Shard<Json, Json, JsonText>;

/// What all workers of this process share.
#[derive(Clone)]
struct Shared {
    args: Args,
    counts: Arc<Counts>,
    stop: Stop,
}

/// How a worker's part ended.
struct Ended {
    /// The first error of this part.
    error: Option<Error>,
    /// Whether it was told to stop before the feed's end was committed.
    early: bool,
    /// The input frontier: E after a clean end.
    input: u64,
    totals: Totals,
}

/// Runs the feed into the shard. The summary is there on success and on failure.
pub(crate) fn run(
    args: &Args,
    config: timely::Config,
    io: &Io,
    stop: &Stop,
) -> (Summary, Result<(), Error>) {
    let started = Instant::now();
    let counts = Arc::new(Counts::default());
    let shared = Shared { args: args.clone(), counts: Arc::clone(&counts), stop: stop.clone() };
    let progress = Progress::start(Arc::clone(&counts));
    let (mut summary, result) = match JsonShard::open(&args.shard) {
        Ok(shard) => shared.drive(config, &shard, io),
        Err(e) => (Summary::default(), Err(e)),
    };
    drop(progress);
    summary.read = counts.read.load(Ordering::Relaxed);
    summary.below += counts.below.load(Ordering::Relaxed);
    summary.seconds = started.elapsed().as_secs_f64();
    (summary, result)
}

impl Shared {
    /// Runs all workers of this process to their end, and seals if that was asked for.
    fn drive(
        self,
        config: timely::Config,
        shard: &JsonShard,
        io: &Io,
    ) -> (Summary, Result<(), Error>) {
        let first = self.args.process == 0;
        let seal = self.args.seal && first;
        let workers_shard = shard.clone();
        let broken = |what| Error::new(ErrorKind::Unavailable, what).hint("rerun to continue");
        let work = move |worker: &mut Worker| self.work(worker, &workers_shard);
        let guards = match timely::execute(config, work) {
            Ok(guards) => guards,
            Err(what) => return (Summary::default(), Err(broken(what))),
        };
        let mut result = Ok(());
        let (mut totals, mut input) = (Totals::default(), 0);
        for (index, ended) in guards.join().into_iter().enumerate() {
            let error = match ended {
                Ok(ended) => {
                    if index == 0 {
                        (totals, input) = (ended.totals, ended.input);
                    }
                    ended.error.or_else(|| ended.early.then(stopped))
                }
                Err(what) => Some(broken(format!("a worker panicked: {what}"))),
            };
            result = result.and(error.map_or(Ok(()), Err));
        }
        if seal && result.is_ok() {
            result = io.block_on(shard.seal(input));
        }
        let last = io.block_on(shard.handle().refresh()).unwrap_or_else(|_| shard.state());
        let upper = last.sealed_at.is_none().then_some(last.upper);
        (Summary { upper, ..summary(&totals) }, result)
    }

    /// Runs one worker's part to its end.
    fn work(&self, worker: &mut Worker, shard: &JsonShard) -> Ended {
        let history = self.args.history.map(|history| match history {
            args::History::Keep => History::Keep,
            args::History::Times(times) => History::Last(times.get()),
        });
        let config = PipelineConfig { history, ..PipelineConfig::default() };
        let (token, health, watch) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, self.feed(), shard, config);
            (pipeline.token, pipeline.health, pipeline.watch)
        });
        let mut token = Some(token);
        let mut settling = Settling::default();
        while worker.has_dataflows() {
            worker.step_or_park(Some(LOOK));
            let report = health.report();
            let failed = health.error().is_some();
            if self.stop.interrupted() || (failed && settling.is_over(report.input, report.upper)) {
                token = None;
            }
        }
        Ended {
            error: health.error(),
            early: token.is_none(),
            input: health.report().input,
            totals: watch.totals(),
        }
    }

    /// Returns the feed that the arguments name.
    fn feed(&self) -> Feed {
        let (counts, stop) = (Arc::clone(&self.counts), self.stop.clone());
        let throttle = self.args.throttle.map(Throttle::new);
        // Rows below the shard's upper are sent too: the pipeline counts them, and compares them
        // with those that wrote the shard.
        let skip_below = 0;
        match &self.args.feed {
            FeedName::Git(path) => {
                Feed::Git(GitHistory { path: path.clone(), throttle, skip_below, counts, stop })
            }
            FeedName::Lines(path) => Feed::Lines(JsonLines {
                path: path.clone(),
                rule: match self.args.times {
                    Some(TimesFrom::Given) => Rule::Given,
                    None => Rule::FirstRow,
                },
                follow: self.args.follow,
                on_error: self.args.on_error,
                throttle,
                skip_below,
                counts,
                stop,
            }),
        }
    }
}

/// Says when a failed run has committed what was closed, or will not.
#[derive(Default)]
struct Settling(Option<(u64, Instant)>);

impl Settling {
    fn is_over(&mut self, input: u64, upper: u64) -> bool {
        let (seen, since) = self.0.get_or_insert_with(|| (upper, Instant::now()));
        if *seen != upper {
            (*seen, *since) = (upper, Instant::now());
        }
        upper >= input || since.elapsed() > SETTLE
    }
}

fn summary(totals: &Totals) -> Summary {
    Summary {
        below: totals.below,
        superseded: totals.superseded,
        unchanged: totals.unchanged,
        lost: totals.lost,
        inserted: totals.inserted,
        updated: totals.updated,
        deleted: totals.deleted,
        errors: totals.errors,
        wins: totals.wins,
        losses: totals.losses,
        ..Summary::default()
    }
}
