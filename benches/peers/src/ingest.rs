//! Owns feeds of JSON lines: what `ingest` does with a file, with times of its rows' own and with minted
//! ones, beside a loop that only parses it. It does not own the pipeline.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use differential_upsert::codec::{Json, JsonText};
use differential_upsert::connect::lines::Lines;
use differential_upsert::{Pipeline, PipelineConfig, Shard, shard};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Figures;
use crate::load::mix;
use crate::measure;
use crate::sums::Sums;

/// What is done with the file.
#[derive(
    clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Each line is parsed to a `serde_json::Value`, and dropped.
    Parse,
    /// Minted times.
    Minted,
    /// Each line has a time of its own.
    Given,
    /// The same, and no time runs ahead.
    GivenStrict,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[arg(long, value_enum)]
    pub how: How,
    #[arg(long)]
    pub file: PathBuf,
    #[arg(long)]
    pub directory: PathBuf,
}

/// Writes a feed of `count` lines, a millisecond apart, to a tenth as many keys.
pub fn write_lines(path: &Path, count: u64) {
    let mut file = BufWriter::new(File::create(path).expect("a directory to write to"));
    for i in 0..count {
        let draw = mix(i);
        let key = draw % (count / 10).max(1);
        writeln!(
            file,
            r#"{{"key": "account-{key}", "value": {{"user": "{draw:016x}", "amount": {}.{}, "currency": "EUR", "note": "transfer {i}", "flags": [1, 2, {}]}}, "ts": {}}}"#,
            draw % 10_000,
            // No zero at the end: our text keeps it, and `serde_json` does not.
            draw % 9 + 1,
            draw % 7,
            1_700_000_000_000 + i,
        )
        .expect("room on the disk");
    }
    file.flush().expect("room on the disk");
}

/// Does it, and prints the figures.
pub fn run(args: &Args) {
    let idle = measure::forget_peak();
    let (written, cpu) = (measure::written(), measure::process_cpu());
    let start = Instant::now();
    let took = |rows| Figures {
        times: rows,
        rows,
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: (measure::process_cpu() - cpu) as f64 / 1e9,
        peak: measure::peak().saturating_sub(idle),
        written: measure::written() - written,
        ..Figures::default()
    };
    let (mut figures, contents) = if args.how == How::Parse {
        let mut lines = 0;
        each_line(&args.file, |line| {
            let value: Value = serde_json::from_slice(line).expect("a line that was written well");
            assert!(value.is_object(), "a line that was written well");
            lines += 1;
        });
        let figures = took(lines);
        (figures, expected(&args.file))
    } else {
        let shard = ingest(args);
        let figures = took(0);
        let as_of = shard.upper() - 1;
        let rows = shard.io().block_on(shard.handle().snapshot(as_of)).expect("a shard that works");
        let live = rows
            .into_iter()
            .map(|((key, value), _, _)| (key.as_bytes().to_vec(), value.as_bytes()[1..].to_vec()));
        (figures, contents(live))
    };
    figures.sums = Sums { contents, ..Sums::default() };
    println!("{}", serde_json::to_string(&figures).expect("numbers are JSON"));
}

fn ingest(args: &Args) -> Shard<Json, Json, JsonText> {
    let url = args.directory.to_string_lossy();
    let opened = Shard::<Json, Json, JsonText>::open(&url).expect("a directory to write to");
    let (shard, file, how) = (opened.clone(), args.file.to_string_lossy().to_string(), args.how);
    timely::execute_directly(move |worker| {
        let token = worker.dataflow(|scope| {
            let feed = shard::Feed { mode: "given".into(), identity: file.clone() };
            let ahead = how != How::GivenStrict;
            let config = PipelineConfig { feed, ahead, ..PipelineConfig::default() };
            let lines = || Some(Lines::from_path(file));
            match how {
                How::Minted => Pipeline::from_source(scope, lines, &shard, config).token,
                _ => Pipeline::from_timed(scope, lines, &shard, config).token,
            }
        });
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        drop(token);
    });
    opened
}

fn each_line(file: &Path, mut each: impl FnMut(&[u8])) {
    let mut lines = BufReader::with_capacity(256 << 10, File::open(file).expect("the feed"));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).expect("a disk that works") > 0 {
        each(&line);
        line.clear();
    }
}

/// Returns the sum over what must be left of each key: `serde_json` sorts names, as our text does.
fn expected(file: &Path) -> u64 {
    let mut live = BTreeMap::new();
    each_line(file, |line| {
        let value: Value = serde_json::from_slice(line).expect("a line that was written well");
        live.insert(value["key"].to_string().into_bytes(), value["value"].to_string().into_bytes());
    });
    contents(live.into_iter())
}

fn contents(rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> u64 {
    rows.fold(0, |sum: u64, row| {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        sum.wrapping_add(hasher.finish())
    })
}
