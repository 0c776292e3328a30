//! `ingest`: runs a keyed change feed into a durable shard. This file owns the order of things and
//! the exit code; it does not own any step.
//!
//! ```text
//! cargo run --release --example ingest -- git:. --shard file:/tmp/history
//! ```

mod args;
mod choose;
mod cluster;
mod feed_name;
mod git;
mod git_command;
mod pace;
mod progress;
mod run;
mod stop;
mod summary;
#[cfg(any(feature = "planetscale", feature = "postgres-source"))]
mod table;
mod values;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::ErrorKind;
use differential_upsert::io::Io;
use tokio_util::sync::CancellationToken;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::of(std::env::args_os()).unwrap_or_else(|e| e.exit());
    let config = match cluster::config(&args) {
        Ok(config) => config,
        Err(what) => {
            eprintln!("error: {what}");
            return ExitCode::from(2);
        }
    };
    let mut out = match cluster::own_stdout(&args) {
        Ok(out) => out,
        Err(e) => {
            eprintln!("error: cannot redirect stdout: {e} at process {}; rerun", args.process);
            return ExitCode::from(1);
        }
    };
    log();
    let stop = CancellationToken::new();
    let first = args.process == 0;
    let (summary, result) = match Io::process() {
        Ok(io) => {
            let signals = stop.clone();
            // Caught before anything is begun that a signal could interrupt.
            match io.block_on(async { stop::on_signals(signals) }) {
                Ok(caught) => drop(io.spawn(caught)),
                Err(e) => eprintln!("warning: signals end the process at once: {e}"),
            }
            run::run(&args, config, &io, &stop)
        }
        Err(e) => (Default::default(), Err(e)),
    };
    LAST_WORD.store(true, Ordering::SeqCst);
    let mut code = 0;
    if first && let Err(e) = summary.print(&mut out) {
        // A reader that went away does not change what was committed.
        if e.kind() != std::io::ErrorKind::BrokenPipe {
            eprintln!("warning: the summary could not be printed: {e}");
            code = 1;
        }
    }
    match result {
        Ok(()) => ExitCode::from(code),
        // Stopping is how a followed feed ends, and a standby. Any other error is one, whenever it came.
        Err(e) if args.is_endless() && stop.is_cancelled() && e.kind() == ErrorKind::Stopped => {
            ExitCode::from(code)
        }
        Err(e) => {
            eprintln!("error: {}", one_line(&e.to_string()));
            ExitCode::from(1)
        }
    }
}

/// Set when the last word on stderr is due: tasks may still run, and have nothing to say after it.
static LAST_WORD: AtomicBool = AtomicBool::new(false);

/// Shows what the library logs, on stderr: warnings, or from the level that RUST_LOG names. That it has failed is
/// said once, by the last line: the library's word of it is shown only where that is asked for.
fn log() {
    let level: Option<LevelFilter> =
        std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok());
    let shows_all = level.is_some();
    let is_failure = |said: &Metadata<'_>| {
        *said.level() == Level::ERROR && said.target().starts_with("differential_upsert::health")
    };
    let writer = || -> Box<dyn std::io::Write> {
        match LAST_WORD.load(Ordering::SeqCst) {
            true => Box::new(std::io::sink()),
            false => Box::new(std::io::stderr()),
        }
    };
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(false)
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .finish()
        .with(filter_fn(move |said| shows_all || !is_failure(said)))
        .init();
}

/// The last line on stderr is one line, whatever an operating system or a path put into it.
fn one_line(text: &str) -> String {
    let spaced = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().map(spaced).collect()
}
