//! Goal: lines without times of their own go into a shard once each, whatever is killed, appended or
//! rerun, with any number of writers; and a file that is not the one it was is refused with nothing
//! changed. Method: `ingest` as users run it; the oracle is a fold of the lines.

#![cfg(unix)]

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::client::Server;
use crate::process::{
    PATIENCE, Ran, Running, command, end_cluster, fold, ingest, ingested, last_entry, random,
    snapshot, start_cluster, start_ingest, status, upper, verified,
};
use differential_upsert::io::Io;
use differential_upsert::shard::{Access, Handle, HandleOptions};
use differential_upsert::store::Root;
use fastrand::Rng;
use serde_json::Value;

const FEED: &str = r#"{"key":"a","value":1}
{"key":"b","value":1}
{"key":"a","value":2}
{"key":"c","value":{"x":1}}
{"key":"b","value":null}
"#;

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), text).expect("a file");
}

fn append(dir: &Path, name: &str, text: &str) {
    let mut file = OpenOptions::new().append(true).open(dir.join(name)).expect("it is there");
    file.write_all(text.as_bytes()).expect("room for it");
}

/// Checks that every row went somewhere, and returns how many there were.
fn adds_up(summary: &Value) -> u64 {
    assert_eq!(summary["read"], went_somewhere(summary), "{summary}");
    went_somewhere(summary)
}

fn went_somewhere(summary: &Value) -> u64 {
    let ends =
        ["below", "superseded", "unchanged", "lost", "inserted", "updated", "deleted", "errors"];
    ends.map(|name| summary[name].as_u64().expect("a count")).iter().sum()
}

/// Lines with keys that come again, deletes, and some long values.
fn lines(random: &mut Rng, count: u64) -> String {
    let mut text = String::new();
    for line in 0..count {
        let key = random.u64(..300);
        let value = match random.u64(..5) {
            0 => "null".to_string(),
            value if value == 1 && random.u64(..20) == 0 => format!("\"{}\"", "x".repeat(20_000)),
            value => format!("\"{value} {line}\""),
        };
        let _ = writeln!(text, "{{\"key\":{key},\"value\":{value}}}");
    }
    text
}

#[test]
fn a_file_is_read_once_and_what_is_appended_is_read_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", FEED);
    let summary = ingested(dir, &["feed", "--shard", "s", "--times", "mint"]);
    assert_eq!(adds_up(&summary), 5);
    assert_eq!((&summary["below"], &summary["losses"]), (&0.into(), &0.into()));
    assert_eq!(snapshot(dir, "s"), fold(FEED.lines()));
    let before = upper(dir, "s");
    let said = status(dir, "s");
    assert_eq!(said["feed"]["mode"], "minted", "{said}");
    for args in [&["--times", "mint"][..], &[], &["-w", "3"]] {
        let again = ingested(dir, &[&["feed", "--shard", "s"], args].concat());
        assert_eq!((adds_up(&again), &again["below"]), (5, &5.into()), "{again}");
        assert_eq!((&again["wins"], &again["upper"]), (&0.into(), &before.into()));
    }
    assert_eq!((upper(dir, "s"), snapshot(dir, "s")), (before, fold(FEED.lines())));
    // It may be moved; what is in it says that it is the same.
    std::fs::rename(dir.join("feed"), dir.join("moved")).expect("the same directory");
    let more = "{\"key\":\"b\",\"value\":7}\n{\"key\":\"a\",\"value\":2}\n";
    append(dir, "moved", more);
    let summary = ingested(dir, &["moved", "--shard", "s"]);
    assert_eq!((adds_up(&summary), &summary["below"]), (7, &5.into()), "{summary}");
    assert_eq!((&summary["inserted"], &summary["unchanged"]), (&1.into(), &1.into()));
    assert_eq!(snapshot(dir, "s"), fold([FEED, more].concat().lines()));
    assert!(upper(dir, "s") > before);
    verified(dir, "s");
}

#[test]
fn a_file_that_is_not_what_it_was_is_refused_in_words_of_its_own() {
    let line = FEED.lines().next().expect("a line").len() + 1;
    let bytes = FEED.len();
    let cases = [
        (
            FEED[..bytes - 1].to_string(),
            format!("truncated or rewritten: it has {} bytes", bytes - 1),
        ),
        (FEED[..line].to_string(), format!("truncated or rewritten: it has {line} bytes")),
        (String::new(), "truncated or rewritten: it has 0 bytes".to_string()),
        (FEED.replacen("\"a\"", "\"z\"", 1), format!("replaced or rewritten before byte {bytes}")),
        (FEED[line..].to_string() + FEED, format!("replaced or rewritten before byte {bytes}")),
        (format!("\n{FEED}"), format!("replaced or rewritten before byte {bytes}")),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", FEED);
    let before = ingested(dir, &["feed", "--shard", "s", "--times", "mint"])["upper"].clone();
    for (text, what) in cases {
        write(dir, "feed", &text);
        for args in [&[][..], &["--follow"], &["-w", "2"]] {
            let ran = ingest(dir, &[&["feed", "--shard", "s"], args].concat());
            let error = ran.error();
            assert!(error.starts_with("the feed was ") && error.contains(&what), "{error}");
            assert!(error.contains(" at feed; "), "{error}");
            let summary = ran.summary();
            assert_eq!((&summary["wins"], &summary["upper"]), (&0.into(), &before), "{text}");
        }
        assert_eq!(snapshot(dir, "s"), fold(FEED.lines()));
    }
    verified(dir, "s");
    // The right one is still taken.
    write(dir, "feed", FEED);
    assert_eq!(ingested(dir, &["feed", "--shard", "s"])["below"], 5);
}

#[test]
fn a_followed_file_that_is_cut_or_replaced_is_noticed() {
    for replace in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        write(dir, "feed", FEED);
        let mut run = start_ingest(dir, &["feed", "--shard", "s", "--follow"]);
        run.until("its first time", || last_entry(dir, "s") > 0 && upper(dir, "s") > 0);
        let what = if replace {
            write(dir, "other", FEED);
            std::fs::rename(dir.join("other"), dir.join("feed")).expect("the same directory");
            "the followed file was replaced or removed"
        } else {
            File::options()
                .write(true)
                .open(dir.join("feed"))
                .expect("it")
                .set_len(9)
                .expect("cut");
            "the feed was truncated while it was read: it ends before byte "
        };
        let ran = run.end(PATIENCE);
        assert!(ran.error().starts_with(what), "{}", ran.stderr);
        assert_eq!(snapshot(dir, "s"), fold(FEED.lines()));
    }
}

#[test]
fn standard_input_that_is_a_file_is_read_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", FEED);
    let run = |lines: usize| {
        let mut command = command("ingest", dir, &["-", "--shard", "s"]);
        let mut file = File::open(dir.join("feed")).expect("it");
        // Whoever starts it may have taken the first lines.
        let taken: usize = FEED.split_inclusive('\n').take(lines).map(str::len).sum();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(taken as u64)).expect("a file");
        command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::of(command).end(PATIENCE)
    };
    assert_eq!(run(0).good().summary()["read"], 5);
    append(dir, "feed", "{\"key\":\"b\",\"value\":7}\n");
    let again = run(0).good().summary();
    assert_eq!((&again["read"], &again["below"]), (&6.into(), &5.into()), "{again}");
    assert_eq!(snapshot(dir, "s").len(), 3);
    let other = run(2);
    assert!(other.error().starts_with("the feed was truncated or rewritten: "), "{}", other.stderr);
    // By its name it is the same feed.
    assert_eq!(ingested(dir, &["feed", "--shard", "s"])["below"], 6);
}

#[test]
fn a_repaired_line_is_no_way_on_and_the_error_says_which_is() {
    let feed = |line: &str| format!("{{\"key\":1,\"value\":1}}\n{line}\n");
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let keep = ["feed", "--shard", "s", "--on-error", "keep"];
    write(dir, "feed", feed("nope, and no key"));
    ingested(dir, &keep);
    let hint = "if it is another feed, feed it to another shard; else put it back as it was and rerun: a line that was read is repaired by one more line at the end, a row for its key or a delete of {\"key_base64\": ..}";
    for (line, what) in [
        ("{}", "the feed was truncated or rewritten: it has 23 bytes, the shard's cursor is at 37"),
        ("{\"key\":2,\"value\":2}", "the feed was replaced or rewritten before byte 37"),
    ] {
        write(dir, "feed", feed(line));
        let ran = ingest(dir, &keep);
        assert_eq!(ran.error(), format!("{what} at feed; {hint}"), "{}", ran.stderr);
    }
    // And it is one.
    let kept = snapshot(dir, "s");
    let key = kept.iter().find(|line| line.contains("key_base64")).expect("the line");
    let key = key.split(",\"error\"").next().expect("a key");
    write(
        dir,
        "feed",
        feed("nope, and no key") + key + ",\"value\":null}\n{\"key\":2,\"value\":2}\n",
    );
    ingested(dir, &keep);
    assert_eq!(snapshot(dir, "s"), ["{\"key\":1,\"value\":1}", "{\"key\":2,\"value\":2}"]);
}

/// Each line gets a time of its own, if times are to be given.
fn timed(text: &str, given: bool) -> String {
    let line = |(at, line): (usize, &str)| match given {
        true => format!("{},\"ts\":{}}}\n", &line[..line.len() - 1], at + 1),
        false => format!("{line}\n"),
    };
    text.lines().enumerate().map(line).collect()
}

#[test]
fn a_followed_file_that_is_written_over_is_noticed_and_nothing_of_it_is_taken() {
    for given in [false, true] {
        let times = if given { "given" } else { "mint" };
        let feed = timed(FEED, given);
        let other = feed.replace("key", "KEY").replace("value", "key").replace("KEY", "value");
        for more in ["", &timed(&FEED.repeat(3), given)] {
            let dir = tempfile::tempdir().expect("a directory");
            let dir = dir.path();
            write(dir, "feed", &feed);
            let args = ["feed", "--shard", "s", "--follow", "--times", times];
            let mut run = start_ingest(dir, &args);
            let taken = if given { FEED.lines().count() as u64 } else { 1 };
            run.until("all of it", || last_entry(dir, "s") > 0 && upper(dir, "s") >= taken);
            let mut file = OpenOptions::new().write(true).open(dir.join("feed")).expect("it");
            file.write_all([&*other, more].concat().as_bytes()).expect("room");
            let ran = run.end(PATIENCE);
            let bytes = feed.len();
            let what = format!(
                "the feed was rewritten while it was read: the {bytes} bytes before byte {bytes} are others now at feed:6; "
            );
            assert_eq!(
                (ran.code, ran.error().starts_with(&what)),
                (Some(1), true),
                "{}",
                ran.stderr
            );
            // The last of the given times was never closed.
            let lines = FEED.lines().take(if given { 4 } else { 5 });
            assert_eq!(snapshot(dir, "s"), fold(lines), "{times} {more}");
            verified(dir, "s");
        }
    }
}

/// Checks that the shard holds what its first so many lines leave, as many as it says to have taken.
fn check_prefix(dir: &Path, text: &str) {
    if !dir.join("s/FORMAT").is_file() {
        return;
    }
    verified(dir, "s");
    let root = Root::open(dir.join("s").to_str().expect("UTF-8"), Access::Read).expect("a shard");
    let io = Io::process().expect("a runtime");
    let handle = Handle::open(root, io.clone(), HandleOptions::read("data"));
    // A lease may be all that it has yet.
    let sum = io.block_on(handle).expect("it can be read").state().sum();
    let rows = sum.expect("it is checked").rows;
    assert_eq!(snapshot(dir, "s"), fold(text.lines().take(rows as usize)), "{rows} rows");
}

#[test]
fn killed_at_any_point_a_rerun_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(31);
    let text = lines(&mut random, 60_000);
    write(dir, "feed", &text);
    let entries = |dir: &Path| last_entry(dir, "s");
    let (mut kills, mut early) = (0, 0);
    while kills < 25 && early == 0 {
        let workers = if random.u64(..2) == 0 { "1" } else { "2" };
        let args = ["feed", "--shard", "s", "-w", workers, "--times", "mint", "--throttle", "5000"];
        let mut run = start_ingest(dir, &args);
        let before = entries(dir);
        let more = if kills % 5 == 0 { 0 } else { 1 + random.usize(..4) };
        let reached = || entries(dir) >= before + more;
        while run.runs() && !reached() {
            std::thread::yield_now();
        }
        for _ in 0..random.u64(..300) {
            std::thread::yield_now();
        }
        run.child.kill().expect("it can be killed");
        early += usize::from(run.end(PATIENCE).code == Some(0));
        kills += 1;
        if kills % 5 == 1 {
            check_prefix(dir, &text);
        }
    }
    assert!(kills >= 5, "{kills} kills before the end");
    let summary = ingested(dir, &["feed", "--shard", "s", "--times", "mint"]);
    assert_eq!(adds_up(&summary), 60_000);
    assert_eq!(snapshot(dir, "s"), fold(text.lines()));
    verified(dir, "s");
    let again = ingested(dir, &["feed", "--shard", "s"]);
    assert_eq!((&again["wins"], &again["below"]), (&0.into(), &again["read"]));
}

#[test]
fn two_writers_follow_a_growing_file_and_one_of_them_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(77);
    let text = lines(&mut random, 6_000);
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    write(dir, "feed", "");
    let args = ["feed", "--shard", "s", "--follow", "--times", "mint"];
    let mut survivor = start_ingest(dir, &args);
    let mut victims = Vec::new();
    let mut victim = start_ingest(dir, &args);
    let mut grown = 0;
    for round in 0..12 {
        for _ in 0..5 {
            let more = 100;
            // Some lines come in two pieces.
            let piece = all[grown..grown + more].concat();
            let (start, end) = piece.split_at(random.usize(..piece.len()));
            append(dir, "feed", start);
            append(dir, "feed", end);
            grown += more;
            let before = last_entry(dir, "s");
            survivor.until("another commit", || last_entry(dir, "s") > before);
        }
        if round % 3 == 1 {
            victim.child.kill().expect("it can be killed");
            victims.push(victim.end(PATIENCE).code);
            victim = start_ingest(dir, &args);
        }
    }
    assert_eq!(grown, all.len());
    assert_eq!(victims, [None; 4], "each was killed in the middle");
    // Whoever reads all of it ends when all of it is there.
    let finite = ingested(dir, &["feed", "--shard", "s"]);
    assert_eq!(adds_up(&finite), 6_000);
    survivor.signal("INT");
    victim.signal("TERM");
    let (survivor, victim) = (survivor.end(PATIENCE).good(), victim.end(PATIENCE).good());
    for ran in [survivor, victim] {
        // Told to stop, it may have read what went nowhere yet, and no line twice.
        let summary = ran.summary();
        let read = summary["read"].as_u64().expect("a count");
        assert!(went_somewhere(&summary) <= read && read <= 6_000, "{summary}");
    }
    assert_eq!(snapshot(dir, "s"), fold(text.lines()));
    verified(dir, "s");
}

#[test]
fn a_bad_line_stops_behind_all_that_came_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let good = "{\"key\":\"d\",\"value\":9}";
    let after = "{\"key\":\"a\",\"value\":4}\r\n\r\n{\"key\":\"e\",\"value\":4}";
    write(dir, "feed", format!("\u{feff}{FEED}nonsense\n{after}"));
    let args = ["feed", "--shard", "s", "--times", "mint"];
    for below in [0, 5] {
        let ran = ingest(dir, &args);
        assert!(
            ran.error().starts_with("not JSON: expected a value (byte 1 of the line) at feed:6; ")
        );
        let summary = ran.summary();
        assert_eq!((adds_up(&summary), &summary["below"]), (5, &below.into()));
        assert_eq!(snapshot(dir, "s"), fold(FEED.lines()), "every line before it");
        verified(dir, "s");
    }
    write(dir, "feed", format!("\u{feff}{FEED}{good}\n{after}"));
    let summary = ingested(dir, &args);
    assert_eq!((adds_up(&summary), &summary["below"]), (8, &5.into()));
    let rows = FEED.lines().chain([good]).chain(after.lines().filter(|line| !line.is_empty()));
    assert_eq!(snapshot(dir, "s"), fold(rows));
    verified(dir, "s");
}

#[test]
fn bad_lines_are_kept_as_errors_until_a_good_row_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let long = format!("{{\"key\":\"{}\"}}", "x".repeat(17 << 20));
    write(dir, "feed", format!("nonsense\n{{\"key\":\"k\"}}\n{long}\n{FEED}"));
    let args = ["feed", "--shard", "s", "--on-error", "keep"];
    let summary = ingested(dir, &args);
    assert_eq!((adds_up(&summary), &summary["errors"]), (8, &3.into()));
    let lines = snapshot(dir, "s");
    let errors = lines.iter().filter(|line| line.contains("\"error\":")).cloned();
    let errors: Vec<String> = errors.collect();
    assert_eq!(errors.len(), 3);
    assert_eq!(errors[0], "{\"key\":\"k\",\"error\":\"missing \\\"value\\\" at line 2\"}");
    assert!(errors.iter().any(|line| line.contains("a line longer than 16 MiB at line 3")));
    assert!(errors.iter().any(|line| line.contains("bm9uc2Vuc2U=") && line.contains("at line 1")));
    let again = ingested(dir, &args);
    assert_eq!((&again["wins"], adds_up(&again), &again["below"]), (&0.into(), 8, &8.into()));
    append(dir, "feed", "{\"key\":\"k\",\"value\":1}\n{\"key\":\"k\",\"value\":2}\n");
    let summary = ingested(dir, &args);
    assert_eq!((adds_up(&summary), &summary["updated"]), (10, &1.into()), "{summary}");
    assert!(snapshot(dir, "s").contains(&"{\"key\":\"k\",\"value\":2}".to_string()));
    verified(dir, "s");
}

/// Runs a feed from standard input.
fn piped(dir: &Path, text: &str, args: &[&str]) -> Ran {
    let mut command = command("ingest", dir, &[&["-", "--shard", "s"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Running::of(command);
    let mut stdin = run.child.stdin.take().expect("piped");
    let text = text.to_string();
    // It may refuse the feed without reading it.
    let feeding = std::thread::spawn(move || stdin.write_all(text.as_bytes()).is_ok());
    let ran = run.end(PATIENCE);
    feeding.join().expect("no panic");
    ran
}

#[test]
fn a_pipe_is_taken_by_an_empty_shard_alone() {
    let mut random = random(5);
    let text = lines(&mut random, 20_000);
    for args in [&[][..], &["--times", "mint"]] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let summary = piped(dir, &text, args).good().summary();
        assert_eq!(adds_up(&summary), 20_000);
        assert_eq!(snapshot(dir, "s"), fold(text.lines()));
        let before = upper(dir, "s");
        let ran = piped(dir, &text, args);
        let error = ran.error();
        assert!(error.contains("a pipe cannot be read from its start at -; "), "{error}");
        assert_eq!((upper(dir, "s"), snapshot(dir, "s")), (before, fold(text.lines())));
        // The same lines in a file are the same feed.
        write(dir, "feed", &text);
        assert_eq!(ingested(dir, &["feed", "--shard", "s"])["below"], 20_000);
    }
    // With times of its own it is a feed like any other.
    let dir = tempfile::tempdir().expect("a directory");
    let timed = FEED.replace("}\n", ",\"ts\":3}\n");
    for below in [0, 5] {
        let summary = piped(dir.path(), &timed, &[]).good().summary();
        assert_eq!((&summary["below"], &summary["upper"]), (&below.into(), &4.into()));
    }
}

#[test]
fn the_shard_says_how_times_are_made_and_else_the_first_row() {
    let timed = FEED.replace("}\n", ",\"ts\":3}\n");
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mode = |url: &str| status(dir, url)["feed"]["mode"].clone();
    write(dir, "timed", &timed);
    write(dir, "bare", FEED);
    ingested(dir, &["timed", "--shard", "given"]);
    ingested(dir, &["bare", "--shard", "minted"]);
    // Their `ts` is there, and says nothing.
    ingested(dir, &["timed", "--shard", "told", "--times", "mint"]);
    assert_eq!(
        (mode("given"), mode("minted"), mode("told")),
        ("given".into(), "minted".into(), "minted".into())
    );
    assert_eq!(snapshot(dir, "told"), fold(FEED.lines()));
    assert_eq!(ingested(dir, &["timed", "--shard", "told"])["below"], 5);
    let ran = ingest(dir, &["bare", "--shard", "given"]);
    assert!(ran.error().starts_with("missing \"ts\" at bare:1; "), "{}", ran.stderr);
    for (feed, url, times) in [("timed", "minted", "given"), ("bare", "given", "mint")] {
        let (before, contents) = (upper(dir, url), snapshot(dir, url));
        let ran = ingest(dir, &[feed, "--shard", url, "--times", times]);
        assert!(ran.error().starts_with("FeedDiffers: "), "{}", ran.stderr);
        assert_eq!((upper(dir, url), snapshot(dir, url)), (before, contents));
    }
    // The first row decides also when it comes late.
    write(dir, "later", "\n");
    let mut run = start_ingest(dir, &["later", "--shard", "late", "--follow"]);
    append(dir, "later", FEED);
    run.until("its first time", || last_entry(dir, "late") > 0 && upper(dir, "late") > 0);
    run.signal("INT");
    run.end(PATIENCE).good();
    assert_eq!(mode("late"), "minted");
    // And one that waits for its first row can be stopped.
    write(dir, "empty", "");
    let mut run = start_ingest(dir, &["empty", "--shard", "e", "--follow"]);
    run.until("it looks", || dir.join("e/FORMAT").is_file());
    run.signal("INT");
    assert_eq!(run.end(PATIENCE).good().summary()["read"], 0);
}

#[test]
fn a_cluster_reads_it_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(8);
    let text = lines(&mut random, 5_000);
    write(dir, "feed", &text);
    for below in [0, 5_000] {
        let [first, second] = end_cluster(start_cluster(dir, &["feed", "--shard", "s"]), PATIENCE);
        let summary = first.good().summary();
        assert_eq!((adds_up(&summary), &summary["below"]), (5_000, &below.into()), "{summary}");
        assert_eq!(second.good().stdout, "");
        assert_eq!(snapshot(dir, "s"), fold(text.lines()));
    }
    verified(dir, "s");
}

#[test]
fn a_minted_feed_can_be_sealed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", FEED);
    for _ in 0..2 {
        assert_eq!(ingested(dir, &["feed", "--shard", "s", "--seal"])["upper"], Value::Null);
        assert_eq!(snapshot(dir, "s"), fold(FEED.lines()));
    }
    write(dir, "nothing", "");
    let args = ["nothing", "--shard", "n", "--times", "mint"];
    let summary = ingested(dir, &args);
    assert_eq!((&summary["read"], &summary["upper"]), (&0.into(), &0.into()));
}

#[test]
fn a_standby_ends_with_the_writer_or_takes_over() {
    for dies in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let text = lines(&mut random(19), 2_000);
        write(dir, "feed", &text);
        let args = ["feed", "--shard", "s", "--times", "mint", "--throttle", "2000"];
        let mut writer = start_ingest(dir, &args);
        writer.until("its first commits", || last_entry(dir, "s") > 3);
        let mut standby = Server::start(dir, &["feed", "--shard", "s", "--standby"]);
        standby.until("it has read the shard", |health| {
            health["role"] == "standby" && health["state"] != "hydrating"
        });
        if dies {
            writer.child.kill().expect("it can be killed");
            let head = "Content-Type: application/json\r\n";
            assert_eq!(standby.ask("POST", "/promote", head).status, 200);
        } else {
            writer.end(PATIENCE).good();
        }
        let said = standby.end();
        let said: Value = serde_json::from_str(said.lines().last().expect("one")).expect("JSON");
        assert_eq!(adds_up(&said), 2_000);
        assert_eq!(said["wins"].as_u64() > Some(0), dies, "{said}");
        assert_eq!(snapshot(dir, "s"), fold(text.lines()));
        verified(dir, "s");
    }
}
