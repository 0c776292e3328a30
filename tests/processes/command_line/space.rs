//! Goal: a shard takes what its live rows take, about, after a finite run of any length and after
//! `compact` and `gc`. Method: the example binaries, on feeds that overwrite a tenth as many keys; every
//! file under the root is weighed against the parts that a compacted shard has.

use std::fmt::Write as _;
use std::path::Path;

use crate::process::{ingested, shard, status, verified};

const LINES: u64 = 40_000;
const KEYS: u64 = 4_000;

/// A feed that is not in the order of its keys, but overwrites each as often.
fn feed(given: bool) -> String {
    let mut text = String::new();
    for n in 0..LINES {
        let key = n * 2_654_435_761 % KEYS;
        let _ = write!(text, "{{\"key\":\"key{key:05}\",\"value\":\"{}-{n:07}\"", "v".repeat(40));
        let _ = match given {
            true => writeln!(text, ",\"ts\":{}}}", n / 500),
            false => writeln!(text, "}}"),
        };
    }
    text
}

fn weight(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        if path.is_dir() { weight(&path) } else { path.metadata().expect("a file").len() }
    };
    entries.map(of).sum()
}

#[test]
fn a_finished_run_leaves_little_and_maintenance_what_is_live() {
    for given in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        std::fs::write(dir.join("feed"), feed(given)).expect("room");
        let summary = ingested(dir, &["feed", "--shard", "s"]);
        assert_eq!(summary["read"], LINES);
        let after = weight(&dir.join("s"));
        shard(dir, &["compact", "s"]).good();
        shard(dir, &["gc", "s"]).good();
        let (said, least) = (status(dir, "s"), weight(&dir.join("s")));
        let live = said["live_bytes"].as_u64().expect("a number");
        assert_eq!(said["updates"], KEYS, "compacted to its rows");
        assert!(after <= live * 3, "{after} bytes for {live} after the run, given: {given}");
        assert!(least * 10 <= live * 13, "{least} bytes for {live} after gc, given: {given}");
        assert_eq!((&said["total_bytes"], &said["retired_bytes"]), (&least.into(), &0.into()));
        verified(dir, "s");
    }
}
