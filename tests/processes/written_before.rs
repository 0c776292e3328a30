//! Goal: shards that commit 9184c02 wrote are read as they are, continued, compacted and verified by this one, to
//! the row; and no program that knows only their layout takes what they become for one. Method: copies of what its
//! `ingest` and `shard` left in `tests/fixtures/shards/`, beside the feeds
//! that they were fed; the example programs on them. What they hold is written out by hand, and folded.

use std::collections::BTreeSet;
use std::path::Path;

use crate::process::{fold, ingest, ingested, shard, snapshot, status, verified};

/// Copies the shards and their feeds.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in from.read_dir().expect("a directory") {
        let (from, name) = { entry.map(|e| (e.path(), e.file_name())) }.expect("an entry");
        match from.is_dir() {
            true => copy(&from, &to.join(name)),
            false => drop(std::fs::copy(&from, to.join(name)).expect("a copy")),
        }
    }
}

fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shards");
    copy(&fixtures, dir.path());
    dir
}

/// Adds lines to a feed and returns all of it.
fn extend(dir: &Path, feed: &str, more: &str) -> String {
    let text = std::fs::read_to_string(dir.join(feed)).expect("a feed") + more;
    std::fs::write(dir.join(feed), &text).expect("a file");
    text
}

/// The formats of the parts that have files of their own.
fn formats(dir: &Path, url: &str) -> BTreeSet<u16> {
    let mut folders = vec![dir.join(url).join("data/part")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(path).expect("a part");
            found.insert(u16::from_le_bytes([bytes[8], bytes[9]]));
        }
    }
    found
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let paths = dir.read_dir().expect("a directory").map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The log is in segments, its files but for the last are gone, and `FORMAT` refuses programs that would look for them.
fn upgraded(dir: &Path, url: &str) {
    let format = std::fs::read_to_string(dir.join(url).join("FORMAT")).expect("a file");
    assert!(format.starts_with(r#"{"format":2,"min_reader":2,"min_writer":2,"#), "{format}");
    let incarnation = std::fs::read_to_string(dir.join(url).join("INCARNATION")).expect("a file");
    assert!(incarnation.starts_with(r#"{"root":""#), "{incarnation}");
    let logs: Vec<_> = files(&dir.join(url))
        .into_iter()
        .filter(|p| p.parent().is_some_and(|f| f.ends_with("log")))
        .collect();
    assert!(!logs.is_empty());
    let mut closed = 0;
    for file in logs {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        if ["marks", "lock"].contains(&name) || name.ends_with(".seg") {
            continue;
        }
        // Programs of before find it in the place of the next entry, and do not know its version.
        let bytes = std::fs::read(&file).expect("a file");
        assert_eq!(bytes, b"DUPSLOG\n\xff\xff in segments\n", "{name}");
        closed += 1;
    }
    assert!(closed > 0, "no log of files has an end");
}

/// What must stay as it is when nothing but cost changes.
fn maintained(dir: &Path, url: &str) {
    let before = snapshot(dir, url);
    shard(dir, &["compact", url]).good();
    shard(dir, &["gc", url]).good();
    verified(dir, url);
    assert_eq!(snapshot(dir, url), before);
    // What earlier programs wrote has been merged, and so is in the format of this one.
    assert_eq!(formats(dir, url), BTreeSet::from([2]));
    upgraded(dir, url);
}

#[test]
fn readers_leave_what_was_written_before_as_it_is() {
    let dir = copied();
    let dir = dir.path();
    let before: Vec<_> =
        files(dir).into_iter().map(|file| (std::fs::read(&file).expect("a file"), file)).collect();
    for url in ["minted", "given", "sealed"] {
        snapshot(dir, url);
        status(dir, url);
        verified(dir, url);
        shard(dir, &["tail", url, "--until", "0"]);
    }
    for (bytes, file) in &before {
        assert_eq!(std::fs::read(file).expect("a file"), *bytes, "{file:?}");
    }
    assert_eq!(files(dir).len(), before.len());
}

#[test]
fn a_minted_shard_with_a_cursor_and_errors_goes_on() {
    let dir = copied();
    let dir = dir.path();
    verified(dir, "minted");
    let apples = r#"{"key":"apples","value":5}"#;
    let dates = r#"{"key":"dates","value":7}"#;
    let figs = r#"{"key":"figs","value":"many"}"#;
    let plums = r#"{"key":"plums","error":"missing \"value\" at line 8"}"#;
    let bad = r#"{"key":{"key_base64":"dGhpcyBpcyBub3QgSlNPTg=="},"error":"not JSON: expected a value (byte 1 of the line) at line 5"}"#;
    assert_eq!(snapshot(dir, "minted"), [apples, dates, figs, plums, bad]);
    assert_eq!(status(dir, "minted")["upper"], 1_795_788_402_893u64);

    let args = ["minted.jsonl", "--shard", "minted", "--on-error", "keep"];
    let again = ingested(dir, &args);
    assert_eq!(
        (&again["read"], &again["below"]),
        (&9.into(), &9.into()),
        "the cursor is at the end"
    );
    extend(
        dir,
        "minted.jsonl",
        "{\"key\":\"plums\",\"value\":0}\n{\"key\":\"apples\",\"value\":null}\n\
         {\"key\":\"figs\",\"value\":\"few\"}\n",
    );
    let on = ingested(dir, &args);
    let counts = ["read", "below", "inserted", "updated", "deleted"].map(|name| on[name].as_u64());
    assert_eq!(counts, [12, 9, 0, 2, 1].map(Some), "{on}");
    let (figs, plums) = (r#"{"key":"figs","value":"few"}"#, r#"{"key":"plums","value":0}"#);
    assert_eq!(snapshot(dir, "minted"), [dates, figs, plums, bad]);
    verified(dir, "minted");
    maintained(dir, "minted");
}

#[test]
fn a_shard_of_given_times_keeps_its_history_and_takes_its_feed_alone() {
    let dir = copied();
    let dir = dir.path();
    verified(dir, "given");
    let more = "{\"key\":\"k0\",\"value\":null,\"ts\":5}\n{\"key\":\"k3\",\"value\":9,\"ts\":6}\n\
                {\"key\":\"k1\",\"value\":1,\"ts\":6}\n";
    let text = extend(dir, "given.jsonl", more);
    // The digest of all commands below the upper is the one that it was.
    let on = ingested(dir, &["given.jsonl", "--shard", "given", "-w", "2"]);
    assert_eq!((&on["below"], &on["upper"]), (&5.into(), &7.into()), "{on}");
    for time in 0..7 {
        let rows = text.lines().filter(|row| {
            let ts = row.split("\"ts\":").nth(1).and_then(|rest| rest.strip_suffix('}'));
            ts.and_then(|ts| ts.parse::<u64>().ok()).expect("a time") <= time
        });
        let looked = shard(dir, &["snapshot", "given", "--as-of", &time.to_string()]).good();
        assert_eq!(looked.lines(), fold(rows), "as of {time}");
    }
    let changes = shard(dir, &["tail", "given", "--until", "6"]).good().lines();
    assert_eq!(changes.len(), 11, "{changes:?}");
    verified(dir, "given");
    maintained(dir, "given");
    std::fs::write(dir.join("other"), text.replace("\"value\":1,\"ts\":1", "\"value\":2,\"ts\":1"))
        .expect("a feed");
    let refused = ingest(dir, &["other", "--shard", "given"]);
    assert!(refused.error().starts_with("FeedDiffers"), "{}", refused.stderr);
}

#[test]
fn a_sealed_shard_is_whole_and_takes_nothing() {
    let dir = copied();
    let dir = dir.path();
    verified(dir, "sealed");
    let text = extend(dir, "sealed.jsonl", "");
    assert_eq!(status(dir, "sealed")["sealed_at"], 6);
    assert_eq!(snapshot(dir, "sealed"), fold(text.lines()));
    let again = ingested(dir, &["sealed.jsonl", "--shard", "sealed", "--seal"]);
    assert_eq!((&again["below"], &again["wins"]), (&6.into(), &0.into()), "{again}");
    maintained(dir, "sealed");
}
