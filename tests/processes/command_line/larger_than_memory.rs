//! Goal: `shard snapshot`, `tail`, `diff`, `export`, `verify` and `compact` work on a shard that is larger than the memory they may have.
//! Method: the example binaries under the operating system's own limit, less than two thirds of the rows; the output is compared
//! with what the feed says.

use std::fmt::Write as _;
use std::path::Path;

use crate::process::{PATIENCE, Ran, command, ingested, start};

const KEYS: u64 = 150_000;
const VALUE: usize = 1_000;
/// Of 150 MB of rows.
const LIMIT_KIB: u64 = 96 << 10;

/// Runs `shard` with so much memory for data at the most.
fn limited(dir: &Path, args: &[&str]) -> Ran {
    let shard = command("shard", dir, &[]);
    let mut limited = std::process::Command::new("sh");
    let script = format!("ulimit -d {LIMIT_KIB} && exec \"$0\" \"$@\"");
    limited.current_dir(dir).args(["-c", &script]).arg(shard.get_program()).args(args);
    // So that threads of the machine's own number do not count for it.
    limited.env("MALLOC_ARENA_MAX", "1");
    start(limited).end(PATIENCE)
}

#[test]
#[cfg(target_os = "linux")]
fn looks_fit_a_memory_that_the_shard_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut feed = String::new();
    let value = "v".repeat(VALUE);
    for n in 0..KEYS {
        // Not in the order of the keys.
        let key = n * 2_654_435_761 % KEYS;
        let _ = writeln!(
            feed,
            "{{\"key\":\"key{key:07}\",\"value\":\"{value}{key}\",\"ts\":{}}}",
            n / 50_000
        );
    }
    std::fs::write(dir.join("feed"), &feed).expect("room");
    drop(feed);
    let summary = ingested(dir, &["feed", "--shard", "s", "--history", "keep"]);
    assert_eq!(summary["inserted"], KEYS);
    for round in ["as it was written", "compacted"] {
        let lines = limited(dir, &["snapshot", "s"]).good().lines();
        assert_eq!(lines.len() as u64, KEYS, "{round}");
        for (key, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("{{\"key\":\"key{key:07}\",\"value\":\"{value}{key}\"}}"));
        }
        drop(lines);
        let lines = limited(dir, &["tail", "s"]).good().lines();
        assert_eq!(lines.len() as u64, KEYS, "{round}");
        for pair in lines.windows(2) {
            let place = |line: &str| {
                let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
                (row["time"].as_u64(), row["key"].as_str().map(str::to_string))
            };
            assert!(place(&pair[0]) < place(&pair[1]), "{round}");
        }
        drop(lines);
        let differ = limited(dir, &["diff", "s", "0", "2"]).good().lines();
        assert_eq!(differ.len() as u64, KEYS - 50_000, "{round}");
        assert!(differ.is_sorted() && differ.iter().all(|line| line.contains("\"before\":null,")));
        drop(differ);
        limited(dir, &["export", "s", "--format", "jsonl", "--out", "rows"]).good();
        let rows = std::fs::metadata(dir.join("rows")).expect("a file").len();
        assert!(rows > KEYS * VALUE as u64, "{round}: {rows} bytes");
        limited(dir, &["verify", "s"]).good();
        limited(dir, &["compact", "s"]).good();
    }
}
