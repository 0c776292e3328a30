//! Goal: what `shard export` writes is the collection, or its changes, in each format. Method: real processes on feeds that
//! are made up. JSON lines and comma-separated values are compared with what the feed says; Parquet is read by DuckDB, which
//! nobody here wrote.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::story::{Contents, Shown, Story, differences, lines, member};
use crate::process::{Ran, ingested, shard};

fn export(dir: &Path, args: &str) -> Ran {
    let args: Vec<&str> = args.split_whitespace().collect();
    shard(dir, &[&["export", "s"], &args[..]].concat())
}

fn told(seed: u64, times: u64) -> (tempfile::TempDir, Story) {
    let dir = tempfile::tempdir().expect("a directory");
    let story = Story::new(seed, times);
    story.tell(dir.path());
    (dir, story)
}

/// The changes after one time, or all, up to another, in their order.
fn changes(
    story: &Story,
    from: Option<usize>,
    to: usize,
) -> Vec<(&'static str, String, Option<Shown>, Option<Shown>, usize)> {
    let mut all = Vec::new();
    for time in from.map_or(0, |from| from + 1)..=to {
        let before = time.checked_sub(1).map_or_else(Contents::new, |t| story.as_of[t].clone());
        for (key, before, after) in differences(&before, &story.as_of[time]) {
            let op = match (&before, &after) {
                (None, _) => "insert",
                (_, None) => "delete",
                _ => "update",
            };
            all.push((op, key, before, after, time));
        }
    }
    all
}

#[test]
fn json_lines_are_a_snapshot_or_changes() {
    let (dir, story) = told(21, 12);
    let dir = dir.path();
    let written = |args: &str| export(dir, &format!("--format jsonl {args}")).good().lines();
    assert_eq!(written(""), lines(story.last()));
    assert_eq!(written("--as-of 4"), lines(&story.as_of[4]));
    for (between, from, to) in [
        ("..", None, 11),
        ("3..7", Some(3), 7),
        ("..5", None, 5),
        ("10..", Some(10), 11),
        ("4..4", Some(4), 4),
    ] {
        let expected: Vec<String> = changes(&story, from, to)
            .into_iter()
            .map(|(op, key, before, after, time)| {
                let (before, after) =
                    (member("before", before.as_ref()), member("after", after.as_ref()));
                format!("{{\"op\":\"{op}\",\"key\":{key},{before},{after},\"time\":{time}}}")
            })
            .collect();
        assert_eq!(written(&format!("--changes {between}")), expected, "{between}");
    }
    // All changes fold to the difference.
    let last = |between: &str| {
        let mut all: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
        for line in written(&format!("--changes {between}")) {
            let row: Value = serde_json::from_str(&line).expect("JSON");
            let text = |name: &str| {
                let error = row.get(format!("{name}_error")).map(|text| format!("error {text}"));
                error.or_else(|| Some(row[name].to_string()).filter(|text| text != "null"))
            };
            let entry = all.entry(row["key"].to_string()).or_insert([text("before"), None]);
            entry[1] = text("after");
        }
        all.retain(|_, [before, after]| before != after);
        all.len()
    };
    assert_eq!(last("2..9"), shard(dir, &["diff", "s", "2", "9"]).good().lines().len());
}

#[test]
fn a_file_appears_when_it_is_whole() {
    let (dir, story) = told(22, 6);
    let dir = dir.path();
    let ran = export(dir, "--format jsonl --out rows.jsonl").good();
    assert_eq!(ran.stdout, "");
    let file = std::fs::read_to_string(dir.join("rows.jsonl")).expect("the file");
    assert_eq!(file.lines().collect::<Vec<_>>(), lines(story.last()));
    export(dir, "--format jsonl --as-of 99 --out rows.jsonl").error();
    assert_eq!(std::fs::read_to_string(dir.join("rows.jsonl")).expect("the file"), file);
    let ran = export(dir, "--format jsonl --as-of 2 --out rows.jsonl").good();
    assert!(ran.stderr.contains("note: rows.jsonl was there already"), "{}", ran.stderr);
    assert_ne!(std::fs::read_to_string(dir.join("rows.jsonl")).expect("the file"), file);
    // An empty file is replaced without a word, and a device never.
    std::fs::write(dir.join("rows.jsonl"), "").expect("a file");
    let ran = export(dir, "--format jsonl --out rows.jsonl").good();
    assert!(!ran.stderr.contains("note"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(dir.join("rows.jsonl")).expect("the file"), file);
    let device = export(dir, "--format jsonl --out /dev/null").error().to_string();
    assert!(device.starts_with("--out names no file at /dev/null; "), "{device}");
    export(dir, "--format jsonl --as-of 99 --out none.jsonl").error();
    export(dir, "--format jsonl --out no/where.jsonl").error();
    let names = dir.read_dir().expect("a directory").map(|entry| entry.expect("one").file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["feed", "rows.jsonl", "s"], "nothing half done is left");
}

#[test]
fn what_cannot_be_exported_is_said() {
    let (dir, _) = told(23, 9);
    let dir = dir.path();
    ingested(dir, &["feed", "--shard", "s", "--on-error", "keep", "--history", "3"]);
    for (args, said) in [
        ("--as-of 2", "since is 6, upper is 9"),
        ("--as-of 9", "since is 6, upper is 9"),
        ("--changes 2..8", "from or to 2: since is 6, upper is 9"),
        ("--changes 6..9", "from or to 9: since is 6, upper is 9"),
        ("--changes ..8", "from the beginning: since is 6, upper is 9"),
    ] {
        let ran = export(dir, &format!("--format jsonl {args}"));
        assert!(ran.error().contains(said), "{args}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    export(dir, "--format jsonl --changes 6..8").good();
    for args in [
        "",
        "--format xml",
        "--format jsonl --changes 7..3",
        "--format jsonl --changes 7",
        "--format jsonl --as-of 7 --changes 6..8",
    ] {
        assert_eq!(export(dir, args).code, Some(2), "{args}");
    }
    if cfg!(not(feature = "export")) {
        for format in ["csv", "parquet"] {
            let ran = export(dir, &format!("--format {format}"));
            assert_eq!(ran.code, Some(2));
            assert!(ran.stderr.contains("--features export"), "{}", ran.stderr);
        }
    }
    std::fs::create_dir(dir.join("empty")).expect("a directory");
    let empty = shard(dir, &["export", "empty", "--format", "jsonl", "--changes", ".."]).good();
    assert_eq!(empty.stdout, "");
    assert!(shard(dir, &["export", "none", "--format", "jsonl"]).error().starts_with("no shard"));
}

/// A cell: nothing, or its text.
#[cfg(feature = "export")]
type Cell = Option<String>;

/// The cells of a value and of an error.
#[cfg(feature = "export")]
fn cells(shown: Option<&Shown>) -> [Cell; 2] {
    match shown {
        None => [None, None],
        Some(("value", text)) => [Some(text.clone()), None],
        Some((_, text)) => {
            let text: String = serde_json::from_str(text).expect("a string");
            [None, Some(text)]
        }
    }
}

#[cfg(feature = "export")]
fn rows_expected(contents: &Contents) -> Vec<Vec<Cell>> {
    let row = |(key, shown): (&String, &Shown)| {
        let [value, error] = cells(Some(shown));
        vec![Some(key.clone()), value, error]
    };
    contents.iter().map(row).collect()
}

#[cfg(feature = "export")]
fn changes_expected(story: &Story, from: Option<usize>, to: usize) -> Vec<Vec<Cell>> {
    let row =
        |(op, key, before, after, time): (&str, String, Option<Shown>, Option<Shown>, usize)| {
            let ([before, before_error], [after, after_error]) =
                (cells(before.as_ref()), cells(after.as_ref()));
            let cells = [Some(op.to_string()), Some(key), before, after, before_error, after_error];
            cells.into_iter().chain([Some(time.to_string())]).collect()
        };
    changes(story, from, to).into_iter().map(row).collect()
}

/// Runs a few lines of Python, which print JSON.
#[cfg(feature = "export")]
fn python(dir: &Path, script: &str) -> Value {
    let ran = python_command(dir, script).output().expect("Python is there");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said} (`.ci/needs` installs what is missing)");
    serde_json::from_slice(&ran.stdout).expect("JSON")
}

/// Python, with what `.ci/needs` has put beside the build for it.
#[cfg(feature = "export")]
fn python_command(dir: &Path, script: &str) -> std::process::Command {
    let mut python = std::process::Command::new("python3");
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python");
    python.arg("-c").arg(script).env("PYTHONPATH", modules).current_dir(dir);
    python
}

#[cfg(feature = "export")]
fn of_json(rows: &Value) -> Vec<Vec<Cell>> {
    let cell = |cell: &Value| match cell {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let rows = rows.as_array().expect("rows");
    rows.iter().map(|row| row.as_array().expect("a row").iter().map(cell).collect()).collect()
}

/// Read by Python's own reader, in which what is empty is nothing.
#[cfg(feature = "export")]
#[test]
fn comma_separated_values_are_read_by_another() {
    let (dir, story) = told(24, 10);
    let dir = dir.path();
    let read = |args: &str| {
        let text = export(dir, &format!("--format csv {args}")).good().stdout;
        std::fs::write(dir.join("t.csv"), text).expect("room");
        let script = "import csv, json; r = list(csv.reader(open('t.csv', newline='', encoding='utf-8'))); \
                      print(json.dumps([r[0]] + [[c or None for c in row] for row in r[1:]]))";
        of_json(&python(dir, script))
    };
    let names =
        |names: &str| names.split(' ').map(|name| Some(name.to_string())).collect::<Vec<_>>();
    let expected = [vec![names("key value error")], rows_expected(story.last())].concat();
    assert_eq!(read(""), expected);
    let first = names("op key before after before_error after_error time");
    let expected = [vec![first], changes_expected(&story, Some(1), 8)].concat();
    assert_eq!(read("--changes 1..8"), expected);
}

#[cfg(feature = "export")]
#[test]
fn parquet_is_read_by_duckdb() {
    let (dir, story) = told(25, 12);
    let dir = dir.path();
    let query = |sql: &str| {
        let script = format!(
            "import duckdb, json; print(json.dumps(duckdb.sql(\"\"\"{sql}\"\"\").fetchall()))"
        );
        of_json(&python(dir, &script))
    };
    export(dir, "--format parquet --out rows.parquet").good();
    assert_eq!(query("select * from 'rows.parquet'"), rows_expected(story.last()));
    export(dir, "--format parquet --changes .. --out changes.parquet").good();
    assert_eq!(query("select * from 'changes.parquet'"), changes_expected(&story, None, 11));
    let types =
        query("select column_name, column_type from (describe select * from 'changes.parquet')");
    let types: Vec<[&str; 2]> = types
        .iter()
        .map(|row| [&row[0], &row[1]].map(|cell| cell.as_deref().expect("it")))
        .collect();
    let text = ["op", "key", "before", "after", "before_error", "after_error"];
    let expected: Vec<_> =
        text.map(|name| [name, "VARCHAR"]).into_iter().chain([["time", "UBIGINT"]]).collect();
    assert_eq!(types, expected);
    // To standard output it is the same bytes.
    std::fs::create_dir(dir.join("empty")).expect("a directory");
    let script = "import subprocess, sys, json, duckdb; \
                  open('empty.parquet', 'wb').write(subprocess.run(sys.argv[1:], check=True, capture_output=True).stdout); \
                  print(json.dumps(duckdb.sql(\"select * from 'empty.parquet'\").fetchall()))";
    let shard = crate::process::example("shard");
    let mut python = python_command(dir, script);
    python.arg(shard).args(["export", "empty", "--format", "parquet"]);
    let ran = python.output().expect("Python is there");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "[]");
}

/// More rows than one group has: the groups are read as one table.
#[cfg(feature = "export")]
#[test]
fn parquet_of_many_rows_comes_in_groups() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let value = "v".repeat(400);
    let row = |n: u64| format!("{{\"key\":{n},\"value\":\"{value}{n}\",\"ts\":0}}\n");
    std::fs::write(dir.join("feed"), (0..60_000).map(row).collect::<String>()).expect("room");
    ingested(dir, &["feed", "--shard", "s"]);
    export(dir, "--format parquet --out t.parquet").good();
    let script = format!(
        "import duckdb, json; print(json.dumps(duckdb.sql(\"select count(*), sum(key::int), count(distinct value), \
         min(length(value)) from 't.parquet' where value = '\\\"{value}' || key || '\\\"'\").fetchall() \
         + duckdb.sql(\"select count(distinct row_group_id) > 1 from parquet_metadata('t.parquet')\").fetchall()))"
    );
    let read = python(dir, &script);
    let sum = 60_000u64 * 59_999 / 2;
    assert_eq!(read.to_string(), format!("[[60000,{sum},60000,{}],[true]]", 400 + 3));
}
