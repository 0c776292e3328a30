//! Goal: a feed of Debezium envelopes leaves what the database had: every op, tombstones, truncates, keys
//! that move, with and without schemas; and a bad envelope is its key's error until a good one comes.
//! Method: `ingest` as users run it; the oracle is a table that the test keeps while it writes the feed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::process::{
    PATIENCE, ingest, ingested, last_entry, random, shard, snapshot, start_ingest, status, upper,
    verified,
};
use fastrand::Rng;

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
fn changes(random: &mut Rng, count: u64) -> (String, BTreeMap<String, String>) {
    let (mut text, mut table) = (String::new(), BTreeMap::<String, String>::new());
    for n in 0..count {
        let wrap = random.u64(..2) == 0;
        let key = format!("{{\"id\":{}}}", random.u64(..60));
        let before = table.get(&key).cloned();
        let old = before.clone().unwrap_or("null".to_string());
        if n % 500 == 499 {
            line(&mut text, wrap, "null", "{\"op\":\"t\",\"ts_ms\":1}");
            table.clear();
            continue;
        }
        match random.u64(..6) {
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
                let op = if before.is_some() { "u" } else { ["c", "r"][random.usize(..2)] };
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
    let (text, table) = changes(&mut random(3), 4_300);
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
    let bad = "{\"key\":{\"schema\":null,\"payload\":2},\"value\":{\"op\":\"x\"}}\n";
    let after = "{\"key\":3,\"value\":{\"op\":\"r\",\"after\":3}}\n";
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", [good, bad, after].concat());
    let args = ["feed", "--shard", "s", "--format", "debezium"];
    let ran = ingest(dir, &args);
    let error = ran.error();
    assert!(error.starts_with("\"op\" is \"x\", none of c, r, u, d, t, m at feed:2; "), "{error}");
    assert_eq!(snapshot(dir, "s"), ["{\"key\":1,\"value\":{\"a\":1}}"]);
    let keep = [&args[..], &["--on-error", "keep"]].concat();
    assert_eq!(ingested(dir, &keep)["errors"], 1);
    let kept =
        "{\"key\":2,\"error\":\"\\\"op\\\" is \\\"x\\\", none of c, r, u, d, t, m at line 2\"}";
    assert_eq!(snapshot(dir, "s")[1], kept);
    write(dir, "feed", [good, bad, after, &after.replace('3', "2")].concat());
    ingested(dir, &keep);
    assert_eq!(
        snapshot(dir, "s"),
        ["{\"key\":1,\"value\":{\"a\":1}}", "{\"key\":2,\"value\":2}", "{\"key\":3,\"value\":3}"]
    );
    verified(dir, "s");
}

/// PostgreSQL's unchanged TOAST: an update keeps what its row had, also where it resumes in between; a row that is new
/// has nothing to keep.
#[test]
fn an_update_keeps_what_was_not_sent() {
    const UNSENT: &str = "\"__debezium_unavailable_value\"";
    let message = |op: &str, id: u64, n: u64, doc: &str| {
        let after = format!("{{\"id\":{id},\"n\":{n},\"doc\":{doc}}}");
        format!("{{\"key\":{{\"id\":{id}}},\"value\":{{\"op\":\"{op}\",\"after\":{after}}}}}\n")
    };
    let row = |id: u64, n: u64, doc: &str| {
        format!("{{\"key\":{{\"id\":{id}}},\"value\":{{\"doc\":\"{doc}\",\"id\":{id},\"n\":{n}}}}}")
    };
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (long, other) = ("\"long\"", "\"other\"");
    let first = [message("c", 1, 1, long), message("c", 2, 1, long)].concat();
    let more = [
        message("u", 1, 2, UNSENT),
        message("u", 1, 3, UNSENT),
        message("u", 2, 2, other),
        message("u", 2, 3, UNSENT),
    ];
    write(dir, "feed", &first);
    let args = ["feed", "--shard", "s", "--format", "debezium", "-w", "2"];
    ingested(dir, &args);
    write(dir, "feed", [first.clone(), more.concat()].concat());
    let error = [&args[..], &["--on-unavailable", "error"]].concat();
    let said = ingest(dir, &error);
    let said = said.error();
    assert!(said.contains("column \"doc\" was not sent") && said.contains("feed:3"), "{said}");
    ingested(dir, &args);
    assert_eq!(snapshot(dir, "s"), [row(1, 3, "long"), row(2, 3, "other")]);
    // A patch of a row that is not there, and a new row without its column.
    let rest = [message("u", 3, 1, UNSENT), message("c", 4, 1, UNSENT)];
    write(dir, "feed", [&*first, &*more.concat(), &*rest[0]].concat());
    let stopped = ingest(dir, &args);
    let says = "a patch of a key that has no value at key {\"id\":3}; correct the row";
    assert!(stopped.error().starts_with(says), "{}", stopped.stderr);
    assert_eq!(snapshot(dir, "s"), [row(1, 3, "long"), row(2, 3, "other")]);
    write(dir, "feed", [first, more.concat(), rest.concat()].concat());
    ingested(dir, &[&args[..], &["--on-error", "keep"]].concat());
    let all = snapshot(dir, "s");
    assert_eq!(all[2], "{\"key\":{\"id\":3},\"error\":\"a patch of a key that has no value\"}");
    assert!(all[3].contains("column \\\"doc\\\" was not sent"), "{all:?}");
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
        "feed --shard s --on-unavailable error",
        "feed --shard s --format debezium --on-unavailable never",
    ] {
        let ran = ingest(dir, &line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{line}: {}", ran.stderr);
    }
    assert_eq!(dir.read_dir().expect("a directory").count(), 0);
}

/// A row of a snapshot or of the stream, by its mark.
fn marked(key: u64, mark: &str, table: &str) -> String {
    let op = if mark == "false" { "c" } else { "r" };
    format!(
        "{{\"key\":{{\"id\":{key}}},\"value\":{{\"op\":\"{op}\",\"after\":{{\"n\":{key}}},\"source\":{{\"snapshot\":\"{mark}\",\"schema\":\"s\",\"table\":\"{table}\"}}}}}}\n"
    )
}

fn rows(keys: &[u64]) -> Vec<String> {
    keys.iter()
        .map(|key| format!("{{\"key\":{{\"id\":{key}}},\"value\":{{\"n\":{key}}}}}"))
        .collect()
}

/// A first snapshot of 1 2 3, a change, and what follows the place that was lost: 2 is gone.
fn twice(last: &str) -> (String, String) {
    let row = |key, mark| marked(key, mark, "t");
    let first = row(1, "first") + &row(2, "true") + &row(3, "last") + &row(4, "false");
    let anew = row(1, "first_in_data_collection") + &row(3, "true") + &row(4, "true");
    (first, anew + &row(5, last) + &row(6, "false"))
}

#[test]
fn a_second_snapshot_is_warned_of_and_keeps_what_it_lacks() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (first, anew) = twice("last");
    write(dir, "feed", [&*first, &anew].concat());
    let args = ["feed", "--shard", "s", "--format", "debezium"];
    let ran = ingest(dir, &args).good();
    assert_eq!(snapshot(dir, "s"), rows(&[1, 2, 3, 4, 5, 6]));
    let warned: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(warned.len(), 2, "{}", ran.stderr);
    let says = "another snapshot begins behind rows; rows that it does not have stay: see --resnapshot replace line=5 rows=4";
    assert!(warned[0].contains(" WARN ") && warned[0].ends_with(says), "{}", ran.stderr);
    let says = "the snapshot from line 5 has ended line=8 rows=4";
    assert!(warned[1].contains(" WARN ") && warned[1].ends_with(says), "{}", ran.stderr);
    // The first one alone is none to warn of.
    write(dir, "first", first);
    let ran = ingest(dir, &["first", "--shard", "f", "--format", "debezium"]).good();
    assert_eq!(ran.stderr, "");
}

#[test]
fn told_to_it_replaces_all_rows_at_one_time_when_its_last_has_come() {
    for last in ["last", "last_in_data_collection"] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let (first, anew) = twice(last);
        let lines: Vec<&str> = anew.split_inclusive('\n').collect();
        write(dir, "feed", &first);
        let args = "feed --shard s --format debezium --resnapshot replace --history keep";
        let args: Vec<&str> = args.split(' ').collect();
        ingested(dir, &args);
        assert_eq!(snapshot(dir, "s"), rows(&[1, 2, 3, 4]));
        let before = upper(dir, "s");
        // A snapshot that is not whole is nothing yet.
        write(dir, "feed", [&*first, lines[0], lines[1], &marked(9, "false", "t")].concat());
        let ran = ingest(dir, &args);
        let says = "the feed ends inside the snapshot that began at line 5 at feed:7; append the rest of it and rerun, or go on with --resnapshot keep";
        assert_eq!(ran.error(), says, "{}", ran.stderr);
        assert_eq!((upper(dir, "s"), snapshot(dir, "s")), (before, rows(&[1, 2, 3, 4])));
        // Nor one that begins again; and while it comes, nothing has changed.
        let begun = [&*first, lines[0], lines[1], &anew].concat();
        let (whole, rest) = begun.split_at(begun.len() - lines[3].len() - lines[4].len());
        write(dir, "feed", whole);
        let mut run = start_ingest(dir, &[&args[..], &["--follow"]].concat());
        let mut file = std::fs::File::options().append(true).open(dir.join("feed")).expect("it");
        run.until("its lease", || last_entry(dir, "s") > 0);
        assert_eq!((upper(dir, "s"), snapshot(dir, "s")), (before, rows(&[1, 2, 3, 4])));
        file.write_all(rest.as_bytes()).expect("room");
        run.until("the rest", || snapshot(dir, "s") == rows(&[1, 3, 4, 5, 6]));
        run.child.kill().expect("it runs");
        run.end(PATIENCE);
        let from = before.to_string();
        let tail = shard(dir, &["tail", "s", "--from", &from]).good().stdout;
        let replaced: Vec<&str> =
            tail.lines().filter(|line| line.contains("\"diff\":-1")).collect();
        let added: Vec<&str> = tail.lines().filter(|line| line.contains("{\"id\":5}")).collect();
        assert_eq!((replaced.len(), added.len()), (1, 1), "{tail}");
        assert!(replaced[0].contains("{\"id\":2}"), "{tail}");
        let time = |line: &str| line.split("\"time\":").nth(1).map(str::to_string);
        let of = |line| time(line).map(|t| t.split(',').next().unwrap_or_default().to_string());
        assert_eq!(of(replaced[0]), of(added[0]), "{tail}");
        let again = ingested(dir, &args);
        assert_eq!((&again["read"], &again["below"]), (&11.into(), &11.into()), "{again}");
        verified(dir, "s");
    }
}

#[test]
fn a_snapshot_of_one_table_does_not_replace_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let feed = marked(1, "first", "a") + &marked(2, "first_in_data_collection", "b");
    write(dir, "feed", feed);
    let args = ["feed", "--shard", "s", "--format", "debezium", "--resnapshot", "replace"];
    let ran = ingest(dir, &args);
    let says = "rows of two tables, s.a and s.b, and a snapshot replaces all at feed:2; ";
    assert!(ran.error().starts_with(says), "{}", ran.stderr);
    assert_eq!(snapshot(dir, "s"), rows(&[1]));
    // Kept, it is an error of nothing that is there, and begins no snapshot.
    ingested(dir, &[&args[..], &["--on-error", "keep"]].concat());
    let kept = snapshot(dir, "s");
    assert_eq!((kept.len(), &kept[..1]), (2, &rows(&[1])[..]));
    assert!(kept[1].starts_with("{\"key\":{\"key_base64\":"), "{kept:?}");
}

#[test]
fn messages_that_are_no_rows_are_counted_and_make_no_value() {
    let heartbeat = "{\"key\":{\"serverName\":\"s\"},\"value\":{\"ts_ms\":5}}\n";
    let begin = "{\"key\":{\"id\":\"5\"},\"value\":{\"status\":\"BEGIN\",\"id\":\"5\"}}\n";
    let message = "{\"key\":{\"prefix\":\"p\"},\"value\":{\"op\":\"m\",\"message\":{}}}\n";
    let row = marked(1, "false", "t");
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", [heartbeat, begin, &row, message, heartbeat].concat());
    let args = ["feed", "--shard", "s", "--format", "debezium"];
    let summary = ingested(dir, &args);
    assert_eq!((&summary["read"], &summary["skipped"]), (&1.into(), &4.into()), "{summary}");
    assert_eq!(snapshot(dir, "s"), rows(&[1]));
    // Those behind the last row are read again.
    let again = ingested(dir, &args);
    assert_eq!(
        (&again["read"], &again["below"], &again["skipped"]),
        (&1.into(), &1.into(), &2.into())
    );
}
