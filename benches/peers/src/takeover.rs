//! Owns the takeover: how long a promoted standby, or a writer that is started again, takes until the first append of
//! its own. It does not own the pipeline.
//!
//! The feed is a function of the clock: each millisecond is a time with a few rows, the same for every process that
//! follows it. The writer is killed; the standby is promoted then, and killed for the next round; and a writer is
//! started on what is there.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use differential_upsert::health::HealthState;
use differential_upsert::{Command as Upsert, Encoded, PipelineConfig, Promotion, UpsertInto};
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::Input;

use crate::contestant::durable;
use crate::contestant::rows::{Rows, Stored};
use crate::load::{Record, mix};
use crate::report::median;
use crate::running::{Running, heard, say};

/// Rows of a time that fills the shard.
pub const FILL: u64 = 100_000;

/// Rows of each millisecond.
const ROWS: u64 = 10;

/// Times that are handed over before those below them are in the shard.
pub const FILLS_AHEAD: u64 = 4;

/// How often a process looks at its clock.
const LOOK: Duration = Duration::from_micros(500);

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Live keys, of 64 bytes each.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    keys: Vec<u64>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// For how long the shard has no writer before the promotion, in milliseconds; each is a row of the table.
    #[arg(long, value_delimiter = ',', default_value = "0,3000")]
    orphaned: Vec<u64>,
    /// Where the shard is kept while it runs [default: the system's].
    #[arg(long)]
    scratch: Option<PathBuf>,
}

/// Who takes part.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Fills the shard, and ends.
    Fill,
    Writer,
    Standby,
}

#[derive(clap::Args, Clone, Debug)]
pub struct PartyArgs {
    #[arg(long, value_enum)]
    role: Role,
    #[arg(long)]
    keys: u64,
    /// When the first time after those that fill the shard begins: milliseconds since the Unix epoch.
    #[arg(long, default_value_t = 0)]
    origin: u64,
    #[arg(long)]
    directory: PathBuf,
}

/// Runs it all, and prints the table.
pub fn run(args: &Args) {
    println!(
        "| keys | from | until its first append, ms: median, least, most | of which the process, ms |"
    );
    println!("|---|---|---|---|");
    for keys in &args.keys {
        let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
        let stage = Stage::filled(*keys, directory.path());
        for orphaned in &args.orphaned {
            let took: Vec<f64> = (0..args.rounds).map(|_| stage.promote(*orphaned)).collect();
            line(
                *keys,
                &format!("a promotion, {orphaned} ms after the writer's end"),
                took,
                Vec::new(),
            );
        }
        let (took, opened) = (0..args.rounds).map(|_| stage.restart()).unzip();
        line(*keys, "a start", took, opened);
    }
}

fn line(keys: u64, what: &str, took: Vec<f64>, opened: Vec<f64>) {
    let least = took.iter().copied().fold(f64::INFINITY, f64::min);
    let most = took.iter().copied().fold(0.0, f64::max);
    let opened = if opened.is_empty() { String::new() } else { format!("{:.0}", median(opened)) };
    println!("| {keys} | {what} | {:.1}, {least:.1}, {most:.1} | {opened} |", median(took));
}

/// A shard, and a feed that goes on.
struct Stage<'a> {
    keys: u64,
    origin: u64,
    directory: &'a Path,
}

impl<'a> Stage<'a> {
    fn filled(keys: u64, directory: &'a Path) -> Stage<'a> {
        let mut stage = Stage { keys, origin: 0, directory };
        stage.party(Role::Fill).end();
        stage.origin = now_ms();
        stage
    }

    /// Returns how long a promoted standby took, in milliseconds.
    fn promote(&self, orphaned: u64) -> f64 {
        let mut writer = self.party(Role::Writer);
        writer.until("appended");
        let mut standby = self.party(Role::Standby);
        standby.until("hydrated");
        // It follows.
        thread::sleep(Duration::from_secs(1));
        writer.kill();
        thread::sleep(Duration::from_millis(orphaned));
        standby.tell("promote");
        let took = standby.until("appended");
        standby.kill();
        took
    }

    /// Returns how long a writer took that is started, and what of that had passed when it had read the shard.
    fn restart(&self) -> (f64, f64) {
        let start = Instant::now();
        let mut writer = self.party(Role::Writer);
        writer.until("hydrated");
        let hydrated = start.elapsed();
        writer.until("appended");
        let took = start.elapsed();
        writer.kill();
        (took.as_secs_f64() * 1e3, hydrated.as_secs_f64() * 1e3)
    }

    fn party(&self, role: Role) -> Running {
        let value = clap::ValueEnum::to_possible_value(&role).expect("none is skipped");
        let arguments = [
            "party".to_string(),
            format!("--role={}", value.get_name()),
            format!("--keys={}", self.keys),
            format!("--origin={}", self.origin),
        ];
        Running::start(&arguments, self.directory)
    }
}

/// Takes part. It says when it has read the shard, and when it has won an append: how many milliseconds after its start,
/// or, for a standby, its promotion.
pub fn party(args: &PartyArgs) {
    let start = Instant::now();
    let shard = durable::open(&args.directory);
    let standby = (args.role == Role::Standby).then(Promotion::default);
    // A mutex makes it one that may be moved to a worker.
    // One that fills ends by itself.
    let hears = args.role != Role::Fill;
    let promotion = standby.clone();
    let promote = move || promotion.iter().for_each(Promotion::promote);
    let promoted = Mutex::new(hears.then(|| heard(promote)));
    let args = args.clone();
    timely::execute_directly(move |worker| {
        let (mut input, token, health, watch) = worker.dataflow(|scope| {
            let mut input = InputHandleVec::<u64, (Upsert<u64, Encoded, u64>, u64)>::new();
            let commands = scope.input_from(&mut input);
            let config = PipelineConfig { standby, ..PipelineConfig::default() };
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.token, pipeline.health, pipeline.watch)
        });
        let fills = args.keys.div_ceil(FILL);
        let mut next = shard.upper();
        input.advance_to(next);
        if args.role == Role::Fill {
            for time in next..fills {
                input.send_batch(&mut rows(args.keys, time));
                input.advance_to(time + 1);
                while shard.handle().state().upper + FILLS_AHEAD < time {
                    worker.step_or_park(None);
                }
            }
            drop(input);
            while worker.has_dataflows() {
                worker.step_or_park(None);
            }
            return drop(token);
        }
        let promoted = promoted.into_inner().expect("nothing has panicked");
        let (mut hydrated, mut appended) = (false, false);
        let mut from = (args.role == Role::Writer).then_some(start);
        loop {
            let now = fills + now_ms().saturating_sub(args.origin);
            while next < now {
                input.send_batch(&mut rows(args.keys, next));
                next += 1;
                input.advance_to(next);
            }
            worker.step_or_park(Some(LOOK));
            if !hydrated && health.report().state != HealthState::Hydrating {
                hydrated = true;
                say("hydrated", start);
            }
            from = from.or_else(|| promoted.as_ref()?.try_recv().ok());
            if let (false, Some(from)) = (appended, from)
                && watch.totals().wins > 0
            {
                appended = true;
                say("appended", from);
            }
        }
    });
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is past 1970");
    now.as_millis() as u64
}

/// Returns the rows of a time, whoever asks.
fn rows(keys: u64, time: u64) -> Vec<(Upsert<u64, Encoded, u64>, u64)> {
    let fills = keys.div_ceil(FILL);
    let record = |key| Record { key, seed: mix(key ^ time << 32), order: 0 };
    let records: Vec<Record> = match time < fills {
        true => (time * FILL..((time + 1) * FILL).min(keys)).map(record).collect(),
        false => (0..ROWS).map(|row| record(mix(time * ROWS + row) % keys)).collect(),
    };
    let put = |(key, value, order)| (Upsert::Put { key, value, order }, time);
    Stored::rows(&records).into_iter().map(put).collect()
}
