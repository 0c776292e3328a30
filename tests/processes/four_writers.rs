//! Goal: four writers of one feed on one shard, killed, stopped and continued at random, make the
//! contents that the feed has, and none is in the way of the others. Method: real processes and a
//! driver that moves on when the shard has; the oracle is `git ls-tree`. `FOUR_SEED=n` picks the run.
//!
//! What racing and losing cost is measured, not asserted:
//!
//! ```text
//! cargo build --release --examples && cargo test --release --test four_writers -- --ignored --nocapture
//! ```
#![cfg(target_os = "linux")]

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::git::{repository, snapshot, tree};
use crate::process::{PATIENCE, Running, shard, start_ingest, upper, verified};
use fastrand::Rng;
use serde_json::Value;

const WRITERS: usize = 4;
const ROUNDS: u64 = 20;
const COMMITS: u64 = 2_420;
/// Slow enough that the feed lasts for all rounds, however fast the machine is.
const ROWS_PER_SECOND: &str = "500";
/// The longest that a writer is stopped.
const PAUSE_MS_MAX: u64 = 2_000;
/// Whether the shard is compacted and collected between the rounds, while the writers run.
const COLLECTS: bool = true;

fn start(dir: &Path, url: &str) -> Running {
    let args = ["git:repo", "--shard", url, "--history", "keep", "--throttle", ROWS_PER_SECOND];
    start_ingest(dir, &args)
}

/// A writer, and until when it is stopped.
struct Writer {
    running: Running,
    stopped: Option<Instant>,
}

impl Writer {
    fn go_on(&mut self) {
        if self.stopped.take().is_some() {
            self.running.signal("CONT");
        }
    }
}

/// Continues those whose pause is over; returns the shard's upper.
fn look(dir: &Path, writers: &mut [Writer]) -> u64 {
    for writer in writers.iter_mut() {
        if writer.stopped.is_some_and(|until| Instant::now() >= until) {
            writer.go_on();
        }
    }
    // Before somebody has made it, there is nothing to look at.
    match dir.join("s/FORMAT").is_file() {
        true => upper(dir, "s"),
        false => 0,
    }
}

/// Compacts or collects. Against so many writers it may lose every race for an entry, says so, and
/// nothing has happened.
fn maintain(dir: &Path, what: &str) {
    for _ in 0..50 {
        let ran = shard(dir, &[what, "s"]);
        if ran.code == Some(0) {
            return drop(ran.good());
        }
        assert!(ran.error().contains("lost every race"), "{what}: {}", ran.stderr);
    }
    panic!("{what} never gets an entry of its own");
}

/// Every row that was read is counted once.
fn adds_up(summary: &Value) {
    let count = |name: &str| summary[name].as_u64().expect("a count");
    let ends = ["below", "superseded", "unchanged", "lost", "inserted", "updated", "deleted"];
    let sum: u64 = ends.iter().map(|name| count(name)).sum();
    assert_eq!(count("read"), sum + count("errors"), "{summary}");
}

#[test]
fn four_writers_killed_and_stopped_make_what_git_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let seed = std::env::var("FOUR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    println!("FOUR_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    std::fs::create_dir(dir.join("repo")).expect("a directory");
    let repo = dir.join("repo");
    let commits = repository(&repo, COMMITS, Rng::with_seed(seed));

    let begun = || Writer { running: start(dir, "s"), stopped: None };
    let mut writers: Vec<Writer> = (0..WRITERS).map(|_| begun()).collect();
    let (mut kills, mut stops) = (0u64, 0u64);
    let start = Instant::now();
    for round in 0..ROUNDS {
        // Somewhere in this round's share of the feed; the last share is left to finish.
        let share = COMMITS / (ROUNDS + 1);
        let target = round * share + random.u64(..share);
        while look(dir, &mut writers) < target {
            assert!(
                start.elapsed() < PATIENCE,
                "round {round}: the shard does not get to {target}"
            );
        }
        // One at least goes on, or nothing moves.
        let moving: Vec<usize> = (0..WRITERS).filter(|at| writers[*at].stopped.is_none()).collect();
        let kind = random.u64(..3);
        if kind > 0 && moving.len() > 1 {
            stops += 1;
            let writer = &mut writers[moving[random.usize(..moving.len())]];
            writer.running.signal("STOP");
            let most = if kind == 1 { PAUSE_MS_MAX } else { PAUSE_MS_MAX / 20 };
            writer.stopped = Some(Instant::now() + Duration::from_millis(1 + random.u64(..most)));
        } else {
            kills += 1;
            let at = random.usize(..WRITERS);
            // A stopped process dies too.
            writers[at].running.child.kill().expect("it can be killed");
            let killed = std::mem::replace(&mut writers[at], begun()).running.end(PATIENCE);
            // On a machine slower than its own disk one may be done by now.
            assert!(matches!(killed.code, None | Some(0)), "{}", killed.stderr);
            kills -= u64::from(killed.code.is_some());
        }
        if COLLECTS {
            maintain(dir, "compact");
            maintain(dir, "gc");
        }
        if round % 5 == 4 {
            verified(dir, "s");
        }
    }
    // The pauses go on beyond the end of the others.
    while writers.iter().any(|writer| writer.stopped.is_some()) {
        look(dir, &mut writers);
    }
    for writer in writers {
        let summary = writer.running.end(PATIENCE).good().summary();
        assert_eq!(summary["upper"], COMMITS, "{summary}");
        println!("{summary}");
        adds_up(&summary);
    }
    assert!(kills > 0 && stops > 0, "{kills} kills, {stops} stops");
    println!("{kills} kills, {stops} stops, {:.1} s", start.elapsed().as_secs_f64());

    verified(dir, "s");
    assert_eq!(upper(dir, "s"), COMMITS);
    let last = commits.len() - 1;
    for (number, commit) in commits.iter().enumerate() {
        if number % 149 == 0 || number == last {
            assert_eq!(snapshot(dir, "s", number), tree(&repo, commit), "commit {number}");
        }
    }
}

/// What a process used, read when it has ended and before it is waited for.
#[derive(Clone, Debug)]
struct Used {
    cpu_seconds: f64,
    bytes_written: u64,
    summary: Value,
}

/// Runs so many writers side by side; returns how long all took, and what each used.
fn race(dir: &Path, feed: &str, url: &str, writers: usize) -> (f64, Vec<Used>) {
    let start = Instant::now();
    let args = [feed, "--shard", url, "--history", "keep"];
    let running: Vec<Running> = (0..writers).map(|_| start_ingest(dir, &args)).collect();
    let mut used: Vec<Used> = running.into_iter().map(used).collect();
    let seconds = start.elapsed().as_secs_f64();
    verified(dir, url);
    std::fs::remove_dir_all(dir.join(url)).expect("a shard");
    used.sort_by_key(|used| used.summary["wins"].as_u64());
    (seconds, used)
}

fn used(mut running: Running) -> Used {
    let mut stdout = String::new();
    let pipe = running.child.stdout.as_mut().expect("a pipe");
    pipe.read_to_string(&mut stdout).expect("text");
    let proc = format!("/proc/{}", running.child.id());
    // The name may have spaces; what follows its bracket has not.
    let stat = || std::fs::read_to_string(format!("{proc}/stat")).expect("a process");
    let fields = |stat: &str| -> Vec<String> {
        let rest = stat.rsplit_once(") ").expect("a bracket").1;
        rest.split(' ').map(str::to_string).collect()
    };
    let fields = loop {
        let fields = fields(&stat());
        if fields[0] == "Z" {
            break fields;
        }
        std::thread::yield_now();
    };
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    let io = std::fs::read_to_string(format!("{proc}/io")).expect("counts");
    let wchar = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count");
    let last = stdout.lines().last().expect("a summary");
    Used {
        // User and system time, in hundredths of a second on every Linux there is.
        cpu_seconds: (ticks(11) + ticks(12)) / 100.0,
        bytes_written: wchar.parse().expect("a number"),
        summary: serde_json::from_str(last).expect("JSON"),
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A feed of few large times, whose rows are parts of their own.
fn large_times(random: &mut Rng) -> String {
    let mut text = String::new();
    for ts in 0..100 {
        for _ in 0..3_000 {
            let (key, value) = (random.u64(..20_000), random.u64(..1 << 40));
            let padding = "x".repeat(60);
            let _ = writeln!(text, "{{\"key\":{key},\"value\":\"{value}{padding}\",\"ts\":{ts}}}");
        }
    }
    text
}

#[test]
#[ignore = "a measurement: see the head of this file"]
fn what_racing_and_losing_cost() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = Rng::with_seed(4);
    std::fs::create_dir(dir.join("repo")).expect("a directory");
    repository(&dir.join("repo"), COMMITS, Rng::with_seed(4));
    std::fs::write(dir.join("lines"), large_times(&mut random)).expect("a feed");
    for (what, feed) in
        [("2,420 small times (git)", "git:repo"), ("100 times of 3,000 rows", "lines")]
    {
        let (mut alone, mut four) = (Vec::new(), Vec::new());
        let (mut one, mut losers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (seconds, used) = race(dir, feed, "one", 1);
            alone.push(seconds);
            one.extend(used);
            let (seconds, used) = race(dir, feed, "four", WRITERS);
            four.push(seconds);
            println!("{what}: four writers in {seconds:.2} s");
            for used in &used {
                let Used { cpu_seconds, bytes_written, summary } = used;
                println!(
                    "  {} wins, {} losses, {} rows lost: {cpu_seconds:.2} CPU s, {:.2} MB",
                    summary["wins"],
                    summary["losses"],
                    summary["lost"],
                    *bytes_written as f64 / 1e6
                );
            }
            // The one with the fewest wins.
            losers.extend(used.into_iter().next());
        }
        let cpu = |of: &[Used]| median(of.iter().map(|used| used.cpu_seconds).collect());
        let bytes = |of: &[Used]| median(of.iter().map(|used| used.bytes_written as f64).collect());
        let (alone, four) = (median(alone), median(four));
        println!(
            "{what}: alone {alone:.2} s, four {four:.2} s, {:.2} times; CPU s: alone {:.2}, the \
             greatest loser {:.2}, {:.2} times; MB written: {:.2}, {:.2}, {:.2} times",
            four / alone,
            cpu(&one),
            cpu(&losers),
            cpu(&losers) / cpu(&one),
            bytes(&one) / 1e6,
            bytes(&losers) / 1e6,
            bytes(&losers) / bytes(&one),
        );
    }
}
