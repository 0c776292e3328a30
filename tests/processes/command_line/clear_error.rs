//! Goal: `shard clear-error` ends an error by hand, and nothing else changes: the feed goes on, and whatever it would lose is
//! refused by name. Method: real processes; expected output is written out by hand.

use std::path::Path;

use serde_json::Value;

use crate::process::{
    Ran, ingest, ingested, shard, snapshot, start_ingest, status, upper, verified,
};

const GIVEN: &str = "{\"key\":\"a\",\"value\":1,\"ts\":3}\n{\"key\":\"b\",\"ts\":3}\nnonsense\n";
const MINTED: &str = "{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"}\nnonsense\n";
const NONSENSE: &str = "{\"key_base64\":\"bm9uc2Vuc2U=\"}";
const KEEP: [&str; 5] = ["feed", "--shard", "s", "--on-error", "keep"];

fn write(dir: &Path, text: &str) {
    std::fs::write(dir.join("feed"), text).expect("room");
}

fn fed(text: &str, args: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), text);
    ingested(dir.path(), &[&KEEP, args].concat());
    dir
}

fn errors(dir: &Path) -> Vec<Value> {
    let lines = shard(dir, &["errors", "s"]).good().lines();
    lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["key"].clone())
        .collect()
}

fn clear(dir: &Path, key: &str) -> Ran {
    shard(dir, &["clear-error", "s", key])
}

#[test]
fn an_error_is_ended_and_the_feed_goes_on() {
    let dir = fed(GIVEN, &["--history", "keep"]);
    let dir = dir.path();
    assert_eq!(errors(dir).len(), 2);
    assert_eq!(upper(dir, "s"), 4);
    let before = snapshot(dir, "s");
    let ran = clear(dir, " \"b\" ").good();
    let said: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&said["key"], &said["time"]), (&"b".into(), &4.into()));
    assert!(said["error"].as_str().expect("text").contains("missing \"value\""), "{said}");
    assert!(ran.stderr.contains("time 4 is taken"), "{}", ran.stderr);
    assert_eq!(errors(dir), [serde_json::from_str::<Value>(NONSENSE).expect("JSON")]);
    let after: Vec<String> =
        before.iter().filter(|line| !line.starts_with("{\"key\":\"b\"")).cloned().collect();
    assert_eq!(snapshot(dir, "s"), after);
    let log = shard(dir, &["log", "s"]).good().lines();
    let last: Value = serde_json::from_str(log.last().expect("an entry")).expect("JSON");
    assert_eq!(
        (&last["kind"], &last["lower"], &last["rows"]),
        (&"clear_error".into(), &4.into(), &1.into())
    );
    // Before that time it is as it was.
    assert_eq!(shard(dir, &["snapshot", "s", "--as-of", "3"]).good().lines(), before);
    let tail = shard(dir, &["tail", "s", "--from", "3"]).good().lines();
    assert!(tail[3].ends_with(",\"time\":4,\"diff\":-1}") && tail.len() == 4, "{tail:?}");
    // Another one, whose key is an object; and one that is not in error any more.
    clear(dir, NONSENSE).good();
    assert!(errors(dir).is_empty());
    for key in ["\"b\"", "\"a\"", "\"c\""] {
        assert!(clear(dir, key).error().contains("shard errors"), "{key}");
    }
    assert!(clear(dir, "b").error().contains("not JSON"));
    assert_eq!(upper(dir, "s"), 6);
    verified(dir, "s");
    // The same feed is still the shard's, and so is more of it.
    let again = ingested(dir, &KEEP);
    assert_eq!((&again["below"], &again["wins"]), (&3.into(), &0.into()));
    write(dir, &format!("{GIVEN}{{\"key\":\"b\",\"value\":7,\"ts\":6}}\n"));
    ingested(dir, &KEEP);
    assert_eq!(snapshot(dir, "s"), ["{\"key\":\"a\",\"value\":1}", "{\"key\":\"b\",\"value\":7}"]);
    assert!(errors(dir).is_empty());
    verified(dir, "s");
}

#[test]
fn a_row_at_the_time_that_was_taken_is_refused_and_not_lost() {
    let dir = fed(GIVEN, &[]);
    let dir = dir.path();
    clear(dir, "\"b\"").good();
    write(dir, &format!("{GIVEN}{{\"key\":\"c\",\"value\":7,\"ts\":4}}\n"));
    let ran = ingest(dir, &KEEP);
    assert!(ran.error().starts_with("FeedDiffers: below time 5"), "{}", ran.stderr);
    verified(dir, "s");
}

#[test]
fn minted_times_go_on_after_it() {
    let dir = fed(MINTED, &[]);
    let dir = dir.path();
    assert_eq!(errors(dir).len(), 2);
    clear(dir, "\"b\"").good();
    verified(dir, "s");
    assert_eq!(errors(dir).len(), 1);
    let again = ingested(dir, &KEEP);
    assert_eq!(again["wins"], 0);
    let more = format!("{MINTED}{{\"key\":\"b\",\"value\":2}}\n{{\"key\":\"a\",\"value\":null}}\n");
    write(dir, &more);
    ingested(dir, &KEEP);
    assert_eq!(snapshot(dir, "s")[0], "{\"key\":\"b\",\"value\":2}");
    clear(dir, NONSENSE).good();
    assert_eq!(snapshot(dir, "s"), ["{\"key\":\"b\",\"value\":2}"]);
    verified(dir, "s");
    write(dir, &format!("{more}{{\"key\":\"c\",\"value\":3}}\n"));
    ingested(dir, &KEEP);
    assert_eq!(snapshot(dir, "s"), ["{\"key\":\"b\",\"value\":2}", "{\"key\":\"c\",\"value\":3}"]);
    verified(dir, "s");
}

#[test]
fn where_it_is_not_sound_it_is_refused() {
    let refused = |dir: &Path, said: &str| {
        let before = status(dir, "s");
        let ran = clear(dir, "\"b\"");
        assert!(
            ran.error().starts_with("an error cannot be ended by hand here: "),
            "{}",
            ran.stderr
        );
        assert!(ran.error().contains(said), "{said}: {}", ran.stderr);
        assert_eq!((&*ran.stdout, status(dir, "s")), ("", before), "nothing was written");
        assert_eq!(errors(dir).len(), 2);
    };
    let sealed = fed(GIVEN, &["--seal"]);
    refused(sealed.path(), "the shard is sealed at 4");
    let unchecked = fed(GIVEN, &["--unchecked"]);
    refused(unchecked.path(), "a row of it at time 4 would be lost");
    // A writer at work.
    let live = tempfile::tempdir().expect("a directory");
    let dir = live.path();
    write(dir, &format!("{GIVEN}{{\"closed\":4}}\n"));
    let mut run = start_ingest(dir, &[&KEEP[..], &["--follow"]].concat());
    run.until("the rows are committed", || {
        let ran = shard(dir, &["status", "s"]);
        ran.code == Some(0) && upper(dir, "s") == 4
    });
    let ran = clear(dir, "\"b\"");
    assert!(ran.error().contains("the shard is in use, by the holder of lease "), "{}", ran.stderr);
    assert!(run.runs());
    run.signal("TERM");
    run.end(crate::process::PATIENCE).good();
    clear(dir, "\"b\"").good();
    // Nothing is created.
    let ran = shard(dir, &["clear-error", "none", "\"b\""]);
    assert!(ran.error().starts_with("no shard here"), "{}", ran.stderr);
    std::fs::create_dir(dir.join("empty")).expect("a directory");
    let ran = shard(dir, &["clear-error", "empty", "\"b\""]);
    assert!(ran.error().starts_with("no shard here"), "{}", ran.stderr);
    assert_eq!(dir.join("empty").read_dir().expect("a directory").count(), 0);
}
