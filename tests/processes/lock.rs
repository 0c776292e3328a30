//! Goal: a process that holds the lock of a log and is stopped, or killed, is in nobody's way for longer than it
//! lives: readers read, a writer waits, and goes on when it is gone. Method: `flock` holds the lock, as any
//! process does that is stopped in the midst of a commit; real signals.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};

use crate::process::{PATIENCE, fold, ingested, snapshot, start_ingest, upper, verified};

#[test]
fn a_stopped_holder_of_the_lock_makes_writers_wait_and_readers_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let row = |ts: u64| format!("{{\"key\":{},\"value\":{ts},\"ts\":{ts}}}\n", ts % 3);
    let first: String = (0..4).map(row).collect();
    std::fs::write(dir.join("feed"), &first).expect("a feed");
    ingested(dir, &["feed", "--shard", "s"]);
    let all: String = (0..8).map(row).collect();
    std::fs::write(dir.join("feed"), &all).expect("a feed");
    // It holds the lock itself, and its child does not.
    let mut command = Command::new("flock");
    command.args(["-o", "s/data/log/lock", "sh", "-c", "echo held; exec cat"]);
    // `cat` ends with our end of the pipe.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let holder = command.current_dir(dir).spawn();
    let mut holder = holder.expect("flock, of util-linux");
    let mut said = [0; 5];
    let mut stdout = holder.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut stdout, &mut said).expect("it holds the lock");
    let signal = |name: &str| {
        let pid = holder.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|sent| sent.success()));
    };
    signal("STOP");
    let mut waiting = start_ingest(dir, &["feed", "--shard", "s"]);
    for _ in 0..5 {
        assert!(waiting.runs(), "it waits");
        assert_eq!(upper(dir, "s"), 4);
        assert_eq!(snapshot(dir, "s"), fold(first.lines()));
    }
    signal("KILL");
    holder.wait().expect("it is dead");
    waiting.end(PATIENCE).good();
    assert_eq!(upper(dir, "s"), 8);
    assert_eq!(snapshot(dir, "s"), fold(all.lines()));
    verified(dir, "s");
}
