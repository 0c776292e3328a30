//! Goal: no damaged byte is ever taken for a row, and none goes unseen. Method: write a small shard,
//! with inline and stored parts, rollups and several entries; then flip every byte
//! of every object, and cut every one at every length, one at a time. Opening and reading must give
//! the right rows or a typed error, and `verify` must always give an error. The same for the segment of a
//! directory's log, and for its marks, which hold everything twice that anything depends on. No randomness.

use std::collections::BTreeMap;

use crate::common::{append, config, io, row, runtime, schema};
use bytes::Bytes;
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, Sum, Update, verify,
};
use differential_upsert::store::Root;

type Files = BTreeMap<String, Vec<u8>>;

/// Writes the shard, and returns its rows.
async fn build(root: Root) -> Vec<Update> {
    let config =
        HandleConfig { inline_bytes_max: 80, part_bytes_max: 120, rollup_every: 4, ..config() };
    let handle =
        Handle::open(root, io(1), HandleOptions::write("data", schema()).with_config(config));
    let handle = handle.await.unwrap();
    let batches = [
        vec![row("a", "1", 0, 1)],
        (0..6).map(|n| row(&format!("key{n}"), "value", 1, 1)).collect(),
        vec![row("a", "1", 2, -1), row("a", "2", 2, 1)],
        vec![row("b", "1", 3, 1)],
    ];
    for (time, rows) in batches.into_iter().enumerate() {
        let time = time as u64;
        let won = append(&handle, time, time + 1, rows).await.unwrap();
        // The second batch is a part, whose lease is an entry of its own.
        assert_eq!(won, Appended::Won { seqno: time + 1 + u64::from(time > 0) });
    }
    let last = Append {
        lower: 4,
        upper: 5,
        parts: handle
            .prepare((0..6).map(|n| row(&format!("late{n}"), "v", 4, 1)).collect())
            .await
            .unwrap(),
        cursor: Some(b"cursor".to_vec()),
        sum: Some(Sum { rows: 17, digest: 99 }),
        ..Append::default()
    };
    assert_eq!(handle.compare_and_append(last).await.unwrap(), Appended::Won { seqno: 6 });
    handle.snapshot(4).await.unwrap()
}

async fn gather(root: &Root) -> Files {
    let mut files = Files::new();
    for found in root.blob().list("", usize::MAX).await.unwrap() {
        let bytes = root.blob().get(&found.key).await.unwrap().unwrap();
        files.insert(found.key, bytes.to_vec());
    }
    files
}

/// A root in memory with these files.
async fn load(files: &Files) -> Root {
    let root = Root::open("mem:", Access::Write).unwrap();
    for (key, bytes) in files {
        root.blob().put(key, Bytes::from(bytes.clone())).await.unwrap();
    }
    root
}

/// Reads a damaged shard: the right rows or a typed error, and `verify` sees the damage if it must.
async fn judge(case: &str, files: &Files, expected: &[Update], verify_must_see: bool) {
    judge_root(case, load(files).await, expected, verify_must_see).await;
}

async fn judge_root(case: &str, root: Root, expected: &[Update], verify_must_see: bool) {
    let read = async {
        let options = HandleOptions::read("data").with_schema(schema()).with_config(config());
        Handle::open(root.clone(), io(1), options).await?.snapshot(4).await
    };
    let typed = |kind| {
        use ErrorKind::*;
        matches!(kind, Corrupt | Unsupported | Invalid | Missing)
    };
    match read.await {
        Ok(rows) => assert_eq!(rows, expected, "{case}: wrong rows"),
        Err(e) => assert!(typed(e.kind()), "{case}: {e}"),
    }
    match verify(root, io(1)).await {
        Ok(verified) => assert!(!verify_must_see, "{case}: unseen: {verified:?}"),
        Err(e) => assert!(typed(e.kind()), "{case}: {e}"),
    }
}

fn on_a_small_shard<F: Future<Output = ()>>(check: impl FnOnce(Files, Vec<Update>) -> F) {
    let runtime = runtime();
    let (files, rows) = runtime.block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let rows = build(root.clone()).await;
        (gather(&root).await, rows)
    });
    for kind in ["FORMAT", "INCARNATION", "data/log/", "data/rollup/", "data/part/"] {
        assert!(files.keys().any(|key| key.starts_with(kind)), "no {kind}");
    }
    runtime.block_on(async {
        let whole = load(&files).await;
        let verified = verify(whole, io(1)).await.unwrap();
        assert_eq!((verified.entries, verified.rollups), (6, 1), "{verified:?}");
        assert_eq!((verified.orphans.len(), verified.unknown.len()), (0, 0), "{verified:?}");
        check(files, rows).await;
    });
}

#[test]
fn every_byte_flipped() {
    on_a_small_shard(async |files, rows| {
        let mut damaged = files.clone();
        for (key, bytes) in &files {
            for at in 0..bytes.len() {
                for mask in [1 << (at % 8), 0xff] {
                    damaged.get_mut(key).unwrap()[at] ^= mask;
                    judge(&format!("{key}: byte {at} ^ {mask:#x}"), &damaged, &rows, true).await;
                    damaged.get_mut(key).unwrap()[at] ^= mask;
                }
            }
        }
    });
}

#[test]
fn every_byte_of_a_log_in_a_directory_flipped() {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().display().to_string();
    let root = |access| Root::open(&url, access).unwrap();
    runtime().block_on(async {
        let rows = build(root(Access::Write)).await;
        let log = directory.path().join("data/log");
        let segment = std::fs::read(log.join("0000000000000001.seg")).unwrap();
        let used = segment.iter().rposition(|byte| *byte != 0).unwrap();
        for (name, until) in [("0000000000000001.seg", used + 9), ("marks", 2_048)] {
            let path = log.join(name);
            let whole = std::fs::read(&path).unwrap();
            for at in 0..until {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                std::fs::write(&path, &flipped).unwrap();
                // What is written with zeros belongs to no record, nor does what fills a header up.
                let must_see = name != "marks" && (at < 28 || (32..=used).contains(&at));
                let case = format!("{name}: byte {at}");
                judge_root(&case, root(Access::Read), &rows, must_see).await;
            }
            for length in [0, 1, 31, 32, 40, used, whole.len() - 1] {
                std::fs::write(&path, &whole[..length.min(whole.len())]).unwrap();
                let must_see = length <= used.min(whole.len() - 1);
                let case = format!("{name}: cut to {length}");
                judge_root(&case, root(Access::Read), &rows, must_see).await;
            }
            std::fs::write(&path, &whole).unwrap();
        }
        let verified = verify(root(Access::Read), io(1)).await.unwrap();
        assert_eq!((verified.entries, verified.unknown.len()), (6, 0), "{verified:?}");
    });
}

#[test]
fn every_file_cut_everywhere_and_made_longer() {
    on_a_small_shard(async |files, rows| {
        let mut damaged = files.clone();
        for (key, bytes) in &files {
            for length in 0..bytes.len() {
                damaged.insert(key.clone(), bytes[..length].to_vec());
                judge(&format!("{key}: cut to {length}"), &damaged, &rows, true).await;
            }
            let longer = [&bytes[..], &[0]].concat();
            damaged.insert(key.clone(), longer);
            judge(&format!("{key}: one byte more"), &damaged, &rows, true).await;
            damaged.insert(key.clone(), bytes.clone());
        }
    });
}

#[test]
fn every_file_gone_or_swapped_with_another() {
    on_a_small_shard(async |files, rows| {
        for (key, bytes) in &files {
            let mut damaged = files.clone();
            damaged.remove(key);
            // A rollup saves reading, nothing else. A root without an incarnation may be one that is
            // older than these. The last entry leaves no trace once it is gone,
            // and a shard that ends before it is a whole shard.
            let spared = key.contains("/rollup/") || key == "INCARNATION";
            let matters = !spared && !key.ends_with("00006");
            if !key.ends_with("00006") {
                judge(&format!("{key}: gone"), &damaged, &rows, matters).await;
            }
            for (other, theirs) in files.iter().filter(|(other, _)| *other != key) {
                let mut damaged = files.clone();
                damaged.insert(key.clone(), theirs.clone());
                damaged.insert(other.clone(), bytes.clone());
                judge(&format!("{key} and {other} swapped"), &damaged, &rows, true).await;
            }
        }
    });
}
