//! Goal: what `shard` prints is DESIGN's, in its order, for shards that hold anything. Method: the
//! example's own modules on shards made here through the library.
#![allow(dead_code)]

mod args;
mod changes;
mod clear;
mod diff;
mod export;
mod log;
mod look;
mod open;
#[path = "../ingest/pace.rs"]
mod pace;
mod people;
mod progress;
mod snapshot;
mod sorted;
mod status;
#[path = "../ingest/stop.rs"]
mod stop;
mod tail;
mod text;

use std::path::Path;

use differential_upsert::io::Io;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, Schema,
};
use differential_upsert::store::Root;
use differential_upsert::{Encoded, Error};

use crate::args::Args;
use crate::sorted::{Bounds, Sorter};

/// Makes a shard of three commits: times 0 and 1, then 2, then nothing up to 5.
fn make(path: &Path, codec: &str, history: History, seal: bool) {
    let io = Io::process().expect("threads");
    io.block_on(async {
        let root = Root::open(path.to_str().expect("UTF-8"), Access::Write)?;
        let schema = Schema { codec: codec.to_string(), key: "k".into(), value: "v".into() };
        let config = HandleConfig::default();
        let shard = Handle::open(
            root,
            io.clone(),
            HandleOptions::write("data", schema).with_config(config),
        )
        .await?;
        let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
        let row = |key, value: &str, time, diff| ((bytes(key), bytes(value)), time, diff);
        for (lower, upper, rows) in [
            (0, 2, vec![row("\"b\"", "\0{\"x\":1}", 0, 1), row("1", "\x01bad \"\u{e9}\"", 1, 1)]),
            (
                2,
                3,
                vec![
                    row("\"b\"", "\0{\"x\":1}", 2, -1),
                    row("\"b\"", "\x002", 2, 1),
                    row("\"a\"", "\x00null", 2, 1),
                ],
            ),
            (3, 5, vec![]),
        ] {
            let parts = shard.prepare(rows).await?;
            let history = Some(history);
            let seal = seal && upper == 5;
            let append = Append { lower, upper, parts, history, seal, ..Append::default() };
            let appended = shard.compare_and_append(append).await?;
            assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
        }
        Ok::<_, Error>(())
    })
    .expect("a new shard");
}

fn shard(line: &str, path: &Path) -> Result<String, String> {
    let line = line.replace("URL", path.to_str().expect("UTF-8"));
    let args = Args::of(std::iter::once("shard").chain(line.split_whitespace()));
    let args = args.map_err(|e| format!("exit {}", e.exit_code()))?;
    let io = Io::process().expect("threads");
    let mut out = Vec::new();
    let looked = io.block_on(look::run(&args.command, &io, &mut out));
    looked.map(|()| String::from_utf8(out).expect("text")).map_err(|e| e.to_string())
}

const AT_1: &str =
    "{\"key\":\"b\",\"value\":{\"x\":1}}\n{\"key\":1,\"error\":\"bad \\\"\u{e9}\\\"\"}\n";
const AT_2: &str = "{\"key\":\"a\",\"value\":null}\n{\"key\":\"b\",\"value\":2}\n{\"key\":1,\"error\":\"bad \\\"\u{e9}\\\"\"}\n";

#[test]
fn a_snapshot_is_sorted_by_the_bytes_of_the_keys() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make(directory.path(), text::JSON_TEXT, History::Keep, false);
    let shard = |line| shard(line, directory.path());
    assert_eq!(shard("snapshot URL --as-of 1").as_deref(), Ok(AT_1));
    assert_eq!(shard("snapshot URL").as_deref(), Ok(AT_2));
    let error = shard("snapshot URL --as-of 5").expect_err("not final");
    assert!(error.starts_with("no snapshot as of 5: since is 0, upper is 5 at "), "{error}");
    let error = shard("tail URL --from 5").expect_err("not final");
    assert!(error.starts_with("cannot begin at time 5: since is 0, upper is 5 at "), "{error}");
    assert!(error.ends_with("; use --from with a time from 0 to 4"), "{error}");
}

#[test]
fn a_tail_begins_with_the_collection_and_goes_on_in_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make(directory.path(), text::JSON_TEXT, History::Keep, true);
    let shard = |line| shard(line, directory.path());
    let at_0 = "{\"key\":\"b\",\"value\":{\"x\":1},\"time\":0,\"diff\":1}\n";
    let at_1 = "{\"key\":1,\"error\":\"bad \\\"\u{e9}\\\"\",\"time\":1,\"diff\":1}\n";
    let at_2 = "{\"key\":\"a\",\"value\":null,\"time\":2,\"diff\":1}\n\
                {\"key\":\"b\",\"value\":{\"x\":1},\"time\":2,\"diff\":-1}\n\
                {\"key\":\"b\",\"value\":2,\"time\":2,\"diff\":1}\n";
    assert_eq!(shard("tail URL --until 0"), Ok(at_0.to_string()));
    assert_eq!(shard("tail URL --until 1"), Ok(format!("{at_0}{at_1}")));
    // Sealed, so it ends by itself.
    assert_eq!(shard("tail URL"), Ok(format!("{at_0}{at_1}{at_2}")));
    assert_eq!(shard("tail URL --until 99"), Ok(format!("{at_0}{at_1}{at_2}")));
    let from_1 = at_0.replace("\"time\":0", "\"time\":1") + at_1 + at_2;
    assert_eq!(shard("tail URL --from 1"), Ok(from_1));
    assert!(shard("tail URL --from 5").is_err());
    assert_eq!(shard("tail URL --from 2 --until 1"), Err("exit 2".to_string()));
}

/// What keys are, is known once there is one.
#[test]
fn a_tail_waits_for_the_first_commit() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at_0 = "{\"key\":\"b\",\"value\":{\"x\":1},\"time\":0,\"diff\":1}\n";
    std::thread::scope(|scope| {
        let (io, (ready, is_ready)) = (Io::process().expect("threads"), std::sync::mpsc::channel());
        let path = directory.path();
        let waiting = scope.spawn(move || {
            let url = path.to_str().expect("UTF-8");
            let args = Args::of(["shard", "tail", url, "--until", "0"]).expect("a command");
            let mut out = Vec::new();
            let run = look::run(&args.command, &io, &mut out);
            io.block_on(async {
                let mut run = std::pin::pin!(run);
                // It has looked once, and waits.
                let first = tokio::time::timeout(std::time::Duration::ZERO, run.as_mut()).await;
                ready.send(first.is_err()).expect("the test");
                run.await
            })
            .expect("a row");
            String::from_utf8(out).expect("text")
        });
        assert!(is_ready.recv().expect("the tail"), "there is nothing to print yet");
        make(directory.path(), text::JSON_TEXT, History::Keep, true);
        assert_eq!(waiting.join().expect("the tail"), at_0);
    });
}

#[test]
fn a_collection_is_shown_by_its_own_keys() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make(directory.path(), text::JSON_TEXT, History::Keep, true);
    let all = |line| shard(line, directory.path());
    assert_eq!(all("snapshot URL --collection b").as_deref(), Ok(""));
    let io = Io::process().expect("threads");
    let pairs = tempfile::tempdir().expect("a temporary directory");
    append(
        pairs.path(),
        &io,
        &[
            "[\"a.b\",{\"id\":1}]",
            "[\"a\\\"c\",2]",
            "[\"a.b\",7,8]",
            "1",
            "[\"n\",1]",
            "[\"n\",12]",
        ],
    );
    let pairs = |line| shard(line, pairs.path());
    let row = "{\"key\":{\"id\":1},\"value\":0}\n";
    assert_eq!(pairs("snapshot URL --collection a.b").as_deref(), Ok(row));
    // In the order of the keys that are shown.
    let rows = "{\"key\":1,\"value\":0}\n{\"key\":12,\"value\":0}\n";
    assert_eq!(pairs("snapshot URL --collection n").as_deref(), Ok(rows));
    assert_eq!(
        pairs("tail URL --collection a\"c").as_deref(),
        Ok("{\"key\":2,\"value\":0,\"time\":0,\"diff\":1}\n")
    );
    let empty = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(shard("snapshot URL --collection b", empty.path()).as_deref(), Ok(""));
    let opaque = tempfile::tempdir().expect("a temporary directory");
    make(opaque.path(), "other", History::Keep, true);
    let error = shard("snapshot URL --collection b", opaque.path()).expect_err("bytes");
    assert!(error.contains("not JSON"), "{error}");
}

/// A key that has two values, or one of them twice, is damage in whatever is made of the collection.
#[test]
fn a_key_without_exactly_one_value_fails_what_shows_the_collection() {
    let io = Io::process().expect("threads");
    for rows in [[("1", "\x002"), ("1", "\x003")], [("1", "\x002"), ("1", "\x002")]] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        append_rows(directory.path(), &io, &rows);
        let formats: &[&str] = match cfg!(feature = "export") {
            true => &["jsonl", "csv", "parquet"],
            false => &["jsonl"],
        };
        let exports = formats.iter().map(|format| format!("export URL --format {format}"));
        for line in exports.chain(["snapshot URL".to_string()]) {
            let error = shard(&line, directory.path()).expect_err(&line);
            let said = "a key that does not have exactly one value as of 0 at ";
            assert!(error.starts_with(said), "{line}: {error}");
        }
    }
}

/// Makes a shard of JSON keys, each with the value 0, at one time.
fn append(path: &Path, io: &Io, keys: &[&str]) {
    append_rows(path, io, &keys.iter().map(|key| (*key, "\x000")).collect::<Vec<_>>());
}

/// Makes a shard of JSON keys and stored values, at one time.
fn append_rows(path: &Path, io: &Io, rows: &[(&str, &str)]) {
    let rows = rows.iter().map(|(key, value)| {
        let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
        ((bytes(key), bytes(value)), 0, 1)
    });
    let schema = Schema { codec: text::JSON_TEXT.into(), key: "k".into(), value: "v".into() };
    let appended = io.block_on(async {
        let root = Root::open(path.to_str().expect("UTF-8"), Access::Write)?;
        let shard = Handle::open(root, io.clone(), HandleOptions::write("data", schema)).await?;
        let parts = shard.prepare(rows.collect()).await?;
        shard.compare_and_append(Append { lower: 0, upper: 1, parts, ..Append::default() }).await
    });
    assert!(matches!(appended, Ok(Appended::Won { .. })), "{appended:?}");
}

/// Every file below a directory, with what is in it.
fn files(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("a name").path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push((path.clone(), std::fs::read(&path).expect("a file"))),
        }
    }
    all.sort();
    all
}

#[test]
fn who_looks_writes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make(directory.path(), text::JSON_TEXT, History::Keep, true);
    let before = files(directory.path());
    for line in ["status URL", "status URL --text", "snapshot URL", "tail URL", "verify URL"] {
        shard(line, directory.path()).expect(line);
        assert!(files(directory.path()) == before, "{line}");
    }
}

/// Takes a directory away as soon as something is written.
struct Remover<'a>(&'a Path);

impl std::io::Write for Remover<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::fs::remove_dir_all(self.0)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_tail_of_a_shard_that_is_removed_ends() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s");
    make(&path, text::JSON_TEXT, History::Last(1), false);
    let url = path.to_str().expect("UTF-8");
    let args = Args::of(["shard", "tail", url, "--until", "99"]).expect("a command");
    let io = Io::process().expect("threads");
    let mut out = std::io::BufWriter::new(Remover(&path));
    let error = io.block_on(look::run(&args.command, &io, &mut out)).expect_err("no shard");
    let text = format!("the shard was removed or replaced at file:{url}; ");
    assert!(error.to_string().starts_with(&text), "{error}");
    assert!(!path.exists());
    let _ = out.into_parts();
}

#[test]
fn status_has_its_members_in_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make(directory.path(), text::JSON_TEXT, History::Last(2), true);
    let status = shard("status URL", directory.path()).expect("a shard");
    let start = "{\"since\":3,\"upper\":null,\"sealed_at\":5,\"seqno\":3,\"epoch\":0,\
                 \"feed\":null,\"history\":2,\"batches\":2,\"parts\":2,\"updates\":5,\"bytes\":";
    assert!(status.starts_with(start), "{status}");
    // Its writer is gone.
    assert!(status.contains(",\"readers\":0,\"writers\":0,\"live_bytes\":"), "{status}");
    assert!(status.ends_with(",\"leases\":[]}\n"), "{status}");
    let text = shard("status URL --text", directory.path()).expect("a shard");
    assert!(text.contains("readable   3 to 4, and it is sealed"), "{text}");
    assert!(shard("verify URL", directory.path()).expect("sound").contains("\"orphans\":[]"));
    let probe = shard("probe URL", directory.path()).expect("a sound store");
    assert!(probe.contains("\"sound\":true"), "{probe}");
}

#[test]
fn what_another_program_wrote_is_shown_as_bytes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make(directory.path(), "postcard-1", History::Keep, false);
    assert_eq!(
        shard("snapshot URL --as-of 1", directory.path()).as_deref(),
        Ok("{\"key\":{\"base64\":\"ImIi\"},\"value\":{\"base64\":\"eyJ4IjoxfQ==\"}}\n\
            {\"key\":{\"base64\":\"MQ==\"},\"error\":\"bad \\\"\u{e9}\\\"\"}\n")
    );
}

#[test]
fn nothing_is_created_and_what_is_not_there_is_not_empty() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let none = directory.path().join("none");
    for command in ["status", "snapshot", "tail", "verify", "probe"] {
        let error = shard(&format!("{command} URL"), &none).expect_err(command);
        assert!(error.starts_with("no shard here at "), "{command}: {error}");
        assert!(!none.exists(), "{command}");
    }
    // An empty directory is an empty shard.
    assert_eq!(shard("snapshot URL", directory.path()), Ok(String::new()));
    let status = shard("status URL", directory.path()).expect("empty");
    assert!(status.starts_with("{\"since\":0,\"upper\":0,\"sealed_at\":null,"), "{status}");
    std::fs::write(directory.path().join("notes.txt"), "mine").expect("room");
    let error = shard("snapshot URL", directory.path()).expect_err("something else");
    assert!(error.contains("something else"), "{error}");
}

#[test]
fn what_is_not_there_yet_is_usage() {
    for line in ["", "compact", "gc", "snapshot", "snapshot URL --from 1", "tail URL --as-of 1"] {
        assert_eq!(shard(line, Path::new("d")), Err("exit 2".to_string()), "{line}");
    }
}

#[test]
fn help_and_version_are_where_one_looks_for_them() {
    let asked = |line: &str| {
        let args = std::iter::once("shard").chain(line.split_whitespace());
        let asked = Args::of(args).expect_err(line);
        assert_eq!(asked.exit_code(), 0, "{line}: {asked}");
        asked.to_string()
    };
    let version = format!("shard {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!([asked("-V"), asked("--version")], [version.clone(), version]);
    for help in [asked("-h"), asked("--help")] {
        assert!(help.contains("snapshot") && help.contains("--version"), "{help}");
    }
    for help in [asked("tail -h"), asked("tail --help")] {
        assert!(help.contains("--until <T>"), "{help}");
    }
}

/// Rows in files come in the same order as rows in memory, equal ones as they came, whatever the bound.
#[test]
fn what_is_sorted_through_files_is_what_is_sorted_in_memory() {
    let form = text::Form::of_codec(text::JSON_TEXT).of_collection("n").expect("JSON");
    let mut number = 1u64;
    let mut draw = |below: u64| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (number >> 33) % below
    };
    let bytes = |text: String| Encoded::from_bytes(text.into_bytes());
    let mut row = || {
        let collection = ["n", "m"][draw(2) as usize];
        let key = bytes(format!("[\"{collection}\",{}]", draw(30)));
        (
            (key, bytes(format!("\0{}", "7".repeat(draw(900) as usize)))),
            draw(3),
            [-1, 1][draw(2) as usize],
        )
    };
    let pieces: Vec<Vec<_>> = (0..60u64).map(|n| (0..n % 50).map(|_| row()).collect()).collect();
    let sorted = |bounds| {
        let mut sorter = Sorter::new(&form, bounds);
        assert!(sorter.is_empty());
        for piece in &pieces {
            sorter.add(piece.clone()).expect("room for files");
        }
        let rows: Result<Vec<_>, Error> = sorter.finish().expect("files").collect();
        rows.expect("files")
    };
    let mut expected: Vec<_> = pieces.iter().flatten().cloned().collect();
    expected.retain(|((key, _), ..)| key.as_bytes().starts_with(b"[\"n\","));
    expected.sort_by_key(|((key, _), time, diff)| {
        (*time, key.as_bytes()[5..key.as_bytes().len() - 1].to_vec(), *diff)
    });
    for (bytes_max, fan) in [(usize::MAX, 2), (0, 2), (0, 5), (30_000, 3), (100_000, 32)] {
        assert_eq!(sorted(Bounds { bytes_max, fan }), expected, "{bytes_max} bytes, {fan} runs");
    }
}
