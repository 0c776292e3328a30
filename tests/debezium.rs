//! Goal: a feed of Debezium envelopes leaves what the database had: every op, tombstones, truncates, keys
//! that move, with and without schemas; and a bad envelope is its key's error until a good one comes.
//! Method: `ingest` as users run it; the oracle is a table that the test keeps while it writes the feed.

#[path = "common/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use process::{Random, ingest, ingested, snapshot, status, upper, verified};

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), text).expect("a file");
}

/// A line, wrapped as Kafka Connect does with schemas or not.
fn line(text: &mut String, wrap: bool, key: &str, value: &str) {
    let wrapped = |inner: &str| match wrap {
        true => format!("{{\"schema\":{{\"type\":\"struct\"}},\"payload\":{inner}}}"),
        false => inner.to_string(),
    };
    let value = if value == "null" { value.to_string() } else { wrapped(value) };
    let _ = writeln!(text, "{{\"key\":{},\"value\":{value},\"partition\":0}}", wrapped(key));
}

/// Changes of a table, and the table.
fn changes(random: &mut Random, count: u64) -> (String, BTreeMap<String, String>) {
    let (mut text, mut table) = (String::new(), BTreeMap::<String, String>::new());
    for n in 0..count {
        let wrap = random.below(2) == 0;
        let key = format!("{{\"id\":{}}}", random.below(60));
        let before = table.get(&key).cloned();
        let old = before.clone().unwrap_or("null".to_string());
        if n % 500 == 499 {
            line(&mut text, wrap, "null", "{\"op\":\"t\",\"ts_ms\":1}");
            table.clear();
            continue;
        }
        match random.below(6) {
            0 => {
                let value = format!("{{\"before\":{old},\"after\":null,\"op\":\"d\"}}");
                line(&mut text, wrap, &key, &value);
                // Most of them write a tombstone behind it.
                line(&mut text, wrap, &key, "null");
                table.remove(&key);
            }
            1 => {
                line(&mut text, wrap, &key, "null");
                table.remove(&key);
            }
            _ => {
                let after = format!("{{\"n\":{n},\"id\":[7]}}");
                let op = if before.is_some() { "u" } else { ["c", "r"][random.below(2) as usize] };
                let value = format!(
                    "{{\"before\":{old}, \"after\":{after},\"op\":\"{op}\",\"source\":{{\"op\":\"d\"}}}}"
                );
                line(&mut text, wrap, &key, &value);
                table.insert(key, format!("{{\"id\":[7],\"n\":{n}}}"));
            }
        }
    }
    (text, table)
}

#[test]
fn the_table_comes_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (text, table) = changes(&mut Random::from_environment(3), 4_300);
    write(dir, "feed", &text);
    let args = ["feed", "--shard", "s", "--format", "debezium", "-w", "2"];
    let summary = ingested(dir, &args);
    let rows = text.lines().count();
    assert_eq!(summary["read"], rows);
    let expected: Vec<String> =
        table.iter().map(|(k, v)| format!("{{\"key\":{k},\"value\":{v}}}")).collect();
    assert_eq!(snapshot(dir, "s"), expected);
    assert_eq!(status(dir, "s")["feed"]["mode"], "minted");
    let before = upper(dir, "s");
    let again = ingested(dir, &args);
    assert_eq!((&again["below"], &again["wins"]), (&rows.into(), &0.into()));
    assert_eq!((upper(dir, "s"), snapshot(dir, "s")), (before, expected));
    verified(dir, "s");
    // Read as plain lines it is another feed.
    let ran = ingest(dir, &["feed", "--shard", "s"]);
    assert!(ran.error().starts_with("FeedDiffers: "), "{}", ran.stderr);
}

#[test]
fn a_bad_envelope_is_its_keys_error_until_a_good_one_comes() {
    let good = "{\"key\":1,\"value\":{\"op\":\"c\",\"after\":{\"a\":1}}}\n";
    let bad = "{\"key\":{\"schema\":0,\"payload\":2},\"value\":{\"op\":\"x\"}}\n";
    let after = "{\"key\":3,\"value\":{\"op\":\"r\",\"after\":3}}\n";
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", [good, bad, after].concat());
    let args = ["feed", "--shard", "s", "--format", "debezium"];
    let ran = ingest(dir, &args);
    let error = ran.error();
    assert!(error.starts_with("\"op\" is \"x\", none of c, r, u, d, t at feed:2; "), "{error}");
    assert_eq!(snapshot(dir, "s"), ["{\"key\":1,\"value\":{\"a\":1}}"]);
    let keep = [&args[..], &["--on-error", "keep"]].concat();
    assert_eq!(ingested(dir, &keep)["errors"], 1);
    let kept = "{\"key\":2,\"error\":\"\\\"op\\\" is \\\"x\\\", none of c, r, u, d, t at line 2\"}";
    assert_eq!(snapshot(dir, "s")[1], kept);
    write(dir, "feed", [good, bad, after, &after.replace('3', "2")].concat());
    ingested(dir, &keep);
    assert_eq!(
        snapshot(dir, "s"),
        ["{\"key\":1,\"value\":{\"a\":1}}", "{\"key\":2,\"value\":2}", "{\"key\":3,\"value\":3}"]
    );
    verified(dir, "s");
}

#[test]
fn it_is_not_for_feeds_with_times_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for line in [
        "feed --shard s --format debezium --times given",
        "git:. --shard s --format debezium",
        "feed --shard s --format avro",
    ] {
        let ran = ingest(dir, &line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{line}: {}", ran.stderr);
    }
    assert_eq!(dir.read_dir().expect("a directory").count(), 0);
}
