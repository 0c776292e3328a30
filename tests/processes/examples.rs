//! Goal: each small example does what its head says, goes on where it was, and ends with the error that it met. Method:
//! real processes, run twice; what they print of a collection is folded.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use crate::process::PATIENCE;
use crate::running::{Ran, Running, command, start};

fn ran(dir: &Path, name: &str, args: &[&str]) -> Ran {
    start(command(name, dir, args)).end(PATIENCE)
}

/// Returns what is left of the updates that lines of `time T: DIFF ROW` are.
fn left(text: &str) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("time ")) {
        let (_, update) = line.split_once(": ").expect("a time");
        let (diff, row) = update.split_once(' ').expect("a difference");
        *rows.entry(row.to_string()).or_default() += diff.parse::<i64>().expect("a number");
    }
    rows.retain(|_, diff| *diff != 0);
    rows
}

/// Runs an example, and checks the rows that are there at its end, once each.
#[track_caller]
fn leaves(dir: &Path, name: &str, args: &[&str], rows: &[&str]) {
    let ran = ran(dir, name, args).good();
    let expected = rows.iter().map(|row| (row.to_string(), 1)).collect();
    assert_eq!(left(&ran.stdout), expected, "{}: {}", ran.what, ran.stdout);
}

/// Checks that a run failed, and said why as its last words.
#[track_caller]
fn fails(ran: &Ran, says: &str) {
    assert_eq!(ran.code, Some(1), "{}: {}", ran.what, ran.stderr);
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("Error: ") && last.contains(says), "{}: {}", ran.what, ran.stderr);
}

#[test]
fn hello_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    leaves(dir, "hello", &["s"], &["apples = 20", "pears = 7"]);
    leaves(dir, "hello", &["s"], &["apples = 50", "pears = 7"]);
    leaves(dir, "hello", &["s", "-w", "2"], &["apples = 80", "pears = 7"]);
}

/// Each version reads what the one before has put; the earlier one is refused what it cannot read.
#[test]
fn two_versions_share_a_shard_and_the_earlier_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = ran(dir, "evolve", &["s", "1"]).good();
    assert_eq!(first.stdout, "order 0: Order { cents: 100, note: \"n\" }\n");
    let first = ran(dir, "evolve", &["s", "1"]).good();
    assert_eq!(first.lines().len(), 2, "{}", first.stdout);
    let second = ran(dir, "evolve", &["s", "2"]).good();
    let orders = [(100, "EUR"), (101, "EUR"), ((1u64 << 40) + 2, "CHF")].into_iter().enumerate();
    let line = |(key, (amount, currency))| {
        format!("order {key}: Order {{ amount: {amount}, currency: \"{currency}\" }}")
    };
    assert_eq!(second.lines(), orders.map(line).collect::<Vec<_>>());
    let before = ran(dir, "shard", &["status", "s"]).good().stdout;
    let refused = ran(dir, "evolve", &["s", "1"]);
    fails(&refused, "no value for the field `cents`");
    fails(&refused, "`amount: u64` in the shard's \"Order\"");
    assert_eq!(ran(dir, "shard", &["status", "s"]).good().stdout, before, "nothing was written");
    let log = ran(dir, "shard", &["log", "s", "--text"]).good();
    let added = log.lines().into_iter().filter(|line| line.contains("  shape "));
    assert_eq!(added.count(), 1, "{}", log.stdout);
    let rows = ran(dir, "shard", &["snapshot", "s"]).good();
    assert_eq!(rows.lines().len(), 3, "{}", rows.stdout);
    ran(dir, "shard", &["verify", "s"]).good();
}

/// A shard of other types is an error at the end, not silence.
#[test]
fn hello_ends_with_the_error_that_it_met() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ran(dir, "join_and_count", &["other"]).good();
    fails(&ran(dir, "hello", &["other"]), "other");
}

#[test]
fn a_join_follows_what_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        leaves(dir.path(), "join_and_count", &["s"], &["Bern: 2 orders", "Oslo: 2 orders"]);
    }
}

#[test]
fn two_shards_are_joined_as_far_as_both_are() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let rows = ["apples are worth 28", "pears are worth 15"];
        leaves(dir.path(), "two_shards", &["stock", "prices"], &rows);
    }
}

#[test]
fn patches_add_up_from_run_to_run() {
    let dir = tempfile::tempdir().unwrap();
    for sum in ["apples = 11", "apples = 19"] {
        let ran = ran(dir.path(), "patch", &["s"]).good();
        let rows: Vec<String> = left(&ran.stdout).into_keys().collect();
        assert_eq!(rows[0], sum, "{}", ran.stdout);
        assert!(rows.len() == 2 && rows[1].starts_with("pears: "), "{}", ran.stdout);
    }
}

#[test]
fn a_follower_sees_what_is_there_and_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fails(&ran(dir, "follower", &["s"]), "no shard here");
    ran(dir, "hello", &["s"]).good();
    let once = ran(dir, "follower", &["s", "--once"]).good();
    // In the order of the keys' bytes.
    let mut rows = once.lines();
    rows.sort_unstable();
    assert_eq!(rows, ["apples = 20", "pears = 7"]);
    let seen = dir.join("seen");
    let mut following = command("follower", dir, &["s"]);
    following.stdin(Stdio::null()).stdout(File::create(&seen).unwrap()).stderr(Stdio::piped());
    let mut following = Running::of(following);
    ran(dir, "hello", &["s"]).good();
    let read = || std::fs::read_to_string(&seen).unwrap();
    let comes = || left(&read()).contains_key("apples = 50");
    following.until("the second run's rows", || read().ends_with('\n') && comes());
    assert_eq!(left(&read()).len(), 2, "{}", read());
}

#[test]
fn a_source_of_ones_own_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fails(&ran(dir, "hello_source", &["fruit", "s"]), "cannot read the directory");
    std::fs::create_dir(dir.join("fruit")).unwrap();
    let monday = dir.join("fruit/monday");
    std::fs::write(&monday, "apples 3\npears many\n").unwrap();
    let first = ran(dir, "hello_source", &["fruit", "s"]).good();
    assert!(first.stdout.contains("(\"apples\", 3) +1"), "{}", first.stdout);
    assert!(first.stdout.contains("pears: \"many\": invalid digit"), "{}", first.stdout);
    std::fs::write(&monday, "apples 3\npears many\npears 5\napples\n").unwrap();
    let second = ran(dir, "hello_source", &["fruit", "s"]).good();
    assert!(second.stdout.contains("(\"pears\", 5) +1"), "{}", second.stdout);
    assert!(second.stdout.contains("(\"apples\", 3) -1"), "{}", second.stdout);
}
