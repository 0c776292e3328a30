//! Goal: a state many times larger than its bound goes through `ingest` in bounded memory. Method: a real process under
//! a hard limit of the kernel's on its data: past it an allocation fails, and the process ends with that. The same run
//! without the bound shows that the limit would be met.

#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{PATIENCE, Ran, example, snapshot, start};

/// What the state may have in memory.
const STATE_BYTES: u64 = 16 << 20;

/// How many times that its live rows are.
const TIMES: f64 = 13.5;

const VALUE_BYTES: usize = 2 << 10;

/// Rows of a time.
const PER_TIME: u64 = 100;

/// What the process may have, its threads' stacks and all that is on its way included: halfway between what it has with
/// the bound, and without.
const DATA_KIB: u64 = 296 << 10;

/// The keys: each is written once, and some again.
fn keys() -> u64 {
    (STATE_BYTES as f64 * TIMES) as u64 / VALUE_BYTES as u64
}

fn value(row: u64) -> String {
    let mut random = fastrand::Rng::with_seed(row);
    std::iter::repeat_with(|| random.alphanumeric()).take(VALUE_BYTES).collect()
}

/// Writes the feed, and returns the last row of each key.
fn write_feed(path: &Path) -> HashMap<u64, u64> {
    let mut feed = BufWriter::new(File::create(path).expect("a directory to write to"));
    let (mut random, mut last) = (fastrand::Rng::with_seed(7), HashMap::new());
    for row in 0..keys() + keys() / 8 {
        let key = if row < keys() { row } else { random.u64(..keys()) };
        let (value, time) = (value(row), row / PER_TIME);
        writeln!(feed, r#"{{"key":{key},"value":"{value}","ts":{time}}}"#).expect("room");
        last.insert(key, row);
    }
    feed.flush().expect("room");
    last
}

fn ingest_limited(dir: &Path, shard: &str, bound: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -d "$0" && exec "$@""#, &DATA_KIB.to_string()]);
    command.arg(example("ingest")).args(["feed", "--shard", shard]).args(bound).current_dir(dir);
    // What the allocator keeps, and what the stacks take, is then the same on every machine.
    command.env("MALLOC_ARENA_MAX", "2").env("TOKIO_WORKER_THREADS", "2");
    command.env("RUST_MIN_STACK", (256 << 10).to_string());
    start(command).end(PATIENCE)
}

#[test]
fn a_state_of_thirteen_times_its_bound_goes_through_in_little_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let last = write_feed(&dir.path().join("feed"));
    let bound = STATE_BYTES.to_string();
    let ran = ingest_limited(dir.path(), "bounded", &["--state-bytes", &bound]);
    assert_eq!(ran.code, Some(0), "it needs more than its bound: {}", ran.stderr);
    let summary = ran.summary();
    assert_eq!(summary["inserted"], keys(), "{summary}");
    let rows = snapshot(dir.path(), "bounded");
    assert_eq!(rows.len() as u64, keys());
    for row in &rows {
        let row: Value = serde_json::from_str(row).expect("JSON");
        let key = row["key"].as_u64().expect("a number");
        assert_eq!(row["value"], value(last[&key]), "key {key}");
    }

    let ran = ingest_limited(dir.path(), "whole", &[]);
    assert_ne!(ran.code, Some(0), "the limit is not one: all of it is in memory");
    assert!(ran.stderr.contains("memory allocation of"), "{}", ran.stderr);
}
