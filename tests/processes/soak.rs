//! Goal: two pipelines that race for ever over the same keys use no more and more: not of the disk, the
//! log, memory or open files. Method: two processes follow a file that grows; a sample every second; a
//! straight line through the second half of them. It runs for `SOAK_SECONDS`, 20 if not said, and this is
//! the one test whose length is wall-clock time, since that is what it measures. The long mode, which also
//! judges the slopes:
//!
//! ```text
//! cargo build --release --examples && \
//!     SOAK_SECONDS=600 cargo test --release --test soak -- --nocapture
//! ```
#![cfg(target_os = "linux")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::{
    PATIENCE, Running, entries, fold, random, snapshot, start_ingest, upper, verified,
};
use fastrand::Rng;

/// Whether writers compact and collect by themselves: without that, the disk and the log grow.
const MAINTAINED: bool = true;
/// From here on the slopes are judged.
const LONG: u64 = 300;
/// The steepest slope, in percent of the mean per minute.
const STEEPEST: f64 = 1.0;

const KEYS: u64 = 1_000;
const TIMES_PER_SECOND: u64 = 10;
const ROWS_PER_TIME: u64 = 50;

/// What is measured, by name.
const NAMES: [&str; 4] = ["bytes on disk", "log entries", "resident bytes", "open files"];

/// Returns the bytes of all files under a directory that are still there when looked at.
fn bytes_under(dir: &Path) -> u64 {
    let Ok(found) = dir.read_dir() else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_under(&entry.path()),
        _ => entry.metadata().map_or(0, |meta| meta.len()),
    };
    found.filter_map(Result::ok).map(bytes).sum()
}

fn resident_bytes(run: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.child.id()));
    let status = status.expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

fn open_files(run: &Running) -> u64 {
    let files = Path::new("/proc").join(run.child.id().to_string()).join("fd");
    files.read_dir().expect("a process that runs").count() as u64
}

fn sample(dir: &Path, runs: &[Running]) -> [f64; 4] {
    let of_all = |measure: fn(&Running) -> u64| runs.iter().map(measure).sum::<u64>() as f64;
    [
        bytes_under(&dir.join("s")) as f64,
        entries(dir, "s") as f64,
        of_all(resident_bytes),
        of_all(open_files),
    ]
}

/// Returns the slope of a least-squares line through values one second apart, in percent of their mean
/// per minute.
fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let x = x as f64 - mean_x;
        xy += x * (y - mean_y);
        xx += x * x;
    }
    xy / xx * 60.0 / mean_y * 100.0
}

#[test]
fn a_slope_is_what_it_says() {
    // From 90 to 110 in a minute: a fifth of the mean.
    let line: Vec<f64> = (0..=60).map(|second| 90.0 + f64::from(second) / 3.0).collect();
    assert!((slope(&line) - 20.0).abs() < 1e-9, "{}", slope(&line));
    assert_eq!(slope(&[5.0; 30]), 0.0);
}

#[test]
fn two_writers_for_a_long_time() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds.unwrap_or(20);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(9);
    let mut feed = std::fs::File::create(dir.join("feed")).expect("a feed");
    let mut times = 0;
    let mut grow = |random: &mut Rng| {
        let mut text = String::new();
        for _ in 0..ROWS_PER_TIME {
            // All of one size, so that only what is kept for nothing grows.
            let (key, value) = (random.u64(..KEYS), random.u64(..1 << 60));
            let _ = writeln!(text, "{{\"key\":{key},\"value\":\"{value:080}\",\"ts\":{times}}}");
        }
        times += 1;
        let _ = writeln!(text, "{{\"closed\":{times}}}");
        feed.write_all(text.as_bytes()).expect("room");
        times
    };
    // Every key is there from the start on, nearly.
    for _ in 0..3 * KEYS / ROWS_PER_TIME {
        grow(&mut random);
    }
    let writer = |_| start_ingest(dir, &["feed", "--shard", "s", "--follow"]);
    let mut runs: Vec<Running> = (0..2).map(writer).collect();

    let (start, mut ticks, mut closed) = (Instant::now(), 0, 0);
    let mut samples: Vec<[f64; 4]> = Vec::new();
    while ticks < seconds * TIMES_PER_SECOND {
        closed = grow(&mut random);
        ticks += 1;
        if ticks % TIMES_PER_SECOND == 0 {
            assert!(runs.iter_mut().all(Running::runs), "a writer has ended by itself");
            samples.push(sample(dir, &runs));
            let second = ticks / TIMES_PER_SECOND;
            println!("{second} s: {:?}", samples[samples.len() - 1]);
        }
        let due = start + Duration::from_millis(1_000 * ticks / TIMES_PER_SECOND);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    runs[0].until("the end of the feed", || upper(dir, "s") >= closed);
    runs.iter().for_each(|run| run.signal("TERM"));
    for run in runs {
        let summary = run.end(PATIENCE).good().summary();
        println!("{summary}");
        assert_eq!(summary["upper"], closed);
    }
    let text = std::fs::read_to_string(dir.join("feed")).expect("a feed");
    assert!(snapshot(dir, "s") == fold(text.lines().filter(|line| line.contains("key"))));
    verified(dir, "s");

    let half = &samples[samples.len() / 2..];
    let mut steep = Vec::new();
    for (at, name) in NAMES.into_iter().enumerate() {
        let values: Vec<f64> = half.iter().map(|sample| sample[at]).collect();
        let (slope, last) = (slope(&values), values[values.len() - 1]);
        println!("{name}: {slope:+.2} % per minute, {last} at the end");
        if slope >= STEEPEST {
            steep.push(name);
        }
    }
    assert!(!MAINTAINED || seconds < LONG || steep.is_empty(), "these grow: {steep:?}");
}
