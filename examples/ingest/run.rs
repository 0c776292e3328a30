//! Owns one run: the feed, the pipeline it drives, and what is counted on the way. It does not own
//! signals or exit codes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use differential_upsert::Error;
use differential_upsert::io::Io;

use crate::args::{Args, FeedName, TimesFrom};
use crate::emit::{Counts, Sink, Update};
use crate::feed::Feed;
use crate::git::GitHistory;
use crate::progress::Progress;
use crate::reader::JsonLines;
use crate::stop::Stop;
use crate::summary::Summary;
use crate::throttle::Throttle;
use crate::times::Rule;

/// Runs the feed into the shard. The summary is there on success and on failure.
pub fn run(
    args: &Args,
    config: timely::Config,
    io: &Io,
    stop: &Stop,
) -> (Summary, Result<(), Error>) {
    let started = Instant::now();
    let counts = Arc::new(Counts::default());
    let progress = Progress::start(Arc::clone(&counts));
    let feed = feed(args, &counts, stop);
    let (mut summary, result) = drive(feed, args, config, io);
    drop(progress);
    summary.read = counts.read.load(Ordering::Relaxed);
    summary.seconds = started.elapsed().as_secs_f64();
    (summary, result)
}

/// Drives the feed into the pipeline.
///
/// Not wired yet: the rows are counted and dropped. The wiring replaces this function's body and
/// nothing else; `Feed` is a `Source`.
fn drive(feed: Feed, args: &Args, config: timely::Config, io: &Io) -> (Summary, Result<(), Error>) {
    let _ = (&args.shard, args.seal, args.history, config);
    let ended = io.block_on(async { tokio::task::spawn_blocking(|| feed.read(Nowhere)).await });
    let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let summary = Summary { upper: ended.as_ref().ok().copied(), ..Summary::default() };
    (summary, ended.map(|_| ()))
}

struct Nowhere;

impl Sink for Nowhere {
    fn rows(&mut self, _rows: Vec<Update>) -> Result<(), Error> {
        Ok(())
    }

    fn closed(&mut self, _time: u64) -> Result<(), Error> {
        Ok(())
    }
}

/// Returns the feed that the arguments name.
fn feed(args: &Args, counts: &Arc<Counts>, stop: &Stop) -> Feed {
    let counts = Arc::clone(counts);
    let stop = stop.clone();
    let throttle = args.throttle.map(Throttle::new);
    // Rows below the shard's upper are sent too: the pipeline counts and digests them to know that
    // the feed is the one that wrote the shard.
    let skip_below = 0;
    match &args.feed {
        FeedName::Git(path) => {
            Feed::Git(GitHistory { path: path.clone(), throttle, skip_below, counts, stop })
        }
        FeedName::Lines(path) => Feed::Lines(JsonLines {
            path: path.clone(),
            rule: match args.times {
                Some(TimesFrom::Given) => Rule::Given,
                None => Rule::FirstRow,
            },
            follow: args.follow,
            on_error: args.on_error,
            throttle,
            skip_below,
            counts,
            stop,
        }),
    }
}
