//! Goal: two processes are one run: the same contents and counts as one process, one summary, and an
//! end together. Method: real processes on loopback; the oracle is a fold, and a run of one process.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::process::{
    PATIENCE, end_cluster, entries, fold, ingested, random, snapshot, start_cluster, upper,
    verified,
};
use serde_json::Value;

const TIMES: u64 = 60;
/// The contract's bound on a cluster's end.
const TOGETHER: Duration = Duration::from_secs(10);

fn feed(dir: &Path) -> String {
    let mut random = random(11);
    let mut text = String::new();
    for ts in 0..TIMES {
        for _ in 0..random.u64(..120) {
            let (key, value) = (random.u64(..500), random.u64(..3));
            let value = if value == 0 { "null".to_string() } else { value.to_string() };
            let _ = writeln!(text, "{{\"key\":{key},\"value\":{value},\"ts\":{}}}", ts * 3);
        }
    }
    let _ = writeln!(text, "{{\"key\":0,\"value\":\"last\",\"ts\":{}}}", TIMES * 3);
    std::fs::write(dir.join("feed"), &text).expect("a feed");
    text
}

#[test]
fn two_processes_count_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let text = feed(dir);
    let alone = ingested(dir, &["feed", "--shard", "alone"]);
    let [first, second] =
        end_cluster(start_cluster(dir, &["feed", "--shard", "s", "-w", "2", "--seal"]), PATIENCE);
    let (first, second) = (first.good(), second.good());
    assert_eq!(second.stdout, "", "only process 0 prints");
    let summary = first.summary();
    for count in ["read", "below", "superseded", "unchanged", "inserted", "updated", "deleted"] {
        assert_eq!(summary[count], alone[count], "{count}");
    }
    let sum: u64 = ["below", "superseded", "unchanged", "lost", "inserted", "updated", "deleted"]
        .iter()
        .map(|count| summary[*count].as_u64().expect("a count"))
        .sum();
    assert_eq!(summary["read"].as_u64(), Some(sum));
    assert_eq!(sum, text.lines().count() as u64);
    assert_eq!((&summary["losses"], &summary["upper"]), (&0.into(), &Value::Null));
    assert_eq!(snapshot(dir, "s"), fold(text.lines()));
    assert_eq!(snapshot(dir, "s"), snapshot(dir, "alone"));
    verified(dir, "s");
}

#[test]
fn a_signal_to_one_ends_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let text = feed(dir);
    for told in 0..2 {
        let args = ["feed", "--shard", "s", "--throttle", "500"];
        let mut cluster = start_cluster(dir, &args);
        let before = entries(dir, "s");
        cluster[0].until("a commit", || entries(dir, "s") > before);
        cluster[told].signal("INT");
        let ran = end_cluster(cluster, TOGETHER);
        assert!(ran[told].error().starts_with("interrupted, rerun to continue"));
        let other = ran[1 - told].error();
        assert!(other.starts_with("another process of the cluster"), "{other}");
        ran[0].summary();
        assert_eq!(ran[1].stdout, "");
        let upper = upper(dir, "s");
        let below = |line: &&str| {
            let row: Value = serde_json::from_str(line).expect("a row");
            row["ts"].as_u64() < Some(upper)
        };
        assert_eq!(snapshot(dir, "s"), fold(text.lines().filter(below)));
        verified(dir, "s");
    }
    let [first, second] = end_cluster(start_cluster(dir, &["feed", "--shard", "s"]), PATIENCE);
    first.good();
    second.good();
    assert_eq!(snapshot(dir, "s"), fold(text.lines()));
}

#[test]
fn a_bad_line_ends_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let text = feed(dir);
    let lines: Vec<&str> = text.lines().collect();
    let half = lines.len() / 2;
    let bad = format!("{}\nnonsense\n{}\n", lines[..half].join("\n"), lines[half..].join("\n"));
    std::fs::write(dir.join("feed"), bad).expect("a feed");
    let ran = end_cluster(start_cluster(dir, &["feed", "--shard", "s"]), TOGETHER);
    let said = ran[0].error();
    assert!(said.contains(&format!("feed:{}", half + 1)), "{said}");
    assert_eq!((ran[1].error().is_empty(), &*ran[1].stdout), (false, ""));
    let row: Value = serde_json::from_str(lines[half - 1]).expect("a row");
    assert_eq!(upper(dir, "s"), row["ts"].as_u64().expect("a time"));
    verified(dir, "s");
    std::fs::write(dir.join("feed"), &text).expect("a feed");
    let [first, second] = end_cluster(start_cluster(dir, &["feed", "--shard", "s"]), PATIENCE);
    assert_eq!(first.good().summary()["read"], lines.len());
    second.good();
    assert_eq!(snapshot(dir, "s"), fold(lines));
}
