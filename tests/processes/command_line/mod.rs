//! Goal: the outside face of `ingest` and `shard`: usage, exit codes, the summary, standard input,
//! sealing, history, closings, following, signals, and what a reader says and leaves alone. Method:
//! real processes; expected output is written out by hand.

mod larger_than_memory;

mod space;

mod leases;

mod story;

mod inside;

mod exports;

mod clear_error;

mod terminal;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::process::{
    PATIENCE, Ran, command, fold, ingest, ingested, shard, snapshot, start, start_ingest, status,
    upper, verified,
};
use serde_json::Value;

/// The contract's bound on stopping.
const AT_ONCE: Duration = Duration::from_secs(1);

const FEED: &str = r#"{"key":"a","value":1,"ts":2}
{"key":"b","value":1,"ts":2}
{"key":"b","value":2,"ts":2}
{"key":"a","value":1,"ts":3}
{"key":"a","value":null,"ts":7}
{"key":"c","value":{"x":1},"ts":7}
"#;

fn fed(text: &str, args: &[&str]) -> (tempfile::TempDir, Ran) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("feed"), text).expect("a feed");
    let ran = ingest(dir.path(), &[&["feed", "--shard", "s"], args].concat());
    (dir, ran)
}

/// Members of a JSON object in the order they are written in, for objects whose values hold none.
fn members(line: &str) -> Vec<String> {
    let inner = line.trim().strip_prefix('{').and_then(|line| line.strip_suffix('}'));
    let inner = inner.expect("an object").to_string();
    inner.split(',').map(|member| member.split('"').nth(1).expect("a name").to_string()).collect()
}

#[test]
fn what_has_not_come_is_a_usage_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for line in [
        "",
        "feed",
        "feed --shard s --times later",
        "feed --shard s --format avro",
        "feed --shard s --format debezium --times given",
        "git:. --shard s --format debezium",
        "git:. --shard s --times mint",
        "feed --shard s --resnapshot replace",
        "feed --shard s --format debezium --resnapshot anew",
        "feed --shard s --stop-at-current",
        "feed --shard s --http 0.0.0.0:0",
        "feed --shard s --http 9000",
        "feed --shard s --http-remote",
        "kafka://h/t --shard s",
        "kafka://h:1/t --shard s --times mint",
        "postgres://h/d?slot=s&table=t --shard s",
        // Without the feature any is; with it, what goes with no table.
        "planetscale://h/k --shard s",
        "planetscale://h:1/k/t --shard s --times mint",
        "planetscale://h:1/k/t --shard s --seal",
        "feed --shard s --follow --seal",
        "feed --shard s -n 2 -p 0 -H missing-hosts",
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let ran = ingest(dir, &args);
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains("error: "), "{line}");
    }
    for line in [
        "",
        "compact",
        "gc",
        "snapshot",
        "tail s --from 2 --until 1",
        "status s t",
        "diff s 1",
        "clear-error s",
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let ran = shard(dir, &args);
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{line}: {}", ran.stderr);
    }
    // Maintenance writes, and creates no more than readers do.
    for line in ["compact s", "gc s"] {
        let ran = shard(dir, &line.split_whitespace().collect::<Vec<_>>());
        assert!(ran.error().contains("no shard here"), "{line}: {}", ran.stderr);
    }
    assert_eq!(dir.read_dir().expect("a directory").count(), 0, "usage errors create nothing");
    let help = ingest(dir, &["--help"]).good().stdout;
    let options = "--shard --times --format --resnapshot --follow --stop-at-current --seal --history --on-error";
    for option in options.split_whitespace() {
        assert!(help.contains(option), "{option}");
    }
    assert!(help.contains("kafka"));
    assert!(shard(dir, &["--help"]).good().stdout.contains("snapshot"));
}

#[test]
fn the_summary_counts_every_row_once() {
    let (dir, ran) = fed(FEED, &["--times", "given"]);
    let ran = ran.good();
    assert_eq!(ran.stdout.lines().count(), 1);
    let names = "read skipped below superseded unchanged lost inserted updated deleted errors upper wins \
                 losses seconds";
    assert_eq!(members(&ran.stdout), names.split_whitespace().collect::<Vec<_>>());
    let expected = r#"{"read":6,"skipped":0,"below":0,"superseded":1,"unchanged":1,"lost":0,"inserted":3,"updated":0,"deleted":1,"errors":0,"upper":8,"wins":"#;
    assert!(ran.stdout.starts_with(expected), "{}", ran.stdout);
    assert_eq!(ran.stderr, "", "no bar without a terminal");
    let again = ingested(dir.path(), &["feed", "--shard", "file:s"]);
    assert_eq!(
        (&again["read"], &again["below"], &again["wins"]),
        (&6.into(), &6.into(), &0.into())
    );
    assert_eq!(upper(dir.path(), "s"), 8);
    let memory = ingested(dir.path(), &["feed", "--shard", "mem:"]);
    assert_eq!((&memory["read"], &memory["upper"]), (&6.into(), &8.into()));
}

#[test]
fn standard_input_is_a_feed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = command("ingest", dir.path(), &["-", "--shard", "s", "--throttle", "1000"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // With a BOM, CRs and blank lines, and without a last line break.
    let text = format!("\u{FEFF}\r\n{}\n\n", FEED.replace('\n', "\r\n"));
    stdin.write_all(text.trim_end().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(snapshot(dir.path(), "s"), fold(FEED.lines()));
    assert_eq!(upper(dir.path(), "s"), 8);
}

#[test]
fn a_feed_of_nothing_commits_nothing() {
    for text in ["", "\n\r\n \t\n", "\u{FEFF}"] {
        let (dir, ran) = fed(text, &[]);
        let summary = ran.good().summary();
        assert_eq!((&summary["read"], &summary["upper"]), (&0.into(), &0.into()));
        assert!(snapshot(dir.path(), "s").is_empty());
        verified(dir.path(), "s");
        let ran = shard(dir.path(), &["snapshot", "s", "--as-of", "0"]);
        assert!(ran.error().contains("0"), "{}", ran.stderr);
        let sealed = ingested(dir.path(), &["feed", "--shard", "s", "--seal"]);
        assert_eq!(sealed["upper"], Value::Null);
        assert!(snapshot(dir.path(), "s").is_empty());
        assert!(shard(dir.path(), &["tail", "s"]).good().stdout.is_empty());
    }
}

#[test]
fn closings_close_and_the_end_is_the_greater() {
    for (text, end) in [
        ("{\"closed\":5}\n", 5),
        ("{\"key\":1,\"value\":1,\"ts\":3}\n{\"closed\":9}\n", 9),
        ("{\"closed\":2}\n{\"key\":1,\"value\":1,\"ts\":3}\n", 4),
        ("{\"key\":1,\"value\":1,\"ts\":3}\n{\"closed\":4}\n{\"closed\":1}\n", 4),
        // Only changes of nothing: the time still passes.
        ("{\"key\":1,\"value\":null,\"ts\":3}\n", 4),
        ("{\"closed\":18446744073709551615}\n", u64::MAX),
    ] {
        let (dir, ran) = fed(text, &[]);
        assert_eq!(ran.good().summary()["upper"], end, "{text}");
        assert_eq!(upper(dir.path(), "s"), end, "{text}");
        let rows = text.lines().filter(|line| line.contains("key"));
        assert_eq!(snapshot(dir.path(), "s"), fold(rows));
        verified(dir.path(), "s");
    }
    let (_dir, ran) = fed("{\"closed\":5}\n{\"key\":1,\"value\":1,\"ts\":4}\n", &[]);
    assert!(ran.error().contains("closed"), "{}", ran.stderr);
    assert_eq!(ran.summary()["upper"], 5);
}

#[test]
fn sealing_is_for_good_and_can_be_said_again() {
    let (dir, ran) = fed(FEED, &["--seal"]);
    let dir = dir.path();
    assert_eq!(ran.good().summary()["upper"], Value::Null);
    let said = status(dir, "s");
    assert_eq!((&said["upper"], &said["sealed_at"]), (&Value::Null, &8.into()));
    for args in [&["feed", "--shard", "s", "--seal"][..], &["feed", "--shard", "s"]] {
        let again = ingested(dir, args);
        assert_eq!(
            (&again["upper"], &again["wins"], &again["below"]),
            (&Value::Null, &0.into(), &6.into())
        );
    }
    assert_eq!(snapshot(dir, "s"), fold(FEED.lines()));
    assert_eq!(shard(dir, &["tail", "s"]).good().lines().len(), 2, "the tail of it ends by itself");
    verified(dir, "s");
}

#[test]
fn history_is_the_shards_until_it_is_changed() {
    let (dir, ran) = fed(FEED, &["--history", "keep"]);
    ran.good();
    let dir = dir.path();
    let said = |since: u64, history: Value| {
        let said = status(dir, "s");
        assert_eq!((&said["since"], &said["history"]), (&since.into(), &history));
    };
    said(0, "keep".into());
    // Without the flag nothing changes, whatever feed comes.
    ingested(dir, &["feed", "--shard", "s"]);
    said(0, "keep".into());
    // With it, even when there is nothing to append.
    ingested(dir, &["feed", "--shard", "s", "--history", "3"]);
    said(5, 3.into());
    ingested(dir, &["feed", "--shard", "s", "--history", "keep"]);
    said(5, "keep".into());
    let more = format!("{FEED}{{\"key\":\"d\",\"value\":1,\"ts\":9}}\n");
    std::fs::write(dir.join("feed"), more).expect("a feed");
    ingested(dir, &["feed", "--shard", "s", "--history", "1"]);
    said(9, 1.into());
    let ran = shard(dir, &["snapshot", "s", "--as-of", "8"]);
    let error = ran.error();
    assert!(
        ["as of 8", "since is 9", "upper is 10"].iter().all(|word| error.contains(word)),
        "{error}"
    );
    let ran = shard(dir, &["snapshot", "s", "--as-of", "10"]);
    assert!(ran.error().contains("as of 10") && ran.stdout.is_empty());
    verified(dir, "s");
}

#[test]
fn the_default_history_is_one() {
    let (dir, ran) = fed(FEED, &[]);
    ran.good();
    let said = shard(dir.path(), &["status", "s"]).good().stdout;
    let names = "since upper sealed_at seqno epoch feed history batches parts updates bytes \
                 readers writers live_bytes retired_bytes total_bytes leases";
    let feed = r#""feed":{"mode":"given","identity":"feed"}"#;
    let flat = said.replace(feed, r#""feed":0"#);
    assert_ne!(flat, said, "it says what feeds it");
    assert_eq!(members(&flat), names.split_whitespace().collect::<Vec<_>>());
    assert!(said.starts_with("{\"since\":7,\"upper\":8,\"sealed_at\":null,"), "{said}");
    assert!(said.contains("\"epoch\":0,") && said.contains("\"history\":1,"), "{said}");
    assert!(shard(dir.path(), &["status", "s", "--text"]).good().stdout.contains("history"));
}

#[test]
fn a_tail_is_a_collection_and_its_changes() {
    let (dir, ran) = fed(FEED, &["--history", "keep"]);
    ran.good();
    let dir = dir.path();
    let tail = |args: &[&str]| shard(dir, &[&["tail", "s"], args].concat()).good().lines();
    let at_2 = [
        r#"{"key":"a","value":1,"time":2,"diff":1}"#,
        r#"{"key":"b","value":2,"time":2,"diff":1}"#,
    ];
    let at_7 = [
        r#"{"key":"a","value":1,"time":7,"diff":-1}"#,
        r#"{"key":"c","value":{"x":1},"time":7,"diff":1}"#,
    ];
    assert_eq!(tail(&["--until", "7"]), [at_2, at_7].concat());
    assert_eq!(tail(&["--until", "6"]), at_2);
    assert!(tail(&["--until", "1"]).is_empty());
    // The collection as of a time is told at that time.
    let as_of =
        |time: &str| at_2.map(|line| line.replace("\"time\":2", &format!("\"time\":{time}")));
    assert_eq!(tail(&["--from", "3", "--until", "3"]), as_of("3"));
    for from in ["4", "6"] {
        let rest = [as_of(from).as_slice(), &at_7.map(str::to_string)].concat();
        assert_eq!(tail(&["--from", from, "--until", "7"]), rest);
    }
    let all_of_7 = [as_of("7")[1].clone(), at_7[1].to_string()];
    assert_eq!(tail(&["--from", "7", "--until", "7"]), all_of_7);
    let ran = shard(dir, &["tail", "s", "--from", "0", "--until", "0"]).good();
    assert!(ran.stdout.is_empty());
    // Folding it is the snapshot.
    for time in ["2", "6", "7"] {
        let mut live: BTreeMap<String, String> = BTreeMap::new();
        for line in tail(&["--until", time]) {
            let row: Value = serde_json::from_str(&line).expect("JSON");
            let (key, value) = (row["key"].to_string(), row["value"].to_string());
            match row["diff"].as_i64() {
                Some(1) => assert_eq!(live.insert(key, value), None),
                _ => assert_eq!(live.remove(&key), Some(value)),
            }
        }
        let lines = live.iter().map(|(key, value)| format!("{{\"key\":{key},\"value\":{value}}}"));
        let snapshot = shard(dir, &["snapshot", "s", "--as-of", time]).good().lines();
        assert_eq!(lines.collect::<Vec<_>>(), snapshot);
    }
    // Before since there is nothing to tell.
    ingested(dir, &["feed", "--shard", "s", "--history", "1"]);
    let ran = shard(dir, &["tail", "s", "--from", "3", "--until", "7"]);
    assert!(ran.error().contains("since is 7"), "{}", ran.stderr);
    assert_eq!(tail(&["--until", "7"]).len(), 2);
}

/// What is in a directory: paths and bytes.
fn contents(dir: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in dir.read_dir().expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(contents(&path).into_iter().chain([(path, Vec::new())])),
            false => drop(found.insert(path.clone(), std::fs::read(&path).expect("a file"))),
        }
    }
    found
}

#[test]
fn readers_create_nothing_and_write_nothing() {
    let (dir, ran) = fed(FEED, &[]);
    ran.good();
    let dir = dir.path();
    std::fs::create_dir(dir.join("empty")).expect("a directory");
    let before = contents(dir);
    let all: [&[&str]; 10] = [
        &["status"],
        &["snapshot"],
        &["verify"],
        &["tail", "--until", "7"],
        &["tail", "--follow", "--until", "7"],
        &["status", "--text"],
        &["log"],
        &["errors"],
        &["diff", "7", "7"],
        &["export", "--format", "jsonl"],
    ];
    for args in all {
        let [name, rest @ ..] = args else { unreachable!() };
        for url in ["nothing", "file:nothing", "nothing/below"] {
            let ran = shard(dir, &[&[*name, url], rest].concat());
            assert!(ran.error().starts_with("no shard here"), "{name}: {}", ran.stderr);
        }
        shard(dir, &[&[*name, "s"], rest].concat()).good();
    }
    let ran = shard(dir, &["probe", "nothing"]);
    assert!(ran.error().starts_with("no shard here"), "{}", ran.stderr);
    // An empty directory is an empty shard.
    assert_eq!(upper(dir, "empty"), 0);
    assert!(snapshot(dir, "empty").is_empty());
    verified(dir, "empty");
    assert_eq!(contents(dir), before);
    // A probe leaves nothing behind either.
    assert!(shard(dir, &["probe", "s"]).good().stdout.contains("\"sound\":true"));
    assert_eq!(contents(dir), before);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let rows =
        |ts| (0..20_000).map(move |key| format!("{{\"key\":{key},\"value\":1,\"ts\":{ts}}}\n"));
    let (dir, ran) = fed(&rows(0).collect::<String>(), &[]);
    ran.good();
    for args in [&["snapshot", "s"][..], &["tail", "s", "--until", "0"]] {
        let mut child = start(command("shard", dir.path(), args));
        let mut lines = BufReader::new(child.child.stdout.take().expect("piped")).lines();
        assert!(lines.next().expect("a first line").is_ok());
        drop(lines);
        let ran = child.end(PATIENCE);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    }
}

/// Waits until a shard's upper is this, and checks its contents then.
fn until_upper(run: &mut crate::process::Running, dir: &Path, expected: u64, rows: &[&str]) {
    run.until("the rows are committed", || {
        let ran = shard(dir, &["status", "s"]);
        ran.code == Some(0) && upper(dir, "s") >= expected
    });
    assert_eq!(upper(dir, "s"), expected);
    assert_eq!(snapshot(dir, "s"), fold(rows.iter().copied()));
}

#[test]
fn a_followed_feed_grows_and_a_signal_ends_it() {
    for (signal, workers) in [("INT", "1"), ("TERM", "2")] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let path = dir.join("feed");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("a feed");
            file.write_all(text.as_bytes()).expect("room");
        };
        let lines: Vec<&str> = FEED.lines().collect();
        let (half, rest) = lines[4].split_at(20);
        std::fs::write(&path, format!("{}\n{half}", lines[..4].join("\n"))).expect("a feed");
        let mut run = start_ingest(dir, &["feed", "--shard", "s", "--follow", "-w", workers]);
        // Time 2 is closed by a row of time 3, which is still open.
        until_upper(&mut run, dir, 3, &lines[..3]);
        // A line without its end is not there yet, even when it is whole but for that.
        append(&format!("{rest}\n{{\"closed\":7}}"));
        until_upper(&mut run, dir, 7, &lines[..4]);
        append("\n");
        append(&format!("{}\n{{\"closed\":8}}\n", lines[5]));
        until_upper(&mut run, dir, 8, &lines);
        append("{\"key\":\"open\",\"value\":1,\"ts\":8}\n");
        run.signal(signal);
        let asked = Instant::now();
        let ran = run.end(PATIENCE).good();
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
        assert_eq!(ran.summary()["upper"], 8, "a signal closes nothing");
        assert_eq!(snapshot(dir, "s"), fold(lines));
        verified(dir, "s");
    }
}

#[test]
fn a_finite_feed_that_is_interrupted_can_go_on() {
    for (signal, throttle) in [("INT", "100"), ("TERM", "3")] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let row = |ts: u64| format!("{{\"key\":{},\"value\":{ts},\"ts\":{ts}}}\n", ts % 9);
        let text: String = (0..300).map(row).collect();
        std::fs::write(dir.join("feed"), &text).expect("a feed");
        let args = ["feed", "--shard", "s", "--throttle", throttle];
        let mut run = start_ingest(dir, &args);
        run.until("a first commit", || crate::process::entries(dir, "s") > 0);
        run.signal(signal);
        let asked = Instant::now();
        let ran = run.end(PATIENCE);
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
        assert!(ran.error().starts_with("interrupted, rerun to continue"), "{}", ran.stderr);
        let upper = ran.summary()["upper"].as_u64().expect("a time") as usize;
        assert!(0 < upper && upper < 300);
        assert_eq!(snapshot(dir, "s"), fold(text.lines().take(upper)));
        ingested(dir, &["feed", "--shard", "s"]);
        assert_eq!(snapshot(dir, "s"), fold(text.lines()));
    }
}

#[test]
fn a_silent_input_and_an_absent_process_can_be_interrupted() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("feed"), FEED).expect("a feed");
    std::fs::write(dir.join("hosts"), "127.0.0.1:0\n127.0.0.1:1\n").expect("a host file");
    let made = || dir.join("s/FORMAT").exists();
    let mut silent = command("ingest", dir, &["-", "--shard", "s"]);
    silent.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut silent = crate::process::Running::of(silent);
    let mut lonely =
        start_ingest(dir, &["feed", "--shard", "s", "-n", "2", "-p", "0", "-H", "hosts"]);
    for run in [&mut silent, &mut lonely] {
        run.until("the shard is made", made);
        // The handler is there before anything else is: see the summary below.
        run.signal("INT");
    }
    for run in [silent, lonely] {
        let asked = Instant::now();
        let ran = run.end(PATIENCE);
        assert!(asked.elapsed() < AT_ONCE * 2, "{:?}", asked.elapsed());
        assert!(ran.error().starts_with("interrupted"), "{}", ran.stderr);
        ran.summary();
    }
}

#[test]
fn a_password_in_an_address_is_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let secrets = ["hunter2", "alice", "hun", "ter2"];
    let urls = [
        "planetscale://alice:hunter2@h:443/k/t",
        "planetscale://alice:hun/ter2@h:443/k/t",
        "planetscale://alice:hun ter2@h:443/k/t",
        "planetscale:/alice:hunter2@h/k/t",
        "planetscale://h:443/k/t?password=hunter2",
        "postgres://alice:hunter2@h/d?slot=s&table=t",
        "kafka://alice:hunter2@h:1/t",
        "kafka://h:1/t?rdkafka.sasl.password=hunter2",
        "s3://alice:hunter2@bucket/prefix",
        "gs://alice:hun/ter2@bucket/prefix",
        "nothing://alice:hunter2@h",
        "git:https://alice:hunter2@h/x",
    ];
    let hidden = |ran: &Ran, args: &[&str]| {
        let said = [&*ran.stdout, &ran.stderr].concat();
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{args:?}");
        assert!(said.contains("error: a user, a password or a token in an address of "), "{said}");
        for secret in secrets {
            assert!(!said.contains(secret), "{args:?} shows {secret}: {said}");
        }
    };
    for url in urls {
        let with = format!("--shard={url}");
        for args in [
            &[url, "--shard", "s"][..],
            &["feed", "--shard", url],
            &["feed", &with],
            &["feed", url, "--shard", "s"],
            &["feed", "--shard", "s", "-w", url],
            &["feed", "--shard", "s", "--http", url],
            &["feed", "--shard", "s", "--nothing", url],
            &[url],
        ] {
            hidden(&ingest(dir, args), args);
        }
        for args in [&["status", url][..], &["tail", "s", "--from", url], &["status", "s", url]] {
            hidden(&shard(dir, args), args);
        }
    }
    assert_eq!(dir.read_dir().expect("a directory").count(), 0);
}
