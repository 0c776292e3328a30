//! Owns one process of our whole loop whose state is of any size: what it starts on is there, or is filled; then keys are
//! updated, and it says what that took. It does not own the limits that it runs in.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use differential_upsert::{Command, Encoded, PipelineConfig, UpsertInto};
use serde::{Deserialize, Serialize};
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::Input;

use crate::contestant::durable;
use crate::load::mix;
use crate::measure;

/// Rows that are handed over before those below them are in the shard.
const AHEAD: u64 = 64 << 10;

/// And their bytes, where memory is short.
const AHEAD_BYTES: u64 = 8 << 20;

/// Rows of the first time of a start.
const FIRST: u64 = 10;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Live keys.
    #[arg(long)]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 64)]
    pub value_bytes: u64,
    /// Updates, each of any key.
    #[arg(long)]
    pub updates: u64,
    #[arg(long, default_value_t = 1_000)]
    pub rows_per_time: u64,
    /// Bound of the state in memory.
    #[arg(long)]
    pub state_bytes: Option<usize>,
    #[arg(long)]
    pub directory: PathBuf,
}

impl Args {
    /// Returns the arguments of a process that does the same.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "grown".to_string(),
            format!("--keys={}", self.keys),
            format!("--value-bytes={}", self.value_bytes),
            format!("--updates={}", self.updates),
            format!("--rows-per-time={}", self.rows_per_time),
        ];
        arguments.extend(self.state_bytes.map(|bytes| format!("--state-bytes={bytes}")));
        arguments
    }
}

/// What one process took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Grown {
    /// From its start to the first append of its own: it has what it needs of the shard by then.
    pub first_seconds: f64,
    /// Filling the shard, if it was empty.
    pub fill_seconds: f64,
    pub update_seconds: f64,
    pub update_cpu_seconds: f64,
    /// Updates whose prior row was read from the file, and the reads begun meanwhile.
    pub missed: u64,
    pub reads: u64,
    /// Bytes that these reads asked for, and those that came from the disk meanwhile, for whatever.
    pub asked_bytes: u64,
    pub disk_bytes: u64,
    /// At the end.
    pub rows: u64,
    pub state_bytes: u64,
    pub cold_rows: u64,
    pub cold_bytes: u64,
    pub peak: u64,
}

/// Runs it, and prints what it took.
pub fn run(args: &Args) {
    let start = Instant::now();
    let shard = match args.state_bytes {
        Some(_) => durable::open_narrow(&args.directory),
        None => durable::open(&args.directory),
    };
    let args = args.clone();
    let grown = timely::execute_directly(move |worker| {
        let (mut input, pipeline, stats, watch) = worker.dataflow(|scope| {
            let mut input = InputHandleVec::<u64, (Command<u64, Encoded, u64>, u64)>::new();
            let commands = scope.input_from(&mut input);
            let state_bytes_max = args.state_bytes;
            let bounds = match state_bytes_max {
                Some(_) => durable::narrow(),
                None => PipelineConfig::default(),
            };
            let config = PipelineConfig { state_bytes_max, ..bounds };
            let pipeline = commands.upsert_into(&shard, config);
            (input, (pipeline.token, pipeline.health), pipeline.stats, pipeline.watch)
        });
        let (token, health) = pipeline;
        let mut time = shard.upper();
        let is_empty = time == 0;
        input.advance_to(time);
        let mut give = |keys: &mut dyn Iterator<Item = u64>, ahead: u64| {
            let mut rows: Vec<_> =
                keys.zip(0..).map(|(key, order)| (args.put(key, time, order), time)).collect();
            input.send_batch(&mut rows);
            time += 1;
            input.advance_to(time);
            // An append is counted just after it can be seen.
            let is_behind = || shard.handle().state().upper + ahead < time;
            while is_behind() || watch.totals().wins == 0 {
                worker.step_or_park(Some(Duration::from_millis(1)));
                assert!(health.error().is_none(), "{:?}", health.error());
            }
        };
        give(&mut (0..FIRST.min(args.keys)), 0);
        let mut grown = Grown { first_seconds: start.elapsed().as_secs_f64(), ..Grown::default() };

        let (filled, per_time) = (Instant::now(), args.rows_per_time);
        let ahead = match args.state_bytes {
            Some(_) => AHEAD.min(AHEAD_BYTES / args.value_bytes) / per_time,
            None => AHEAD / per_time,
        };
        if is_empty {
            for from in (0..args.keys).step_by(per_time as usize) {
                let end = (from + per_time).min(args.keys);
                give(&mut (from..end), if end == args.keys { 0 } else { ahead });
            }
            grown.fill_seconds = filled.elapsed().as_secs_f64();
        }

        let (updated, cpu) = (Instant::now(), measure::process_cpu());
        let (missed, reads) = (stats.cold_missed(), stats.cold_reads());
        let (asked, fetched) = (stats.cold_read_bytes(), measure::fetched());
        for from in (0..args.updates).step_by(per_time as usize) {
            let end = (from + per_time).min(args.updates);
            let any = |row| mix(row) % args.keys;
            give(&mut (from..end).map(any), if end == args.updates { 0 } else { ahead });
        }
        grown.update_seconds = updated.elapsed().as_secs_f64();
        grown.update_cpu_seconds = (measure::process_cpu() - cpu) as f64 / 1e9;
        grown.missed = stats.cold_missed() - missed;
        grown.reads = stats.cold_reads() - reads;
        grown.asked_bytes = stats.cold_read_bytes() - asked;
        grown.disk_bytes = measure::fetched() - fetched;
        let places = stats.state_places();
        (grown.rows, grown.state_bytes) = (stats.state_keys() as u64, stats.state_bytes() as u64);
        (grown.cold_rows, grown.cold_bytes) = (places.cold_rows, places.cold_bytes);
        grown.peak = measure::peak();
        assert_eq!(grown.rows, args.keys, "each key has a row");
        drop(give);
        drop(input);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        drop(token);
        grown
    });
    println!("{}", serde_json::to_string(&grown).expect("numbers are JSON"));
}

impl Args {
    fn put(&self, key: u64, time: u64, order: u64) -> Command<u64, Encoded, u64> {
        let seed = mix(key ^ time << 32);
        let words = (0..self.value_bytes.div_ceil(8)).map(|word| mix(seed.wrapping_add(word)));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(self.value_bytes as usize);
        Command::Put { key, value: Encoded::from_bytes(bytes), order }
    }
}
