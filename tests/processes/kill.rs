//! Goal: whenever processes are killed, rerunning the same command ends with the same contents, and
//! the shard is whole at every moment in between. Method: real processes, 50 kills at seeded points
//! of one feed's way into the log; the oracle is a fold of the feed.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::process::{
    PATIENCE, Running, end_cluster, fold, ingested, last_entry, random, shard, snapshot,
    start_cluster, start_ingest, upper, verified,
};
use fastrand::Rng;

/// More than the runs get to before they are killed, however late the kill comes.
const TIMES: u64 = 8_000;

/// A feed with several rows per time, keys that collide in a time, deletes, and some times with
/// enough bytes for parts of their own.
fn feed(random: &mut Rng) -> String {
    let mut text = String::new();
    for ts in 0..TIMES {
        let big = random.u64(..12) == 0;
        for _ in 0..1 + random.u64(..if big { 300 } else { 6 }) {
            let key = random.u64(..400);
            let value = match random.u64(..5) {
                0 => "null".to_string(),
                value => format!("\"{value}{}\"", "x".repeat(if big { 400 } else { 4 })),
            };
            let _ = writeln!(text, "{{\"key\":{key},\"value\":{value},\"ts\":{ts}}}");
        }
    }
    text
}

fn check(dir: &Path, text: &str) {
    assert_eq!(upper(dir, "s"), TIMES);
    assert_eq!(snapshot(dir, "s"), fold(text.lines()));
    verified(dir, "s");
}

/// Rows below the shard's upper are there, and no others.
fn check_prefix(dir: &Path, text: &str) {
    verified(dir, "s");
    let upper = upper(dir, "s");
    let below = |line: &&str| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a row");
        row["ts"].as_u64().expect("a time") < upper
    };
    assert_eq!(snapshot(dir, "s"), fold(text.lines().filter(below)), "below {upper}");
}

#[test]
fn fifty_kills_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(50);
    let text = feed(&mut random);
    std::fs::write(dir.join("feed"), &text).expect("a feed");
    let (mut kills, mut early, mut stopped_at) = (0, 0, Vec::new());
    while kills < 50 {
        let workers = if random.u64(..2) == 0 { "1" } else { "2" };
        // Ahead it would be through before it can be killed.
        let mut run = start_ingest(dir, &["feed", "--shard", "s", "-w", workers, "--ahead", "off"]);
        let before = last_entry(dir, "s");
        // Some kills come before the first commit, most after a few.
        let more = if kills % 10 == 0 { 0 } else { 1 + random.usize(..4) };
        run.until("its kill", || last_entry(dir, "s") >= before + more);
        for _ in 0..random.u64(..300) {
            std::thread::yield_now();
        }
        run.child.kill().expect("it can be killed");
        early += usize::from(run.end(PATIENCE).code == Some(0));
        kills += 1;
        stopped_at.push(last_entry(dir, "s"));
        if kills % 10 == 5 {
            check_prefix(dir, &text);
        }
    }
    assert_eq!(early, 0, "every run was killed before its end: {stopped_at:?}");
    ingested(dir, &["feed", "--shard", "s"]);
    check(dir, &text);
    // And once more: there is nothing left to do.
    let again = ingested(dir, &["feed", "--shard", "s"]);
    assert_eq!((&again["wins"], &again["below"]), (&0.into(), &again["read"]));
    check(dir, &text);
}

/// Runs that are ahead of their commits, of a feed that grows by some times for each.
#[test]
fn kills_of_runs_that_are_ahead_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(51);
    let text = feed(&mut random);
    let lines: Vec<&str> = text.lines().collect();
    const KILLS: usize = 40;
    let mut given = 0;
    for kill in 0..KILLS {
        let next = lines.len() * (kill + 1) / KILLS;
        let more = lines[given..next].join("\n") + "\n";
        append(&dir.join("feed"), &more);
        given = next;
        let workers = if random.bool() { "1" } else { "2" };
        let mut run = start_ingest(dir, &["feed", "--shard", "s", "-w", workers, "--follow"]);
        let before = last_entry(dir, "s");
        let more = usize::from(kill % 10 != 0);
        run.until("its kill", || last_entry(dir, "s") >= before + more);
        for _ in 0..random.u64(..3000) {
            std::thread::yield_now();
        }
        run.child.kill().expect("it can be killed");
        run.end(PATIENCE);
        if kill % 8 == 5 {
            check_prefix(dir, &text);
        }
    }
    check_prefix(dir, &text);
    ingested(dir, &["feed", "--shard", "s"]);
    check(dir, &text);
}

/// As above, of a cluster: the process that is left ends, and what was emitted and not committed is nowhere.
#[test]
fn a_cluster_that_is_ahead_and_loses_a_process_continues() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(52);
    let text = feed(&mut random);
    let lines: Vec<&str> = text.lines().collect();
    const ROUNDS: usize = 8;
    for round in 0..ROUNDS {
        let part =
            lines[lines.len() * round / ROUNDS..lines.len() * (round + 1) / ROUNDS].join("\n");
        append(&dir.join("feed"), &(part + "\n"));
        let mut cluster = start_cluster(dir, &["feed", "--shard", "s", "--follow"]);
        let before = last_entry(dir, "s");
        cluster[0].until("its kill", || last_entry(dir, "s") > before);
        for _ in 0..random.u64(..3000) {
            std::thread::yield_now();
        }
        lose(cluster, round % 2);
        check_prefix(dir, &text);
    }
    let [first, second] = end_cluster(start_cluster(dir, &["feed", "--shard", "s"]), PATIENCE);
    first.good();
    second.good();
    check(dir, &text);
}

/// Kills a process of a cluster: the other one ends with an error, within the contract's bound.
fn lose(mut cluster: [Running; 2], victim: usize) {
    cluster[victim].child.kill().expect("it can be killed");
    let ran = end_cluster(cluster, Duration::from_secs(10));
    ran[1 - victim].error();
    assert_eq!(ran[victim].code, None);
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a feed");
    file.write_all(text.as_bytes()).expect("it can be written");
}

#[test]
fn a_cluster_that_loses_a_process_ends_and_continues() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(7);
    let text = feed(&mut random);
    std::fs::write(dir.join("feed"), &text).expect("a feed");
    for round in 0..6 {
        let mut cluster = start_cluster(dir, &["feed", "--shard", "s", "--ahead", "off"]);
        let before = last_entry(dir, "s");
        let more = 1 + random.usize(..12);
        cluster[0].until("its kill", || last_entry(dir, "s") >= before + more);
        lose(cluster, round % 2);
        check_prefix(dir, &text);
    }
    let [first, second] = end_cluster(start_cluster(dir, &["feed", "--shard", "s"]), PATIENCE);
    first.good();
    assert_eq!(second.good().stdout, "");
    check(dir, &text);
    shard(dir, &["probe", "s"]).good();
    check(dir, &text);
}
