//! Owns one contestant in a process of its own: the command line of it, and what comes back as a line of
//! JSON. It does not own which contestants run, or how often.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::clock::{Figures, Pace, Share};
use crate::contestant::Contestant;
use crate::limit::Limit;
use crate::load::{self, Shape};
use crate::measure;

/// How often the parent looks how large a child's directory is.
const LOOK: Duration = Duration::from_millis(100);

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[arg(long, value_enum)]
    pub contestant: Contestant,
    #[command(flatten)]
    pub shape: Shape,
    /// Rows handed over and not yet waited for.
    #[arg(long)]
    pub window_rows: u64,
    /// Times handed over and not yet waited for.
    #[arg(long)]
    pub window_times: u64,
    /// No time is handed over after this many seconds.
    #[arg(long)]
    pub seconds: f64,
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Bound of the state in memory, where a contestant can have one.
    #[arg(long)]
    pub state_bytes: Option<usize>,
    /// Where what is durable is kept.
    #[arg(long)]
    pub directory: PathBuf,
}

/// Runs the contestant, and prints its figures.
pub fn run(args: &Args) {
    let records = load::records(&args.shape);
    let pace = Pace {
        rows_per_time: args.shape.rows_per_time,
        window_rows: args.window_rows,
        window_times: args.window_times,
        limit: Duration::from_secs_f64(args.seconds),
        share: Share { workers: args.workers, ..Share::ALL },
    };
    let mut figures = args.contestant.run(records, pace, &args.directory, args.state_bytes);
    figures.cpu_seconds -= figures.made_cpu_seconds;
    println!("{}", serde_json::to_string(&figures).expect("numbers are JSON"));
}

/// Runs `args` in a process of its own, with a directory of its own below `scratch`.
pub fn spawn(args: &Args, scratch: &Path) -> Figures {
    let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
    spawn_in(args, directory.path())
}

/// The same, with no more memory than `limit`.
pub fn spawn_within(args: &Args, limit: &Limit, scratch: &Path) -> Figures {
    let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
    figures(args, directory.path(), |arguments, directory| {
        start_within(arguments, limit, directory)
    })
}

/// As [`spawn`], in `directory`, which is left as it is.
pub fn spawn_in(args: &Args, directory: &Path) -> Figures {
    figures(args, directory, start)
}

fn figures(
    args: &Args,
    directory: &Path,
    start: impl FnOnce(&[String], &Path) -> (Figures, u64),
) -> Figures {
    let mut arguments = vec![
        "child".to_string(),
        format!("--contestant={}", args.contestant.name()),
        format!("--window-rows={}", args.window_rows),
        format!("--window-times={}", args.window_times),
        format!("--seconds={}", args.seconds),
        format!("--workers={}", args.workers),
    ];
    arguments.extend(args.state_bytes.map(|bytes| format!("--state-bytes={bytes}")));
    arguments.extend(args.shape.arguments());
    let (mut figures, disk_peak) = start(&arguments, directory);
    figures.disk = measure::disk(directory);
    figures.disk_peak = disk_peak.max(figures.disk);
    figures
}

/// Runs this program with `arguments` and `--directory`, and returns what it printed and how large
/// `directory` was at most.
pub fn start<T: DeserializeOwned>(arguments: &[String], directory: &Path) -> (T, u64) {
    run_command(Command::new(program()), arguments, directory)
}

/// The same, with no more memory than `limit`.
pub fn start_within<T: DeserializeOwned>(
    arguments: &[String],
    limit: &Limit,
    directory: &Path,
) -> (T, u64) {
    run_command(limit.command(&program()), arguments, directory)
}

fn program() -> PathBuf {
    std::env::current_exe().expect("this program")
}

fn run_command<T: DeserializeOwned>(
    mut command: Command,
    arguments: &[String],
    directory: &Path,
) -> (T, u64) {
    command.args(arguments).arg("--directory").arg(directory);
    let (line, disk_peak) = output(command, directory);
    (serde_json::from_str(&line).expect("a line of figures"), disk_peak)
}

fn output(mut command: Command, directory: &Path) -> (String, u64) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(measure::disk(directory));
                thread::sleep(LOOK);
            }
            peak
        });
        let output = command.stderr(Stdio::inherit()).output().expect("a process");
        ended.store(true, Ordering::Relaxed);
        assert!(output.status.success(), "{command:?}: {}", output.status);
        let line = String::from_utf8(output.stdout).expect("text");
        (line, peak.join().expect("a thread that only looks"))
    })
}
