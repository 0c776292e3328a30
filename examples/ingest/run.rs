//! Owns one run: the feed, the pipeline it drives, and what is counted on the way. It does not own
//! signals or exit codes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use differential_upsert::codec::{COLLECTIONS, Json, JsonText, KEEP_UNSENT};
use differential_upsert::face::{self, Face};
use differential_upsert::health::{HealthReport, HealthState, Role, SourceLag};
use differential_upsert::io::Io;
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::shard::{self, Append, Appended, HandleConfig};
use differential_upsert::source::SourceStats;
use differential_upsert::source::{AttemptConfig, OnPositionLost};
use differential_upsert::store::{Access, Root};
use differential_upsert::{
    Error, ErrorKind, PatchErrors, Pipeline, PipelineConfig, Promotion, Restarts, Shard, Totals,
};
use timely::worker::Worker;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::choose::{Chosen, check, choose};
use crate::cluster;
use crate::progress::{Places, Progress};
use crate::stop::{interrupted, or, stopped};
use crate::summary::Summary;
use crate::values::{OnError, Switch};

/// What to do where a run has ended early whose feed is a pipe with minted times: what that has given is gone.
const PIPE: &str = "what is committed stays, and a pipe cannot go on from there: feed a file that begins with all that \
                    was fed";

type JsonShard = Shard<Json, Json, JsonText>;

/// How often a parked worker looks around. Data, commits and a stop wake it by themselves.
const WAKE: Duration = Duration::from_secs(1);

/// How long a run that has ended may go on merging what it leaves.
const TIDY_MAX: Duration = Duration::from_secs(30);

/// How long the summary waits for the shard's upper.
const LOOK_MAX: Duration = Duration::from_millis(300);

/// Runs the feed into the shard. The summary is there on success and on failure.
pub(crate) fn run(
    args: &Args,
    config: timely::Config,
    io: &Io,
    stop: &CancellationToken,
) -> (Summary, Result<(), Error>) {
    let started = Instant::now();
    let stats = SourceStats::default();
    let standby = args.standby.then(Promotion::default);
    let face = Face::new(standby.clone().unwrap_or_default());
    face.show_feed(&args.name, args.feed.to_string(), stats.clone());
    let places = if args.feed.is_lines() { Places::Bytes } else { Places::Units };
    args.http_host.iter().for_each(|host| face.answer_to(host));
    let progress = Progress::start(stats.clone(), places, face.clone());
    let mut summary = Summary::default();
    let result = drive(args, config, io, stop, &standby, &face, &stats, &mut summary);
    drop(progress);
    summary.read = stats.rows_read();
    summary.skipped = stats.messages();
    summary.below += stats.rows_skipped();
    summary.seconds = started.elapsed().as_secs_f64();
    summary.unchecked = args.unchecked;
    summary.quarantined = args.on_error.quarantine().map(|_| stats.quarantined());
    if args.process == 0 {
        summary.notes(args).iter().for_each(|note| eprintln!("warning: {note}"));
    }
    // Every error says where and what to do, if only roughly.
    let place = |e: Error| match e.kind() {
        ErrorKind::Stopped => e.at(args.feed.to_string()),
        _ => e.at(&args.shard).hint("rerun to continue"),
    };
    let result = result.map_err(place);
    if let Err(e) = &result {
        linger(args, io, stop, &face, e);
    }
    (summary, result)
}

/// Shows a failure for as long as the command line asks for, or until a signal comes.
fn linger(args: &Args, io: &Io, stop: &CancellationToken, face: &Face, error: &Error) {
    if args.linger.is_zero() || stop.is_cancelled() {
        return;
    }
    face.show_failed(error.to_string());
    eprintln!("warning: {error}; it answers HTTP for {} s more", args.linger.as_secs());
    io.block_on(async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(args.linger) => {}
        }
    });
}

/// Drives the feed through a pipeline, and through another one when the process slept for so long
/// that the shard did not wait for it, or what it keeps of the state on its disk is damaged.
#[allow(clippy::too_many_arguments, reason = "what a run shares with the next one")]
fn drive(
    args: &Args,
    mut config: timely::Config,
    io: &Io,
    stop: &CancellationToken,
    standby: &Option<Promotion>,
    face: &Face,
    stats: &SourceStats,
    summary: &mut Summary,
) -> Result<(), Error> {
    if let Some(mut address) = args.http {
        if address.port() != 0 {
            address.set_port(address.port().saturating_add(args.process as u16));
        }
        let served = io.block_on(face::serve(address, face.clone()));
        let server = served.map_err(|e| {
            Error::new(e.kind(), e.what())
                .at(address.to_string())
                .hint("give --http another address")
                .because(e)
        })?;
        eprintln!("http://{}/", server.address());
    }
    // A cluster would have to start again as one, and what came from a pipe is gone.
    let can_start_again = args.processes.get() == 1 && !args.feed.is_stream();
    if args.processes.get() == 1 && !args.standby {
        // A name that was mistyped makes no shard. In a cluster the others wait for this process, whatever its feed.
        io.block_on(or(stop, check(&args.feed, args.wait)))?;
    }
    // Once: a run that starts again must find the shard that the first one had.
    let root = Root::open(&args.shard, Access::Write)?;
    let mut restarts = Restarts::new(u64::from(std::process::id()));
    loop {
        let began = Instant::now();
        let result = once(args, &root, config, io, stop, standby, face, stats, summary);
        let lost = match result {
            Err(e) if can_start_again && is_mended_by_a_start(&e) => match stop.is_cancelled() {
                false => e,
                // It would have started again, and has been told to stop.
                true => return Err(stopped()),
            },
            result => return result,
        };
        // One that ends as soon as it has begun would write to the shard for ever.
        let Some(delay) = restarts.after(began.elapsed()) else { return Err(lost) };
        eprintln!("warning: {lost}");
        io.block_on(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
        });
        stats.start_again();
        config = timely::Config::process(args.workers.get());
    }
}

/// Whether the shard has all that was lost.
fn is_mended_by_a_start(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::StateLost)
}

/// Runs one pipeline to its end, on all workers of this process.
#[allow(clippy::too_many_arguments, reason = "what a run shares with the next one")]
fn once(
    args: &Args,
    root: &Root,
    config: timely::Config,
    io: &Io,
    stop: &CancellationToken,
    standby: &Option<Promotion>,
    face: &Face,
    stats: &SourceStats,
    summary: &mut Summary,
) -> Result<(), Error> {
    let limits = HandleConfig { history: args.history, ..HandleConfig::default() };
    let opened = JsonShard::open_with(root.clone(), io.clone(), limits);
    let shard = io.block_on(or(stop, opened))?.with_fold(KEEP_UNSENT, Json::keep_unsent);
    let shard = shard.with_collections(COLLECTIONS, Json::collection);
    if args.process == 0 && standby.is_none() {
        io.block_on(or(stop, change_history(args, &shard)))?;
    }
    let state = shard.state();
    summary.upper = upper(&state);
    let waits = || face.show_before(no_row_yet(args, &state));
    let chosen = choose(args, &state, io, stats, stop, waits)?;
    if let (Chosen::Given(_) | Chosen::Git(_), 0) = (&chosen, args.process) {
        other_name(args, &state).iter().for_each(|notice| eprintln!("notice: {notice}"));
    }
    drop(state);
    let is_gone_once_read = matches!(chosen, Chosen::Minted(_)) && args.feed.is_stream();
    let end = Arc::new(AtomicU64::new(0));
    let workers = workers(args, chosen, &shard, standby, stop, face.clone(), Arc::clone(&end));
    let outcome = cluster::execute(config, workers, io, stop);
    if let Some(watch) = &outcome.watch {
        *summary = counted(&watch.totals());
    }
    let mut result = outcome.result.map_err(|e| match e.kind() {
        _ if !is_gone_once_read => e,
        ErrorKind::Stopped => interrupted(PIPE),
        _ => e.hint(PIPE),
    });
    let writes = standby.as_ref().is_none_or(Promotion::is_promoted);
    if let (Ok(()), true, 0) = (&result, args.seal && writes, args.process) {
        let end = end.load(Ordering::Relaxed);
        // "Exactly E": another writer that has gone on keeps the shard open.
        if shard.state().upper == end {
            result = io.block_on(or(stop, shard.seal(end)));
        }
    }
    // What others have done meanwhile is worth a look, and no wait.
    let look = async { tokio::time::timeout(LOOK_MAX, shard.handle().refresh()).await };
    let look = io.block_on(look);
    let answers = look.is_ok();
    let state = look.ok().and_then(Result::ok).unwrap_or_else(|| shard.state());
    summary.upper = upper(&state);
    if result.is_ok() && writes && args.process == 0 {
        // All is committed; a signal still ends it at once.
        io.block_on(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = shard.tidy(TIDY_MAX) => {}
            }
        });
    }
    // A store that does not answer is not asked again: what is held there runs out by itself.
    if answers {
        let close = async { tokio::time::timeout(LOOK_MAX, shard.handle().close()).await };
        let _ = io.block_on(close);
    }
    result
}

/// Says that a shard whose times are given was fed under another name: what is in a feed says whether it is the same.
fn other_name(args: &Args, state: &shard::State) -> Option<String> {
    let before = &state.feed.as_ref()?.identity;
    let (feed, upper) = (args.feed.to_string(), state.upper);
    let checked = match args.unchecked {
        true => "and is not compared with it",
        false => "and is compared with it",
    };
    (*before != feed).then(|| {
        format!(
            "the shard was fed from {before} up to time {upper}: {feed} goes on there, {checked}"
        )
    })
}

/// Returns what is so until the feed's first row says how times are made.
fn no_row_yet(args: &Args, state: &shard::State) -> HealthReport {
    HealthReport {
        role: if args.standby { Role::Standby } else { Role::Writer },
        state: HealthState::Idle,
        input: state.upper,
        upper: state.upper,
        output: state.upper,
        behind: 0,
        since: state.since,
        why: Some("the feed has no row yet".to_string()),
        lag: SourceLag::default(),
        errors: None,
    }
}

/// Returns the upper as the summary says it: a sealed shard has none.
fn upper(state: &shard::State) -> Option<u64> {
    state.sealed_at.is_none().then_some(state.upper)
}

/// Gives a shard that has a history the one that the command line asks for: a feed that brings
/// nothing new appends nothing that could carry the change.
async fn change_history(args: &Args, shard: &JsonShard) -> Result<(), Error> {
    let Some(history) = args.history else { return Ok(()) };
    loop {
        let state = shard.state();
        if state.seqno == 0 || state.history == history {
            return Ok(());
        }
        if let Some(end) = state.sealed_at {
            eprintln!("warning: the shard is sealed at {end}, and keeps its history");
            return Ok(());
        }
        let (lower, upper) = (state.upper, state.upper);
        // The feeds of tables raise it, and so shut out the writers before.
        let fence = args.feed.is_table().then_some(state.epoch);
        let append = Append { lower, upper, history: Some(history), fence, ..Append::default() };
        match shard.handle().compare_and_append(append).await? {
            Appended::Won { .. } => return Ok(()),
            // Another writer has gone on, and the state known here with it.
            Appended::UpperMismatch(_) => {}
            Appended::Fenced(epoch) => {
                let what = format!("Fenced: another writer has the shard to itself, epoch {epoch}");
                return Err(Error::new(ErrorKind::Fenced, what).hint("use another shard"));
            }
        }
    }
}

/// Returns what each worker does: build the pipeline, step it to its end, say how it went.
fn workers(
    args: &Args,
    chosen: Chosen,
    shard: &JsonShard,
    standby: &Option<Promotion>,
    stop: &CancellationToken,
    face: Face,
    end: Arc<AtomicU64>,
) -> impl Fn(&mut Worker, &cluster::Report) + Send + Sync + 'static {
    let (shard, stop, history) = (shard.clone(), stop.clone(), args.history);
    let feed = shard::Feed { mode: "given".into(), identity: args.feed.to_string() };
    let (checked, standby) = (!args.unchecked, standby.clone());
    let ahead = args.ahead != Some(Switch::Off);
    let patch_errors = match args.on_error {
        OnError::Stop | OnError::Quarantine(_) => PatchErrors::Stop,
        OnError::Keep => PatchErrors::Keep,
    };
    let times = if args.feed.is_table() { Times::CoCommitted } else { Times::WriteAhead };
    let stop_at_current = args.stop_at_current;
    let on_position_lost = match args.copies_what_is_lost() {
        true => OnPositionLost::Copy,
        false => OnPositionLost::Fail,
    };
    let attempts =
        AttemptConfig { on_position_lost, copy_anew: args.copy_anew, ..AttemptConfig::default() };
    let source = SourceConfig { times, stop_at_current, attempts, ..SourceConfig::default() };
    #[cfg(any(feature = "planetscale", feature = "postgres-source"))]
    let source = crate::table::configure(&args.feed, source);
    let first = args.process * args.workers.get();
    let state_bytes_max = args.state_bytes.map(|bytes| bytes / args.workers.get());
    let (state_dir, name) = (args.state_dir.clone(), args.name.clone());
    move |worker, report| {
        let config = PipelineConfig {
            name: name.clone(),
            state_dir: state_dir.clone(),
            collection: false,
            history,
            checked,
            ahead,
            state_bytes_max,
            patch_errors,
            feed: feed.clone(),
            source: source.clone(),
            standby: standby.clone(),
            ..PipelineConfig::default()
        };
        let (health, token, stats) = worker.dataflow(|scope| {
            let pipeline = match &chosen {
                Chosen::Given(lines) => {
                    Pipeline::from_timed(scope, || lines.take(), &shard, config)
                }
                Chosen::Git(git) => Pipeline::from_timed(scope, || git.take(), &shard, config),
                Chosen::Minted(lines) => {
                    Pipeline::from_source(scope, || lines.take(), &shard, config)
                }
                #[cfg(feature = "planetscale")]
                Chosen::PlanetScale(table) => Pipeline::from_source(
                    scope,
                    || table.take().map(|table| *table),
                    &shard,
                    config,
                ),
                #[cfg(feature = "postgres-source")]
                Chosen::Postgres(table) => Pipeline::from_source(
                    scope,
                    || table.take().map(|table| *table),
                    &shard,
                    config,
                ),
                #[cfg(feature = "kafka")]
                Chosen::Kafka(topic) => Pipeline::from_source(
                    scope,
                    || topic.take().map(|topic| *topic),
                    &shard,
                    config,
                ),
            };
            if scope.index() == 0 {
                report.watch(pipeline.watch);
            }
            if scope.index() == first {
                face.show(pipeline.health.clone(), pipeline.metrics);
            }
            (pipeline.health, pipeline.token, pipeline.stats)
        });
        let mut says = worker.index() == first;
        let (thread, told) = (std::thread::current(), stop.clone());
        let telling = shard.io().spawn(async move {
            told.cancelled().await;
            thread.unpark();
        });
        let mut token = Some(token);
        let mut failed = false;
        while worker.has_dataflows() {
            worker.step_or_park(Some(WAKE));
            if let Some(line) = stats.state_start().filter(|_| says) {
                eprintln!("{line}");
                says = false;
            }
            // A failed feed still gets what it has closed into the shard; nothing else waits.
            if let (false, Some(error)) = (failed, health.error()) {
                // At once: a stop may leave no time to say it later.
                report.ended(Err(error));
                failed = true;
            }
            if (failed && health.is_settled()) || stop.is_cancelled() {
                drop(token.take());
            }
        }
        telling.abort();
        if worker.index() == 0 {
            // After a clean end, its input is closed up to the end E.
            end.store(health.report().input, Ordering::Relaxed);
        }
        report.ended(match health.error() {
            Some(error) => Err(error),
            None if health.has_ended() => Ok(()),
            None => Err(stopped()),
        });
    }
}

fn counted(totals: &Totals) -> Summary {
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
