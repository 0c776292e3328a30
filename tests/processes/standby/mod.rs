//! Goal: a standby process follows, writes nothing, ends with the writer, and takes over at a POST,
//! whether the old writer is alive, dead or paused: no row lost, none doubled. Method: real processes on
//! one feed, cut over in the middle of it; the oracle is a fold of its lines.
#![cfg(unix)]

mod removed;

use std::fmt::Write as _;
use std::path::Path;

use crate::client::Server;
use crate::process::{PATIENCE, fold, random, snapshot, start_ingest, upper, verified};
use serde_json::Value;

const TIMES: u64 = 150;

fn feed(dir: &Path) -> String {
    let mut random = random(12);
    let mut text = String::new();
    for ts in 0..TIMES {
        for _ in 0..1 + random.u64(..8) {
            let (key, value) = (random.u64(..40), random.u64(..1_000));
            let value = if value < 200 { "null".to_string() } else { value.to_string() };
            let _ = writeln!(text, "{{\"key\":{key},\"value\":{value},\"ts\":{ts}}}");
        }
    }
    std::fs::write(dir.join("feed"), &text).expect("a feed");
    text
}

fn standby(dir: &Path, more: &[&str]) -> Server {
    let mut standby = Server::start(dir, &[&["feed", "--shard", "s", "--standby"], more].concat());
    standby.until("it has read the shard", |health| {
        health["role"] == "standby" && health["state"] != "hydrating"
    });
    standby
}

fn promote(standby: &Server) {
    let answer = standby.ask("POST", "/promote", "Content-Type: application/json\r\n");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn summary(said: &str) -> Value {
    serde_json::from_str(said.lines().last().expect("a summary")).expect("JSON")
}

#[test]
fn a_standby_ends_with_the_writer_and_has_written_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let text = feed(dir);
    let standby = standby(dir, &[]);
    assert_eq!(upper(dir, "s"), 0, "a lone standby closes nothing");
    start_ingest(dir, &["feed", "--shard", "s"]).end(PATIENCE).good();
    let said = summary(&standby.end());
    assert_eq!(
        (&said["wins"], &said["inserted"], &said["upper"]),
        (&0.into(), &0.into(), &TIMES.into())
    );
    let ends = ["below", "superseded", "unchanged", "lost"];
    let sum: u64 = ends.iter().map(|name| said[name].as_u64().expect("a count")).sum();
    assert_eq!(said["read"], sum, "{said}");
    assert_eq!(snapshot(dir, "s"), fold(text.lines()));
}

#[test]
fn a_promoted_standby_takes_over_whatever_the_old_writer_does() {
    for (old_is, workers) in [("dead", "1"), ("paused", "2"), ("alive", "2")] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let text = feed(dir);
        let mut old = start_ingest(dir, &["feed", "--shard", "s", "--throttle", "400"]);
        old.until("its first times", || dir.join("s/FORMAT").is_file() && upper(dir, "s") >= 5);
        let standby = standby(dir, &["-w", workers]);
        match old_is {
            "dead" => old.child.kill().expect("it can be killed"),
            "paused" => old.signal("STOP"),
            _ => {}
        }
        let before = upper(dir, "s");
        promote(&standby);
        promote(&standby);
        let said = summary(&standby.end());
        assert_eq!(said["upper"], TIMES, "{old_is}: {said}");
        assert!(said["wins"].as_u64() > Some(0), "{old_is}: {said}");
        assert!(before < TIMES, "{old_is}: it was in the middle");
        if old_is == "paused" {
            old.signal("CONT");
        }
        if old_is != "dead" {
            old.end(PATIENCE).good();
        }
        assert_eq!(snapshot(dir, "s"), fold(text.lines()), "{old_is}");
        verified(dir, "s");
    }
}

#[test]
fn a_standby_can_be_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    feed(dir.path());
    standby(dir.path(), &[]).stop();
    assert_eq!(upper(dir.path(), "s"), 0);
}
