//! Goal: `shard tail --follow`, `diff`, `log`, `errors` and `status --text` say what is so. Method: real processes on feeds
//! that are made up; what they print is compared with what the feed says, by hand and by the fold of the tests.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::ChildStdout;

use differential_upsert::io::Io;
use differential_upsert::shard::{Access, Append, Appended, Handle, HandleOptions, Schema};
use differential_upsert::store::Root;
use serde_json::Value;

use super::story::{Contents, Story, differences, lines, member};
use crate::process::{
    PATIENCE, Running, command, ingest, ingested, last_entry, shard, snapshot, start, verified,
};

fn printed(dir: &Path, args: &[&str]) -> Vec<String> {
    shard(dir, args).good().lines()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// A tail that follows, and its lines.
fn following(dir: &Path, args: &[&str]) -> (Running, Lines<BufReader<ChildStdout>>) {
    let mut tail = start(command("shard", dir, &[&["tail", "s", "--follow"], args].concat()));
    let stdout = tail.child.stdout.take().expect("piped");
    (tail, BufReader::new(stdout).lines())
}

/// Reads lines until what they add up to is this; the updates must fit each other.
fn until(lines: &mut Lines<BufReader<ChildStdout>>, live: &mut Contents, wanted: &Contents) {
    while live != wanted {
        let line = lines.next().expect("it goes on").expect("UTF-8");
        let row = json(&line);
        let key = row["key"].to_string();
        let shown = match row.get("error") {
            Some(error) => ("error", error.to_string()),
            None => ("value", row["value"].to_string()),
        };
        match row["diff"].as_i64() {
            Some(1) => assert_eq!(live.insert(key, shown), None, "{line}"),
            _ => assert_eq!(live.remove(&key), Some(shown), "{line}"),
        }
    }
}

/// The same, as `serde_json` writes it: by the names of members.
fn normal(contents: &Contents) -> Contents {
    let text = |text: &str| json(text).to_string();
    contents.iter().map(|(key, (name, value))| (text(key), (*name, text(value)))).collect()
}

#[test]
fn a_followed_tail_goes_on_and_a_signal_ends_it() {
    for signal in ["INT", "TERM"] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let (first, story) = (Story::new(3, 10), Story::new(3, 30));
        assert!(story.feed.starts_with(first.feed.rsplit_once("{\"closed\"").expect("it ends").0));
        first.tell(dir);
        let (mut tail, mut lines) = following(dir, &[]);
        let mut live = Contents::new();
        until(&mut lines, &mut live, &normal(first.last()));
        story.tell(dir);
        until(&mut lines, &mut live, &normal(story.last()));
        assert!(tail.runs());
        tail.signal(signal);
        // Whole times alone: what is left, if anything, adds up to the same.
        let rest: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
        let ran = tail.end(PATIENCE).good();
        assert_eq!(ran.stderr, "");
        for line in rest {
            assert!(json(&line)["time"].as_u64() < Some(30), "{line}");
        }
    }
}

#[test]
fn a_followed_tail_ends_with_the_shard_and_where_it_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let (first, story) = (Story::new(5, 8), Story::new(5, 20));
    first.tell(dir);
    let (sealed, mut to_the_seal) = following(dir, &[]);
    let (told, to_12) = following(dir, &["--until", "12"]);
    let mut live = Contents::new();
    until(&mut to_the_seal, &mut live, &normal(first.last()));
    story.tell(dir);
    ingested(dir, &["feed", "--shard", "s", "--on-error", "keep", "--seal"]);
    until(&mut to_the_seal, &mut live, &normal(story.last()));
    let to_12: Vec<String> = to_12.map(|line| line.expect("UTF-8")).collect();
    told.end(PATIENCE).good();
    assert_eq!(to_12, printed(dir, &["tail", "s", "--until", "12"]));
    assert_eq!(to_the_seal.count(), 0, "nothing comes after the seal");
    sealed.end(PATIENCE).good();
}

#[test]
fn a_followed_tail_of_an_empty_shard_waits_for_the_first_commit() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::create_dir(dir.join("s")).expect("a directory");
    let (tail, mut lines) = following(dir, &[]);
    // Of which only the last time can be read.
    std::fs::write(dir.join("feed"), "{\"key\":1,\"value\":2,\"ts\":7}\n").expect("room");
    ingested(dir, &["feed", "--shard", "s"]);
    let line = lines.next().expect("a row").expect("UTF-8");
    assert_eq!(line, "{\"key\":1,\"value\":2,\"time\":7,\"diff\":1}");
    tail.signal("TERM");
    assert_eq!(lines.count(), 0);
    tail.end(PATIENCE).good();
}

#[test]
fn a_difference_is_what_the_feed_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let story = Story::new(7, 12);
    story.tell(dir);
    for (from, to) in [(0, 11), (11, 0), (0, 1), (4, 5), (5, 9), (6, 6)] {
        let differ = differences(&story.as_of[from], &story.as_of[to]);
        let expected: Vec<String> = differ
            .iter()
            .map(|(key, before, after)| {
                let (before, after) = (before.as_ref(), after.as_ref());
                let (before, after) = (member("before", before), member("after", after));
                format!("{{\"key\":{key},{before},{after}}}")
            })
            .collect();
        let (from, to) = (from.to_string(), to.to_string());
        assert_eq!(printed(dir, &["diff", "s", &from, &to]), expected, "{from} to {to}");
    }
    assert!(story.as_of[..12].iter().flat_map(Contents::values).any(|shown| shown.0 == "error"));
    // The same as a snapshot where a time cannot be read.
    ingested(dir, &["feed", "--shard", "s", "--on-error", "keep", "--history", "2"]);
    for (time, args) in [
        ("3", ["diff", "s", "3", "11"]),
        ("3", ["diff", "s", "11", "3"]),
        ("12", ["diff", "s", "11", "12"]),
        ("99", ["diff", "s", "99", "11"]),
    ] {
        let snapshot = shard(dir, &["snapshot", "s", "--as-of", time]);
        let ran = shard(dir, &args);
        assert_eq!((ran.error(), &*ran.stdout), (snapshot.error(), ""), "{args:?}");
    }
    let usage = shard(dir, &["diff", "s", "3"]);
    assert_eq!(usage.code, Some(2), "{}", usage.stderr);
}

#[test]
fn keys_in_error_are_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let story = Story::new(11, 15);
    story.tell(dir);
    let expected: Vec<String> =
        lines(story.last()).into_iter().filter(|line| line.contains(",\"error\":")).collect();
    assert!(!expected.is_empty());
    assert_eq!(printed(dir, &["errors", "s"]), expected);
    std::fs::create_dir(dir.join("empty")).expect("a directory");
    assert!(printed(dir, &["errors", "empty"]).is_empty());
    assert!(shard(dir, &["errors", "nothing"]).error().starts_with("no shard here"));
}

#[test]
fn the_log_says_who_committed_what() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    Story::new(13, 9).tell(dir);
    ingested(dir, &["feed", "--shard", "s", "--on-error", "keep", "--history", "4"]);
    ingested(dir, &["feed", "--shard", "s", "--on-error", "keep", "--seal"]);
    let all: Vec<Value> = printed(dir, &["log", "s"]).iter().map(|line| json(line)).collect();
    let numbers: Vec<u64> = all.iter().map(|line| line["seqno"].as_u64().expect("it")).collect();
    let last = last_entry(dir, "s") as u64;
    assert_eq!(numbers.last(), Some(&last));
    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
    // What is appended lies end to end, up to the seal.
    let appends: Vec<&Value> = all.iter().filter(|line| line["lower"].is_u64()).collect();
    let mut upper = appends[0]["lower"].clone();
    for append in &appends {
        assert_eq!(append["lower"], upper, "{append}");
        upper = append["upper"].clone();
    }
    assert_eq!(upper, 9);
    let of = |kind: &str| all.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let [seal] = of("seal")[..] else { panic!("one seal: {all:?}") };
    assert_eq!((&seal["sealed_at"], &seal["rows"]), (&9.into(), &0.into()));
    let [history] = of("history")[..] else { panic!("one change of history: {all:?}") };
    assert_eq!(history["history"], 4);
    assert!(!of("lease").is_empty(), "who follows holds a lease");
    let writers = |lines: &[&Value]| {
        lines
            .iter()
            .map(|line| line["writer"].to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(writers(&[seal, history]).len(), 2, "each run is a writer of its own");
    for line in &all {
        let at = line["at"].as_str().expect("a date");
        assert!(at.starts_with("20") && at.ends_with('Z'), "{line}");
        assert_eq!(line["against"], Value::Array(vec![]), "nobody was in the way");
    }
    let from = printed(dir, &["log", "s", "--from", &last.to_string()]);
    assert_eq!(from.iter().map(|line| json(line)).collect::<Vec<_>>(), all[all.len() - 1..]);
    assert!(printed(dir, &["log", "s", "--from", "1000000"]).is_empty());
    let text = printed(dir, &["log", "s", "--text"]);
    assert_eq!(text.len(), all.len());
    let writer = seal["writer"].as_str().expect("an id");
    let line = text.iter().find(|line| line.contains("seal")).expect("the seal");
    assert!(line.contains(&writer[..8]) && line.contains("[9, 9)"), "{line}");
    // What is collected is gone, and the rest still stands end to end.
    for command in ["compact", "gc"] {
        shard(dir, &[command, "s"]).good();
    }
    let rest: Vec<Value> = printed(dir, &["log", "s"]).iter().map(|line| json(line)).collect();
    assert!(rest.len() < all.len(), "{rest:?}");
    assert_eq!(rest.last().map(|line| &line["kind"]), Some(&"collect".into()));
    verified(dir, "s");
}

/// Two handles, of which one proposes an entry without a look at that of the other.
#[test]
fn the_log_says_against_whom_an_entry_was_won() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let io = Io::process().expect("threads");
    io.block_on(async {
        let schema = Schema { codec: "json-text".into(), key: "k".into(), value: "v".into() };
        let url = dir.join("s").display().to_string();
        let open = || {
            let root = Root::open(&url, Access::Write).expect("a directory");
            Handle::open(root, io.clone(), HandleOptions::write("data", schema.clone()))
        };
        let (ours, rival) = (open().await.expect("a shard"), open().await.expect("a shard"));
        let times = |lower, upper| Append { lower, upper, ..Append::default() };
        let won = rival.compare_and_append(times(0, 1)).await.expect("a shard");
        assert_eq!(won, Appended::Won { seqno: 1 });
        let lost = ours.compare_and_append(times(0, 1)).await.expect("a shard");
        assert_eq!(lost, Appended::UpperMismatch(1));
        let won = ours.compare_and_append(times(1, 2)).await.expect("a shard");
        assert_eq!(won, Appended::Won { seqno: 2 });
    });
    let all: Vec<Value> = printed(dir, &["log", "s"]).iter().map(|line| json(line)).collect();
    let [first, second] = &all[..] else { panic!("not two: {all:?}") };
    assert_ne!(first["writer"], second["writer"]);
    assert_eq!(first["against"], Value::Array(vec![second["writer"].clone()]));
    assert_eq!(second["against"], Value::Array(vec![]));
    let text = printed(dir, &["log", "s", "--text"]);
    let loser = second["writer"].as_str().expect("an id");
    assert!(text[0].ends_with(&format!("  won against {}", &loser[..8])), "{text:?}");
    assert!(!text[1].contains("won against"), "{text:?}");
}

#[test]
fn the_status_for_people_names_schema_writers_and_feed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let empty = || shard(dir, &["status", "s", "--text"]).good().stdout;
    std::fs::create_dir(dir.join("s")).expect("a directory");
    assert!(empty().contains("schema     none yet") && empty().contains("written by nobody yet"));
    Story::new(17, 9).tell(dir);
    let text = shard(dir, &["status", "s", "--text"]).good().stdout;
    let writer =
        json(&printed(dir, &["log", "s"])[0])["writer"].as_str().expect("an id").to_string();
    for said in [
        "readable   0 to 8\n",
        "history    everything is kept\n",
        "fed by     feed (given), checked: ",
        "schema     codec json-text, keys ",
        " live, ",
        " retired, ",
        " by its writer's clock\n",
        "in use by  nobody\n",
        &format!("written by writer {writer}, last entry "),
        "\nwords      update: a row that comes or goes at a time; ",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let ran = ingest(dir, &["feed", "--shard", "s", "--on-error", "keep"]).good();
    assert_eq!(ran.summary()["upper"], 9);
    assert_eq!(snapshot(dir, "s"), lines(Story::new(17, 9).last()));
}
