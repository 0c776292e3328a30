//! Goal: a shard takes no other feed than the one it was made from, says so with both counts, and
//! loses nothing by it; and every honest rerun and continuation is taken. Method: `ingest` as users
//! run it, over feeds that differ in one way each.

use std::path::Path;

use crate::process::{Ran, fold, ingest, ingested, shard, snapshot, status, verified};
use tempfile::TempDir;

const FEED: &str = r#"{"key":"a","value":1,"ts":0}
{"key":"b","value":1,"ts":1}
{"key":"a","value":2,"ts":3}
{"key":"c","value":1,"ts":3}
{"key":"b","value":null,"ts":5}
"#;

/// What a feed of these lines does to a shard that was made from `FEED`.
fn after_feed(lines: &str, args: &[&str]) -> (TempDir, Ran) {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "feed", FEED);
    ingested(dir.path(), &["feed", "--shard", "s"]);
    write(dir.path(), "other", lines);
    let ran = ingest(dir.path(), &[&["other", "--shard", "s"], args].concat());
    (dir, ran)
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a file");
}

fn lines(keep: impl Fn(usize) -> bool) -> String {
    let kept = FEED.lines().enumerate().filter(|(n, _)| keep(*n)).map(|(_, line)| line);
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn another_feed_is_refused_with_both_counts() {
    let late = r#"{"key":"d","value":1,"ts":9}"#;
    let cases = [
        (
            "another feed",
            FEED.replace("\"a\"", "\"x\""),
            "other 5 commands, the shard was made from 5",
        ),
        ("rewritten history", FEED.replacen("1,\"ts\":1", "7,\"ts\":1", 1), "other 5 commands"),
        ("a row less at the start", lines(|n| n != 0), "4 commands, the shard was made from 5"),
        ("a row less in between", lines(|n| n != 2), "4 commands, the shard was made from 5"),
        ("a row less, and then more", lines(|n| n != 2) + late, "has 4 commands"),
        (
            "a shorter one",
            lines(|n| n < 4),
            "ends at time 4 with 4 commands, the shard goes on to 6 with 5",
        ),
        (
            "a row more",
            format!("{}{{\"key\":\"e\",\"value\":1,\"ts\":5}}\n", FEED),
            "6 commands, the shard was made from 5",
        ),
        ("other times", FEED.replace("\"ts\":1", "\"ts\":2"), "other 5 commands"),
        ("restarted clocks", FEED.replace("\"ts\":0", "\"ts\":1"), "other 5 commands"),
        ("another order", FEED.replacen('\n', "\n\n", 1), "other 5 commands"),
    ];
    for (name, feed, says) in cases {
        let (dir, ran) = after_feed(&feed, &[]);
        let error = ran.error();
        assert_eq!(ran.code, Some(1), "{name}");
        assert!(error.contains("FeedDiffers") && error.contains(says), "{name}: {error}");
        assert_eq!(ran.summary()["upper"], 6, "{name}");
        assert_eq!(snapshot(dir.path(), "s"), fold(FEED.lines()), "{name}: nothing is lost");
        verified(dir.path(), "s");
        // And the right one is still taken.
        ingested(dir.path(), &["feed", "--shard", "s"]);
    }
}

#[test]
fn the_same_feed_is_taken_as_often_as_it_comes() {
    let more = format!("{FEED}{{\"key\":\"b\",\"value\":3,\"ts\":8}}\n");
    for workers in ["1", "3"] {
        let (dir, ran) = after_feed(FEED, &["-w", workers]);
        let summary = ran.good().summary();
        assert_eq!((&summary["read"], &summary["below"]), (&5.into(), &5.into()));
        let dir = dir.path();
        write(dir, "more", &more);
        let summary = ingested(dir, &["more", "--shard", "s", "-w", workers]);
        assert_eq!((&summary["below"], &summary["inserted"]), (&5.into(), &1.into()));
        assert_eq!(snapshot(dir, "s"), fold(more.lines()));
        // Whose feed it is, a person can see; spaces and the order of members do not matter.
        assert_eq!(status(dir, "s")["feed"]["identity"], "feed");
        write(dir, "spaced", &more.replace(',', " ,  "));
        ingested(dir, &["spaced", "--shard", "s"]);
    }
}

#[test]
fn a_continuation_is_taken_again_after_it_went_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let rest = r#"{"key":"a","value":3,"ts":6}
{"key":"c","value":null,"ts":7}
"#;
    write(dir, "feed", FEED);
    write(dir, "rest", rest);
    ingested(dir, &["feed", "--shard", "s"]);
    for below in [0, 2] {
        let summary = ingested(dir, &["rest", "--shard", "s"]);
        assert_eq!(summary["below"], below);
    }
    assert_eq!(snapshot(dir, "s"), fold(FEED.lines().chain(rest.lines())));
    // The first part ends where the second was seen to begin.
    ingested(dir, &["feed", "--shard", "s"]);
    // The second with another row is another feed.
    write(dir, "rest", &rest.replace('3', "4"));
    let ran = ingest(dir, &["rest", "--shard", "s"]);
    assert!(ran.error().contains("other 7 commands"), "{}", ran.stderr);
    // And so is its end alone.
    write(dir, "rest", r#"{"key":"c","value":null,"ts":7}"#);
    let ran = ingest(dir, &["rest", "--shard", "s"]);
    assert!(ran.error().contains("has 6 commands"), "{}", ran.stderr);
    let whole = format!("{FEED}{rest}");
    assert_eq!(snapshot(dir, "s"), fold(whole.lines()));
    verified(dir, "s");
}

#[test]
fn unchecked_is_said_and_is_for_ever() {
    let other = FEED.replace("\"a\"", "\"x\"") + r#"{"key":"x","value":9,"ts":6}"#;
    let (dir, ran) = after_feed(&other, &["--unchecked"]);
    let summary = ran.good().summary();
    assert_eq!((&summary["unchecked"], &summary["below"]), (&true.into(), &5.into()));
    let dir = dir.path();
    let ran = ingest(dir, &["feed", "--shard", "s"]);
    assert!(ran.error().contains("written unchecked"), "{}", ran.stderr);
    ingested(dir, &["feed", "--shard", "s", "--unchecked"]);
    assert!(shard(dir, &["verify", "s"]).good().stderr.is_empty());
}
