//! Goal: feeds as other programs write them go into a shard as those programs mean them, compressed, in parts or with
//! bad lines in them, and go on where they were after a kill. Method: `ingest` as users run it, on lines as the
//! programs print them; the expected rows are written out by hand, or are a fold that the test keeps.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{
    PATIENCE, Running, command, ingest, ingested, last_entry, random, snapshot, start_ingest,
    verified,
};

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    fs::write(dir.join(name), text).expect("a file");
}

fn append(dir: &Path, name: &str, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(dir.join(name)).expect("it is there");
    file.write_all(text.as_bytes()).expect("room for it");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed");
    let mut input = gzip.stdin.take().expect("a pipe");
    let text = text.to_string();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = gzip.wait_with_output().expect("it ends");
    writing.join().expect("no panic").expect("it reads all");
    output.stdout
}

const KCAT: &str = r#"{"topic":"t","partition":0,"offset":4,"tstype":"create","ts":1700000000000,"broker":1,"key":"a","payload":"{\"n\": 1}"}
{"topic":"t","partition":1,"offset":0,"tstype":"create","ts":1600000000000,"broker":1,"key":"{\"id\":2}","payload":"plain"}
{"topic":"t","partition":0,"offset":5,"tstype":"create","ts":1700000000001,"broker":1,"key":"a","payload":null}
{"topic":"t","partition":1,"offset":9,"tstype":"create","ts":1600000000002,"broker":1,"key":"7","payload":"7"}
"#;

const CONSOLE: &str = "a\t{\"n\": 1}\n{\"id\":2}\tplain\na\tnull\n7\t7\n";

const MAXWELL: &str = r#"{"database":"d","table":"t","type":"bootstrap-start","ts":1,"data":{}}
{"database":"d","table":"t","type":"bootstrap-insert","ts":1,"data":{"id":1,"n":"x"}}
{"database":"d","table":"t","type":"bootstrap-complete","ts":1,"data":{}}
{"database":"d","table":"t","type":"insert","ts":2,"xid":3,"commit":true,"data":{"id":2,"n":"y"}}
{"database":"d","table":"t","type":"update","ts":2,"xid":4,"data":{"id":3,"n":"x"},"old":{"id":1}}
{"database":"d","table":"t","type":"delete","ts":2,"xid":5,"commit":true,"data":{"id":2,"n":"y"}}
"#;

const CANAL: &str = r#"{"data":[{"id":"1","n":"x"},{"id":"2","n":"y"}],"database":"d","es":1600161208000,"id":3,"isDdl":false,"old":null,"pkNames":["id"],"table":"t","ts":1600161208100,"type":"INSERT"}
{"data":null,"database":"d","es":1600161208000,"id":4,"isDdl":true,"old":null,"pkNames":null,"sql":"alter table t","table":"t","ts":1600161208100,"type":"ALTER"}
{"data":[{"id":"3","n":"x"}],"database":"d","es":1600161208000,"id":5,"isDdl":false,"old":[{"id":"1"}],"pkNames":["id"],"table":"t","ts":1600161208100,"type":"UPDATE"}
{"data":[{"id":"2","n":"y"}],"database":"d","es":1600161208000,"id":6,"isDdl":false,"old":null,"pkNames":["id"],"table":"t","ts":1600161208100,"type":"DELETE"}
"#;

const BARE: &str = r#"{"id":1,"n":"x","__deleted":"false"}
{"id":2,"n":"y"}
{"id":1,"n":"x","__deleted":"true"}
"#;

const MONGO: &str = r#"{"key":{"id":"{\"$oid\":\"59\"}"},"value":{"op":"c","after":"{\"_id\":{\"$oid\":\"59\"},\"n\":1}"}}
"#;

#[test]
fn each_format_goes_in_as_its_program_means_it_and_once() {
    let messages = &[r#"{"key":7,"value":7}"#, r#"{"key":{"id":2},"value":"plain"}"#][..];
    type Case<'a> = (&'a [&'a str], &'a str, &'a [&'a str], (u64, u64));
    let cases: [Case<'_>; 6] = [
        (&["--format", "kcat"], KCAT, messages, (4, 0)),
        (&["--format", "console"], CONSOLE, messages, (4, 0)),
        (
            &["--format", "maxwell", "--key", "id"],
            MAXWELL,
            &[r#"{"key":3,"value":{"id":3,"n":"x"}}"#],
            (5, 2),
        ),
        (&["--format", "canal"], CANAL, &[r#"{"key":"3","value":{"id":"3","n":"x"}}"#], (5, 1)),
        (
            &["--format", "bare", "--key", "n,id", "--deleted-field", "__deleted"],
            BARE,
            &[r#"{"key":["y",2],"value":{"id":2,"n":"y"}}"#],
            (3, 0),
        ),
        (
            &["--format", "debezium"],
            MONGO,
            &[r#"{"key":{"id":"{\"$oid\":\"59\"}"},"value":{"_id":{"$oid":"59"},"n":1}}"#],
            (1, 0),
        ),
    ];
    for (args, text, rows, counts) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        write(dir, "feed", text);
        let args = [&["feed", "--shard", "s"], args].concat();
        let ran = ingest(dir, &args).good();
        assert_eq!(ran.stderr, "", "nothing is guessed: {args:?}");
        let summary = ran.summary();
        let count = |summary: &Value, name: &str| summary[name].as_u64().expect("a count");
        let counted = (count(&summary, "read"), count(&summary, "skipped"));
        assert_eq!(counted, counts, "{args:?}: {summary}");
        assert_eq!(snapshot(dir, "s"), rows, "{args:?}");
        let again = ingested(dir, &args);
        assert_eq!((count(&again, "read"), count(&again, "below")), (counts.0, counts.0));
        // Read in another way it is another feed.
        let ran = ingest(dir, &[&args[..], &["--key", "other"]].concat());
        assert!(ran.code != Some(0), "{args:?}: {}", ran.stderr);
        assert_eq!(snapshot(dir, "s"), rows, "{args:?}");
        // Compressed, it is the same one.
        write(dir, "feed", gzip(text));
        let again = ingested(dir, &args);
        assert_eq!(count(&again, "below"), counts.0, "{again}");
        verified(dir, "s");
    }
}

#[test]
fn a_bad_line_of_each_format_stops_it_where_it_stands() {
    let cases: [(&[&str], &str, &str, &str); 5] = [
        (
            &["--format", "kcat"],
            KCAT,
            r#"{"topic":"t","partition":0,"offset":5,"key":"a","payload":"1"}"#,
            "\"offset\" 5 does not come after 5 in partition 0",
        ),
        (&["--format", "console"], CONSOLE, "no tab", "a line without a TAB"),
        (
            &["--format", "maxwell", "--key", "id"],
            MAXWELL,
            r#"{"database":"d","table":"u","type":"insert","data":{"id":1}}"#,
            "rows of two tables, d.t and d.u",
        ),
        (
            &["--format", "canal"],
            CANAL,
            r#"{"database":"d","table":"t","type":"INSERT","data":null}"#,
            "rows whose \"data\" is not an array",
        ),
        (&["--format", "bare", "--key", "id"], BARE, r#"{"n":1}"#, "a value without \"id\""),
    ];
    for (args, good, bad, what) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        write(dir, "feed", good);
        let args = [&["feed", "--shard", "s"], args].concat();
        ingested(dir, &args);
        let rows = snapshot(dir, "s");
        // Also where the lines before it are not read as rows again.
        append(dir, "feed", &format!("{bad}\n"));
        let ran = ingest(dir, &args);
        let at = format!(" at feed:{}; ", good.lines().count() + 1);
        let error = ran.error();
        assert!(error.starts_with(what) && error.contains(&at), "{error}");
        assert_eq!(snapshot(dir, "s"), rows);
    }
}

#[test]
fn a_brokers_clock_is_a_time_only_where_that_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let line = |partition, offset, ts| {
        format!(
            "{{\"topic\":\"t\",\"partition\":{partition},\"offset\":{offset},\"ts\":{ts},\"key\":\"{partition}\",\"payload\":\"{offset}\"}}\n"
        )
    };
    write(dir, "feed", [line(0, 4, 100), line(1, 0, 100), line(0, 3, 100)].concat());
    let args = ["feed", "--shard", "minted", "--format", "kcat"];
    let ran = ingest(dir, &args);
    assert!(ran.error().starts_with("\"offset\" 3 does not come after 4"), "{}", ran.stderr);
    // Of one time, the order is the offset.
    let args = ["feed", "--shard", "given", "--format", "kcat", "--times", "given"];
    assert_eq!(ingested(dir, &args)["upper"], 101);
    let rows = [r#"{"key":0,"value":4}"#, r#"{"key":1,"value":0}"#];
    assert_eq!(snapshot(dir, "given"), rows);
    write(dir, "json", "{\"key\":1,\"value\":1,\"ts\":5}\n");
    let ran = ingest(dir, &["json", "--shard", "j"]).good();
    assert!(ran.stderr.starts_with("notice: times are guessed as given"), "{}", ran.stderr);
    let ran = ingest(dir, &["json", "--shard", "k", "--times", "given"]).good();
    assert_eq!(ran.stderr, "");
    // Where no row says it, nobody has guessed.
    for text in ["", "\n", "{\"closed\":3}\n"] {
        write(dir, "none", text);
        assert_eq!(ingest(dir, &["none", "--shard", "mem:"]).good().stderr, "", "{text}");
    }
}

/// Messages of three partitions as kcat prints them, and what they leave.
fn messages(random: &mut fastrand::Rng, count: u64) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut lines, mut live, mut offsets) = (Vec::new(), BTreeMap::new(), [0; 3]);
    for n in 0..count {
        let key = random.u64(..60);
        let partition = (key % 3) as usize;
        let offset = offsets[partition];
        offsets[partition] += 1 + random.u64(..2);
        let payload = match random.u64(..5) {
            0 => "null".to_string(),
            _ => format!("\"{{\\\"n\\\":{n}}}\""),
        };
        match &*payload {
            "null" => drop(live.remove(&key.to_string())),
            _ => drop(live.insert(key.to_string(), format!("{{\"n\":{n}}}"))),
        }
        lines.push(format!(
            "{{\"topic\":\"t\",\"partition\":{partition},\"offset\":{offset},\"tstype\":\"create\",\"ts\":{},\"broker\":0,\"key\":\"{key}\",\"payload\":{payload}}}\n",
            1_700_000_000_000 + n
        ));
    }
    (lines, live)
}

fn rows(live: &BTreeMap<String, String>) -> Vec<String> {
    live.iter().map(|(key, value)| format!("{{\"key\":{key},\"value\":{value}}}")).collect()
}

/// Starts a run that is slow enough to be killed, and kills it once it has committed something.
fn killed(dir: &Path, args: &[&str]) {
    let before = last_entry(dir, "s");
    let mut run = start_ingest(dir, &[args, &["--throttle", "2000"]].concat());
    run.until("its kill", || last_entry(dir, "s") > before + 1);
    run.child.kill().expect("it runs");
    assert_ne!(run.end(PATIENCE).code, Some(0), "it was killed before its end");
}

#[test]
fn a_feed_of_any_kind_goes_on_after_a_kill() {
    let mut random = random(71);
    let (lines, live) = messages(&mut random, 6_000);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "plain", lines.concat());
    write(dir, "packed", gzip(&lines.concat()));
    fs::create_dir(dir.join("parts")).expect("room");
    for (index, part) in lines.chunks(700).enumerate() {
        let text = part.concat();
        let name = format!("parts/part-{index:02}");
        // Some are compressed, and some lack the last line break.
        match index % 3 {
            0 => write(dir, &name, gzip(&text)),
            1 => write(dir, &name, text.trim_end()),
            _ => write(dir, &name, text),
        }
    }
    for feed in ["plain", "packed", "parts", "parts/part-*"] {
        let _ = fs::remove_dir_all(dir.join("s"));
        let args = [feed, "--shard", "s", "--format", "kcat"];
        killed(dir, &args);
        let summary = ingested(dir, &args);
        assert_eq!(summary["read"], 6_000, "{feed}: {summary}");
        assert!(summary["below"].as_u64() > Some(0), "{feed}: {summary}");
        assert_eq!(snapshot(dir, "s"), rows(&live), "{feed}");
        verified(dir, "s");
    }
    // What lies before the place is gone, or is something else.
    let args = ["parts", "--shard", "s", "--format", "kcat"];
    fs::rename(dir.join("parts/part-03"), dir.join("kept")).expect("it is there");
    let error = ingest(dir, &args);
    assert!(error.error().starts_with("the feed was "), "{}", error.stderr);
    write(dir, "parts/part-03", "{}\n");
    let error = ingest(dir, &args);
    assert!(error.error().starts_with("the feed was "), "{}", error.stderr);
    fs::rename(dir.join("kept"), dir.join("parts/part-03")).expect("it is there");
    // And what comes behind it is read, and named.
    write(dir, "parts/part-09", "\nnope\n");
    let error = ingest(dir, &args);
    assert!(error.error().contains(" at parts/part-09:2; "), "{}", error.stderr);
    assert_eq!(snapshot(dir, "s"), rows(&live));
}

#[test]
fn a_directory_is_followed_and_a_file_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let args = ["feed", "--shard", "s", "--format", "console", "--follow"];
    let missing = ingest(dir, &args);
    assert!(missing.error().starts_with("cannot read the feed: "), "{}", missing.stderr);
    let mut run = start_ingest(dir, &[&args[..], &["--wait"]].concat());
    fs::create_dir(dir.join("feed")).expect("room");
    // Of what is written elsewhere and moved here, each is whole.
    for (part, text) in [("1", "a\t1\n"), ("2", "b\t1"), ("3", "a\t2\n")] {
        write(dir, "part", text);
        fs::rename(dir.join("part"), dir.join("feed").join(part)).expect("one file system");
    }
    let expected = [r#"{"key":"a","value":2}"#, r#"{"key":"b","value":1}"#];
    run.until("the rows", || last_entry(dir, "s") > 0 && snapshot(dir, "s") == expected);
    run.signal("INT");
    run.end(PATIENCE).good();
}

#[test]
fn bad_lines_are_written_away_once_whatever_is_killed() {
    let mut random = random(72);
    let (lines, live) = messages(&mut random, 6_000);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        text.push_str(line);
        if n % 100 == 7 {
            let _ = writeln!(text, "bad {n}");
        }
    }
    write(dir, "feed", &text);
    let args = ["feed", "--shard", "s", "--format", "kcat", "--on-error", "quarantine:away"];
    killed(dir, &args);
    killed(dir, &args);
    ingested(dir, &args);
    assert_eq!(snapshot(dir, "s"), rows(&live));
    let away = fs::read_to_string(dir.join("away")).expect("it is there");
    let found: Vec<String> = away
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            record["text"].as_str().expect("text").to_string()
        })
        .collect();
    let expected: Vec<String> = (7..6_000).step_by(100).map(|n| format!("bad {n}")).collect();
    assert_eq!(found, expected);
    // Lines behind the last row are read again.
    append(dir, "feed", "worse\n");
    assert_eq!(ingested(dir, &args)["quarantined"], 1);
    assert_eq!(ingested(dir, &args)["quarantined"], 1);
    let away = fs::read_to_string(dir.join("away")).expect("it is there");
    assert_eq!(away.lines().count(), 61);
}

#[test]
fn a_compressed_pipe_is_read_as_what_it_unpacks_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut command = command("ingest", dir, &["-", "--shard", "s", "--times", "given"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Running::of(command);
    let packed = gzip("{\"key\":1,\"value\":1,\"ts\":4}\n");
    run.child.stdin.take().expect("a pipe").write_all(&packed).expect("it reads");
    assert_eq!(run.end(PATIENCE).good().summary()["upper"], 5);
    // One that is cut off ends behind the lines that are whole.
    let packed = gzip(&"{\"key\":1,\"value\":1}\n".repeat(9));
    write(dir, "cut", &packed[..packed.len() - 9]);
    let ran = ingest(dir, &["cut", "--shard", "t", "--times", "mint"]);
    assert!(ran.error().starts_with("gzip that is cut off or damaged: "), "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn a_rotated_file_is_followed_to_its_end_and_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let rows =
        |range: std::ops::Range<u32>| -> String { range.map(|n| format!("{n}\t{n}\n")).collect() };
    let count = |dir: &Path| if last_entry(dir, "s") == 0 { 0 } else { snapshot(dir, "s").len() };
    let args = ["feed", "--shard", "s", "--format", "console"];
    let follow = [&args[..], &["--follow"]].concat();
    write(dir, "feed", rows(0..10));
    let mut run = start_ingest(dir, &follow);
    run.until("the first rows", || count(dir) == 10);
    for turn in 1..3 {
        for age in (1..turn).rev() {
            let (from, to) = (format!("feed.{age}"), format!("feed.{}", age + 1));
            fs::rename(dir.join(from), dir.join(to)).expect("it is there");
        }
        fs::rename(dir.join("feed"), dir.join("feed.1")).expect("it is there");
        // The program that writes has the old one still.
        append(dir, "feed.1", &rows(100 * turn..100 * turn + 5));
        write(dir, "feed", rows(100 * turn + 5..100 * turn + 10));
        let expected = 10 + 10 * turn as usize;
        run.until("what was behind and before", || count(dir) == expected);
        if turn == 2 {
            run.child.kill().expect("it runs");
            run.end(PATIENCE);
            append(dir, "feed", &rows(50..51));
            let summary = ingested(dir, &args);
            assert_eq!((&summary["read"], &summary["below"]), (&31.into(), &30.into()));
            fs::write(
                dir.join("feed.2.gz"),
                gzip(&fs::read_to_string(dir.join("feed.2")).expect("text")),
            )
            .expect("room");
            fs::remove_file(dir.join("feed.2")).expect("it is there");
            // Found compressed, too; and not at all, it is an error.
            assert_eq!(ingested(dir, &args)["below"], 31);
            fs::rename(dir.join("feed.1"), dir.join("kept")).expect("it is there");
            let ran = ingest(dir, &args);
            assert!(ran.error().starts_with("the feed was "), "{}", ran.stderr);
            return;
        }
    }
}
