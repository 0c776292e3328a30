//! Goal: the chapter `guide::format` is enough to read a shard by. Method: a reader that was written from it, with no
//! code of the crate, over the bytes of a root; what it finds is held against what the crate reads, at every time that can
//! be told apart, in directories and stores that are merged and collected as they grow, and in shards of earlier programs.

mod log;
mod rows;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::common::{append, config, io, row, runtime, schema};
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, Update,
};
use differential_upsert::store::Root;
use log::{Files, below, crc32c, number_at, two_lines};

/// All files of a directory; what ends in `#` and a number is left out: a file in its making.
fn files_of(root: &Path) -> Files {
    let (mut files, mut folders) = (Files::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
            let staged = key.rsplit_once('#').is_some_and(|(_, n)| n.parse::<u64>().is_ok());
            match path.is_dir() {
                true => folders.push(path),
                false if staged => {}
                false => drop(files.insert(key, std::fs::read(&path).unwrap())),
            }
        }
    }
    files
}

/// All objects of a store.
async fn objects_of(root: &Root) -> Files {
    let mut files = Files::new();
    for found in root.blob().list("", usize::MAX).await.unwrap() {
        files.insert(
            found.key.clone(),
            root.blob().get(&found.key).await.unwrap().unwrap().to_vec(),
        );
    }
    files
}

/// Holds what the book finds in a shard of these files against what a handle reads; returns what the files have shown.
async fn compare(files: &Files, name: &str, handle: &Handle) -> BTreeSet<&'static str> {
    let shard = state::read(files, name);
    let (ours, theirs) = (&shard.state, handle.refresh().await.unwrap());
    let token = theirs.token.to_string();
    assert_eq!((ours.seqno, &ours.token), (theirs.seqno, &token));
    assert_eq!((ours.since, ours.upper, ours.epoch), (theirs.since, theirs.upper, theirs.epoch));
    let cursor = theirs.cursor.as_ref();
    let cursor = cursor.map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!((ours.sealed_at, &ours.cursor), (theirs.sealed_at, &cursor));

    let counting = rows::counting(files, &shard);
    let times = counting.iter().flat_map(|row| [row.2.saturating_sub(1), row.2]);
    let times = times.chain([ours.since, ours.upper - 1]);
    let times: BTreeSet<u64> = times.filter(|t| (ours.since..ours.upper).contains(t)).collect();
    for as_of in times {
        let live = rows::live(&counting, as_of);
        let snapshot = handle.snapshot(as_of).await.unwrap();
        let bytes = |((key, value), _, diff): &Update| {
            ((key.as_bytes().to_vec(), value.as_bytes().to_vec()), *diff as i64)
        };
        let snapshot: BTreeMap<_, _> = snapshot.iter().map(bytes).collect();
        assert_eq!(live, snapshot, "{name} as of {as_of}");
    }

    let format = two_lines(&files["FORMAT"]);
    let parts = || ours.batches.iter().flat_map(|batch| &batch.parts);
    let is_inline = |part: &state::Part| matches!(part.place, state::Place::Inline { .. });
    let shown = [
        ("layout 1", format["format"] == 1),
        ("layout 2", format["format"] == 2),
        ("a rollup", shard.from_rollup),
        ("entries after it", shard.from_rollup && shard.log.entries.contains_key(&ours.seqno)),
        ("several segments", shard.log.segments > 1),
        ("a floor", shard.log.floor > 0),
        ("rows inside entries", parts().any(is_inline)),
        ("rows of their own", !parts().all(is_inline)),
        ("several parts", ours.batches.iter().any(|batch| batch.parts.len() > 1)),
        (
            "merged",
            ours.batches.iter().any(|batch| batch.forwarded.is_some_and(|t| t > batch.lower)),
        ),
        ("several fences", parts().any(|part| part.updates > 256)),
        ("history", ours.since + 1 < ours.upper),
        (
            "rows that do not count",
            parts().map(|part| part.updates).sum::<u64>() > counting.len() as u64,
        ),
    ];
    shown.into_iter().filter(|(_, shown)| *shown).map(|(what, _)| what).collect()
}

/// Some rows, of which each time changes a few; every tenth changes many, and rewrites one of them at two times.
fn changes(time: u64, live: &mut BTreeMap<String, String>) -> Vec<Update> {
    let mut rows = Vec::new();
    let count = if time % 10 == 7 { 700 } else { 4 };
    for n in 0..count {
        let key = format!("key{}", (time * 7 + n * 11) % 900);
        let value = format!("{time}: {}", "v".repeat((n * n % 300) as usize));
        if let Some(old) = live.insert(key.clone(), value.clone()) {
            rows.push(row(&key, &old, time, -1));
        }
        rows.push(row(&key, &value, time, 1));
    }
    if let Some(gone) = live.keys().nth(time as usize % 5).cloned() {
        let old = live.remove(&gone).unwrap();
        rows.push(row(&gone, &old, time, -1));
    }
    rows
}

/// Grows a shard, and reads it by the book on the way; returns all that its files have shown.
async fn grow(root: &Root, dir: Option<&Path>, limits: (usize, usize)) -> BTreeSet<&'static str> {
    let (inline_bytes_max, part_bytes_max) = limits;
    let history = Some(History::Last(5));
    let config =
        HandleConfig { inline_bytes_max, part_bytes_max, history, rollup_every: 8, ..config() };
    let options = HandleOptions::write("data", schema()).with_config(config);
    let handle = Handle::open(root.clone(), io(1), options).await.unwrap();
    let (mut live, mut shown) = (BTreeMap::new(), BTreeSet::new());
    for time in 0..60 {
        let won = append(&handle, time, time + 1, changes(time, &mut live)).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }));
        if time % 20 == 13 {
            let _ = handle.compact().await.unwrap();
            let _ = handle.collect().await.unwrap();
        }
        if time % 10 == 2 || time % 20 == 13 {
            let files = match dir {
                Some(dir) => files_of(dir),
                None => objects_of(root).await,
            };
            shown.extend(compare(&files, "data", &handle).await);
        }
    }
    // Another writer was first: rows below the lower stay in their part, and do not count.
    let late = vec![row("late", "lost", 60, 1), row("late", "won", 61, 1)];
    for (lower, rows) in [(60, Vec::new()), (61, late)] {
        let won = append(&handle, lower, lower + 1, rows).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }));
    }
    let (cursor, epoch) = (Some(vec![0, 7, 255]), Some(3));
    let end = Append { lower: 62, upper: 65, epoch, cursor, seal: true, ..Append::default() };
    assert!(matches!(handle.compare_and_append(end).await.unwrap(), Appended::Won { .. }));
    let files = match dir {
        Some(dir) => files_of(dir),
        None => objects_of(root).await,
    };
    shown.extend(compare(&files, "data", &handle).await);
    shown
}

const SMALL: (usize, usize) = (150, 6_000);
const LARGE: (usize, usize) = (16 << 10, 8 << 20);
const ALWAYS: [&str; 10] = [
    "a floor",
    "a rollup",
    "entries after it",
    "history",
    "merged",
    "rows inside entries",
    "rows of their own",
    "rows that do not count",
    "several fences",
    "several parts",
];

#[test]
fn a_directory_is_read_by_the_book() {
    let mut shown = BTreeSet::new();
    for limits in [SMALL, LARGE] {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(&format!("file:{}", dir.path().display()), Access::Write).unwrap();
        shown.extend(runtime().block_on(grow(&root, Some(dir.path()), limits)));
    }
    let expected = BTreeSet::from_iter(ALWAYS.into_iter().chain(["layout 2", "several segments"]));
    assert_eq!(shown, expected);
}

#[test]
fn a_store_of_objects_is_read_by_the_book() {
    let mut shown = BTreeSet::new();
    for limits in [SMALL, LARGE] {
        let root = Root::open("mem:", Access::Write).unwrap();
        shown.extend(runtime().block_on(grow(&root, None, limits)));
    }
    let expected = BTreeSet::from_iter(ALWAYS.into_iter().chain(["layout 1"]));
    assert_eq!(shown, expected);
}

/// Position of lines in a file: what follows in a cursor of another feed is another connector's.
fn cursor_of(value: &[u8]) -> (String, u64, Vec<String>) {
    let (body, crc) = value[1..].split_at(value.len() - 5);
    assert_eq!((value[0], body[0], number_at(crc, 0, 4)), (0, 1, u64::from(crc32c(body))));
    let mut at = 1;
    let mut bytes = |length: usize| {
        at += length;
        &body[at - length..at]
    };
    let number = |bytes: &[u8]| number_at(bytes, 0, bytes.len());
    let length = number(bytes(4));
    let identity = String::from_utf8(bytes(length as usize).to_vec()).unwrap();
    let generation = number(bytes(8));
    let mut partitions = Vec::new();
    for _ in 0..number(bytes(4)) {
        let length = number(bytes(4));
        partitions.push(String::from_utf8(bytes(length as usize).to_vec()).unwrap());
        let length = number(bytes(4));
        bytes(length as usize);
    }
    assert_eq!(at, body.len());
    (identity, generation, partitions)
}

#[test]
fn shards_of_earlier_programs_are_read_by_the_book() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut shown = BTreeSet::new();
    for (name, shard) in
        [("given", "data"), ("sealed", "data"), ("minted", "data"), ("minted", "remap")]
    {
        let path = fixtures.join("shards").join(name);
        let files = files_of(&path);
        let handle = runtime().block_on(async {
            let root = Root::open(&format!("file:{}", path.display()), Access::Read).unwrap();
            let handle = Handle::open(root, io(1), HandleOptions::read(shard)).await.unwrap();
            shown.extend(compare(&files, shard, &handle).await);
            handle
        });
        let found = state::read(&files, shard);
        let rows = rows::counting(&files, &found);
        if shard == "remap" {
            for (key, value, ..) in &rows {
                assert_eq!(key, b"cursor");
                let (identity, generation, _) = cursor_of(value);
                assert_eq!((&*identity, generation), ("lines", 0));
            }
            assert_eq!(rows::live(&rows, handle.state().upper - 1).len(), 1, "one place");
        }
    }
    let some = ["layout 1", "merged", "rows inside entries", "rows of their own"];
    assert!(shown.is_superset(&BTreeSet::from(some)), "{shown:?}");
    // Golden parts, which the test `format` holds against the code.
    let part = |name: &str| rows::decode(&std::fs::read(fixtures.join(name)).unwrap());
    let (mut one, mut two) = (part("part-v1"), part("part-v2"));
    one.sort();
    two.sort();
    assert_eq!(one, two);
    assert_eq!(part("part-large-v2").len(), 600);
    for name in ["FORMAT-v2", "FORMAT-shapes-v1"] {
        assert!(two_lines(&std::fs::read(fixtures.join(name)).unwrap())["codec"].is_string());
    }
    let incarnation = |name: &str| two_lines(&std::fs::read(fixtures.join(name)).unwrap());
    assert_eq!(incarnation("INCARNATION-v1")["incarnation"], incarnation("INCARNATION-v2")["root"]);
}

/// Where the last record of a log begins, by the segment and the place.
fn last_record(files: &Files) -> (String, usize) {
    let segments = below(files, "data/log/").into_iter().filter(|(name, _)| name.ends_with(".seg"));
    let records = segments.flat_map(|(name, bytes)| {
        let at = (32..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"rec1"));
        at.map(|at| (format!("data/log/{name}"), at)).collect::<Vec<_>>()
    });
    records.max().unwrap()
}

#[test]
fn a_torn_tail_and_damage_are_told_apart_by_the_book() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file:{}", dir.path().display());
    runtime().block_on(async {
        let root = Root::open(&url, Access::Write).unwrap();
        let handle =
            Handle::open(root, io(1), HandleOptions::write("data", schema())).await.unwrap();
        for time in 0..5 {
            let rows = vec![row("key", "a value", time, 1)];
            assert!(matches!(
                append(&handle, time, time + 1, rows).await.unwrap(),
                Appended::Won { .. }
            ));
        }
    });
    let whole = files_of(dir.path());
    assert_eq!(state::read(&whole, "data").state.upper, 5);
    let read = |upper: Option<u64>, what: &str| {
        let files = files_of(dir.path());
        let ours = catch_unwind(AssertUnwindSafe(|| state::read(&files, "data").state.upper));
        assert_eq!(ours.ok(), upper, "{what}, by the book");
        let theirs = runtime().block_on(async {
            let root = Root::open(&url, Access::Read).unwrap();
            Handle::open(root, io(1), HandleOptions::read("data")).await
        });
        match theirs {
            Ok(handle) => assert_eq!(Some(handle.state().upper), upper, "{what}, by the crate"),
            Err(e) => assert_eq!((e.kind(), upper), (ErrorKind::Corrupt, None), "{what}: {e}"),
        }
    };
    let flip = |key: &str, at: usize| {
        let mut bytes = std::fs::read(dir.path().join(key)).unwrap();
        bytes[at] ^= 0x10;
        std::fs::write(dir.path().join(key), bytes).unwrap();
    };
    let (segment, last) = last_record(&whole);
    flip(&segment, last + 30);
    read(None, "a record that the marks tell of");
    // Its crc: the durable place is not known.
    flip("data/log/marks", 1536 + 16);
    read(Some(4), "a torn record");
    flip(&segment, last + 30);
    read(Some(5), "no mark of how far it is durable");
    flip("data/log/marks", 512);
    read(Some(5), "bounds that are whole once");
    flip("data/log/marks", 1024);
    read(None, "no bounds");
    flip("data/log/marks", 1024);
    flip(&segment, 40);
    read(None, "the first record, behind which others were begun");
}
