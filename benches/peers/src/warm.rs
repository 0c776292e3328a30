//! Owns the warm restart: how long a writer takes until the first append of its own, on an image of its state and on the
//! shard alone. It does not own the image.
//!
//! The writer is stopped cleanly, so that its image is of the end; or it is killed some updates after its image, so that a
//! start has to read those from the shard.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use differential_upsert::health::HealthState;
use differential_upsert::{Command, Encoded, PipelineConfig, UpsertInto};
use serde::{Deserialize, Serialize};
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::Input;

use crate::contestant::durable;
use crate::contestant::rows::{Rows, Stored};
use crate::load::{Record, mix};
use crate::measure;
use crate::running::{Running, heard, say};
use crate::tables;
use crate::takeover::{FILL, FILLS_AHEAD};

/// Rows of the first time of a start.
const FIRST: u64 = 10;

/// Rows of each time after it.
const ROWS: u64 = 1_000;

/// Times that are handed over before those below them are in the shard.
const AHEAD: u64 = 64;

/// How often a process looks at what it waits for.
const LOOK: Duration = Duration::from_micros(500);

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Live keys, of 64 bytes each.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    pub keys: Vec<u64>,
    /// How often each start is measured.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Updates between the image and the kill, each of any key; each is a row of the table.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    pub more: Vec<u64>,
    /// The same in hundredths of the keys.
    #[arg(long, value_delimiter = ',', default_value = "20")]
    pub parts: Vec<u64>,
    /// Where the shard and the image are kept while it runs [default: the system's].
    #[arg(long)]
    pub scratch: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug)]
pub struct KeptArgs {
    /// Live keys: filled, if the shard is empty.
    #[arg(long)]
    keys: u64,
    /// Updates after the first append, each of any key.
    #[arg(long)]
    updates: u64,
    /// Where the image is.
    #[arg(long)]
    state: PathBuf,
    #[arg(long)]
    directory: PathBuf,
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

/// How starts did with so many keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Warm {
    pub keys: u64,
    /// On what they were, and each of them.
    pub starts: Vec<(String, Vec<Start>)>,
}

/// One start, and the clean stop after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// From the start of the process until its first append is in the shard.
    pub seconds: f64,
    /// The same until it has read what the shard had.
    pub read_seconds: f64,
    /// The most memory that the process had by then.
    pub peak: u64,
    /// What it said of the image.
    pub said: String,
    /// From the end of its input to its end: an image was made.
    pub stop_seconds: f64,
    /// Bytes of that image, with those of its rows.
    pub image: u64,
}

/// What a process says once it has both.
#[derive(Serialize, Deserialize)]
struct Began {
    peak: u64,
    said: String,
}

/// What it says at its end.
#[derive(Serialize, Deserialize)]
struct Ended {
    seconds: f64,
    image: u64,
}

/// Runs it all, and prints the table.
pub fn run(args: &Args) {
    let warms: Vec<Warm> = args.keys.iter().map(|keys| measured(*keys, args)).collect();
    print!("{}", tables::warm(&warms));
}

/// Measures the starts with so many keys.
pub fn measured(keys: u64, args: &Args) -> Warm {
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
    let stage = Stage { keys, directory: directory.path().join("shard") };
    let state = directory.path().join("state");
    let none = || {
        // One that is not there is as good as one that is gone.
        let _ = std::fs::remove_dir_all(&state);
    };
    let mut running = stage.process(0, &state);
    running.line("began");
    running.tell("end");
    running.end();
    let times = |start: &mut dyn FnMut() -> Start| -> Vec<Start> {
        (0..args.rounds).map(|_| start()).collect()
    };
    let mut starts = Vec::new();
    let mut add = |what: String, found: Vec<Start>| {
        eprintln!("{keys} keys, {what}: {found:?}");
        starts.push((what, found));
    };
    let cold = times(&mut || {
        none();
        stage.start(&state)
    });
    add("no image".to_string(), cold);
    add("after a clean stop".to_string(), times(&mut || stage.start(&state)));
    let parts = args.parts.iter().map(|part| keys * part / 100);
    for more in args.more.iter().copied().chain(parts) {
        let killed = times(&mut || {
            let mut running = stage.process(more, &state);
            running.line("updated");
            running.kill();
            stage.start(&state)
        });
        add(format!("killed {more} updates after it"), killed);
    }
    Warm { keys, starts }
}

/// A shard, and how many keys it has.
struct Stage {
    keys: u64,
    directory: PathBuf,
}

impl Stage {
    fn process(&self, updates: u64, state: &Path) -> Running {
        let arguments = [
            "kept".to_string(),
            format!("--keys={}", self.keys),
            format!("--updates={updates}"),
            format!("--state={}", state.display()),
        ];
        Running::start(&arguments, &self.directory)
    }

    /// Starts a writer, and ends it cleanly.
    fn start(&self, state: &Path) -> Start {
        let start = Instant::now();
        let mut running = self.process(0, state);
        running.line("hydrated");
        let read_seconds = start.elapsed().as_secs_f64();
        running.line("appended");
        let seconds = start.elapsed().as_secs_f64();
        let began: Began = parsed(&running.line("began"));
        running.tell("end");
        let ended: Ended = parsed(&running.line("ended"));
        running.end();
        Start {
            seconds,
            read_seconds,
            peak: began.peak,
            said: began.said,
            stop_seconds: ended.seconds,
            image: ended.image,
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).expect("what such a process says")
}

/// Runs a writer: until it is told to end.
pub fn kept(args: &KeptArgs) {
    let start = Instant::now();
    let shard = durable::open(&args.directory);
    let args = args.clone();
    // A mutex makes it one that may be moved to a worker.
    let told = Mutex::new(heard(|| ()));
    timely::execute_directly(move |worker| {
        let told = told.into_inner().expect("nothing has panicked");
        let (mut input, pipeline, watch) = worker.dataflow(|scope| {
            let mut input = InputHandleVec::<u64, (Command<u64, Encoded, u64>, u64)>::new();
            let commands = scope.input_from(&mut input);
            let state_dir = Some(args.state.clone());
            let config = PipelineConfig { state_dir, collection: false, ..Default::default() };
            let pipeline = commands.upsert_into(&shard, config);
            (input, (pipeline.token, pipeline.health, pipeline.stats), pipeline.watch)
        });
        let (token, health, stats) = pipeline;
        let mut time = shard.upper();
        input.advance_to(time);
        let mut read = false;
        let mut give = |keys: &mut dyn Iterator<Item = u64>, ahead: u64| {
            input.send_batch(&mut rows(keys, time));
            time += 1;
            input.advance_to(time);
            while shard.handle().state().upper + ahead < time {
                worker.step_or_park(Some(LOOK));
                assert!(health.error().is_none(), "{:?}", health.error());
                if !read && health.report().state != HealthState::Hydrating {
                    read = true;
                    say("hydrated", start);
                }
            }
        };
        if shard.upper() == 0 {
            for from in (0..args.keys).step_by(FILL as usize) {
                give(&mut (from..(from + FILL).min(args.keys)), FILLS_AHEAD);
            }
        }
        let wins = watch.totals().wins;
        give(&mut (0..FIRST), 0);
        say("appended", start);
        let said = stats.state_start().unwrap_or_default().to_string();
        print("began", &Began { peak: measure::peak(), said });
        for from in (0..args.updates).step_by(ROWS as usize) {
            let any = |row| mix(row) % args.keys;
            give(&mut (from..(from + ROWS).min(args.updates)).map(any), AHEAD);
        }
        drop(give);
        // Counted once it is heard of.
        while watch.totals().wins == wins {
            worker.step_or_park(Some(LOOK));
        }
        // All of it is in the shard, and read back.
        let behind = || shard.handle().state().upper < time || stats.overlay_bytes() > 0;
        while behind() {
            worker.step_or_park(Some(LOOK));
        }
        say("updated", start);
        while told.try_recv().is_err() {
            worker.step_or_park(Some(LOOK));
        }
        let stop = Instant::now();
        drop(token);
        drop(input);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        let seconds = stop.elapsed().as_secs_f64();
        print("ended", &Ended { seconds, image: stats.image().map_or(0, |image| image.bytes) });
    });
}

fn print(word: &str, what: &impl Serialize) {
    println!("{word} {}", serde_json::to_string(what).expect("plain values"));
}

/// Returns rows of a time.
fn rows(keys: &mut dyn Iterator<Item = u64>, time: u64) -> Vec<(Command<u64, Encoded, u64>, u64)> {
    let record = |key| Record { key, seed: mix(key ^ time << 32), order: 0 };
    let mut records: Vec<Record> = keys.map(record).collect();
    // The order says nothing of two rows of a key.
    records.sort_unstable_by_key(|record| record.key);
    records.dedup_by_key(|record| record.key);
    let put = |(key, value, order)| (Command::Put { key, value, order }, time);
    Stored::rows(&records).into_iter().map(put).collect()
}
