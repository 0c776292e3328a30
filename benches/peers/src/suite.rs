//! Owns which inputs are run, with whom, how often, and that all computed the same. It does not own how one
//! contestant runs, or how the tables look.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::child;
use crate::contestant::Contestant;
use crate::idle;
use crate::load::{self, Draw, Shape};
use crate::race::{self, Race};
use crate::report::{Case, Report, Result};
use crate::sums::expected;
use crate::tables;
use crate::warm::{self, Warm};

/// A part of the comparison.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Uniform upserts, 10,000 a time.
    W1,
    /// zipf(0.99), 1,000 a time.
    W2,
    /// Uniform upserts, 1 to 10,000 a time.
    Curve,
    /// `w1` with two workers.
    Workers,
    /// Until all live rows are there again.
    Restart,
    /// The open loop, at parts of the most that each can do.
    Latency,
    /// Files of JSON lines.
    Ingest,
    /// Starts on an image of the state.
    Warm,
    /// Two writers of one feed, beside one.
    Race,
    /// Pipelines that have nothing to do.
    Idle,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Distinct keys.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Upserts of each input.
    #[arg(long, default_value_t = 2_000_000)]
    pub upserts: u64,
    /// How often each contestant runs.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Which parts run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    only: Vec<Part>,
    /// Who takes part [default: all that this program was built with].
    #[arg(long, value_enum, value_delimiter = ',')]
    contestants: Vec<Contestant>,
    /// Rows handed over and not yet waited for, where a contestant can have such.
    #[arg(long, default_value_t = 65_536)]
    pub window_rows: u64,
    /// The same in times.
    #[arg(long, default_value_t = 8_192)]
    pub window_times: u64,
    /// How long one contestant runs at one point of the curve, at most.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Restarts with ten times the keys as well.
    #[arg(long)]
    pub restart_large: bool,
    /// Rows per time of the open loop.
    #[arg(long, default_value_t = 100)]
    pub latency_rows: u64,
    /// Lengths of the files of JSON lines.
    #[arg(long, value_delimiter = ',', default_value = "30000,1000000")]
    pub lines: Vec<u64>,
    /// Live keys of the starts on an image.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    pub warm_keys: Vec<u64>,
    /// For how long a pipeline that has nothing to do is measured.
    #[arg(long, default_value_t = 20)]
    pub idle_seconds: u64,
    /// Keeps what --out has of the parts that do not run.
    #[arg(long, requires = "out")]
    keep: bool,
    /// A twentieth of keys, upserts and lines: to see that it works.
    #[arg(long)]
    pub small: bool,
    /// Where what is durable is kept while it runs [default: the system's].
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Where RESULTS.md and results.json go; without it they are only printed.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs it all.
pub fn run(args: &Args) {
    let mut args = args.clone();
    if args.small {
        args.keys /= 20;
        args.upserts /= 20;
        args.lines.iter_mut().for_each(|lines| *lines /= 20);
        args.warm_keys.iter_mut().for_each(|keys| *keys /= 20);
    }
    let kept = if args.keep { read(&args) } else { Report::default() };
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut report = Report {
        machine: machine(),
        commit: commit(),
        commands: [kept.commands.clone(), vec![command]].concat(),
        keys: args.keys,
        rounds: args.rounds,
        ..kept
    };
    for part in &args.only {
        let cases = match part {
            Part::W1 => vec![args.case("w1", Draw::Uniform, 10_000, 1)],
            Part::W2 => vec![args.case("w2", Draw::Zipf, 1_000, 1)],
            Part::Curve => [1, 10, 100, 1_000, 10_000]
                .map(|rows| args.case("curve", Draw::Uniform, rows, 1))
                .to_vec(),
            Part::Workers => vec![args.case("workers", Draw::Uniform, 10_000, 2)],
            Part::Restart => {
                report.restarts =
                    args.restart_keys().iter().map(|keys| args.restart(*keys)).collect();
                Vec::new()
            }
            Part::Latency => {
                report.latencies = args.latencies();
                Vec::new()
            }
            Part::Ingest => {
                for lines in &args.lines {
                    let feed = args.feed(*lines, report.feeds.last());
                    report.feeds.push(feed);
                }
                Vec::new()
            }
            Part::Warm => {
                report.warms = args.warm_keys.iter().map(|keys| args.warm(*keys)).collect();
                Vec::new()
            }
            Part::Race => {
                report.races = args.races();
                Vec::new()
            }
            Part::Idle => {
                report.idle = idle::measured(args.keys, args.idle_seconds, &args.scratch());
                Vec::new()
            }
        };
        report.cases.retain(|old| cases.iter().all(|new| new.name != old.name));
        report.cases.extend(cases);
        write(&args, &report);
    }
    print!("{}", tables::markdown(&report));
}

/// Runs the small inputs that the check of a change compares.
pub fn small() -> Vec<Case> {
    let args = Args {
        keys: 50_000,
        upserts: 200_000,
        rounds: 5,
        contestants: {
            use Contestant::*;
            vec![Arrange, Packed, Columns, Ahead]
        },
        ..Args::default()
    };
    let fewer = Args { upserts: 50_000, ..args.clone() };
    vec![args.case("check", Draw::Uniform, 10_000, 1), fewer.case("check", Draw::Uniform, 100, 1)]
}

/// Returns what there is of an earlier run.
fn read(args: &Args) -> Report {
    let path = args.out.as_ref().expect("an option that needs --out").join("results.json");
    let text = fs::read_to_string(path).expect("--out has results to keep");
    serde_json::from_str(&text).expect("results as they were written")
}

fn write(args: &Args, report: &Report) {
    let Some(out) = &args.out else { return };
    let json = serde_json::to_string_pretty(report).expect("a report is JSON");
    fs::create_dir_all(out).expect("--out can be made");
    fs::write(out.join("results.json"), json + "\n").expect("--out is a directory");
    fs::write(out.join("RESULTS.md"), tables::markdown(report)).expect("--out is a directory");
}

impl Default for Args {
    /// Returns what an empty command line says.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        <Line as clap::Parser>::parse_from([""]).args
    }
}

impl Args {
    /// Runs one input with everybody that can have it.
    fn case(&self, name: &str, draw: Draw, rows_per_time: u64, workers: usize) -> Case {
        let shape = Shape { keys: self.keys, upserts: self.upserts, rows_per_time, draw };
        let limit = if name == "curve" { self.seconds } else { 600.0 };
        let mut results: Vec<Result> = self
            .contestants()
            .into_iter()
            .filter(|contestant| workers == 1 || contestant.has_workers())
            .map(|contestant| Result { contestant, rounds: Vec::new() })
            .collect();
        let scratch = self.scratch();
        for round in 0..self.rounds {
            for result in &mut results {
                let child = self.child(result.contestant, shape.clone(), limit, workers);
                let figures = child::spawn(&child, &scratch);
                eprintln!(
                    "{name} {rows_per_time} x{workers} round {round} {}: {:.0} rows/s, {:.3} us CPU",
                    result.contestant.name(),
                    figures.rows as f64 / figures.seconds,
                    figures.cpu_seconds * 1e6 / figures.rows as f64,
                );
                result.rounds.push(figures);
            }
        }
        check(&shape, &results);
        Case { name: name.to_string(), rows_per_time, workers, results }
    }

    /// Returns one run of a contestant.
    pub fn child(
        &self,
        contestant: Contestant,
        shape: Shape,
        seconds: f64,
        workers: usize,
    ) -> child::Args {
        let (window_rows, window_times) = (self.window_rows, self.window_times);
        let directory = PathBuf::new();
        child::Args {
            contestant,
            shape,
            window_rows,
            window_times,
            seconds,
            workers,
            state_bytes: None,
            directory,
        }
    }

    /// Returns where directories are made.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    fn warm(&self, keys: u64) -> Warm {
        let args =
            warm::Args { rounds: self.rounds, scratch: self.scratch.clone(), ..Default::default() };
        warm::measured(keys, &args)
    }

    fn races(&self) -> Vec<Race> {
        let mut races = Vec::new();
        for rows_per_time in [10_000, 100] {
            // A time of a few rows is a commit of its own where the loop is strict.
            let upserts = self.upserts * rows_per_time.min(1_000) / 1_000;
            let shape = Shape { keys: self.keys, upserts, rows_per_time, draw: Draw::Uniform };
            for contestant in [Contestant::Strict, Contestant::Ahead] {
                let child = self.child(contestant, shape.clone(), 600.0, 1);
                races.push(race::measured(&child, self.rounds, &self.scratch()));
            }
        }
        races
    }

    fn contestants(&self) -> Vec<Contestant> {
        let all: &[Contestant] = match self.contestants.is_empty() {
            true => Contestant::value_variants(),
            false => &self.contestants,
        };
        all.iter().copied().filter(|contestant| contestant.is_here()).collect()
    }
}

/// Compares what all computed with the definition.
///
/// # Panics
///
/// If one computed something else.
fn check(shape: &Shape, results: &[Result]) {
    let all = || results.iter().flat_map(|result| result.rounds.iter().map(move |r| (result, r)));
    let mut ends: Vec<u64> = all().map(|(_, figures)| figures.times).collect();
    ends.sort_unstable();
    ends.dedup();
    let sums = expected(&load::records(shape), shape.rows_per_time, &ends);
    for (result, figures) in all() {
        let at = ends.binary_search(&figures.times).expect("it is one of them");
        let name = result.contestant.name();
        assert_eq!(figures.sums, sums[at], "{name} computed something else: {shape:?}");
    }
}

/// Returns what the figures were made on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{} cores of {}, {} GiB of memory, Linux {}",
        cores,
        model.trim_start_matches([' ', '\t', ':']),
        kib >> 20,
        kernel.trim()
    )
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        let output = command.args(args).current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output();
        output.ok().and_then(|output| String::from_utf8(output.stdout).ok())
    };
    git(&["describe", "--always", "--dirty"]).unwrap_or_default().trim().to_string()
}
