//! Owns the restart: how long a contestant takes until it has all live rows again. It does not own making
//! what it restarts from.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::{Input, Inspect, Probe};

use crate::contestant::durable::{self, Mode};
use crate::contestant::rows::{Rows, Stored};
use crate::contestant::{differential, log};
use crate::load::{Record, Words, to_bytes};
use crate::measure;
use crate::sums::Sums;

/// Who restarts, from what.
#[derive(
    clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reload {
    /// A `HashMap`, from its log of all upserts.
    HashmapLog,
    /// A `HashMap`, from a file of its live rows.
    HashmapSnapshot,
    /// `arrange_from_upsert`, from the same file.
    Arrange,
    /// Our pipeline, from its shard.
    Shard,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[arg(long, value_enum)]
    pub reload: Reload,
    /// Where the log, the file or the shard is.
    #[arg(long)]
    pub directory: PathBuf,
}

/// What a restart took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak: u64,
    /// The sum over the contents.
    pub contents: u64,
}

/// Restarts, and prints what it took.
pub fn run(args: &Args) {
    let took = Took::start();
    let reloaded = match args.reload {
        Reload::HashmapLog => took.end(of_map(&log::replay(&args.directory))),
        Reload::HashmapSnapshot => took.end(of_map(&snapshot(&args.directory).collect())),
        Reload::Arrange => {
            differential::load(snapshot(&args.directory), move |sums| took.end(sums))
        }
        Reload::Shard => shard(&args.directory, took),
    };
    println!("{}", serde_json::to_string(&reloaded).expect("numbers are JSON"));
}

/// Where a restart began.
#[derive(Clone, Copy)]
struct Took {
    start: Instant,
    cpu: u64,
    idle: u64,
}

impl Took {
    fn start() -> Took {
        let idle = measure::forget_peak();
        Took { start: Instant::now(), cpu: measure::process_cpu(), idle }
    }

    fn end(self, sums: Sums) -> Reloaded {
        Reloaded {
            seconds: self.start.elapsed().as_secs_f64(),
            cpu_seconds: (measure::process_cpu() - self.cpu) as f64 / 1e9,
            peak: measure::peak().saturating_sub(self.idle),
            contents: sums.contents,
        }
    }
}

/// Writes the file of live rows.
pub fn write_snapshot(directory: &Path, live: impl Iterator<Item = Record>) {
    let mut bytes = Vec::new();
    for record in live {
        bytes.extend_from_slice(&record.key.to_le_bytes());
        bytes.extend_from_slice(&to_bytes(&record.words()));
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    fs::write(directory.join("snapshot"), bytes).expect("room on the disk");
}

fn snapshot(directory: &Path) -> impl Iterator<Item = (u64, Words)> + use<> {
    let mut bytes = fs::read(directory.join("snapshot")).expect("the file that was written");
    let sum = bytes.split_off(bytes.len() - 4);
    assert_eq!(crc32c::crc32c(&bytes).to_le_bytes(), sum[..], "a file that is whole");
    (0..bytes.len() / log::ROW).map(move |row| log::row(&bytes[row * log::ROW..]))
}

fn of_map(live: &HashMap<u64, Words>) -> Sums {
    let mut sums = Sums::default();
    live.iter().for_each(|(key, value)| sums.add_words(*key, value, 0, 1));
    sums
}

/// Opens the shard, and steps until the pipeline has read all of it.
fn shard(directory: &Path, took: Took) -> Reloaded {
    let shard = durable::open(directory);
    let upper = shard.upper();
    timely::execute_directly(move |worker| {
        let sums = Rc::new(Cell::new(Sums::default()));
        let (input, probe, token) = worker.dataflow(|scope| {
            let mut input = InputHandleVec::new();
            let commands = scope.input_from(&mut input);
            let pipeline = durable::pipeline(commands, &shard, Mode::Strict, None);
            let into = Rc::clone(&sums);
            let (probe, _) = pipeline
                .collection()
                .inner
                .inspect(move |((key, value), time, diff)| {
                    let mut now = into.get();
                    Stored::add(&mut now, key, value, *time, *diff);
                    into.set(now);
                })
                .probe();
            (input, probe, pipeline.token)
        });
        while probe.less_than(&upper) {
            worker.step_or_park(None);
        }
        let reloaded = took.end(sums.get());
        drop(input);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        drop(token);
        reloaded
    })
}
