//! Goal: a writer that sleeps past its lease, while the shard goes on, is compacted and collected, finds
//! that what it had yet to read is merged away, reads the contents anew in the same process, and writes
//! again. Method: real processes; the sleep is SIGSTOP, and the lease is ended by a maintainer whose
//! clock is a day ahead.
#![cfg(unix)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::process::{PATIENCE, fold, snapshot, start_ingest, verified};
use differential_upsert::io::{Clock, Io, RandomTokens};
use differential_upsert::shard::{Access, Handle, HandleConfig, HandleOptions};
use differential_upsert::store::Root;

struct Tomorrow;

impl Clock for Tomorrow {
    fn now_ms(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_millis() as u64 + 24 * 3_600_000
    }
}

/// Compacts and collects by a clock that is a day ahead: every lease has run out.
fn collect_tomorrow(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let io = Io::new(runtime.handle().clone(), Arc::new(RandomTokens));
    let io = io.with_clock(Arc::new(Tomorrow));
    runtime.block_on(async {
        let root = Root::open(dir.join("s").to_str().unwrap(), Access::Write).unwrap();
        // The sleeper is asked for its lease, and does not answer.
        let answer = std::time::Duration::from_millis(500);
        let config = HandleConfig { answer, ..HandleConfig::default() };
        let handle = Handle::open(root, io, HandleOptions::write("data", None).with_config(config))
            .await
            .unwrap();
        let expired = handle.collect().await.unwrap().leases_expired;
        assert!(expired >= 1, "somebody holds one");
        handle.compact().await.unwrap();
        handle.collect().await.unwrap();
    });
}

/// Sleeps and wakes up on a feed with times of its own, or with minted ones.
fn slept(minted: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut feed = std::fs::File::create(dir.join("feed")).expect("a feed");
    let mut text = String::new();
    let mut grow = |from: u64, to: u64, text: &mut String| {
        let mut more = String::new();
        for ts in from..to {
            let time = if minted { String::new() } else { format!(",\"ts\":{ts}") };
            let _ = writeln!(more, "{{\"key\":{},\"value\":{ts}{time}}}", ts % 7);
            let _ = writeln!(more, "{{\"key\":\"k{ts}\",\"value\":null{time}}}");
            let _ = writeln!(more, "{{\"closed\":{}}}", ts + 1);
        }
        feed.write_all(more.as_bytes()).expect("room");
        *text += &more;
    };
    let are_there = |text: &str| {
        let rows = text.lines().filter(|line| line.contains("key"));
        dir.join("s/FORMAT").is_file() && snapshot(dir, "s") == fold(rows)
    };
    let writer = || start_ingest(dir, &["feed", "--shard", "s", "--follow", "--ahead", "off"]);
    grow(0, 10, &mut text);
    let mut sleeper = writer();
    sleeper.until("its first times", || are_there(&text));
    // Not ahead, so once these are there, it has read the first ones back: from a start it would miss nothing.
    grow(10, 20, &mut text);
    sleeper.until("its second times", || are_there(&text));
    sleeper.signal("STOP");
    // Another goes on, and is gone.
    let mut other = writer();
    grow(20, 40, &mut text);
    other.until("the next times", || are_there(&text));
    other.signal("TERM");
    other.end(PATIENCE).good();
    collect_tomorrow(dir);
    sleeper.signal("CONT");
    // Only the sleeper is left to write these.
    grow(40, 60, &mut text);
    sleeper.until("the last times", || are_there(&text));
    sleeper.signal("TERM");
    let ran = sleeper.end(PATIENCE).good();
    assert!(ran.stderr.contains("lease"), "it says why: {}", ran.stderr);
    assert!(are_there(&text));
    verified(dir, "s");
}

#[test]
fn a_writer_that_slept_past_its_lease_reads_the_shard_anew() {
    slept(false);
}

#[test]
fn so_does_one_of_a_feed_with_minted_times() {
    slept(true);
}
