//! Goal: what `ingest` and `shard` say beside their rows is said once, where it is true, and what it names is there; and
//! a run that has failed leaves nothing behind that others must wait for. Method: real processes, small feeds.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::process::{
    PATIENCE, Ran, Running, command, end_cluster, ingest, ingested, shard, start_cluster, status,
};

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("room");
}

fn row(key: u32, ts: u32) -> String {
    format!("{{\"key\":{key},\"value\":{ts},\"ts\":{ts}}}\n")
}

/// Lines on stderr that begin so.
fn said<'a>(ran: &'a Ran, start: &str) -> Vec<&'a str> {
    ran.stderr.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_name_of_no_feed_makes_no_shard() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("tree/below")).expect("a directory");
    std::fs::create_dir(dir.join("empty")).expect("a directory");
    std::fs::write(dir.join("packed"), b"\xfd7zXZ\0\0\x04").expect("room");
    for (feed, what) in [
        ("none", "cannot read the feed"),
        ("empty", "a directory without a part file"),
        ("tree", "what is not a file among part files"),
        ("no*e", "not one file of this pattern"),
        ("git:none", "cannot"),
        ("git:empty", "not a git repository"),
        ("packed", "xz, which is not read here"),
    ] {
        let ran = ingest(dir, &[feed, "--shard", "s"]);
        assert!(ran.error().contains(what), "{feed}: {}", ran.stderr);
        assert_eq!((&ran.summary()["read"], dir.join("s").exists()), (&0.into(), false), "{feed}");
    }
}

#[test]
fn bad_lines_that_were_passed_are_counted_and_where_they_are_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", &format!("{}nope\n{}{{}}\n", row(1, 1), row(2, 2)));
    let stopped = ingest(dir, &["feed", "--shard", "s"]);
    assert!(stopped.error().contains("--on-error keep or quarantine:FILE"), "{}", stopped.stderr);
    let args = ["feed", "--shard", "s", "--on-error", "keep"];
    let kept = ingest(dir, &args).good();
    let [warning] = said(&kept, "warning: ")[..] else { panic!("{}", kept.stderr) };
    assert!(warning.starts_with("warning: 2 errors were kept"), "{warning}");
    assert!(warning.contains("shard errors s "), "{warning}");
    assert_eq!(shard(dir, &["errors", "s"]).good().lines().len(), 2);
    // The second run keeps none.
    assert_eq!(said(&ingest(dir, &args).good(), "warning: "), [""; 0]);
    let args = ["feed", "--shard", "t", "--times", "mint", "--on-error", "quarantine:away"];
    let away = ingest(dir, &args).good();
    assert_eq!(said(&away, "warning: "), ["warning: 2 bad lines were written away to away"]);
}

#[test]
fn a_half_written_last_line_that_is_passed_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (whole, half) = (row(1, 1), row(2, 2));
    write(dir, "feed", &format!("{whole}{}", &half[..9]));
    for (url, args) in [
        ("kept", ["--times", "mint", "--on-error", "keep"]),
        ("away", ["--times", "mint", "--on-error", "quarantine:bad"]),
        ("given", ["--times", "given", "--on-error", "keep"]),
    ] {
        let ran = ingest(dir, &[&["feed", "--shard", url], &args[..]].concat()).good();
        let told =
            ran.stderr.lines().filter(|line| line.contains("the last line has no line break"));
        let [warning] = told.collect::<Vec<_>>()[..] else { panic!("{}", ran.stderr) };
        assert!(
            warning.contains("feed:2") && warning.contains("does not end on its line"),
            "{warning}"
        );
        assert_eq!(ran.summary()["errors"], u64::from(url != "away"), "{url}");
    }
    assert!(std::fs::read(dir.join("bad")).is_ok_and(|bad| !bad.is_empty()));
}

#[test]
fn a_feed_of_another_name_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let args = |feed: &'static str| [feed, "--shard", "s", "--times", "given"];
    write(dir, "feed", &row(1, 1));
    assert_eq!(said(&ingest(dir, &args("feed")).good(), "notice: "), [""; 0]);
    assert_eq!(said(&ingest(dir, &args("feed")).good(), "notice: "), [""; 0]);
    write(dir, "moved", &(row(1, 1) + &row(2, 2)));
    let ran = ingest(dir, &args("moved")).good();
    let [notice] = said(&ran, "notice: ")[..] else { panic!("{}", ran.stderr) };
    assert!(notice.contains("was fed from feed up to time 2: moved goes on there"), "{notice}");
}

#[test]
fn a_failure_is_said_once_and_holds_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for times in ["given", "mint"] {
        let args = ["feed", "--shard", times, "--times", times];
        // Large enough for parts, which need a lease.
        let value = "x".repeat(300_000);
        let rows = |from: u32| -> String {
            let row = |ts| format!("{{\"key\":{ts},\"value\":\"{value}\",\"ts\":{ts}}}\n");
            (from..from + 3).map(row).collect()
        };
        write(dir, "feed", &rows(0));
        ingested(dir, &args);
        write(dir, "feed", &(rows(0).replace("\"key\":1", "\"key\":7") + &rows(3)));
        let other = ingest(dir, &args);
        other.error();
        write(dir, "feed", &(rows(0) + &rows(3) + "nope\n"));
        let bad = ingest(dir, &args);
        for ran in [&other, &bad] {
            let what = ran.error().split(" at ").next().expect("words").to_string();
            assert_eq!(ran.stderr.matches(&what).count(), 1, "{}", ran.stderr);
        }
        assert_eq!(status(dir, times)["leases"].as_array().map(Vec::len), Some(0), "{times}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_that_is_interrupted_is_not_told_to_go_on_where_it_cannot() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for (times, what) in [("mint", "a pipe cannot go on"), ("given", "the same command goes on")] {
        let mut command = command("ingest", dir, &["-", "--shard", times, "--times", times]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = Running::of(command);
        let mut stdin = run.child.stdin.take().expect("piped");
        stdin.write_all((row(1, 1) + &row(2, 2)).as_bytes()).expect("a reader");
        run.until("a commit", || crate::process::entries(dir, times) > 0);
        run.signal("INT");
        let ran = run.end(PATIENCE);
        assert!(ran.error().starts_with("interrupted, rerun to continue"), "{}", ran.stderr);
        assert!(ran.error().contains(what), "{times}: {}", ran.stderr);
        assert_eq!(status(dir, times)["leases"].as_array().map(Vec::len), Some(0), "{times}");
        drop(stdin);
    }
}

#[test]
fn a_log_says_where_its_beginning_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", &row(1, 1));
    ingested(dir, &["feed", "--shard", "s"]);
    let all = shard(dir, &["log", "s"]).good();
    assert_eq!((all.stdout.contains("\"seqno\":1,"), &*all.stderr), (true, ""));
    let last = status(dir, "s")["seqno"].as_u64().expect("a number");
    let behind = shard(dir, &["log", "s", "--from", "9999"]).good();
    assert_eq!(behind.stderr, format!("note: the last entry is {last}\n"));
    // Each run is a batch; these are merged, and what they came from is deleted.
    for ts in 2..40 {
        write(dir, "feed", &(1..=ts).map(|ts| row(1, ts)).collect::<String>());
        ingested(dir, &["feed", "--shard", "s", "--times", "given"]);
    }
    shard(dir, &["compact", "s"]).good();
    shard(dir, &["gc", "s"]).good();
    let left = shard(dir, &["log", "s"]).good();
    let last = status(dir, "s")["seqno"].as_u64().expect("a number");
    let first = last + 1 - left.lines().len() as u64;
    let note = format!("note: entries before {first} are deleted, ");
    assert!(first > 1 && left.stderr.starts_with(&note), "{first}: {}", left.stderr);
    std::fs::create_dir(dir.join("new")).expect("a directory");
    assert_eq!(shard(dir, &["log", "new"]).good().stderr, "");
}

#[test]
fn a_cluster_prints_its_summary_and_nothing_else_on_stdout() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", &row(1, 1));
    let cluster = start_cluster(dir, &["feed", "--shard", "s", "--times", "given"]);
    let [first, second] = end_cluster(cluster, PATIENCE).map(Ran::good);
    assert_eq!((first.lines().len(), &*second.stdout), (1, ""));
    assert_eq!(first.summary()["read"], 1);
}
