//! Owns the comparisons in which the state is larger than the memory that it may have, and their tables. It does not
//! own one process of them, or how its memory is limited.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::child;
use crate::clock::Figures;
use crate::contestant::Contestant;
use crate::grown::{self, Grown};
use crate::limit::Limit;
use crate::load::{self, Draw, Shape};
use crate::report::median;
use crate::sums::expected;

/// What a process has besides its state: for rows on their way and buffers, and as page cache.
const ROOM: u64 = 96 << 20;

/// The same for a process that runs our whole loop: its bounds are those that it comes with.
const LOOP_ROOM: u64 = 384 << 20;

/// The same for one with an eighth of these bounds: what is left of it as page cache is less than any file here.
const NARROW_ROOM: u64 = 128 << 20;

/// Bytes of a page.
const PAGE: f64 = 4096.0;

/// Bytes of a record of an input.
const RECORD: u64 = 24;

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// W1 and W2 with a quarter of what the state would take, beside RocksDB and bare reads.
    Quarter,
    /// State of 4.5, 9 and 13.5 times its memory.
    Table,
    /// Many keys of 64 bytes, all in memory.
    Many,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    only: Vec<Part>,
    /// Distinct keys of W1 and W2.
    #[arg(long, default_value_t = 4_000_000)]
    keys: u64,
    /// Upserts of each.
    #[arg(long, default_value_t = 8_000_000)]
    upserts: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Memory of the state in the table.
    #[arg(long, default_value_t = 64 << 20)]
    state_bytes: u64,
    /// Memory of a process of the table besides, its page cache included.
    #[arg(long, default_value_t = NARROW_ROOM)]
    room_bytes: u64,
    /// Bytes of a value in the table: an index has 20 to 28 for each row, and stays in memory.
    #[arg(long, default_value_t = 1_000)]
    value_bytes: u64,
    /// Updates of each row of the table, and with many keys.
    #[arg(long, default_value_t = 500_000)]
    updates: u64,
    /// How many keys are many, and with how many they are compared.
    #[arg(long, value_delimiter = ',', default_value = "1000000,50000000")]
    many: Vec<u64>,
    /// Where what is durable is kept while it runs [default: the system's].
    #[arg(long)]
    scratch: Option<PathBuf>,
}

/// Runs it all, and prints the tables.
pub fn run(args: &Args) {
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    for part in &args.only {
        match part {
            Part::Quarter => {
                args.quarter("W1", Draw::Uniform, 10_000, &scratch);
                args.quarter("W2", Draw::Zipf, 1_000, &scratch);
            }
            Part::Table => args.table(&scratch),
            Part::Many => args.many(&scratch),
        }
    }
}

impl Args {
    fn quarter(&self, name: &str, draw: Draw, rows_per_time: u64, scratch: &Path) {
        let shape = Shape { keys: self.keys, upserts: self.upserts, rows_per_time, draw };
        let child = |contestant, state_bytes| child::Args {
            contestant,
            shape: shape.clone(),
            window_rows: 65_536,
            window_times: 8_192,
            seconds: 600.0,
            workers: 1,
            state_bytes,
            directory: PathBuf::new(),
        };
        let whole = child::spawn(&child(Contestant::Packed, None), scratch);
        let state_bytes = whole.state_bytes / 4;
        let contestants = [Contestant::Packed, Contestant::Ahead, Contestant::Rocksdb];
        let contestants = contestants.into_iter().filter(|contestant| contestant.is_here());
        let mut results: Vec<(Contestant, Vec<Figures>, String)> =
            contestants.map(|contestant| (contestant, Vec::new(), String::new())).collect();
        let (mut reads, mut how) = (Vec::new(), "");
        for _ in 0..self.rounds {
            // As much page cache as the others have beside their state, and a file as large as theirs.
            let limit = Limit::new(ROOM);
            reads.push(random_reads(self.keys * 80, 80, &limit, scratch));
            for (contestant, figures, bound) in &mut results {
                let limit = Limit::new(state_bytes + self.upserts * RECORD + room(*contestant));
                how = limit.how();
                let child = child(*contestant, Some(state_bytes as usize));
                figures.push(child::spawn_within(&child, &limit, scratch));
                *bound = limit.bound();
            }
        }
        let sums = expected(&load::records(&shape), rows_per_time, &[whole.times])[0];
        let reads = median(reads);
        println!(
            "\n## {name}, {} keys, {rows_per_time} rows per time: {} MB of {} of the state in memory\n\n\
             Limits by {how}. Random reads of 80 bytes at depth 32, of a file as large, in {} MB: {reads:.0}/s.\n\n\
             | | rows/s | misses per row | of reads/s / miss rate | CPU us/row | from the disk, bytes/row | peak MB | MB besides state and input | bound |\n\
             |---|---|---|---|---|---|---|---|---|",
            self.keys,
            state_bytes >> 20,
            whole.state_bytes >> 20,
            ROOM >> 20,
        );
        let rate = |figures: &Figures| figures.rows as f64 / figures.seconds;
        println!("| packed, all in memory | {:.0} | 0 | | | | | | |", rate(&whole));
        for (contestant, all, bound) in &results {
            let middle = |get: &dyn Fn(&Figures) -> f64| median(all.iter().map(get).collect());
            for figures in all {
                assert_eq!(figures.sums, sums, "{} computed something else", contestant.name());
            }
            let misses = middle(&|figures| figures.missed as f64 / figures.rows as f64);
            let (missed, of) = match misses > 0.0 {
                true => (format!("{misses:.3}"), format!("{:.2}x", middle(&rate) * misses / reads)),
                false => (String::new(), String::new()),
            };
            println!(
                "| {}, bounded | {:.0} | {missed} | {of} | {:.2} | {:.0} | {:.0} | {} | {bound} |",
                contestant.name(),
                middle(&rate),
                middle(&|figures| figures.cpu_seconds * 1e6 / figures.rows as f64),
                middle(&|figures| figures.fetched as f64 / figures.rows as f64),
                middle(&|figures| figures.peak as f64 / 1e6),
                room(*contestant) >> 20,
            );
        }
    }

    fn table(&self, scratch: &Path) {
        let room = self.state_bytes + self.room_bytes;
        println!(
            "\n## State larger than its memory: {} MB of state, rows of {} bytes, {} MB for the process\n\n\
             *From the disk*: bytes read from it during the updates, of those that reads of rows asked for, in pages. *Bound*: \
             the most memory and page cache of the limit, how often the kernel refused more, and major faults.\n\n\
             | state : memory | limit | keys | fill, rows/s | updates/s | misses per update | reads/s | of random reads/s | from the disk | \
             start until its first append, s | peak MB | bound |\n|---|---|---|---|---|---|---|---|---|---|---|---|",
            self.state_bytes >> 20,
            self.value_bytes + 8,
            room >> 20,
        );
        for ratio in [1.0, 4.5, 9.0, 13.5] {
            let row = self.value_bytes + 8;
            let keys = (self.state_bytes as f64 * ratio) as u64 / row;
            let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
            let process = grown::Args {
                keys,
                value_bytes: self.value_bytes,
                updates: self.updates,
                rows_per_time: 1_000,
                state_bytes: Some(self.state_bytes as usize),
                directory: PathBuf::new(),
            };
            let limit = Limit::new(room);
            // As much page cache as the other has beside its state, or more.
            let reads = random_reads(keys * row, row, &Limit::new(self.room_bytes), scratch);
            let (grown, _): (Grown, u64) =
                child::start_within(&process.arguments(), &limit, directory.path());
            let again = grown::Args { updates: 1_000, ..process };
            let (started, _): (Grown, u64) =
                child::start_within(&again.arguments(), &limit, directory.path());
            let updates = self.updates as f64;
            // A row is in one page or two.
            let pages = grown.reads as f64 * (1.0 + (row - 1) as f64 / PAGE) * PAGE;
            println!(
                "| {ratio} | {} | {keys} | {:.0} | {:.0} | {:.3} | {:.0} | {:.2}x | {:.2} | {:.2} | {:.0} | {} |",
                limit.how(),
                keys as f64 / grown.fill_seconds,
                updates / grown.update_seconds,
                grown.missed as f64 / updates,
                grown.reads as f64 / grown.update_seconds,
                grown.reads as f64 / grown.update_seconds / reads,
                grown.disk_bytes as f64 / pages.max(1.0),
                started.first_seconds,
                grown.peak as f64 / 1e6,
                limit.bound(),
            );
        }
    }

    fn many(&self, scratch: &Path) {
        println!(
            "\n## Keys of 64 bytes, all in memory\n\n\
             | keys | fill, rows/s | bytes of state per key | CPU us/update | against the first | start until its first append, s | \
             peak MB |\n|---|---|---|---|---|---|---|"
        );
        let mut first = None;
        for keys in &self.many {
            let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
            let process = grown::Args {
                keys: *keys,
                value_bytes: 64,
                updates: self.updates,
                rows_per_time: 10_000,
                state_bytes: None,
                directory: PathBuf::new(),
            };
            let (grown, _): (Grown, u64) = child::start(&process.arguments(), directory.path());
            let again = grown::Args { updates: 1_000, ..process };
            let (started, _): (Grown, u64) = child::start(&again.arguments(), directory.path());
            let cpu = grown.update_cpu_seconds * 1e6 / self.updates as f64;
            let first = *first.get_or_insert(cpu);
            println!(
                "| {keys} | {:.0} | {:.1} | {cpu:.2} | {:.2}x | {:.2} | {:.0} |",
                *keys as f64 / grown.fill_seconds,
                grown.state_bytes as f64 / *keys as f64,
                cpu / first,
                started.first_seconds,
                grown.peak as f64 / 1e6,
            );
        }
    }
}

/// Returns what a contestant has besides its state and its input.
fn room(contestant: Contestant) -> u64 {
    if contestant == Contestant::Ahead { LOOP_ROOM } else { ROOM }
}

/// Returns how many random reads a second a file of this size can have.
fn random_reads(file_bytes: u64, read_bytes: u64, limit: &Limit, scratch: &Path) -> f64 {
    let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
    let arguments = [
        "reads".to_string(),
        format!("--file-bytes={file_bytes}"),
        format!("--read-bytes={read_bytes}"),
    ];
    child::start_within(&arguments, limit, directory.path()).0
}
